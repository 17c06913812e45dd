//! Turns what a check body did into an outcome. Pure.

use std::any::Any;
use std::time::Duration;

use super::evidence::Evidence;
use super::meta::CheckMeta;
use super::outcome::{Blocked, Flow, Outcome, Status, Violation};
use crate::spec::requirements::{Level, Requirement};

/// How a body ended.
#[derive(Debug)]
pub enum Ended {
    /// It returned.
    Itself(Flow),
    /// It ran longer than the harness lets it.
    OverBudget,
    /// It panicked: a fault of the check.
    Panicked(String),
}

/// Lines of a host's log that go into a report.
const LOG_LINES: usize = 20;

/// Judges one run of a check.
pub fn judge(
    check: &CheckMeta,
    ended: Ended,
    evidence: &Evidence,
    stalled: Option<Duration>,
) -> Outcome {
    let mut outcome = Outcome::of(check.id, check.covers, Status::Pass);
    outcome.violations = evidence.violations();
    let mut blocked = None;
    let mut error = evidence
        .faults()
        .first()
        .map(|fault| format!("the check {fault}"));
    match ended {
        Ended::Itself(Ok(())) => {
            let unclaimed = unclaimed(check, evidence);
            if let (Some(requirement), None) = (unclaimed, &error) {
                error = Some(format!(
                    "the check ended without a claim about {}",
                    requirement.id
                ));
            }
        }
        Ended::Itself(Err(Blocked::Precondition {
            owner,
            what,
            actual,
            culprit_frame,
            stalled,
        })) => {
            let covered = check.covers.contains(&owner);
            let reason = format!("blocked by {}: {what}: {actual}", owner.id);
            outcome.violations.push(Violation {
                requirement: owner,
                acceptable: vec![what.clone()],
                what,
                actual,
                source: format!("{}:{}", check.file, check.line),
                at: Duration::ZERO,
                culprit_frame,
                stalled,
            });
            if !covered {
                blocked = Some(reason);
            }
        }
        Ended::Itself(Err(Blocked::Missing(what))) => {
            outcome.status = Status::NotTestable;
            outcome.reason = Some(format!("needs {what}"));
            return outcome;
        }
        Ended::Itself(Err(Blocked::Harness(trouble))) => error = Some(trouble),
        Ended::Panicked(message) => error = Some(format!("the check panicked: {message}")),
        Ended::OverBudget => {
            let waiting = evidence
                .was_waiting_for()
                .map(|what| format!(", waiting for: {what}"));
            outcome.reason = Some(format!(
                "not at its end after {} s{}{}",
                check.budget_s,
                waiting.unwrap_or_default(),
                stalled
                    .map(|stall| format!(" (the machine stalled for {} ms)", stall.as_millis()))
                    .unwrap_or_default(),
            ));
            outcome.status = Status::Inconclusive;
        }
    }
    settle(check, outcome, error, blocked)
}

/// What a check passed over without a claim. Behind a claim that did not hold there may be nothing left to
/// claim.
fn unclaimed(check: &CheckMeta, evidence: &Evidence) -> Option<&'static Requirement> {
    let whole = check
        .covers
        .iter()
        .all(|covered| !evidence.is_broken(covered));
    let mut covers = check.covers.iter();
    covers
        .find(|covered| whole && !evidence.has_claimed(covered))
        .copied()
}

fn settle(
    check: &CheckMeta,
    mut outcome: Outcome,
    error: Option<String>,
    blocked: Option<String>,
) -> Outcome {
    if let Some(error) = error {
        outcome.status = Status::Error;
        outcome.reason = Some(error);
        return outcome;
    }
    let own = |violation: &&Violation| check.covers.contains(&violation.requirement);
    let firm = |violation: &&Violation| violation.stalled.is_none();
    let broken = |level: Level| {
        let of_level = |violation: &&Violation| violation.requirement.level == level;
        outcome
            .violations
            .iter()
            .filter(own)
            .filter(firm)
            .any(|violation| of_level(&violation))
    };
    let soft = outcome
        .violations
        .iter()
        .find(|violation| violation.stalled.is_some());
    let stall = soft.and_then(|violation| violation.stalled);
    if broken(Level::Must) {
        outcome.status = Status::Fail;
    } else if let Some(stall) = stall {
        let stall = stall.as_millis();
        outcome.status = Status::Inconclusive;
        outcome.reason = Some(format!(
            "a deadline was missed while the machine stalled for {stall} ms"
        ));
    } else if let Some(blocked) = blocked {
        outcome.status = Status::NotTestable;
        outcome.reason = Some(blocked);
    } else if outcome.status == Status::Pass && broken(Level::Should) {
        outcome.status = Status::Warn;
    }
    outcome
}

/// The outcome of a body that verified the refusal of a feature declared absent.
pub fn refused(outcome: Outcome, feature: &str) -> Outcome {
    match outcome.status {
        Status::Pass => Outcome {
            status: Status::Unsupported,
            reason: Some(format!(
                "`{feature}` is declared absent, and its use is refused"
            )),
            ..outcome
        },
        _ => outcome,
    }
}

