//! Decides what runs where: one state machine over the objects of a store and the hosts on a bus.
//!
//! No I/O, no clock, no chance: the shell hands in what happened and when, and carries out the actions
//! that come back. The same events at the same times give the same actions.
//!
//! It goes by what there is, not by what has changed: an event changes what is known and puts what it
//! touches on the agenda; looking at an item brings it one step nearer to what it should be. So a lost
//! answer, a late watch or a new scheduler in the middle of things need no cases of their own.

mod action;
mod agenda;
mod artifact;
mod backoff;
mod call;
mod census;
mod deployment;
mod event;
mod fleet;
mod host_object;
mod kept;
mod options;
mod placement;
mod replica_set;
mod stop;
mod table;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use berth_sdk::scheduler::Health;
use berth_sdk::scheduler::liveness::{self, Liveness};

pub use self::action::{
    Action, CallId, Command, MetadataPatch, Note, NoteKind, Status, Write, WriteId,
};
pub use self::census::Census;
pub use self::event::{Event, HostReport, Outcome, WriteError};
pub use self::options::{Options, Timings};

use self::agenda::{Agenda, Item};
use self::artifact::ArtifactRecord;
use self::call::Call;
use self::deployment::Deployment;
use self::fleet::Fleet;
use self::host_object::HostObject;
use self::placement::{Candidates, Shape};
use self::replica_set::ReplicaSet;
use self::table::Table;
use self::workload::Workload;
use crate::api::{Key, Kind, Object, Timestamp};

/// The scheduler's mind. See the module.
#[derive(Debug)]
pub struct Scheduler {
    options: Options,
    now: Duration,
    synced: bool,
    bus_up: bool,
    /// When hosts have had time to be heard, so that placing may begin.
    gathered_at: Option<Duration>,
    fleet: Fleet,
    host_objects: Table<HostObject>,
    artifacts: Table<ArtifactRecord>,
    deployments: Table<Deployment>,
    deployments_by_uid: BTreeMap<Arc<str>, u32>,
    sets: Table<ReplicaSet>,
    sets_by_uid: BTreeMap<Arc<str>, u32>,
    /// The replica sets of a deployment, by its uid.
    sets_of: BTreeMap<Arc<str>, BTreeSet<u32>>,
    workloads: Table<Workload>,
    /// The workloads of a replica set, by its uid.
    members: BTreeMap<Arc<str>, BTreeSet<u32>>,
    /// Workloads without a host.
    waiting: BTreeSet<u32>,
    /// Workloads on lost hosts that have nowhere to go.
    stranded: BTreeSet<u32>,
    candidates: Candidates,
    shapes: BTreeSet<Arc<Shape>>,
    /// On which hosts an image is, and in how many workloads.
    image_hosts: BTreeMap<String, BTreeMap<u32, u32>>,
    agenda: Agenda,
    calls: BTreeMap<CallId, Call>,
    next_call: u64,
    writes: BTreeMap<WriteId, Item>,
    next_write: u64,
    ticked_at: Option<Duration>,
    ending: bool,
    actions: Vec<Action>,
}

impl Scheduler {
    /// One that knows nothing yet.
    pub fn new(options: Options) -> Self {
        Self {
            fleet: Fleet::new(&options),
            options,
            now: Duration::ZERO,
            synced: false,
            bus_up: false,
            gathered_at: None,
            host_objects: Table::default(),
            artifacts: Table::default(),
            deployments: Table::default(),
            deployments_by_uid: BTreeMap::new(),
            sets: Table::default(),
            sets_by_uid: BTreeMap::new(),
            sets_of: BTreeMap::new(),
            workloads: Table::default(),
            members: BTreeMap::new(),
            waiting: BTreeSet::new(),
            stranded: BTreeSet::new(),
            candidates: Candidates::default(),
            shapes: BTreeSet::new(),
            image_hosts: BTreeMap::new(),
            agenda: Agenda::default(),
            calls: BTreeMap::new(),
            next_call: 0,
            writes: BTreeMap::new(),
            next_write: 0,
            ticked_at: None,
            ending: false,
            actions: Vec::new(),
        }
    }

