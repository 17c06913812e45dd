//! Limits the warnings and errors of each place in the code, because many of them are caused by
//! messages that any peer can send.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines of one place in each [`PERIOD`]: more than a person reads, and few enough that they never
/// fill a disk.
const LINES_MAX: u64 = 50;

const PERIOD: Duration = Duration::from_secs(10);

/// Target of the notes of this layer, which are not limited.
const TARGET: &str = "berth_sdk::log";

/// Omits warnings and errors beyond [`LINES_MAX`] in a [`PERIOD`] of one place in the code, and
/// notes their number.
#[derive(Default)]
pub(super) struct LineLimit {
    windows: Mutex<HashMap<Identifier, Window>>,
}

/// The lines of one place in the current period.
#[derive(Debug)]
struct Window {
    since: Instant,
    lines: u64,
}

/// The decision about a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Permit {
    /// Write the line, after a note about the lines omitted before it, if any.
    Granted {
        omitted: u64,
    },
    /// Write a note that further lines are omitted.
    Noted,
    Omitted,
}

impl Window {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            lines: 0,
        }
    }

    fn request(&mut self, now: Instant) -> Permit {
        let mut omitted = 0;
        if now.saturating_duration_since(self.since) >= PERIOD {
            omitted = self.lines.saturating_sub(LINES_MAX);
            *self = Self::new(now);
        }
        self.lines += 1;
        match self.lines.checked_sub(LINES_MAX) {
            None | Some(0) => Permit::Granted { omitted },
            Some(1) => Permit::Noted,
            Some(_) => Permit::Omitted,
        }
    }
}

impl<S: Subscriber> Layer<S> for LineLimit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN || metadata.target() == TARGET {
            return true;
        }
        let now = Instant::now();
        let permit = {
            let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            let window = windows.entry(metadata.callsite());
            window.or_insert_with(|| Window::new(now)).request(now)
        };
        // The lock is released: the notes come back to this method.
        let source = metadata.target();
        match permit {
            Permit::Granted { omitted: 0 } => true,
            Permit::Granted { omitted } => {
                tracing::warn!(target: TARGET, source, omitted, "omitted lines like the next one");
                true
            }
            Permit::Noted => {
                tracing::warn!(target: TARGET, source, "omitting lines like the previous one");
                false
            }
            Permit::Omitted => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn omits_and_counts_lines_beyond_the_limit() {
        let start = Instant::now();
        let mut window = Window::new(start);
        let permits: Vec<_> = (0..20_000).map(|_| window.request(start)).collect();
        let count = |permit| permits.iter().filter(|it| **it == permit).count();
        assert_eq!(count(Permit::Granted { omitted: 0 }), 50);
        assert_eq!((count(Permit::Noted), count(Permit::Omitted)), (1, 19_949));
        let granted = |omitted| Permit::Granted { omitted };
        assert_eq!(window.request(start + PERIOD), granted(19_950));
        assert_eq!(window.request(start + PERIOD), granted(0));
        assert_eq!(window.request(start + PERIOD * 3), granted(0));
    }
}
