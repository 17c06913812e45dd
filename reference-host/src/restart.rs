//! When a service that failed is run again: decided here, without a clock and without chance.

use std::time::Duration;

/// A service that ran for so long without failing gets its restarts back (HOST-SVC-013).
pub const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// The wait before the first restart; each further one doubles it (HOST-SVC-011).
pub const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// The longest wait before jitter, which adds or takes a quarter at most (HOST-SVC-010).
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// The restarts of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restarts {
    allowed: u32,
    used: u32,
}

/// What follows a failed run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Run it again after this wait. `number` counts the restarts since it was last healthy, from 1.
    Restart {
        /// How long to wait.
        after: Duration,
        /// Which restart it will be.
        number: u32,
    },
    /// No restart is left.
    GiveUp,
}

impl Restarts {
    /// A service that may be restarted `allowed` times without being healthy in between.
    pub fn new(allowed: u32) -> Self {
        Self { allowed, used: 0 }
    }

    /// How many restarts there may be.
    pub fn allowed(&self) -> u32 {
        self.allowed
    }

    /// A run failed after `ran_for`. `jitter` is a number from 0 to 1, drawn anew for each call.
    pub fn run_failed(&mut self, ran_for: Duration, jitter: f64) -> Verdict {
        if ran_for >= HEALTHY_AFTER {
            self.used = 0;
        }
        if self.used >= self.allowed {
            return Verdict::GiveUp;
        }
        let after = backoff(self.used, jitter);
        self.used += 1;
        Verdict::Restart {
            after,
            number: self.used,
        }
    }
}

fn backoff(restarts_before: u32, jitter: f64) -> Duration {
    let doubled =
        FIRST_BACKOFF.saturating_mul(1u32.checked_shl(restarts_before).unwrap_or(u32::MAX));
    doubled
        .min(LONGEST_BACKOFF)
        .mul_f64(0.75 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut restarts = Restarts::new(12);
        let mut waits = Vec::new();
        while let Verdict::Restart { after, .. } = restarts.run_failed(Duration::ZERO, 0.5) {
            waits.push(after.as_millis());
        }
        let expected = [
            100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000, 30000,
        ];
        assert_eq!(waits, expected);
    }

    #[test]
    fn a_healthy_run_gives_all_restarts_back() {
        let mut restarts = Restarts::new(1);
        let unhealthy = HEALTHY_AFTER - Duration::from_millis(1);
        let first = restarts.run_failed(unhealthy, 0.5);
        assert_eq!(
            first,
            Verdict::Restart {
                after: FIRST_BACKOFF,
                number: 1
            }
        );
        assert_eq!(restarts.run_failed(HEALTHY_AFTER, 0.5), first);
        assert_eq!(restarts.run_failed(unhealthy, 0.5), Verdict::GiveUp);
    }

    proptest! {
        #[test]
        fn never_more_restarts_than_allowed_between_healthy_runs(
            allowed in 0u32..6,
            runs in proptest::collection::vec((0u64..120, 0.0f64..1.0), 1..40),
        ) {
            let mut restarts = Restarts::new(allowed);
            let mut since_healthy = 0;
            for (seconds, jitter) in runs {
                let ran_for = Duration::from_secs(seconds);
                if ran_for >= HEALTHY_AFTER {
                    since_healthy = 0;
                }
                match restarts.run_failed(ran_for, jitter) {
                    Verdict::Restart { number, .. } => {
                        since_healthy += 1;
                        prop_assert_eq!(number, since_healthy);
                        prop_assert!(since_healthy <= allowed);
                    }
                    Verdict::GiveUp => {
                        prop_assert_eq!(since_healthy, allowed);
                        break;
                    }
                }
            }
        }

        #[test]
        fn every_wait_is_within_the_bounds_of_the_specification(
            before in 0u32..u32::MAX, jitter in -1.0f64..2.0,
        ) {
            let wait = backoff(before, jitter);
            prop_assert!(wait >= Duration::from_millis(50), "{:?}", wait);
            prop_assert!(wait <= Duration::from_secs(45), "{:?}", wait);
        }
    }
}
