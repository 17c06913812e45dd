//! What is written to Kubernetes, told of and read, against a real API server.

use std::collections::BTreeMap;

use berth_scheduler::api::{Condition, ConditionStatus, HostStatus, Object, WorkloadStatus};
use berth_scheduler::core::{MetadataPatch, Note, NoteKind, Status, Write, WriteError};
use berth_scheduler::store::{Store, StoreEvent};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

use crate::kube_bench::{Bench, PATIENCE, next_of, uid};

#[tokio::test]
async fn what_is_written_is_told_and_kept() {
    let bench = Bench::new().await;
    let first = bench.create(bench.artifact("first")).await;
    let mut events = bench.store.watch();
    assert_eq!(
        next_of(&mut events, "first").await,
        StoreEvent::Applied(first.clone())
    );
    let synced = tokio::time::timeout(PATIENCE, events.recv())
        .await
        .expect("in time");
    assert_eq!(synced, Some(StoreEvent::Synced));

    let second = bench.create(bench.artifact("second")).await;
    assert!(!uid(&second).is_empty() && !second.metadata().resource_version.is_empty());
    assert_eq!(
        next_of(&mut events, "second").await,
        StoreEvent::Applied(second.clone())
    );
    assert_eq!(
        bench
            .store
            .write(Write::Create(bench.artifact("second")))
            .await,
        Err(WriteError::Exists)
    );

    let gone = bench
        .write(Write::Delete {
            key: second.key(),
            uid: uid(&second),
        })
        .await;
    assert_eq!(uid(&gone), uid(&second));
    let told = next_of(&mut events, "second").await;
    assert_eq!(
        told,
        StoreEvent::Removed {
            key: second.key(),
            uid: uid(&second)
        }
    );
    let again = bench
        .store
        .write(Write::Delete {
            key: second.key(),
            uid: uid(&second),
        })
        .await;
    assert_eq!(again, Err(WriteError::NotFound));
}

#[tokio::test]
async fn a_status_is_replaced_as_a_whole() {
    let bench = Bench::new().await;
    let workload = bench.create(bench.workload("a")).await;
    let written = |status| Write::status(workload.key(), uid(&workload), Status::Workload(status));
    let full = WorkloadStatus {
        host_id: "h".to_owned(),
        workload_id: "w".to_owned(),
        conditions: vec![Condition::new(
            "Ready",
            ConditionStatus::True,
            "Running",
            "it runs",
        )],
        ..WorkloadStatus::default()
    };
    bench.write(written(full)).await;
    let raw = bench.raw("workload", "a").await;
    assert_eq!(raw["status"]["workloadId"], "w");
    assert_eq!(raw["status"]["conditions"][0]["reason"], "Running");
    assert_eq!(
        raw["metadata"]["generation"], 1,
        "a status is no change of what is wanted"
    );

    let after = bench
        .write(written(WorkloadStatus {
            environment: "e".to_owned(),
            ..WorkloadStatus::default()
        }))
        .await;
    assert_eq!(
        bench.raw("workload", "a").await["status"],
        json!({"environment": "e"})
    );
    let Object::Workload(after) = after else {
        panic!("a workload")
    };
    assert_eq!(after.status.as_ref().expect("a status").host_id, "");
}

#[tokio::test]
async fn a_write_survives_that_somebody_else_was_quicker_and_never_hits_a_successor() {
    let bench = Bench::new().await;
    let first = bench.create(bench.workload("a")).await;
    let label = |value| format!("by-hand={value}");
    bench
        .server
        .kubectl(&["-n", &bench.namespace, "label", "ww", "a", &label("1")]);
    bench.place(&first, "h", false).await;
    let raw = bench.raw("ww", "a").await;
    assert_eq!(
        (
            &raw["status"]["hostId"],
            &raw["metadata"]["labels"]["by-hand"]
        ),
        (&json!("h"), &json!("1"))
    );

    bench
        .server
        .kubectl(&["-n", &bench.namespace, "delete", "ww", "a", "--wait"]);
    let second = bench.create(bench.workload("a")).await;
    for write in [
        Write::status(
            first.key(),
            uid(&first),
            Status::Workload(WorkloadStatus::default()),
        ),
        Write::Metadata {
            key: first.key(),
            uid: uid(&first),
            patch: MetadataPatch {
                add_finalizer: Some("berth.dev/test"),
                ..MetadataPatch::default()
            },
        },
        Write::Delete {
            key: first.key(),
            uid: uid(&first),
        },
    ] {
        assert_eq!(bench.store.write(write).await, Err(WriteError::NotFound));
    }
    assert_eq!(
        bench.raw("ww", "a").await["metadata"]["uid"],
        json!(uid(&second))
    );
}

