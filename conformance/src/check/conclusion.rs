//! Turns the end of a check body and its evidence into an outcome. Pure.

use std::any::Any;
use std::time::Duration;

use super::evidence::Evidence;
use super::meta::CheckMeta;
use super::outcome::{Blocked, Flow, Outcome, Status, Violation};
use crate::spec::requirements::{Level, Requirement};

/// End of a check body.
#[derive(Debug)]
pub enum BodyEnd {
    /// The body returned.
    Returned(Flow),
    /// The body exceeded its time budget.
    OverBudget,
    /// The body panicked, which is an error of the check.
    Panicked(String),
}

/// Maximum number of lines, from the end of the target's log, that a report contains per check.
const LOG_LINES: usize = 20;

/// Judges one run of a check.
pub fn judge(
    check: &CheckMeta,
    end: BodyEnd,
    evidence: &Evidence,
    stalled: Option<Duration>,
) -> Outcome {
    let mut outcome = Outcome::new(check.id, check.covers, Status::Pass);
    outcome.violations = evidence.violations();
    let mut blocked = None;
    let mut error = evidence
        .check_errors()
        .first()
        .map(|error| format!("the check {error}"));
    match end {
        BodyEnd::Returned(Ok(())) => {
            let unclaimed = unclaimed(check, evidence);
            if let (Some(requirement), None) = (unclaimed, &error) {
                error = Some(format!(
                    "the check ended without a claim about {}",
                    requirement.id
                ));
            }
        }
        BodyEnd::Returned(Err(Blocked::Precondition {
            violated,
            expectation,
            actual,
            culprit_frame,
            stalled,
        })) => {
            let covered = check.covers.contains(&violated);
            let reason = format!("blocked by {}: {expectation}: {actual}", violated.id);
            outcome.violations.push(Violation {
                requirement: violated,
                expected: vec![expectation.clone()],
                description: expectation,
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
        BodyEnd::Returned(Err(Blocked::Missing(prerequisite))) => {
            outcome.status = Status::NotTestable;
            outcome.reason = Some(format!("needs {prerequisite}"));
            return outcome;
        }
        BodyEnd::Returned(Err(Blocked::Harness(failure))) => error = Some(failure),
        BodyEnd::Panicked(message) => error = Some(format!("the check panicked: {message}")),
        BodyEnd::OverBudget => {
            let waiting = evidence
                .waiting_for()
                .map(|condition| format!(", waiting for: {condition}"));
            outcome.reason = Some(format!(
                "still running after {} s{}{}",
                check.budget_s,
                waiting.unwrap_or_default(),
                stalled
                    .map(|stall| format!(" (the machine stalled for {} ms)", stall.as_millis()))
                    .unwrap_or_default(),
            ));
            outcome.status = Status::Inconclusive;
        }
    }
    set_status(check, outcome, error, blocked)
}

/// Returns a covered requirement that the check made no claim about.
///
/// Returns `None` if a claim did not hold, because the body may then have ended early.
fn unclaimed(check: &CheckMeta, evidence: &Evidence) -> Option<&'static Requirement> {
    let all_held = check
        .covers
        .iter()
        .all(|covered| !evidence.is_violated(covered));
    let mut covers = check.covers.iter();
    covers
        .find(|covered| all_held && !evidence.is_claimed(covered))
        .copied()
}

/// Derives the status. `error` takes precedence over violations, and violations over `blocked`.
fn set_status(
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
    let covered = |violation: &&Violation| check.covers.contains(&violation.requirement);
    let conclusive = |violation: &&Violation| violation.stalled.is_none();
    let violated = |level: Level| {
        outcome
            .violations
            .iter()
            .filter(covered)
            .filter(conclusive)
            .any(|violation| violation.requirement.level == level)
    };
    let stall = outcome
        .violations
        .iter()
        .find_map(|violation| violation.stalled);
    if violated(Level::Must) {
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
    } else if outcome.status == Status::Pass && violated(Level::Should) {
        outcome.status = Status::Warn;
    }
    outcome
}

/// Returns the outcome of a body that verified the refusal of a feature that is declared absent.
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

/// Merges the repetitions of one check. Returns `None` if there are none.
pub fn merge(attempts: Vec<Outcome>) -> Option<Outcome> {
    let statuses: Vec<Status> = attempts.iter().map(|attempt| attempt.status).collect();
    if statuses.len() < 2 {
        return attempts.into_iter().next();
    }
    let first = statuses.first().copied()?;
    let same = statuses.iter().all(|status| *status == first);
    // Details come from the first attempt that did not pass.
    let shown = statuses
        .iter()
        .position(|status| *status != Status::Pass)
        .unwrap_or(0);
    let duration = attempts
        .iter()
        .map(|attempt| attempt.duration)
        .max()
        .unwrap_or_default();
    let mut merged = attempts.into_iter().nth(shown)?;
    merged.duration = duration;
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

/// Returns the message of a panic.
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".into())
}

/// Returns the last lines of a log.
pub fn log_tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let tail = lines
        .get(lines.len().saturating_sub(LOG_LINES)..)
        .unwrap_or_default();
    tail.join("\n")
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
            description: "w".into(),
            expected: vec![],
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
            .for_each(|covered| evidence.record_claim(covered));
        evidence
    }

    fn status(end: BodyEnd, evidence: &Evidence) -> Status {
        judge(&CHECK, end, evidence, None).status
    }

    #[test]
    fn level_decides_between_fail_and_warn() {
        assert_eq!(status(BodyEnd::Returned(Ok(())), &claimed()), Status::Pass);
        let evidence = claimed();
        evidence.record_violation(violation(&req::HOST_WIRE_018, None));
        assert_eq!(status(BodyEnd::Returned(Ok(())), &evidence), Status::Warn);
        evidence.record_violation(violation(&req::HOST_WIRE_001, None));
        assert_eq!(status(BodyEnd::Returned(Ok(())), &evidence), Status::Fail);
    }

    #[test]
    fn pass_without_claim_is_an_error() {
        let evidence = Evidence::default();
        evidence.record_claim(&req::HOST_WIRE_001);
        let outcome = judge(&CHECK, BodyEnd::Returned(Ok(())), &evidence, None);
        assert_eq!(outcome.status, Status::Error);
        assert!(outcome.reason.unwrap_or_default().contains("HOST-WIRE-018"));
        // A check that ends at its first violation need not claim the rest.
        evidence.record_violation(violation(&req::HOST_WIRE_001, None));
        assert_eq!(status(BodyEnd::Returned(Ok(())), &evidence), Status::Fail);
    }

    #[test]
    fn error_or_panic_of_a_check_is_an_error_and_a_stall_is_inconclusive() {
        let evidence = claimed();
        evidence.record_check_error("claims what it must not".into());
        assert_eq!(status(BodyEnd::Returned(Ok(())), &evidence), Status::Error);
        assert_eq!(
            status(BodyEnd::Panicked("x".into()), &claimed()),
            Status::Error
        );
        let evidence = claimed();
        evidence.record_violation(violation(&req::HOST_WIRE_001, Some(Duration::from_secs(1))));
        assert_eq!(
            status(BodyEnd::Returned(Ok(())), &evidence),
            Status::Inconclusive
        );
        assert_eq!(
            status(BodyEnd::OverBudget, &claimed()),
            Status::Inconclusive
        );
    }

    #[test]
    fn violated_precondition_counts_against_its_requirement() {
        let blocked = |violated| {
            BodyEnd::Returned(Err(Blocked::Precondition {
                violated,
                expectation: "w".into(),
                actual: "a".into(),
                culprit_frame: None,
                stalled: None,
            }))
        };
        let uncovered = judge(
            &CHECK,
            blocked(&req::HOST_START_001),
            &Evidence::default(),
            None,
        );
        assert_eq!(uncovered.status, Status::NotTestable);
        assert_eq!(
            uncovered.violations.first().map(|v| v.requirement.id),
            Some("HOST-START-001")
        );
        assert_eq!(
            status(blocked(&req::HOST_WIRE_001), &Evidence::default()),
            Status::Fail
        );
    }

    #[test]
    fn different_repetitions_are_unstable() {
        let one = |status| Outcome::new("a/b", &[], status);
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
