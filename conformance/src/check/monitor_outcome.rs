//! Outcome of a passive monitor, derived from its findings. Pure.

use super::outcome::{Outcome, Status, Violation};
use crate::spec::requirements::{Level, Requirement};

/// Violations of one requirement that a monitor judged on at least one frame.
#[derive(Debug)]
pub struct Finding {
    /// Judged requirement.
    pub requirement: &'static Requirement,
    /// Reported violations; empty if every frame complied.
    pub violations: Vec<Violation>,
}

/// Returns the outcome of the monitor `id`. It covers only requirements with a finding.
pub fn outcome(id: &str, findings: impl IntoIterator<Item = Finding>) -> Outcome {
    let mut outcome = Outcome::new(id, &[], Status::Pass);
    for finding in findings {
        outcome.covers.push(finding.requirement);
        outcome.violations.extend(finding.violations);
    }
    let violated = |level| {
        let mut violations = outcome.violations.iter();
        violations.any(|violation| violation.requirement.level == level)
    };
    outcome.status = if violated(Level::Must) {
        Status::Fail
    } else if violated(Level::Should) {
        Status::Warn
    } else if outcome.covers.is_empty() {
        outcome.reason = Some("no frame to judge".to_owned());
        Status::NotRun
    } else {
        Status::Pass
    };
    outcome
}
