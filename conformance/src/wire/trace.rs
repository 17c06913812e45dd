//! Bounded, shared record of a host's messages, from which reports and monitors read.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::response::Headers;

/// Maximum number of frames. A run has about ten thousand frames; older frames
/// no longer explain a failure.
const MAX_FRAMES: usize = 50_000;
/// Maximum length of a recorded payload; longer payloads are truncated.
const MAX_PAYLOAD_BYTES: usize = 16 * 1024;

/// Direction of a frame, or a change of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Message from the suite to the host.
    ToHost,
    /// Message from the host.
    FromHost,
    /// No message: the host connected to the broker.
    Connected,
    /// No message: the connection of the host to the broker ended.
    Disconnected,
}

/// One message.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Time at which the message passed.
    pub at: Instant,
    /// Direction.
    pub direction: Direction,
    /// Subject.
    pub subject: String,
    /// Reply subject.
    pub reply: Option<String>,
    /// Headers.
    pub headers: Headers,
    /// Payload, truncated to 16 KiB.
    pub payload: Bytes,
    /// Length of the whole payload.
    pub payload_bytes: usize,
}

impl Frame {
    /// Returns whether the subject or the reply subject starts with `inbox_prefix`, or the payload
    /// contains `id_prefix`.
    pub fn concerns(&self, inbox_prefix: &str, id_prefix: &str) -> bool {
        self.subject.starts_with(inbox_prefix)
            || self
                .reply
                .as_deref()
                .is_some_and(|reply| reply.starts_with(inbox_prefix))
            || contains(&self.payload, id_prefix.as_bytes())
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    !needle.is_empty()
        && haystack
            .windows(needle.len())
            .any(|window| window == needle)
}

/// Record of one host's messages. Clones share it.
#[derive(Clone, Debug)]
pub struct Trace {
    started_at: Instant,
    frames: Arc<Mutex<VecDeque<Frame>>>,
}

impl Trace {
    /// Creates an empty record that starts now.
    pub fn new() -> Trace {
        Trace {
            started_at: Instant::now(),
            frames: Arc::default(),
        }
    }

    /// Adds a frame. A full record drops its oldest frame.
    pub fn record(&self, mut frame: Frame) {
        frame.payload_bytes = frame.payload.len();
        if frame.payload.len() > MAX_PAYLOAD_BYTES {
            // A slice would keep the whole payload in memory.
            frame.payload =
                Bytes::copy_from_slice(frame.payload.get(..MAX_PAYLOAD_BYTES).unwrap_or_default());
        }
        let mut frames = self.lock();
        if frames.len() == MAX_FRAMES {
            frames.pop_front();
        }
        frames.push_back(frame);
    }

    /// Returns the frames since `from` that match.
    pub fn since(&self, from: Instant, matches: impl Fn(&Frame) -> bool) -> Vec<Frame> {
        self.lock()
            .iter()
            .filter(|frame| frame.at >= from && matches(frame))
            .cloned()
            .collect()
    }

    /// Returns the first frame that matches.
    pub fn first(&self, matches: impl Fn(&Frame) -> bool) -> Option<Frame> {
        self.lock().iter().find(|frame| matches(frame)).cloned()
    }

    /// Returns the start time of the record.
    pub fn started_at(&self) -> Instant {
        self.started_at
    }

    /// Returns the time from the start of the record to `at`.
    pub fn offset(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.started_at)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Frame>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Trace {
    fn default() -> Trace {
        Trace::new()
    }
}
