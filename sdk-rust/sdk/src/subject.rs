//! Subjects of the protocol; no other module of this crate builds or parses a subject.

use std::fmt;

/// A command to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Heartbeat,
    Start,
    Stop,
    Status,
}

impl Command {
    const ALL: [Self; 4] = [Self::Heartbeat, Self::Start, Self::Stop, Self::Status];

    fn suffix(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::Start => "workload.start",
            Self::Stop => "workload.stop",
            Self::Status => "workload.status",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.suffix())
    }
}

/// Maximum length of a host ID: longer than any generated ID, and far below the limit of a subject.
pub(crate) const MAX_HOST_ID_BYTES: usize = 256;

/// Returns whether an ID can be part of a subject: one token, without wildcards.
pub(crate) fn is_token(id: &str) -> bool {
    let forbidden = |c: char| matches!(c, '.' | '*' | '>') || c.is_whitespace() || c.is_control();
    !id.is_empty() && id.len() <= MAX_HOST_ID_BYTES && !id.contains(forbidden)
}

/// Returns whether an ID is a valid host ID (HOST-WIRE-012).
pub(crate) fn is_host_id(id: &str) -> bool {
    is_token(id)
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Returns whether a subject is reserved for commands and heartbeats.
pub(crate) fn is_reserved(subject: &str) -> bool {
    subject.starts_with("runtime.")
}

/// Returns the subject of all commands to one host.
pub(crate) fn commands_of(host_id: &str) -> String {
    format!("runtime.host.{host_id}.>")
}

/// Returns the subject of one command to one host.
pub(crate) fn command(host_id: &str, command: Command) -> String {
    format!("runtime.host.{host_id}.{command}")
}

/// Parses the command of a subject under [`commands_of`]. An error holds the unknown tokens.
pub(crate) fn parse_command<'a>(host_id: &str, subject: &'a str) -> Result<Command, &'a str> {
    let rest = subject
        .strip_prefix("runtime.host.")
        .and_then(|rest| rest.strip_prefix(host_id))
        .and_then(|rest| rest.strip_prefix('.'))
        .ok_or(subject)?;
    Command::ALL
        .into_iter()
        .find(|command| command.suffix() == rest)
        .ok_or(rest)
}

/// Returns the subject of the heartbeats of one host.
pub(crate) fn heartbeat_of(host_id: &str) -> String {
    format!("{HEARTBEATS}{host_id}")
}

/// Returns the subject of the heartbeats of all hosts.
pub(crate) fn all_heartbeats() -> String {
    format!("{HEARTBEATS}>")
}

/// Parses the host ID of a subject under [`all_heartbeats`]; `None` if it is not valid
/// (SCHED-REG-007).
pub(crate) fn parse_heartbeat(subject: &str) -> Option<&str> {
    subject
        .strip_prefix(HEARTBEATS)
        .filter(|host_id| is_host_id(host_id))
}

/// Label with the value `true` of hosts with the extension `discover`: they reply to a scheduler
/// that has connected.
pub const DISCOVER_LABEL: &str = "berth.dev/discover";

/// Subject of requests of the extension `discover`.
pub(crate) const DISCOVER: &str = "berth.ext.v1.discover";

const HEARTBEATS: &str = "runtime.operator.heartbeat.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_subjects_that_it_builds() {
        for each in Command::ALL {
            assert_eq!(parse_command("h-1", &command("h-1", each)), Ok(each));
        }
        assert_eq!(
            parse_command("h", "runtime.host.h.workload.start.x"),
            Err("workload.start.x")
        );
        assert_eq!(
            parse_command("h", "runtime.host.hh.heartbeat"),
            Err("runtime.host.hh.heartbeat")
        );
    }

    #[test]
    fn host_ids_are_single_tokens() {
        for invalid in ["", "a.b", "a b", "*", ">", "a\n", "a\u{0}"] {
            assert!(!is_token(invalid), "{invalid:?}");
        }
        assert!(is_token("0b5f-ü") && !is_host_id("0b5f-ü"));
        assert_eq!(parse_heartbeat(&heartbeat_of("h")), Some("h"));
        for invalid in ["a.b", "a>", "é", ""] {
            assert_eq!(parse_heartbeat(&heartbeat_of(invalid)), None, "{invalid:?}");
        }
    }
}
