//! A host publishes heartbeats of its own and replies, and nothing else below `runtime.`.

use super::{Findings, Monitor, MonitorContext};
use crate::spec::requirements as req;
use crate::spec::requirements::Requirement;
use crate::wire::trace::{Direction, Frame};

const COVERS: &[&Requirement] = &[&req::HOST_WIRE_012, &req::HOST_WIRE_015];

/// Judges on what a host publishes, and the form of its id.
pub struct Subjects;

impl Monitor for Subjects {
    fn id(&self) -> &'static str {
        "monitor/subjects"
    }

    fn covers(&self) -> &'static [&'static Requirement] {
        COVERS
    }

    fn frame(&mut self, frame: &Frame, scene: &MonitorContext, findings: &mut Findings) {
        if frame.way != Direction::FromHost {
            return;
        }
        let own = scene.host_id.as_deref().unwrap_or_default();
        if scene.is_heartbeat(frame) {
            let id = frame
                .subject
                .trim_start_matches(crate::wire::nats::HEARTBEAT_PREFIX);
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            let held = !id.is_empty() && id.bytes().all(legal);
            let expected = "one token of A-Z a-z 0-9 _ -";
            findings.judge(&req::HOST_WIRE_012, frame, held, expected, || {
                format!("the id {id:?}")
            });
        }
        // A reply subject that the suite chose is no subject of the host's choosing.
        let allowed = crate::wire::nats::heartbeat_subject(own);
        let elsewhere = frame.subject.starts_with("runtime.")
            && frame.subject != allowed
            && scene.asked(frame).is_none();
        let expected = format!("below `runtime.` only {allowed}");
        findings.judge(&req::HOST_WIRE_015, frame, !elsewhere, &expected, || {
            format!("a message on {}", frame.subject)
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crate::host::monitors::script::{broken, frame};
    use crate::wire::trace::Direction;

    #[test]
    fn foreign_subjects_and_bad_ids_are_breaches() {
        let begin = Instant::now();
        let beat = |id: &str, ms| {
            let text = format!(
                r#"{{"id":"{id}","hostname":"x","friendlyName":"a","version":"1","startedAt":"2026-01-01T00:00:00Z"}}"#
            );
            frame(
                begin,
                ms,
                Direction::FromHost,
                &format!("runtime.operator.heartbeat.{id}"),
                &text,
            )
        };
        assert!(broken([beat("h-1", 0)]).is_empty());
        assert!(broken([beat("a b", 0)]).contains(&"HOST-WIRE-012"));
        let event = frame(begin, 1, Direction::FromHost, "runtime.events.h", "{}");
        assert_eq!(broken([beat("h", 0), event]), ["HOST-WIRE-015"]);
        let own = frame(begin, 1, Direction::FromHost, "my.metrics", "{}");
        assert!(broken([beat("h", 0), own]).is_empty());
    }
}
