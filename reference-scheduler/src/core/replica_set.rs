//! A replica set: a number of equal workloads, which it creates, replaces and deletes. Times are
//! durations since an arbitrary start.

mod members;
mod object;
mod scaling;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Scheduler;
use super::backoff::Backoff;
use super::cached_object::CachedObject;
use super::placement::Spread;
use super::work_queue::{DEBOUNCE, WorkItem};
use crate::api::{self, Key, Object, ReplicaCounts, WorkloadReplicaSet};
use crate::fault_injection::Breakage;

pub(super) use self::write::REFUSED_REASON;

pub(crate) use self::object::deployment_label;
pub(super) use self::object::{SET_NAME_BYTES_MAX, child_name, label_value, name_suffix};

/// Time for which a set creates no members, and a deployment no sets, after someone else deleted
/// one of them. Such a deletion may be the first sign that the whole set or deployment is being
/// deleted, because each kind of object is watched separately.
const CREATION_PAUSE: Duration = Duration::from_secs(1);

/// The state of one replica set.
#[derive(Debug)]
pub(super) struct ReplicaSet {
    pub key: Key,
    pub uid: Arc<str>,
    pub cached: CachedObject<WorkloadReplicaSet>,
    /// The object to create, until it is created.
    pending_create: Option<Arc<WorkloadReplicaSet>>,
    /// UID of its deployment.
    pub owner: Option<Arc<str>>,
    /// Revision of the template.
    pub revision: String,
    /// Whether its deployment no longer wants it. The object is to be deleted, even if the deletion
    /// is not yet written to the store.
    pub is_discarded: bool,
    /// The size that its deployment chose, until it is written to the store.
    pending_size: Option<u32>,
    pub spread: Spread,
    /// Hosts on which its workloads failed recently, with the time until which they are avoided.
    pub avoided: BTreeMap<u32, Duration>,
    /// Backoffs of failed workloads that were discarded, for their replacements.
    inherited_backoffs: Vec<Backoff>,
    /// Backoff of creations, of the set or its workloads, after a refusal.
    create_backoff: Backoff,
    /// Reason why the store refused the most recent creation.
    pub create_refusal: Option<String>,
    /// Ends of the fences. Each fence keeps a slot free, because a workload on a lost host may
    /// still run.
    fences: Vec<Duration>,
    /// No workload is created before this time. See [`CREATION_PAUSE`].
    creation_paused_until: Duration,
    /// Counter for the names of workloads.
    name_counter: u32,
    pub counts: ReplicaCounts,
    /// Number of discarded workloads whose deletion is not yet written to the store.
    pub pending_deletions: u32,
    status_written_at: Duration,
}

impl ReplicaSet {
    pub fn object(&self) -> Option<&Arc<WorkloadReplicaSet>> {
        self.cached.object.as_ref().or(self.pending_create.as_ref())
    }

    pub fn is_deleting(&self) -> bool {
        let object = self.cached.object.as_ref();
        object.is_some_and(|object| object.metadata.is_deleting())
    }

    pub fn is_wanted(&self) -> bool {
        !self.is_discarded && (!self.is_deleting() || Breakage::RecreatesDeletedDependents.is_on())
    }

    pub fn replicas(&self) -> u32 {
        let specified = self.object().map_or(0, |object| object.spec.replicas());
        self.pending_size.unwrap_or(specified)
    }

    /// Returns whether the specification is invalid. An invalid specification leaves the set
    /// unchanged.
    fn is_invalid(&self) -> bool {
        let replicas = self.object().and_then(|object| object.spec.replicas);
        self.pending_size.is_none() && replicas.is_some_and(|replicas| replicas < 0)
    }

    /// Returns the latest end of the active fences.
    pub fn fenced_until(&self, now: Duration) -> Option<Duration> {
        self.fences
            .iter()
            .copied()
            .filter(|until| *until > now)
            .max()
    }
}

impl Scheduler {
    pub(super) fn add_pending_set(&mut self, object: WorkloadReplicaSet) -> u32 {
        let object = Arc::new(object);
        let key = Object::ReplicaSet(object.clone()).key();
        let set_index = self.insert_set(key, &object);
        if let Some(set) = self.sets.get_mut(set_index) {
            set.pending_create = Some(object);
        }
        self.queue.enqueue(WorkItem::Set(set_index));
        set_index
    }

