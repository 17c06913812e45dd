//! An in-memory store with the rules of the real stores: versions, uids, finalizers and owners.
//! Times are durations since an arbitrary start.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_scheduler::api::{Key, Kind, Object, Timestamp};
use berth_scheduler::core::{StoreError, Write};

/// A watch event.
#[derive(Clone, Debug)]
pub enum Change {
    Applied(Object),
    Removed { key: Key, uid: String },
}

/// Finalizer of an object that is deleted with foreground propagation.
const FOREGROUND_FINALIZER: &str = "foregroundDeletion";

#[derive(Debug, Default)]
pub struct Store {
    pub objects: BTreeMap<Key, Object>,
    version: u64,
    uids: u64,
    /// Number of writes of each kind of object.
    pub writes: BTreeMap<Kind, usize>,
    /// Kind of the objects whose creation is refused, as by a quota.
    pub refused_kind: Option<Kind>,
}

impl Store {
    /// Executes a write.
    pub fn write(
        &mut self,
        now: Duration,
        write: Write,
    ) -> (Result<Object, StoreError>, Vec<Change>) {
        let key = write.key();
        *self.writes.entry(key.kind).or_default() += 1;
        match write {
            Write::Create(object) => {
                if self.objects.contains_key(&key) {
                    return (Err(StoreError::Exists), Vec::new());
                }
                if self.refused_kind == Some(key.kind) {
                    let message = format!("\"{}\" is forbidden: exceeded quota", key.name);
                    return (Err(StoreError::Refused(message)), Vec::new());
                }
                self.put(without_status(object), now)
            }
            Write::ApplyHost(object) => self.apply_host(now, key, object),
            Write::Status { uid, status, .. } => self.change(now, &key, &uid, |object| {
                status.apply_to(object).expect("a status of its kind");
            }),
            Write::Metadata { uid, patch, .. } => self.change(now, &key, &uid, |object| {
                let metadata = object.metadata_mut();
                if let Some(finalizer) = patch.add_finalizer
                    && !metadata.has_finalizer(finalizer)
                {
                    metadata.finalizers.push(finalizer.to_owned());
                }
                metadata
                    .finalizers
                    .retain(|existing| Some(existing.as_str()) != patch.remove_finalizer);
                for (name, value) in patch.annotations {
                    match value {
                        Some(value) => metadata.annotations.insert(name, value),
                        None => metadata.annotations.remove(&name),
                    };
                }
            }),
            Write::Replicas { uid, replicas, .. } => self.change(now, &key, &uid, |object| {
                if let Object::ReplicaSet(set) = object {
                    let set = Arc::make_mut(set);
                    set.spec.replicas = i32::try_from(replicas).ok();
                    set.metadata.generation += 1;
                }
            }),
            Write::Delete { uid, .. } => self.delete(now, &key, &uid),
        }
    }

    /// Creates or replaces an object, as a user does.
    pub fn put(
        &mut self,
        mut object: Object,
        now: Duration,
    ) -> (Result<Object, StoreError>, Vec<Change>) {
        let key = object.key();
        self.version += 1;
        let version = self.version.to_string();
        let before = self
            .objects
            .get(&key)
            .map(|before| before.metadata().clone());
        let metadata = object.metadata_mut();
        metadata.resource_version = version;
        match before {
            Some(before) => {
                metadata.generation = before.generation + 1;
                metadata.creation_timestamp = before.creation_timestamp;
                if before.is_deleting() {
                    metadata.deletion_timestamp = before.deletion_timestamp;
                    metadata.finalizers = before.finalizers;
                }
                metadata.uid = before.uid;
            }
            None => {
                self.uids += 1;
                metadata.uid = format!("uid-{}", self.uids);
                metadata.generation = 1;
                metadata.creation_timestamp = Some(Timestamp::from_unix(now));
            }
        }
        self.objects.insert(key, object.clone());
        (Ok(object.clone()), vec![Change::Applied(object)])
    }

    fn apply_host(
        &mut self,
        now: Duration,
        key: Key,
        desired: Object,
    ) -> (Result<Object, StoreError>, Vec<Change>) {
        let Some(Object::Host(before)) = self.objects.get(&key).cloned() else {
            return self.put(without_status(desired), now);
        };
        let Object::Host(desired) = desired else {
            return (Err(StoreError::Refused("not a host".into())), Vec::new());
        };
        self.change(now, &key, &before.metadata.uid, |object| {
            if let Object::Host(host) = object {
                let host = Arc::make_mut(host);
                host.metadata.labels = desired.metadata.labels.clone();
                host.host_id = desired.host_id.clone();
                host.hostname = desired.hostname.clone();
                host.http_port = desired.http_port;
                host.environment = desired.environment.clone();
            }
        })
    }

