//! The directory store: watches, writes, restarts and references.

use std::fs;
use std::time::Duration;

use super::*;
use crate::api::{Key, Kind};
use crate::core::MetadataPatch;

const WORKLOAD: &str = "apiVersion: runtime.wasmcloud.dev/v1alpha1\nkind: Workload\nmetadata: {name: NAME}\nspec: {}\n";

/// Deadline of a test step, far longer than any step takes.
const TIMEOUT: Duration = Duration::from_secs(30);

fn put(folder: &Path, file: &str, name: &str) {
    fs::write(folder.join(file), WORKLOAD.replace("NAME", name)).unwrap();
}

async fn wait_for_leadership(store: &DirStore) {
    let mut leadership = store.leadership();
    let elected = leadership.wait_for(|is_leader| *is_leader);
    tokio::time::timeout(TIMEOUT, elected)
        .await
        .unwrap()
        .unwrap();
}

async fn next(events: &mut mpsc::Receiver<StoreEvent>) -> StoreEvent {
    let event = tokio::time::timeout(TIMEOUT, events.recv()).await;
    event.expect("an event in time").expect("the watch is open")
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

fn patch_metadata(object: &Object, patch: MetadataPatch) -> Write {
    let uid = object.metadata().uid.clone();
    Write::Metadata {
        key: object.key(),
        uid,
        patch,
    }
}

#[tokio::test]
async fn watch_sends_existing_objects_then_changes() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "a.yaml", "a");
    let store = DirStore::open(folder.path()).unwrap();
    wait_for_leadership(&store).await;
    let mut events = store.watch();
    assert_eq!(applied(&mut events).await.key(), key("a"));
    assert_eq!(next(&mut events).await, StoreEvent::Synced);

    put(folder.path(), "b.yaml", "b");
    assert_eq!(applied(&mut events).await.key(), key("b"));
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    let StoreEvent::Removed { key: removed, uid } = next(&mut events).await else {
        panic!("expected a removal")
    };
    assert_eq!(removed, key("a"));
    assert!(!uid.is_empty());
}

#[tokio::test]
async fn recreated_manifest_waits_for_removal_of_old_object() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "a.yaml", "a");
    let store = DirStore::open(folder.path()).unwrap();
    wait_for_leadership(&store).await;
    let mut events = store.watch();
    let first = applied(&mut events).await;
    next(&mut events).await;
    let add = MetadataPatch {
        add_finalizer: Some("f"),
        ..MetadataPatch::default()
    };
    store.write(patch_metadata(&first, add)).await.unwrap();
    applied(&mut events).await;

    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    assert!(applied(&mut events).await.metadata().is_deleting());
    put(folder.path(), "a.yaml", "a");
    let remove = MetadataPatch {
        remove_finalizer: Some("f"),
        ..MetadataPatch::default()
    };
    store.write(patch_metadata(&first, remove)).await.unwrap();
    assert!(matches!(
        next(&mut events).await,
        StoreEvent::Removed { .. }
    ));
    let second = applied(&mut events).await;
    assert_ne!(second.metadata().uid, first.metadata().uid);
    assert!(!second.metadata().is_deleting());
}

#[tokio::test]
async fn restores_objects_after_restart() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "a.yaml", "a");
    put(folder.path(), "b.yaml", "b");
    let store = DirStore::open(folder.path()).unwrap();
    wait_for_leadership(&store).await;
    let mut events = store.watch();
    let (a, b) = (applied(&mut events).await, applied(&mut events).await);
    let waiting = DirStore::open(folder.path()).unwrap();
    assert!(
        !*waiting.leadership().borrow(),
        "the first process is still the leader"
    );
    drop((store, events));

    // Before the second start, one file becomes invalid and the other file is removed.
    fs::write(folder.path().join("a.yaml"), "a: [").unwrap();
    fs::remove_file(folder.path().join("b.yaml")).unwrap();
    drop(waiting);
    let store = DirStore::open(folder.path()).unwrap();
    wait_for_leadership(&store).await;
    let mut events = store.watch();
    let restored = applied(&mut events).await;
    assert_eq!(restored.metadata().uid, a.metadata().uid);
    assert_eq!(next(&mut events).await, StoreEvent::Synced);
    let delete = Write::Delete {
        key: b.key(),
        uid: b.metadata().uid.clone(),
    };
    assert_eq!(store.write(delete).await, Err(StoreError::NotFound));
}

