//! From outcomes to requirements, and from those to one word and an exit code. Pure.

use std::fmt;

use super::outcome::{Outcome, Status};
use super::side::Side;
use crate::spec::requirements::{Level, Profile, Requirement};

/// The last word of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every selected MUST was measured and held.
    Conformant,
    /// What fails is what the known-failures file says.
    AsKnown,
    /// What was selected held, but it was not everything.
    Partial,
    /// A MUST was violated, or a known failure did not fail.
    NonConformant,
    /// Repetitions differ, or the machine stalled.
    Inconclusive,
    /// Nothing was seen to be wrong, but some MUST could not be measured.
    Incomplete,
    /// Nothing was selected.
    Nothing,
    /// The suite or its surroundings failed.
    Error,
    /// The run was interrupted.
    Aborted,
}

impl Verdict {
    /// The word for reports.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Conformant => "conformant",
            Verdict::AsKnown => "as-known",
            Verdict::Partial => "partial",
            Verdict::NonConformant => "non-conformant",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Incomplete => "incomplete",
            Verdict::Nothing => "nothing-selected",
            Verdict::Error => "error",
            Verdict::Aborted => "aborted",
        }
    }

    /// The exit code of the command line.
    pub const fn exit_code(self) -> u8 {
        match self {
            Verdict::Conformant | Verdict::AsKnown | Verdict::Partial => 0,
            Verdict::NonConformant => 1,
            Verdict::Error | Verdict::Aborted => 3,
            Verdict::Nothing => 4,
            Verdict::Inconclusive | Verdict::Incomplete => 5,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is known of one requirement after a run.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The requirement.
    pub requirement: &'static Requirement,
    /// What became of it.
    pub status: Status,
    /// The checks and monitors that spoke about it.
    pub checks: Vec<String>,
    /// Why there is no check.
    pub excluded: Option<&'static str>,
}

/// What was selected.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The profiles that are judged.
    pub profiles: Vec<Profile>,
    /// Patterns restricted the checks.
    pub filtered: bool,
    /// The run was cut short.
    pub aborted: bool,
}

/// The standing of every requirement of the profiles. Permissions are left out.
pub fn standings(outcomes: &[Outcome], side: Side, profiles: &[Profile]) -> Vec<Standing> {
    let judged = |requirement: &&Requirement| {
        profiles.contains(&requirement.profile) && requirement.level != Level::May
    };
    side.requirements()
        .filter(judged)
        .map(|item| standing(item, outcomes))
        .collect()
}

fn standing(requirement: &'static Requirement, outcomes: &[Outcome]) -> Standing {
    let speaks = |outcome: &&Outcome| {
        outcome.covers.contains(&requirement)
            || outcome
                .violations
                .iter()
                .any(|found| found.requirement == requirement)
    };
    let speakers: Vec<&Outcome> = outcomes.iter().filter(speaks).collect();
    let checks = speakers.iter().map(|outcome| outcome.id.clone()).collect();
    let status = if requirement.excluded.is_some() {
        Status::NotRun
    } else {
        speakers_status(requirement, &speakers)
    };
    Standing {
        requirement,
        status,
        checks,
        excluded: requirement.excluded,
    }
}

fn speakers_status(requirement: &'static Requirement, speakers: &[&Outcome]) -> Status {
    let has_check = speakers.iter().any(|outcome| !is_monitor(outcome));
    let statuses = speakers.iter().map(|outcome| {
        let status = status_about(requirement, outcome);
        // A monitor that happened to see nothing wrong does not stand in for the check.
        let counts = !(is_monitor(outcome) && has_check && status == Status::Pass);
        counts.then_some(status)
    });
    let worst = statuses.flatten().min_by_key(|status| severity(*status));
    worst.unwrap_or(Status::NotRun)
}

fn is_monitor(outcome: &Outcome) -> bool {
    outcome.section() == "monitor"
}

/// What one outcome says about one of the requirements that it speaks of.
fn status_about(requirement: &'static Requirement, outcome: &Outcome) -> Status {
    let found = |stalled: bool| {
        outcome.violations.iter().any(|violation| {
            violation.requirement == requirement && violation.stalled.is_some() == stalled
        })
    };
    match outcome.status {
        Status::Xfail if found(false) => Status::Xfail,
        Status::Unstable | Status::Error | Status::Xpass => outcome.status,
        _ if found(false) => match requirement.level {
            Level::Must => Status::Fail,
            Level::Should | Level::May => Status::Warn,
        },
        _ if found(true) => Status::Inconclusive,
        // Other requirements of the same check are what it failed for.
        Status::Fail | Status::Warn | Status::Xfail => Status::Pass,
        status => status,
    }
}

/// The lower, the worse. A requirement is as good as the worst that was said of it.
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

