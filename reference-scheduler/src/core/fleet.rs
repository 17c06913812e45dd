//! The hosts of the fleet: heartbeat, health, workloads and pending stops. Times are durations
//! since an arbitrary start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use berth_proto::HostHeartbeat;
use berth_sdk::scheduler::liveness::{self, Liveness};
use berth_sdk::scheduler::{Health, Reason};

use super::in_flight::InFlightCall;
use super::pending_stops::PendingStop;
use super::surplus::Surplus;
use super::work_queue::WorkItem;
use super::{Command, ObjectEvent, ObjectEventKind, Options, Scheduler};
use crate::api;

/// Maximum number of known hosts. Heartbeats of hosts beyond this number are ignored, because
/// they are probably forged.
const MAX_HOSTS: usize = 20_000;

/// Label with the maximum number of workloads of a host.
pub(super) const MAX_WORKLOADS_LABEL: &str = "berth.dev/max-workloads";

/// CPU usage at which a machine counts as exhausted: below 100 percent, because the kernel and
/// jitter use the remaining idle time.
const EXHAUSTED_CPU_PERCENT: f32 = 95.0;

/// A machine with less than this fraction (1/64) of its memory free counts as exhausted. The
/// fraction is small because hosts count caches as used memory.
const EXHAUSTED_MEMORY_DIVISOR: u64 = 64;

/// The id that a probe queries on a host without workloads.
const PROBE_ID: &str = "berth-probe";

/// All hosts. An index is never reused.
#[derive(Debug)]
pub(super) struct Fleet {
    hosts: Vec<Option<Box<Host>>>,
    by_id: BTreeMap<Arc<str>, u32>,
    pub liveness: Liveness,
    /// Hosts that accept new workloads.
    pub schedulable: BTreeSet<u32>,
    /// Cordoned hosts, by the end of the cordon.
    pub cordoned: BTreeSet<(Duration, u32)>,
}

/// One host, which is one process: a new process usually has a new id.
#[derive(Debug)]
pub(super) struct Host {
    pub id: Arc<str>,
    /// The most recent heartbeat; `None` for a host that is only known from the store.
    pub last_heartbeat: Option<Box<HostHeartbeat>>,
    pub health: Health,
    pub reason: Option<Reason>,
    pub lost_at: Duration,
    /// Index of its Host object.
    pub object: Option<u32>,
    /// The final state of its deleted Host object.
    pub tombstone: Option<Arc<api::Host>>,
    /// Whether the Host object describes this host rather than another host of the same name. This
    /// does not affect placement.
    pub owns_object: bool,
    /// When its Host object was deleted, which drains the host.
    pub drained_since: Option<Duration>,
    /// End of the cordon.
    pub cordoned_until: Duration,
    /// Starts that the host has not replied to.
    pub starts_in_flight: u32,
    /// Workloads that are assigned to the host and wanted.
    pub workloads: BTreeSet<u32>,
    /// Pending stops, by id.
    pub stops: BTreeMap<Arc<str>, PendingStop>,
    /// Workloads that the host runs beyond the known ones.
    pub surplus: Surplus,
}

impl Host {
    fn new(id: Arc<str>) -> Self {
        Self {
            id,
            last_heartbeat: None,
            health: Health::Alive,
            reason: None,
            lost_at: Duration::ZERO,
            object: None,
            tombstone: None,
            owns_object: false,
            drained_since: None,
            cordoned_until: Duration::ZERO,
            starts_in_flight: 0,
            workloads: BTreeSet::new(),
            stops: BTreeMap::new(),
            surplus: Surplus::None,
        }
    }

    pub fn is_lost(&self) -> bool {
        self.health == Health::Lost
    }

    /// Returns whether the host limits the number of its workloads.
    pub fn is_limited(&self) -> bool {
        let heartbeat = self.last_heartbeat.as_ref();
        heartbeat.is_some_and(|heartbeat| heartbeat.labels.contains_key(MAX_WORKLOADS_LABEL))
    }

    /// Returns the number of workloads that are assigned to the host.
    pub fn workload_count(&self) -> u32 {
        u32::try_from(self.workloads.len()).unwrap_or(u32::MAX)
    }

    /// Returns the load, which ranks otherwise equal hosts.
    pub fn load(&self) -> HostLoad {
        let heartbeat = self.last_heartbeat.as_ref();
        HostLoad {
            is_exhausted: heartbeat.is_some_and(|heartbeat| is_exhausted(heartbeat)),
            workload_count: self.workload_count(),
        }
    }
}

/// The load of a host; less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HostLoad {
    /// Whether the machine was short of memory or processor time at its last heartbeat.
    pub is_exhausted: bool,
    pub workload_count: u32,
}

impl HostLoad {
    pub const MIN: Self = Self {
        is_exhausted: false,
        workload_count: 0,
    };
    pub const MAX: Self = Self {
        is_exhausted: true,
        workload_count: u32::MAX,
    };
}

