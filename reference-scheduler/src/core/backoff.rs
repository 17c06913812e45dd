//! Exponential backoff after consecutive failures. Times are durations since an arbitrary start.

use std::time::Duration;

use super::Timings;

/// Consecutive failures, in rounds: all failures during one backoff are one round.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    rounds: u32,
    /// When the next attempt is allowed.
    pub next_at: Duration,
}

impl Backoff {
    pub fn record_failure(&mut self, now: Duration, timings: &Timings) {
        if now < self.next_at {
            return;
        }
        let is_reset = now.saturating_sub(self.next_at) >= timings.backoff_reset;
        if self.rounds > 0 && is_reset {
            self.rounds = 0;
        }
        let delay = timings.backoff.saturating_mul(1 << self.rounds.min(20));
        self.next_at = now + delay.min(timings.backoff_max);
        self.rounds += 1;
    }

    pub fn is_over(&self, now: Duration) -> bool {
        now >= self.next_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_doubles_and_resets_after_time_without_failures() {
        let timings = Timings::default();
        let (mut backoff, mut now) = (Backoff::default(), Duration::from_secs(1000));
        let mut delays = Vec::new();
        for _ in 0..10 {
            backoff.record_failure(now, &timings);
            backoff.record_failure(now, &timings);
            delays.push((backoff.next_at - now).as_secs());
            now = backoff.next_at;
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        now += timings.backoff_reset;
        backoff.record_failure(now, &timings);
        assert_eq!(backoff.next_at - now, timings.backoff);
    }
}
