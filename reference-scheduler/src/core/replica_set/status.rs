//! What the store is told of a replica set, and what it answers.

use std::sync::Arc;
use std::time::Duration;

use crate::api::{
    self, Condition, ConditionStatus, Object, ReplicaCounts, WorkloadReplicaSet,
    WorkloadReplicaSetStatus, names, set_condition,
};
use crate::core::agenda::Item;
use crate::core::{Scheduler, Status, Write, WriteError};

impl Scheduler {
    pub(super) fn write_set(&mut self, number: u32) -> Option<Duration> {
        let now = self.now;
        let garbage = self.is_garbage_set(number);
        let set = self.sets.get(number)?;
        if !set.kept.is_free(now) {
            return set.kept.free_at(now);
        }
        let (item, key) = (Item::Set(number), set.key.clone());
        let Some(object) = set.kept.object.as_ref() else {
            let draft = set.draft.clone()?;
            if set.unwanted {
                self.set_removed(&key, "");
                return None;
            }
            self.write(item, Write::Create(Object::ReplicaSet(draft)));
            return None;
        };
        let uid = object.metadata.uid.clone();
        if object.metadata.is_deleting() {
            return None;
        }
        if set.unwanted || garbage {
            self.write(item, Write::Delete { key, uid });
            return None;
        }
        if let Some(replicas) = set.resized {
            self.write(item, Write::Replicas { key, uid, replicas });
            return None;
        }
        let status = self.wanted_set_status(number, object)?;
        // Counts come in bursts; the last word is not held back.
        let due = set.counted_at + self.options.timings.count_interval;
        let done = api::is_true(&status.conditions, names::replica_set::READY);
        if now < due && !done {
            return Some(due);
        }
        if let Some(set) = self.sets.get_mut(number) {
            set.counted_at = now;
        }
        let status = Status::ReplicaSet(status);
        self.write(
            item,
            Write::Status {
                key,
                uid,
                status,
                can_wait: true,
            },
        );
        None
    }

    fn is_garbage_set(&self, number: u32) -> bool {
        let owner = self.sets.get(number).and_then(|set| set.owner.as_ref());
        self.options.collect_garbage
            && owner.is_some_and(|owner| !self.deployments_by_uid.contains_key(owner))
    }

    fn wanted_set_status(
        &self,
        number: u32,
        object: &WorkloadReplicaSet,
    ) -> Option<WorkloadReplicaSetStatus> {
        use ConditionStatus::{False, True};
        let set = self.sets.get(number)?;
        let mut status = object.status.clone().unwrap_or_default();
        let counts = set.counts;
        let mut changed = status.replicas.replace(counts) != Some(counts);
        let ReplicaCounts {
            expected,
            current,
            ready,
            ..
        } = counts;
        let conditions = if set.is_invalid() {
            let invalid = |name| Condition::new(name, False, "Invalid", "replicas is negative");
            changed =
                status.replicas.take() != object.status.as_ref().and_then(|status| status.replicas);
            let name = names::replica_set::READY;
            vec![invalid(name)]
        } else {
            let judge = |name, holds, reason: &str, message: String| match holds {
                true => Condition::new(name, True, "Available", ""),
                false => Condition::new(name, False, reason, message),
            };
            let of = |what: &str, count: i32| format!("{count} of {expected} {what}");
            vec![
                judge(
                    names::replica_set::SCALE_UP,
                    current >= expected,
                    "Reconcile",
                    of("are there", current),
                ),
                judge(
                    names::replica_set::SCALE_DOWN,
                    current <= expected,
                    "Reconcile",
                    of("are there", current),
                ),
                judge(
                    names::replica_set::READY,
                    ready >= expected && current == expected,
                    "Reconcile",
                    of("are ready", ready),
                ),
            ]
        };
        for mut condition in conditions {
            condition.observed_generation = object.metadata.generation;
            changed |= set_condition(&mut status.conditions, condition, self.timestamp());
        }
        changed.then_some(status)
    }

    pub(in crate::core) fn set_written(
        &mut self,
        number: u32,
        result: Result<Arc<WorkloadReplicaSet>, WriteError>,
    ) {
        let (now, retry) = (self.now, self.options.timings.write_retry);
        let Some(set) = self.sets.get_mut(number) else {
            return;
        };
        set.kept.end(now, retry, result.as_ref().err());
        let (key, uid) = (set.key.clone(), set.uid.to_string());
        let created = set.draft.is_none();
        match result {
            Ok(object) => self.apply_set(object),
            Err(WriteError::NotFound) if created => self.set_removed(&key, &uid),
            Err(WriteError::Refused(message)) if !created => {
                self.set_refused(number, message);
            }
            Err(_) => {}
        }
        self.agenda.look_at(Item::Set(number));
    }

    /// It is tried again, with the pause that the record keeps.
    fn set_refused(&mut self, number: u32, message: String) {
        if let Some(deployment) = self
            .deployment_of(number)
            .and_then(|number| self.deployments.get(number))
        {
            let (key, uid) = (deployment.key.clone(), deployment.uid.to_string());
            self.warn(key, uid, "FailedCreate", message);
        }
    }
}
