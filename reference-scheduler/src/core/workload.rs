//! One Workload object and its incarnations: the id under which it runs, where, and how it does.
//!
//! What must outlive this process is written down before it is acted upon: the host and the id before
//! the start, an id that is still to be stopped before the object goes.

mod contact;
mod draft;
mod life;
mod noted;
mod report;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(super) use self::contact::Contact;

use self::draft::Draft;
use self::noted::Noted;

use super::agenda::Item;
use super::backoff::Backoff;
use super::kept::Kept;
use super::placement::Shape;
use super::{MetadataPatch, Scheduler, Status, Write, WriteError};
use crate::api::{self, Key, Kind, Object, WorkloadStatus, names};
use crate::breakage::Breakage;

/// How often the reason why a workload waits is written anew when only its wording changes.
const REASON_INTERVAL: Duration = Duration::from_secs(30);

/// What is known of one Workload object.
#[derive(Debug)]
pub(super) struct Workload {
    pub key: Key,
    /// Empty until the store has given one.
    pub uid: Arc<str>,
    pub kept: Kept<api::Workload>,
    /// What is being created, until it is.
    draft: Option<Draft>,
    /// The uid of the replica set that it belongs to.
    pub owner: Option<Arc<str>>,
    pub shape: Arc<Shape>,
    revision: Option<Box<str>>,
    /// It is to be deleted, whether or not the store has heard of that.
    pub unwanted: bool,
    pub place: Option<Place>,
    pub phase: Phase,
    /// What the host said last, or what is wrong.
    pub message: String,
    /// Why there is no host for it, and when that was written.
    refused: Option<(Duration, Arc<str>)>,
    /// Why no request can be made of it.
    config_error: Option<String>,
    /// Hosts that it failed on, and until when they are avoided. For those of a set, that keeps them.
    pub avoided: BTreeMap<u32, Duration>,
    backoff: Backoff,
    /// How many ids it had before.
    lives: u32,
    pub contact: Contact,
}

/// A host and the id there.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub host: u32,
    pub id: Arc<str>,
    /// The generation of the object that is placed.
    generation: i64,
    /// What is started, each time the same. Unknown of what an earlier scheduler started.
    content: Option<Arc<api::Workload>>,
    /// Whether the host's load and the owner's spread count it.
    counted: bool,
    /// Its stop was asked for.
    stop_wanted: bool,
    /// Its host has had it.
    was_taken: bool,
    /// How the store knows.
    noted: Noted,
}

impl Place {
    /// One of which nothing more is known than what its status says.
    fn new(host: u32, id: Arc<str>, generation: i64) -> Self {
        Self {
            host,
            id,
            generation,
            content: None,
            counted: false,
            stop_wanted: false,
            was_taken: false,
            noted: Noted::InStatus,
        }
    }

    pub fn is_counted(&self) -> bool {
        self.counted
    }
}

/// How far an incarnation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Without a host.
    Waiting,
    /// With a host that is not written down yet.
    Bound,
    /// A start is to be sent, or is under way, or its fate is unknown.
    Starting,
    /// The host has taken it and is at work.
    Accepted,
    Running,
    Completed,
    /// It does not run and will not by itself. `gone`: the host does not know it any longer.
    Failed {
        gone: bool,
    },
    /// It is being stopped, to be started elsewhere under another id.
    Leaving,
}

impl Workload {
    fn new(key: Key, shape: Arc<Shape>) -> Self {
        Self {
            key,
            uid: "".into(),
            kept: Kept::default(),
            draft: None,
            owner: None,
            shape,
            revision: None,
            unwanted: false,
            place: None,
            phase: Phase::Waiting,
            message: String::new(),
            refused: None,
            config_error: None,
            avoided: BTreeMap::new(),
            backoff: Backoff::default(),
            lives: 0,
            contact: Contact::default(),
        }
    }

