//! `wasi:keyvalue` in memory: buckets shared within a namespace, lost when the host's process ends.

mod namespace;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_proto::WitInterface;
use wasmtime::component::{
    ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType,
};
use wasmtime::{Result, StoreContextMut};

use self::namespace::{Namespace, StoreError, TotalBytes, check_name};
use super::{Grant, Plugin};
use crate::engine::guest::Guest;
use crate::interface::InterfaceName;

#[derive(Default)]
pub struct KeyValue {
    namespaces: Arc<Namespaces>,
}

/// The namespaces of the host. One without workloads keeps its keys until another one needs its
/// memory.
#[derive(Default)]
struct Namespaces {
    by_name: Mutex<HashMap<Arc<str>, Shared>>,
    used_bytes: TotalBytes,
}

type Shared = Arc<Mutex<Namespace>>;

/// The namespace of a component.
#[derive(Clone)]
struct Access {
    namespaces: Arc<Namespaces>,
    own: Shared,
}

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
pub struct KeyResponse {
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
        let namespace = Namespaces::access(&self.namespaces, &grant.sandbox.namespace);
        let mut instance = linker.instance(&name.to_string())?;
        match name.interface.as_str() {
            "store" => link_store(&mut instance, &namespace),
            "atomics" => link_atomics(&mut instance, &namespace),
            _ => link_batch(&mut instance, &namespace),
        }
    }
}

impl Namespaces {
    fn access(self: &Arc<Self>, name: &Arc<str>) -> Access {
        let mut by_name = self.lock();
        let namespace = || Arc::new(Mutex::new(Namespace::new(self.used_bytes.clone())));
        Access {
            namespaces: self.clone(),
            own: by_name
                .entry(name.clone())
                .or_insert_with(namespace)
                .clone(),
        }
    }

