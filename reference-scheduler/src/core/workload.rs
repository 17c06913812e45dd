//! One Workload object and its incarnations: the current id, host and state.
//!
//! State that must survive this process is written before the core acts on it: the host and the id
//! before the start, a pending stop before the finalizer is removed. Times are durations since an
//! arbitrary start.

mod dispatch;
mod lifecycle;
mod pending_create;
mod placement_record;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(super) use self::dispatch::Dispatch;

use self::pending_create::PendingCreate;
use self::placement_record::PlacementRecord;

use super::backoff::Backoff;
use super::cached_object::CachedObject;
use super::placement::SchedulingConstraints;
use super::work_queue::WorkItem;
use super::{MetadataPatch, Scheduler, Status, StoreError, Write};
use crate::api::{self, Key, Kind, Object, WorkloadStatus, names};
use crate::fault_injection::Breakage;

/// Minimum interval between updates of the reason why a workload waits.
const REASON_INTERVAL: Duration = Duration::from_secs(30);

/// The state of one Workload object.
#[derive(Debug)]
pub(super) struct Workload {
    pub key: Key,
    /// UID of the object; empty until the store has assigned one.
    pub uid: Arc<str>,
    pub cached: CachedObject<api::Workload>,
    /// The object to create, until it is created.
    pending_create: Option<PendingCreate>,
    /// UID of its replica set.
    pub owner: Option<Arc<str>>,
    pub constraints: Arc<SchedulingConstraints>,
    revision: Option<Box<str>>,
    /// Whether its replica set no longer wants it. The object is to be deleted, even if the
    /// deletion is not yet written to the store.
    pub is_discarded: bool,
    pub assignment: Option<Assignment>,
    pub phase: Phase,
    /// The most recent message from the host, or the reason for a failure.
    pub message: String,
    /// Reason why no host fits, and when it was published.
    unschedulable: Option<(Duration, Arc<str>)>,
    /// Reason why no start request can be built.
    config_error: Option<String>,
    /// Hosts on which the workload failed, with the time until which they are avoided. Replicas use
    /// the map of their set.
    pub avoided: BTreeMap<u32, Duration>,
    /// Backoff of its restarts, or of its replacement by its replica set.
    pub backoff: Backoff,
    /// Number of earlier incarnations, each with its own id.
    restarts: u32,
    pub dispatch: Dispatch,
}

/// The host of a workload, and the id under which it runs there.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    pub host: u32,
    pub id: Arc<str>,
    /// Generation of the object for which the host was chosen.
    generation: i64,
    /// The object to start, the same for every attempt; `None` after an adoption.
    content: Option<Arc<api::Workload>>,
    /// Whether the load of the host, and the replica counts per host of the owner, include the
    /// assignment.
    counted: bool,
    /// Whether the stop of the id was requested.
    stop_requested: bool,
    /// Whether the host has accepted the start.
    was_accepted: bool,
    /// Where the store has recorded the assignment.
    record: PlacementRecord,
}

impl Assignment {
    /// Returns an assignment of which only the recorded facts are known.
    fn new(host: u32, id: Arc<str>, generation: i64) -> Self {
        Self {
            host,
            id,
            generation,
            content: None,
            counted: false,
            stop_requested: false,
            was_accepted: false,
            record: PlacementRecord::Status,
        }
    }

    pub fn is_counted(&self) -> bool {
        self.counted
    }
}

/// The phase of an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Without a host.
    Waiting,
    /// With a host that is not recorded in the store yet.
    Unrecorded,
    /// The start is to be sent, is in flight, or has an unknown outcome.
    Starting,
    /// The host has accepted the start and replied STARTING.
    Accepted,
    Running,
    Completed,
    /// Not running, and the host does not restart it. `gone`: the host no longer has the id.
    Failed {
        gone: bool,
    },
    /// Being stopped, to be started under another id.
    Terminating,
}

impl Workload {
    fn new(key: Key, constraints: Arc<SchedulingConstraints>) -> Self {
        Self {
            key,
            uid: "".into(),
            cached: CachedObject::default(),
            pending_create: None,
            owner: None,
            constraints,
            revision: None,
            is_discarded: false,
            assignment: None,
            phase: Phase::Waiting,
            message: String::new(),
            unschedulable: None,
            config_error: None,
            avoided: BTreeMap::new(),
            backoff: Backoff::default(),
            restarts: 0,
            dispatch: Dispatch::default(),
        }
    }

