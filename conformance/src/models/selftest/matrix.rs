//! The kill matrix: the findings of all trials.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::Trial;
use crate::check::outcome::Status;
use crate::wire::response::shortened;

/// Finding of one trial.
#[derive(Clone, Debug)]
pub enum Finding {
    /// A conforming target has passed.
    Passed,
    /// Checks have failed on a conforming target: the suite is too strict.
    FalsePositive(Vec<String>),
    /// A check of the broken requirement has found the fault.
    Killed {
        /// Check that found the fault.
        check: String,
        /// Description of the violation.
        description: String,
        /// Behavior that the check observed.
        actual: String,
    },
    /// No check of the broken requirement has found the fault.
    Survived {
        /// Status of the requirement.
        status: Status,
        /// Results of the checks of the requirement.
        reasons: Vec<String>,
    },
    /// The suite has reached no verdict.
    NoVerdict(String),
}

/// One trial and its finding.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The trial.
    pub trial: Trial,
    /// Finding of the trial.
    pub finding: Finding,
    /// Duration of the trial.
    pub duration: Duration,
}

impl Cell {
    /// Whether the finding is the expected one.
    #[must_use]
    pub fn is_expected(&self) -> bool {
        matches!(self.finding, Finding::Passed | Finding::Killed { .. })
    }
}

/// Formats a line of the matrix.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.trial.breaks().map_or("", |requirement| requirement.id);
        let result = if self.is_expected() { "ok  " } else { "FAIL" };
        let name = self.trial.name();
        write!(
            f,
            "{result} {name:<44} {id:<16} {:>5.1} s  ",
            self.duration.as_secs_f64()
        )?;
        match &self.finding {
            Finding::Passed => f.write_str("passed"),
            Finding::Killed { check, .. } => write!(f, "killed by {check}"),
            Finding::FalsePositive(checks) => write!(f, "false positive: {}", checks.join("; ")),
            Finding::Survived { status, reasons } => {
                write!(
                    f,
                    "survived ({status}): {}",
                    shortened(&reasons.join("; "), 600)
                )
            }
            Finding::NoVerdict(error) => write!(f, "no verdict: {error}"),
        }
    }
}

/// Result of a run of the self test.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Trials that were run, in the order of the specification.
    pub cells: Vec<Cell>,
    /// Trials that were not run, because they are slow, need a breakage, or were interrupted.
    pub not_run: Vec<Trial>,
}

impl Matrix {
    /// Whether every finding is the expected one.
    #[must_use]
    pub fn is_expected(&self) -> bool {
        self.cells.iter().all(Cell::is_expected)
    }

    /// Returns the number of trials with the expected finding, and of those without.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let passed = self.cells.iter().filter(|cell| cell.is_expected()).count();
        (passed, self.cells.len() - passed)
    }

    /// Returns the matrix as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let cells = self.cells.iter().map(|cell| {
            let (finding, details) = match &cell.finding {
                Finding::Passed => ("passed", json!({})),
                Finding::FalsePositive(checks) => ("false-positive", json!({ "checks": checks })),
                Finding::Killed {
                    check,
                    description,
                    actual,
                } => (
                    "killed",
                    json!({ "check": check, "description": description, "actual": actual }),
                ),
                Finding::Survived { status, reasons } => (
                    "survived",
                    json!({ "status": status.name(), "reasons": reasons }),
                ),
                Finding::NoVerdict(error) => ("no-verdict", json!({ "error": error })),
            };
            json!({
                "trial": cell.trial.name(),
                "requirement": cell.trial.breaks().map(|requirement| requirement.id),
                "finding": finding,
                "details": details,
                "expected": cell.is_expected(),
                "duration_ms": u64::try_from(cell.duration.as_millis()).unwrap_or(u64::MAX),
            })
        });
        json!({
            "expected": self.is_expected(),
            "trials": cells.collect::<Vec<_>>(),
            "not_run": self.not_run.iter().map(Trial::name).collect::<Vec<_>>(),
        })
    }
}
