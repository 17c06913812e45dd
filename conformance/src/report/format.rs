//! How a report for people looks.

use crate::check::outcome::Status;

/// How it looks.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Colours, for terminals.
    pub colour: bool,
    /// How much is told.
    pub amount: Amount,
}

/// How much of a run is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// What keeps the verdict from being good, and the verdict.
    Quiet,
    /// A tick for each check, and a block for each that says something.
    Usual,
    /// Also a line for each check, whatever became of it.
    Verbose,
}

impl Style {
    /// For files and pipes.
    pub fn plain() -> Style {
        Style {
            colour: false,
            amount: Amount::Usual,
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(super) fn status(self, status: Status, text: &str) -> String {
        let code = match status {
            Status::Pass | Status::Unsupported => "32",
            Status::Fail | Status::Xpass | Status::Error => "31",
            Status::Warn | Status::Xfail | Status::Unstable | Status::Inconclusive => "33",
            Status::NotTestable | Status::NotRun => "2",
        };
        self.paint(code, text)
    }
}
