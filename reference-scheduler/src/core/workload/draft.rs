//! A replica until it is created: with its place, if there is one for it.

use std::sync::Arc;
use std::time::Duration;

use super::{Workload, owner_of, revision_of};
use crate::api::{self, Key, Object, names};
use crate::core::agenda::Item;
use crate::core::{Scheduler, Write};

/// How long a name that is taken, by something that the watch does not show, is waited for.
const GHOST_PATIENCE: Duration = Duration::from_secs(30);

/// What is to be created.
#[derive(Debug)]
pub(super) struct Draft {
    pub object: Arc<api::Workload>,
    /// Since when its name was found taken.
    pub ghost_since: Option<Duration>,
}

impl Scheduler {
    /// Files a workload that is about to be created, as if it were there. It is created with its place, if it can
    /// have one.
    pub(in crate::core) fn draft_workload(&mut self, object: api::Workload) -> u32 {
        let object = Arc::new(object);
        let key = Object::Workload(object.clone()).key();
        let shape = self.shape_of(&object);
        let mut record = Workload::new(key.clone(), shape);
        record.owner = owner_of(&object);
        record.revision = revision_of(&object);
        record.draft = Some(Draft {
            object,
            ghost_since: None,
        });
        let owner = record.owner.clone();
        let number = self.workloads.insert(key, record);
        if let Some(owner) = owner {
            self.members.entry(owner).or_default().insert(number);
        }
        match self.may_place() {
            true => {
                self.waiting.insert(number);
                self.agenda.look_at(Item::Placement);
            }
            false => self.agenda.look_at(Item::Workload(number)),
        }
        number
    }

    /// Creates it, once it has a place or is known to have none.
    pub(super) fn create_workload(&mut self, number: u32) -> Option<Duration> {
        let record = self.workloads.get(number)?;
        let draft = record.draft.as_ref()?;
        if let Some(since) = draft.ghost_since {
            return self.wait_for_ghost(number, since);
        }
        if record.unwanted {
            let key = record.key.clone();
            self.workload_removed(&key, "");
            return None;
        }
        // Placing comes last in a step, and brings it back here.
        if self.waiting.contains(&number) {
            return None;
        }
        let mut object = draft.object.clone();
        let place = record.place.as_ref();
        if let Some(host) = place.and_then(|place| self.fleet.get(place.host)) {
            let annotations = &mut Arc::make_mut(&mut object).metadata.annotations;
            annotations.insert(names::PLACED_ANNOTATION.to_owned(), host.id.to_string());
        }
        self.write(
            Item::Workload(number),
            Write::Create(Object::Workload(object)),
        );
        None
    }

    /// A name is taken: by what we created and were not told of, or by a stranger.
    fn wait_for_ghost(&mut self, number: u32, since: Duration) -> Option<Duration> {
        let until = since + GHOST_PATIENCE;
        if self.now < until {
            return Some(until);
        }
        let key = self.workloads.get(number)?.key.clone();
        self.workload_removed(&key, "");
        None
    }

    /// The store does not let a replica be: a quota, a namespace that ends.
    pub(super) fn creation_refused(&mut self, number: u32, key: &Key, message: String) {
        let set = self.set_of(number);
        if let Some(set) = set.and_then(|set| self.sets.get_mut(set)) {
            set.backoff.failed(self.now, &self.options.timings);
            let (key, uid) = (set.key.clone(), set.uid.to_string());
            self.warn(key, uid, "FailedCreate", message);
        }
        self.workload_removed(key, "");
    }
}
