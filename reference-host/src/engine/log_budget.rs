//! How much of the host's log one component may fill.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines of one component in each [`PERIOD`]. A person cannot read more, and a guest that prints
/// without end must not fill the disk.
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
pub enum Allowed {
    /// It may, after a word about so many lines that were left out before it, if any.
    After(u32),
    /// It is left out.
    No,
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
    /// Asks for one more line.
    pub fn ask(&self) -> Allowed {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.ask(Instant::now())
    }
}

impl Spent {
    fn ask(&mut self, now: Instant) -> Allowed {
        let mut left_out = 0;
        if now.saturating_duration_since(self.since) >= PERIOD {
            left_out = self.lines.saturating_sub(MAX_LINES);
            *self = Self {
                since: now,
                lines: 0,
            };
        }
        self.lines = self.lines.saturating_add(1);
        if self.lines <= MAX_LINES {
            Allowed::After(left_out)
        } else {
            Allowed::No
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let start = Instant::now();
        let mut spent = Spent {
            since: start,
            lines: 0,
        };
        let asked: Vec<_> = (0..MAX_LINES + 7).map(|_| spent.ask(start)).collect();
        let (logged, left_out) = asked.split_at(MAX_LINES as usize);
        assert!(logged.iter().all(|allowed| *allowed == Allowed::After(0)));
        assert!(left_out.iter().all(|allowed| *allowed == Allowed::No));
        assert_eq!(spent.ask(start + PERIOD), Allowed::After(7));
        assert_eq!(spent.ask(start + PERIOD), Allowed::After(0));
    }
}
