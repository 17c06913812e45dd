//! The invariants that must hold after every step, and the history that is needed to check them.
//! Times are durations since an arbitrary start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use berth_scheduler::api::{self, Key, Kind, Object, WorkloadDeployment};
use berth_scheduler::core::{Command, Scheduler, Write};
use berth_sdk::scheduler::Health;

use super::store::Store;

/// Time after a decrease of `replicas` during which the larger number is still allowed.
const RESIZE_GRACE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub struct Invariants {
    /// The first violation.
    pub violation: Option<String>,
    pub starts: usize,
    pub stops: usize,
    pub heartbeat_requests: usize,
    pub warnings: Vec<String>,
    /// The host on which each id was started, and the content of the start.
    started: BTreeMap<Arc<str>, (Arc<str>, Arc<api::Workload>)>,
    /// Ids for which a stop was sent.
    stopped: BTreeSet<Arc<str>>,
    /// Objects that are being created or deleted.
    creating: BTreeMap<Key, Object>,
    deleting: BTreeSet<Key>,
    /// Requested replicas of each deployment over time.
    replicas: BTreeMap<Key, Vec<(Duration, u32)>>,
    checked_at: Duration,
}

impl Invariants {
    fn violate(&mut self, now: Duration, message: String) {
        self.violation
            .get_or_insert(format!("at {now:?}: {message}"));
    }

    /// Records that a user has applied a deployment.
    pub fn on_deployment_applied(&mut self, now: Duration, deployment: &WorkloadDeployment) {
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

    /// Records that a user has deleted a deployment.
    pub fn on_deployment_deleted(&mut self, now: Duration, key: &Key) {
        self.replicas.entry(key.clone()).or_default().push((now, 0));
    }

    pub fn on_scheduler_restarted(&mut self) {
        self.creating.clear();
        self.deleting.clear();
    }

    pub fn on_write_started(&mut self, _: Duration, write: &Write) {
        match write {
            Write::Create(object) => drop(self.creating.insert(object.key(), object.clone())),
            Write::Delete { key, .. } => drop(self.deleting.insert(key.clone())),
            _ => {}
        }
    }

    pub fn on_write_finished(&mut self, write: &Write) {
        match write {
            Write::Create(object) => drop(self.creating.remove(&object.key())),
            Write::Delete { key, .. } => drop(self.deleting.remove(key)),
            _ => {}
        }
    }

    /// Records an id that another scheduler has started.
    pub fn record_foreign_start(&mut self, id: &str, host: &str) {
        let entry = (Arc::from(host), Arc::new(api::Workload::default()));
        self.started.insert(id.into(), entry);
    }

    /// Checks a command to a host.
    pub fn on_call(&mut self, now: Duration, host: &Arc<str>, command: &Command, store: &Store) {
        match command {
            Command::Start { workload, id } => {
                self.starts += 1;
                if self.stopped.contains(id) {
                    self.violate(
                        now,
                        format!("{id} is started on {host} after it was stopped"),
                    );
                }
                let is_recorded = wanted_assignment(store, id)
                    .is_some_and(|(on, of)| *on == **host && *of == **id);
                if !is_recorded {
                    self.violate(
                        now,
                        format!("{id} is started on {host} without a record in the store"),
                    );
                }
                let first = self
                    .started
                    .entry(id.clone())
                    .or_insert_with(|| (host.clone(), workload.clone()));
                if first.0 != *host {
                    let message = format!("{id} is started on {host} after {}", first.0);
                    self.violate(now, message);
                } else if first.1.spec != workload.spec {
                    self.violate(now, format!("{id} is started again with different content"));
                }
            }
            Command::Stop { id } => {
                self.stops += 1;
                self.stopped.insert(id.clone());
                self.check_stop(now, host, id, store);
            }
            Command::Status { .. } => {}
            Command::Heartbeat => self.heartbeat_requests += 1,
        }
    }

    /// Checks a stop: the object must be gone, being deleted, or have another id or host; or the
    /// workload must have no owner, because such a workload is stopped before a restart.
    fn check_stop(&mut self, now: Duration, host: &str, id: &str, store: &Store) {
        let Some(workload) = workload_of(store, id) else {
            return;
        };
        let is_current = recorded_assignment(workload) == Some((host, id));
        let is_owned = workload.metadata.controller().is_some();
        if !workload.metadata.is_deleting() && is_current && is_owned {
            self.violate(
                now,
                format!("{id} is stopped on {host} and is wanted there"),
            );
        }
        if !self.started.contains_key(id) && workload.status.is_none() && !is_current {
            self.violate(now, format!("{id} is stopped and was never started"));
        }
    }

    /// Checks that no deployment has more wanted ids than allowed.
    pub fn check(&mut self, now: Duration, store: &Store, scheduler: &Scheduler) {
        // Counting visits all objects, so the counts are not checked after every step.
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
            let host = recorded_assignment(workload).map(|(host, _)| host);
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
                self.violate(
                    now,
                    format!("{deployment} has {count} wanted ids; at most {limit} are allowed"),
                );
            }
        }
    }

    fn limit(&self, now: Duration, deployment: &Key, scheduler: &Scheduler) -> u32 {
        let Some(requested) = self.replicas.get(deployment) else {
            return u32::MAX;
        };
        let last = requested.last().map_or(0, |(_, replicas)| *replicas);
        let recent = requested
            .windows(2)
            .filter(|pair| now < pair[1].0 + RESIZE_GRACE)
            .map(|pair| pair[0].1);
        let replicas = recent.chain([last]).max().unwrap_or(0);
        replicas + scheduler.timings().surge(replicas)
    }
}

/// Returns the host and the id that the store has for the workload of an id.
fn wanted_assignment<'a>(store: &'a Store, id: &str) -> Option<(&'a str, &'a str)> {
    recorded_assignment(workload_of(store, id)?)
}

/// Returns the host and the id from the status, or without a status from the annotation.
fn recorded_assignment(workload: &api::Workload) -> Option<(&str, &str)> {
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

/// The unit in which wanted ids are counted: a deployment, by its name and its uid, so that ids of
/// an earlier deployment of the same name are counted separately. A set that is deleted with its
/// dependents is counted separately, too, because its ids are no longer wanted while its
/// replacement starts.
type Owner = (Key, String);

/// Returns the owner of each replica set, by the uid of the set.
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
        let counted = if set.metadata.is_deleting() {
            uid.clone()
        } else {
            owner.uid.clone()
        };
        Some((uid, (key, counted)))
    });
    owners.collect()
}
