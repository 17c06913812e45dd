//! Turns what the monitors found into outcomes beside those of checks.

use std::time::Duration;

use super::excerpt;
use super::monitors::{ALIVE, Breach, MonitorVerdict};
use super::shared_host::Death;
use crate::check::monitor_outcome::{self, Finding};
use crate::check::outcome::{Outcome, Status, Violation};
use crate::spec::requirements as req;
use crate::wire::trace::Trace;

/// Returns the outcome of one monitor.
pub fn outcome(verdict: MonitorVerdict, trace: &Trace) -> Outcome {
    let mut wire = Vec::new();
    let mut findings = Vec::new();
    for requirement in verdict.covers {
        let found = verdict.findings.about(requirement);
        if found.judged == 0 {
            continue;
        }
        if let (Some(breach), true) = (found.breaches.first(), wire.is_empty()) {
            wire.push(excerpt::line(&breach.frame, trace.began(), true));
        }
        let violation = |breach: &Breach| Violation {
            requirement,
            what: "every frame".to_owned(),
            acceptable: vec![breach.expected.clone()],
            actual: format!(
                "{} ({} of {} frames)",
                breach.actual, found.broken, found.judged
            ),
            source: String::new(),
            at: trace.offset(breach.frame.at),
            culprit_frame: Some(breach.frame.subject.clone()),
            stalled: None,
        };
        findings.push(Finding {
            requirement,
            violations: found.breaches.iter().map(violation).collect(),
        });
    }
    Outcome {
        wire,
        ..monitor_outcome::outcome(verdict.id, findings)
    }
}

/// The outcome of the watch over the shared host's process.
pub fn alive(deaths: &[Death]) -> Outcome {
    let mut outcome = Outcome::of(ALIVE, &[&req::HOST_WIRE_011], Status::Pass);
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
            culprit_frame: None,
            stalled: None,
        });
    }
    outcome
}
