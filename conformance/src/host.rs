//! Conformance of hosts: checks, monitors, targets and the runner.

pub mod check;
pub mod checks;
pub mod concurrency;
pub mod context;
pub mod eligibility;
pub mod excerpt;
pub mod monitor_outcome;
pub mod monitors;
pub mod preflight;
pub mod runner;
pub mod shared_host;
pub mod suite;
pub mod target;

pub use self::suite::Suite;

use crate::check::catalog::Catalog;
use crate::check::side::Side;

/// Returns the catalog of checks and monitors for hosts.
pub fn catalog() -> Catalog {
    Catalog {
        side: Side::Host,
        checks: checks::metas(),
        monitors: monitors::ids(),
    }
}
