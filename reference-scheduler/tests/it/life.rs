//! What becomes of workloads: deployed, scaled, moved, removed.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::stage::{Stage, deployment, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_runs_and_its_status_can_be_read() {
    let stage = Stage::set().await;
    let _host = stage.host("host-1");
    let scheduler = stage.scheduler();
    stage.put(
        "hello.yaml",
        &deployment("hello", 2, "registry.example/hello:1"),
    );
    stage.runs(2).await;
    let ready = || {
        let status = stage.status("workloaddeployments", "hello");
        status.contains("ready: 2") && status.contains("currentReplicaSet")
    };
    eventually(ready, || stage.status("workloaddeployments", "hello")).await;
    assert!(stage.status("hosts", "host-1").contains("hostId: host-1"));
    stage.remove("hello.yaml");
    stage.runs(0).await;
    let empty = || stage.status("workloaddeployments", "hello").is_empty();
    eventually(empty, || stage.status("workloaddeployments", "hello")).await;
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_of_a_dead_host_run_elsewhere() {
    let stage = Stage::set().await;
    let (first, second) = (stage.host("host-1"), stage.host("host-2"));
    let scheduler = stage.scheduler();
    stage.put(
        "hello.yaml",
        &deployment("hello", 10, "registry.example/hello:1"),
    );
    stage.runs(10).await;
    // One that came late gets its share at the next occasion only, so either may have all.
    let (dying, other) = match stage.record.count("host-1") {
        0 => (second, first),
        _ => (first, second),
    };
    let before: BTreeSet<String> = stage.record.running()[&dying.id].clone();
    let died = Instant::now();
    dying.kill().await;
    stage.runs(10).await;
    let took = died.elapsed();
    assert_eq!(stage.record.count(&other.id), 10);
    assert!(
        stage.record.ids().is_disjoint(&before),
        "an id was used again"
    );
    // The bound is the specification's for a fleet of any size; what is aimed at is 2 s, and measured by the bench.
    assert!(took < Duration::from_secs(10), "{took:?}");
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_revision_takes_the_place_of_the_old_one() {
    let stage = Stage::set().await;
    let _hosts = [stage.host("host-1"), stage.host("host-2")];
    let scheduler = stage.scheduler();
    stage.put(
        "hello.yaml",
        &deployment("hello", 4, "registry.example/hello:1"),
    );
    stage.runs(4).await;
    let before = stage.record.ids();
    stage.put(
        "hello.yaml",
        &deployment("hello", 4, "registry.example/hello:2"),
    );
    let replaced = || {
        let now = stage.record.ids();
        now.len() == 4 && now.is_disjoint(&before)
    };
    eventually(replaced, || format!("{:?}", stage.record.running())).await;
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_reference_is_waited_for() {
    let stage = Stage::set().await;
    let _host = stage.host("host-1");
    let scheduler = stage.scheduler();
    let refers = deployment("hello", 1, "registry.example/hello:1").replace(
        "image:",
        "localResources: {environment: {configFrom: [{name: settings}]}}\n        image:",
    );
    stage.put("hello.yaml", &refers);
    let waits = || {
        let folder = stage.manifests().join(".berth/default/workloads");
        let Ok(mut entries) = std::fs::read_dir(folder) else {
            return false;
        };
        entries.any(|entry| {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
            text.contains("settings") && text.contains("does not exist")
        })
    };
    eventually(waits, || "the status says what is missing".to_owned()).await;
    assert_eq!(stage.record.ids().len(), 0);
    stage.put(
        "settings.yaml",
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {A: b}}",
    );
    stage.runs(1).await;
    scheduler.stop().await;
}
