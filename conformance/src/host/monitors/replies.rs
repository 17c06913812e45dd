//! Monitor of replies: at most one per request, with a state, a message and the right id.

use super::{Findings, Monitor, MonitorContext, payload_text};
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

/// Monitor of replies.
pub struct Replies;

impl Monitor for Replies {
    fn id(&self) -> &'static str {
        "monitor/replies"
    }

    fn covers(&self) -> &'static [&'static Requirement] {
        COVERS
    }

    fn observe(&mut self, frame: &Frame, context: &MonitorContext, findings: &mut Findings) {
        if frame.direction != Direction::FromHost {
            return;
        }
        let Some(request) = context.request_of(frame) else {
            return;
        };
        // A request that was delivered twice counts as two requests.
        let held = request.replies <= request.delivered;
        findings.judge(
            &req::HOST_WIRE_002,
            frame,
            held,
            "one reply per request",
            || {
                format!(
                    "{} replies to {} request(s) with this inbox",
                    request.replies, request.delivered
                )
            },
        );
        if request.command == "heartbeat" {
            return;
        }
        let response = Response::parse(
            frame.payload.clone(),
            frame.headers.clone(),
            frame.subject.clone(),
            std::time::Duration::ZERO,
        );
        let has_state = !matches!(response.state, State::Absent | State::Unspecified);
        findings.judge(
            &req::HOST_JSON_007,
            frame,
            has_state,
            "`workloadStatus` with a `workloadState`",
            || payload_text(frame),
        );
        if response.state == State::Error {
            let held = !response.message.trim().is_empty();
            findings.judge(
                &req::HOST_START_008,
                frame,
                held,
                "a message with ERROR",
                || "no message".to_owned(),
            );
        }
        let about_id = matches!(
            request.command.as_str(),
            "workload.status" | "workload.stop"
        );
        if let (true, Some(id)) = (about_id, &request.id) {
            // A host may refuse a longer id and omit it from the reply (HOST-WIRE-009). It cannot
            // read the id of a request that it cannot decode.
            let has_read_id = !matches!(response.error_code, Some(400 | 413));
            let must_echo = !id.is_empty() && id.len() <= 256 && has_read_id;
            if must_echo && has_state {
                let held = response.id == *id;
                findings.judge(
                    &req::HOST_STATUS_002,
                    frame,
                    held,
                    &format!("the id {id:?}"),
                    || format!("the id {:?}", response.id),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crate::host::monitors::test_frames::{frame, request, violated_requirements};
    use crate::wire::trace::Direction;

    fn reply(id: &str, rest: &str) -> String {
        format!(r#"{{"workloadStatus":{{"workloadId":"{id}"{rest}}}}}"#)
    }

    #[test]
    fn reports_second_reply_unless_request_was_delivered_twice() {
        let base = Instant::now();
        let sent = || request(base, "workload.status", "i", r#"{"workloadId":"a"}"#);
        let text = reply("a", r#","workloadState":"WORKLOAD_STATE_RUNNING""#);
        let replied = || frame(base, 1, Direction::FromHost, "i", &text);
        assert!(violated_requirements([sent(), replied()]).is_empty());
        assert_eq!(
            violated_requirements([sent(), replied(), replied()]),
            ["HOST-WIRE-002"]
        );
        assert!(violated_requirements([sent(), sent(), replied(), replied()]).is_empty());
    }

    #[test]
    fn reports_missing_state_missing_message_and_wrong_id() {
        let base = Instant::now();
        let violated = |payload: &str| {
            let request = request(base, "workload.status", "i", r#"{"workloadId":"a"}"#);
            violated_requirements([request, frame(base, 1, Direction::FromHost, "i", payload)])
        };
        assert_eq!(violated("{}"), ["HOST-JSON-007"]);
        assert_eq!(
            violated(&reply("a", r#","workloadState":"WORKLOAD_STATE_ERROR""#)),
            ["HOST-START-008"]
        );
        assert_eq!(
            violated(&reply("b", r#","workloadState":"WORKLOAD_STATE_RUNNING""#)),
            ["HOST-STATUS-002"]
        );
    }
}