    /// Takes in what happened at `now`, on any clock that never goes back, and says what to do.
    pub fn step(&mut self, now: Duration, event: Event) -> Vec<Action> {
        self.now = self.now.max(now);
        match event {
            Event::Applied(object) => self.apply(object),
            Event::Removed { key, uid } => self.removed(&key, &uid),
            Event::Synced => self.begin(),
            Event::Written { write_id, result } => self.written(write_id, result),
            Event::Heartbeat(report) => self.heartbeat(report),
            Event::Answered { call_id, outcome } => self.answered(call_id, outcome),
            Event::BusUp => self.bus_is_up(),
            Event::BusDown => {
                self.bus_up = false;
                self.pulse(liveness::Event::LinkDown);
            }
            Event::Ending => self.end(),
            Event::Tick => {}
        }
        self.tick();
        self.agenda.advance(self.now);
        if self.synced {
            self.look_around();
        }
        std::mem::take(&mut self.actions)
    }

    /// When the next [`Event::Tick`] is due, if nothing else happens before; that time may have passed.
    pub fn next_wake(&self) -> Option<Duration> {
        let agenda = self.agenda.next_due().filter(|_| self.synced);
        let pulse = self.fleet.liveness.next_due().map(|due| {
            let soonest = self
                .ticked_at
                .map_or(Duration::ZERO, |at| at + Liveness::TICK);
            due.max(soonest)
        });
        agenda.into_iter().chain(pulse).min()
    }

    fn end(&mut self) {
        self.ending = true;
        let workloads = self.workloads.iter();
        let held_back = workloads.filter(|(_, workload)| workload.answered_by().is_some());
        for number in held_back.map(|(number, _)| number).collect::<Vec<_>>() {
            self.agenda.look_at(Item::Workload(number));
        }
    }

    /// How a host does, if it is known.
    pub fn health(&self, host_id: &str) -> Option<Health> {
        let number = self.fleet.number(host_id)?;
        self.fleet.get(number).map(|host| host.health)
    }

    /// The times by which it goes.
    pub fn timings(&self) -> &Timings {
        &self.options.timings
    }

    /// All is told. What the sets have is counted before deployments go by it.
    fn begin(&mut self) {
        self.synced = true;
        let sets: Vec<u32> = self.sets.iter().map(|(number, _)| number).collect();
        for set in sets {
            self.count_set(set);
        }
    }

    fn look_around(&mut self) {
        while let Some(item) = self.agenda.next() {
            match item {
                Item::Host(number) => self.look_at_host_object(number),
                Item::Stops(host) => self.look_at_stops(host),
                Item::Artifact(number) => self.look_at_artifact(number),
                Item::Deployment(number) => self.look_at_deployment(number),
                Item::Set(number) => self.look_at_set(number),
                Item::Workload(number) => self.look_at_workload(number),
                Item::Placement => self.look_at_placement(),
            }
        }
    }

    fn look_at_placement(&mut self) {
        for number in self.fleet.release_held(self.now) {
            self.host_changed(number);
        }
        for number in self.stranded.clone() {
            self.workload_changed(number);
        }
        self.place_waiting();
        if let Some((at, _)) = self.fleet.held.first() {
            self.agenda.look_by(Item::Placement, *at);
        }
    }

    fn tick(&mut self) {
        let due = self.fleet.liveness.next_due();
        let soonest = self.ticked_at.map(|at| at + Liveness::TICK);
        if due.is_some_and(|due| due <= self.now) && soonest.is_none_or(|at| at <= self.now) {
            self.ticked_at = Some(self.now);
            self.pulse(liveness::Event::Tick);
        }
    }

    fn bus_is_up(&mut self) {
        self.bus_up = true;
        self.pulse(liveness::Event::LinkUp);
        let gathered = self.now + self.options.timings.gather;
        if self.gathered_at.is_none() {
            self.gathered_at = Some(gathered);
            self.agenda.look_by(Item::Placement, gathered);
        }
        let workloads: Vec<u32> = self.workloads.iter().map(|(number, _)| number).collect();
        for number in workloads {
            if let Some(workload) = self.workloads.get_mut(number) {
                workload.contact.begin_again(self.now);
            }
            self.agenda.look_at(Item::Workload(number));
        }
        for (number, _) in self.fleet.iter() {
            self.agenda.look_at(Item::Stops(number));
        }
    }

    fn apply(&mut self, object: Object) {
        match object {
            Object::Host(host) => self.apply_host_object(host),
            Object::Workload(workload) => self.apply_workload(workload),
            Object::ReplicaSet(set) => self.apply_set(set),
            Object::Deployment(deployment) => self.apply_deployment(deployment),
            Object::Artifact(artifact) => self.apply_artifact(artifact),
        }
    }

