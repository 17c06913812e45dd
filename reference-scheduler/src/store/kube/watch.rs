//! Watches the five kinds and tells of them in one stream.

use std::collections::HashMap;

use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, select_all};
use kube::api::{Api, DynamicObject};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::mpsc;

use super::{KubeStore, object};
use crate::api::{Key, Kind, Object};
use crate::store::StoreEvent;

/// How many events may wait for the core. The API server keeps what does not fit.
const EVENTS: usize = 1024;

/// Begins to watch. Ends when the receiver is dropped.
pub(super) fn start(store: KubeStore) -> mpsc::Receiver<StoreEvent> {
    let (sender, receiver) = mpsc::channel(EVENTS);
    tokio::spawn(async move {
        tokio::select! {
            () = run(store, &sender) => {}
            () = sender.closed() => {}
        }
    });
    receiver
}

async fn run(store: KubeStore, sender: &mpsc::Sender<StoreEvent>) {
    store.shared.known.clear();
    store.shared.routes.forget_objects();
    let scopes = scopes(&store);
    let mut views: Vec<View> = scopes.iter().map(|(kind, _)| View::new(*kind)).collect();
    let streams = scopes
        .iter()
        .enumerate()
        .map(|(index, (kind, namespace))| stream(&store, index, *kind, namespace));
    let mut events = select_all(streams);
    let mut is_synced = false;
    while let Some((index, event)) = events.next().await {
        let Some(view) = views.get_mut(index) else {
            continue;
        };
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                // The watcher tries again by itself, more and more slowly.
                tracing::warn!(kind = %view.kind, %error, "watching failed");
                continue;
            }
        };
        for told in view.told(event) {
            store.take_note(&told);
            if sender.send(told).await.is_err() {
                return;
            }
        }
        if !is_synced && views.iter().all(|view| view.is_listed) {
            is_synced = true;
            store.take_note(&StoreEvent::Synced);
            if sender.send(StoreEvent::Synced).await.is_err() {
                return;
            }
        }
    }
}

/// What is watched: kinds and namespaces, no namespace for all. Hosts are in one namespace only.
fn scopes(store: &KubeStore) -> Vec<(Kind, Option<String>)> {
    let choice = &store.shared.choice;
    let mut namespaces: Vec<Option<String>> =
        choice.watch_namespaces.iter().cloned().map(Some).collect();
    if namespaces.is_empty() {
        namespaces.push(None);
    }
    let workload_side = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Host);
    let workload_side = workload_side.flat_map(|kind| {
        namespaces
            .iter()
            .map(move |namespace| (kind, namespace.clone()))
    });
    std::iter::once((Kind::Host, Some(choice.namespace.clone())))
        .chain(workload_side)
        .collect()
}

type Tagged = (usize, Result<Event<DynamicObject>, watcher::Error>);

fn stream(
    store: &KubeStore,
    index: usize,
    kind: Kind,
    namespace: &Option<String>,
) -> BoxStream<'static, Tagged> {
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
    fn take_note(&self, event: &StoreEvent) {
        match event {
            StoreEvent::Applied(object) => self.shared.known.put(object),
            StoreEvent::Removed { key, uid } => self.shared.known.remove(key, uid),
            StoreEvent::Synced => {}
        }
        self.shared.routes.observe(event);
    }
}

/// What one watch has told of so far.
struct View {
    kind: Kind,
    /// What there is, with its uid.
    present: HashMap<Key, String>,
    /// What a list that is under way has named so far.
    listed: HashMap<Key, String>,
    is_listed: bool,
}

impl View {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            present: HashMap::new(),
            listed: HashMap::new(),
            is_listed: false,
        }
    }

    /// What the core is to be told. After a gap in the watch everything is listed anew: what is not
    /// in that list went meanwhile.
    fn told(&mut self, event: Event<DynamicObject>) -> Vec<StoreEvent> {
        match event {
            Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            Event::InitApply(raw) => self.read(raw).map_or_else(Vec::new, |object| {
                self.listed
                    .insert(object.key(), object.metadata().uid.clone());
                self.applied(object)
            }),
            Event::InitDone => {
                self.is_listed = true;
                let listed = std::mem::take(&mut self.listed);
                let present = std::mem::replace(&mut self.present, listed);
                let gone = present
                    .into_iter()
                    .filter(|(key, _)| !self.present.contains_key(key));
                gone.map(|(key, uid)| StoreEvent::Removed { key, uid })
                    .collect()
            }
            Event::Apply(raw) => self
                .read(raw)
                .map_or_else(Vec::new, |object| self.applied(object)),
            Event::Delete(raw) => {
                let (namespace, name) = (
                    raw.metadata.namespace.unwrap_or_default(),
                    raw.metadata.name.unwrap_or_default(),
                );
                let key = Key::new(self.kind, namespace, name);
                let uid = raw.metadata.uid.unwrap_or_default();
                self.present.remove(&key);
                vec![StoreEvent::Removed { key, uid }]
            }
        }
    }

    /// One that was replaced by another of its name during a gap is told of as gone first.
    fn applied(&mut self, object: Object) -> Vec<StoreEvent> {
        let (key, uid) = (object.key(), object.metadata().uid.clone());
        let before = self
            .present
            .insert(key.clone(), uid.clone())
            .filter(|before| *before != uid);
        let gone = before.map(|uid| StoreEvent::Removed { key, uid });
        gone.into_iter()
            .chain([StoreEvent::Applied(object)])
            .collect()
    }

    /// An object that cannot be read is left alone: a later version of the definitions may allow
    /// what this one does not understand.
    fn read(&self, raw: DynamicObject) -> Option<Object> {
        let name = raw.metadata.name.clone().unwrap_or_default();
        match object::decode(self.kind, raw) {
            Ok(object) => Some(object),
            Err(error) => {
                tracing::warn!(kind = %self.kind, name, %error, "an object cannot be read and is left alone");
                None
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
    fn what_went_during_a_gap_is_told_of() {
        let mut view = View::new(Kind::Artifact);
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
            all.extend(names(view.told(event)));
        }
        assert_eq!(all, ["+a", "+b", "+c", "-b/2", "-c/3", "+c", "-a/1"]);
        assert!(view.is_listed);
    }

    #[test]
    fn what_cannot_be_read_is_passed_over() {
        let odd: DynamicObject =
            serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {"image": 7}}))
                .expect("an object");
        assert!(View::new(Kind::Artifact).told(Event::Apply(odd)).is_empty());
    }
}