    fn insert_set(&mut self, key: Key, object: &WorkloadReplicaSet) -> u32 {
        let owner = owner_of(object);
        let record = ReplicaSet {
            key: key.clone(),
            uid: "".into(),
            cached: CachedObject::default(),
            pending_create: None,
            owner: owner.clone(),
            revision: crate::revision::revision(&object.spec.template.spec),
            is_discarded: false,
            pending_size: None,
            spread: Spread::default(),
            avoided: BTreeMap::new(),
            inherited_backoffs: Vec::new(),
            create_backoff: Backoff::default(),
            create_refusal: None,
            fences: Vec::new(),
            creation_paused_until: Duration::ZERO,
            name_counter: 0,
            counts: ReplicaCounts::default(),
            pending_deletions: 0,
            status_written_at: self.now,
        };
        let set_index = self.sets.insert(key, record);
        if let Some(owner) = owner {
            self.sets_by_deployment
                .entry(owner)
                .or_default()
                .insert(set_index);
        }
        set_index
    }

    pub(super) fn on_set_applied(&mut self, object: Arc<WorkloadReplicaSet>) {
        let key = Object::ReplicaSet(object.clone()).key();
        let known = self.sets.index(&key);
        if let Some(set) = known.and_then(|set_index| self.sets.get(set_index))
            && !set.uid.is_empty()
            && *set.uid != *object.metadata.uid
        {
            if set.cached.is_stale(&object.metadata, |it| &it.metadata) {
                return;
            }
            let uid = set.uid.to_string();
            self.on_set_removed(&key, &uid);
        }
        let set_index = self
            .sets
            .index(&key)
            .unwrap_or_else(|| self.insert_set(key, &object));
        let Some(set) = self.sets.get_mut(set_index) else {
            return;
        };
        let before = set.cached.object.clone();
        let was_wanted = set.is_wanted();
        if !set.cached.accept(object.clone(), |set| &set.metadata) {
            return;
        }
        if set.pending_create.take().is_some() {
            (set.create_backoff, set.create_refusal) = (Backoff::default(), None);
        }
        if set.pending_size == Some(object.spec.replicas()) {
            set.pending_size = None;
        }
        if before
            .as_ref()
            .is_some_and(|before| before.spec.template.spec != object.spec.template.spec)
        {
            set.revision = crate::revision::revision(&object.spec.template.spec);
        }
        if before.is_none() {
            set.uid = object.metadata.uid.as_str().into();
            let uid = set.uid.clone();
            self.sets_by_uid.insert(uid.clone(), set_index);
            self.rebuild_spread(set_index, &uid);
            self.enqueue_members(&uid);
        }
        if was_wanted && object.metadata.is_deleting() {
            self.on_set_deleted_externally(set_index);
        }
        self.set_deployment_of(set_index, owner_of(&object));
        self.on_set_changed(set_index);
    }

    /// Follows a change of the owner: a deletion of the deployment with `--cascade=orphan` removes
    /// it, and the set continues by itself.
    fn set_deployment_of(&mut self, set_index: u32, owner: Option<Arc<str>>) {
        let Some(set) = self.sets.get_mut(set_index) else {
            return;
        };
        if set.owner == owner {
            return;
        }
        let (before, uid) = (
            std::mem::replace(&mut set.owner, owner.clone()),
            set.uid.clone(),
        );
        if let Some(before) = before {
            if let Some(sets) = self.sets_by_deployment.get_mut(&before) {
                sets.remove(&set_index);
            }
            if let Some(deployment) = self.deployments_by_uid.get(&before) {
                self.queue.enqueue(WorkItem::Deployment(*deployment));
            }
        }
        if let Some(owner) = owner {
            self.sets_by_deployment
                .entry(owner)
                .or_default()
                .insert(set_index);
        }
        // Workloads of a set without its deployment were not placed.
        self.enqueue_members(&uid);
    }

    /// Adds the workloads to the spread that the store reported before the set.
    fn rebuild_spread(&mut self, set_index: u32, uid: &Arc<str>) {
        let members = self.members.get(uid).into_iter().flatten();
        let hosts = members.filter_map(|member| {
            let assignment = self.workloads.get(*member)?.assignment.as_ref()?;
            assignment.is_counted().then_some(assignment.host)
        });
        let hosts: Vec<_> = hosts.collect();
        if let Some(set) = self.sets.get_mut(set_index) {
            hosts.into_iter().for_each(|host| set.spread.add(host));
        }
    }

    /// Enqueues a set and its deployment.
    pub(super) fn on_set_changed(&mut self, set_index: u32) {
        self.queue
            .enqueue_at(WorkItem::Set(set_index), self.now + DEBOUNCE);
        if let Some(deployment) = self.deployment_index_of(set_index) {
            self.queue
                .enqueue_at(WorkItem::Deployment(deployment), self.now + DEBOUNCE);
        }
    }

