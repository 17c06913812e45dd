//! Decides which workloads run on which hosts: one state machine over the objects of a store and
//! the hosts on a bus.
//!
//! Pure: no I/O, no clock, no randomness. The runtime passes in events with their time and carries
//! out the actions that come back. The same events at the same times produce the same actions.
//!
//! Level-triggered, not edge-triggered: events update state and enqueue affected items; processing
//! an item moves it one step toward its desired state. A lost reply, a late watch event or a
//! scheduler that takes over midway therefore needs no special case.
//!
//! Times are durations since an arbitrary start, on any monotonic clock. A `u32` is the index of a
//! record in the `Arena` of its kind, or of a host in the `Fleet`.

mod action;
mod arena;
mod artifact;
mod backoff;
mod cached_object;
mod deployment;
mod event;
mod fleet;
mod host_object;
mod in_flight;
mod options;
mod pending_stops;
mod placement;
mod replica_set;
mod stats;
mod surplus;
mod takeover;
mod work_queue;
mod workload;

pub(crate) use self::replica_set::deployment_label;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use berth_sdk::scheduler::Health;
use berth_sdk::scheduler::liveness::{self, Liveness};

pub use self::action::{
    Action, CallId, Command, MetadataPatch, ObjectEvent, ObjectEventKind, Status, Write, WriteId,
};
pub use self::event::{Event, Outcome, StoreError};
pub use self::options::{Options, Timings};
pub use self::stats::Stats;

use self::arena::Arena;
use self::artifact::ArtifactRecord;
use self::deployment::Deployment;
use self::fleet::Fleet;
use self::host_object::HostObject;
use self::in_flight::InFlightCall;
use self::placement::{FeasibleHosts, SchedulingConstraints};
use self::replica_set::ReplicaSet;
use self::takeover::Takeover;
use self::work_queue::{WorkItem, WorkQueue};
use self::workload::Workload;
use crate::api::{Key, Kind, Object, Timestamp};

/// Matches any UID of an object.
const ANY_UID: &str = "";

/// The decisions of one scheduler. See the module.
#[derive(Debug)]
pub struct Scheduler {
    options: Options,
    now: Duration,
    /// Unix time, and the time at which it was read.
    clock: (Duration, Duration),
    synced: bool,
    bus_connected: bool,
    /// When the discovery period ends and placement begins.
    placement_opens_at: Option<Duration>,
    takeover: Takeover,
    fleet: Fleet,
    host_objects: Arena<HostObject>,
    artifacts: Arena<ArtifactRecord>,
    deployments: Arena<Deployment>,
    deployments_by_uid: BTreeMap<Arc<str>, u32>,
    sets: Arena<ReplicaSet>,
    sets_by_uid: BTreeMap<Arc<str>, u32>,
    /// The replica sets of each deployment, by the uid of the deployment.
    sets_by_deployment: BTreeMap<Arc<str>, BTreeSet<u32>>,
    workloads: Arena<Workload>,
    /// The workloads of each replica set, by the uid of the set.
    members: BTreeMap<Arc<str>, BTreeSet<u32>>,
    /// Workloads without a host.
    waiting: BTreeSet<u32>,
    /// Workloads on lost hosts for which no other host is feasible.
    awaiting_reschedule: BTreeSet<u32>,
    feasible_hosts: FeasibleHosts,
    /// Constraints in use, shared by equal workloads.
    interned_constraints: BTreeSet<Arc<SchedulingConstraints>>,
    /// For each image, the hosts with workloads that use the image, and the number of these
    /// workloads.
    image_hosts: BTreeMap<String, BTreeMap<u32, u32>>,
    queue: WorkQueue,
    calls_in_flight: BTreeMap<CallId, InFlightCall>,
    next_call: u64,
    writes_in_flight: BTreeMap<WriteId, WorkItem>,
    next_write: u64,
    ticked_at: Option<Duration>,
    shutting_down: bool,
    actions: Vec<Action>,
}

