//! The sections: every table of scenarios, in the order in which reports show them.

pub mod cont;
pub mod crd;
pub mod enc;
pub mod fail;
pub mod kube;
pub mod place;
pub mod references;
pub mod reg;
pub mod roll;
pub mod scale;
pub mod start;
pub mod status;
pub mod stop;

use crate::scheduler::scenario::Scenario;

/// All tables. A section that is missing here does not exist.
pub const TABLES: &[&[Scenario]] = &[
    enc::SCENARIOS,
    reg::SCENARIOS,
    fail::SCENARIOS,
    start::SCENARIOS,
    status::SCENARIOS,
    stop::SCENARIOS,
    place::SCENARIOS,
    cont::SCENARIOS,
    scale::SCENARIOS,
    roll::SCENARIOS,
    references::SCENARIOS,
    crd::SCENARIOS,
    kube::SCENARIOS,
];

/// All scenarios.
pub fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    TABLES.iter().flat_map(|table| table.iter())
}
