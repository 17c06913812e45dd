//! The items to reconcile, now or later.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Delay before a set is reconciled, so that changes in quick succession are handled together.
pub(super) const DEBOUNCE: Duration = Duration::from_millis(10);

/// An item to reconcile. Items are processed in the order of the variants: owners before the
/// objects they own, and placement last, so that it sees every waiting workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WorkItem {
    /// A Host object.
    HostObject(u32),
    /// The pending stops of a host.
    Stops(u32),
    Artifact(u32),
    Deployment(u32),
    Set(u32),
    Workload(u32),
    /// All workloads without a host.
    Placement,
}

/// Holds each item at most once for now and once for later.
#[derive(Debug, Default)]
pub(super) struct WorkQueue {
    now: BTreeSet<WorkItem>,
    later: BTreeSet<(Duration, WorkItem)>,
    due: BTreeMap<WorkItem, Duration>,
}

impl WorkQueue {
    pub fn enqueue(&mut self, item: WorkItem) {
        self.now.insert(item);
    }

    /// Schedules an item for `at`, replacing the time set before.
    pub fn reschedule(&mut self, item: WorkItem, at: Option<Duration>) {
        if let Some(before) = self.due.remove(&item) {
            self.later.remove(&(before, item));
        }
        if let Some(at) = at {
            self.due.insert(item, at);
            self.later.insert((at, item));
        }
    }

    /// Schedules an item for `at`, unless it is already due earlier.
    pub fn enqueue_at(&mut self, item: WorkItem, at: Duration) {
        if self.due.get(&item).is_none_or(|before| at < *before) {
            self.reschedule(item, Some(at));
        }
    }

    /// Moves due items to the current queue.
    pub fn advance(&mut self, now: Duration) {
        while let Some((at, item)) = self.later.first().copied() {
            if at > now {
                break;
            }
            self.later.remove(&(at, item));
            self.due.remove(&item);
            self.now.insert(item);
        }
    }

    pub fn next(&mut self) -> Option<WorkItem> {
        self.now.pop_first()
    }

    pub fn next_due(&self) -> Option<Duration> {
        self.later.first().map(|(at, _)| *at)
    }
}
