//! Reconciliation of objects with replicas: scaling, rollouts and deletions.

use std::time::Duration;

use serde_json::{Value, json};

use super::fleet::MALFORMED_MARK;
use super::incarnation::pending_stop_of;
use super::manifest_store::revision_of;
use super::request::Blocked;
use super::state::{Host, PendingStop, Phase, Replica};
use super::{Model, Mutant, Variant, placement};

/// Desired state of an object.
#[derive(Clone, Debug)]
pub(super) struct DesiredState {
    pub owner: String,
    pub namespace: String,
    pub name: String,
    pub replicas: usize,
    pub recreate: bool,
    pub revision: String,
    pub spec: Value,
    pub annotations: Value,
    pub is_bare_workload: bool,
}

impl Model {
    /// Returns the desired state of an accepted object, with its artifacts resolved.
    pub(super) fn desired(&self, owner: &str, object: &Value) -> Result<DesiredState, Blocked> {
        let text = |pointer: &str| {
            let text = object.pointer(pointer).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let kind = text("/kind");
        let is_bare_workload = kind == "Workload";
        let base = if is_bare_workload {
            "/spec"
        } else {
            "/spec/template/spec"
        };
        let mut spec = object.pointer(base).cloned().unwrap_or_else(|| json!({}));
        if let (false, Some(kubernetes)) = (is_bare_workload, object.pointer("/spec/kubernetes"))
            && let Some(spec) = spec.as_object_mut()
        {
            spec.insert("kubernetes".to_owned(), kubernetes.clone());
        }
        self.resolve_artifacts(object, &mut spec)?;
        let replicas = object
            .pointer("/spec/replicas")
            .and_then(Value::as_i64)
            .unwrap_or(1)
            .max(0);
        let annotations = if is_bare_workload {
            "/metadata/annotations"
        } else {
            "/spec/template/annotations"
        };
        Ok(DesiredState {
            owner: owner.to_owned(),
            namespace: owner.split('/').nth(1).unwrap_or_default().to_owned(),
            name: text("/metadata/name"),
            replicas: if is_bare_workload {
                1
            } else {
                usize::try_from(replicas).unwrap_or(0)
            },
            recreate: is_bare_workload || text("/spec/deployPolicy") == "Recreate",
            revision: revision_of(&spec),
            spec,
            annotations: object.pointer(annotations).cloned().unwrap_or_default(),
            is_bare_workload,
        })
    }

    fn resolve_artifacts(&self, object: &Value, spec: &mut Value) -> Result<(), Blocked> {
        if self.is(Mutant::SendsArtifactReferences) {
            return Ok(());
        }
        let namespace = object
            .pointer("/metadata/namespace")
            .and_then(Value::as_str)
            .unwrap_or("default");
        let image_of = |image: &str| -> Option<Result<String, Blocked>> {
            let entry = image.strip_prefix("artifact://")?;
            let listed = object.pointer("/spec/artifacts").and_then(Value::as_array);
            let mut listed = listed.into_iter().flatten();
            let item = listed.find(|item| item.get("name").and_then(Value::as_str) == Some(entry));
            let name = item
                .and_then(|item| item.pointer("/artifactFrom/name"))
                .and_then(Value::as_str)
                .unwrap_or(entry);
            let key = format!("Artifact/{namespace}/{name}");
            let keep_first = self.is(Mutant::IgnoresArtifactChanges);
            Some(match self.store.artifact(&key, keep_first) {
                Some(image) => Ok(image),
                None if self.is(Mutant::StartsWithoutArtifact) => Ok(image.to_owned()),
                None => Err(Blocked(format!("Artifact {name} does not exist"))),
            })
        };
        let mut parts: Vec<&mut Value> = Vec::new();
        if let Some(spec) = spec.as_object_mut() {
            for (name, part) in spec.iter_mut() {
                match (name.as_str(), part) {
                    ("components", Value::Array(components)) => parts.extend(components.iter_mut()),
                    ("service", service) => parts.push(service),
                    _ => {}
                }
            }
        }
        for part in parts {
            let image = part.get("image").and_then(Value::as_str).and_then(image_of);
            if let (Some(image), Some(part)) = (image, part.as_object_mut()) {
                part.insert("image".to_owned(), json!(image?));
            }
        }
        Ok(())
    }

    /// Reconciles the replicas of every object with its desired state.
    pub(super) fn reconcile(&mut self) {
        let owners: Vec<(String, Value)> = self
            .persisted
            .accepted
            .iter()
            .map(|(owner, object)| (owner.clone(), object.clone()))
            .collect();
        for (owner, object) in owners {
            match self.desired(&owner, &object) {
                Ok(desired) => {
                    self.store.set_waiting_reason(&owner, None);
                    let desired = self.mutate_desired(desired);
                    self.reconcile_set(desired);
                }
                Err(Blocked(reason)) => self.store.set_waiting_reason(&owner, Some(reason)),
            }
        }
        let of_deleted_objects: Vec<usize> = (0..self.persisted.replicas.len())
            .filter(|index| {
                let replica = self.persisted.replicas.get(*index);
                replica.is_some_and(|replica| !self.persisted.accepted.contains_key(&replica.owner))
            })
            .collect();
        self.delete_replicas(of_deleted_objects);
        if self.is(Mutant::Rebalances) {
            self.rebalance();
        }
    }

    /// Applies the mutant to a desired state.
    fn mutate_desired(&mut self, mut desired: DesiredState) -> DesiredState {
        let owner = desired.owner.clone();
        if self.is(Mutant::OneReplicaTooFew) && desired.replicas > 1 {
            desired.replicas -= 1;
        }
        if self.is(Mutant::ZeroReplicasIsOne) {
            desired.replicas = desired.replicas.max(1);
        }
        let own_replicas = || {
            self.persisted
                .replicas
                .iter()
                .filter(|replica| replica.owner == owner)
        };
        let ready_revision = own_replicas()
            .find(|replica| replica.is_ready())
            .map(|replica| replica.revision.clone());
        let failing_revision = own_replicas()
            .find(|replica| replica.failures > 0)
            .map(|replica| replica.revision.clone());
        let kept_revision = match self.options.mutant {
            Some(Mutant::IgnoresTemplateChange) => ready_revision,
            Some(Mutant::NeverLeavesBadTemplate) => failing_revision,
            Some(Mutant::NoRollback) => {
                self.store.record_unless_rollback(&owner, &desired.revision)
            }
            _ => None,
        };
        if let Some(revision) = kept_revision
            && let Some(replica) = own_replicas().find(|replica| replica.revision == revision)
        {
            (desired.spec, desired.revision) = (replica.spec.clone(), revision);
        }
        if self.is(Mutant::IgnoresScaleDuringRollout) {
            let is_rolling = own_replicas().any(|replica| replica.revision != desired.revision);
            desired.replicas = self
                .store
                .record_initial_size(&owner, desired.replicas, is_rolling);
        }
        if self.is(Mutant::RecreateOverlaps) {
            desired.recreate = false;
        }
        desired
    }

    /// Whether the replicas of an owner must not overlap.
    pub(super) fn is_recreate(&self, owner: &str) -> bool {
        let object = self.persisted.accepted.get(owner);
        let policy = object.and_then(|object| object.pointer("/spec/deployPolicy"));
        policy.and_then(Value::as_str) == Some("Recreate")
    }

    /// Returns the indices of an object's replicas of the desired revision.
    fn current_replicas(&self, desired: &DesiredState) -> Vec<usize> {
        self.replica_indices(|replica| {
            replica.owner == desired.owner && replica.revision == desired.revision
        })
    }

    /// Returns the indices of an object's replicas of other revisions than the desired one.
    fn old_replicas(&self, desired: &DesiredState) -> Vec<usize> {
        self.replica_indices(|replica| {
            replica.owner == desired.owner && replica.revision != desired.revision
        })
    }

    fn replica_indices(&self, matches: impl Fn(&Replica) -> bool) -> Vec<usize> {
        let replicas = self.persisted.replicas.iter().enumerate();
        replicas
            .filter(|(_, replica)| matches(replica))
            .map(|(index, _)| index)
            .collect()
    }

    /// Creates and stops replicas of one object.
    fn reconcile_set(&mut self, desired: DesiredState) {
        let old = self.old_replicas(&desired);
        let new = self.current_replicas(&desired);
        if desired.recreate && !old.is_empty() {
            return self.stop_replicas(old);
        }
        let is_pending = |stop: &PendingStop| {
            stop.owner == desired.owner && !stop.on_lost_host && !stop.finished
        };
        let mut pending_stops = self.persisted.pending_stops.iter();
        if desired.recreate && new.is_empty() && pending_stops.any(is_pending) {
            return;
        }
        let size = desired.replicas;
        let surge = match self.options.mutant {
            Some(Mutant::ReplacesAllAtOnce) => size,
            _ => size.div_ceil(4),
        };
        let is_rolling = !old.is_empty();
        let max_total = match self.options.mutant {
            Some(Mutant::UnboundedSurge) if is_rolling => size * 3,
            _ if is_rolling => size + surge,
            _ => size.max(new.len()),
        };
        let target = match self.options.mutant {
            Some(Mutant::UnboundedSurge) if is_rolling => size * 2,
            Some(Mutant::CountsFromStaleCache) if self.store.take_stale_count(&desired.owner) => {
                size + new.len()
            }
            _ => size,
        };
        let max_total = if self.is(Mutant::CountsFromStaleCache) {
            max_total.max(target)
        } else {
            max_total
        };
        let missing = target
            .saturating_sub(new.len())
            .min(max_total.saturating_sub(new.len() + old.len()));
        let grows = !new.is_empty() && missing > 0 && !is_rolling;
        if grows && self.is(Mutant::ScaleUpRestarts) {
            return self.stop_replicas(new);
        }
        for _ in 0..missing {
            self.create_replica(&desired);
        }
        if missing == 0 && !self.is(Mutant::UnboundedSurge) {
            self.scale_down(&desired, &new, is_rolling);
        }
        if is_rolling {
            self.retire_old_replicas(&desired);
        }
    }

    fn create_replica(&mut self, desired: &DesiredState) {
        self.persisted.last_number += 1;
        let name = if desired.is_bare_workload {
            desired.name.clone()
        } else {
            let suffix = rand::random::<u32>();
            format!("{}-{}-{suffix:08x}", desired.name, desired.revision)
        };
        self.persisted.replicas.push(Replica {
            number: self.persisted.last_number,
            name,
            namespace: desired.namespace.clone(),
            owner: desired.owner.clone(),
            revision: desired.revision.clone(),
            spec: desired.spec.clone(),
            annotations: desired.annotations.clone(),
            id: None,
            host: None,
            phase: Phase::Waiting,
            message: String::new(),
            request: String::new(),
            attempts: 0,
            failures: 0,
            last_failed_host: None,
            not_before: self.now,
            requested_at: self.now,
            request_in_flight: false,
            running_since: self.now,
        });
        self.dirty = true;
    }

    /// Stops surplus replicas: first the unready replicas, then the youngest.
    fn scale_down(&mut self, desired: &DesiredState, new: &[usize], is_rolling: bool) {
        let surplus = new.len().saturating_sub(desired.replicas);
        if surplus == 0 || self.is(Mutant::IgnoresScaleDown) {
            return;
        }
        if self.is(Mutant::ScaleDownRestarts) && !is_rolling {
            return self.stop_replicas(new.to_vec());
        }
        let mut victims = new.to_vec();
        let ready_first = self.is(Mutant::ScaleDownStopsReadyFirst);
        let oldest_first = ready_first || self.has_variant(Variant::OldestFirst);
        victims.sort_by_key(|index| {
            let replica = self.persisted.replicas.get(*index);
            let is_ready = replica.is_some_and(Replica::is_ready);
            let number = replica.map_or(0, |replica| replica.number);
            let age = if oldest_first {
                number
            } else {
                u64::MAX - number
            };
            (is_ready != ready_first, age)
        });
        victims.truncate(surplus);
        self.stop_replicas(victims);
    }

    /// Stops replicas of earlier templates: unready replicas at once, ready replicas as soon as
    /// replacements are ready.
    fn retire_old_replicas(&mut self, desired: &DesiredState) {
        let size = desired.replicas;
        let old = self.old_replicas(desired);
        let new = self.current_replicas(desired);
        let is_ready = |index: &usize| {
            self.persisted
                .replicas
                .get(*index)
                .is_some_and(Replica::is_ready)
        };
        let (ready, unready): (Vec<usize>, Vec<usize>) =
            old.iter().copied().partition(|index| is_ready(index));
        let new_ready = new.iter().filter(|index| is_ready(index)).count();
        let total_ready = match self.options.mutant {
            Some(Mutant::CountsCreatedAsReady) => ready.len() + new.len(),
            _ => ready.len() + new_ready,
        };
        // An unready replica of the last good template restarts, as long as it is needed.
        let last_good = ready.first().and_then(|index| self.revision_of(*index));
        let is_kept = |index: &usize| {
            total_ready < size && last_good.is_some() && self.revision_of(*index) == last_good
        };
        let mut victims: Vec<usize> = unready
            .into_iter()
            .filter(|index| !is_kept(index))
            .collect();
        let surplus = match self.options.mutant {
            Some(Mutant::StopsOldFirst) => ready.len(),
            _ => total_ready.saturating_sub(size).min(ready.len()),
        };
        victims.extend(ready.iter().copied().take(surplus));
        if self.is(Mutant::StopsLastGoodTemplate) {
            let previous = self
                .store
                .record_revision(&desired.owner, &desired.revision);
            let older = ready.iter().copied().filter(|index| {
                let replica = self.persisted.replicas.get(*index);
                let revision = replica.map(|replica| replica.revision.clone());
                previous.is_some() && revision != previous
            });
            victims.extend(older);
            victims.sort_unstable();
            victims.dedup();
        }
        if self.is(Mutant::UnboundedSurge) && new_ready < size * 2 {
            return;
        }
        self.stop_replicas(victims);
    }

    fn revision_of(&self, index: usize) -> Option<&String> {
        let replica = self.persisted.replicas.get(index)?;
        Some(&replica.revision)
    }

    /// Removes replicas and adds pending stops for their ids.
    fn stop_replicas(&mut self, mut indices: Vec<usize>) {
        indices.sort_unstable();
        for index in indices.into_iter().rev() {
            if index >= self.persisted.replicas.len() {
                continue;
            }
            let replica = self.persisted.replicas.remove(index);
            let on_lost_host = replica
                .host
                .as_ref()
                .is_some_and(|host| self.hosts.get(host).is_some_and(|host| host.lost));
            let stop = pending_stop_of(&replica, self.now).map(|stop| PendingStop {
                on_lost_host,
                ..stop
            });
            let is_unanswered = matches!(replica.phase, Phase::Sent | Phase::Unknown);
            if self.is(Mutant::NeverStopsUnansweredStarts) && is_unanswered {
                continue;
            }
            self.persisted.pending_stops.extend(stop);
            if self.is(Mutant::StopsUnrelatedWorkload) {
                let mut others = self.persisted.replicas.iter();
                let other = others
                    .find(|other| other.phase == Phase::Running && other.owner != replica.owner);
                let stop = other.and_then(|other| pending_stop_of(other, self.now));
                self.persisted.pending_stops.extend(stop);
            }
            self.dirty = true;
        }
    }

    /// Stops the replicas of deleted objects.
    fn delete_replicas(&mut self, deleted: Vec<usize>) {
        if deleted.is_empty() {
            return;
        }
        if self.is(Mutant::DeletesWithoutStopping) {
            let mut index = 0;
            self.persisted.replicas.retain(|_| {
                index += 1;
                !deleted.contains(&(index - 1))
            });
            return;
        }
        if self.is(Mutant::RestartsDeleted) {
            let now = self.now;
            let restarted: Vec<Replica> = deleted
                .iter()
                .filter_map(|index| self.persisted.replicas.get(*index))
                .filter(|replica| replica.id.is_some() && replica.failures < 100)
                .cloned()
                .collect();
            self.stop_replicas(deleted);
            for mut replica in restarted {
                self.persisted.last_number += 1;
                replica.number = self.persisted.last_number;
                replica.reset("restarted", now + Duration::from_millis(100));
                // Marks the replica, so that it is not restarted again.
                replica.failures = 100;
                self.store.resurrect(replica);
            }
            return;
        }
        let left_running = usize::from(self.is(Mutant::LeavesOneReplica) && deleted.len() > 1);
        let (stopped, forgotten) = deleted.split_at(deleted.len() - left_running);
        let forgotten: Vec<u64> = forgotten
            .iter()
            .filter_map(|index| self.persisted.replicas.get(*index))
            .map(|replica| replica.number)
            .collect();
        self.stop_replicas(stopped.to_vec());
        self.persisted
            .replicas
            .retain(|replica| !forgotten.contains(&replica.number));
    }

    /// Deletes the objects whose workloads run on a host, for `Mutant::DeletesObjectsOfLostHosts`.
    pub(super) fn delete_objects_on(&mut self, host: &str) {
        let on_host = self
            .persisted
            .replicas
            .iter()
            .filter(|replica| replica.host.as_deref() == Some(host));
        let owners: Vec<String> = on_host.map(|replica| replica.owner.clone()).collect();
        for owner in owners {
            self.persisted.accepted.remove(&owner);
            self.store.ignore(&owner);
        }
    }

    /// Moves a running replica to an empty host, for `Mutant::Rebalances`.
    fn rebalance(&mut self) {
        let count_on = |id: &String| {
            self.persisted
                .replicas
                .iter()
                .filter(|replica| replica.host.as_ref() == Some(id))
                .count()
        };
        let is_empty = |(id, host): &(&String, &Host)| {
            self.is_usable(host) && count_on(id) == 0 && *id != MALFORMED_MARK
        };
        let empty_hosts: Vec<(&String, &Host)> = self.hosts.iter().filter(is_empty).collect();
        let movable = self.persisted.replicas.iter().position(|replica| {
            let fits = |(id, host): &(&String, &Host)| {
                placement::check_host(&replica.spec, id, &host.heartbeat, None).is_ok()
            };
            let shares_host = replica.host.as_ref().is_some_and(|host| count_on(host) > 1);
            replica.phase == Phase::Running && shares_host && empty_hosts.iter().any(fits)
        });
        let now = self.now;
        if let Some(replica) = movable.and_then(|index| self.persisted.replicas.get_mut(index)) {
            let stop = pending_stop_of(replica, now);
            self.persisted.pending_stops.extend(stop);
            replica.reset("moved to another host", now);
        }
    }
}