    /// The object, also while it is only being created.
    pub fn object(&self) -> Option<&Arc<api::Workload>> {
        let draft = self.draft.as_ref().map(|draft| &draft.object);
        self.kept.object.as_ref().or(draft)
    }

    pub fn is_deleting(&self) -> bool {
        let object = self.kept.object.as_ref();
        object.is_some_and(|object| object.metadata.is_deleting())
    }

    /// Whether it is there to stay.
    pub fn is_wanted(&self) -> bool {
        !self.unwanted && !self.is_deleting()
    }

    /// Whether a host is to be found for it.
    pub fn waits(&self) -> bool {
        let object = self.object();
        let finalized =
            object.is_some_and(|object| object.metadata.has_finalizer(names::WORKLOAD_FINALIZER));
        finalized && self.is_wanted() && self.place.is_none() && self.phase == Phase::Waiting
    }

    /// Whether it is to go and the store does not know yet.
    pub fn is_undeleted(&self) -> bool {
        self.unwanted && !self.is_deleting()
    }

    /// The revision that it was made from.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    pub fn images(&self) -> impl Iterator<Item = &str> {
        let spec = self.object().map(|object| &object.spec);
        let components = spec.into_iter().flat_map(|spec| &spec.components);
        let service = spec.and_then(|spec| spec.service.as_ref());
        let images = components.map(|component| component.image.as_str());
        images.chain(service.map(|service| service.image.as_str()))
    }

    /// Takes note of why no host fits; says whether that is worth telling.
    pub fn refuse(&mut self, now: Duration, reason: Arc<str>) -> bool {
        let told = self.refused.as_ref();
        let known =
            told.is_some_and(|(at, before)| *before == reason || now < *at + REASON_INTERVAL);
        if !known {
            self.refused = Some((now, reason));
        }
        !known
    }

    /// The id of the next incarnation.
    fn next_id(&self) -> Arc<str> {
        match self.lives {
            0 if Breakage::IdsOfItsOwn.is_on() => format!("{}-first", self.uid).into(),
            0 => self.uid.clone(),
            lives => format!("{}-{lives}", self.uid).into(),
        }
    }
}

impl Scheduler {
    /// Whether its replica set is gone, or the deployment of that: the store will take it away, and nothing
    /// new comes of it.
    pub(super) fn is_orphan(&self, workload: u32) -> bool {
        let owner = self
            .workloads
            .get(workload)
            .and_then(|it| it.owner.as_ref());
        owner.is_some_and(|_| match self.set_of(workload) {
            Some(set) => self.is_orphan_set(set),
            None => true,
        })
    }

    /// The replica set of a workload, by number.
    pub(super) fn set_of(&self, workload: u32) -> Option<u32> {
        let owner = self.workloads.get(workload)?.owner.as_ref()?;
        self.sets_by_uid.get(owner).copied()
    }

    fn shape_of(&mut self, object: &api::Workload) -> Arc<Shape> {
        let shape = Shape::of(object, self.options.allow_shared_hosts);
        if let Some(known) = self.shapes.get(&shape) {
            return known.clone();
        }
        let shape = Arc::new(shape);
        self.shapes.insert(shape.clone());
        shape
    }

    pub(super) fn apply_workload(&mut self, object: Arc<api::Workload>) {
        let key = Object::Workload(object.clone()).key();
        let known = self.workloads.number(&key);
        let other = known
            .and_then(|number| self.workloads.get(number))
            .filter(|record| !record.uid.is_empty() && *record.uid != *object.metadata.uid);
        if let Some(other) = other {
            if other.kept.outdates(&object.metadata, |it| &it.metadata) {
                return;
            }
            let uid = self.workload_uid(known);
            self.workload_removed(&key, &uid);
        }
        let number = match self.workloads.number(&key) {
            Some(number) => number,
            None => {
                let shape = self.shape_of(&object);
                self.workloads
                    .insert(key.clone(), Workload::new(key, shape))
            }
        };
        self.accept_workload(number, object);
    }

