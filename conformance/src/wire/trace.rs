//! The record of what was on the wire: bounded, shared, and searched by failures and monitors.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::response::Headers;

/// Frames kept of one host: a run has some ten thousand, and old ones no longer explain a failure.
const MAX_FRAMES: usize = 50_000;
/// Of one payload. Longer ones are cut: a trace is read by people.
const MAX_PAYLOAD_BYTES: usize = 16 * 1024;

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the suite to the host.
    ToHost,
    /// From the host.
    FromHost,
    /// No message: the host's connection to the broker was made.
    Connected,
    /// No message: the host's connection to the broker ended.
    Disconnected,
}

/// One message on the wire.
#[derive(Clone, Debug)]
pub struct Frame {
    /// When it passed.
    pub at: Instant,
    /// Which way it went.
    pub way: Direction,
    /// Its subject.
    pub subject: String,
    /// Its reply subject.
    pub reply: Option<String>,
    /// Its headers.
    pub headers: Headers,
    /// Its payload, cut to 16 KiB.
    pub payload: Bytes,
    /// How long the payload was.
    pub payload_bytes: usize,
}

impl Frame {
    /// Whether the frame belongs to one of the inboxes with that prefix, or speaks of an id with it.
    pub fn concerns(&self, inboxes: &str, ids: &str) -> bool {
        self.subject.starts_with(inboxes)
            || self
                .reply
                .as_deref()
                .is_some_and(|reply| reply.starts_with(inboxes))
            || contains(&self.payload, ids.as_bytes())
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    !needle.is_empty()
        && haystack
            .windows(needle.len())
            .any(|window| window == needle)
}

/// The recording of one host's traffic. Clones share it.
#[derive(Clone, Debug)]
pub struct Trace {
    began: Instant,
    frames: Arc<Mutex<VecDeque<Frame>>>,
}

impl Trace {
    /// An empty recording that begins now.
    pub fn new() -> Trace {
        Trace {
            began: Instant::now(),
            frames: Arc::default(),
        }
    }

    /// Adds a frame; the oldest is forgotten when there are too many.
    pub fn record(&self, mut frame: Frame) {
        frame.payload_bytes = frame.payload.len();
        if frame.payload.len() > MAX_PAYLOAD_BYTES {
            // A copy, so that the rest of a megabyte is not kept alive by its first pages.
            frame.payload =
                Bytes::copy_from_slice(frame.payload.get(..MAX_PAYLOAD_BYTES).unwrap_or_default());
        }
        let mut frames = self.lock();
        if frames.len() == MAX_FRAMES {
            frames.pop_front();
        }
        frames.push_back(frame);
    }

    /// The frames from a moment on that satisfy a condition.
    pub fn since(&self, from: Instant, wanted: impl Fn(&Frame) -> bool) -> Vec<Frame> {
        self.lock()
            .iter()
            .filter(|frame| frame.at >= from && wanted(frame))
            .cloned()
            .collect()
    }

    /// The first frame that satisfies a condition.
    pub fn first(&self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        self.lock().iter().find(|frame| wanted(frame)).cloned()
    }

    /// When the recording began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// How long after the recording began.
    pub fn offset(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.began)
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