#[tokio::test]
async fn finalizers_hold_and_let_go_beside_those_of_others() {
    let bench = Bench::new().await;
    let mut events = bench.store.watch();
    let workload = bench.create(bench.workload("a")).await;
    bench.server.kubectl(&[
        "-n",
        &bench.namespace,
        "patch",
        "ww",
        "a",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":["example.com/theirs"]}}"#,
    ]);
    let change = |patch| Write::Metadata {
        key: workload.key(),
        uid: uid(&workload),
        patch,
    };
    let annotations = BTreeMap::from([("berth.dev/test".to_owned(), Some("1".to_owned()))]);
    let add = MetadataPatch {
        add_finalizer: Some("berth.dev/ours"),
        annotations,
        ..MetadataPatch::default()
    };
    let held = bench.write(change(add.clone())).await;
    assert_eq!(
        held.metadata().finalizers,
        ["example.com/theirs", "berth.dev/ours"]
    );
    assert_eq!(held.metadata().annotations["berth.dev/test"], "1");
    // Nothing to do, nothing written.
    assert_eq!(
        bench.write(change(add)).await.metadata().resource_version,
        held.metadata().resource_version
    );

    let leaving = bench
        .write(Write::Delete {
            key: workload.key(),
            uid: uid(&workload),
        })
        .await;
    assert!(leaving.metadata().is_deleting());
    let remove = |finalizer| MetadataPatch {
        remove_finalizer: Some(finalizer),
        ..MetadataPatch::default()
    };
    bench.write(change(remove("berth.dev/ours"))).await;
    bench.write(change(remove("example.com/theirs"))).await;
    loop {
        if let StoreEvent::Removed { uid: gone, .. } = next_of(&mut events, "a").await {
            assert_eq!(gone, uid(&workload));
            break;
        }
    }
}

#[tokio::test]
async fn a_host_is_applied_over_and_over_and_looks_like_a_node() {
    let bench = Bench::new().await;
    let mut host = bench.host("calm-fox", "10.0.0.1");
    host.metadata_mut().labels = BTreeMap::from([
        ("hostgroup".to_owned(), "default".to_owned()),
        ("zone".to_owned(), "a".to_owned()),
    ]);
    let first = bench.write(Write::ApplyHost(host.clone())).await;
    let status = HostStatus {
        version: "2.7.0".to_owned(),
        workload_count: 3,
        conditions: vec![Condition::new(
            "Ready",
            ConditionStatus::True,
            "Available",
            "",
        )],
        ..HostStatus::default()
    };
    bench
        .write(Write::status(
            first.key(),
            uid(&first),
            Status::Host(status),
        ))
        .await;
    let again = bench.write(Write::ApplyHost(host.clone())).await;
    assert_eq!(uid(&again), uid(&first));
    assert_eq!(
        bench.raw("host", "calm-fox").await["status"]["workloadCount"],
        3,
        "a status is left alone"
    );

    host.metadata_mut().labels.remove("zone");
    let after = bench.write(Write::ApplyHost(host)).await;
    assert_eq!(
        after.metadata().labels.keys().collect::<Vec<_>>(),
        ["hostgroup"],
        "a label that went is gone"
    );

    let table = bench
        .server
        .kubectl(&["-n", &bench.namespace, "get", "host"]);
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows[0],
        [
            "NAME",
            "READY",
            "HOSTGROUP",
            "ENVIRONMENT",
            "WORKLOADS",
            "AGE",
            "VERSION",
            "HOSTID"
        ]
    );
    assert_eq!(rows[1][..5], ["calm-fox", "True", "default", "demo", "3"]);
    assert_eq!(rows[1][6..], ["2.7.0", "id-of-calm-fox"]);
    let bad = bench
        .store
        .write(Write::ApplyHost(bench.host("Not A Name", "")))
        .await;
    assert!(matches!(bad, Err(WriteError::Refused(_))), "{bad:?}");
}

