//! Finds out before the checks whether the host serves one command at a time.
//!
//! On such a host, a slow start of one check delays the replies to all others, and checks that
//! share the host would be blamed for it.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::target::RunningHost;
use crate::check::outcome::{Outcome, Status, Violation};
use crate::spec::requirements as req;
use crate::spec::roles::Role;
use crate::testbed::fixture::Fixture;
use crate::testbed::registry::RepositoryBehavior;
use crate::wire::nats::{self, Replies};
use crate::wire::response::Headers;

/// ID of the outcome for a host that serves one command at a time.
pub const ID: &str = "monitor/one-command-at-a-time";
/// Time within which the host must reply while a start is in progress. Shorter than
/// [`PULL_TIME`], and longer than the replies of slow hosts.
const REPLY_TIME: Duration = Duration::from_secs(4);
/// Duration of the pull of the slow start.
const PULL_TIME: Duration = Duration::from_secs(7);
/// Time until the slow start must have reached the registry.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// Time within which the stop of the slow start must be answered.
const STOP_TIME: Duration = Duration::from_secs(15);

/// Text of the report about the run on such a host.
pub const NOTE: &str = "the host serves one command at a time (HOST-START-014): no checks shared a \
                        host, so all other results have other causes";

/// Returns the commands to which the host does not reply during a start, although it replies to
/// them before it. Returns an empty list if the host cannot be judged, for example because it pulls
/// no images.
pub async fn unanswered_during_start(fixture: &Fixture, host: &RunningHost) -> Vec<&'static str> {
    let Ok(artifact) = fixture.images.artifact(Role::Idle) else {
        return Vec::new();
    };
    let name = fixture.next_unique_name();
    let probe = Probe {
        fixture,
        host,
        name: &name,
    };
    if !probe.replies("workload.status", "before").await {
        return Vec::new();
    }
    let repository = format!("{name}/idle");
    let pushed = fixture
        .registry
        .push(&repository, "v1", artifact.salted(&name));
    let slow = RepositoryBehavior::Slow {
        before_manifest: PULL_TIME,
        blob_bytes_per_second: 1 << 20,
    };
    fixture.registry.set_behavior(&repository, slow);
    let components = json!([{ "name": "c0", "image": pushed.reference }]);
    let workload = json!({ "witWorld": { "components": components } });
    let Some(mut start) = probe.send("workload.start", "slow", &workload).await else {
        return Vec::new();
    };
    let requested = fixture
        .registry
        .wait(&repository, REQUEST_TIME, |log| !log.is_empty());
    let is_pulling = tokio::select! {
        requested = requested => requested.is_ok(),
        _ = start.next(REQUEST_TIME) => !fixture.registry.log(&repository).is_empty(),
    };
    let unanswered = if is_pulling {
        probe.unanswered().await
    } else {
        Vec::new()
    };
    for id in ["slow", "other"] {
        if let Some(mut reply) = probe.send("workload.stop", id, &json!(null)).await {
            // Nothing is judged here; the reply only shows that the host is idle again.
            reply.next(STOP_TIME).await;
        }
    }
    unanswered
}

/// Returns the outcome for a host that does not reply to these commands during a start.
pub fn outcome(unanswered: &[&str]) -> Outcome {
    let seconds = REPLY_TIME.as_secs();
    Outcome {
        violations: vec![Violation {
            requirement: &req::HOST_START_014,
            description: "commands for other ids, while the start of one id is in progress"
                .to_owned(),
            expected: vec!["a reply to each".to_owned()],
            actual: format!("no reply to {} within {seconds} s", unanswered.join(", ")),
            source: String::new(),
            at: Duration::ZERO,
            culprit_frame: None,
            stalled: None,
        }],
        ..Outcome::new(ID, &[&req::HOST_START_014], Status::Fail).with_reason(NOTE)
    }
}

struct Probe<'p> {
    fixture: &'p Fixture,
    host: &'p RunningHost,
    /// Unique name of the probe, a part of its ids and inboxes.
    name: &'p str,
}

impl Probe<'_> {
    async fn unanswered(&self) -> Vec<&'static str> {
        let (status, start) = tokio::join!(
            self.replies("workload.status", "other"),
            self.replies("workload.start", "other"),
        );
        let replies = [("workload.status", status), ("workload.start", start)];
        let missing = replies.into_iter().filter(|(_, replied)| !replied);
        missing.map(|(command, _)| command).collect()
    }

    /// Returns whether the host replies to a command in time. A stall of the machine counts as a
    /// reply.
    async fn replies(&self, command: &str, id: &str) -> bool {
        let Some(mut replies) = self.send(command, id, &json!({})).await else {
            return true;
        };
        let sent_at = replies.sent_at;
        let reply = replies.next(REPLY_TIME + self.fixture.patience()).await;
        reply.is_some() || self.fixture.clock.stalled_since(sent_at).is_some()
    }

    async fn send(&self, command: &str, id: &str, workload: &serde_json::Value) -> Option<Replies> {
        let mut request = json!({ "workloadId": format!("{}-{id}", self.name) });
        if let ("workload.start", Some(fields)) = (command, request.as_object_mut()) {
            fields.insert("workload".to_owned(), workload.clone());
        }
        let subject = nats::command_subject(&self.host.id, command);
        let inbox = format!("{}.{id}.{command}", self.name);
        let payload = Bytes::from(request.to_string());
        let bus = &self.fixture.bus;
        let sent = bus
            .request(&subject, &inbox, payload, &Headers::none())
            .await;
        sent.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_names_the_commands_without_a_reply() {
        let outcome = outcome(&["workload.status", "workload.start"]);
        assert_eq!(outcome.status, Status::Fail);
        let violation = outcome.violations.first().unwrap();
        assert_eq!(violation.requirement.id, "HOST-START-014");
        let actual = "no reply to workload.status, workload.start within 4 s";
        assert_eq!(violation.actual, actual);
    }
}
