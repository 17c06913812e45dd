//! What every check body stands on, whichever side it judges: its claims, its waits, its time.

mod claim;
mod ledger;
mod wait;

pub use claim::Claim;
pub use ledger::Ledger;
pub(crate) use wait::Look;
pub use wait::{Missed, Waited, seconds};

use std::time::{Duration, Instant};

use crate::{
    check::Case,
    clock::Patience,
    outcome::Blocked,
    requirements::{self, Requirement},
};

/// One run of one check: what it covers, what it has claimed so far, how long it may take.
#[derive(Debug)]
pub struct Ground {
    case: &'static Case,
    patience: Patience,
    ledger: Ledger,
    began: Instant,
}

impl Ground {
    /// The ground of a run that begins now.
    pub fn new(case: &'static Case, patience: Patience) -> Ground {
        Ground {
            case,
            patience,
            ledger: Ledger::default(),
            began: Instant::now(),
        }
    }

    /// Begins a claim about a requirement that the check covers.
    #[track_caller]
    pub fn claim(&self, requirement: Requirement) -> Claim<'_> {
        Claim::begin(self, requirement)
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
            guilty: self.ledger.last_inbox_seen(),
            stalled: self.stalled(),
        }
    }

    /// How long the machine stood still since the check began, when that is too much to judge anybody.
    pub fn stalled(&self) -> Option<Duration> {
        self.patience.clock.stalled_since(self.began)
    }

    /// What is declared about the check.
    pub fn case(&self) -> &'static Case {
        self.case
    }

    /// What is added to every deadline.
    pub fn patience(&self) -> Duration {
        self.patience.now()
    }

    /// What the body has claimed so far.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// When the body began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// What is left of the budget.
    pub fn time_left(&self) -> Duration {
        Duration::from_secs(self.case.budget_s).saturating_sub(self.began.elapsed())
    }
}

impl AsRef<Ground> for Ground {
    fn as_ref(&self) -> &Ground {
        self
    }
}

/// The static behind a copy of a requirement.
fn entry(requirement: Requirement) -> &'static Requirement {
    requirements::by_id(requirement.id).unwrap_or(&requirements::HOST_WIRE_002)
}