    /// Removes the namespaces that no workload uses.
    fn remove_unused(&self) {
        self.lock()
            .retain(|_, namespace| Arc::strong_count(namespace) > 1);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Shared>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Access {
    fn lock(&self) -> MutexGuard<'_, Namespace> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the namespace, once more without the unused ones if the host is full.
    fn change<R>(
        &self,
        mut change: impl FnMut(&mut Namespace) -> Result<R, StoreError>,
    ) -> Result<R, Error> {
        let mut result = change(&mut self.lock());
        if matches!(result, Err(StoreError::HostFull)) {
            self.namespaces.remove_unused();
            result = change(&mut self.lock());
        }
        result.map_err(|error| Error::Other(error.to_string()))
    }
}

fn link_store(store: &mut LinkerInstance<'_, Guest>, shared: &Access) -> Result<()> {
    store.resource("bucket", ResourceType::host::<Bucket>(), |mut cx, id| {
        cx.data_mut()
            .table
            .delete(Resource::<Bucket>::new_own(id))?;
        Ok(())
    })?;
    store.func_wrap(
        "open",
        |mut cx: StoreContextMut<'_, Guest>, (name,): (String,)| {
            if let Err(error) = check_name(&name) {
                return Ok((Err(Error::Other(error.to_string())),));
            }
            let bucket = cx.data_mut().table.push(Bucket { name })?;
            Ok((Ok::<_, Error>(bucket),))
        },
    )?;
    let namespace = shared.clone();
    store.func_wrap(
        "[method]bucket.get",
        move |cx, (bucket, key): (Borrowed, String)| {
            Ok((Ok::<_, Error>(
                namespace.lock().get(name_of(&cx, &bucket)?, &key),
            ),))
        },
    )?;
    let namespace = shared.clone();
    store.func_wrap(
        "[method]bucket.set",
        move |cx, (bucket, key, value): (Borrowed, String, Vec<u8>)| {
            let bucket = name_of(&cx, &bucket)?;
            Ok((namespace.change(|it| it.set(bucket, &key, &value)),))
        },
    )?;
    let namespace = shared.clone();
    store.func_wrap(
        "[method]bucket.delete",
        move |cx, (bucket, key): (Borrowed, String)| {
            namespace.lock().delete(name_of(&cx, &bucket)?, &key);
            Ok((Ok::<_, Error>(()),))
        },
    )?;
    let namespace = shared.clone();
    store.func_wrap(
        "[method]bucket.exists",
        move |cx, (bucket, key): (Borrowed, String)| {
            let value = namespace.lock().get(name_of(&cx, &bucket)?, &key);
            Ok((Ok::<_, Error>(value.is_some()),))
        },
    )?;
    let namespace = shared.clone();
    store.func_wrap(
        "[method]bucket.list-keys",
        move |cx, (bucket, cursor): (Borrowed, Option<u64>)| {
            Ok((Ok::<_, Error>(
                namespace.lock().list(name_of(&cx, &bucket)?, cursor),
            ),))
        },
    )
}

fn link_atomics(atomics: &mut LinkerInstance<'_, Guest>, shared: &Access) -> Result<()> {
    let namespace = shared.clone();
    atomics.func_wrap(
        "increment",
        move |cx, (bucket, key, delta): (Borrowed, String, u64)| {
            let bucket = name_of(&cx, &bucket)?;
            Ok((namespace.change(|it| it.increment(bucket, &key, delta)),))
        },
    )
}

fn link_batch(batch: &mut LinkerInstance<'_, Guest>, shared: &Access) -> Result<()> {
    let namespace = shared.clone();
    batch.func_wrap(
        "get-many",
        move |cx, (bucket, keys): (Borrowed, Vec<String>)| {
            let bucket = name_of(&cx, &bucket)?;
            let values = namespace.lock().get_many(bucket, keys);
            Ok((values.map_err(|error| Error::Other(error.to_string())),))
        },
    )?;
    let namespace = shared.clone();
    batch.func_wrap(
        "set-many",
        move |cx, (bucket, pairs): (Borrowed, Vec<(String, Vec<u8>)>)| {
            let bucket = name_of(&cx, &bucket)?;
            let set = |(key, value): &(String, Vec<u8>)| {
                namespace.change(|it| it.set(bucket, key, value))
            };
            Ok((pairs.iter().try_for_each(set),))
        },
    )?;
    let namespace = shared.clone();
    batch.func_wrap(
        "delete-many",
        move |cx, (bucket, keys): (Borrowed, Vec<String>)| {
            let bucket = name_of(&cx, &bucket)?;
            let mut namespace = namespace.lock();
            keys.iter().for_each(|key| namespace.delete(bucket, key));
            Ok((Ok::<_, Error>(()),))
        },
    )
}

type Borrowed = Resource<Bucket>;

fn name_of<'a>(cx: &'a StoreContextMut<'_, Guest>, bucket: &Borrowed) -> Result<&'a str> {
    Ok(&cx.data().table.get(bucket)?.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_host_forgets_the_namespaces_without_workloads() {
        let namespaces = Arc::new(Namespaces::default());
        let value = vec![0; namespace::MAX_NAMESPACE_BYTES / 2];
        let access = |name: &str| Namespaces::access(&namespaces, &name.into());
        let set = |access: &Access| access.change(|it| it.set("b", "k", &value));
        let mut held = Vec::new();
        while let Some(next) = Some(access(&format!("held {}", held.len())))
            && set(&next).is_ok()
        {
            held.push(next);
        }
        assert_eq!(
            held.len(),
            2 * namespace::MAX_TOTAL_BYTES / namespace::MAX_NAMESPACE_BYTES - 1
        );
        let waiting = access("waiting");
        assert!(set(&waiting).is_err());
        held[0].lock().delete("b", "k");
        assert_eq!(set(&waiting), Ok(()));
        held.pop();
        assert_eq!(set(&access("next")), Ok(()));
        assert!(held[1].lock().value("b", "k").is_some());
    }
}
