//! Turns what the monitors found into outcomes beside those of checks.

use std::time::Duration;

use super::{shared::Death, wire};
use crate::{
    monitor::Verdict,
    outcome::{Outcome, Status, Violation},
    requirements::{self as req, Level},
    trace::Trace,
};

/// The outcome of one monitor.
pub fn outcome(verdict: Verdict, trace: &Trace) -> Outcome {
    let mut outcome = Outcome::of(verdict.id, &[], Status::Pass);
    for requirement in verdict.covers {
        let finding = verdict.findings.about(requirement);
        // What was never seen was not judged: the requirement is left to its checks.
        if finding.judged == 0 {
            continue;
        }
        outcome.covers.push(requirement);
        for breach in &finding.breaches {
            if outcome.wire.is_empty() {
                outcome
                    .wire
                    .push(wire::line(&breach.frame, trace.began(), true));
            }
            let seen = format!(
                "{} ({} of {} frames)",
                breach.actual, finding.broken, finding.judged
            );
            outcome.violations.push(Violation {
                requirement,
                what: "every frame".to_owned(),
                acceptable: vec![breach.expected.clone()],
                actual: seen,
                source: String::new(),
                at: trace.offset(breach.frame.at),
                guilty: Some(breach.frame.subject.clone()),
                stalled: None,
            });
        }
    }
    let broken = |level| {
        outcome
            .violations
            .iter()
            .any(|found| found.requirement.level == level)
    };
    outcome.status = match (
        broken(Level::Must),
        broken(Level::Should),
        outcome.covers.is_empty(),
    ) {
        (true, _, _) => Status::Fail,
        (_, true, _) => Status::Warn,
        (_, _, true) => Status::NotRun,
        _ => Status::Pass,
    };
    if outcome.covers.is_empty() {
        outcome.reason = Some("saw no frame to judge".to_owned());
    }
    outcome
}

/// The outcome of the watch over the shared host's process.
pub fn alive(deaths: &[Death]) -> Outcome {
    let mut outcome = Outcome::of("monitor/alive", &[&req::HOST_WIRE_011], Status::Pass);
    for death in deaths {
        outcome.status = Status::Fail;
        outcome.log = Some(death.log.clone());
        outcome.violations.push(Violation {
            requirement: &req::HOST_WIRE_011,
            what: "the host's process".to_owned(),
            acceptable: vec!["lives as long as the run".to_owned()],
            actual: format!("ended in the middle of it ({})", death.status),
            source: String::new(),
            at: Duration::ZERO,
            guilty: None,
            stalled: None,
        });
    }
    outcome
}