/// The repetitions of one check as one outcome; `None` of none.
pub fn merge(attempts: Vec<Outcome>) -> Option<Outcome> {
    let statuses: Vec<Status> = attempts.iter().map(|attempt| attempt.status).collect();
    if statuses.len() < 2 {
        return attempts.into_iter().next();
    }
    let first = statuses.first().copied()?;
    let same = statuses.iter().all(|status| *status == first);
    // The first that is not a pass has something to tell.
    let telling = statuses
        .iter()
        .position(|status| *status != Status::Pass)
        .unwrap_or(0);
    let took = attempts
        .iter()
        .map(|attempt| attempt.took)
        .max()
        .unwrap_or_default();
    let mut merged = attempts.into_iter().nth(telling)?;
    merged.took = took;
    if !same && !statuses.contains(&Status::Error) {
        let passed = statuses
            .iter()
            .filter(|status| **status == Status::Pass)
            .count();
        merged.status = Status::Unstable;
        merged.reason = Some(format!("passed {passed} of {} times", statuses.len()));
    }
    merged.attempts = statuses;
    Some(merged)
}

/// What a panic said.
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a word".into())
}

/// The last lines of a log.
pub fn log_end(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let end = lines
        .get(lines.len().saturating_sub(LOG_LINES)..)
        .unwrap_or_default();
    end.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::requirements as req;

    const CHECK: CheckMeta = CheckMeta {
        id: "test/check",
        covers: &[&req::HOST_WIRE_001, &req::HOST_WIRE_018],
        budget_s: 1,
        slow: false,
        file: "f.rs",
        line: 1,
    };

    fn violation(requirement: &'static req::Requirement, stalled: Option<Duration>) -> Violation {
        Violation {
            requirement,
            what: "w".into(),
            acceptable: vec![],
            actual: "a".into(),
            source: "s".into(),
            at: Duration::ZERO,
            culprit_frame: None,
            stalled,
        }
    }

    fn claimed() -> Evidence {
        let evidence = Evidence::default();
        CHECK
            .covers
            .iter()
            .for_each(|covered| evidence.claimed(covered));
        evidence
    }

    fn status(ended: Ended, evidence: &Evidence) -> Status {
        judge(&CHECK, ended, evidence, None).status
    }

    #[test]
    fn levels_decide_between_fail_and_warn() {
        assert_eq!(status(Ended::Itself(Ok(())), &claimed()), Status::Pass);
        let evidence = claimed();
        evidence.violated(violation(&req::HOST_WIRE_018, None));
        assert_eq!(status(Ended::Itself(Ok(())), &evidence), Status::Warn);
        evidence.violated(violation(&req::HOST_WIRE_001, None));
        assert_eq!(status(Ended::Itself(Ok(())), &evidence), Status::Fail);
    }

    #[test]
    fn a_hollow_pass_is_an_error() {
        let evidence = Evidence::default();
        evidence.claimed(&req::HOST_WIRE_001);
        let outcome = judge(&CHECK, Ended::Itself(Ok(())), &evidence, None);
        assert_eq!(outcome.status, Status::Error);
        assert!(outcome.reason.unwrap_or_default().contains("HOST-WIRE-018"));
        // A check that ends at the first breach has told what it was asked.
        evidence.violated(violation(&req::HOST_WIRE_001, None));
        assert_eq!(status(Ended::Itself(Ok(())), &evidence), Status::Fail);
    }

    #[test]
    fn faults_and_panics_are_errors_and_stalls_prove_nothing() {
        let evidence = claimed();
        evidence.fault("claims what it must not".into());
        assert_eq!(status(Ended::Itself(Ok(())), &evidence), Status::Error);
        assert_eq!(
            status(Ended::Panicked("x".into()), &claimed()),
            Status::Error
        );
        let evidence = claimed();
        evidence.violated(violation(&req::HOST_WIRE_001, Some(Duration::from_secs(1))));
        assert_eq!(
            status(Ended::Itself(Ok(())), &evidence),
            Status::Inconclusive
        );
        assert_eq!(status(Ended::OverBudget, &claimed()), Status::Inconclusive);
    }

    #[test]
    fn a_broken_precondition_is_blamed_on_its_owner() {
        let blocked = |owner| {
            Ended::Itself(Err(Blocked::Precondition {
                owner,
                what: "w".into(),
                actual: "a".into(),
                culprit_frame: None,
                stalled: None,
            }))
        };
        let foreign = judge(
            &CHECK,
            blocked(&req::HOST_START_001),
            &Evidence::default(),
            None,
        );
        assert_eq!(foreign.status, Status::NotTestable);
        assert_eq!(
            foreign.violations.first().map(|v| v.requirement.id),
            Some("HOST-START-001")
        );
        assert_eq!(
            status(blocked(&req::HOST_WIRE_001), &Evidence::default()),
            Status::Fail
        );
    }

    #[test]
    fn repetitions_that_differ_are_unstable() {
        let one = |status| Outcome::of("a/b", &[], status);
        let mixed = merge(vec![
            one(Status::Pass),
            one(Status::Fail),
            one(Status::Pass),
        ]);
        let mixed = mixed.map(|outcome| (outcome.status, outcome.reason));
        assert_eq!(
            mixed,
            Some((Status::Unstable, Some("passed 2 of 3 times".into())))
        );
        assert_eq!(
            merge(vec![one(Status::Fail), one(Status::Fail)]).map(|o| o.status),
            Some(Status::Fail)
        );
    }
}