/// The verdict. `outcomes` are those that ran, `standings` those of the scope.
pub fn verdict(outcomes: &[Outcome], standings: &[Standing], scope: &Scope) -> Verdict {
    let any = |status: Status| outcomes.iter().any(|outcome| outcome.status == status);
    let must = |status: Status| {
        standings
            .iter()
            .any(|standing| standing.status == status && standing.requirement.level == Level::Must)
    };
    let ran = outcomes
        .iter()
        .any(|outcome| !is_monitor(outcome) && outcome.status != Status::NotRun);
    if scope.aborted {
        Verdict::Aborted
    } else if any(Status::Error) {
        Verdict::Error
    } else if must(Status::Fail) || any(Status::Xpass) {
        Verdict::NonConformant
    } else if any(Status::Inconclusive) || any(Status::Unstable) {
        Verdict::Inconclusive
    } else if !ran {
        Verdict::Nothing
    } else if must(Status::NotTestable) || (!scope.filtered && unseen(standings)) {
        Verdict::Incomplete
    } else if scope.filtered {
        // Who names the checks to run asks about those alone.
        Verdict::Partial
    } else if must(Status::Xfail) {
        Verdict::AsKnown
    } else {
        Verdict::Conformant
    }
}

/// Whether nothing at all spoke about some MUST: no check, and no monitor that saw a frame to judge.
/// Slow checks that were not asked for do speak: they say so.
fn unseen(standings: &[Standing]) -> bool {
    standings.iter().any(|standing| {
        standing.requirement.level == Level::Must
            && standing.excluded.is_none()
            && standing.checks.is_empty()
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
        let mut outcome = Outcome::of(id, covers, status);
        if matches!(status, Status::Fail | Status::Warn | Status::Xfail) {
            outcome.violations = covers.iter().take(1).map(|item| broken(item)).collect();
        }
        outcome
    }

    fn broken(requirement: &'static Requirement) -> Violation {
        Violation {
            requirement,
            what: "w".into(),
            acceptable: vec![],
            actual: "a".into(),
            source: "s".into(),
            at: Default::default(),
            culprit_frame: None,
            stalled: None,
        }
    }

    fn of(outcomes: &[Outcome]) -> Verdict {
        verdict(outcomes, &spoken_of(outcomes), &scope())
    }

    /// As if there were no other requirements than those that the outcomes speak of.
    fn spoken_of(outcomes: &[Outcome]) -> Vec<Standing> {
        let all = standings(outcomes, Side::Host, &[Profile::Core]).into_iter();
        all.filter(|standing| !standing.checks.is_empty()).collect()
    }

    #[test]
    fn a_must_that_nothing_spoke_of_keeps_a_profile_from_being_awarded() {
        let pass = [outcome("wire/a", &[&req::HOST_WIRE_001], Status::Pass)];
        let all = standings(&pass, Side::Host, &[Profile::Core]);
        assert_eq!(verdict(&pass, &all, &scope()), Verdict::Incomplete);
        let filtered = Scope {
            filtered: true,
            ..scope()
        };
        assert_eq!(verdict(&pass, &all, &filtered), Verdict::Partial);
    }

    fn status_of(outcomes: &[Outcome], requirement: &'static Requirement) -> Status {
        let all = standings(outcomes, Side::Host, Profile::ALL.as_slice());
        all.into_iter()
            .find(|standing| standing.requirement == requirement)
            .map(|s| s.status)
            .unwrap()
    }

    #[test]
    fn each_verdict_has_its_cause() {
        let must = &[&req::HOST_WIRE_001];
        for (status, expected) in [
            (Status::Pass, Verdict::Conformant),
            (Status::Fail, Verdict::NonConformant),
            (Status::Xfail, Verdict::AsKnown),
            (Status::Xpass, Verdict::NonConformant),
            (Status::Unstable, Verdict::Inconclusive),
            (Status::Inconclusive, Verdict::Inconclusive),
            (Status::NotTestable, Verdict::Incomplete),
            (Status::Error, Verdict::Error),
            (Status::NotRun, Verdict::Nothing),
        ] {
            assert_eq!(of(&[outcome("wire/a", must, status)]), expected, "{status}");
        }
        assert_eq!(
            of(&[outcome("wire/a", &[&req::HOST_WIRE_018], Status::Warn)]),
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
    fn harness_trouble_comes_before_failures_and_failures_before_doubt() {
        let fail = outcome("wire/a", &[&req::HOST_WIRE_001], Status::Fail);
        let error = outcome("wire/b", &[&req::HOST_WIRE_002], Status::Error);
        let doubt = outcome("wire/c", &[&req::HOST_WIRE_003], Status::Inconclusive);
        assert_eq!(of(&[fail.clone(), error, doubt.clone()]), Verdict::Error);
        assert_eq!(of(&[fail, doubt]), Verdict::NonConformant);
    }

    #[test]
    fn a_requirement_is_as_good_as_the_worst_said_of_it() {
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
    fn a_broken_precondition_fails_the_requirement_that_owns_it() {
        let mut blocked = outcome("stop/a", &[&req::HOST_STOP_001], Status::NotTestable);
        blocked.violations.push(broken(&req::HOST_START_001));
        assert_eq!(
            status_of(std::slice::from_ref(&blocked), &req::HOST_START_001),
            Status::Fail
        );
        assert_eq!(of(&[blocked]), Verdict::NonConformant);
    }

    #[test]
    fn a_monitor_does_not_stand_in_for_a_check_that_could_not_run() {
        let check = outcome("beat/a", &[&req::HOST_BEAT_003], Status::NotTestable);
        let monitor = outcome("monitor/x", &[&req::HOST_BEAT_003], Status::Pass);
        assert_eq!(
            status_of(&[check, monitor.clone()], &req::HOST_BEAT_003),
            Status::NotTestable
        );
        assert_eq!(status_of(&[monitor], &req::HOST_BEAT_003), Status::Pass);
    }
}
