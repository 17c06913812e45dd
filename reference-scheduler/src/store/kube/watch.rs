//! Watches the kinds of [`crate::api`] and merges the events into one stream. A namespace that
//! cannot be listed holds back only its own objects.

mod views;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, select_all};
use kube::api::{Api, DynamicObject};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::mpsc;

use self::views::Views;
use super::{KubeStore, object};
use crate::api::{Key, Kind, Object};
use crate::store::StoreEvent;

/// Capacity of the queue of events to the core. The API server buffers the rest.
const EVENTS_MAX: usize = 1024;

/// Time to wait for the first list of every view, long enough for the lists of a large cluster.
/// After that, scheduling begins without the namespaces that are not listed yet.
const LIST_PATIENCE: Duration = Duration::from_secs(10);

/// A namespace, or `None` for all.
pub(super) type Scope = Option<String>;

/// Starts the watch, which ends when the receiver is dropped.
pub(super) fn start(store: KubeStore) -> mpsc::Receiver<StoreEvent> {
    let (sender, receiver) = mpsc::channel(EVENTS_MAX);
    tokio::spawn(async move {
        tokio::select! {
            () = run(store, &sender) => {}
            () = sender.closed() => {}
        }
    });
    receiver
}

async fn run(store: KubeStore, sender: &mpsc::Sender<StoreEvent>) {
    store.shared.cache.clear();
    let mut views = Views::new(scopes(&store));
    store.shared.routes.begin_relist_of_objects(views.scopes());
    let streams = views
        .all
        .iter()
        .enumerate()
        .map(|(index, view)| stream(&store, index, view.watch.kind, &view.scope));
    let mut events = select_all(streams);
    let patience = tokio::time::sleep(LIST_PATIENCE);
    tokio::pin!(patience);
    let (mut is_synced, mut is_patient) = (false, true);
    loop {
        tokio::select! {
            event = events.next() => {
                let Some((index, event)) = event else {
                    return;
                };
                for store_event in views.receive(&store, index, event) {
                    store.observe(&store_event);
                    if sender.send(store_event).await.is_err() {
                        return;
                    }
                }
                views.report_listed(&store);
            }
            () = &mut patience, if is_patient => {
                is_patient = false;
                views.report_unlisted(&store);
            }
        }
        let is_due =
            views.are_all_listed() || (!is_patient && views.is_any_group_of_workloads_listed());
        if !is_synced && is_due {
            is_synced = true;
            store.problems().set_unusable(false);
            if sender.send(StoreEvent::Synced).await.is_err() {
                return;
            }
        }
    }
}

/// Returns the kinds to watch, each with a namespace, or `None` for all. Hosts are in one
/// namespace.
fn scopes(store: &KubeStore) -> Vec<(Kind, Scope)> {
    let config = &store.shared.config;
    let mut namespaces: Vec<Scope> = config.watch_namespaces.iter().cloned().map(Some).collect();
    if namespaces.is_empty() {
        namespaces.push(None);
    }
    let workload_kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Host);
    let workload_scopes = workload_kinds.flat_map(|kind| {
        namespaces
            .iter()
            .map(move |namespace| (kind, namespace.clone()))
    });
    std::iter::once((Kind::Host, Some(config.namespace.clone())))
        .chain(workload_scopes)
        .collect()
}

/// An event, with the index of its watch.
type IndexedEvent = (usize, Result<Event<DynamicObject>, watcher::Error>);

fn stream(
    store: &KubeStore,
    index: usize,
    kind: Kind,
    namespace: &Scope,
) -> BoxStream<'static, IndexedEvent> {
    let resource = object::resource(kind);
    let api = match namespace {
        Some(namespace) => Api::namespaced_with(store.client(), namespace, &resource),
        None => Api::all_with(store.client(), &resource),
    };
    watcher(api, watcher::Config::default())
        .default_backoff()
        .map(move |event| (index, event))
        .boxed()
}

