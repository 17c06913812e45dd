//! What is to be looked at, now or later.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Something to look at. The order is that in which it is done: what decides over others comes first,
/// placement last, so that it sees all that is to be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    /// A host: its object.
    Host(u32),
    /// What is to be stopped on a host.
    Stops(u32),
    Artifact(u32),
    Deployment(u32),
    Set(u32),
    Workload(u32),
    /// All workloads that wait for a host.
    Placement,
}

/// Each item is there at most once for now and once for later.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    now: BTreeSet<Item>,
    later: BTreeSet<(Duration, Item)>,
    due: BTreeMap<Item, Duration>,
}

impl Agenda {
    pub fn look_at(&mut self, item: Item) {
        self.now.insert(item);
    }

    /// Looks at it then, and not at the time that was set before.
    pub fn look_again(&mut self, item: Item, at: Option<Duration>) {
        if let Some(before) = self.due.remove(&item) {
            self.later.remove(&(before, item));
        }
        if let Some(at) = at {
            self.due.insert(item, at);
            self.later.insert((at, item));
        }
    }

    /// Looks at it then at the latest.
    pub fn look_by(&mut self, item: Item, at: Duration) {
        if self.due.get(&item).is_none_or(|before| at < *before) {
            self.look_again(item, Some(at));
        }
    }

    /// Moves what has become due.
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

    pub fn next(&mut self) -> Option<Item> {
        self.now.pop_first()
    }

    pub fn next_due(&self) -> Option<Duration> {
        self.later.first().map(|(at, _)| *at)
    }
}