#[tokio::test]
async fn references_are_read_and_absent_ones_are_none() {
    let bench = Bench::new().await;
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "a"}, "data": {"k": "v"}}))
            .expect("one");
    bench
        .api::<ConfigMap>()
        .create(&PostParams::default(), &map)
        .await
        .expect("created");
    let secret = json!({"metadata": {"name": "a"}, "stringData": {"k": "v"}, "type": "Opaque"});
    let secret: Secret = serde_json::from_value(secret).expect("a Secret");
    bench
        .api::<Secret>()
        .create(&PostParams::default(), &secret)
        .await
        .expect("created");
    let (store, namespace) = (&bench.store, bench.namespace.as_str());
    assert_eq!(
        store.config_map(namespace, "a").await,
        Ok(Some(BTreeMap::from([("k".to_owned(), "v".to_owned())])))
    );
    assert_eq!(store.config_map(namespace, "b").await, Ok(None));
    let read = store
        .secret(namespace, "a")
        .await
        .expect("an answer")
        .expect("a Secret");
    assert_eq!(
        (read.kind.as_str(), &read.data["k"][..]),
        ("Opaque", &b"v"[..])
    );
    assert_eq!(store.secret(namespace, "b").await, Ok(None));
}

#[tokio::test]
async fn a_note_becomes_an_event_and_repeats_are_counted() {
    let bench = Bench::new().await;
    let workload = bench.create(bench.workload("a")).await;
    let note = Note {
        key: workload.key(),
        uid: uid(&workload),
        kind: NoteKind::Warning,
        reason: "NoHost",
        message: "no host fits".to_owned(),
    };
    bench.store.note(note.clone()).await;
    bench.store.note(note).await;
    let events = bench
        .api::<Event>()
        .list(&ListParams::default())
        .await
        .expect("a list")
        .items;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].note.as_deref(), Some("no host fits"));
    assert_eq!(events[0].type_.as_deref(), Some("Warning"));
    assert_eq!(
        events[0]
            .regarding
            .as_ref()
            .and_then(|object| object.uid.clone()),
        Some(uid(&workload))
    );
    assert_eq!(
        events[0].series.as_ref().map(|series| series.count),
        Some(2)
    );
}

#[tokio::test]
async fn manifests_written_for_upstream_apply_and_nonsense_does_not() {
    let bench = Bench::new().await;
    let manifest = include_str!("../data/every-field.yaml").replace(
        "namespace: demo",
        &format!("namespace: {}", bench.namespace),
    );
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), manifest).expect("written");
    let path = file.path().to_str().expect("a path");
    bench
        .server
        .kubectl(&["apply", "--validate=strict", "-f", path]);
    let raw = bench.raw("ww", "everything").await;
    let sent: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(path).expect("text")).expect("YAML");
    assert_eq!(
        raw["spec"], sent["spec"],
        "nothing is dropped and nothing added"
    );

    let mut bad = bench.workload("bad");
    let mut refused = async |spec: Value| {
        let mut value = bad.to_value().expect("JSON");
        value["spec"] = spec;
        bad = Object::from_value(value).expect("an object");
        matches!(
            bench.store.write(Write::Create(bad.clone())).await,
            Err(WriteError::Refused(_))
        )
    };
    let http = json!({"namespace": "wasi", "package": "http", "interfaces": ["handler"]});
    assert!(
        refused(json!({"hostInterfaces": [http, http]})).await,
        "twice the same"
    );
    assert!(
        refused(json!({"service": {"image": "i", "maxRestarts": -1}})).await,
        "negative restarts"
    );
    assert!(
        refused(json!({"components": [{"name": "a", "image": "i", "poolSize": -1}]})).await,
        "negative pool"
    );
}
