//! Monitor of subjects: below `runtime.`, a host publishes only its own heartbeats and replies.

use super::{Findings, Monitor, MonitorContext};
use crate::spec::requirements as req;
use crate::spec::requirements::Requirement;
use crate::wire::trace::{Direction, Frame};

const COVERS: &[&Requirement] = &[&req::HOST_WIRE_012, &req::HOST_WIRE_015];

/// Monitor of the subjects on which a host publishes, and of the syntax of its id.
pub struct Subjects;

impl Monitor for Subjects {
    fn id(&self) -> &'static str {
        "monitor/subjects"
    }

    fn covers(&self) -> &'static [&'static Requirement] {
        COVERS
    }

    fn observe(&mut self, frame: &Frame, context: &MonitorContext, findings: &mut Findings) {
        if frame.direction != Direction::FromHost {
            return;
        }
        let own = context.host_id.as_deref().unwrap_or_default();
        if context.is_heartbeat(frame) {
            let id = frame
                .subject
                .trim_start_matches(crate::wire::nats::HEARTBEAT_PREFIX);
            let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            let held = !id.is_empty() && id.bytes().all(is_valid);
            let expected = "an id that is one token of A-Z a-z 0-9 _ -";
            findings.judge(&req::HOST_WIRE_012, frame, held, expected, || {
                format!("the id {id:?}")
            });
        }
        // The suite chooses the reply subjects, so the host may publish on them.
        let allowed = crate::wire::nats::heartbeat_subject(own);
        let foreign = frame.subject.starts_with("runtime.")
            && frame.subject != allowed
            && context.request_of(frame).is_none();
        let expected = format!("messages on `runtime.…` only on {allowed}");
        findings.judge(&req::HOST_WIRE_015, frame, !foreign, &expected, || {
            format!("a message on {}", frame.subject)
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crate::host::monitors::test_frames::{frame, violated_requirements};
    use crate::wire::trace::Direction;

    #[test]
    fn reports_foreign_subjects_and_invalid_ids() {
        let base = Instant::now();
        let heartbeat = |id: &str, ms| {
            let text = format!(
                r#"{{"id":"{id}","hostname":"x","friendlyName":"a","version":"1","startedAt":"2026-01-01T00:00:00Z"}}"#
            );
            frame(
                base,
                ms,
                Direction::FromHost,
                &format!("runtime.operator.heartbeat.{id}"),
                &text,
            )
        };
        assert!(violated_requirements([heartbeat("h-1", 0)]).is_empty());
        assert!(violated_requirements([heartbeat("a b", 0)]).contains(&"HOST-WIRE-012"));
        let event = frame(base, 1, Direction::FromHost, "runtime.events.h", "{}");
        assert_eq!(
            violated_requirements([heartbeat("h", 0), event]),
            ["HOST-WIRE-015"]
        );
        let own = frame(base, 1, Direction::FromHost, "my.metrics", "{}");
        assert!(violated_requirements([heartbeat("h", 0), own]).is_empty());
    }
}
