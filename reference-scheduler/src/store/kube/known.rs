//! The last state of every object that the API server has told of, by watch or in answer to a write.
//!
//! A write is made against this state, so that it needs no read first and yet never hits an object
//! that has changed or been replaced meanwhile.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::api::{Key, Object};

/// See the module.
#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<Key, Object>>);

impl Known {
    /// The last known state of `key`.
    pub(super) fn get(&self, key: &Key) -> Option<Object> {
        self.map().get(key).cloned()
    }

    /// Takes note of a state, unless a later one of the same object is known: answers to writes
    /// overtake the watch.
    pub(super) fn put(&self, object: &Object) {
        let mut map = self.map();
        let is_late = map.get(&object.key()).is_some_and(|known| {
            known.metadata().uid == object.metadata().uid && version(known) > version(object)
        });
        if !is_late {
            map.insert(object.key(), object.clone());
        }
    }

    /// Forgets everything: nothing was watched for a while.
    pub(super) fn clear(&self) {
        self.map().clear();
    }

    /// Forgets `key`, unless an object of another uid bears its name by now.
    pub(super) fn remove(&self, key: &Key, uid: &str) {
        let mut map = self.map();
        if map
            .get(key)
            .is_some_and(|known| known.metadata().uid == uid)
        {
            map.remove(key);
        }
    }

    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Object>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resource versions are numbers that grow; one that is none counts as old.
fn version(object: &Object) -> u64 {
    object.metadata().resource_version.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::{Artifact, Metadata};

    fn object(uid: &str, version: &str) -> Object {
        let mut metadata = Metadata::named("n", "a");
        (metadata.uid, metadata.resource_version) = (uid.to_owned(), version.to_owned());
        Object::Artifact(Arc::new(Artifact {
            metadata,
            ..Artifact::default()
        }))
    }

    #[test]
    fn the_watch_does_not_undo_what_a_write_has_told() {
        let (known, key) = (Known::default(), object("u", "").key());
        known.put(&object("u", "10"));
        known.put(&object("u", "9"));
        assert_eq!(known.get(&key), Some(object("u", "10")));
        known.put(&object("other", "8"));
        assert_eq!(known.get(&key), Some(object("other", "8")));
        known.remove(&key, "u");
        assert!(known.get(&key).is_some());
        known.remove(&key, "other");
        assert!(known.get(&key).is_none());
    }
}
