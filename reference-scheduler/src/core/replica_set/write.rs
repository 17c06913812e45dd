//! Writes a replica set: creation, deletion, size and status. Times are durations since an
//! arbitrary start.

use std::sync::Arc;
use std::time::Duration;

use crate::api::{
    self, Condition, ConditionStatus, Object, ReplicaCounts, WorkloadReplicaSet,
    WorkloadReplicaSetStatus, names, set_condition,
};
use crate::core::backoff::Backoff;
use crate::core::work_queue::WorkItem;
use crate::core::{ANY_UID, Scheduler, Status, StoreError, Write};

/// Reason of a condition that is true.
const AVAILABLE_REASON: &str = "Available";

/// Reason of a condition that is not true yet, because reconciliation continues.
const NOT_RECONCILED_REASON: &str = "Reconcile";

/// Reason of a condition and of an event while the store refuses to create an object.
pub(in crate::core) const REFUSED_REASON: &str = "FailedCreate";

impl Scheduler {
    /// Performs the next write, or returns when to check again.
    pub(super) fn write_set(&mut self, set_index: u32) -> Option<Duration> {
        let now = self.now;
        let is_garbage = self.is_garbage_set(set_index);
        let set = self.sets.get(set_index)?;
        if !set.cached.can_write(now) {
            return set.cached.next_write_at(now);
        }
        let (item, key) = (WorkItem::Set(set_index), set.key.clone());
        let Some(object) = set.cached.object.as_ref() else {
            let pending = set.pending_create.clone()?;
            if set.is_discarded {
                self.on_set_removed(&key, ANY_UID);
                return None;
            }
            self.write(item, Write::Create(Object::ReplicaSet(pending)));
            return None;
        };
        let uid = object.metadata.uid.clone();
        if object.metadata.is_deleting() {
            return None;
        }
        if set.is_discarded || is_garbage {
            self.write(item, Write::Delete { key, uid });
            return None;
        }
        if let Some(replicas) = set.pending_size {
            self.write(item, Write::Replicas { key, uid, replicas });
            return None;
        }
        let status = self.desired_set_status(set_index, object)?;
        // Counts change in bursts, so status writes are rate-limited. A status with the condition
        // Ready is written at once.
        let due = set.status_written_at + self.options.timings.counts_write_interval;
        let is_ready = api::is_true(&status.conditions, names::replica_set::READY);
        if now < due && !is_ready {
            return Some(due);
        }
        if let Some(set) = self.sets.get_mut(set_index) {
            set.status_written_at = now;
        }
        let status = Status::ReplicaSet(status);
        self.write(
            item,
            Write::Status {
                key,
                uid,
                status,
                is_deferrable: true,
            },
        );
        None
    }

    /// Returns whether the scheduler has to delete the set, because its deployment no longer exists
    /// and the store does not collect garbage.
    fn is_garbage_set(&self, set_index: u32) -> bool {
        let owner = self.sets.get(set_index).and_then(|set| set.owner.as_ref());
        self.options.collect_garbage
            && owner.is_some_and(|owner| !self.deployments_by_uid.contains_key(owner))
    }

    fn desired_set_status(
        &self,
        set_index: u32,
        object: &WorkloadReplicaSet,
    ) -> Option<WorkloadReplicaSetStatus> {
        use ConditionStatus::{False, True};
        let set = self.sets.get(set_index)?;
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
            let condition = |name, is_true: bool, message: String| {
                if is_true {
                    Condition::new(name, True, AVAILABLE_REASON, "")
                } else {
                    Condition::new(name, False, NOT_RECONCILED_REASON, message)
                }
            };
            let existing = format!("{current} of {expected} exist");
            let refused = |mut condition: Condition| {
                if let (False, Some(message)) = (condition.status, &set.create_refusal) {
                    REFUSED_REASON.clone_into(&mut condition.reason);
                    condition.message = format!("{}: {message}", condition.message);
                }
                condition
            };
            vec![
                refused(condition(
                    names::replica_set::SCALE_UP,
                    current >= expected,
                    existing.clone(),
                )),
                condition(
                    names::replica_set::SCALE_DOWN,
                    current <= expected,
                    existing,
                ),
                refused(condition(
                    names::replica_set::READY,
                    ready >= expected && current == expected,
                    format!("{ready} of {expected} are ready"),
                )),
            ]
        };
        for mut condition in conditions {
            condition.observed_generation = object.metadata.generation;
            changed |= set_condition(&mut status.conditions, condition, self.timestamp());
        }
        changed.then_some(status)
    }

    pub(in crate::core) fn on_set_written(
        &mut self,
        set_index: u32,
        result: Result<Arc<WorkloadReplicaSet>, StoreError>,
    ) {
        let (now, retry) = (self.now, self.options.timings.write_retry);
        let Some(set) = self.sets.get_mut(set_index) else {
            return;
        };
        set.cached.end_write(now, retry, result.as_ref().err());
        let (key, uid) = (set.key.clone(), set.uid.to_string());
        let already_existed = set.pending_create.is_none();
        match result {
            Ok(object) => self.on_set_applied(object),
            Err(StoreError::NotFound) if already_existed => self.on_set_removed(&key, &uid),
            Err(StoreError::Refused(message)) if !already_existed => {
                self.on_create_refused(set_index, message);
            }
            Err(_) => {}
        }
        self.queue.enqueue(WorkItem::Set(set_index));
    }

    /// Handles a creation, of a set or of one of its workloads, that the store refuses, for example
    /// because of a quota. The first refusal is an event, all are a reason in the status.
    pub(in crate::core) fn on_create_refused(&mut self, set_index: u32, message: String) {
        let timings = self.options.timings;
        let Some(set) = self.sets.get_mut(set_index) else {
            return;
        };
        set.create_backoff.record_failure(self.now, &timings);
        let is_first = set.create_refusal.replace(message.clone()).is_none();
        let (mut key, mut uid) = (set.key.clone(), set.uid.to_string());
        if let Some(deployment) = self.deployment_index_of(set_index) {
            self.queue.enqueue(WorkItem::Deployment(deployment));
            // A set that does not exist cannot have events.
            if let Some(deployment) = self.deployments.get(deployment).filter(|_| uid.is_empty()) {
                (key, uid) = (deployment.key.clone(), deployment.uid.to_string());
            }
        }
        if is_first {
            self.record_warning(key, uid, REFUSED_REASON, message);
        }
        self.queue.enqueue(WorkItem::Set(set_index));
    }

    /// Resumes creations after the store has created a workload.
    pub(in crate::core) fn on_member_created(&mut self, workload_index: u32) {
        let set_index = self.set_index_of(workload_index);
        let Some(set) = set_index.and_then(|set| self.sets.get_mut(set)) else {
            return;
        };
        if set.create_refusal.take().is_some() {
            set.create_backoff = Backoff::default();
            if let Some(set_index) = set_index {
                self.on_set_changed(set_index);
            }
        }
    }
}