impl KubeStore {
    /// Updates the cache and the routes.
    fn observe(&self, event: &StoreEvent) {
        match event {
            StoreEvent::Applied(object) => self.shared.cache.put(object),
            StoreEvent::Removed { key, uid } => self.shared.cache.remove(key, uid),
            StoreEvent::Synced => {}
        }
        self.shared.routes.observe(event);
    }
}

/// An object that cannot be decoded.
struct Undecodable {
    key: Key,
    uid: String,
}

/// State of one watch.
struct Watch {
    kind: Kind,
    /// Existing objects, with their UIDs.
    present: HashMap<Key, String>,
    /// Objects of the list in progress, with their UIDs.
    listed: HashMap<Key, String>,
    is_listed: bool,
    /// Objects that cannot be decoded, with the reason.
    undecodable: BTreeMap<Key, String>,
    /// Those of the list in progress.
    listed_undecodable: BTreeSet<Key>,
    /// Objects that became undecodable since the last report, with their UIDs.
    newly_undecodable: Vec<(Key, String)>,
}

impl Watch {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            present: HashMap::new(),
            listed: HashMap::new(),
            is_listed: false,
            undecodable: BTreeMap::new(),
            listed_undecodable: BTreeSet::new(),
            newly_undecodable: Vec::new(),
        }
    }

    /// Converts an event for the core. After a gap in the watch, all objects are listed again;
    /// objects that are not in the list were removed in the meantime.
    fn store_events(&mut self, event: Event<DynamicObject>) -> Vec<StoreEvent> {
        match event {
            Event::Init => {
                self.listed.clear();
                self.listed_undecodable.clear();
                Vec::new()
            }
            Event::InitApply(raw) => match self.decode(raw) {
                Ok(object) => {
                    self.listed
                        .insert(object.key(), object.metadata().uid.clone());
                    self.applied(object)
                }
                Err(Undecodable { key, uid }) => {
                    // The object still exists, so its last decodable version stays.
                    if self.present.get(&key) == Some(&uid) {
                        self.listed.insert(key.clone(), uid);
                    }
                    self.listed_undecodable.insert(key);
                    Vec::new()
                }
            },
            Event::InitDone => {
                self.is_listed = true;
                let undecodable = std::mem::take(&mut self.listed_undecodable);
                self.undecodable.retain(|key, _| undecodable.contains(key));
                let listed = std::mem::take(&mut self.listed);
                let previous = std::mem::replace(&mut self.present, listed);
                let removed = previous
                    .into_iter()
                    .filter(|(key, _)| !self.present.contains_key(key));
                removed
                    .map(|(key, uid)| StoreEvent::Removed { key, uid })
                    .collect()
            }
            Event::Apply(raw) => self
                .decode(raw)
                .map_or_else(|_| Vec::new(), |object| self.applied(object)),
            Event::Delete(raw) => {
                let (namespace, name) = (
                    raw.metadata.namespace.unwrap_or_default(),
                    raw.metadata.name.unwrap_or_default(),
                );
                let key = Key::new(self.kind, namespace, name);
                let uid = raw.metadata.uid.unwrap_or_default();
                self.present.remove(&key);
                self.undecodable.remove(&key);
                vec![StoreEvent::Removed { key, uid }]
            }
        }
    }

    /// If the object has replaced another object of the same name during a gap, reports the removal
    /// first.
    fn applied(&mut self, object: Object) -> Vec<StoreEvent> {
        let (key, uid) = (object.key(), object.metadata().uid.clone());
        let old_uid = self
            .present
            .insert(key.clone(), uid.clone())
            .filter(|old_uid| *old_uid != uid);
        let removed = old_uid.map(|uid| StoreEvent::Removed { key, uid });
        removed
            .into_iter()
            .chain([StoreEvent::Applied(object)])
            .collect()
    }

    /// Decodes an object. One that cannot be decoded is kept for a report: a later version of the
    /// CRDs may allow values that this version does not support.
    fn decode(&mut self, raw: DynamicObject) -> Result<Object, Undecodable> {
        let metadata = raw.metadata.clone();
        let name = metadata.name.unwrap_or_default();
        let key = Key::new(self.kind, metadata.namespace.unwrap_or_default(), name);
        match object::decode(self.kind, raw) {
            Ok(object) => {
                self.undecodable.remove(&key);
                Ok(object)
            }
            Err(error) => {
                let reason = berth_sdk::cli::error_chain(&error);
                let uid = metadata.uid.unwrap_or_default();
                if self.undecodable.insert(key.clone(), reason.clone()) != Some(reason) {
                    self.newly_undecodable.push((key.clone(), uid.clone()));
                }
                Err(Undecodable { key, uid })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn raw(name: &str, uid: &str) -> DynamicObject {
        let object = json!({"metadata": {"name": name, "namespace": "n", "uid": uid}, "spec": {"image": "i"}});
        serde_json::from_value(object).expect("an object")
    }

    fn names(events: Vec<StoreEvent>) -> Vec<String> {
        let name = |event| match event {
            StoreEvent::Applied(object) => format!("+{}", object.metadata().name),
            StoreEvent::Removed { key, uid } => format!("-{}/{uid}", key.name),
            StoreEvent::Synced => "synced".to_owned(),
        };
        events.into_iter().map(name).collect()
    }

    #[test]
    fn reports_objects_removed_during_a_gap() {
        let mut watch = Watch::new(Kind::Artifact);
        let mut all = Vec::new();
        for event in [
            Event::Init,
            Event::InitApply(raw("a", "1")),
            Event::InitApply(raw("b", "2")),
            Event::InitDone,
            Event::Apply(raw("c", "3")),
            Event::Delete(raw("b", "2")),
            Event::Init,
            Event::InitApply(raw("c", "4")),
            Event::InitDone,
        ] {
            all.extend(names(watch.store_events(event)));
        }
        assert_eq!(all, ["+a", "+b", "+c", "-b/2", "-c/3", "+c", "-a/1"]);
        assert!(watch.is_listed);
    }

    #[test]
    fn object_that_cannot_be_decoded_any_more_stays_during_a_relist() {
        let invalid = |uid: &str| {
            let mut invalid = raw("a", uid);
            invalid.data = json!({"spec": {"image": 7}});
            invalid
        };
        let mut watch = Watch::new(Kind::Artifact);
        let list = |watch: &mut Watch, objects: Vec<DynamicObject>| {
            let objects = objects.into_iter().map(Event::InitApply);
            let events = std::iter::once(Event::Init).chain(objects);
            let events = events.chain([Event::InitDone]);
            let converted = events.flat_map(|event| names(watch.store_events(event)));
            converted.collect::<Vec<_>>()
        };
        assert_eq!(list(&mut watch, vec![raw("a", "1")]), ["+a"]);
        for _ in 0..2 {
            assert_eq!(list(&mut watch, vec![invalid("1")]), [""; 0]);
        }
        assert_eq!(watch.newly_undecodable.len(), 1, "it is reported once");
        assert_eq!(list(&mut watch, vec![raw("a", "1")]), ["+a"]);
        assert!(watch.undecodable.is_empty());
        // The object was replaced, or removed.
        assert_eq!(list(&mut watch, vec![invalid("2")]), ["-a/1"]);
        assert_eq!(
            list(&mut watch, vec![raw("a", "3"), raw("b", "4")]),
            ["+a", "+b"]
        );
        assert_eq!(list(&mut watch, vec![invalid("3")]), ["-b/4"]);
        assert_eq!(list(&mut watch, Vec::new()), ["-a/3"]);
        assert!(watch.undecodable.is_empty());
    }

    #[test]
    fn ignores_objects_that_cannot_be_decoded() {
        let invalid: DynamicObject =
            serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {"image": 7}}))
                .expect("an object");
        let mut watch = Watch::new(Kind::Artifact);
        for _ in 0..2 {
            assert!(watch.store_events(Event::Apply(invalid.clone())).is_empty());
        }
        assert_eq!(watch.newly_undecodable.len(), 1, "it is reported once");
        let reason = watch.undecodable.values().next().expect("a reason");
        assert!(reason.contains("integer"), "{reason}");
        watch.store_events(Event::Delete(invalid));
        assert_eq!(watch.undecodable.len(), 0);
    }
}
