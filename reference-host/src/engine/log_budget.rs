//! A rate limit for the lines that one component may write to the host's log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Limit of log lines of one component in each [`PERIOD`]. A person cannot read more, and a guest
/// that prints endlessly must not fill the disk.
const MAX_LINES: u32 = 200;

const PERIOD: Duration = Duration::from_secs(1);

/// Counts the lines of one component.
pub struct LogBudget {
    spent: Mutex<Spent>,
}

struct Spent {
    since: Instant,
    lines: u32,
}

/// Whether a line may be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// The line may be logged, after a note about the lines omitted before it, if any.
    Granted {
        /// Number of omitted lines.
        omitted: u32,
    },
    /// The line must be omitted.
    Denied,
}

impl Default for LogBudget {
    fn default() -> Self {
        Self {
            spent: Mutex::new(Spent {
                since: Instant::now(),
                lines: 0,
            }),
        }
    }
}

impl LogBudget {
    /// Requests a permit for one line.
    pub fn request(&self) -> Permit {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.request(Instant::now())
    }
}

impl Spent {
    fn request(&mut self, now: Instant) -> Permit {
        let mut omitted = 0;
        if now.saturating_duration_since(self.since) >= PERIOD {
            omitted = self.lines.saturating_sub(MAX_LINES);
            *self = Self {
                since: now,
                lines: 0,
            };
        }
        self.lines = self.lines.saturating_add(1);
        if self.lines <= MAX_LINES {
            Permit::Granted { omitted }
        } else {
            Permit::Denied
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_lines_and_counts_the_omitted() {
        let start = Instant::now();
        let mut spent = Spent {
            since: start,
            lines: 0,
        };
        let permits: Vec<_> = (0..MAX_LINES + 7).map(|_| spent.request(start)).collect();
        let (logged, omitted) = permits.split_at(MAX_LINES as usize);
        let granted = |omitted| Permit::Granted { omitted };
        assert!(logged.iter().all(|permit| *permit == granted(0)));
        assert!(omitted.iter().all(|permit| *permit == Permit::Denied));
        assert_eq!(spent.request(start + PERIOD), granted(7));
        assert_eq!(spent.request(start + PERIOD), granted(0));
    }
}
