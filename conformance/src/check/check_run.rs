//! State of one run of a check, on either side: its claims, waits and time budget.

use std::time::{Duration, Instant};

use super::evidence::Evidence;
use super::meta::CheckMeta;
use super::outcome::Blocked;
use crate::spec::requirements;
use crate::spec::requirements::Requirement;
use crate::testbed::clock::Patience;

/// One run of one check: its declaration, its evidence so far and its time budget.
#[derive(Debug)]
pub struct CheckRun {
    pub(super) meta: &'static CheckMeta,
    pub(super) patience: Patience,
    pub(super) evidence: Evidence,
    pub(super) started_at: Instant,
}

impl CheckRun {
    /// Creates a run that starts now.
    pub fn new(meta: &'static CheckMeta, patience: Patience) -> CheckRun {
        CheckRun {
            meta,
            patience,
            evidence: Evidence::default(),
            started_at: Instant::now(),
        }
    }

    /// Returns the error for a precondition of the check that the target violated.
    pub fn blocked(
        &self,
        violated: Requirement,
        expectation: &str,
        actual: &impl std::fmt::Display,
    ) -> Blocked {
        Blocked::Precondition {
            violated: static_requirement(violated),
            expectation: expectation.to_owned(),
            actual: actual.to_string(),
            culprit_frame: self.evidence.latest_inbox(),
            stalled: self.stalled(),
        }
    }

    /// Returns how long the machine stalled since the check started, or `None` if that was too
    /// short to affect the outcome.
    pub fn stalled(&self) -> Option<Duration> {
        self.patience.clock.stalled_since(self.started_at)
    }

    /// Returns the declaration of the check.
    pub fn meta(&self) -> &'static CheckMeta {
        self.meta
    }

    /// Returns the time that is added to every deadline.
    pub fn patience(&self) -> Duration {
        self.patience.current()
    }

    /// Returns the evidence so far.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// Returns the start time of the body.
    pub fn started_at(&self) -> Instant {
        self.started_at
    }

    /// Returns the rest of the time budget.
    pub fn time_left(&self) -> Duration {
        Duration::from_secs(self.meta.budget_s).saturating_sub(self.started_at.elapsed())
    }
}

impl AsRef<CheckRun> for CheckRun {
    fn as_ref(&self) -> &CheckRun {
        self
    }
}

/// Returns the static item from which a requirement was copied.
pub(super) fn static_requirement(requirement: Requirement) -> &'static Requirement {
    requirements::by_id(requirement.id).unwrap_or(&requirements::HOST_WIRE_002)
}
