//! Everything that a host publishes is written strictly by the schema.

use super::{Findings, Monitor, MonitorContext};
use crate::spec::requirements as req;
use crate::spec::requirements::Requirement;
use crate::wire::json_judge;
use crate::wire::trace::{Direction, Frame};

const COVERS: &[&Requirement] = &[
    &req::HOST_JSON_001,
    &req::HOST_JSON_002,
    &req::HOST_JSON_003,
    &req::HOST_JSON_004,
    &req::HOST_JSON_005,
    &req::HOST_JSON_006,
    &req::HOST_JSON_008,
];

/// Judges replies and heartbeats by the schema.
pub struct Writing;

impl Monitor for Writing {
    fn id(&self) -> &'static str {
        "monitor/writing"
    }

    fn covers(&self) -> &'static [&'static Requirement] {
        COVERS
    }

    fn frame(&mut self, frame: &Frame, scene: &MonitorContext, findings: &mut Findings) {
        if frame.way != Direction::FromHost {
            return;
        }
        let message = match scene.asked(frame) {
            Some(asked) => asked.answer_message(),
            None if scene.is_heartbeat(frame) => "HostHeartbeat",
            None => return,
        };
        let faults = json_judge::judge(&frame.payload, message);
        for requirement in COVERS {
            if !faults.iter().any(|fault| fault.requirement == *requirement) {
                findings.kept(requirement);
            }
        }
        for fault in faults {
            let place = if fault.path.is_empty() {
                "the payload"
            } else {
                &fault.path
            };
            let expected = format!("{place}: {}", fault.expected);
            findings.broke(
                fault.requirement,
                frame,
                expected,
                format!("{place}: {}", fault.actual),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crate::host::monitors::script::{broken, frame, request};
    use crate::wire::trace::Direction;

    #[test]
    fn replies_are_judged_by_the_message_that_was_asked_for() {
        let begin = Instant::now();
        let script = |command: &str, payload: &str| {
            vec![
                request(begin, command, "i", "{}"),
                frame(begin, 1, Direction::FromHost, "i", payload),
            ]
        };
        let reply =
            r#"{"workloadStatus":{"workloadId":"a","workloadState":"WORKLOAD_STATE_RUNNING"}}"#;
        assert!(broken(script("workload.start", reply)).is_empty());
        assert_eq!(
            broken(script("workload.start", &reply.replace("\"a\"", "null"))),
            ["HOST-JSON-006"]
        );
        assert!(broken(script("heartbeat", reply)).contains(&"HOST-JSON-001"));
    }
}
