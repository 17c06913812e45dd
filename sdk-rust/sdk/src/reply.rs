//! The reply to a command, within the size limits of the bus.

use berth_proto::{WorkloadStartResponse, WorkloadState, WorkloadStatus};

use crate::text::shorten;

/// Maximum length of an ID that is accepted and echoed (HOST-WIRE-007). Longer IDs are refused with
/// 413 (HOST-WIRE-009).
pub(crate) const MAX_ID_BYTES: usize = 256;

/// Maximum length of the header `Nats-Service-Error`. The body holds the whole message.
const MAX_HEADER_TEXT_BYTES: usize = 200;

/// Maximum size of the two service headers on the wire, subtracted from the size of the body.
const MAX_HEADERS_BYTES: usize = MAX_HEADER_TEXT_BYTES + 100;

/// Reason to refuse a command, in the header `Nats-Service-Error-Code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// The request is malformed or incomplete.
    BadRequest = 400,
    /// The command is unknown.
    NotFound = 404,
    /// The ID is in use.
    Conflict = 409,
    /// The ID or the request is too large.
    TooLarge = 413,
    /// The host is shutting down or overloaded.
    Unavailable = 503,
}

/// Status of one workload ID, as the reply to a command.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Status {
    pub id: String,
    pub state: WorkloadState,
    pub message: String,
    pub code: Option<Code>,
}

impl Status {
    pub fn new(id: impl Into<String>, state: WorkloadState, message: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            state,
            message: message.into(),
            code: None,
        }
    }

    pub fn not_found(id: String) -> Self {
        Self::new(id, WorkloadState::NotFound, "no workload has this id")
    }

    /// Creates the reply to a refused command: state ERROR, and the code in the headers.
    pub fn refused(id: impl Into<String>, code: Code, message: impl Into<String>) -> Self {
        Self {
            code: Some(code),
            ..Self::new(id, WorkloadState::Error, message)
        }
    }

    /// Returns the body, which together with the headers is at most `max_payload_bytes` long.
    /// Shortens the message if necessary, but never the ID; returns `None` if the ID alone is too
    /// long.
    pub fn to_json(&self, max_payload_bytes: usize) -> Option<Vec<u8>> {
        let headers = if self.code.is_some() {
            MAX_HEADERS_BYTES
        } else {
            0
        };
        let max_body_bytes = max_payload_bytes.checked_sub(headers)?;
        let mut message = self.message.clone();
        loop {
            let body = envelope(&self.id, self.state, &message)?;
            if body.len() <= max_body_bytes {
                return Some(body);
            }
            if message.is_empty() {
                return None;
            }
            // A byte of the message is at most six bytes of JSON, so this does not remove too much.
            let excess = (body.len() - max_body_bytes).div_ceil(6) + '…'.len_utf8();
            message = shorten(&message, message.len().saturating_sub(excess));
        }
    }

    /// Returns `Nats-Service-Error-Code` and `Nats-Service-Error`, if the command was refused.
    pub fn service_error(&self) -> Option<(u16, String)> {
        let printable = |c: char| {
            if c == ' ' || c.is_ascii_graphic() {
                c
            } else {
                '?'
            }
        };
        let text: String = self.message.chars().map(printable).collect();
        let text = text.get(..MAX_HEADER_TEXT_BYTES).unwrap_or(&text).trim();
        self.code.map(|code| (code as u16, text.to_owned()))
    }
}

/// A reply as received by a scheduler, before validation.
#[derive(Debug)]
pub(crate) struct RawReply {
    pub status: Option<WorkloadStatus>,
    /// Code of a refusal, from the headers or the metadata.
    pub error_code: Option<u16>,
}

/// Encodes the response, which is the same for start, stop and status.
fn envelope(id: &str, state: WorkloadState, message: &str) -> Option<Vec<u8>> {
    let status = WorkloadStatus {
        workload_id: id.to_owned(),
        workload_state: state.into(),
        message: message.to_owned(),
    };
    crate::json::encode(&WorkloadStartResponse {
        workload_status: Some(status),
    })
    .ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reply_fits_and_keeps_its_id(
            id in ".{1,64}", message in ".{0,600}", max in 900usize..2000, refused: bool,
        ) {
            let mut status = Status::new(&id, WorkloadState::Error, message);
            status.code = refused.then_some(Code::BadRequest);
            let body = status.to_json(max).unwrap();
            prop_assert!(body.len() <= max);
            let read: WorkloadStartResponse = crate::json::decode(&body).unwrap();
            prop_assert_eq!(read.workload_status.unwrap().workload_id, id);
        }
    }

    #[test]
    fn shortens_only_messages_that_do_not_fit() {
        let status = Status::new("a", WorkloadState::Error, "x".repeat(500));
        let body = String::from_utf8(status.to_json(1000).unwrap()).unwrap();
        assert!(body.contains(&"x".repeat(500)));
        let body = String::from_utf8(status.to_json(300).unwrap()).unwrap();
        assert!(body.len() > 200 && body.contains("x…"), "{body}");
    }

    #[test]
    fn header_text_is_one_line() {
        let status = Status::refused(
            "",
            Code::BadRequest,
            format!("a\r\nb\u{e9}{}", "c".repeat(900)),
        );
        let (code, text) = status.service_error().unwrap();
        assert_eq!((code, text.len()), (400, MAX_HEADER_TEXT_BYTES));
        assert!(text.starts_with("a??b?c"), "{text}");
    }
}
