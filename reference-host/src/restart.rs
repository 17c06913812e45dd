//! Decides when a failed service is restarted, without a clock and without randomness.

use std::time::Duration;

/// Run time after which a service counts as healthy and gets its restarts back (HOST-SVC-013).
pub const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// Backoff before the first restart. It doubles with each further restart (HOST-SVC-011).
pub const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// Limit of the backoff before jitter, which adds or subtracts at most a quarter (HOST-SVC-010).
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// The restarts of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartBudget {
    allowed: u32,
    used: u32,
}

/// The decision after a failed run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartDecision {
    /// Restart the service after a backoff.
    Restart {
        /// The backoff.
        after: Duration,
        /// Number of this restart since the service was last healthy, from 1.
        number: u32,
    },
    /// Give up: no restart is left.
    GiveUp,
}

impl RestartBudget {
    /// Creates a budget of `allowed` restarts between healthy runs.
    pub fn new(allowed: u32) -> Self {
        Self { allowed, used: 0 }
    }

    /// Returns the number of restarts allowed between healthy runs.
    pub fn allowed(&self) -> u32 {
        self.allowed
    }

    /// Decides what follows a run that failed after `ran_for`. `jitter` is a random number from 0
    /// to 1, drawn for each call.
    pub fn on_failure(&mut self, ran_for: Duration, jitter: f64) -> RestartDecision {
        if ran_for >= HEALTHY_AFTER {
            self.used = 0;
        }
        if self.used >= self.allowed {
            return RestartDecision::GiveUp;
        }
        let after = backoff(self.used, jitter);
        self.used += 1;
        RestartDecision::Restart {
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

    /// The middle of the range: the backoff is neither shortened nor extended.
    const NO_JITTER: f64 = 0.5;

    #[test]
    fn backoff_doubles_up_to_its_limit() {
        let mut restarts = RestartBudget::new(12);
        let mut waits = Vec::new();
        let mut fail = || restarts.on_failure(Duration::ZERO, NO_JITTER);
        while let RestartDecision::Restart { after, .. } = fail() {
            waits.push(after.as_millis());
        }
        let expected = [
            100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000, 30000,
        ];
        assert_eq!(waits, expected);
    }

    #[test]
    fn healthy_run_restores_the_budget() {
        let mut restarts = RestartBudget::new(1);
        let unhealthy = HEALTHY_AFTER - Duration::from_millis(1);
        let first = restarts.on_failure(unhealthy, NO_JITTER);
        assert_eq!(
            first,
            RestartDecision::Restart {
                after: FIRST_BACKOFF,
                number: 1
            }
        );
        assert_eq!(restarts.on_failure(HEALTHY_AFTER, NO_JITTER), first);
        let third = restarts.on_failure(unhealthy, NO_JITTER);
        assert_eq!(third, RestartDecision::GiveUp);
    }

    proptest! {
        #[test]
        fn never_restarts_more_than_allowed_between_healthy_runs(
            allowed in 0u32..6,
            runs in proptest::collection::vec((0u64..120, 0.0f64..1.0), 1..40),
        ) {
            let mut restarts = RestartBudget::new(allowed);
            let mut since_healthy = 0;
            for (seconds, jitter) in runs {
                let ran_for = Duration::from_secs(seconds);
                if ran_for >= HEALTHY_AFTER {
                    since_healthy = 0;
                }
                match restarts.on_failure(ran_for, jitter) {
                    RestartDecision::Restart { number, .. } => {
                        since_healthy += 1;
                        prop_assert_eq!(number, since_healthy);
                        prop_assert!(since_healthy <= allowed);
                    }
                    RestartDecision::GiveUp => {
                        prop_assert_eq!(since_healthy, allowed);
                        break;
                    }
                }
            }
        }

        #[test]
        fn backoff_stays_within_the_bounds_of_the_specification(
            before in 0u32..u32::MAX, jitter in -1.0f64..2.0,
        ) {
            let wait = backoff(before, jitter);
            prop_assert!(wait >= Duration::from_millis(50), "{:?}", wait);
            prop_assert!(wait <= Duration::from_secs(45), "{:?}", wait);
        }
    }
}
