//! The outcome of a passive monitor, from its findings. Pure.

use super::outcome::{Outcome, Status, Violation};
use crate::spec::requirements::{Level, Requirement};

/// Violations of one requirement that a monitor has judged on at least one frame.
#[derive(Debug)]
pub struct Finding {
    /// Requirement that was judged.
    pub requirement: &'static Requirement,
    /// Violations that are reported; none if every frame complied.
    pub violations: Vec<Violation>,
}

/// Returns the outcome of the monitor `id`. Requirements without a finding are left to their checks.
pub fn outcome(id: &str, findings: impl IntoIterator<Item = Finding>) -> Outcome {
    let mut outcome = Outcome::of(id, &[], Status::Pass);
    for finding in findings {
        outcome.covers.push(finding.requirement);
        outcome.violations.extend(finding.violations);
    }
    let broken = |level| {
        let mut violations = outcome.violations.iter();
        violations.any(|violation| violation.requirement.level == level)
    };
    outcome.status = if broken(Level::Must) {
        Status::Fail
    } else if broken(Level::Should) {
        Status::Warn
    } else if outcome.covers.is_empty() {
        outcome.reason = Some("saw no frame to judge".to_owned());
        Status::NotRun
    } else {
        Status::Pass
    };
    outcome
}
