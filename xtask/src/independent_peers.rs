//! Judges the peers in `conformance/independent/`, first as they are, then with one violation each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

mod trial;
mod violation;

pub use self::trial::Outcome;
pub use self::violation::{Side, Violation};

/// Smallest share of the violations that the suite has to catch, in percent.
const CAUGHT_PERCENT: usize = 95;

/// Smallest number of violations of one peer.
const MIN_VIOLATIONS: usize = 80;

/// Number of concurrent trials. They mostly wait, and each has its own broker and ports.
const LANES: usize = 8;

/// Selection of the trials.
#[derive(Debug, Default)]
pub struct Selection {
    /// Only this side.
    pub side: Option<Side>,
    /// Only violations whose id contains this text.
    pub only: Option<String>,
    /// Also violations that are listed as not caught.
    pub all: bool,
    /// Print every trial with the checks that caught its violation.
    pub verbose: bool,
}

/// Numbers of passed and failed trials.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Trials with the expected outcome.
    pub passed: usize,
    /// Other trials, and violated rules of the list.
    pub failed: usize,
}

/// Runs the trials of both sides, and prints each one without the expected outcome.
///
/// # Errors
///
/// When a list or a target file cannot be read, or the suite cannot be run.
pub fn run(
    root: &Path,
    suite: &Path,
    selection: &Selection,
) -> Result<Summary, IndependentPeersError> {
    let mut summary = Summary::default();
    for side in [Side::Host, Side::Scheduler] {
        if selection.side.is_none_or(|selected| selected == side) {
            let of_side = run_side(root, suite, side, selection)?;
            summary.passed += of_side.passed;
            summary.failed += of_side.failed;
        }
    }
    Ok(summary)
}

fn run_side(
    root: &Path,
    suite: &Path,
    side: Side,
    selection: &Selection,
) -> Result<Summary, IndependentPeersError> {
    let listed = violation::read(root, side)?;
    let mut summary = Summary::default();
    for fault in faults_of_list(&listed) {
        println!("{side}: {fault}");
        summary.failed += 1;
    }
    let bench = trial::Bench::new(root, suite, side)?;
    if selection.only.is_none() {
        summary.count(&bench.judge_unchanged()?, selection.verbose);
    }
    let chosen: Vec<&Violation> = listed
        .iter()
        .filter(|violation| selection.all || violation.slips.is_none())
        .filter(|violation| {
            let only = selection.only.as_deref();
            only.is_none_or(|only| violation.id.contains(only))
        })
        .collect();
    for report in run_trials(&bench, &chosen)? {
        summary.count(&report, selection.verbose);
    }
    let slips = listed.iter().filter(|one| one.slips.is_some()).count();
    println!(
        "{side}: {} violations, {} of them tried, {slips} listed as not caught",
        listed.len(),
        chosen.len()
    );
    Ok(summary)
}

/// Returns each rule that the list violates.
fn faults_of_list(listed: &[Violation]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut ids = BTreeSet::new();
    for violation in listed {
        if !ids.insert(&violation.id) {
            faults.push(format!("the id {} is listed twice", violation.id));
        }
    }
    if listed.len() < MIN_VIOLATIONS {
        faults.push(format!("fewer than {MIN_VIOLATIONS} violations are listed"));
    }
    let caught = listed.iter().filter(|one| one.slips.is_none()).count();
    if caught * 100 < listed.len() * CAUGHT_PERCENT {
        faults.push(format!(
            "{caught} of {} violations are caught, fewer than {CAUGHT_PERCENT} %",
            listed.len()
        ));
    }
    faults
}

/// Runs the trials in several lanes. Results are in the order of `violations`.
fn run_trials(
    bench: &trial::Bench,
    violations: &[&Violation],
) -> Result<Vec<trial::Report>, IndependentPeersError> {
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::with_capacity(violations.len()));
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(violation) = violations.get(index) else {
                        return;
                    };
                    let report = bench.judge(violation);
                    let mut reports = reports.lock().unwrap_or_else(PoisonError::into_inner);
                    reports.push((index, report));
                }
            });
        }
    });
    let mut reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    reports.sort_by_key(|(index, _)| *index);
    reports.into_iter().map(|(_, report)| report).collect()
}

impl Summary {
    /// Counts one trial, and prints it if its outcome is not the expected one.
    fn count(&mut self, report: &trial::Report, verbose: bool) {
        if verbose || !report.is_expected() {
            println!("{report}");
        }
        if report.is_expected() {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }
}

/// Reason why the trials cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum IndependentPeersError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// I/O error.
        source: std::io::Error,
    },
    /// A file is not valid TOML, or an entry has not the expected shape.
    #[error("cannot parse {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Error of the parser.
        source: toml::de::Error,
    },
    /// The target file has no launch command.
    #[error("{} has no launch.command", path.display())]
    NoCommand {
        /// The file.
        path: PathBuf,
    },
    /// A temporary directory or target file cannot be written.
    #[error("cannot write a temporary target file")]
    Temporary(#[source] std::io::Error),
    /// The suite cannot be run.
    #[error("cannot run {}", program.display())]
    Suite {
        /// The program.
        program: PathBuf,
        /// I/O error.
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(caught: usize, slipped: usize) -> Vec<Violation> {
        let violation = |index: usize| Violation {
            id: format!("v{index}"),
            requirement: "HOST-WIRE-001".to_owned(),
            slips: (index >= caught).then(|| "reason".to_owned()),
        };
        (0..caught + slipped).map(violation).collect()
    }

    #[test]
    fn list_needs_size_share_and_distinct_ids() {
        assert!(faults_of_list(&list(76, 4)).is_empty());
        assert_eq!(faults_of_list(&list(75, 5)).len(), 1);
        assert_eq!(faults_of_list(&list(79, 0)).len(), 1);
        let mut twice = list(80, 0);
        twice.extend(list(1, 0));
        assert_eq!(faults_of_list(&twice).len(), 1);
    }
}
