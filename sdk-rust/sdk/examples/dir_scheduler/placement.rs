//! On which host a workload goes. Pure: conditions first, then the host that has least to do.

use std::collections::BTreeMap;

use berth_sdk::scheduler::{Health, HostView};

/// What a workload asks of its host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    pub labels: BTreeMap<String, String>,
    pub environment: String,
    pub host_id: String,
}

/// The best host, or why there is none. `placed` says how many workloads this scheduler has on each host:
/// heartbeats say so too late. The host to `avoid` is taken when no other fits.
pub fn place(
    wanted: &Conditions,
    hosts: &[HostView],
    placed: &BTreeMap<String, usize>,
    avoid: &str,
) -> Result<String, String> {
    let fits = hosts.iter().filter(|host| is_met(wanted, host));
    let best = fits.min_by_key(|host| {
        let id = host.heartbeat.id.as_str();
        let load = placed.get(id).copied().unwrap_or_default();
        (id == avoid, host.health != Health::Alive, load, id)
    });
    best.map(|host| host.heartbeat.id.clone())
        .ok_or_else(|| format!("0 of {} hosts fit", hosts.len()))
}

fn is_met(wanted: &Conditions, host: &HostView) -> bool {
    let said = &host.heartbeat;
    let mut labels = wanted.labels.iter();
    host.health != Health::Lost
        && (wanted.host_id.is_empty() || wanted.host_id == said.id)
        && (wanted.environment.is_empty() || wanted.environment == said.environment)
        && labels.all(|(name, value)| said.labels.get(name) == Some(value))
}
