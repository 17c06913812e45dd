//! `wasi:keyvalue` in memory: buckets shared within a namespace, lost when the host's process ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_proto::WitInterface;
use wasmtime::component::{
    ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType,
};
use wasmtime::{Result, StoreContextMut};

use super::{Grant, Plugin};
use crate::engine::guest::Guest;
use crate::interface::InterfaceName;

/// Limit of keys and values of one namespace together, in bytes, because they are in host memory.
const MAX_NAMESPACE_BYTES: usize = 64 << 20;

/// Limit of keys in one response of `list-keys`. The cursor continues the list.
const MAX_LISTED_KEYS: usize = 1000;

#[derive(Default)]
pub struct KeyValue {
    namespaces: Mutex<HashMap<Arc<str>, Arc<Mutex<Namespace>>>>,
}

/// The buckets of one namespace.
#[derive(Default)]
struct Namespace {
    buckets: HashMap<String, BTreeMap<String, Vec<u8>>>,
    used_bytes: usize,
}

type Shared = Arc<Mutex<Namespace>>;

/// A guest's handle of an open bucket.
struct Bucket {
    name: String,
}

#[derive(Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
#[allow(dead_code, reason = "the interface's type has these cases")]
enum Error {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

#[derive(Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
struct KeyResponse {
    keys: Vec<String>,
    cursor: Option<u64>,
}

impl Plugin for KeyValue {
    fn offer(&self) -> WitInterface {
        WitInterface {
            namespace: "wasi".into(),
            package: "keyvalue".into(),
            version: "0.2.0-draft".into(),
            interfaces: vec!["store".into(), "atomics".into(), "batch".into()],
            ..Default::default()
        }
    }

    fn link(
        &self,
        name: &InterfaceName,
        grant: &Grant<'_>,
        linker: &mut Linker<Guest>,
    ) -> Result<()> {
        let namespace = self.namespace(&grant.sandbox.namespace);
        let mut instance = linker.instance(&name.to_string())?;
        match name.interface.as_str() {
            "store" => link_store(&mut instance, &namespace),
            "atomics" => link_atomics(&mut instance, &namespace),
            _ => link_batch(&mut instance, &namespace),
        }
    }
}

impl KeyValue {
    fn namespace(&self, name: &Arc<str>) -> Shared {
        let mut namespaces = self
            .namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        namespaces.entry(name.clone()).or_default().clone()
    }
}

fn link_store(store: &mut LinkerInstance<'_, Guest>, shared: &Shared) -> Result<()> {
    store.resource("bucket", ResourceType::host::<Bucket>(), |mut cx, id| {
        cx.data_mut()
            .table
            .delete(Resource::<Bucket>::new_own(id))?;
        Ok(())
    })?;
    store.func_wrap(
        "open",
        |mut cx: StoreContextMut<'_, Guest>, (name,): (String,)| {
            let bucket = cx.data_mut().table.push(Bucket { name })?;
            Ok((Ok::<_, Error>(bucket),))
        },
    )?;
    let namespace = shared.clone();
    store.func_wrap(
        "[method]bucket.get",
        move |cx, (bucket, key): (Borrowed, String)| {
            Ok((Ok::<_, Error>(
                lock(&namespace).get(name_of(&cx, &bucket)?, &key),
            ),))
        },
    )?;
    let namespace = shared.clone();
    store.func_wrap(
        "[method]bucket.set",
        move |cx, (bucket, key, value): (Borrowed, String, Vec<u8>)| {
            Ok((lock(&namespace).set(name_of(&cx, &bucket)?, key, value),))
        },
    )?;
    let namespace = shared.clone();
    store.func_wrap(
        "[method]bucket.delete",
        move |cx, (bucket, key): (Borrowed, String)| {
            lock(&namespace).delete(name_of(&cx, &bucket)?, &key);
            Ok((Ok::<_, Error>(()),))
        },
    )?;
    let namespace = shared.clone();
    store.func_wrap(
        "[method]bucket.exists",
        move |cx, (bucket, key): (Borrowed, String)| {
            let value = lock(&namespace).get(name_of(&cx, &bucket)?, &key);
            Ok((Ok::<_, Error>(value.is_some()),))
        },
    )?;
    let namespace = shared.clone();
    store.func_wrap(
        "[method]bucket.list-keys",
        move |cx, (bucket, cursor): (Borrowed, Option<u64>)| {
            Ok((Ok::<_, Error>(
                lock(&namespace).list(name_of(&cx, &bucket)?, cursor),
            ),))
        },
    )
}

fn link_atomics(atomics: &mut LinkerInstance<'_, Guest>, shared: &Shared) -> Result<()> {
    let namespace = shared.clone();
    atomics.func_wrap(
        "increment",
        move |cx, (bucket, key, delta): (Borrowed, String, u64)| {
            Ok((lock(&namespace).increment(name_of(&cx, &bucket)?, key, delta),))
        },
    )
}

fn link_batch(batch: &mut LinkerInstance<'_, Guest>, shared: &Shared) -> Result<()> {
    let namespace = shared.clone();
    batch.func_wrap(
        "get-many",
        move |cx, (bucket, keys): (Borrowed, Vec<String>)| {
            let bucket = name_of(&cx, &bucket)?;
            let namespace = lock(&namespace);
            let pair = |key: String| namespace.get(bucket, &key).map(|value| (key, value));
            let values: Vec<_> = keys.into_iter().map(pair).collect();
            Ok((Ok::<_, Error>(values),))
        },
    )?;
    let namespace = shared.clone();
    batch.func_wrap(
        "set-many",
        move |cx, (bucket, pairs): (Borrowed, Vec<(String, Vec<u8>)>)| {
            let bucket = name_of(&cx, &bucket)?;
            let mut namespace = lock(&namespace);
            let set = pairs
                .into_iter()
                .try_for_each(|(key, value)| namespace.set(bucket, key, value));
            Ok((set,))
        },
    )?;
    let namespace = shared.clone();
    batch.func_wrap(
        "delete-many",
        move |cx, (bucket, keys): (Borrowed, Vec<String>)| {
            let bucket = name_of(&cx, &bucket)?;
            let mut namespace = lock(&namespace);
            keys.iter().for_each(|key| namespace.delete(bucket, key));
            Ok((Ok::<_, Error>(()),))
        },
    )
}

