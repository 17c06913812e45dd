//! What is passed on later: delayed for a time, or held by a rule.

use std::sync::Arc;

use tokio::time::Instant;

use super::rule::ActiveRule;

/// Frames of one way of one connection that may be late at the same time: enough to hold every reply of
/// a busy host for seconds.
const LATE_FRAMES_MAX: usize = 4096;
/// Payloads that may be late at the same time, of one way of one connection.
const LATE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Frames that wait, in the order in which they came.
#[derive(Debug)]
pub(super) struct Late<Op> {
    frames: Vec<LateFrame<Op>>,
    bytes: usize,
}

#[derive(Debug)]
struct LateFrame<Op> {
    until: Until,
    op: Op,
    bytes: usize,
}

/// What a late frame waits for.
#[derive(Debug)]
pub(super) enum Until {
    Time(Instant),
    Release(Arc<ActiveRule>),
}

impl<Op> Late<Op> {
    pub(super) const fn new() -> Self {
        Self {
            frames: Vec::new(),
            bytes: 0,
        }
    }

    /// Whether another frame with so large a payload may be late.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.frames.len() < LATE_FRAMES_MAX && self.bytes + bytes <= LATE_BYTES_MAX
    }

    pub(super) fn push(&mut self, until: Until, op: Op, bytes: usize) {
        self.bytes += bytes;
        self.frames.push(LateFrame { until, op, bytes });
    }

    /// When the next delay is over, if any frame is delayed.
    pub(super) fn next(&self) -> Option<Instant> {
        self.frames
            .iter()
            .filter_map(|frame| frame.until.time())
            .min()
    }

    /// The frames that may go now, those that were held first, then those that are due the longest.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Op> {
        let mut taken: Vec<_> = self
            .frames
            .extract_if(.., |frame| frame.until.is_over(now))
            .collect();
        taken.sort_by_key(|frame| frame.until.time());
        self.bytes -= taken.iter().map(|frame| frame.bytes).sum::<usize>();
        taken.into_iter().map(|frame| frame.op).collect()
    }
}

impl Until {
    fn time(&self) -> Option<Instant> {
        match self {
            Self::Time(at) => Some(*at),
            Self::Release(_) => None,
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        match self {
            Self::Time(at) => *at <= now,
            Self::Release(rule) => rule.is_released(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn frames_go_when_due_and_room_comes_back() {
        let now = Instant::now();
        let at = |ms| Until::Time(now + Duration::from_millis(ms));
        let mut late = Late::new();
        late.push(at(30), "c", LATE_BYTES_MAX / 2);
        late.push(at(10), "a", 0);
        late.push(at(20), "b", LATE_BYTES_MAX / 2);
        assert!(late.has_room(0) && !late.has_room(1));
        assert_eq!(late.next(), Some(now + Duration::from_millis(10)));
        assert!(late.take_due(now).is_empty());
        assert_eq!(late.take_due(now + Duration::from_millis(20)), ["a", "b"]);
        assert!(late.has_room(LATE_BYTES_MAX / 2));
        assert_eq!(late.take_due(now + Duration::from_millis(90)), ["c"]);
        assert_eq!(late.next(), None);
    }

    #[test]
    fn the_number_of_late_frames_is_bounded() {
        let mut late = Late::new();
        while late.has_room(0) {
            late.push(Until::Time(Instant::now()), (), 0);
        }
        assert_eq!(late.frames.len(), LATE_FRAMES_MAX);
    }
}
