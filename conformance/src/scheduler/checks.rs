//! Scenarios by section, in the order in which reports list them.

pub mod continuity;
pub mod encoding;
pub mod host_failure;
pub mod kube;
pub mod manifests;
pub mod placement;
pub mod references;
pub mod registration;
pub mod replicas;
pub mod rollout;
pub mod start;
pub mod status;
pub mod stop;
pub mod wire;

use super::scenario::Scenario;
use crate::check::meta::CheckMeta;

/// Tables of all sections. A table that is missing here is never run.
pub const TABLES: &[&[Scenario]] = &[
    encoding::SCENARIOS,
    wire::SCENARIOS,
    registration::SCENARIOS,
    host_failure::SCENARIOS,
    start::SCENARIOS,
    status::SCENARIOS,
    stop::SCENARIOS,
    placement::SCENARIOS,
    continuity::SCENARIOS,
    replicas::SCENARIOS,
    rollout::SCENARIOS,
    references::SCENARIOS,
    manifests::SCENARIOS,
    kube::SCENARIOS,
];

/// Returns all scenarios.
pub fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    TABLES.iter().flat_map(|table| table.iter())
}

/// Returns the declarations of all scenarios, in the order of the tables.
pub fn metas() -> Vec<&'static CheckMeta> {
    scenarios().map(|scenario| &scenario.meta).collect()
}