/// Returns whether the machine is short of memory or processor time (SCHED-PLACE-011). A missing
/// figure does not count against a host.
fn is_exhausted(heartbeat: &HostHeartbeat) -> bool {
    heartbeat.system_cpu_usage >= EXHAUSTED_CPU_PERCENT
        || heartbeat.system_memory_free < heartbeat.system_memory_total / EXHAUSTED_MEMORY_DIVISOR
}

impl Fleet {
    pub fn new(options: &Options) -> Self {
        let liveness = liveness::LivenessOptions {
            forget_after: options.timings.forget_lost_after,
            ..options.timings.liveness
        };
        Self {
            hosts: Vec::new(),
            by_id: BTreeMap::new(),
            liveness: Liveness::new(liveness),
            schedulable: BTreeSet::new(),
            cordoned: BTreeSet::new(),
        }
    }

    /// Removes and returns the hosts whose cordon has ended.
    pub fn release_cordoned(&mut self, now: Duration) -> Vec<u32> {
        let mut released = Vec::new();
        while let Some((at, host_index)) = self.cordoned.pop_first() {
            if at > now {
                self.cordoned.insert((at, host_index));
                break;
            }
            released.push(host_index);
        }
        released
    }

    pub fn get(&self, host_index: u32) -> Option<&Host> {
        self.hosts.get(host_index as usize)?.as_deref()
    }

    pub fn get_mut(&mut self, host_index: u32) -> Option<&mut Host> {
        self.hosts.get_mut(host_index as usize)?.as_deref_mut()
    }

    pub fn index(&self, id: &str) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Host)> {
        let indexes = self.by_id.values();
        indexes.filter_map(|index| Some((*index, self.get(*index)?)))
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    fn insert(&mut self, id: &str) -> u32 {
        let host_index = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
        let id: Arc<str> = id.into();
        self.by_id.insert(id.clone(), host_index);
        self.hosts.push(Some(Box::new(Host::new(id))));
        host_index
    }

    fn remove(&mut self, host_index: u32) -> Option<Host> {
        let host = self.hosts.get_mut(host_index as usize)?.take()?;
        self.by_id.remove(&host.id);
        self.schedulable.remove(&host_index);
        Some(*host)
    }
}

impl Scheduler {
    /// Returns the index of a host that an object refers to, and adds an unknown host, as `lost` or
    /// alive.
    pub(super) fn ensure_host(&mut self, id: &str, lost: bool) -> u32 {
        if let Some(host_index) = self.fleet.index(id) {
            return host_index;
        }
        let host_index = self.fleet.insert(id);
        if let Some(host) = self.fleet.get_mut(host_index).filter(|_| lost) {
            (host.health, host.lost_at) = (Health::Lost, self.now);
        }
        let host = id.to_owned();
        self.step_liveness(liveness::Event::Known { host, lost });
        host_index
    }

    pub(super) fn on_heartbeat(&mut self, heartbeat: Box<HostHeartbeat>) {
        let known = self.fleet.index(&heartbeat.id);
        if known.is_none() && self.fleet.len() >= MAX_HOSTS {
            return;
        }
        let host_index = known.unwrap_or_else(|| self.fleet.insert(&heartbeat.id));
        let Some(host) = self.fleet.get_mut(host_index) else {
            return;
        };
        let host_id = heartbeat.id.clone();
        // SCHED-REG-008: the workloads of the previous process are gone, regardless of its last
        // heartbeats.
        let restarted = host.last_heartbeat.as_ref().is_some_and(|before| {
            before.started_at.is_some()
                && heartbeat.started_at.is_some()
                && before.started_at != heartbeat.started_at
        });
        let changed = host.last_heartbeat.as_ref().is_none_or(|before| {
            before.labels != heartbeat.labels
                || before.environment != heartbeat.environment
                || before.http_port != heartbeat.http_port
                || before.imports != heartbeat.imports
                || before.exports != heartbeat.exports
                || is_exhausted(before) != is_exhausted(&heartbeat)
        });
        host.last_heartbeat = Some(heartbeat);
        self.await_host_no_longer(host_index);
        self.step_liveness(liveness::Event::Heartbeat { host: host_id });
        self.assign_host_object(host_index);
        if restarted {
            self.on_host_restarted(host_index);
        }
        if changed {
            self.on_host_changed(host_index);
        }
        self.check_surplus(host_index);
    }

    /// Handles a new process under the id of a host: the workloads of the previous process are gone
    /// and need no stop.
    fn on_host_restarted(&mut self, host_index: u32) {
        let workloads = self
            .fleet
            .get(host_index)
            .map(|host| host.workloads.clone());
        for workload in workloads.unwrap_or_default() {
            self.mark_gone(workload);
        }
    }

