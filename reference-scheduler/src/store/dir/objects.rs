//! The objects of a directory and what writes do to them, as an API server would do it; no I/O, clock or chance.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{Key, Metadata, Object, Timestamp};
use crate::core::{MetadataPatch, Status, Write, WriteError};

use super::name::{is_label, is_subdomain};

/// The finalizer of what is deleted and stays until all that belongs to it is gone, as in Kubernetes.
const FOREGROUND: &str = "foregroundDeletion";

/// All objects that there are.
#[derive(Debug, Default)]
pub(super) struct Objects {
    by_key: BTreeMap<Key, Object>,
    version: u64,
}

/// What a write needs from outside.
#[derive(Clone, Debug)]
pub(super) struct Stamp {
    /// The time of the write.
    pub now: Timestamp,
    /// The uid of the object, should one be created.
    pub uid: String,
}

/// What a write comes to. Nothing has changed before [`Objects::commit`], so that it can be kept on disk first.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// The object is now this.
    Put(Object),
    /// The object is gone; this was its last state.
    Remove(Object),
    /// It was so already.
    Nothing(Object),
}

/// What a deletion that takes along what belongs to its object comes to next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fall {
    /// The object belongs to one that is deleted.
    Delete,
    /// Nothing belongs to it any more.
    LetGo,
}

impl Change {
    /// The object, as it is or was.
    pub(super) fn object(&self) -> &Object {
        let (Self::Put(object) | Self::Remove(object) | Self::Nothing(object)) = self;
        object
    }
}

