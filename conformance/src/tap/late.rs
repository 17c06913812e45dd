//! What is passed on later: delayed for a time, or held by a rule.

use std::sync::Arc;

use tokio::time::Instant;

use super::rule::ActiveRule;

/// Frames of one way of one connection that may be late at the same time: enough to hold every reply of
/// a busy host for seconds.
const LATE_FRAMES_MAX: usize = 4096;

/// Frames that wait, in the order in which they came.
#[derive(Debug)]
pub(super) struct Late<Op>(Vec<(Until, Op)>);

/// What a late frame waits for.
#[derive(Debug)]
pub(super) enum Until {
    Time(Instant),
    Release(Arc<ActiveRule>),
}

impl<Op> Late<Op> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn has_room(&self) -> bool {
        self.0.len() < LATE_FRAMES_MAX
    }

    pub(super) fn push(&mut self, until: Until, op: Op) {
        self.0.push((until, op));
    }

    /// When the next delay is over, if any frame is delayed.
    pub(super) fn next(&self) -> Option<Instant> {
        let times = self.0.iter().filter_map(|(until, _)| match until {
            Until::Time(at) => Some(*at),
            Until::Release(_) => None,
        });
        times.min()
    }

    /// The frames that may go now, those that are due the longest first.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Op> {
        let due = |until: &Until| match until {
            Until::Time(at) => *at <= now,
            Until::Release(rule) => rule.is_released(),
        };
        let mut taken: Vec<_> = self.0.extract_if(.., |(until, _)| due(until)).collect();
        taken.sort_by_key(|(until, _)| match until {
            Until::Time(at) => Some(*at),
            Until::Release(_) => None,
        });
        taken.into_iter().map(|(_, op)| op).collect()
    }
}
