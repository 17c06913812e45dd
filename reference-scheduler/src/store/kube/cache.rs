//! Cache of the latest state of every object, from watches and from responses to writes.
//!
//! A write is based on the cached state, so that it needs no read first. Yet it never changes an
//! object that was modified or replaced in the meantime.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::api::{Key, Object};

/// The cache; see the module.
#[derive(Default)]
pub(super) struct Cache(Mutex<HashMap<Key, Object>>);

impl Cache {
    /// Returns the latest known state of an object.
    pub(super) fn get(&self, key: &Key) -> Option<Object> {
        self.map().get(key).cloned()
    }

    /// Stores a state, unless it is stale: responses to writes can overtake the watch.
    pub(super) fn put(&self, object: &Object) {
        let mut map = self.map();
        let is_stale = map.get(&object.key()).is_some_and(|cached| {
            cached.metadata().uid == object.metadata().uid && version(cached) > version(object)
        });
        if !is_stale {
            map.insert(object.key(), object.clone());
        }
    }

    /// Removes all objects, before a new watch.
    pub(super) fn clear(&self) {
        self.map().clear();
    }

    /// Removes an object, unless another object with the same name has replaced it.
    pub(super) fn remove(&self, key: &Key, uid: &str) {
        let mut map = self.map();
        if map
            .get(key)
            .is_some_and(|cached| cached.metadata().uid == uid)
        {
            map.remove(key);
        }
    }

    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Object>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the resource version, which increases with every write; 0 if it is not a number.
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
    fn ignores_stale_states() {
        let (cache, key) = (Cache::default(), object("u", "").key());
        cache.put(&object("u", "10"));
        cache.put(&object("u", "9"));
        assert_eq!(cache.get(&key), Some(object("u", "10")));
        cache.put(&object("other", "8"));
        assert_eq!(cache.get(&key), Some(object("other", "8")));
        cache.remove(&key, "u");
        assert!(cache.get(&key).is_some());
        cache.remove(&key, "other");
        assert!(cache.get(&key).is_none());
    }
}