type Borrowed = Resource<Bucket>;

fn name_of<'a>(cx: &'a StoreContextMut<'_, Guest>, bucket: &Borrowed) -> Result<&'a str> {
    Ok(&cx.data().table.get(bucket)?.name)
}

fn lock(namespace: &Shared) -> MutexGuard<'_, Namespace> {
    namespace.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Namespace {
    fn get(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        self.buckets.get(bucket)?.get(key).cloned()
    }

    fn set(&mut self, bucket: &str, key: String, value: Vec<u8>) -> Result<(), Error> {
        let old = self.size_of(bucket, &key);
        let used_bytes = self.used_bytes - old + key.len() + value.len();
        if used_bytes > MAX_NAMESPACE_BYTES {
            return Err(Error::Other(format!(
                "the store is full: {MAX_NAMESPACE_BYTES} bytes"
            )));
        }
        self.used_bytes = used_bytes;
        self.buckets
            .entry(bucket.to_owned())
            .or_default()
            .insert(key, value);
        Ok(())
    }

    fn delete(&mut self, bucket: &str, key: &str) {
        self.used_bytes -= self.size_of(bucket, key);
        if let Some(entries) = self.buckets.get_mut(bucket) {
            entries.remove(key);
        }
    }

    /// Returns the keys in sorted order, from the cursor's position.
    fn list(&self, bucket: &str, cursor: Option<u64>) -> KeyResponse {
        let start = cursor
            .and_then(|cursor| usize::try_from(cursor).ok())
            .unwrap_or(0);
        let Some(entries) = self.buckets.get(bucket) else {
            return KeyResponse {
                keys: Vec::new(),
                cursor: None,
            };
        };
        let keys: Vec<String> = entries
            .keys()
            .skip(start)
            .take(MAX_LISTED_KEYS)
            .cloned()
            .collect();
        let end = start.saturating_add(keys.len());
        KeyResponse {
            keys,
            cursor: (end < entries.len()).then_some(end as u64),
        }
    }

    /// Adds to a number that is stored as decimal text. A missing number counts as 0.
    fn increment(&mut self, bucket: &str, key: String, delta: u64) -> Result<u64, Error> {
        let not_a_number = || Error::Other("the value is not a number".into());
        let old = match self.get(bucket, &key) {
            None => 0,
            Some(value) => std::str::from_utf8(&value)
                .ok()
                .and_then(|text| text.parse::<u64>().ok())
                .ok_or_else(not_a_number)?,
        };
        let new = old
            .checked_add(delta)
            .ok_or_else(|| Error::Other("the number overflows".into()))?;
        self.set(bucket, key, new.to_string().into_bytes())?;
        Ok(new)
    }

    fn size_of(&self, bucket: &str, key: &str) -> usize {
        let value = self
            .buckets
            .get(bucket)
            .and_then(|entries| entries.get(key));
        value.map_or(0, |value| key.len() + value.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_set_values_until_deleted() {
        let mut namespace = Namespace::default();
        namespace.set("a", "key".into(), b"one".to_vec()).unwrap();
        namespace.set("a", "key".into(), b"two!".to_vec()).unwrap();
        assert_eq!(namespace.get("a", "key"), Some(b"two!".to_vec()));
        assert_eq!(namespace.get("b", "key"), None);
        assert_eq!(namespace.used_bytes, 7);
        namespace.delete("a", "key");
        namespace.delete("a", "key");
        assert_eq!(namespace.get("a", "key"), None);
        assert_eq!(namespace.used_bytes, 0);
    }

    #[test]
    fn rejects_values_when_the_namespace_is_full() {
        let mut namespace = Namespace::default();
        let big = vec![0; MAX_NAMESPACE_BYTES - 1];
        namespace.set("a", "k".into(), big.clone()).unwrap();
        assert!(namespace.set("b", "l".into(), vec![]).is_err());
        namespace.set("a", "k".into(), big).unwrap();
        namespace.delete("a", "k");
        namespace.set("b", "l".into(), vec![]).unwrap();
    }

    #[test]
    fn lists_keys_in_pages() {
        let mut namespace = Namespace::default();
        for n in 0..MAX_LISTED_KEYS + 5 {
            namespace.set("a", format!("{n:06}"), vec![]).unwrap();
        }
        let first = namespace.list("a", None);
        assert_eq!(
            (first.keys.len(), first.cursor),
            (MAX_LISTED_KEYS, Some(1000))
        );
        let rest = namespace.list("a", first.cursor);
        assert_eq!((rest.keys.len(), rest.cursor), (5, None));
        assert_eq!(namespace.list("nothing", None).keys.len(), 0);
    }

    #[test]
    fn increments_numbers() {
        let mut namespace = Namespace::default();
        assert_eq!(namespace.increment("a", "n".into(), 2), Ok(2));
        assert_eq!(namespace.increment("a", "n".into(), 3), Ok(5));
        assert_eq!(namespace.get("a", "n"), Some(b"5".to_vec()));
        assert!(namespace.increment("a", "n".into(), u64::MAX).is_err());
        namespace.set("a", "text".into(), b"x".to_vec()).unwrap();
        assert!(namespace.increment("a", "text".into(), 1).is_err());
    }
}
