//! Progress line on a terminal during a run.

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use crate::check::executor::Observer;
use crate::check::meta::CheckMeta;
use crate::check::outcome::Outcome;

/// Maximum number of running checks that the line names.
const NAMES_SHOWN: usize = 3;

/// Progress line on standard error, overwritten at each change and erased on drop.
pub struct Progress {
    total: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    finished: usize,
    unsuccessful: usize,
    running: Vec<&'static str>,
}

impl Progress {
    /// Creates the line for a run of `total` checks.
    pub fn new(total: usize) -> Progress {
        Progress {
            total,
            state: Mutex::default(),
        }
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let names: Vec<&str> = state
            .running
            .iter()
            .rev()
            .take(NAMES_SHOWN)
            .copied()
            .collect();
        let unsuccessful = if state.unsuccessful > 0 {
            format!(" {} unsuccessful", state.unsuccessful)
        } else {
            String::new()
        };
        let line = format!(
            "[{}/{}]{unsuccessful} {}",
            state.finished,
            self.total,
            names.join(", ")
        );
        let line: String = line.chars().take(78).collect();
        // A closed terminal needs no progress.
        let _ = write!(std::io::stderr(), "\r\u{1b}[2K{line}");
    }
}

impl Observer for Progress {
    fn check_started(&self, check: &'static CheckMeta) {
        self.update(|state| state.running.push(check.id));
    }

    fn check_finished(&self, outcome: &Outcome) {
        use crate::check::outcome::Status::{Error, Fail, Inconclusive, Warn};
        self.update(|state| {
            state.finished += 1;
            state.unsuccessful +=
                usize::from(matches!(outcome.status, Error | Fail | Inconclusive | Warn));
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