    fn removed(&mut self, key: &Key, uid: &str) {
        match key.kind {
            Kind::Host => self.host_object_removed(key),
            Kind::Workload => self.workload_removed(key, uid),
            Kind::WorkloadReplicaSet => self.set_removed(key, uid),
            Kind::WorkloadDeployment => self.deployment_removed(key, uid),
            Kind::Artifact => self.artifact_removed(key),
        }
    }

    /// Asks for a write on behalf of an item, which has none under way.
    fn write(&mut self, item: Item, write: Write) {
        self.next_write += 1;
        let write_id = WriteId(self.next_write);
        match item {
            Item::Host(number) => begin(
                self.host_objects.get_mut(number),
                |it| &mut it.kept,
                write_id,
            ),
            Item::Artifact(number) => {
                begin(self.artifacts.get_mut(number), |it| &mut it.kept, write_id)
            }
            Item::Deployment(number) => begin(
                self.deployments.get_mut(number),
                |it| &mut it.kept,
                write_id,
            ),
            Item::Set(number) => begin(self.sets.get_mut(number), |it| &mut it.kept, write_id),
            Item::Workload(number) => {
                begin(self.workloads.get_mut(number), |it| &mut it.kept, write_id)
            }
            Item::Stops(_) | Item::Placement => {}
        }
        self.writes.insert(write_id, item);
        self.actions.push(Action::Write { write_id, write });
    }

    fn written(&mut self, write_id: WriteId, result: Result<Object, WriteError>) {
        let Some(item) = self.writes.remove(&write_id) else {
            return;
        };
        // What asked for it may be gone, and its number may stand for something else by now, be it of the same
        // name. What was written is gone as well then, or the watch tells of it.
        if !self.is_writing(item, write_id) {
            return;
        }
        match (item, result) {
            (Item::Host(number), Ok(Object::Host(host))) => {
                self.host_object_written(number, Ok(host))
            }
            (Item::Host(number), Err(error)) => self.host_object_written(number, Err(error)),
            (Item::Artifact(number), Ok(Object::Artifact(artifact))) => {
                self.artifact_written(number, Ok(artifact));
            }
            (Item::Artifact(number), Err(error)) => self.artifact_written(number, Err(error)),
            (Item::Deployment(number), Ok(Object::Deployment(deployment))) => {
                self.deployment_written(number, Ok(deployment));
            }
            (Item::Deployment(number), Err(error)) => self.deployment_written(number, Err(error)),
            (Item::Set(number), Ok(Object::ReplicaSet(set))) => self.set_written(number, Ok(set)),
            (Item::Set(number), Err(error)) => self.set_written(number, Err(error)),
            (Item::Workload(number), Ok(Object::Workload(workload))) => {
                self.workload_written(number, Ok(workload));
            }
            (Item::Workload(number), Err(error)) => self.workload_written(number, Err(error)),
            _ => {}
        }
    }

    fn is_writing(&self, item: Item, write_id: WriteId) -> bool {
        match item {
            Item::Host(number) => {
                is_writing(self.host_objects.get(number), |it| &it.kept, write_id)
            }
            Item::Artifact(number) => {
                is_writing(self.artifacts.get(number), |it| &it.kept, write_id)
            }
            Item::Deployment(number) => {
                is_writing(self.deployments.get(number), |it| &it.kept, write_id)
            }
            Item::Set(number) => is_writing(self.sets.get(number), |it| &it.kept, write_id),
            Item::Workload(number) => {
                is_writing(self.workloads.get(number), |it| &it.kept, write_id)
            }
            Item::Stops(_) | Item::Placement => false,
        }
    }

    fn note(&mut self, note: Note) {
        self.actions.push(Action::Note(note));
    }

    fn warn(&mut self, key: Key, uid: String, reason: &'static str, message: String) {
        self.note(Note {
            key,
            uid,
            kind: NoteKind::Warning,
            reason,
            message,
        });
    }

    /// The time to be written down.
    fn timestamp(&self) -> Timestamp {
        Timestamp::from_unix(self.options.epoch + self.now)
    }

    /// Whether there is a host for something of this shape now.
    fn has_candidates(&mut self, shape: &Arc<Shape>) -> bool {
        self.candidates.any(shape, &self.fleet, self.now)
    }
}

fn begin<R, T>(record: Option<&mut R>, kept: fn(&mut R) -> &mut kept::Kept<T>, write_id: WriteId) {
    if let Some(record) = record {
        kept(record).begin(write_id);
    }
}

fn is_writing<R, T>(record: Option<&R>, kept: fn(&R) -> &kept::Kept<T>, write_id: WriteId) -> bool {
    record.is_some_and(|record| kept(record).is_writing(write_id))
}
