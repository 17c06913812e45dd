//! Excerpt of the trace: the few frames around a failure.

use std::time::Instant;

use crate::check::outcome::WireLine;
use crate::wire::response::{ERROR_CODE_HEADER, shortened};
use crate::wire::trace::{Direction, Frame};

/// Frames shown before the culprit frame.
const BEFORE: usize = 6;
/// Frames shown after the culprit frame.
const AFTER: usize = 1;
/// Maximum number of characters that are shown of a payload.
const PAYLOAD_CHARS: usize = 160;
/// Maximum number of characters that are shown of the culprit frame's payload.
const CULPRIT_PAYLOAD_CHARS: usize = 600;

/// Maximum number of frames in the traffic of a passing check.
const MAX_FRAMES: usize = 200;

/// Returns the first frames of a check that passed.
pub fn all(frames: &[Frame], started_at: Instant) -> Vec<WireLine> {
    let shown = frames.iter().take(MAX_FRAMES);
    shown.map(|frame| line(frame, started_at, false)).collect()
}

/// Returns the frames around the frame with this inbox or subject, or the most recent frames if
/// there is no such frame.
pub fn excerpt(
    frames: &[Frame],
    culprit_frame: Option<&str>,
    started_at: Instant,
) -> Vec<WireLine> {
    let is_culprit = |frame: &Frame| {
        culprit_frame.is_some_and(|culprit_frame| {
            frame.subject == culprit_frame && frame.direction == Direction::FromHost
        })
    };
    let is_request =
        |frame: &Frame| culprit_frame.is_some() && frame.reply.as_deref() == culprit_frame;
    // A missing reply has no frame; its request is marked instead.
    let culprit = frames
        .iter()
        .rposition(is_culprit)
        .or_else(|| frames.iter().rposition(is_request));
    let center = culprit.unwrap_or_else(|| frames.len().saturating_sub(1));
    let first = center.saturating_sub(BEFORE);
    let shown = frames
        .iter()
        .enumerate()
        .skip(first)
        .take(center - first + 1 + AFTER);
    shown
        .map(|(index, frame)| line(frame, started_at, Some(index) == culprit))
        .collect()
}

/// Converts a frame into a line of the report.
pub fn line(frame: &Frame, started_at: Instant, culprit: bool) -> WireLine {
    let at_ms = match frame.at.checked_duration_since(started_at) {
        Some(after) => after.as_secs_f64() * 1000.0,
        None => -started_at.saturating_duration_since(frame.at).as_secs_f64() * 1000.0,
    };
    let (direction, kind) = match frame.direction {
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
            if culprit {
                CULPRIT_PAYLOAD_CHARS
            } else {
                PAYLOAD_CHARS
            },
        );
    WireLine {
        at_ms,
        direction,
        kind,
        payload,
        culprit,
    }
}

fn command(subject: &str) -> String {
    subject.splitn(4, '.').nth(3).unwrap_or(subject).to_owned()
}