    fn workload_uid(&self, number: Option<u32>) -> String {
        let record = number.and_then(|number| self.workloads.get(number));
        record.map_or_else(String::new, |record| record.uid.to_string())
    }

    fn accept_workload(&mut self, number: u32, object: Arc<api::Workload>) {
        let owner = owner_of(&object);
        let known = self.workloads.get(number).map(|record| {
            let before = record.kept.object.as_ref();
            let generation = before.map(|before| before.metadata.generation);
            (generation == Some(object.metadata.generation)).then(|| record.shape.clone())
        });
        let shape = known.flatten().unwrap_or_else(|| self.shape_of(&object));
        let Some(record) = self.workloads.get_mut(number) else {
            return;
        };
        let first = record.kept.object.is_none();
        let stayed = record.is_wanted();
        if !record
            .kept
            .accept(object.clone(), |workload| &workload.metadata)
        {
            return;
        }
        record.draft = None;
        record.shape = shape;
        record.revision = revision_of(&object);
        record.uid = object.metadata.uid.as_str().into();
        let before = std::mem::replace(&mut record.owner, owner.clone());
        if before != owner || first {
            self.reown(number, before, owner);
        }
        if stayed && object.metadata.is_deleting() {
            self.deleted_elsewhere(number);
        }
        if first && !self.is_created_there(number, &object) {
            self.adopt(number, &object);
        }
        self.share_content(number, &object);
        self.workload_changed(number);
    }

    /// What was started and what the store has now are one object, if they are the same.
    fn share_content(&mut self, number: u32, object: &Arc<api::Workload>) {
        let record = self.workloads.get_mut(number);
        let place = record.and_then(|record| record.place.as_mut());
        let Some(content) = place.and_then(|place| place.content.as_mut()) else {
            return;
        };
        let (before, now) = (&content.metadata, &object.metadata);
        let same = (before.generation == now.generation || content.spec == object.spec)
            && content.metadata.annotations == object.metadata.annotations
            && content.metadata.labels == object.metadata.labels;
        if same {
            *content = object.clone();
        }
    }

    fn reown(&mut self, number: u32, before: Option<Arc<str>>, owner: Option<Arc<str>>) {
        if let Some(before) = before
            && let Some(members) = self.members.get_mut(&before)
        {
            members.remove(&number);
        }
        if let Some(owner) = owner {
            self.members.entry(owner).or_default().insert(number);
        }
    }

    /// The store tells that an object is gone. What it ran is stopped all the same.
    pub(super) fn workload_removed(&mut self, key: &Key, uid: &str) {
        let Some(number) = self.workloads.number(key) else {
            return;
        };
        let stale = self
            .workloads
            .get(number)
            .is_some_and(|record| !uid.is_empty() && *record.uid != *uid);
        if stale {
            return;
        }
        self.uncount(number);
        let set = self.set_of(number);
        self.deleted_elsewhere(number);
        let Some(record) = self.workloads.remove(key) else {
            return;
        };
        self.waiting.remove(&number);
        self.stranded.remove(&number);
        self.agenda.look_again(Item::Workload(number), None);
        if let Some(members) = record
            .owner
            .as_ref()
            .and_then(|owner| self.members.get_mut(owner))
        {
            members.remove(&number);
        }
        if let Some(place) = &record.place
            && record.may_run()
        {
            let at = record.contact.stop_after();
            self.want_stop(place.host, &place.id, None, at);
        }
        if let Some(set) = set {
            self.set_changed(set);
        }
    }

    /// It is to go. Its replacement may come at once.
    pub(super) fn discard(&mut self, number: u32) {
        if let Some(record) = self.workloads.get_mut(number) {
            record.unwanted = true;
        }
        self.uncount(number);
        self.waiting.remove(&number);
        self.stranded.remove(&number);
        self.agenda.look_at(Item::Workload(number));
    }

