//! What every check body stands on, whichever side it judges: its claims, its waits, its time.

use std::time::{Duration, Instant};

use super::evidence::Evidence;
use super::meta::CheckMeta;
use super::outcome::Blocked;
use crate::spec::requirements;
use crate::spec::requirements::Requirement;
use crate::testbed::clock::Patience;

/// One run of one check: what it covers, what it has claimed so far, how long it may take.
#[derive(Debug)]
pub struct CheckRun {
    pub(super) meta: &'static CheckMeta,
    pub(super) patience: Patience,
    pub(super) evidence: Evidence,
    pub(super) began: Instant,
}

impl CheckRun {
    /// The ground of a run that begins now.
    pub fn new(meta: &'static CheckMeta, patience: Patience) -> CheckRun {
        CheckRun {
            meta,
            patience,
            evidence: Evidence::default(),
            began: Instant::now(),
        }
    }

    /// What blocks a check whose precondition the target broke.
    pub fn blocked(
        &self,
        owner: Requirement,
        what: &str,
        actual: &impl std::fmt::Display,
    ) -> Blocked {
        Blocked::Precondition {
            owner: entry(owner),
            what: what.to_owned(),
            actual: actual.to_string(),
            culprit_frame: self.evidence.last_inbox_seen(),
            stalled: self.stalled(),
        }
    }

    /// How long the machine stood still since the check began, when that is too much to judge anybody.
    pub fn stalled(&self) -> Option<Duration> {
        self.patience.clock.stalled_since(self.began)
    }

    /// What is declared about the check.
    pub fn meta(&self) -> &'static CheckMeta {
        self.meta
    }

    /// What is added to every deadline.
    pub fn patience(&self) -> Duration {
        self.patience.now()
    }

    /// What the body has claimed so far.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// When the body began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// What is left of the budget.
    pub fn time_left(&self) -> Duration {
        Duration::from_secs(self.meta.budget_s).saturating_sub(self.began.elapsed())
    }
}

impl AsRef<CheckRun> for CheckRun {
    fn as_ref(&self) -> &CheckRun {
        self
    }
}

/// The static behind a copy of a requirement.
pub(super) fn entry(requirement: Requirement) -> &'static Requirement {
    requirements::by_id(requirement.id).unwrap_or(&requirements::HOST_WIRE_002)
}
