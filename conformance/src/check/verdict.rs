//! Derives the status of each requirement, the verdict and the exit code from outcomes. Pure.

use std::fmt;

use super::outcome::{Outcome, Status};
use super::side::Side;
use crate::spec::requirements::{Level, Profile, Requirement};

/// Verdict of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every selected MUST requirement was measured and held.
    Conformant,
    /// All failures are listed in the known-failures file.
    KnownFailures,
    /// The selected checks passed; others were not selected.
    Partial,
    /// A MUST requirement was violated, or a known failure passed.
    NonConformant,
    /// Repetitions differ, or the machine stalled.
    Inconclusive,
    /// No violation was found, but a MUST requirement was not measured.
    Incomplete,
    /// No check was selected.
    NothingSelected,
    /// The suite or its environment failed.
    Error,
    /// The run was interrupted.
    Aborted,
}

impl Verdict {
    /// Returns the name that reports use.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Conformant => "conformant",
            Verdict::KnownFailures => "known-failures",
            Verdict::Partial => "partial",
            Verdict::NonConformant => "non-conformant",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Incomplete => "incomplete",
            Verdict::NothingSelected => "nothing-selected",
            Verdict::Error => "error",
            Verdict::Aborted => "aborted",
        }
    }

    /// Returns the exit code of the command line.
    pub const fn exit_code(self) -> u8 {
        match self {
            Verdict::Conformant | Verdict::KnownFailures | Verdict::Partial => 0,
            Verdict::NonConformant => 1,
            Verdict::Error | Verdict::Aborted => 3,
            Verdict::NothingSelected => 4,
            Verdict::Inconclusive | Verdict::Incomplete => 5,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Status of one requirement after a run.
#[derive(Clone, Debug)]
pub struct RequirementStatus {
    /// Requirement.
    pub requirement: &'static Requirement,
    /// Worst status that a check or monitor reported for it.
    pub status: Status,
    /// IDs of the checks and monitors that judged it.
    pub checks: Vec<String>,
    /// Reason why it has no check.
    pub excluded: Option<&'static str>,
}

/// Scope of a run.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Selected profiles.
    pub profiles: Vec<Profile>,
    /// Whether patterns restrict the checks.
    pub filtered: bool,
    /// Whether the run was interrupted.
    pub aborted: bool,
}

/// Returns the status of every MUST and SHOULD of the profiles.
pub fn requirement_statuses(
    outcomes: &[Outcome],
    side: Side,
    profiles: &[Profile],
) -> Vec<RequirementStatus> {
    let judged = |requirement: &&Requirement| {
        profiles.contains(&requirement.profile) && requirement.level != Level::May
    };
    side.requirements()
        .filter(judged)
        .map(|requirement| requirement_status(requirement, outcomes))
        .collect()
}

fn requirement_status(
    requirement: &'static Requirement,
    outcomes: &[Outcome],
) -> RequirementStatus {
    let concerns = |outcome: &&Outcome| {
        outcome.covers.contains(&requirement)
            || outcome
                .violations
                .iter()
                .any(|violation| violation.requirement == requirement)
    };
    let outcomes: Vec<&Outcome> = outcomes.iter().filter(concerns).collect();
    let checks = outcomes.iter().map(|outcome| outcome.id.clone()).collect();
    let status = if requirement.excluded.is_some() {
        Status::NotRun
    } else {
        worst_status(requirement, &outcomes)
    };
    RequirementStatus {
        requirement,
        status,
        checks,
        excluded: requirement.excluded,
    }
}

/// Returns the worst status that one of the outcomes, which all concern the requirement, implies.
fn worst_status(requirement: &'static Requirement, outcomes: &[&Outcome]) -> Status {
    let has_check = outcomes.iter().any(|outcome| !is_monitor(outcome));
    let statuses = outcomes.iter().map(|outcome| {
        let status = implied_status(requirement, outcome);
        // A monitor without findings does not replace the check.
        let counts = !(is_monitor(outcome) && has_check && status == Status::Pass);
        counts.then_some(status)
    });
    let worst = statuses.flatten().min_by_key(|status| severity(*status));
    worst.unwrap_or(Status::NotRun)
}

fn is_monitor(outcome: &Outcome) -> bool {
    outcome.section() == "monitor"
}

/// Returns the status of a requirement that an outcome which concerns it implies.
fn implied_status(requirement: &'static Requirement, outcome: &Outcome) -> Status {
    let violations = || {
        let violations = outcome.violations.iter();
        violations.filter(|violation| violation.requirement == requirement)
    };
    let violated = violations().any(|violation| violation.stalled.is_none());
    let violated_in_stall = violations().any(|violation| violation.stalled.is_some());
    match outcome.status {
        Status::Xfail if violated => Status::Xfail,
        Status::Unstable | Status::Error | Status::Xpass => outcome.status,
        _ if violated => match requirement.level {
            Level::Must => Status::Fail,
            Level::Should | Level::May => Status::Warn,
        },
        _ if violated_in_stall => Status::Inconclusive,
        // The check failed because of another requirement.
        Status::Fail | Status::Warn | Status::Xfail => Status::Pass,
        status => status,
    }
}

/// Returns the rank of a status. A lower rank is worse.
fn severity(status: Status) -> u8 {
    match status {
        Status::Fail => 0,
        Status::Error => 1,
        Status::Xpass => 2,
        Status::Xfail => 3,
        Status::Unstable => 4,
        Status::Inconclusive => 5,
        Status::Warn => 6,
        Status::NotTestable => 7,
        Status::Pass => 8,
        Status::Unsupported => 9,
        Status::NotRun => 10,
    }
}

/// Returns the verdict of a run with these outcomes and statuses.
pub fn verdict(outcomes: &[Outcome], requirements: &[RequirementStatus], scope: &Scope) -> Verdict {
    let any = |status: Status| outcomes.iter().any(|outcome| outcome.status == status);
    let any_must = |status: Status| {
        requirements
            .iter()
            .any(|item| item.status == status && item.requirement.level == Level::Must)
    };
    let ran = outcomes
        .iter()
        .any(|outcome| !is_monitor(outcome) && outcome.status != Status::NotRun);
    if scope.aborted {
        Verdict::Aborted
    } else if any(Status::Error) {
        Verdict::Error
    } else if any_must(Status::Fail) || any(Status::Xpass) {
        Verdict::NonConformant
    } else if any(Status::Inconclusive) || any(Status::Unstable) {
        Verdict::Inconclusive
    } else if !ran {
        Verdict::NothingSelected
    } else if any_must(Status::NotTestable) || (!scope.filtered && has_unjudged_must(requirements))
    {
        Verdict::Incomplete
    } else if scope.filtered {
        // Known failures do not change this verdict, because the run judged only the selected
        // checks.
        Verdict::Partial
    } else if any_must(Status::Xfail) {
        Verdict::KnownFailures
    } else {
        Verdict::Conformant
    }
}

/// Returns whether some MUST requirement has no outcome, neither of a check nor of a monitor that
/// judged a frame.
///
/// Slow checks that were not selected have an outcome and count.
fn has_unjudged_must(requirements: &[RequirementStatus]) -> bool {
    requirements.iter().any(|item| {
        item.requirement.level == Level::Must && item.excluded.is_none() && item.checks.is_empty()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::outcome::Violation;
    use crate::spec::requirements as req;

    fn scope() -> Scope {
        Scope {
            profiles: vec![Profile::Core],
            filtered: false,
            aborted: false,
        }
    }

    fn outcome(id: &str, covers: &[&'static Requirement], status: Status) -> Outcome {
        let mut outcome = Outcome::new(id, covers, status);
        if matches!(status, Status::Fail | Status::Warn | Status::Xfail) {
            outcome.violations = covers.iter().take(1).map(|item| violation(item)).collect();
        }
        outcome
    }

    fn violation(requirement: &'static Requirement) -> Violation {
        Violation {
            requirement,
            description: "w".into(),
            expected: vec![],
            actual: "a".into(),
            source: "s".into(),
            at: Default::default(),
            culprit_frame: None,
            stalled: None,
        }
    }

    fn verdict_of(outcomes: &[Outcome]) -> Verdict {
        verdict(outcomes, &concerned(outcomes), &scope())
    }

    /// Returns the statuses of the requirements that an outcome concerns.
    fn concerned(outcomes: &[Outcome]) -> Vec<RequirementStatus> {
        let all = requirement_statuses(outcomes, Side::Host, &[Profile::Core]).into_iter();
        all.filter(|item| !item.checks.is_empty()).collect()
    }

    #[test]
    fn unjudged_must_makes_a_full_run_incomplete() {
        let pass = [outcome("wire/a", &[&req::HOST_WIRE_001], Status::Pass)];
        let all = requirement_statuses(&pass, Side::Host, &[Profile::Core]);
        assert_eq!(verdict(&pass, &all, &scope()), Verdict::Incomplete);
        let filtered = Scope {
            filtered: true,
            ..scope()
        };
        assert_eq!(verdict(&pass, &all, &filtered), Verdict::Partial);
    }

    fn status_of(outcomes: &[Outcome], requirement: &'static Requirement) -> Status {
        let all = requirement_statuses(outcomes, Side::Host, Profile::ALL.as_slice());
        all.into_iter()
            .find(|item| item.requirement == requirement)
            .map(|item| item.status)
            .unwrap()
    }

    #[test]
    fn each_status_leads_to_its_verdict() {
        let must = &[&req::HOST_WIRE_001];
        for (status, expected) in [
            (Status::Pass, Verdict::Conformant),
            (Status::Fail, Verdict::NonConformant),
            (Status::Xfail, Verdict::KnownFailures),
            (Status::Xpass, Verdict::NonConformant),
            (Status::Unstable, Verdict::Inconclusive),
            (Status::Inconclusive, Verdict::Inconclusive),
            (Status::NotTestable, Verdict::Incomplete),
            (Status::Error, Verdict::Error),
            (Status::NotRun, Verdict::NothingSelected),
        ] {
            assert_eq!(
                verdict_of(&[outcome("wire/a", must, status)]),
                expected,
                "{status}"
            );
        }
        assert_eq!(
            verdict_of(&[outcome("wire/a", &[&req::HOST_WIRE_018], Status::Warn)]),
            Verdict::Conformant
        );
        let pass = outcome("wire/a", must, Status::Pass);
        let filtered = Scope {
            filtered: true,
            ..scope()
        };
        assert_eq!(verdict(&[pass], &[], &filtered), Verdict::Partial);
    }

    #[test]
    fn errors_precede_failures_and_failures_precede_inconclusive_checks() {
        let fail = outcome("wire/a", &[&req::HOST_WIRE_001], Status::Fail);
        let error = outcome("wire/b", &[&req::HOST_WIRE_002], Status::Error);
        let inconclusive = outcome("wire/c", &[&req::HOST_WIRE_003], Status::Inconclusive);
        assert_eq!(
            verdict_of(&[fail.clone(), error, inconclusive.clone()]),
            Verdict::Error
        );
        assert_eq!(verdict_of(&[fail, inconclusive]), Verdict::NonConformant);
    }

    #[test]
    fn requirement_has_its_worst_status() {
        let covers = &[&req::HOST_WIRE_001, &req::HOST_WIRE_003];
        let fail = outcome("wire/a", covers, Status::Fail);
        let pass = outcome("wire/b", &[&req::HOST_WIRE_001], Status::Pass);
        assert_eq!(
            status_of(&[fail.clone(), pass.clone()], &req::HOST_WIRE_001),
            Status::Fail
        );
        assert_eq!(status_of(&[fail, pass], &req::HOST_WIRE_003), Status::Pass);
    }

    #[test]
    fn violated_precondition_fails_its_requirement() {
        let mut blocked = outcome("stop/a", &[&req::HOST_STOP_001], Status::NotTestable);
        blocked.violations.push(violation(&req::HOST_START_001));
        assert_eq!(
            status_of(std::slice::from_ref(&blocked), &req::HOST_START_001),
            Status::Fail
        );
        assert_eq!(verdict_of(&[blocked]), Verdict::NonConformant);
    }

    #[test]
    fn monitor_does_not_replace_a_check_that_cannot_run() {
        let check = outcome("heartbeat/a", &[&req::HOST_BEAT_003], Status::NotTestable);
        let monitor = outcome("monitor/x", &[&req::HOST_BEAT_003], Status::Pass);
        assert_eq!(
            status_of(&[check, monitor.clone()], &req::HOST_BEAT_003),
            Status::NotTestable
        );
        assert_eq!(status_of(&[monitor], &req::HOST_BEAT_003), Status::Pass);
    }
}