    pub(super) fn look_at_workload(&mut self, number: u32) {
        let asked = self.advance(number);
        let written = self.write_workload(number);
        let wake = asked.into_iter().chain(written).min();
        self.agenda.look_again(Item::Workload(number), wake);
    }

    /// Writes what is to be written next, or says when to look again.
    fn write_workload(&mut self, number: u32) -> Option<Duration> {
        let now = self.now;
        let record = self.workloads.get(number)?;
        if !record.kept.is_free(now) {
            return record.kept.free_at(now);
        }
        let item = Item::Workload(number);
        let key = record.key.clone();
        let Some(object) = record.kept.object.as_ref() else {
            return self.create_workload(number);
        };
        let uid = object.metadata.uid.clone();
        let finalizer = names::WORKLOAD_FINALIZER;
        let finalized = object.metadata.has_finalizer(finalizer);
        let mut patch = MetadataPatch::default();
        if object.metadata.is_deleting() {
            if finalized && record.place.is_none() {
                patch.remove_finalizer = Some(finalizer);
                self.write(item, Write::Metadata { key, uid, patch });
            }
            return None;
        }
        if record.unwanted || self.is_garbage(record) {
            self.write(item, Write::Delete { key, uid });
            return None;
        }
        if !finalized {
            patch.add_finalizer = Some(finalizer);
            self.write(item, Write::Metadata { key, uid, patch });
            return None;
        }
        // What has only begun to wait has a host in a moment, and is written about then.
        if record.phase == Phase::Waiting && record.refused.is_none() {
            return None;
        }
        let held_until = record.answered_by().filter(|_| !self.ending);
        if let Some(at) = held_until.filter(|at| now < *at) {
            return Some(at);
        }
        if record.is_hint() {
            return None;
        }
        let status = self.wanted_workload_status(number)?;
        let status = Status::Workload(status);
        self.write(item, Write::status(key, uid, status));
        None
    }

    fn is_garbage(&self, record: &Workload) -> bool {
        let owner = record.owner.as_ref();
        self.options.collect_garbage
            && owner.is_some_and(|owner| !self.sets_by_uid.contains_key(owner))
    }

    pub(super) fn workload_written(
        &mut self,
        number: u32,
        result: Result<Arc<api::Workload>, WriteError>,
    ) {
        let (now, retry) = (self.now, self.options.timings.write_retry);
        let Some(record) = self.workloads.get_mut(number) else {
            return;
        };
        record.kept.end(now, retry, result.as_ref().err());
        let (key, uid) = (record.key.clone(), record.uid.to_string());
        match result {
            Ok(object) => self.accept_workload(number, object),
            Err(WriteError::NotFound) if record.draft.is_none() => {
                self.workload_removed(&key, &uid)
            }
            Err(WriteError::Exists) => {
                if let Some(draft) = &mut record.draft {
                    draft.ghost_since = Some(now);
                }
            }
            Err(WriteError::Refused(message)) if record.draft.is_some() => {
                self.creation_refused(number, &key, message);
            }
            Err(_) => {}
        }
        self.agenda.look_at(Item::Workload(number));
    }
}

/// The uid of the replica set that controls an object.
fn owner_of(object: &api::Workload) -> Option<Arc<str>> {
    let owner = object.metadata.controller()?;
    let ours = owner.kind == Kind::WorkloadReplicaSet.as_str();
    ours.then(|| owner.uid.as_str().into())
}

/// The revision of a replica set's template that an object was made from.
fn revision_of(object: &api::Workload) -> Option<Box<str>> {
    let revision = object
        .metadata
        .annotations
        .get(names::REVISION_ANNOTATION)?;
    Some(revision.as_str().into())
}

/// The status of an object, or an empty one.
fn status_of(object: &api::Workload) -> WorkloadStatus {
    object.status.clone().unwrap_or_default()
}
