//! A directory as the core sees it.

use std::fs;
use std::time::Duration;

use super::*;
use crate::api::{Key, Kind};
use crate::core::MetadataPatch;

const WORKLOAD: &str = "apiVersion: runtime.wasmcloud.dev/v1alpha1\nkind: Workload\nmetadata: {name: NAME}\nspec: {}\n";

/// Far longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn put(folder: &Path, file: &str, name: &str) {
    fs::write(folder.join(file), WORKLOAD.replace("NAME", name)).unwrap();
}

async fn leading(store: &DirStore) {
    let mut leadership = store.leadership();
    let led = leadership.wait_for(|leads| *leads);
    tokio::time::timeout(PATIENCE, led).await.unwrap().unwrap();
}

async fn next(events: &mut mpsc::Receiver<StoreEvent>) -> StoreEvent {
    let event = tokio::time::timeout(PATIENCE, events.recv()).await;
    event
        .expect("an event in time")
        .expect("the store is there")
}

fn key(name: &str) -> Key {
    Key::new(Kind::Workload, "default", name)
}

async fn applied(events: &mut mpsc::Receiver<StoreEvent>) -> Object {
    match next(events).await {
        StoreEvent::Applied(object) => object,
        event => panic!("{event:?}"),
    }
}

fn finalizer(object: &Object, patch: MetadataPatch) -> Write {
    let uid = object.metadata().uid.clone();
    Write::Metadata {
        key: object.key(),
        uid,
        patch,
    }
}

#[tokio::test]
async fn what_is_there_comes_first_and_then_what_changes() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "a.yaml", "a");
    let store = DirStore::open(folder.path()).unwrap();
    leading(&store).await;
    let mut events = store.watch();
    assert_eq!(applied(&mut events).await.key(), key("a"));
    assert_eq!(next(&mut events).await, StoreEvent::Synced);

    put(folder.path(), "b.yaml", "b");
    assert_eq!(applied(&mut events).await.key(), key("b"));
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    let StoreEvent::Removed { key: removed, uid } = next(&mut events).await else {
        panic!()
    };
    assert_eq!(removed, key("a"));
    assert!(!uid.is_empty());
}

#[tokio::test]
async fn a_manifest_that_returns_waits_for_the_end_of_its_predecessor() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "a.yaml", "a");
    let store = DirStore::open(folder.path()).unwrap();
    leading(&store).await;
    let mut events = store.watch();
    let first = applied(&mut events).await;
    next(&mut events).await;
    let add = MetadataPatch {
        add_finalizer: Some("f"),
        ..MetadataPatch::default()
    };
    store.write(finalizer(&first, add)).await.unwrap();
    applied(&mut events).await;

    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    assert!(applied(&mut events).await.metadata().is_deleting());
    put(folder.path(), "a.yaml", "a");
    let remove = MetadataPatch {
        remove_finalizer: Some("f"),
        ..MetadataPatch::default()
    };
    store.write(finalizer(&first, remove)).await.unwrap();
    assert!(matches!(
        next(&mut events).await,
        StoreEvent::Removed { .. }
    ));
    let second = applied(&mut events).await;
    assert_ne!(second.metadata().uid, first.metadata().uid);
    assert!(!second.metadata().is_deleting());
}

#[tokio::test]
async fn everything_is_there_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "a.yaml", "a");
    put(folder.path(), "b.yaml", "b");
    let store = DirStore::open(folder.path()).unwrap();
    leading(&store).await;
    let mut events = store.watch();
    let (a, b) = (applied(&mut events).await, applied(&mut events).await);
    let waiting = DirStore::open(folder.path()).unwrap();
    assert!(!*waiting.leadership().borrow(), "the first one still acts");
    drop((store, events));

    // Between the two, one file was broken and the other one went.
    fs::write(folder.path().join("a.yaml"), "a: [").unwrap();
    fs::remove_file(folder.path().join("b.yaml")).unwrap();
    drop(waiting);
    let store = DirStore::open(folder.path()).unwrap();
    leading(&store).await;
    let mut events = store.watch();
    assert_eq!(applied(&mut events).await, a);
    assert_eq!(next(&mut events).await, StoreEvent::Synced);
    let gone = Write::Delete {
        key: b.key(),
        uid: b.metadata().uid.clone(),
    };
    assert_eq!(store.write(gone).await, Err(WriteError::NotFound));
}

#[tokio::test]
async fn references_are_read_from_manifests() {
    let folder = tempfile::tempdir().unwrap();
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: b}\n---\n\
                apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shop}\nstringData: {a: b}\n";
    fs::write(folder.path().join("references.yaml"), text).unwrap();
    let store = DirStore::open(folder.path()).unwrap();
    leading(&store).await;
    let config = store.config_map("default", "c").await.unwrap().unwrap();
    assert_eq!(config["a"], "b");
    let secret = store.secret("shop", "s").await.unwrap().unwrap();
    assert_eq!(secret.data["a"], b"b");
    assert_eq!(store.secret("default", "s").await, Ok(None));
}

#[tokio::test]
async fn a_spoiled_state_ends_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let spoiled = folder.path().join(".berth/default/workloads");
    fs::create_dir_all(&spoiled).unwrap();
    fs::write(spoiled.join("a.yaml"), "").unwrap();
    let store = DirStore::open(folder.path()).unwrap();
    let mut leadership = store.leadership();
    let ended = tokio::time::timeout(PATIENCE, leadership.wait_for(|leads| *leads));
    assert!(ended.await.unwrap().is_err());
}

#[test]
fn a_directory_has_to_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let missing = DirStore::open(&folder.path().join("missing"));
    assert!(matches!(missing, Err(DirError::NotADirectory { .. })));
}
