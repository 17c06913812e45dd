//! The kill matrix: what was tried, what was found, and whether that is what must be found.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::Trial;
use crate::check::outcome::Status;
use crate::wire::response::shortened;

/// What one trial brought.
#[derive(Clone, Debug)]
pub enum Finding {
    /// A host that is right passed.
    Passed,
    /// A host that is right was blamed: the suite is too strict.
    Blamed(Vec<String>),
    /// A fault was found by the check of what it breaks.
    Killed {
        /// The check.
        check: String,
        /// What it asked.
        what: String,
        /// What it saw.
        actual: String,
    },
    /// A fault was not found: the check cannot fail.
    Survived {
        /// What became of the requirement.
        status: Status,
        /// What the checks said instead.
        reasons: Vec<String>,
    },
    /// There was no judgement.
    Trouble(String),
}

/// One trial and its finding.
#[derive(Clone, Debug)]
pub struct Cell {
    /// What was tried.
    pub trial: Trial,
    /// What was found.
    pub finding: Finding,
    /// How long it took.
    pub took: Duration,
}

impl Cell {
    /// Whether the finding is what it must be.
    #[must_use]
    pub fn is_right(&self) -> bool {
        matches!(self.finding, Finding::Passed | Finding::Killed { .. })
    }
}

/// A line of the matrix.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.trial.breaks().map_or("", |requirement| requirement.id);
        let sign = if self.is_right() { "ok  " } else { "FAIL" };
        let name = self.trial.name();
        write!(
            f,
            "{sign} {name:<44} {id:<16} {:>5.1} s  ",
            self.took.as_secs_f64()
        )?;
        match &self.finding {
            Finding::Passed => f.write_str("passes"),
            Finding::Killed { check, .. } => write!(f, "killed by {check}"),
            Finding::Blamed(complaints) => write!(f, "blamed: {}", complaints.join("; ")),
            Finding::Survived { status, reasons } => {
                write!(
                    f,
                    "survived ({status}): {}",
                    shortened(&reasons.join("; "), 600)
                )
            }
            Finding::Trouble(trouble) => write!(f, "no verdict: {trouble}"),
        }
    }
}

/// Every trial of a run.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// What was tried, in the order of the specification.
    pub cells: Vec<Cell>,
    /// What could not be tried here: it takes minutes, or the broken reference host.
    pub left_out: Vec<Trial>,
}

impl Matrix {
    /// Every fault was killed by its own check, and everything right passed.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.cells.iter().all(Cell::is_right)
    }

    /// How many trials were right, and how many not.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let right = self.cells.iter().filter(|cell| cell.is_right()).count();
        (right, self.cells.len() - right)
    }

    /// For machines.
    #[must_use]
    pub fn json(&self) -> Value {
        let cells = self.cells.iter().map(|cell| {
            let (finding, details) = match &cell.finding {
                Finding::Passed => ("passed", json!({})),
                Finding::Blamed(complaints) => ("blamed", json!({ "complaints": complaints })),
                Finding::Killed {
                    check,
                    what,
                    actual,
                } => (
                    "killed",
                    json!({ "check": check, "what": what, "actual": actual }),
                ),
                Finding::Survived { status, reasons } => (
                    "survived",
                    json!({ "status": status.name(), "reasons": reasons }),
                ),
                Finding::Trouble(trouble) => ("trouble", json!({ "trouble": trouble })),
            };
            json!({
                "trial": cell.trial.name(),
                "requirement": cell.trial.breaks().map(|requirement| requirement.id),
                "finding": finding,
                "details": details,
                "right": cell.is_right(),
                "duration_ms": u64::try_from(cell.took.as_millis()).unwrap_or(u64::MAX),
            })
        });
        json!({
            "right": self.is_right(),
            "trials": cells.collect::<Vec<_>>(),
            "left_out": self.left_out.iter().map(Trial::name).collect::<Vec<_>>(),
        })
    }
}
