//! Monitor of the schema: replies and heartbeats conform strictly to it.

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

/// Monitor of replies and heartbeats against the schema.
pub struct Schema;

impl Monitor for Schema {
    fn id(&self) -> &'static str {
        "monitor/schema"
    }

    fn covers(&self) -> &'static [&'static Requirement] {
        COVERS
    }

    fn observe(&mut self, frame: &Frame, context: &MonitorContext, findings: &mut Findings) {
        if frame.direction != Direction::FromHost {
            return;
        }
        let message = match context.request_of(frame) {
            Some(request) => request.response_message(),
            None if context.is_heartbeat(frame) => "HostHeartbeat",
            None => return,
        };
        let faults = json_judge::judge(&frame.payload, message);
        for requirement in COVERS {
            if !faults.iter().any(|fault| fault.requirement == *requirement) {
                findings.satisfied(requirement);
            }
        }
        for fault in faults {
            let path = if fault.path.is_empty() {
                "the payload"
            } else {
                &fault.path
            };
            let expected = format!("{path}: {}", fault.expected);
            findings.violated(
                fault.requirement,
                frame,
                expected,
                format!("{path}: {}", fault.actual),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crate::host::monitors::test_frames::{frame, request, violated_requirements};
    use crate::wire::trace::Direction;

    #[test]
    fn judges_replies_by_command_of_request() {
        let base = Instant::now();
        let frames = |command: &str, payload: &str| {
            vec![
                request(base, command, "i", "{}"),
                frame(base, 1, Direction::FromHost, "i", payload),
            ]
        };
        let reply =
            r#"{"workloadStatus":{"workloadId":"a","workloadState":"WORKLOAD_STATE_RUNNING"}}"#;
        assert!(violated_requirements(frames("workload.start", reply)).is_empty());
        assert_eq!(
            violated_requirements(frames("workload.start", &reply.replace("\"a\"", "null"))),
            ["HOST-JSON-006"]
        );
        assert!(violated_requirements(frames("heartbeat", reply)).contains(&"HOST-JSON-001"));
    }
}
