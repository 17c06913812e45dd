//! Which host a workload gets: first what may not be, then what is best.
//!
//! A function of what is wanted, of the fleet and of time; no chance. What fits nowhere waits under its
//! id, and says why.

mod candidates;
pub(super) mod filter;
mod shape;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) use self::candidates::Candidates;
pub(super) use self::shape::Shape;

use super::Scheduler;
use super::agenda::Item;
use super::fleet::Fleet;

/// Hosts with an image that are looked at for one that is as good as the best.
const MAX_IMAGE_HOSTS: usize = 64;

/// How the replicas of one owner are spread: what new ones go by.
#[derive(Debug, Default)]
pub(super) struct Spread {
    /// How many are on each host.
    pub on_host: BTreeMap<u32, u32>,
    /// How many hosts have how many.
    hosts_with: BTreeMap<u32, u32>,
}

impl Spread {
    pub fn count(&self, host: u32) -> u32 {
        self.on_host.get(&host).copied().unwrap_or(0)
    }

    pub fn add(&mut self, host: u32) {
        let count = self.count(host);
        self.refile(host, count, count + 1);
    }

    pub fn remove(&mut self, host: u32) {
        let count = self.count(host);
        self.refile(host, count, count.saturating_sub(1));
    }

    fn refile(&mut self, host: u32, from: u32, to: u32) {
        if let Some(hosts) = self.hosts_with.get_mut(&from) {
            *hosts -= 1;
            if *hosts == 0 {
                self.hosts_with.remove(&from);
            }
        }
        match to {
            0 => self.on_host.remove(&host),
            _ => self.on_host.insert(host, to),
        };
        if to > 0 {
            *self.hosts_with.entry(to).or_default() += 1;
        }
    }

    /// The numbers of replicas that a host may have to be chosen, least first, for a choice of `hosts`.
    fn levels(&self, hosts: usize) -> impl Iterator<Item = u32> {
        let none = (self.on_host.len() < hosts).then_some(0);
        // The hosts that have some may be others than those to choose from, hence the zero at the end
        // of all attempts, too: it costs a search when there is nothing to be found anyway.
        none.into_iter().chain(self.hosts_with.keys().copied())
    }
}

impl Scheduler {
    /// Whether hosts have had time to be heard.
    pub(super) fn may_place(&self) -> bool {
        self.synced && self.gathered_at.is_some_and(|at| self.now >= at)
    }

    /// Places what waits, in the order in which it came.
    pub(super) fn place_waiting(&mut self) {
        let opens_at = self.gathered_at;
        if !self.may_place() {
            let at = opens_at.filter(|at| self.now < *at);
            return self.agenda.look_again(Item::Placement, at);
        }
        let mut refused: BTreeMap<Arc<Shape>, Arc<str>> = BTreeMap::new();
        for workload in std::mem::take(&mut self.waiting) {
            self.place(workload, &mut refused);
        }
    }

    fn place(&mut self, number: u32, refused: &mut BTreeMap<Arc<Shape>, Arc<str>>) {
        let Some(workload) = self
            .workloads
            .get(number)
            .filter(|workload| workload.waits() && !self.is_orphan(number))
        else {
            return self.agenda.look_at(Item::Workload(number));
        };
        let shape = workload.shape.clone();
        if let Some(reason) = refused.get(&shape) {
            return self.refuse_placement(number, reason.clone());
        }
        let images: Vec<_> = workload.images().map(str::to_owned).collect();
        match self.choose(number, &shape, &images) {
            Some(host) => self.bind(number, host),
            None => {
                let reason: Arc<str> = filter::explain(&shape, &self.fleet, self.now).into();
                refused.insert(shape, reason.clone());
                self.refuse_placement(number, reason);
            }
        }
    }

    /// The scores, the first that tells deciding: hosts where this workload did not fail lately, few
    /// replicas of the same owner, memory and processor time left, few workloads, the image being there already.
    ///
    /// What heartbeats say of a machine is up to 30 s old and jumps: it decides between hosts with equally many
    /// replicas, and never gathers all replicas on one (SCHED-PLACE-010, SCHED-PLACE-011).
    fn choose(&mut self, number: u32, shape: &Arc<Shape>, images: &[String]) -> Option<u32> {
        let none = Spread::default();
        let nowhere = BTreeMap::new();
        let set = self.set_of(number).and_then(|set| self.sets.get(set));
        let spread = set.map_or(&none, |set| &set.spread);
        let workload = self.workloads.get(number);
        let avoided = match set {
            Some(set) => &set.avoided,
            None => workload.map_or(&nowhere, |workload| &workload.avoided),
        };
        let now = self.now;
        let avoided: BTreeSet<u32> = avoided
            .iter()
            .filter(|(_, until)| **until > now)
            .map(|(host, _)| *host)
            .collect();
        let hosts = self.candidates.of(shape, &self.fleet, now);
        let best = hosts.best(&self.fleet, spread, &avoided)?;
        // Among equals, one that has the image.
        let is_equal = |host: &u32| {
            let burden = self.fleet.get(*host).map(super::fleet::Host::burden);
            let equal = burden == Some(best.burden) && spread.count(*host) <= best.level;
            equal && !avoided.contains(host) && self.candidates.has(shape, *host)
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

    fn refuse_placement(&mut self, number: u32, reason: Arc<str>) {
        let now = self.now;
        let Some(workload) = self.workloads.get_mut(number) else {
            return;
        };
        if workload.kept.object.is_none() {
            // Without a place it is created, and then people can be told why.
            return self.agenda.look_at(Item::Workload(number));
        }
        self.waiting.insert(number);
        if !workload.refuse(now, reason.clone()) {
            return;
        }
        let (key, uid) = (workload.key.clone(), workload.uid.to_string());
        self.warn(key, uid, "Unschedulable", reason.to_string());
        self.agenda.look_at(Item::Workload(number));
    }
}

/// Whether there is any host for something of this shape.
pub(super) fn fits_anywhere(shape: &Shape, fleet: &Fleet, now: std::time::Duration) -> bool {
    let mut hosts = fleet.usable.iter().filter_map(|host| fleet.get(*host));
    hosts.any(|host| filter::refusal(shape, host, now).is_none())
}
