//! The answer to a command: the status envelope, and what makes it fit through the bus.

use berth_proto::{WorkloadStartResponse, WorkloadState, WorkloadStatus};

/// Longest id that is accepted and echoed (HOST-WIRE-007); longer ones are refused with 413 (HOST-WIRE-009).
pub(crate) const MAX_ID_BYTES: usize = 256;

/// Longest text in the `Nats-Service-Error` header; the whole message stands in the body.
const MAX_HEADER_TEXT_BYTES: usize = 200;

/// What the two service headers take on the wire at most, subtracted from the room of the body.
const HEADER_ROOM_BYTES: usize = MAX_HEADER_TEXT_BYTES + 100;

/// Why a command was not obeyed, in the header `Nats-Service-Error-Code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// The request is malformed or lacks what it needs.
    BadRequest = 400,
    /// There is no such command.
    NotFound = 404,
    /// The id is in use.
    Conflict = 409,
    /// The id or the request is too large.
    TooLarge = 413,
    /// The host is shutting down, or has more to do than it can.
    Unavailable = 503,
}

/// What a caller is told about one id.
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

    /// A command that was not obeyed: ERROR, and the code in the headers.
    pub fn refused(id: impl Into<String>, code: Code, message: impl Into<String>) -> Self {
        Self {
            code: Some(code),
            ..Self::new(id, WorkloadState::Error, message)
        }
    }

    /// The body, at most `max_payload_bytes` long together with the headers. The message is
    /// shortened to make it fit, the id never; `None` when the id alone is too long.
    pub fn to_json(&self, max_payload_bytes: usize) -> Option<Vec<u8>> {
        let headers = if self.code.is_some() {
            HEADER_ROOM_BYTES
        } else {
            0
        };
        let room = max_payload_bytes.checked_sub(headers)?;
        let mut message = self.message.clone();
        loop {
            let body = envelope(&self.id, self.state, &message)?;
            if body.len() <= room {
                return Some(body);
            }
            if message.is_empty() {
                return None;
            }
            // One byte of message is at most six of JSON, so this never takes too much away twice.
            let excess = (body.len() - room).div_ceil(6) + '…'.len_utf8();
            message = shorten(&message, message.len().saturating_sub(excess));
        }
    }

    /// `Nats-Service-Error-Code` and `Nats-Service-Error`, when the command was not obeyed.
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

/// Start, stop and status have one answer; it is written as that of start.
fn envelope(id: &str, state: WorkloadState, message: &str) -> Option<Vec<u8>> {
    let status = WorkloadStatus {
        workload_id: id.to_owned(),
        workload_state: state.into(),
        message: message.to_owned(),
    };
    crate::json::write(&WorkloadStartResponse {
        workload_status: Some(status),
    })
    .ok()
}

/// At most `max_bytes` of the text, cut between characters and with `…` where something is missing.
pub(crate) fn shorten(text: &str, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    let Some(room) = max_bytes.checked_sub('…'.len_utf8()) else {
        return String::new();
    };
    let end = (0..=room)
        .rev()
        .find(|&end| text.is_char_boundary(end))
        .unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_reply_fits_and_keeps_its_id(
            id in ".{1,64}", message in ".{0,600}", max in 900usize..2000, refused: bool,
        ) {
            let mut status = Status::new(&id, WorkloadState::Error, message);
            status.code = refused.then_some(Code::BadRequest);
            let body = status.to_json(max).unwrap();
            prop_assert!(body.len() <= max);
            let read: WorkloadStartResponse = crate::json::read(&body).unwrap();
            prop_assert_eq!(read.workload_status.unwrap().workload_id, id);
        }

        #[test]
        fn shortened_text_is_a_beginning_of_it(text in ".{0,40}", max in 0usize..50) {
            let short = shorten(&text, max);
            prop_assert!(short.len() <= max);
            prop_assert!(text.starts_with(short.strip_suffix('…').unwrap_or(&short)));
        }
    }

    #[test]
    fn a_message_that_fits_is_whole() {
        let status = Status::new("a", WorkloadState::Error, "x".repeat(500));
        let body = String::from_utf8(status.to_json(1000).unwrap()).unwrap();
        assert!(body.contains(&"x".repeat(500)));
        let body = String::from_utf8(status.to_json(300).unwrap()).unwrap();
        assert!(body.len() > 200 && body.contains("x…"), "{body}");
    }

    #[test]
    fn a_header_is_one_line() {
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
