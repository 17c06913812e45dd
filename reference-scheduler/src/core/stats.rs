//! Counts of hosts and workloads by state.

use std::collections::BTreeMap;

use berth_sdk::scheduler::Health;

use super::Scheduler;
use super::workload::Phase;

/// The number of hosts and workloads in each state, including states with 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Hosts that are `alive`, `suspect` or `lost`.
    pub hosts: BTreeMap<&'static str, u64>,
    /// Workloads that are `waiting` for a host, `starting`, `running`, `completed`, `failed`, or
    /// `terminating`, which means that they are stopped here before they start on another host.
    pub workloads: BTreeMap<&'static str, u64>,
    /// Pending stops.
    pub stops: u64,
}

impl Scheduler {
    /// Counts hosts and workloads, in linear time: for occasional use, not for every step.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats {
            hosts: ["alive", "suspect", "lost"].map(|state| (state, 0)).into(),
            workloads: [
                "waiting",
                "starting",
                "running",
                "completed",
                "failed",
                "terminating",
            ]
            .map(|state| (state, 0))
            .into(),
            stops: 0,
        };
        for (_, host) in self.fleet.iter() {
            let state = match host.health {
                Health::Alive => "alive",
                Health::Suspect => "suspect",
                Health::Lost => "lost",
            };
            *stats.hosts.entry(state).or_default() += 1;
            stats.stops += host.stops.len() as u64;
        }
        for (_, workload) in self.workloads.iter() {
            let state = match workload.phase {
                Phase::Waiting => "waiting",
                Phase::Unrecorded | Phase::Starting | Phase::Accepted => "starting",
                Phase::Running => "running",
                Phase::Completed => "completed",
                Phase::Failed { .. } => "failed",
                Phase::Terminating => "terminating",
            };
            *stats.workloads.entry(state).or_default() += 1;
        }
        stats
    }
}