    /// Returns the object, even if the store has not created it yet.
    pub fn object(&self) -> Option<&Arc<api::Workload>> {
        let pending = self.pending_create.as_ref();
        let pending = pending.map(|pending| &pending.object);
        self.cached.object.as_ref().or(pending)
    }

    pub fn is_deleting(&self) -> bool {
        let object = self.cached.object.as_ref();
        object.is_some_and(|object| object.metadata.is_deleting())
    }

    /// Returns whether the workload is neither discarded nor being deleted.
    pub fn is_wanted(&self) -> bool {
        !self.is_discarded && !self.is_deleting()
    }

    /// Returns whether the workload needs a host.
    pub fn needs_host(&self) -> bool {
        let object = self.object();
        let has_finalizer =
            object.is_some_and(|object| object.metadata.has_finalizer(names::WORKLOAD_FINALIZER));
        has_finalizer
            && self.is_wanted()
            && self.assignment.is_none()
            && self.phase == Phase::Waiting
    }

    /// Returns whether the deletion of the workload is not yet written to the store.
    pub fn is_pending_deletion(&self) -> bool {
        self.is_discarded && !self.is_deleting()
    }

    /// Returns the revision of the template.
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

    /// Sets the reason why no host fits, unless it is unchanged or the last one was set less than
    /// [`REASON_INTERVAL`] ago. Returns whether the reason was set and must be published.
    pub fn set_unschedulable(&mut self, now: Duration, reason: Arc<str>) -> bool {
        let published = self.unschedulable.as_ref();
        let is_known =
            published.is_some_and(|(at, before)| *before == reason || now < *at + REASON_INTERVAL);
        if !is_known {
            self.unschedulable = Some((now, reason));
        }
        !is_known
    }

    /// Returns why no host fits, while the workload waits for a host.
    pub fn unschedulable_reason(&self) -> Option<&str> {
        let reason = self.unschedulable.as_ref().filter(|_| self.needs_host());
        reason.map(|(_, reason)| &**reason)
    }

    /// Returns the id of the next incarnation.
    fn next_id(&self) -> Arc<str> {
        match self.restarts {
            0 if Breakage::OwnIds.is_on() => format!("{}-first", self.uid).into(),
            0 => self.uid.clone(),
            restarts => format!("{}-{restarts}", self.uid).into(),
        }
    }
}

impl Scheduler {
    /// Returns whether the replica set of the workload, or the deployment of the set, is gone. The
    /// store will delete the workload, so it is not started again.
    pub(super) fn is_orphaned(&self, workload: u32) -> bool {
        let owner = self
            .workloads
            .get(workload)
            .and_then(|it| it.owner.as_ref());
        owner.is_some_and(|_| match self.set_index_of(workload) {
            Some(set) => self.is_orphaned_set(set),
            None => true,
        })
    }

    /// Returns the index of a workload's replica set.
    pub(super) fn set_index_of(&self, workload: u32) -> Option<u32> {
        let owner = self.workloads.get(workload)?.owner.as_ref()?;
        self.sets_by_uid.get(owner).copied()
    }

    fn constraints_of(&mut self, object: &api::Workload) -> Arc<SchedulingConstraints> {
        let constraints = SchedulingConstraints::of(object, self.options.allow_shared_hosts);
        if let Some(interned) = self.interned_constraints.get(&constraints) {
            return interned.clone();
        }
        let constraints = Arc::new(constraints);
        self.interned_constraints.insert(constraints.clone());
        constraints
    }

    pub(super) fn on_workload_applied(&mut self, object: Arc<api::Workload>) {
        let key = Object::Workload(object.clone()).key();
        let known = self.workloads.index(&key);
        let old = known
            .and_then(|index| self.workloads.get(index))
            .filter(|record| !record.uid.is_empty() && *record.uid != *object.metadata.uid);
        if let Some(old) = old {
            if old.cached.is_stale(&object.metadata, |it| &it.metadata) {
                return;
            }
            let uid = self.workload_uid(known);
            self.on_workload_removed(&key, &uid);
        }
        let workload_index = match self.workloads.index(&key) {
            Some(index) => index,
            None => {
                let constraints = self.constraints_of(&object);
                self.workloads
                    .insert(key.clone(), Workload::new(key, constraints))
            }
        };
        self.accept_workload(workload_index, object);
    }

