//! How long to wait after failures in a row.

use std::time::Duration;

use super::Timings;

/// Failures in a row, in rounds: those that happen while one waits anyway count as one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    rounds: u32,
    /// When the next attempt may be made.
    pub next_at: Duration,
}

impl Backoff {
    pub fn failed(&mut self, now: Duration, timings: &Timings) {
        if now < self.next_at {
            return;
        }
        let quiet = now.saturating_sub(self.next_at) >= timings.backoff_reset;
        if self.rounds > 0 && quiet {
            self.rounds = 0;
        }
        let pause = timings.backoff.saturating_mul(1 << self.rounds.min(20));
        self.next_at = now + pause.min(timings.backoff_max);
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
    fn pauses_double_and_are_forgotten_after_a_good_time() {
        let timings = Timings::default();
        let (mut backoff, mut now) = (Backoff::default(), Duration::from_secs(1000));
        let mut pauses = Vec::new();
        for _ in 0..10 {
            backoff.failed(now, &timings);
            backoff.failed(now, &timings);
            pauses.push((backoff.next_at - now).as_secs());
            now = backoff.next_at;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        now += timings.backoff_reset;
        backoff.failed(now, &timings);
        assert_eq!(backoff.next_at - now, timings.backoff);
    }
}
