//! How many there are of what.

use std::collections::BTreeMap;

use berth_sdk::scheduler::Health;

use super::Scheduler;
use super::workload::Phase;

/// How many hosts and workloads are in which state. Each state is there, also with 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Hosts that are `alive`, `suspect` or `lost`.
    pub hosts: BTreeMap<&'static str, u64>,
    /// Workloads that are `waiting` for a host, `starting`, `running`, `completed`, `failed`, or `leaving` for
    /// another host.
    pub workloads: BTreeMap<&'static str, u64>,
    /// Ids that are still to be stopped.
    pub stops: u64,
}

impl Scheduler {
    /// Counts. Takes as long as there are hosts and workloads: for now and then, not for each step.
    pub fn census(&self) -> Census {
        let mut census = Census {
            hosts: ["alive", "suspect", "lost"].map(|it| (it, 0)).into(),
            workloads: [
                "waiting",
                "starting",
                "running",
                "completed",
                "failed",
                "leaving",
            ]
            .map(|it| (it, 0))
            .into(),
            stops: 0,
        };
        for (_, host) in self.fleet.iter() {
            let word = match host.health {
                Health::Alive => "alive",
                Health::Suspect => "suspect",
                Health::Lost => "lost",
            };
            *census.hosts.entry(word).or_default() += 1;
            census.stops += host.stops.len() as u64;
        }
        for (_, workload) in self.workloads.iter() {
            let word = match workload.phase {
                Phase::Waiting => "waiting",
                Phase::Bound | Phase::Starting | Phase::Accepted => "starting",
                Phase::Running => "running",
                Phase::Completed => "completed",
                Phase::Failed { .. } => "failed",
                Phase::Leaving => "leaving",
            };
            *census.workloads.entry(word).or_default() += 1;
        }
        census
    }
}
