//! The items to reconcile, now or later. Times are durations since an arbitrary start.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Delay before a set is reconciled, so that changes in quick succession are handled together.
pub(super) const DEBOUNCE: Duration = Duration::from_millis(10);

/// An item to reconcile, with the index of its record. Items are processed in the order of the
/// variants: owners before the objects they own, and placement last, so that placement sees every
/// waiting workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WorkItem {
    /// A Host object.
    HostObject(u32),
    /// The pending stops of a host.
    Stops(u32),
    /// An Artifact object.
    Artifact(u32),
    /// A WorkloadDeployment object.
    Deployment(u32),
    /// A WorkloadReplicaSet object.
    Set(u32),
    /// A Workload object.
    Workload(u32),
    /// All workloads without a host.
    Placement,
}

/// Holds each item at most once as ready and once as scheduled for later.
#[derive(Debug, Default)]
pub(super) struct WorkQueue {
    ready: BTreeSet<WorkItem>,
    /// The scheduled items, by their due time.
    later: BTreeSet<(Duration, WorkItem)>,
    /// The due time of each item in `later`.
    due_by_item: BTreeMap<WorkItem, Duration>,
}

impl WorkQueue {
    pub fn enqueue(&mut self, item: WorkItem) {
        self.ready.insert(item);
    }

    /// Schedules an item for `at` and replaces its previous due time; `None` cancels it.
    pub fn reschedule(&mut self, item: WorkItem, at: Option<Duration>) {
        if let Some(before) = self.due_by_item.remove(&item) {
            self.later.remove(&(before, item));
        }
        if let Some(at) = at {
            self.due_by_item.insert(item, at);
            self.later.insert((at, item));
        }
    }

    /// Schedules an item for `at`, unless the item is already due earlier.
    pub fn enqueue_at(&mut self, item: WorkItem, at: Duration) {
        if self
            .due_by_item
            .get(&item)
            .is_none_or(|before| at < *before)
        {
            self.reschedule(item, Some(at));
        }
    }

    /// Makes the items ready that are due at `now`.
    pub fn advance(&mut self, now: Duration) {
        while let Some((at, item)) = self.later.first().copied() {
            if at > now {
                break;
            }
            self.later.remove(&(at, item));
            self.due_by_item.remove(&item);
            self.ready.insert(item);
        }
    }

    pub fn next(&mut self) -> Option<WorkItem> {
        self.ready.pop_first()
    }

    pub fn next_due_at(&self) -> Option<Duration> {
        self.later.first().map(|(at, _)| *at)
    }
}