    fn change(
        &mut self,
        _: Duration,
        key: &Key,
        uid: &str,
        change: impl FnOnce(&mut Object),
    ) -> (Result<Object, StoreError>, Vec<Change>) {
        let Some(object) = self
            .objects
            .get_mut(key)
            .filter(|object| object.metadata().uid == uid)
        else {
            return (Err(StoreError::NotFound), Vec::new());
        };
        change(object);
        self.version += 1;
        object.metadata_mut().resource_version = self.version.to_string();
        let object = object.clone();
        let metadata = object.metadata();
        if metadata.is_deleting() && metadata.finalizers.is_empty() {
            self.objects.remove(key);
            let (key, uid) = (key.clone(), uid.to_owned());
            return (Ok(object), vec![Change::Removed { key, uid }]);
        }
        (Ok(object.clone()), vec![Change::Applied(object)])
    }

    pub fn delete(
        &mut self,
        now: Duration,
        key: &Key,
        uid: &str,
    ) -> (Result<Object, StoreError>, Vec<Change>) {
        let Some(object) = self
            .objects
            .get(key)
            .filter(|object| object.metadata().uid == uid)
        else {
            return (Err(StoreError::NotFound), Vec::new());
        };
        if object.metadata().finalizers.is_empty() {
            let object = object.clone();
            self.objects.remove(key);
            let (key, uid) = (key.clone(), uid.to_owned());
            return (Ok(object), vec![Change::Removed { key, uid }]);
        }
        self.change(now, key, uid, |object| {
            let metadata = object.metadata_mut();
            metadata
                .deletion_timestamp
                .get_or_insert(Timestamp::from_unix(now));
        })
    }

    /// Deletes an object with foreground propagation.
    pub fn delete_in_foreground(&mut self, now: Duration, key: &Key, uid: &str) -> Vec<Change> {
        if let Some(object) = self.objects.get_mut(key)
            && !object.metadata().is_deleting()
        {
            let finalizers = &mut object.metadata_mut().finalizers;
            finalizers.push(FOREGROUND_FINALIZER.to_owned());
        }
        self.delete(now, key, uid).1
    }

    /// Advances foreground deletions, as a garbage collector does.
    pub fn continue_foreground_deletions(&mut self, now: Duration) -> Vec<Change> {
        let waiting: Vec<(Key, String)> = self
            .objects
            .iter()
            .filter(|(_, object)| object.metadata().has_finalizer(FOREGROUND_FINALIZER))
            .map(|(key, object)| (key.clone(), object.metadata().uid.clone()))
            .collect();
        let mut changes = Vec::new();
        for (key, uid) in waiting {
            let dependents: Vec<(Key, String, bool)> = self
                .objects
                .iter()
                .filter(|(_, object)| {
                    let owner = object.metadata().controller();
                    owner.is_some_and(|owner| owner.uid == uid)
                })
                .map(|(key, object)| {
                    let metadata = object.metadata();
                    (key.clone(), metadata.uid.clone(), metadata.is_deleting())
                })
                .collect();
            if dependents.is_empty() {
                let (_, removed) = self.change(now, &key, &uid, |object| {
                    let finalizers = &mut object.metadata_mut().finalizers;
                    finalizers.retain(|finalizer| finalizer != FOREGROUND_FINALIZER);
                });
                changes.extend(removed);
            }
            for (key, uid, _) in dependents.iter().filter(|(.., is_deleting)| !is_deleting) {
                changes.extend(self.delete_in_foreground(now, key, uid));
            }
        }
        changes
    }

    /// Returns the objects whose owner is gone, as a garbage collector finds them.
    pub fn garbage(&self) -> Vec<(Key, String)> {
        let uids: std::collections::BTreeSet<&str> = self
            .objects
            .values()
            .map(|object| object.metadata().uid.as_str())
            .collect();
        let objects = self.objects.iter().filter(|(_, object)| {
            let metadata = object.metadata();
            let owner = metadata.controller();
            !metadata.is_deleting() && owner.is_some_and(|owner| !uids.contains(owner.uid.as_str()))
        });
        objects
            .map(|(key, object)| (key.clone(), object.metadata().uid.clone()))
            .collect()
    }

    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.objects
            .values()
            .filter(move |object| object.kind() == kind)
    }
}

fn without_status(mut object: Object) -> Object {
    match &mut object {
        Object::Host(host) => Arc::make_mut(host).status = None,
        Object::Workload(workload) => Arc::make_mut(workload).status = None,
        Object::ReplicaSet(set) => Arc::make_mut(set).status = None,
        Object::Deployment(deployment) => Arc::make_mut(deployment).status = None,
        Object::Artifact(artifact) => Arc::make_mut(artifact).status = None,
    }
    object
}
