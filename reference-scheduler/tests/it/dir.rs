//! The directory store with a running scheduler.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::fixture::{Fixture, consistently, deployment, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn invalid_manifest_changes_nothing() {
    let fixture = Fixture::new().await;
    let _host = fixture.host("host-1");
    let scheduler = fixture.scheduler();
    fixture.write_manifest("a.yaml", &deployment("a", 1, "registry.example/hello:1"));
    fixture.wait_for_running(1).await;
    let before = fixture.record.ids();
    fixture.write_manifest("a.yaml", "apiVersion: [");
    // Once the later manifest `b.yaml` takes effect, the invalid `a.yaml` has been scanned.
    fixture.write_manifest("b.yaml", &deployment("b", 1, "registry.example/hello:1"));
    fixture.wait_for_running(2).await;
    assert!(fixture.record.ids().is_superset(&before));
    assert_eq!(fixture.record.stops().len(), 0);
    fixture.write_manifest("a.yaml", &deployment("a", 0, "registry.example/hello:1"));
    let repaired = || fixture.record.ids().is_disjoint(&before);
    eventually(repaired, || format!("{:?}", fixture.record.running())).await;
    scheduler.stop().await;
}

/// Damages every status file of a kind, as a power failure or a disk may.
fn damage(fixture: &Fixture, kind: &str, content: &[u8]) {
    let folder = fixture.manifests().join(".berth/default").join(kind);
    let files = std::fs::read_dir(folder).unwrap();
    let paths: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    assert!(!paths.is_empty(), "{kind}");
    for path in paths {
        std::fs::write(path, content).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_owners_and_hosts_are_made_again_and_replicas_go_on() {
    let fixture = Fixture::new().await;
    let _host = fixture.host("host-1");
    let manifest = deployment("a", 2, "registry.example/hello:1");
    fixture.write_manifest("a.yaml", &manifest);
    let mut scheduler = fixture.scheduler();
    fixture.wait_for_running(2).await;
    let is_ready = || {
        fixture
            .status("workloaddeployments", "a")
            .contains("ready: 2")
    };
    eventually(is_ready, || fixture.status("workloaddeployments", "a")).await;
    let before = fixture.record.ids();
    for (kind, content) in [
        ("hosts", &b""[..]),
        ("workloaddeployments", b""),
        ("workloadreplicasets", &[0; 4096]),
    ] {
        scheduler.stop().await;
        damage(&fixture, kind, content);
        scheduler = fixture.scheduler();
        eventually(is_ready, || fixture.status("workloaddeployments", "a")).await;
        let is_unchanged = || fixture.record.ids() == before && fixture.record.stops().is_empty();
        let state = || format!("{kind}: {:?}", fixture.record.running());
        consistently(Duration::from_secs(2), is_unchanged, state).await;
    }
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_replicas_are_stopped_and_replaced() {
    let fixture = Fixture::new().await;
    let _host = fixture.host("host-1");
    fixture.write_manifest("a.yaml", &deployment("a", 2, "registry.example/hello:1"));
    let scheduler = fixture.scheduler();
    fixture.wait_for_running(2).await;
    let is_ready = || {
        fixture
            .status("workloaddeployments", "a")
            .contains("ready: 2")
    };
    eventually(is_ready, || fixture.status("workloaddeployments", "a")).await;
    let before = fixture.record.ids();
    scheduler.stop().await;
    damage(&fixture, "workloads", b"apiVersion: runtime.wasmc");
    let scheduler = fixture.scheduler();
    let is_replaced = || {
        let ids: BTreeSet<_> = fixture.record.ids();
        ids.len() == 2 && ids.is_disjoint(&before)
    };
    let state = || format!("{before:?}, then {:?}", fixture.record.running());
    eventually(is_replaced, state).await;
    consistently(Duration::from_secs(1), is_replaced, state).await;
    scheduler.stop().await;
}
