//! Writes a replica set: creation, deletion, size and status. Times are durations since an
//! arbitrary start.

use std::sync::Arc;
use std::time::Duration;

use crate::api::{
    self, Condition, ConditionStatus, Object, ReplicaCounts, WorkloadReplicaSet,
    WorkloadReplicaSetStatus, names, set_condition,
};
use crate::core::work_queue::WorkItem;
use crate::core::{ANY_UID, Scheduler, Status, StoreError, Write};

/// Reason of a condition that is true.
const AVAILABLE_REASON: &str = "Available";

/// Reason of a condition that is not true yet, because reconciliation continues.
const NOT_RECONCILED_REASON: &str = "Reconcile";

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
            vec![
                condition(
                    names::replica_set::SCALE_UP,
                    current >= expected,
                    existing.clone(),
                ),
                condition(
                    names::replica_set::SCALE_DOWN,
                    current <= expected,
                    existing,
                ),
                condition(
                    names::replica_set::READY,
                    ready >= expected && current == expected,
                    format!("{ready} of {expected} are ready"),
                ),
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
                self.on_set_create_refused(set_index, message);
            }
            Err(_) => {}
        }
        self.queue.enqueue(WorkItem::Set(set_index));
    }

    /// Records an event for the deployment: the store refuses to create its set. The creation is
    /// retried with the same backoff as other writes.
    fn on_set_create_refused(&mut self, set_index: u32, message: String) {
        if let Some(deployment) = self
            .deployment_index_of(set_index)
            .and_then(|index| self.deployments.get(index))
        {
            let (key, uid) = (deployment.key.clone(), deployment.uid.to_string());
            self.record_warning(key, uid, "FailedCreate", message);
        }
    }
}