impl Objects {
    /// Takes in an object that was kept by an earlier process.
    pub(super) fn load(&mut self, object: Object) {
        let version = object.metadata().resource_version.parse().unwrap_or(0);
        self.version = self.version.max(version);
        self.by_key.insert(object.key(), object);
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Object> {
        self.by_key.get(key)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Object> {
        self.by_key.values()
    }

    /// Makes a change come true.
    pub(super) fn commit(&mut self, change: &Change) {
        match change {
            Change::Put(object) => {
                self.version += 1;
                self.by_key.insert(object.key(), object.clone());
            }
            Change::Remove(object) => {
                self.version += 1;
                self.by_key.remove(&object.key());
            }
            Change::Nothing(_) => {}
        }
    }

    /// What a write of the core comes to.
    pub(super) fn write(&self, write: Write, stamp: Stamp) -> Result<Change, WriteError> {
        match write {
            Write::Create(object) => self.create(object, stamp),
            Write::ApplyHost(object) => match self.get(&object.key()) {
                None => self.create(object, stamp),
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
                Ok(self.delete(current, stamp.now))
            }
        }
    }

    /// The deletion of an object: at once, or when its last finalizer is done.
    pub(super) fn delete(&self, current: &Object, now: Timestamp) -> Change {
        let mut object = current.clone();
        let metadata = object.metadata_mut();
        if metadata.deletion_timestamp.is_none() {
            metadata.deletion_timestamp = Some(now);
            metadata.generation += 1;
        }
        self.put_or_remove(current, object)
    }

    /// The deletion of an object that stays until all that belongs to it is gone (SCHED-STOP-009).
    pub(super) fn delete_with_all(&self, current: &Object, now: Timestamp) -> Change {
        let uid = current.metadata().uid.as_str();
        let mut object = current.clone();
        let metadata = object.metadata_mut();
        let has_any = self.all().any(|other| owner_of(other) == Some(uid));
        if has_any && !metadata.is_deleting() {
            metadata.finalizers.push(FOREGROUND.to_owned());
        }
        self.delete(&object, now)
    }

    /// Which objects have to fall next, or can, since they or their owners are deleted with all that belongs to them.
    pub(super) fn falling(&self) -> Vec<(Key, Fall)> {
        let waiting = self.all().filter(|object| {
            let metadata = object.metadata();
            metadata.is_deleting() && metadata.has_finalizer(FOREGROUND)
        });
        let mut alone: BTreeMap<&str, Key> = waiting
            .map(|object| (object.metadata().uid.as_str(), object.key()))
            .collect();
        if alone.is_empty() {
            return Vec::new();
        }
        let owners: BTreeSet<&str> = alone.keys().copied().collect();
        let mut falling = Vec::new();
        for object in self.all() {
            let Some(owner) = owner_of(object).filter(|owner| owners.contains(owner)) else {
                continue;
            };
            alone.remove(owner);
            if !object.metadata().is_deleting() {
                falling.push((object.key(), Fall::Delete));
            }
        }
        falling.extend(alone.into_values().map(|key| (key, Fall::LetGo)));
        falling
    }

    /// One step of that.
    pub(super) fn fall(&self, key: &Key, fall: Fall, now: Timestamp) -> Option<Change> {
        let current = self.get(key)?;
        Some(match fall {
            Fall::Delete => self.delete_with_all(current, now),
            Fall::LetGo => {
                let mut object = current.clone();
                let finalizers = &mut object.metadata_mut().finalizers;
                finalizers.retain(|held| held != FOREGROUND);
                self.put_or_remove(current, object)
            }
        })
    }

    /// A new object, without what only the store gives. Its status is kept for later.
    pub(super) fn create(&self, object: Object, stamp: Stamp) -> Result<Change, WriteError> {
        let key = object.key();
        if self.by_key.contains_key(&key) {
            return Err(WriteError::Exists);
        }
        if !is_label(&key.namespace) || !is_subdomain(&key.name) {
            return Err(WriteError::Refused(format!(
                "{:?} in namespace {:?} cannot be the name of an object",
                key.name, key.namespace
            )));
        }
        let mut object = without_status(object);
        let version = self.next_version();
        let metadata = object.metadata_mut();
        metadata.uid = stamp.uid;
        metadata.resource_version = version;
        metadata.generation = 1;
        metadata.creation_timestamp = Some(stamp.now);
        metadata.deletion_timestamp = None;
        Ok(Change::Put(object))
    }

    /// The object with a new version, when it differs.
    pub(super) fn put_if_changed(&self, current: &Object, mut object: Object) -> Change {
        if object == *current {
            return Change::Nothing(object);
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
            return Change::Nothing(current.clone());
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

    /// The object of this key and, unless it is empty, of this uid.
    fn current(&self, key: &Key, uid: &str) -> Result<&Object, WriteError> {
        self.get(key)
            .filter(|object| uid.is_empty() || object.metadata().uid == uid)
            .ok_or(WriteError::NotFound)
    }

    fn next_version(&self) -> String {
        (self.version + 1).to_string()
    }
}

/// The uid of what an object belongs to.
fn owner_of(object: &Object) -> Option<&str> {
    let owner = object.metadata().controller()?;
    Some(owner.uid.as_str())
}

fn patch_metadata(metadata: &mut Metadata, patch: MetadataPatch) {
    if let Some(finalizer) = patch.add_finalizer {
        // As in Kubernetes, what is on its way out cannot be held any more.
        if !metadata.has_finalizer(finalizer) && !metadata.is_deleting() {
            metadata.finalizers.push(finalizer.to_owned());
        }
    }
    if let Some(finalizer) = patch.remove_finalizer {
        metadata.finalizers.retain(|held| held != finalizer);
    }
    for (name, value) in patch.annotations {
        match value {
            Some(value) => metadata.annotations.insert(name, value),
            None => metadata.annotations.remove(&name),
        };
    }
}

fn with_status(current: &Object, status: Status) -> Result<Object, WriteError> {
    let mut object = current.clone();
    status.enter(&mut object)?;
    Ok(object)
}

fn with_replicas(current: &Object, replicas: u32) -> Result<Object, WriteError> {
    let Object::ReplicaSet(set) = current else {
        return Err(WriteError::Refused(
            "only replica sets are scaled".to_owned(),
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