    /// Enqueues the workloads of a set.
    pub(super) fn enqueue_members(&mut self, set_uid: &str) {
        for member in self.members.get(set_uid).into_iter().flatten() {
            self.queue.enqueue(WorkItem::Workload(*member));
        }
    }

    /// Returns whether the deployment of a set is gone.
    pub(super) fn is_orphaned_set(&self, set_index: u32) -> bool {
        let owner = self.sets.get(set_index).and_then(|set| set.owner.as_ref());
        owner.is_some_and(|owner| !self.deployments_by_uid.contains_key(owner))
    }

    /// Pauses the creation of members of the set after someone else has deleted a wanted workload.
    pub(super) fn on_workload_deleted_externally(&mut self, workload: u32) {
        if self
            .workloads
            .get(workload)
            .is_none_or(|it| it.is_discarded)
        {
            return;
        }
        let creation_paused_until = self.now + CREATION_PAUSE;
        if let Some(set) = self
            .set_index_of(workload)
            .and_then(|set| self.sets.get_mut(set))
        {
            set.creation_paused_until = creation_paused_until;
        }
    }

    /// Pauses the creation of sets of the deployment after someone else has deleted a wanted set.
    fn on_set_deleted_externally(&mut self, set: u32) {
        let creation_paused_until = self.now + CREATION_PAUSE;
        let deployment = self.deployment_index_of(set);
        let deployment = deployment.and_then(|index| self.deployments.get_mut(index));
        if let Some(deployment) =
            deployment.filter(|_| !Breakage::RecreatesDeletedDependents.is_on())
        {
            deployment.creation_paused_until = creation_paused_until;
        }
    }

    fn deployment_index_of(&self, set: u32) -> Option<u32> {
        let owner = self.sets.get(set)?.owner.as_ref()?;
        self.deployments_by_uid.get(owner).copied()
    }

    pub(super) fn on_set_removed(&mut self, key: &Key, uid: &str) {
        let Some(set_index) = self.sets.index(key) else {
            return;
        };
        let is_stale = self
            .sets
            .get(set_index)
            .is_some_and(|set| !uid.is_empty() && *set.uid != *uid);
        if is_stale {
            return;
        }
        if self.sets.get(set_index).is_some_and(ReplicaSet::is_wanted) {
            self.on_set_deleted_externally(set_index);
        }
        let deployment = self.deployment_index_of(set_index);
        let Some(set) = self.sets.remove(key) else {
            return;
        };
        self.sets_by_uid.remove(&set.uid);
        if let Some(sets) = set
            .owner
            .as_ref()
            .and_then(|owner| self.sets_by_deployment.get_mut(owner))
        {
            sets.remove(&set_index);
        }
        self.queue.reschedule(WorkItem::Set(set_index), None);
        self.enqueue_members(&set.uid);
        if let Some(deployment) = deployment {
            self.queue.enqueue(WorkItem::Deployment(deployment));
        }
    }

    /// Resizes a set on behalf of its deployment.
    pub(super) fn resize_set(&mut self, set_index: u32, replicas: u32) {
        if let Some(set) = self.sets.get_mut(set_index)
            && set.replicas() != replicas
        {
            set.pending_size = Some(replicas);
            self.queue.enqueue(WorkItem::Set(set_index));
        }
    }

    pub(super) fn discard_set(&mut self, set_index: u32) {
        let Some(set) = self.sets.get_mut(set_index) else {
            return;
        };
        set.is_discarded = true;
        let uid = set.uid.clone();
        for member in self.members.get(&uid).cloned().unwrap_or_default() {
            self.discard(member);
        }
        self.queue.enqueue(WorkItem::Set(set_index));
    }

    pub(super) fn reconcile_set(&mut self, set_index: u32) {
        let scale_wake = self.scale_set(set_index);
        let write_wake = self.write_set(set_index);
        let wake = scale_wake.into_iter().chain(write_wake).min();
        self.queue.reschedule(WorkItem::Set(set_index), wake);
    }
}

/// Returns the uid of the deployment that controls a set.
fn owner_of(object: &WorkloadReplicaSet) -> Option<Arc<str>> {
    let owner = object.metadata.controller()?;
    let is_deployment = owner.kind == api::Kind::WorkloadDeployment.as_str();
    is_deployment.then(|| owner.uid.as_str().into())
}
