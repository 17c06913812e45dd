//! The objects of a directory and the effects of writes on them, as on an API server, without I/O.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{Key, Metadata, Object, Timestamp};
use crate::core::{MetadataPatch, Status, StoreError, Write};

use super::name::{is_label, is_subdomain};
use super::notice::keep_notice;

/// Finalizer of an object that is deleted in the foreground, after its dependents, as in
/// Kubernetes.
const FOREGROUND_FINALIZER: &str = "foregroundDeletion";

/// All objects, by key.
#[derive(Debug, Default)]
pub(super) struct Objects {
    by_key: BTreeMap<Key, Object>,
    /// UIDs of lost objects, which keep them when they are created again.
    reserved_uids: BTreeMap<Key, String>,
    version: u64,
}

/// Time and random values for a write.
#[derive(Clone, Debug)]
pub(super) struct WriteContext {
    /// Time of the write.
    pub now: Timestamp,
    /// UID of the object, if the write creates one.
    pub uid: String,
}

/// Effect of a write. [`Objects::commit`] applies it, after the change was written to disk.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// The object is created or replaced by this state.
    Put(Object),
    /// The object is removed; this was its final state.
    Remove(Object),
    /// The object is unchanged.
    Unchanged(Object),
}

/// Next step of a foreground deletion for one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CascadeStep {
    /// Delete the object, because its owner is being deleted.
    Delete,
    /// Remove the finalizer of the object, because it has no dependents left.
    Release,
}

impl Change {
    /// Returns the new or final state of the object.
    pub(super) fn object(&self) -> &Object {
        let (Self::Put(object) | Self::Remove(object) | Self::Unchanged(object)) = self;
        object
    }
}

impl Objects {
    /// Adds an object that an earlier process has stored.
    pub(super) fn load(&mut self, object: Object) {
        let version = object.metadata().resource_version.parse().unwrap_or(0);
        self.version = self.version.max(version);
        self.by_key.insert(object.key(), object);
    }

