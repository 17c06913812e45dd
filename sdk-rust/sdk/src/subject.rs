//! The subjects of the protocol; nothing else in this crate builds or takes apart a subject.

use std::fmt;

/// What a host can be asked.
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

/// How long an id may be: no id that anybody makes comes near, and subjects stay far below a broker's limit.
pub(crate) const ID_BYTES_MAX: usize = 256;

/// Whether an id can stand in a subject: one token, nothing that a broker reads in its own way.
pub(crate) fn is_token(id: &str) -> bool {
    let forbidden = |c: char| matches!(c, '.' | '*' | '>') || c.is_whitespace() || c.is_control();
    !id.is_empty() && id.len() <= ID_BYTES_MAX && !id.contains(forbidden)
}

/// Whether a host may use an id as its own (HOST-WIRE-012).
pub(crate) fn is_host_id(id: &str) -> bool {
    is_token(id)
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Whether a subject is one of those that commands and heartbeats take.
pub(crate) fn is_of_the_protocol(subject: &str) -> bool {
    subject.starts_with("runtime.")
}

/// Everything that is asked of one host.
pub(crate) fn commands_of(host_id: &str) -> String {
    format!("runtime.host.{host_id}.>")
}

/// One command to one host.
pub(crate) fn command(host_id: &str, command: Command) -> String {
    format!("runtime.host.{host_id}.{command}")
}

/// The command in a subject under [`commands_of`], or the tokens that are none.
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

/// Where one host publishes its heartbeats.
pub(crate) fn heartbeat_of(host_id: &str) -> String {
    format!("{HEARTBEATS}{host_id}")
}

/// The heartbeats of all hosts.
pub(crate) fn all_heartbeats() -> String {
    format!("{HEARTBEATS}>")
}

/// The host that published on a subject under [`all_heartbeats`]; none when no host may be called so
/// (SCHED-REG-007).
pub(crate) fn parse_heartbeat(subject: &str) -> Option<&str> {
    subject
        .strip_prefix(HEARTBEATS)
        .filter(|host_id| is_host_id(host_id))
}

const HEARTBEATS: &str = "runtime.operator.heartbeat.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_as_they_are_written() {
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
    fn an_id_is_one_token() {
        for bad in ["", "a.b", "a b", "*", ">", "a\n", "a\u{0}"] {
            assert!(!is_token(bad), "{bad:?}");
        }
        assert!(is_token("0b5f-ü") && !is_host_id("0b5f-ü"));
        assert_eq!(parse_heartbeat(&heartbeat_of("h")), Some("h"));
        for bad in ["a.b", "a>", "é", ""] {
            assert_eq!(parse_heartbeat(&heartbeat_of(bad)), None, "{bad:?}");
        }
    }
}