    /// Passes an event to liveness and carries out the resulting actions.
    pub(super) fn step_liveness(&mut self, event: liveness::Event) {
        for action in self.fleet.liveness.step(self.now, event) {
            match action {
                liveness::Action::Probe { host } => self.probe(&host),
                liveness::Action::SetHealth {
                    host,
                    health,
                    reason,
                } => self.set_health(&host, health, reason),
                liveness::Action::Forget { host } => self.forget(&host),
            }
        }
    }

    fn set_health(&mut self, id: &str, health: Health, reason: Option<Reason>) {
        let now = self.now;
        let Some(host_index) = self.fleet.index(id) else {
            return;
        };
        let Some(host) = self.fleet.get_mut(host_index) else {
            return;
        };
        let previous = std::mem::replace(&mut host.health, health);
        host.reason = reason;
        if health == Health::Lost {
            host.lost_at = now;
        }
        if health == Health::Lost || previous == Health::Lost {
            self.enqueue_workloads_of_host(host_index);
            self.queue.enqueue(WorkItem::Stops(host_index));
            self.record_health_event(host_index, health, reason);
        }
        self.on_host_changed(host_index);
    }

    fn record_health_event(&mut self, host_index: u32, health: Health, reason: Option<Reason>) {
        let Some(host) = self.fleet.get(host_index) else {
            return;
        };
        let message = match (health, reason) {
            (Health::Lost, Some(Reason::NoResponders)) => "no responders for its id",
            (Health::Lost, _) => "no heartbeat and no reply for too long",
            _ => "heartbeats have resumed",
        };
        let (kind, reason) = match health {
            Health::Lost => (ObjectEventKind::Warning, "HostLost"),
            _ => (ObjectEventKind::Normal, "HostRecovered"),
        };
        if let Some(object) = host.object.and_then(|object| self.host_objects.get(object)) {
            let (key, uid) = (object.key.clone(), object.uid());
            let message = format!("host {}: {message}", host.id);
            self.record_event(ObjectEvent {
                key,
                uid,
                kind,
                reason,
                message,
            });
        }
    }

    /// Enqueues the workloads of a host and their replica sets.
    pub(super) fn enqueue_workloads_of_host(&mut self, host_index: u32) {
        let Some(host) = self.fleet.get(host_index) else {
            return;
        };
        for workload in &host.workloads {
            self.queue.enqueue(WorkItem::Workload(*workload));
            if let Some(set) = self.set_index_of(*workload) {
                self.queue.enqueue(WorkItem::Set(set));
            }
        }
    }

    /// Handles a change of a host that affects placement.
    pub(super) fn on_host_changed(&mut self, host_index: u32) {
        let now = self.now;
        let Some(host) = self.fleet.get(host_index) else {
            return;
        };
        if let Some(object) = host.object {
            self.queue.enqueue(WorkItem::HostObject(object));
        }
        let schedulable = host.health == Health::Alive
            && host.last_heartbeat.is_some()
            && host.drained_since.is_none()
            && now >= host.cordoned_until;
        if schedulable {
            self.fleet.schedulable.insert(host_index);
        } else {
            self.fleet.schedulable.remove(&host_index);
        }
        self.feasible_hosts.refresh(host_index, &self.fleet, now);
        if !self.waiting.is_empty() || schedulable {
            let at = now + self.options.timings.placement_delay;
            self.queue.enqueue_at(WorkItem::Placement, at);
        }
    }

    /// Probes a host with a status query for its least recently polled workload. Without a
    /// workload, the query is for [`PROBE_ID`].
    fn probe(&mut self, id: &str) {
        let Some(host) = self.fleet.index(id) else {
            return;
        };
        let polled = self.least_recently_polled(host);
        let (id, workload) = match polled {
            Some((id, workload)) => (id, Some(workload)),
            None => (PROBE_ID.into(), None),
        };
        let call = InFlightCall::probe(host, id.clone(), workload);
        let timeout = self.options.timings.status_timeout;
        self.call(call, Command::Status { id }, timeout);
    }

    /// Forgets a host after it was lost for a long time. One with pending stops is kept for longer,
    /// because its workloads would run forever after its return.
    fn forget(&mut self, id: &str) {
        let Some(host_index) = self.fleet.index(id) else {
            return;
        };
        let remember_stops_for = self.options.timings.remember_stops_for;
        if let Some(host) = self.fleet.get(host_index)
            && !host.stops.is_empty()
            && self.now < host.lost_at + remember_stops_for
        {
            let (host, lost) = (id.to_owned(), true);
            return self.step_liveness(liveness::Event::Known { host, lost });
        }
        self.enqueue_workloads_of_host(host_index);
        let Some(host) = self.fleet.remove(host_index) else {
            return;
        };
        self.feasible_hosts.forget(host_index);
        for stop in host.stops.into_values() {
            if let Some(waiter) = stop.waiter {
                self.queue.enqueue(waiter);
            }
        }
        self.on_host_forgotten(host_index);
    }
}
