//! The feasible hosts for each set of constraints, least loaded first, cached so that placement
//! does not scan the fleet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::constraints::SchedulingConstraints;
use super::{Spread, filter};
use crate::core::fleet::{Fleet, Host, HostLoad};

/// Maximum number of cached rankings: enough, because most fleets have few combinations of
/// selectors and interfaces.
const MAX_RANKINGS: usize = 64;

/// The rankings of recently used constraints.
#[derive(Debug, Default)]
pub(in crate::core) struct FeasibleHosts {
    rankings: BTreeMap<Arc<SchedulingConstraints>, RankedHosts>,
    /// Number of uses of all rankings.
    use_count: u64,
}

/// The feasible hosts for one set of constraints, by load. A host whose load has grown is reindexed
/// when a search finds it under its old load; a host whose load has shrunk is reindexed at once.
#[derive(Debug, Default)]
pub(super) struct RankedHosts {
    hosts: BTreeSet<(HostLoad, u32)>,
    loads: BTreeMap<u32, HostLoad>,
    /// Value of `use_count` at the most recent use; the ranking with the smallest value is evicted
    /// first.
    last_use: u64,
}

/// The chosen host, with the criteria that decided.
#[derive(Debug)]
pub(super) struct Choice {
    pub host: u32,
    pub load: HostLoad,
    /// Maximum number of replicas of the same owner on the host.
    pub replica_limit: u32,
}

impl FeasibleHosts {
    /// Returns the ranking for these constraints, from the cache if possible.
    pub(super) fn ranking(
        &mut self,
        constraints: &Arc<SchedulingConstraints>,
        fleet: &Fleet,
        now: Duration,
    ) -> &mut RankedHosts {
        self.use_count += 1;
        if self.rankings.len() >= MAX_RANKINGS && !self.rankings.contains_key(constraints) {
            let rankings = self.rankings.iter();
            let oldest = rankings.min_by_key(|(_, ranking)| ranking.last_use);
            if let Some(oldest) = oldest.map(|(constraints, _)| constraints.clone()) {
                self.rankings.remove(&oldest);
            }
        }
        let ranking = self.rankings.entry(constraints.clone()).or_insert_with(|| {
            let mut ranking = RankedHosts::default();
            for (host_index, host) in fleet.iter() {
                ranking.refresh(constraints, host_index, Some(host), now);
            }
            ranking
        });
        ranking.last_use = self.use_count;
        ranking
    }

    /// Returns whether any host is feasible.
    pub fn any(
        &mut self,
        constraints: &Arc<SchedulingConstraints>,
        fleet: &Fleet,
        now: Duration,
    ) -> bool {
        !self.ranking(constraints, fleet, now).loads.is_empty()
    }

    /// Returns whether a host is in the cached ranking for these constraints.
    pub(super) fn has(&self, constraints: &Arc<SchedulingConstraints>, host: u32) -> bool {
        let ranking = self.rankings.get(constraints);
        ranking.is_some_and(|ranking| ranking.loads.contains_key(&host))
    }

    /// Updates all rankings after a change of a host's filter inputs or a decrease of its load.
    pub fn refresh(&mut self, host_index: u32, fleet: &Fleet, now: Duration) {
        for (constraints, ranking) in &mut self.rankings {
            ranking.refresh(constraints, host_index, fleet.get(host_index), now);
        }
    }

    pub fn forget(&mut self, host_index: u32) {
        for ranking in self.rankings.values_mut() {
            ranking.remove(host_index);
        }
    }
}

impl RankedHosts {
    fn refresh(
        &mut self,
        constraints: &SchedulingConstraints,
        host_index: u32,
        host: Option<&Host>,
        now: Duration,
    ) {
        let fitting =
            host.filter(|host| filter::rejection_reason(constraints, host, now).is_none());
        match fitting {
            Some(host) => self.reindex(host_index, host.load()),
            None => self.remove(host_index),
        }
    }

    fn reindex(&mut self, host_index: u32, load: HostLoad) {
        let before = self.loads.insert(host_index, load);
        if before != Some(load) {
            if let Some(before) = before {
                self.hosts.remove(&(before, host_index));
            }
            self.hosts.insert((load, host_index));
        }
    }

    fn remove(&mut self, host_index: u32) {
        if let Some(load) = self.loads.remove(&host_index) {
            self.hosts.remove(&(load, host_index));
        }
    }

    /// Returns the host with the fewest replicas of the owner, and among equal hosts the least
    /// loaded host. Avoided hosts come last.
    pub fn best(
        &mut self,
        fleet: &Fleet,
        spread: &Spread,
        avoided: &BTreeSet<u32>,
    ) -> Option<Choice> {
        let host_count = self.loads.len();
        for avoided in [avoided, &BTreeSet::new()] {
            for replica_limit in spread.replica_limits(host_count) {
                if let Some(choice) = self.least_loaded(fleet, spread, replica_limit, avoided) {
                    return Some(choice);
                }
            }
            if avoided.is_empty() {
                break;
            }
        }
        None
    }

    fn least_loaded(
        &mut self,
        fleet: &Fleet,
        spread: &Spread,
        replica_limit: u32,
        avoided: &BTreeSet<u32>,
    ) -> Option<Choice> {
        let mut from = (HostLoad::MIN, 0);
        while let Some((indexed_load, host)) = self.hosts.range(from..).next().copied() {
            let load = fleet.get(host).map_or(HostLoad::MAX, Host::load);
            if load != indexed_load {
                self.reindex(host, load);
                continue;
            }
            if spread.count(host) <= replica_limit && !avoided.contains(&host) {
                return Some(Choice {
                    host,
                    load,
                    replica_limit,
                });
            }
            from = (indexed_load, host + 1);
        }
        None
    }
}
