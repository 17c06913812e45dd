//! Judges schedulers. The suite simulates a fleet of hosts on the bus, each with its own
//! connection, submits workloads to the scheduler through an intake, and checks the commands that
//! the hosts receive and the status that the scheduler reports.
//!
//! | module | contents |
//! |---|---|
//! | [`scenario`], [`checks`] | the checks: const tables of scenarios, one file per section |
//! | [`context`] | the API that the body of a scenario uses |
//! | [`simulated_host`] | a simulated host: its configuration and its scripted reactions |
//! | [`behavior`] | behaviors of simulated hosts over time, for manual tests |
//! | [`journal`] | the events of the hosts of one scenario, which are the evidence of its claims |
//! | [`excerpt`] | the operations and events that the report of a failure shows |
//! | [`intake`], [`manifest`] | the intakes `dir`, `exec` and `kube`, and the submitted objects |
//! | [`target`], [`timings`] | the scheduler that is judged, and its time limits |
//! | [`environment`] | the broker, the scheduler, and hosts that belong to no running scenario |
//! | [`runner`], [`suite`] | the run of the scenarios, and the suite as a library |
//! | [`monitors`] | rules for every frame that the scheduler publishes |
//! | [`preflight`] | the canary workload before the first check |
//!
//! Each scenario has its own host group (`cx.group()`), object names (`cx.name`) and images
//! (`cx.image`). Its manifests select its host group, so that scenarios can share a scheduler. A
//! scenario that disconnects the broker or kills the scheduler declares `isolation: Own`, and then
//! has a broker and a scheduler of its own.

pub mod behavior;
pub mod checks;
pub mod context;
pub mod environment;
pub mod excerpt;
pub mod intake;
pub mod journal;
pub mod manifest;
pub mod monitors;
pub mod preflight;
pub mod runner;
pub mod scenario;
pub mod simulated_host;
pub mod suite;
pub mod target;
pub mod timings;

pub use self::checks::scenarios;
pub use self::monitors::MONITORS;
pub use self::suite::Suite;

use crate::check::catalog::Catalog;
use crate::check::side::Side;

/// Returns the scenarios and monitors of schedulers.
pub fn catalog() -> Catalog {
    Catalog {
        side: Side::Scheduler,
        checks: checks::metas(),
        monitors: monitors::MONITORS.to_vec(),
    }
}
