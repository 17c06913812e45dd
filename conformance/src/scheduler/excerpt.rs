//! Excerpt of a scenario for the report of a failure: the submitted objects, the commands, and the
//! changes that the hosts reported. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bytes::Bytes;
use serde_json::Value;

use super::journal::{Entry, EventKind};
use super::manifest::Key;
use crate::check::outcome::WireLine;
use crate::wire::response::shortened;

/// Maximum number of lines at the beginning of an excerpt, which show what was submitted.
const FIRST_LINES: usize = 12;
/// Maximum number of lines at the end of an excerpt, which show how the scenario failed.
const LAST_LINES: usize = 28;
/// Maximum length of a payload, in characters.
const PAYLOAD_CHARS: usize = 160;
/// Maximum length of a submitted object, in characters.
const OBJECT_CHARS: usize = 1_000;

/// Operation of the suite at the intake.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Time of the operation.
    pub at: Instant,
    /// Identity of the object.
    pub key: Key,
    /// The submitted object; `None` for a deletion.
    pub object: Option<Value>,
}

/// Returns the operations at the intake and the events of the hosts in the order of time. Requests
/// that only repeat what is known, such as polls and probes, are left out.
pub fn lines(entries: &[Entry], submissions: &[Submission], started_at: Instant) -> Vec<WireLine> {
    let mut lines: Vec<WireLine> = submissions
        .iter()
        .map(|submission| submitted(submission, started_at))
        .collect();
    let mut replies = Replies::default();
    lines.extend(
        entries
            .iter()
            .filter_map(|entry| replies.line(entry, started_at)),
    );
    lines.sort_by(|one, other| one.at_ms.total_cmp(&other.at_ms));
    lines
}

/// Leaves out lines in the middle.
pub fn shorten(lines: Vec<WireLine>) -> Vec<WireLine> {
    let omitted = lines.len().saturating_sub(FIRST_LINES + LAST_LINES);
    if omitted == 0 {
        return lines;
    }
    let mut shown = Vec::with_capacity(FIRST_LINES + LAST_LINES + 1);
    for (index, line) in lines.into_iter().enumerate() {
        if index == FIRST_LINES {
            shown.push(WireLine {
                direction: "",
                kind: format!("… {omitted} lines are left out"),
                payload: String::new(),
                ..line.clone()
            });
        }
        if index < FIRST_LINES || index >= FIRST_LINES + omitted {
            shown.push(line);
        }
    }
    shown
}

fn submitted(submission: &Submission, started_at: Instant) -> WireLine {
    let (verb, payload) = match &submission.object {
        Some(object) => ("submit", shortened(&object.to_string(), OBJECT_CHARS)),
        None => ("delete", String::new()),
    };
    WireLine {
        at_ms: ms_since(started_at, submission.at),
        direction: "suite → sched",
        kind: format!("{verb} {}", submission.key),
        payload,
        culprit: false,
    }
}

fn ms_since(started_at: Instant, at: Instant) -> f64 {
    at.saturating_duration_since(started_at).as_secs_f64() * 1000.0
}

/// Replies of the hosts to status and heartbeat requests so far.
#[derive(Default)]
struct Replies {
    /// Host and id of the open status requests, by reply subject.
    requests: BTreeMap<String, (String, String)>,
    /// Last reply about each id, by host and id.
    last: BTreeMap<(String, String), Bytes>,
    /// Ids that were started. The scheduler probes hosts with other ids.
    started: BTreeSet<String>,
}

