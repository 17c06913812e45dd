//! What must hold after every step, and the books that it takes to know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use berth_scheduler::api::{self, Key, Kind, Object, WorkloadDeployment};
use berth_scheduler::core::{Command, Scheduler, Write};
use berth_sdk::scheduler::Health;

use super::store::Store;

/// How long after a change of `replicas` the larger number still counts.
const RESIZE_GRACE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub struct Ledger {
    /// The first thing that was wrong.
    pub violation: Option<String>,
    pub starts: usize,
    pub stops: usize,
    pub warnings: Vec<String>,
    /// Where each id was started, and with what.
    placed: BTreeMap<Arc<str>, (Arc<str>, Arc<api::Workload>)>,
    /// Ids that were told to stop.
    stopped: BTreeSet<Arc<str>>,
    /// Objects that are being created or deleted.
    creating: BTreeMap<Key, Object>,
    deleting: BTreeSet<Key>,
    /// How many replicas were asked for, by when.
    replicas: BTreeMap<Key, Vec<(Duration, u32)>>,
    checked_at: Duration,
}

impl Ledger {
    fn violated(&mut self, now: Duration, what: String) {
        self.violation.get_or_insert(format!("at {now:?}: {what}"));
    }

    pub fn wanted(&mut self, now: Duration, deployment: &WorkloadDeployment) {
        let key = Key::new(
            Kind::WorkloadDeployment,
            deployment.metadata.namespace.as_str(),
            deployment.metadata.name.as_str(),
        );
        self.replicas
            .entry(key)
            .or_default()
            .push((now, deployment.spec.replicas()));
    }

    pub fn unwanted(&mut self, now: Duration, key: &Key) {
        self.replicas.entry(key.clone()).or_default().push((now, 0));
    }

    pub fn scheduler_restarted(&mut self) {
        self.creating.clear();
        self.deleting.clear();
    }

    pub fn write_began(&mut self, _: Duration, write: &Write) {
        match write {
            Write::Create(object) => drop(self.creating.insert(object.key(), object.clone())),
            Write::Delete { key, .. } => drop(self.deleting.insert(key.clone())),
            _ => {}
        }
    }

    pub fn write_ended(&mut self, write: &Write) {
        match write {
            Write::Create(object) => drop(self.creating.remove(&object.key())),
            Write::Delete { key, .. } => drop(self.deleting.remove(key)),
            _ => {}
        }
    }

    /// An id that another scheduler has started.
    pub fn adopted(&mut self, id: &str, host: &str) {
        let entry = (Arc::from(host), Arc::new(api::Workload::default()));
        self.placed.insert(id.into(), entry);
    }

    /// The scheduler has told a host something.
    pub fn called(&mut self, now: Duration, host: &Arc<str>, command: &Command, store: &Store) {
        match command {
            Command::Start { workload, id } => {
                self.starts += 1;
                if self.stopped.contains(id) {
                    self.violated(
                        now,
                        format!("{id} is started on {host} after it was stopped"),
                    );
                }
                let written =
                    wanted_place(store, id).is_some_and(|(on, of)| *on == **host && *of == **id);
                if !written {
                    self.violated(
                        now,
                        format!("{id} is started on {host}, which is not written down"),
                    );
                }
                let first = self
                    .placed
                    .entry(id.clone())
                    .or_insert_with(|| (host.clone(), workload.clone()));
                if first.0 != *host {
                    let what = format!("{id} is started on {host} and was on {}", first.0);
                    self.violated(now, what);
                } else if first.1.spec != workload.spec {
                    self.violated(now, format!("{id} is started again with another content"));
                }
            }
            Command::Stop { id } => {
                self.stops += 1;
                self.stopped.insert(id.clone());
                self.check_stop(now, host, id, store);
            }
            Command::Status { .. } => {}
        }
    }

    /// An id may be stopped when its object is gone or going, or has another id or host, or says that
    /// it has failed or is to move.
    fn check_stop(&mut self, now: Duration, host: &str, id: &str, store: &Store) {
        let Some(workload) = workload_of(store, id) else {
            return;
        };
        let here = noted_place(workload) == Some((host, id));
        let owned = workload.metadata.controller().is_some();
        if !workload.metadata.is_deleting() && here && owned {
            self.violated(
                now,
                format!("{id} is stopped on {host} and is wanted there"),
            );
        }
        if !self.placed.contains_key(id) && workload.status.is_none() && !here {
            self.violated(now, format!("{id} is stopped and was never started"));
        }
    }

