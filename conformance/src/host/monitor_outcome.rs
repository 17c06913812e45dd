//! Outcomes of monitors, which reports list after the outcomes of checks.

use std::time::Duration;

use super::excerpt;
use super::monitors::{ALIVE, FrameViolation, MonitorVerdict};
use super::shared_host::UnexpectedExit;
use crate::check::monitor_outcome::{self, Finding};
use crate::check::outcome::{Outcome, Status, Violation};
use crate::spec::requirements as req;
use crate::wire::trace::Trace;

/// Returns the outcome of one monitor.
pub fn outcome(verdict: MonitorVerdict, trace: &Trace) -> Outcome {
    let mut wire = Vec::new();
    let mut findings = Vec::new();
    for requirement in verdict.covers {
        let finding = verdict.findings.about(requirement);
        if finding.judged == 0 {
            continue;
        }
        if let (Some(example), true) = (finding.examples.first(), wire.is_empty()) {
            let culprit = true;
            wire.push(excerpt::line(&example.frame, trace.started_at(), culprit));
        }
        let violation = |example: &FrameViolation| Violation {
            requirement,
            description: "every frame".to_owned(),
            expected: vec![example.expected.clone()],
            actual: format!(
                "{} ({} of {} frames)",
                example.actual, finding.violations, finding.judged
            ),
            source: String::new(),
            at: trace.offset(example.frame.at),
            culprit_frame: Some(example.frame.subject.clone()),
            stalled: None,
        };
        findings.push(Finding {
            requirement,
            violations: finding.examples.iter().map(violation).collect(),
        });
    }
    Outcome {
        wire,
        ..monitor_outcome::outcome(verdict.id, findings)
    }
}

/// Returns the outcome of the monitor of the shared host's process.
pub fn alive(unexpected_exits: &[UnexpectedExit]) -> Outcome {
    let mut outcome = Outcome::new(ALIVE, &[&req::HOST_WIRE_011], Status::Pass);
    for exit in unexpected_exits {
        outcome.status = Status::Fail;
        outcome.log = Some(exit.log.clone());
        outcome.violations.push(Violation {
            requirement: &req::HOST_WIRE_011,
            description: "the process of the host".to_owned(),
            expected: vec!["the process runs until the end of the run".to_owned()],
            actual: format!("the process exited during the run ({})", exit.status),
            source: String::new(),
            at: Duration::ZERO,
            culprit_frame: None,
            stalled: None,
        });
    }
    outcome
}
