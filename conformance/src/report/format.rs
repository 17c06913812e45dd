//! Style of the text form: colors and verbosity.

use crate::check::outcome::Status;

/// Style of the text form.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Whether to use terminal colors.
    pub color: bool,
    /// Amount of detail.
    pub verbosity: Verbosity,
}

/// Amount of detail in the text form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// Failures and the verdict.
    Quiet,
    /// A symbol for each check, and details for each check that did not pass.
    Normal,
    /// Also a line for each check.
    Verbose,
}

impl Style {
    /// Returns the style for files and pipes.
    pub fn plain() -> Style {
        Style {
            color: false,
            verbosity: Verbosity::Normal,
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color {
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