    /// What must hold at any time.
    pub fn check(&mut self, now: Duration, store: &Store, scheduler: &Scheduler) {
        // Counting goes over all objects, and they do not change that fast.
        if now < self.checked_at + Duration::from_millis(20) {
            return;
        }
        self.checked_at = now;
        let owners = owners(store, &self.creating);
        let mut counts: BTreeMap<Owner, u32> = BTreeMap::new();
        let creating = self
            .creating
            .iter()
            .filter(|(key, _)| !store.objects.contains_key(key));
        let objects = store
            .of_kind(Kind::Workload)
            .chain(creating.map(|(_, object)| object));
        for object in objects {
            let Object::Workload(workload) = object else {
                continue;
            };
            let key = object.key();
            if workload.metadata.is_deleting() || self.deleting.contains(&key) {
                continue;
            }
            let host = noted_place(workload).map(|(host, _)| host);
            let health = host.and_then(|host| scheduler.health(host));
            if host.is_some_and(|host| !host.is_empty())
                && matches!(health, None | Some(Health::Lost))
            {
                continue;
            }
            let set = workload
                .metadata
                .controller()
                .map(|owner| owner.uid.as_str());
            if let Some(owner) = set.and_then(|set| owners.get(set)) {
                *counts.entry(owner.clone()).or_default() += 1;
            }
        }
        for ((deployment, _), count) in counts {
            let limit = self.limit(now, &deployment, scheduler);
            if count > limit {
                self.violated(
                    now,
                    format!("{deployment} has {count} wanted ids; {limit} may be"),
                );
            }
        }
    }

    fn limit(&self, now: Duration, deployment: &Key, scheduler: &Scheduler) -> u32 {
        let Some(asked) = self.replicas.get(deployment) else {
            return u32::MAX;
        };
        let last = asked.last().map_or(0, |(_, replicas)| *replicas);
        let lately = asked
            .windows(2)
            .filter(|two| now < two[1].0 + RESIZE_GRACE)
            .map(|two| two[0].1);
        let replicas = lately.chain([last]).max().unwrap_or(0);
        replicas + scheduler.timings().surge(replicas)
    }
}

/// The host and the id that the store has for the workload of an id.
fn wanted_place<'a>(store: &'a Store, id: &str) -> Option<(&'a str, &'a str)> {
    noted_place(workload_of(store, id)?)
}

/// As the status tells, or until there is one, the annotation that it was created with.
fn noted_place(workload: &api::Workload) -> Option<(&str, &str)> {
    let metadata = &workload.metadata;
    match &workload.status {
        Some(status) if !status.workload_id.is_empty() => {
            Some((&status.host_id, &status.workload_id))
        }
        _ => {
            let host = metadata.annotations.get("berth.dev/placed-on")?;
            Some((host, &metadata.uid))
        }
    }
}

fn workload_of<'a>(store: &'a Store, id: &str) -> Option<&'a api::Workload> {
    store
        .of_kind(Kind::Workload)
        .find_map(|object| match object {
            Object::Workload(workload) => {
                let rest = id.strip_prefix(workload.metadata.uid.as_str())?;
                (rest.is_empty() || rest.starts_with('-')).then_some(&**workload)
            }
            _ => None,
        })
}

/// Whose wanted ids are counted together: a deployment's, by its name and its uid. What an earlier one of the same
/// name has left is not wanted by the next. What belongs to a set that is deleted with all that belongs to it is
/// counted by itself, for it is wanted no longer while something takes its place.
type Owner = (Key, String);

/// The owner of each replica set, by the uid of the set.
fn owners(store: &Store, creating: &BTreeMap<Key, Object>) -> BTreeMap<String, Owner> {
    let sets = store
        .of_kind(Kind::WorkloadReplicaSet)
        .chain(creating.values());
    let owners = sets.filter_map(|object| {
        let Object::ReplicaSet(set) = object else {
            return None;
        };
        let owner = set.metadata.controller()?;
        let key = Key::new(
            Kind::WorkloadDeployment,
            set.metadata.namespace.as_str(),
            owner.name.as_str(),
        );
        let uid = set.metadata.uid.clone();
        let counted = match set.metadata.is_deleting() {
            true => uid.clone(),
            false => owner.uid.clone(),
        };
        Some((uid, (key, counted)))
    });
    owners.collect()
}