    fn workload_uid(&self, workload_index: Option<u32>) -> String {
        let record = workload_index.and_then(|index| self.workloads.get(index));
        record.map_or_else(String::new, |record| record.uid.to_string())
    }

    fn accept_workload(&mut self, workload_index: u32, object: Arc<api::Workload>) {
        let owner = owner_of(&object);
        let known = self.workloads.get(workload_index).map(|record| {
            let before = record.cached.object.as_ref();
            let generation = before.map(|before| before.metadata.generation);
            (generation == Some(object.metadata.generation)).then(|| record.constraints.clone())
        });
        let constraints = known
            .flatten()
            .unwrap_or_else(|| self.constraints_of(&object));
        let Some(record) = self.workloads.get_mut(workload_index) else {
            return;
        };
        let is_new = record.cached.object.is_none();
        let was_wanted = record.is_wanted();
        if !record
            .cached
            .accept(object.clone(), |workload| &workload.metadata)
        {
            return;
        }
        record.pending_create = None;
        record.constraints = constraints;
        record.revision = revision_of(&object);
        record.uid = object.metadata.uid.as_str().into();
        let before = std::mem::replace(&mut record.owner, owner.clone());
        if before != owner || is_new {
            self.set_owner(workload_index, before, owner);
        }
        if was_wanted && object.metadata.is_deleting() {
            self.on_workload_deleted_externally(workload_index);
        }
        if is_new && !self.confirm_creation(workload_index, &object) {
            self.adopt(workload_index, &object);
        }
        self.share_content(workload_index, &object);
        self.on_workload_changed(workload_index);
    }

