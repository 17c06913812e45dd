//! At most one reply to each request, each with a state, a reason where there must be one, and the right id.

use super::{Findings, Monitor, MonitorContext, shown};
use crate::spec::requirements as req;
use crate::spec::requirements::Requirement;
use crate::wire::response::{Response, State};
use crate::wire::trace::{Direction, Frame};

const COVERS: &[&Requirement] = &[
    &req::HOST_WIRE_002,
    &req::HOST_JSON_007,
    &req::HOST_START_008,
    &req::HOST_STATUS_002,
];

/// Judges replies as such.
pub struct Replies;

impl Monitor for Replies {
    fn id(&self) -> &'static str {
        "monitor/replies"
    }

    fn covers(&self) -> &'static [&'static Requirement] {
        COVERS
    }

    fn frame(&mut self, frame: &Frame, scene: &MonitorContext, findings: &mut Findings) {
        if frame.way != Direction::FromHost {
            return;
        }
        let Some(asked) = scene.asked(frame) else {
            return;
        };
        // A request that was delivered twice is two requests.
        let held = asked.replies <= asked.delivered;
        findings.judge(&req::HOST_WIRE_002, frame, held, "one reply", || {
            format!(
                "reply {} to {} request(s) with this inbox",
                asked.replies, asked.delivered
            )
        });
        if asked.command == "heartbeat" {
            return;
        }
        let answer = Response::read(
            frame.payload.clone(),
            frame.headers.clone(),
            frame.subject.clone(),
            std::time::Duration::ZERO,
        );
        let has_state = !matches!(answer.state, State::Absent | State::Unspecified);
        findings.judge(
            &req::HOST_JSON_007,
            frame,
            has_state,
            "`workloadStatus` with a `workloadState`",
            || shown(frame),
        );
        if answer.state == State::Error {
            let held = !answer.message.trim().is_empty();
            findings.judge(&req::HOST_START_008, frame, held, "a message", || {
                "none".to_owned()
            });
        }
        let about_id = matches!(asked.command.as_str(), "workload.status" | "workload.stop");
        if let (true, Some(id)) = (about_id, &asked.id) {
            // Longer ids may be refused without being named (HOST-WIRE-009).
            let plain = !id.is_empty() && id.len() <= 256 && answer.error_code != Some(413);
            if plain && has_state {
                let held = answer.id == *id;
                findings.judge(
                    &req::HOST_STATUS_002,
                    frame,
                    held,
                    &format!("the id {id:?}"),
                    || format!("the id {:?}", answer.id),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crate::host::monitors::script::{broken, frame, request};
    use crate::wire::trace::Direction;

    fn reply(id: &str, rest: &str) -> String {
        format!(r#"{{"workloadStatus":{{"workloadId":"{id}"{rest}}}}}"#)
    }

    #[test]
    fn a_second_reply_is_a_breach_unless_the_request_came_twice() {
        let begin = Instant::now();
        let ask = || request(begin, "workload.status", "i", r#"{"workloadId":"a"}"#);
        let text = reply("a", r#","workloadState":"WORKLOAD_STATE_RUNNING""#);
        let answer = || frame(begin, 1, Direction::FromHost, "i", &text);
        assert!(broken([ask(), answer()]).is_empty());
        assert_eq!(broken([ask(), answer(), answer()]), ["HOST-WIRE-002"]);
        assert!(broken([ask(), ask(), answer(), answer()]).is_empty());
    }

    #[test]
    fn state_reason_and_id_are_judged() {
        let begin = Instant::now();
        let script = |payload: &str| {
            let ask = request(begin, "workload.status", "i", r#"{"workloadId":"a"}"#);
            broken([ask, frame(begin, 1, Direction::FromHost, "i", payload)])
        };
        assert_eq!(script("{}"), ["HOST-JSON-007"]);
        assert_eq!(
            script(&reply("a", r#","workloadState":"WORKLOAD_STATE_ERROR""#)),
            ["HOST-START-008"]
        );
        assert_eq!(
            script(&reply("b", r#","workloadState":"WORKLOAD_STATE_RUNNING""#)),
            ["HOST-STATUS-002"]
        );
    }
}