impl Replies {
    /// Returns the line of an event, or `None` if it shows nothing new.
    fn line(&mut self, entry: &Entry, started_at: Instant) -> Option<WireLine> {
        let (direction, kind, payload) = match &entry.kind {
            EventKind::ReceivedCommand(received)
                if matches!(&*received.command, "workload.status" | "heartbeat") =>
            {
                let about = (entry.host_id.clone(), received.id.clone());
                self.requests.insert(received.reply.clone()?, about);
                return None;
            }
            EventKind::ReceivedCommand(received) => {
                if received.command == "workload.start" {
                    self.started.insert(received.id.clone());
                }
                (
                    "sched → host",
                    format!("{} {}", entry.host, received.command),
                    String::from_utf8_lossy(&received.payload).into_owned(),
                )
            }
            EventKind::Replied(inbox, payload) => {
                if self.is_known(inbox, payload) {
                    return None;
                }
                (
                    "host → sched",
                    format!("{} reply", entry.host),
                    String::from_utf8_lossy(payload).into_owned(),
                )
            }
            EventKind::Connected => host(entry, "connected"),
            EventKind::Disconnected => host(entry, "disconnected"),
            EventKind::Frozen => host(entry, "frozen"),
            EventKind::Resumed => host(entry, "resumed"),
            EventKind::WorkloadRunning(id) => workload(entry, id, "runs"),
            EventKind::WorkloadEnded(id) => workload(entry, id, "ends"),
        };
        Some(WireLine {
            at_ms: ms_since(started_at, entry.at),
            direction,
            kind,
            payload: shortened(&payload, PAYLOAD_CHARS),
            culprit: false,
        })
    }

    /// Returns whether a reply to a status request says nothing new.
    fn is_known(&mut self, inbox: &str, payload: &Bytes) -> bool {
        let Some(about) = self.requests.remove(inbox) else {
            return false;
        };
        let is_probe = !self.started.contains(&about.1);
        let earlier = self.last.insert(about, payload.clone());
        is_probe || earlier.as_ref() == Some(payload)
    }
}

fn host(entry: &Entry, event: &str) -> (&'static str, String, String) {
    let kind = format!("{} {event}", entry.host);
    ("host ⇄ bus", kind, entry.host_id.clone())
}

fn workload(entry: &Entry, id: &str, event: &str) -> (&'static str, String, String) {
    (
        "host",
        format!("{} workload {event}", entry.host),
        id.to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::journal::{Journal, ReceivedCommand};
    use crate::wire::response::Headers;

    fn request(journal: &Journal, command: &str, number: usize, reply: &str) {
        let inbox = format!("_INBOX.{number}");
        let received = ReceivedCommand {
            command: command.to_owned(),
            id: "w".to_owned(),
            payload: Bytes::from_static(b"{\"workloadId\":\"w\"}"),
            json: None,
            reply: Some(inbox.clone()),
            headers: Headers::none(),
        };
        journal.record("a", "1", EventKind::ReceivedCommand(received));
        let reply = Bytes::copy_from_slice(reply.as_bytes());
        journal.record("a", "1", EventKind::Replied(inbox, reply));
    }

    #[test]
    fn keeps_submission_and_deciding_frame_among_polls() {
        let started_at = Instant::now();
        let object = serde_json::json!({ "kind": "Workload", "metadata": { "name": "w" } });
        let submission = Submission {
            at: started_at,
            key: Key::of(&object),
            object: Some(object),
        };
        let journal = Journal::default();
        request(&journal, "workload.start", 0, "RUNNING");
        for number in 1..200 {
            request(&journal, "workload.status", number, "RUNNING");
        }
        request(&journal, "workload.status", 200, "ERROR");
        let lines = lines(&journal.entries(), &[submission], started_at);
        let kinds: Vec<&str> = lines.iter().map(|line| &*line.kind).collect();
        let expected = [
            "submit Workload default/w",
            "a workload.start",
            "a reply",
            "a reply",
            "a reply",
        ];
        assert_eq!(kinds, expected);
        assert_eq!(lines.last().map(|line| &*line.payload), Some("ERROR"));
    }

    #[test]
    fn shows_both_ends_of_long_scenario() {
        let journal = Journal::default();
        for number in 0..100 {
            request(&journal, "workload.start", number, &number.to_string());
        }
        let lines = shorten(lines(&journal.entries(), &[], Instant::now()));
        assert_eq!(lines.len(), FIRST_LINES + 1 + LAST_LINES);
        assert_eq!(lines.last().map(|line| &*line.payload), Some("99"));
        let omitted = lines.get(FIRST_LINES).map(|line| &*line.kind);
        assert_eq!(omitted, Some("… 160 lines are left out"));
    }
}
