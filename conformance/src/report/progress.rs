//! What is shown while a run goes on: one moving line on a terminal, nothing elsewhere.

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use crate::check::executor::Observer;
use crate::check::meta::CheckMeta;
use crate::check::outcome::Outcome;

/// Names of running checks shown at once: the line must stay one line.
const NAMES_SHOWN: usize = 3;

/// A line on standard error that is written over and over. Dropping it wipes it.
pub struct Progress {
    total: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ended: usize,
    bad: usize,
    running: Vec<&'static str>,
}

impl Progress {
    /// For a run of that many checks.
    pub fn new(total: usize) -> Progress {
        Progress {
            total,
            state: Mutex::default(),
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let names: Vec<&str> = state
            .running
            .iter()
            .rev()
            .take(NAMES_SHOWN)
            .copied()
            .collect();
        let bad = if state.bad > 0 {
            format!(" {} not well", state.bad)
        } else {
            String::new()
        };
        let line = format!("[{}/{}]{bad} {}", state.ended, self.total, names.join(", "));
        let line: String = line.chars().take(78).collect();
        // A terminal that is gone needs no progress.
        let _ = write!(std::io::stderr(), "\r\u{1b}[2K{line}");
    }
}

impl Observer for Progress {
    fn began(&self, check: &'static CheckMeta) {
        self.change(|state| state.running.push(check.id));
    }

    fn ended(&self, outcome: &Outcome) {
        use crate::check::outcome::Status::{Error, Fail, Inconclusive, Warn};
        self.change(|state| {
            state.ended += 1;
            state.bad += usize::from(matches!(outcome.status, Error | Fail | Inconclusive | Warn));
            if let Some(at) = state.running.iter().position(|id| *id == outcome.id) {
                state.running.remove(at);
            }
        });
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let _ = write!(std::io::stderr(), "\r\u{1b}[2K");
    }
}
