//! Placement: filters the hosts, then picks the least loaded one. A pure function.

use std::collections::BTreeMap;

use berth_sdk::scheduler::{Health, HostView};

/// Constraints of a workload on its host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Constraints {
    pub labels: BTreeMap<String, String>,
    pub environment: String,
    pub host_id: String,
}

/// Returns the best host, or the reason why none fits. `placed` counts the workloads that this
/// scheduler has on each host, because heartbeats lag behind. The host `avoid` is chosen only if no
/// other host fits.
pub fn place(
    constraints: &Constraints,
    hosts: &[HostView],
    placed: &BTreeMap<String, usize>,
    avoid: &str,
) -> Result<String, String> {
    let feasible = hosts.iter().filter(|host| fits(constraints, host));
    let best = feasible.min_by_key(|host| {
        let id = host.heartbeat.id.as_str();
        let load = placed.get(id).copied().unwrap_or_default();
        (id == avoid, host.health != Health::Alive, load, id)
    });
    best.map(|host| host.heartbeat.id.clone())
        .ok_or_else(|| format!("0 of {} hosts fit", hosts.len()))
}

fn fits(constraints: &Constraints, host: &HostView) -> bool {
    let heartbeat = &host.heartbeat;
    let mut labels = constraints.labels.iter();
    host.health != Health::Lost
        && (constraints.host_id.is_empty() || constraints.host_id == heartbeat.id)
        && (constraints.environment.is_empty() || constraints.environment == heartbeat.environment)
        && labels.all(|(name, value)| heartbeat.labels.get(name) == Some(value))
}