#[tokio::test]
async fn reads_config_maps_and_secrets_from_manifests() {
    let folder = tempfile::tempdir().unwrap();
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: b}\n---\n\
                apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shop}\nstringData: {a: b}\n";
    fs::write(folder.path().join("references.yaml"), text).unwrap();
    let store = DirStore::open(folder.path()).unwrap();
    wait_for_leadership(&store).await;
    let config = store.config_map("default", "c").await.unwrap().unwrap();
    assert_eq!(config["a"], "b");
    let secret = store.secret("shop", "s").await.unwrap().unwrap();
    assert_eq!(secret.data["a"], b"b");
    assert_eq!(store.secret("default", "s").await, Ok(None));
}

#[tokio::test]
async fn corrupt_status_file_is_named_and_everything_else_is_restored() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "a.yaml", "a");
    put(folder.path(), "b.yaml", "b");
    let store = DirStore::open(folder.path()).unwrap();
    wait_for_leadership(&store).await;
    let mut events = store.watch();
    let (_, b) = (applied(&mut events).await, applied(&mut events).await);
    drop((store, events));
    let file = folder.path().join(".berth/default/workloads/a.yaml");
    fs::write(&file, "").unwrap();

    let store = DirStore::open(folder.path()).unwrap();
    wait_for_leadership(&store).await;
    let mut events = store.watch();
    assert_eq!(
        applied(&mut events).await.key(),
        key("a"),
        "made from its manifest"
    );
    assert_eq!(applied(&mut events).await, b);
    let problems = store.problems().borrow().list.clone();
    let [problem] = problems.as_slice() else {
        panic!("{problems:?}")
    };
    assert!(
        problem.starts_with(".berth/default/workloads/a.yaml: corrupt"),
        "{problem}"
    );
}

#[tokio::test]
async fn problems_of_manifests_are_events_and_end() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "a.yaml", "a");
    let store = DirStore::open(folder.path()).unwrap();
    wait_for_leadership(&store).await;
    let mut events = store.watch();
    applied(&mut events).await;
    next(&mut events).await;
    fs::write(folder.path().join("a.yaml"), "a: [").unwrap();
    let Object::Workload(workload) = applied(&mut events).await else {
        panic!("not a workload")
    };
    let conditions = workload.status.as_ref().unwrap().conditions.clone();
    assert_eq!(
        (&*conditions[0].name, &*conditions[0].reason),
        ("Manifest", "InvalidManifest")
    );
    assert!(
        conditions[0].message.contains("line 1, column 4"),
        "{conditions:?}"
    );
    let mut problems = store.problems();
    let wait = problems.wait_for(|problems| !problems.list.is_empty());
    tokio::time::timeout(TIMEOUT, wait).await.unwrap().unwrap();
    let log = fs::read_to_string(folder.path().join(".berth/events.log")).unwrap();
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(
        log.contains("Warning a.yaml Manifest: invalid YAML"),
        "{log}"
    );

    put(folder.path(), "a.yaml", "a");
    let Object::Workload(workload) = applied(&mut events).await else {
        panic!("not a workload")
    };
    assert_eq!(workload.status.as_ref().unwrap().conditions, []);
    let wait = problems.wait_for(|problems| problems.list.is_empty());
    tokio::time::timeout(TIMEOUT, wait).await.unwrap().unwrap();
}

#[test]
fn open_rejects_missing_directory() {
    let folder = tempfile::tempdir().unwrap();
    let missing = DirStore::open(&folder.path().join("missing"));
    assert!(matches!(missing, Err(DirError::NotADirectory { .. })));
}