    /// Shares one object between the assignment and the cache if they are equal, to save memory.
    fn share_content(&mut self, workload_index: u32, object: &Arc<api::Workload>) {
        let record = self.workloads.get_mut(workload_index);
        let assignment = record.and_then(|record| record.assignment.as_mut());
        let Some(content) = assignment.and_then(|assignment| assignment.content.as_mut()) else {
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

    fn set_owner(
        &mut self,
        workload_index: u32,
        before: Option<Arc<str>>,
        owner: Option<Arc<str>>,
    ) {
        if let Some(before) = before
            && let Some(members) = self.members.get_mut(&before)
        {
            members.remove(&workload_index);
        }
        if let Some(owner) = owner {
            self.members
                .entry(owner)
                .or_default()
                .insert(workload_index);
        }
    }

    /// Handles the removal of an object. Requests the stop of its incarnation.
    pub(super) fn on_workload_removed(&mut self, key: &Key, uid: &str) {
        let Some(workload_index) = self.workloads.index(key) else {
            return;
        };
        let is_stale = self
            .workloads
            .get(workload_index)
            .is_some_and(|record| !uid.is_empty() && *record.uid != *uid);
        if is_stale {
            return;
        }
        self.remove_from_counts(workload_index);
        let set = self.set_index_of(workload_index);
        self.on_workload_deleted_externally(workload_index);
        let Some(record) = self.workloads.remove(key) else {
            return;
        };
        self.waiting.remove(&workload_index);
        self.awaiting_reschedule.remove(&workload_index);
        self.queue
            .reschedule(WorkItem::Workload(workload_index), None);
        if let Some(members) = record
            .owner
            .as_ref()
            .and_then(|owner| self.members.get_mut(owner))
        {
            members.remove(&workload_index);
        }
        if let Some(assignment) = &record.assignment
            && record.may_be_running()
        {
            let at = record.dispatch.earliest_stop_at();
            self.request_stop(assignment.host, &assignment.id, None, at);
        }
        if let Some(set) = set {
            self.on_set_changed(set);
        }
    }

    /// Marks a workload as discarded. Its replacement may be created at once.
    pub(super) fn discard(&mut self, workload_index: u32) {
        if let Some(record) = self.workloads.get_mut(workload_index) {
            record.is_discarded = true;
        }
        self.remove_from_counts(workload_index);
        self.waiting.remove(&workload_index);
        self.awaiting_reschedule.remove(&workload_index);
        self.queue.enqueue(WorkItem::Workload(workload_index));
    }

    pub(super) fn reconcile_workload(&mut self, workload_index: u32) {
        let advance_wake = self.advance(workload_index);
        let write_wake = self.write_workload(workload_index);
        let wake = advance_wake.into_iter().chain(write_wake).min();
        self.queue
            .reschedule(WorkItem::Workload(workload_index), wake);
    }

    /// Performs the next write, or returns when to check again.
    fn write_workload(&mut self, workload_index: u32) -> Option<Duration> {
        let now = self.now;
        let record = self.workloads.get(workload_index)?;
        if !record.cached.can_write(now) {
            return record.cached.next_write_at(now);
        }
        let item = WorkItem::Workload(workload_index);
        let key = record.key.clone();
        let Some(object) = record.cached.object.as_ref() else {
            return self.write_pending_create(workload_index);
        };
        let uid = object.metadata.uid.clone();
        let finalizer = names::WORKLOAD_FINALIZER;
        let has_finalizer = object.metadata.has_finalizer(finalizer);
        let mut patch = MetadataPatch::default();
        if object.metadata.is_deleting() {
            if has_finalizer && record.assignment.is_none() {
                patch.remove_finalizer = Some(finalizer);
                self.write(item, Write::Metadata { key, uid, patch });
            }
            return None;
        }
        if record.is_discarded || self.is_garbage(record) {
            self.write(item, Write::Delete { key, uid });
            return None;
        }
        if !has_finalizer {
            patch.add_finalizer = Some(finalizer);
            self.write(item, Write::Metadata { key, uid, patch });
            return None;
        }
        // Placement soon assigns a host to a waiting workload, or explains why no host fits. The
        // status is written after that.
        if record.phase == Phase::Waiting && record.unschedulable.is_none() {
            return None;
        }
        let held_until = record.status_held_until().filter(|_| !self.shutting_down);
        if let Some(at) = held_until.filter(|at| now < *at) {
            return Some(at);
        }
        if record.awaits_host_confirmation() {
            return None;
        }
        let status = self.desired_workload_status(workload_index)?;
        let status = Status::Workload(status);
        self.write(item, Write::status(key, uid, status));
        None
    }

    /// Returns whether the scheduler has to delete the workload, because its replica set no longer
    /// exists and the store does not collect garbage.
    fn is_garbage(&self, record: &Workload) -> bool {
        let owner = record.owner.as_ref();
        self.options.collect_garbage
            && owner.is_some_and(|owner| !self.sets_by_uid.contains_key(owner))
    }

    pub(super) fn on_workload_written(
        &mut self,
        workload_index: u32,
        result: Result<Arc<api::Workload>, StoreError>,
    ) {
        let (now, retry) = (self.now, self.options.timings.write_retry);
        let Some(record) = self.workloads.get_mut(workload_index) else {
            return;
        };
        record.cached.end_write(now, retry, result.as_ref().err());
        let (key, uid) = (record.key.clone(), record.uid.to_string());
        match result {
            Ok(object) => {
                if record.pending_create.is_some() {
                    self.on_member_created(workload_index);
                }
                self.accept_workload(workload_index, object);
            }
            Err(StoreError::NotFound) if record.pending_create.is_none() => {
                self.on_workload_removed(&key, &uid)
            }
            Err(StoreError::Exists) => {
                if let Some(pending) = &mut record.pending_create {
                    pending.name_conflict_since = Some(now);
                }
            }
            Err(StoreError::Refused(message)) if record.pending_create.is_some() => {
                self.on_workload_create_refused(workload_index, &key, message);
            }
            Err(_) => {}
        }
        self.queue.enqueue(WorkItem::Workload(workload_index));
    }
}

/// Returns the uid of the replica set that controls an object.
fn owner_of(object: &api::Workload) -> Option<Arc<str>> {
    let owner = object.metadata.controller()?;
    let is_set = owner.kind == Kind::WorkloadReplicaSet.as_str();
    is_set.then(|| owner.uid.as_str().into())
}

/// Returns the revision of the template that an object was created from.
fn revision_of(object: &api::Workload) -> Option<Box<str>> {
    let revision = object
        .metadata
        .annotations
        .get(names::REVISION_ANNOTATION)?;
    Some(revision.as_str().into())
}

/// Returns the status of an object, or an empty one.
fn status_of(object: &api::Workload) -> WorkloadStatus {
    object.status.clone().unwrap_or_default()
}
