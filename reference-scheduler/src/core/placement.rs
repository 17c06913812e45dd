//! Chooses hosts for workloads: filters out hosts that do not fit, and ranks the remaining hosts.
//!
//! A function of the constraints, the fleet and the time, without randomness. A workload that fits
//! no host waits under its id, with a reason.

mod constraints;
mod feasible_hosts;
pub(super) mod filter;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) use self::constraints::SchedulingConstraints;
pub(super) use self::feasible_hosts::FeasibleHosts;

use super::Scheduler;
use super::fleet::Fleet;
use super::work_queue::WorkItem;

/// Maximum number of hosts, for each image of a workload, that have the image and are compared with
/// the best host.
const MAX_IMAGE_HOSTS: usize = 64;

/// The distribution of one owner's replicas over hosts, which decides where new replicas go.
#[derive(Debug, Default)]
pub(super) struct Spread {
    /// Number of replicas on each host.
    replicas_on_host: BTreeMap<u32, u32>,
    /// Number of hosts with each number of replicas.
    hosts_by_count: BTreeMap<u32, u32>,
}

impl Spread {
    pub fn count(&self, host: u32) -> u32 {
        self.replicas_on_host.get(&host).copied().unwrap_or(0)
    }

    pub fn add(&mut self, host: u32) {
        let count = self.count(host);
        self.update_count(host, count, count + 1);
    }

    pub fn remove(&mut self, host: u32) {
        let count = self.count(host);
        self.update_count(host, count, count.saturating_sub(1));
    }

    fn update_count(&mut self, host: u32, from: u32, to: u32) {
        if let Some(hosts) = self.hosts_by_count.get_mut(&from) {
            *hosts -= 1;
            if *hosts == 0 {
                self.hosts_by_count.remove(&from);
            }
        }
        match to {
            0 => self.replicas_on_host.remove(&host),
            _ => self.replicas_on_host.insert(host, to),
        };
        if to > 0 {
            *self.hosts_by_count.entry(to).or_default() += 1;
        }
    }

    /// Returns the limits of replicas on a host to try in turn, smallest first, when one of
    /// `host_count` hosts is chosen.
    fn replica_limits(&self, host_count: usize) -> impl Iterator<Item = u32> {
        let zero = (self.replicas_on_host.len() < host_count).then_some(0);
        // Replicas may also be on further hosts. In this case the limit 0 may be skipped even if
        // one of these hosts has no replicas; the next limit then finds that host.
        zero.into_iter().chain(self.hosts_by_count.keys().copied())
    }
}

impl Scheduler {
    /// Returns whether the discovery period and the takeover are over.
    pub(super) fn may_place(&self) -> bool {
        let is_open = self.placement_opens_at.is_some_and(|at| self.now >= at);
        is_open && self.takeover.is_over(self.now)
    }

    /// Places the waiting workloads in the order of their indexes.
    pub(super) fn place_waiting(&mut self) {
        if !self.may_place() {
            let opens_at = self.placement_opens_at.into_iter();
            let at = opens_at.chain(self.takeover.lasts_until(self.now)).max();
            let at = at.filter(|at| self.now < *at);
            return self.queue.reschedule(WorkItem::Placement, at);
        }
        let mut rejected: BTreeMap<Arc<SchedulingConstraints>, Arc<str>> = BTreeMap::new();
        for workload in std::mem::take(&mut self.waiting) {
            self.place_workload(workload, &mut rejected);
        }
    }

    fn place_workload(
        &mut self,
        workload_index: u32,
        rejected: &mut BTreeMap<Arc<SchedulingConstraints>, Arc<str>>,
    ) {
        let Some(workload) = self
            .workloads
            .get(workload_index)
            .filter(|workload| workload.needs_host() && !self.is_orphaned(workload_index))
        else {
            return self.queue.enqueue(WorkItem::Workload(workload_index));
        };
        let constraints = workload.constraints.clone();
        if let Some(reason) = rejected.get(&constraints) {
            return self.mark_unschedulable(workload_index, reason.clone());
        }
        let images: Vec<_> = workload.images().map(str::to_owned).collect();
        match self.choose(workload_index, &constraints, &images) {
            Some(host) => self.bind(workload_index, host),
            None => {
                let reason: Arc<str> = filter::explain(&constraints, &self.fleet, self.now).into();
                rejected.insert(constraints, reason.clone());
                self.mark_unschedulable(workload_index, reason);
            }
        }
    }

    /// Chooses a host by these criteria, in this order: the workload has not failed there recently,
    /// few replicas of the same owner, memory and processor time left, few workloads, the image is
    /// present.
    ///
    /// Figures of heartbeats are up to 30 s old and fluctuate, so they only decide between hosts
    /// with equally many replicas and never gather all replicas on one host (SCHED-PLACE-010,
    /// SCHED-PLACE-011).
    fn choose(
        &mut self,
        workload_index: u32,
        constraints: &Arc<SchedulingConstraints>,
        images: &[String],
    ) -> Option<u32> {
        let no_spread = Spread::default();
        let no_hosts = BTreeMap::new();
        let set = self
            .set_index_of(workload_index)
            .and_then(|set| self.sets.get(set));
        let spread = set.map_or(&no_spread, |set| &set.spread);
        let workload = self.workloads.get(workload_index);
        let avoided = match set {
            Some(set) => &set.avoided,
            None => workload.map_or(&no_hosts, |workload| &workload.avoided),
        };
        let now = self.now;
        let avoided: BTreeSet<u32> = avoided
            .iter()
            .filter(|(_, until)| **until > now)
            .map(|(host, _)| *host)
            .collect();
        let hosts = self.feasible_hosts.ranking(constraints, &self.fleet, now);
        let best = hosts.best(&self.fleet, spread, &avoided)?;
        // Among equal hosts, prefer a host that has the image.
        let is_equal = |host: &u32| {
            let load = self.fleet.get(*host).map(super::fleet::Host::load);
            let equal = load == Some(best.load) && spread.count(*host) <= best.replica_limit;
            equal && !avoided.contains(host) && self.feasible_hosts.has(constraints, *host)
        };
        let hosts = images
            .iter()
            .filter_map(|image| self.image_hosts.get(image));
        let mut hosts = hosts.flat_map(|hosts| hosts.keys().take(MAX_IMAGE_HOSTS));
        Some(
            hosts
                .find(|host| is_equal(host))
                .copied()
                .unwrap_or(best.host),
        )
    }

    fn mark_unschedulable(&mut self, workload_index: u32, reason: Arc<str>) {
        let now = self.now;
        let Some(workload) = self.workloads.get_mut(workload_index) else {
            return;
        };
        if workload.cached.object.is_none() {
            // The object is created without an assignment. The reason is in its first status.
            return self.queue.enqueue(WorkItem::Workload(workload_index));
        }
        self.waiting.insert(workload_index);
        if !workload.set_unschedulable(now, reason.clone()) {
            return;
        }
        let (key, uid) = (workload.key.clone(), workload.uid.to_string());
        self.record_warning(key, uid, "Unschedulable", reason.to_string());
        self.queue.enqueue(WorkItem::Workload(workload_index));
    }
}

/// Returns whether any host satisfies these constraints.
pub(super) fn fits_anywhere(
    constraints: &SchedulingConstraints,
    fleet: &Fleet,
    now: std::time::Duration,
) -> bool {
    let mut hosts = fleet.schedulable.iter().filter_map(|host| fleet.get(*host));
    hosts.any(|host| filter::rejection_reason(constraints, host, now).is_none())
}
