//! Scenarios by section, in the order in which reports list them.

pub mod artifacts;
pub mod continuity;
pub mod encoding;
pub mod host_failure;
pub mod intake;
pub mod kube;
pub mod manifests;
pub mod object_status;
pub mod placement;
pub mod placement_fit;
pub mod placement_waiting;
pub mod pull_secrets;
pub mod recreate;
pub mod references;
pub mod registration;
pub mod replica_changes;
pub mod replica_choice;
pub mod replicas;
pub mod rollout;
pub mod rollout_blocked;
pub mod slow_start;
pub mod start;
pub mod start_ids;
pub mod start_outcomes;
pub mod status;
pub mod stop;
pub mod stop_replies;
pub mod stop_scope;
pub mod wire;

use super::scenario::Scenario;
use crate::check::meta::CheckMeta;

/// Tables of all sections. A table that is missing here is never run.
pub const TABLES: &[&[Scenario]] = &[
    encoding::SCENARIOS,
    wire::SCENARIOS,
    intake::SCENARIOS,
    registration::SCENARIOS,
    host_failure::SCENARIOS,
    start::SCENARIOS,
    slow_start::SCENARIOS,
    start_ids::SCENARIOS,
    start_outcomes::SCENARIOS,
    status::SCENARIOS,
    stop::SCENARIOS,
    stop_scope::SCENARIOS,
    stop_replies::SCENARIOS,
    placement::SCENARIOS,
    placement_fit::SCENARIOS,
    placement_waiting::SCENARIOS,
    continuity::SCENARIOS,
    replicas::SCENARIOS,
    replica_choice::SCENARIOS,
    replica_changes::SCENARIOS,
    rollout::SCENARIOS,
    rollout_blocked::SCENARIOS,
    recreate::SCENARIOS,
    references::SCENARIOS,
    pull_secrets::SCENARIOS,
    manifests::SCENARIOS,
    artifacts::SCENARIOS,
    object_status::SCENARIOS,
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
