//! Cuts the few frames around a failure out of the recording.

use std::time::Instant;

use crate::check::outcome::WireLine;
use crate::wire::response::{ERROR_CODE_HEADER, shortened};
use crate::wire::trace::{Direction, Frame};

/// Frames shown before the guilty one.
const BEFORE: usize = 6;
/// Frames shown after it.
const AFTER: usize = 1;
/// Characters shown of a payload.
const PAYLOAD_CHARS: usize = 160;
/// Characters shown of the guilty one's payload.
const GUILTY_CHARS: usize = 600;

/// The frames around the one with that inbox or subject, or the last ones.
pub fn excerpt(frames: &[Frame], culprit_frame: Option<&str>, began: Instant) -> Vec<WireLine> {
    let is_guilty = |frame: &Frame| {
        culprit_frame.is_some_and(|culprit_frame| {
            frame.subject == culprit_frame && frame.way == Direction::FromHost
        })
    };
    let asked = |frame: &Frame| culprit_frame.is_some() && frame.reply.as_deref() == culprit_frame;
    // A missing reply has no frame: its request is the place to look.
    let at = frames
        .iter()
        .rposition(is_guilty)
        .or_else(|| frames.iter().rposition(asked));
    let centre = at.unwrap_or_else(|| frames.len().saturating_sub(1));
    let from = centre.saturating_sub(BEFORE);
    let shown = frames
        .iter()
        .enumerate()
        .skip(from)
        .take(centre - from + 1 + AFTER);
    shown
        .map(|(index, frame)| line(frame, began, Some(index) == at))
        .collect()
}

/// One frame as a line.
pub fn line(frame: &Frame, began: Instant, culprit_frame: bool) -> WireLine {
    let at_ms = match frame.at.checked_duration_since(began) {
        Some(after) => after.as_secs_f64() * 1000.0,
        None => -began.saturating_duration_since(frame.at).as_secs_f64() * 1000.0,
    };
    let (way, what) = match frame.way {
        Direction::ToHost => ("suite → host", command(&frame.subject)),
        Direction::FromHost if frame.subject.starts_with("_INBOX.") => {
            ("host → suite", "reply".to_owned())
        }
        Direction::FromHost
            if frame
                .subject
                .starts_with(crate::wire::nats::HEARTBEAT_PREFIX) =>
        {
            ("host → suite", "heartbeat".to_owned())
        }
        Direction::FromHost => ("host → suite", frame.subject.clone()),
        Direction::Connected => ("host ⇄ bus", "connected".to_owned()),
        Direction::Disconnected => ("host ⇄ bus", "disconnected".to_owned()),
    };
    let code = frame
        .headers
        .get(ERROR_CODE_HEADER)
        .map(|code| format!("[{code}] "));
    let text = String::from_utf8_lossy(&frame.payload);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let payload = code.unwrap_or_default()
        + &shortened(
            &text,
            if culprit_frame {
                GUILTY_CHARS
            } else {
                PAYLOAD_CHARS
            },
        );
    WireLine {
        at_ms,
        way,
        what,
        payload,
        culprit_frame,
    }
}

fn command(subject: &str) -> String {
    subject.splitn(4, '.').nth(3).unwrap_or(subject).to_owned()
}
