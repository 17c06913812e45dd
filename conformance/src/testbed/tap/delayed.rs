//! Frames that are forwarded later: delayed for a time, or held by a rule.

use std::sync::Arc;

use tokio::time::Instant;

use super::rule::ActiveRule;

/// Maximum number of waiting frames per connection and direction: enough to hold every reply of a
/// busy host for several seconds.
const DELAYED_FRAMES_MAX: usize = 4096;
/// Maximum size of all waiting payloads per connection and direction.
const DELAYED_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The waiting frames, in order of arrival.
#[derive(Debug)]
pub(super) struct DelayQueue<Op> {
    frames: Vec<DelayedFrame<Op>>,
    bytes: usize,
}

#[derive(Debug)]
struct DelayedFrame<Op> {
    until: Until,
    op: Op,
    bytes: usize,
}

/// The condition that a delayed frame waits for.
#[derive(Debug)]
pub(super) enum Until {
    Time(Instant),
    Release(Arc<ActiveRule>),
}

impl<Op> DelayQueue<Op> {
    pub(super) const fn new() -> Self {
        Self {
            frames: Vec::new(),
            bytes: 0,
        }
    }

    /// Returns whether another frame with a payload of this size fits.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.frames.len() < DELAYED_FRAMES_MAX && self.bytes + bytes <= DELAYED_BYTES_MAX
    }

    pub(super) fn push(&mut self, until: Until, op: Op, bytes: usize) {
        self.bytes += bytes;
        self.frames.push(DelayedFrame { until, op, bytes });
    }

    /// Returns the end of the shortest delay.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.frames
            .iter()
            .filter_map(|frame| frame.until.due_at())
            .min()
    }

    /// Removes and returns the frames that are due: first the released frames, then the delayed
    /// frames by due time.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Op> {
        let mut due: Vec<_> = self
            .frames
            .extract_if(.., |frame| frame.until.is_over(now))
            .collect();
        due.sort_by_key(|frame| frame.until.due_at());
        self.bytes -= due.iter().map(|frame| frame.bytes).sum::<usize>();
        due.into_iter().map(|frame| frame.op).collect()
    }
}

impl Until {
    fn due_at(&self) -> Option<Instant> {
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
    fn removes_due_frames_and_frees_their_space() {
        let now = Instant::now();
        let at = |ms| Until::Time(now + Duration::from_millis(ms));
        let mut queue = DelayQueue::new();
        queue.push(at(30), "c", DELAYED_BYTES_MAX / 2);
        queue.push(at(10), "a", 0);
        queue.push(at(20), "b", DELAYED_BYTES_MAX / 2);
        assert!(queue.has_room(0) && !queue.has_room(1));
        assert_eq!(queue.next_due(), Some(now + Duration::from_millis(10)));
        assert!(queue.take_due(now).is_empty());
        assert_eq!(queue.take_due(now + Duration::from_millis(20)), ["a", "b"]);
        assert!(queue.has_room(DELAYED_BYTES_MAX / 2));
        assert_eq!(queue.take_due(now + Duration::from_millis(90)), ["c"]);
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn limits_the_number_of_frames() {
        let mut queue = DelayQueue::new();
        while queue.has_room(0) {
            queue.push(Until::Time(Instant::now()), (), 0);
        }
        assert_eq!(queue.frames.len(), DELAYED_FRAMES_MAX);
    }
}
