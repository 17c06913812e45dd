//! Judges schedulers: the suite plays a fleet of hosts on the bus, each with a connection of its own, gives
//! the scheduler its work through an intake, and looks at what the hosts get and what the scheduler says.
//!
//! Where things are:
//!
//! | module | what |
//! |---|---|
//! | [`scenario`], `checks` | the checks: const tables of scenarios, one file a section |
//! | [`cx`] | what the body of a scenario works with |
//! | [`host`] | a simulated host: its look, its script, its life |
//! | [`journal`] | what the hosts of one scenario saw and did: the evidence |
//! | [`intake`], [`manifest`] | how work is given to a scheduler: `dir`, `exec`, `kube` |
//! | [`target`], [`timing`] | what is judged, and by which times |
//! | [`stage`], [`run`], [`suite`] | broker, scheduler and chorus; the run; the library entry |
//! | [`monitor`] | judges of every frame that the scheduler publishes |
//! | [`model`] | the model scheduler, its mutants and legal variants |
//!
//! A scenario has a host group of its own (`cx.group()`), names (`cx.name`) and images (`cx.image`) of its own;
//! its manifests select its group, so that scenarios share one scheduler. Whoever takes the broker away or kills
//! the scheduler has both for himself: `place: Own`.

pub mod behavior;
pub mod checks;
pub mod context;
pub mod environment;
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