impl Scheduler {
    /// Creates a scheduler without any state.
    pub fn new(options: Options) -> Self {
        Self {
            fleet: Fleet::new(&options),
            clock: (options.epoch, Duration::ZERO),
            options,
            now: Duration::ZERO,
            synced: false,
            bus_connected: false,
            placement_opens_at: None,
            takeover: Takeover::default(),
            host_objects: Arena::default(),
            artifacts: Arena::default(),
            deployments: Arena::default(),
            deployments_by_uid: BTreeMap::new(),
            sets: Arena::default(),
            sets_by_uid: BTreeMap::new(),
            sets_by_deployment: BTreeMap::new(),
            workloads: Arena::default(),
            members: BTreeMap::new(),
            waiting: BTreeSet::new(),
            awaiting_reschedule: BTreeSet::new(),
            feasible_hosts: FeasibleHosts::default(),
            interned_constraints: BTreeSet::new(),
            image_hosts: BTreeMap::new(),
            queue: WorkQueue::default(),
            calls_in_flight: BTreeMap::new(),
            next_call: 0,
            writes_in_flight: BTreeMap::new(),
            next_write: 0,
            ticked_at: None,
            shutting_down: false,
            actions: Vec::new(),
        }
    }

    /// Processes an event that happened at `now` and returns the actions to take.
    pub fn step(&mut self, now: Duration, event: Event) -> Vec<Action> {
        self.now = self.now.max(now);
        match event {
            Event::Applied(object) => self.on_applied(object),
            Event::Removed { key, uid } => self.on_removed(&key, &uid),
            Event::Synced => self.on_synced(),
            Event::WriteFinished { write_id, result } => self.on_write_finished(write_id, result),
            Event::Heartbeat(heartbeat) => self.on_heartbeat(heartbeat),
            Event::CallFinished { call_id, outcome } => self.on_call_finished(call_id, outcome),
            Event::BusConnected => self.on_bus_connected(),
            Event::BusDisconnected => {
                self.bus_connected = false;
                self.step_liveness(liveness::Event::Disconnected);
            }
            Event::ShuttingDown => self.on_shutting_down(),
            Event::ClockChanged { unix_time } => self.clock = (unix_time, self.now),
            Event::Tick => {}
        }
        self.tick();
        self.queue.advance(self.now);
        if self.synced {
            self.drain_queue();
        }
        std::mem::take(&mut self.actions)
    }

    /// Returns when the next [`Event::Tick`] is due if no other event comes first. That time may be
    /// in the past.
    pub fn next_wake_at(&self) -> Option<Duration> {
        let queue = self.queue.next_due_at().filter(|_| self.synced);
        let liveness = self.fleet.liveness.next_tick_at().map(|due| {
            let soonest = self
                .ticked_at
                .map_or(Duration::ZERO, |at| at + Liveness::TICK);
            due.max(soonest)
        });
        queue.into_iter().chain(liveness).min()
    }

    fn on_shutting_down(&mut self) {
        self.shutting_down = true;
        let workloads = self.workloads.iter();
        let delayed = workloads.filter(|(_, workload)| workload.status_held_until().is_some());
        for index in delayed.map(|(index, _)| index).collect::<Vec<_>>() {
            self.queue.enqueue(WorkItem::Workload(index));
        }
    }

    /// Returns the health of a host, or `None` for an unknown host.
    pub fn health(&self, host_id: &str) -> Option<Health> {
        let index = self.fleet.index(host_id)?;
        self.fleet.get(index).map(|host| host.health)
    }

    /// Returns the Unix time that objects created or changed at `now` would carry.
    pub fn unix_time_at(&self, now: Duration) -> Duration {
        let (unix_time, read_at) = self.clock;
        unix_time + now.saturating_sub(read_at)
    }

    /// Returns the intervals and timeouts in use.
    pub fn timings(&self) -> &Timings {
        &self.options.timings
    }

    /// Counts the replicas of each set first, because deployments decide by these counts.
    fn on_synced(&mut self) {
        self.synced = true;
        let sets: Vec<u32> = self.sets.iter().map(|(index, _)| index).collect();
        for set in sets {
            self.count_set(set);
            self.restore_fences(set);
        }
        self.begin_takeover();
    }

    fn drain_queue(&mut self) {
        while let Some(item) = self.queue.next() {
            match item {
                WorkItem::HostObject(index) => self.reconcile_host_object(index),
                WorkItem::Stops(host) => self.reconcile_stops(host),
                WorkItem::Artifact(index) => self.reconcile_artifact(index),
                WorkItem::Deployment(index) => self.reconcile_deployment(index),
                WorkItem::Set(index) => self.reconcile_set(index),
                WorkItem::Workload(index) => self.reconcile_workload(index),
                WorkItem::Placement => self.reconcile_placement(),
            }
        }
    }