    /// Reserves the UID of a lost object, so that it keeps its dependents.
    pub(super) fn reserve_uid(&mut self, key: Key, uid: String) {
        self.reserved_uids.insert(key, uid);
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Object> {
        self.by_key.get(key)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Object> {
        self.by_key.values()
    }

    /// Applies a change.
    pub(super) fn commit(&mut self, change: &Change) {
        match change {
            Change::Put(object) => {
                self.version += 1;
                self.reserved_uids.remove(&object.key());
                self.by_key.insert(object.key(), object.clone());
            }
            Change::Remove(object) => {
                self.version += 1;
                self.by_key.remove(&object.key());
            }
            Change::Unchanged(_) => {}
        }
    }

    /// Returns the effect of a write by the core.
    pub(super) fn write(&self, write: Write, context: WriteContext) -> Result<Change, StoreError> {
        match write {
            Write::Create(object) => self.create(object, context),
            Write::ApplyHost(object) => match self.get(&object.key()) {
                None => self.create(object, context),
                Some(current) => Ok(self.apply_host(current, &object)),
            },
            Write::Status {
                key, uid, status, ..
            } => {
                let current = self.current(&key, &uid)?;
                Ok(self.put_if_changed(current, with_status(current, status)?))
            }
            Write::Metadata { key, uid, patch } => {
                let current = self.current(&key, &uid)?;
                let mut object = current.clone();
                patch_metadata(object.metadata_mut(), patch);
                Ok(self.put_or_remove(current, object))
            }
            Write::Replicas { key, uid, replicas } => {
                let current = self.current(&key, &uid)?;
                Ok(self.put_if_changed(current, with_replicas(current, replicas)?))
            }
            Write::Delete { key, uid } => {
                let current = self.current(&key, &uid)?;
                Ok(self.delete(current, context.now))
            }
        }
    }

    /// Deletes an object. An object with finalizers stays, marked as deleted, until the last
    /// finalizer is removed.
    pub(super) fn delete(&self, current: &Object, now: Timestamp) -> Change {
        let mut object = current.clone();
        let metadata = object.metadata_mut();
        if metadata.deletion_timestamp.is_none() {
            metadata.deletion_timestamp = Some(now);
            metadata.generation += 1;
        }
        self.put_or_remove(current, object)
    }

    /// Deletes an object in the foreground: the object remains until all its dependents are gone
    /// (SCHED-STOP-009).
    pub(super) fn delete_in_foreground(&self, current: &Object, now: Timestamp) -> Change {
        let uid = current.metadata().uid.as_str();
        let mut object = current.clone();
        let metadata = object.metadata_mut();
        let has_dependents = self.all().any(|other| owner_of(other) == Some(uid));
        if has_dependents && !metadata.is_deleting() {
            metadata.finalizers.push(FOREGROUND_FINALIZER.to_owned());
        }
        self.delete(&object, now)
    }

    /// Returns the next steps of all foreground deletions.
    pub(super) fn cascade_steps(&self) -> Vec<(Key, CascadeStep)> {
        let waiting = self.all().filter(|object| {
            let metadata = object.metadata();
            metadata.is_deleting() && metadata.has_finalizer(FOREGROUND_FINALIZER)
        });
        let mut without_dependents: BTreeMap<&str, Key> = waiting
            .map(|object| (object.metadata().uid.as_str(), object.key()))
            .collect();
        if without_dependents.is_empty() {
            return Vec::new();
        }
        let owners: BTreeSet<&str> = without_dependents.keys().copied().collect();
        let mut steps = Vec::new();
        for object in self.all() {
            let Some(owner) = owner_of(object).filter(|owner| owners.contains(owner)) else {
                continue;
            };
            without_dependents.remove(owner);
            if !object.metadata().is_deleting() {
                steps.push((object.key(), CascadeStep::Delete));
            }
        }
        steps.extend(
            without_dependents
                .into_values()
                .map(|key| (key, CascadeStep::Release)),
        );
        steps
    }

    /// Returns the effect of one step of a foreground deletion.
    pub(super) fn cascade(&self, key: &Key, step: CascadeStep, now: Timestamp) -> Option<Change> {
        let current = self.get(key)?;
        Some(match step {
            CascadeStep::Delete => self.delete_in_foreground(current, now),
            CascadeStep::Release => {
                let mut object = current.clone();
                let finalizers = &mut object.metadata_mut().finalizers;
                finalizers.retain(|finalizer| finalizer != FOREGROUND_FINALIZER);
                self.put_or_remove(current, object)
            }
        })
    }

    /// Creates an object. Fields that only the store sets are overwritten, and the status is
    /// dropped.
    pub(super) fn create(
        &self,
        object: Object,
        context: WriteContext,
    ) -> Result<Change, StoreError> {
        let key = object.key();
        if self.by_key.contains_key(&key) {
            return Err(StoreError::Exists);
        }
        if !is_label(&key.namespace) || !is_subdomain(&key.name) {
            return Err(StoreError::Refused(format!(
                "invalid object name {:?} or namespace {:?}",
                key.name, key.namespace
            )));
        }
        let mut object = without_status(object);
        let version = self.next_version();
        let reserved = self.reserved_uids.get(&key).cloned();
        let metadata = object.metadata_mut();
        metadata.uid = reserved.unwrap_or(context.uid);
        metadata.resource_version = version;
        metadata.generation = 1;
        metadata.creation_timestamp = Some(context.now);
        metadata.deletion_timestamp = None;
        Ok(Change::Put(object))
    }

    /// Replaces an object, with a new version, if it differs.
    pub(super) fn put_if_changed(&self, current: &Object, mut object: Object) -> Change {
        if object == *current {
            return Change::Unchanged(object);
        }
        object.metadata_mut().resource_version = self.next_version();
        Change::Put(object)
    }

    fn put_or_remove(&self, current: &Object, object: Object) -> Change {
        let metadata = object.metadata();
        if metadata.is_deleting() && metadata.finalizers.is_empty() {
            return Change::Remove(object);
        }
        self.put_if_changed(current, object)
    }

    fn apply_host(&self, current: &Object, wanted: &Object) -> Change {
        let (Object::Host(current_host), Object::Host(wanted)) = (current, wanted) else {
            return Change::Unchanged(current.clone());
        };
        let mut host = current_host.as_ref().clone();
        host.metadata.labels.clone_from(&wanted.metadata.labels);
        host.host_id.clone_from(&wanted.host_id);
        host.hostname.clone_from(&wanted.hostname);
        host.http_port = wanted.http_port;
        host.environment.clone_from(&wanted.environment);
        if host != **current_host {
            host.metadata.generation += 1;
        }
        self.put_if_changed(current, Object::Host(host.into()))
    }

    /// Returns the object with this key and, unless it is empty, this UID.
    fn current(&self, key: &Key, uid: &str) -> Result<&Object, StoreError> {
        self.get(key)
            .filter(|object| uid.is_empty() || object.metadata().uid == uid)
            .ok_or(StoreError::NotFound)
    }

    fn next_version(&self) -> String {
        (self.version + 1).to_string()
    }
}

/// Returns the UID of the owner that controls an object.
fn owner_of(object: &Object) -> Option<&str> {
    let owner = object.metadata().controller()?;
    Some(owner.uid.as_str())
}

fn patch_metadata(metadata: &mut Metadata, patch: MetadataPatch) {
    if let Some(finalizer) = patch.add_finalizer {
        // As in Kubernetes, no finalizer can be added to an object that is being deleted.
        if !metadata.has_finalizer(finalizer) && !metadata.is_deleting() {
            metadata.finalizers.push(finalizer.to_owned());
        }
    }
    if let Some(finalizer) = patch.remove_finalizer {
        metadata.finalizers.retain(|existing| existing != finalizer);
    }
    for (name, value) in patch.annotations {
        match value {
            Some(value) => metadata.annotations.insert(name, value),
            None => metadata.annotations.remove(&name),
        };
    }
}

fn with_status(current: &Object, status: Status) -> Result<Object, StoreError> {
    let mut object = current.clone();
    status.apply_to(&mut object)?;
    keep_notice(current, &mut object);
    Ok(object)
}

fn with_replicas(current: &Object, replicas: u32) -> Result<Object, StoreError> {
    let Object::ReplicaSet(set) = current else {
        return Err(StoreError::Refused(
            "cannot scale an object that is not a replica set".to_owned(),
        ));
    };
    let wanted = i32::try_from(replicas).unwrap_or(i32::MAX);
    let mut set = set.as_ref().clone();
    if set.spec.replicas != Some(wanted) {
        set.spec.replicas = Some(wanted);
        set.metadata.generation += 1;
    }
    Ok(Object::ReplicaSet(set.into()))
}

fn without_status(mut object: Object) -> Object {
    use std::sync::Arc;
    match &mut object {
        Object::Host(host) => Arc::make_mut(host).status = None,
        Object::Workload(workload) => Arc::make_mut(workload).status = None,
        Object::ReplicaSet(set) => Arc::make_mut(set).status = None,
        Object::Deployment(deployment) => Arc::make_mut(deployment).status = None,
        Object::Artifact(artifact) => Arc::make_mut(artifact).status = None,
    }
    object
}

#[cfg(test)]
mod tests;
