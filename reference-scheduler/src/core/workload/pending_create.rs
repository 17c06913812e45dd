//! A replica that is not created yet, with its assignment if a host fits. Times are durations since
//! an arbitrary start.

use std::sync::Arc;
use std::time::Duration;

use super::{Workload, owner_of, revision_of};
use crate::api::{self, Key, Object, names};
use crate::core::work_queue::WorkItem;
use crate::core::{ANY_UID, Scheduler, Write};

/// Time to wait if the name of a replica is in use by an object that the watch does not report.
const NAME_CONFLICT_TIMEOUT: Duration = Duration::from_secs(30);

/// A workload to create.
#[derive(Debug)]
pub(super) struct PendingCreate {
    pub object: Arc<api::Workload>,
    /// When its name was found to be in use.
    pub name_conflict_since: Option<Duration>,
}

impl Scheduler {
    /// Adds a workload that is to be created. Placement comes before the creation, so that the
    /// workload is created with its assignment.
    pub(in crate::core) fn add_pending_workload(&mut self, object: api::Workload) -> u32 {
        let object = Arc::new(object);
        let key = Object::Workload(object.clone()).key();
        let constraints = self.constraints_of(&object);
        let mut record = Workload::new(key.clone(), constraints);
        record.owner = owner_of(&object);
        record.revision = revision_of(&object);
        record.pending_create = Some(PendingCreate {
            object,
            name_conflict_since: None,
        });
        let owner = record.owner.clone();
        let workload_index = self.workloads.insert(key, record);
        if let Some(owner) = owner {
            self.members
                .entry(owner)
                .or_default()
                .insert(workload_index);
        }
        if self.may_place() {
            self.waiting.insert(workload_index);
            self.queue.enqueue(WorkItem::Placement);
        } else {
            self.queue.enqueue(WorkItem::Workload(workload_index));
        }
        workload_index
    }

    /// Creates the workload in the store once it has an assignment or no host fits.
    pub(super) fn write_pending_create(&mut self, workload_index: u32) -> Option<Duration> {
        let record = self.workloads.get(workload_index)?;
        let pending = record.pending_create.as_ref()?;
        if let Some(since) = pending.name_conflict_since {
            return self.wait_for_name(workload_index, since);
        }
        if record.is_discarded {
            let key = record.key.clone();
            self.on_workload_removed(&key, ANY_UID);
            return None;
        }
        // Placement runs at the end of a step and enqueues the workload again.
        if self.waiting.contains(&workload_index) {
            return None;
        }
        let mut object = pending.object.clone();
        let assignment = record.assignment.as_ref();
        if let Some(host) = assignment.and_then(|assignment| self.fleet.get(assignment.host)) {
            let annotations = &mut Arc::make_mut(&mut object).metadata.annotations;
            annotations.insert(names::PLACED_ON_ANNOTATION.to_owned(), host.id.to_string());
        }
        self.write(
            WorkItem::Workload(workload_index),
            Write::Create(Object::Workload(object)),
        );
        None
    }

    /// Waits while the name is in use, either by the object of an earlier attempt or by another
    /// object.
    fn wait_for_name(&mut self, workload_index: u32, since: Duration) -> Option<Duration> {
        let until = since + NAME_CONFLICT_TIMEOUT;
        if self.now < until {
            return Some(until);
        }
        let key = self.workloads.get(workload_index)?.key.clone();
        self.on_workload_removed(&key, ANY_UID);
        None
    }

    /// Handles a creation that the store refuses, for example because of a quota or a terminating
    /// namespace.
    pub(super) fn on_workload_create_refused(
        &mut self,
        workload_index: u32,
        key: &Key,
        message: String,
    ) {
        if let Some(set) = self.set_index_of(workload_index) {
            // Without the name, which differs for each attempt, equal reasons are equal.
            self.on_create_refused(set, message.replace(&*key.name, "the replica"));
        }
        self.on_workload_removed(key, ANY_UID);
    }
}