    fn reconcile_placement(&mut self) {
        for host in self.fleet.release_cordoned(self.now) {
            self.on_host_changed(host);
        }
        for workload in self.awaiting_reschedule.clone() {
            self.on_workload_changed(workload);
        }
        self.place_waiting();
        if let Some((at, _)) = self.fleet.cordoned.first() {
            self.queue.enqueue_at(WorkItem::Placement, *at);
        }
    }

    fn tick(&mut self) {
        let due = self.fleet.liveness.next_tick_at();
        let soonest = self.ticked_at.map(|at| at + Liveness::TICK);
        if due.is_some_and(|due| due <= self.now) && soonest.is_none_or(|at| at <= self.now) {
            self.ticked_at = Some(self.now);
            self.step_liveness(liveness::Event::Tick);
        }
    }

    fn on_bus_connected(&mut self) {
        self.bus_connected = true;
        self.step_liveness(liveness::Event::Connected);
        let discovery_ends_at = self.now + self.options.timings.discovery_period;
        if self.placement_opens_at.is_none() {
            self.placement_opens_at = Some(discovery_ends_at);
            self.queue
                .enqueue_at(WorkItem::Placement, discovery_ends_at);
        }
        self.begin_takeover();
        let workloads: Vec<u32> = self.workloads.iter().map(|(index, _)| index).collect();
        for index in workloads {
            if let Some(workload) = self.workloads.get_mut(index) {
                workload.dispatch.restart_deadlines(self.now);
            }
            self.queue.enqueue(WorkItem::Workload(index));
        }
        for (host, _) in self.fleet.iter() {
            self.queue.enqueue(WorkItem::Stops(host));
        }
    }

    fn on_applied(&mut self, object: Object) {
        match object {
            Object::Host(host) => self.on_host_object_applied(host),
            Object::Workload(workload) => self.on_workload_applied(workload),
            Object::ReplicaSet(set) => self.on_set_applied(set),
            Object::Deployment(deployment) => self.on_deployment_applied(deployment),
            Object::Artifact(artifact) => self.on_artifact_applied(artifact),
        }
    }

    fn on_removed(&mut self, key: &Key, uid: &str) {
        match key.kind {
            Kind::Host => self.on_host_object_removed(key),
            Kind::Workload => self.on_workload_removed(key, uid),
            Kind::WorkloadReplicaSet => self.on_set_removed(key, uid),
            Kind::WorkloadDeployment => self.on_deployment_removed(key, uid),
            Kind::Artifact => self.on_artifact_removed(key, uid),
        }
    }

    /// Starts a write on behalf of an item that has no write in flight.
    fn write(&mut self, item: WorkItem, write: Write) {
        self.next_write += 1;
        let write_id = WriteId(self.next_write);
        match item {
            WorkItem::HostObject(index) => begin_write(
                self.host_objects.get_mut(index),
                |record| &mut record.cached,
                write_id,
            ),
            WorkItem::Artifact(index) => begin_write(
                self.artifacts.get_mut(index),
                |record| &mut record.cached,
                write_id,
            ),
            WorkItem::Deployment(index) => begin_write(
                self.deployments.get_mut(index),
                |record| &mut record.cached,
                write_id,
            ),
            WorkItem::Set(index) => begin_write(
                self.sets.get_mut(index),
                |record| &mut record.cached,
                write_id,
            ),
            WorkItem::Workload(index) => begin_write(
                self.workloads.get_mut(index),
                |record| &mut record.cached,
                write_id,
            ),
            WorkItem::Stops(_) | WorkItem::Placement => {}
        }
        self.writes_in_flight.insert(write_id, item);
        self.actions.push(Action::Write { write_id, write });
    }

    fn on_write_finished(&mut self, write_id: WriteId, result: Result<Object, StoreError>) {
        let Some(item) = self.writes_in_flight.remove(&write_id) else {
            return;
        };
        // The record of the item may have been removed, and its index may belong to another record,
        // even of the same name. In that case the store has removed the written object, or the
        // watch reports it.
        if !self.is_writing(item, write_id) {
            return;
        }
        if let Err(StoreError::Refused(message)) = &result {
            self.on_write_refused(item, message);
        }
        match (item, result) {
            (WorkItem::HostObject(index), Ok(Object::Host(host))) => {
                self.on_host_object_written(index, Ok(host))
            }
            (WorkItem::HostObject(index), Err(error)) => {
                self.on_host_object_written(index, Err(error))
            }
            (WorkItem::Artifact(index), Ok(Object::Artifact(artifact))) => {
                self.on_artifact_written(index, Ok(artifact));
            }
            (WorkItem::Artifact(index), Err(error)) => self.on_artifact_written(index, Err(error)),
            (WorkItem::Deployment(index), Ok(Object::Deployment(deployment))) => {
                self.on_deployment_status_written(index, Ok(deployment));
            }
            (WorkItem::Deployment(index), Err(error)) => {
                self.on_deployment_status_written(index, Err(error))
            }
            (WorkItem::Set(index), Ok(Object::ReplicaSet(set))) => {
                self.on_set_written(index, Ok(set))
            }
            (WorkItem::Set(index), Err(error)) => self.on_set_written(index, Err(error)),
            (WorkItem::Workload(index), Ok(Object::Workload(workload))) => {
                self.on_workload_written(index, Ok(workload));
            }
            (WorkItem::Workload(index), Err(error)) => self.on_workload_written(index, Err(error)),
            _ => {}
        }
    }

    /// Records an event for the first of several refusals in a row to change an object. Refused
    /// creations of sets and workloads are recorded for their owner.
    fn on_write_refused(&mut self, item: WorkItem, message: &str) {
        let object = match item {
            WorkItem::HostObject(index) => {
                let record = self.host_objects.get(index);
                record.and_then(|record| record.cached.refused_object(Object::Host))
            }
            WorkItem::Artifact(index) => {
                let record = self.artifacts.get(index);
                record.and_then(|record| record.cached.refused_object(Object::Artifact))
            }
            WorkItem::Deployment(index) => {
                let record = self.deployments.get(index);
                record.and_then(|record| record.cached.refused_object(Object::Deployment))
            }
            WorkItem::Set(index) => {
                let record = self.sets.get(index);
                record.and_then(|record| record.cached.refused_object(Object::ReplicaSet))
            }
            WorkItem::Workload(index) => {
                let record = self.workloads.get(index);
                record.and_then(|record| record.cached.refused_object(Object::Workload))
            }
            WorkItem::Stops(_) | WorkItem::Placement => None,
        };
        if let Some(object) = object {
            let uid = object.metadata().uid.clone();
            self.record_warning(object.key(), uid, "FailedUpdate", message.to_owned());
        }
    }

    fn is_writing(&self, item: WorkItem, write_id: WriteId) -> bool {
        match item {
            WorkItem::HostObject(index) => {
                is_writing(self.host_objects.get(index), |it| &it.cached, write_id)
            }
            WorkItem::Artifact(index) => {
                is_writing(self.artifacts.get(index), |it| &it.cached, write_id)
            }
            WorkItem::Deployment(index) => {
                is_writing(self.deployments.get(index), |it| &it.cached, write_id)
            }
            WorkItem::Set(index) => is_writing(self.sets.get(index), |it| &it.cached, write_id),
            WorkItem::Workload(index) => {
                is_writing(self.workloads.get(index), |it| &it.cached, write_id)
            }
            WorkItem::Stops(_) | WorkItem::Placement => false,
        }
    }

    fn record_event(&mut self, event: ObjectEvent) {
        self.actions.push(Action::RecordEvent(event));
    }

    fn record_warning(&mut self, key: Key, uid: String, reason: &'static str, message: String) {
        self.record_event(ObjectEvent {
            key,
            uid,
            kind: ObjectEventKind::Warning,
            reason,
            message,
        });
    }

    /// Returns the current time for use in objects.
    fn timestamp(&self) -> Timestamp {
        Timestamp::from_unix(self.unix_time_at(self.now))
    }

    /// Returns whether a host satisfies these constraints now.
    fn has_feasible_host(&mut self, constraints: &Arc<SchedulingConstraints>) -> bool {
        self.feasible_hosts.any(constraints, &self.fleet, self.now)
    }
}

fn begin_write<R, T>(
    record: Option<&mut R>,
    cached: fn(&mut R) -> &mut cached_object::CachedObject<T>,
    write_id: WriteId,
) {
    if let Some(record) = record {
        cached(record).begin_write(write_id);
    }
}

fn is_writing<R, T>(
    record: Option<&R>,
    cached: fn(&R) -> &cached_object::CachedObject<T>,
    write_id: WriteId,
) -> bool {
    record.is_some_and(|record| cached(record).is_writing(write_id))
}
