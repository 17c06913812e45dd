//! Writes, watches and reads of the Kubernetes store on an API server.

use std::collections::BTreeMap;

use berth_scheduler::api::{Condition, ConditionStatus, HostStatus, Object, WorkloadStatus};
use berth_scheduler::core::{
    MetadataPatch, ObjectEvent, ObjectEventKind, Status, StoreError, Write,
};
use berth_scheduler::store::{Store, StoreEvent};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

use crate::kube_fixture::{KubeFixture, TIMEOUT, next_event_of, uid};

#[tokio::test]
async fn watch_reports_written_objects() {
    let fixture = KubeFixture::new().await;
    let first = fixture.create(fixture.artifact("first")).await;
    let mut events = fixture.store.watch();
    assert_eq!(
        next_event_of(&mut events, "first").await,
        StoreEvent::Applied(first.clone())
    );
    let synced = tokio::time::timeout(TIMEOUT, events.recv())
        .await
        .expect("in time");
    assert_eq!(synced, Some(StoreEvent::Synced));

    let second = fixture.create(fixture.artifact("second")).await;
    assert!(!uid(&second).is_empty() && !second.metadata().resource_version.is_empty());
    assert_eq!(
        next_event_of(&mut events, "second").await,
        StoreEvent::Applied(second.clone())
    );
    assert_eq!(
        fixture
            .store
            .write(Write::Create(fixture.artifact("second")))
            .await,
        Err(StoreError::Exists)
    );

    let deleted = fixture
        .write(Write::Delete {
            key: second.key(),
            uid: uid(&second),
        })
        .await;
    assert_eq!(uid(&deleted), uid(&second));
    let removed = next_event_of(&mut events, "second").await;
    assert_eq!(
        removed,
        StoreEvent::Removed {
            key: second.key(),
            uid: uid(&second)
        }
    );
    let again = fixture
        .store
        .write(Write::Delete {
            key: second.key(),
            uid: uid(&second),
        })
        .await;
    assert_eq!(again, Err(StoreError::NotFound));
}

#[tokio::test]
async fn replaces_whole_status() {
    let fixture = KubeFixture::new().await;
    let workload = fixture.create(fixture.workload("a")).await;
    let status_write =
        |status| Write::status(workload.key(), uid(&workload), Status::Workload(status));
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
    fixture.write(status_write(full)).await;
    let raw = fixture.raw("workload", "a").await;
    assert_eq!(raw["status"]["workloadId"], "w");
    assert_eq!(raw["status"]["conditions"][0]["reason"], "Running");
    assert_eq!(
        raw["metadata"]["generation"], 1,
        "writing the status does not change the generation"
    );

    let after = fixture
        .write(status_write(WorkloadStatus {
            environment: "e".to_owned(),
            ..WorkloadStatus::default()
        }))
        .await;
    assert_eq!(
        fixture.raw("workload", "a").await["status"],
        json!({"environment": "e"})
    );
    let Object::Workload(after) = after else {
        panic!("not a workload")
    };
    assert_eq!(after.status.as_ref().expect("a status").host_id, "");
}

#[tokio::test]
async fn retries_after_conflict_and_never_changes_recreated_object() {
    let fixture = KubeFixture::new().await;
    let first = fixture.create(fixture.workload("a")).await;
    let label = |value| format!("by-hand={value}");
    fixture.server.kubectl(&[
        "-n",
        &fixture.namespace,
        "label",
        "workload",
        "a",
        &label("1"),
    ]);
    fixture.assign_unready(&first, "h").await;
    let raw = fixture.raw("workload", "a").await;
    assert_eq!(
        (
            &raw["status"]["hostId"],
            &raw["metadata"]["labels"]["by-hand"]
        ),
        (&json!("h"), &json!("1"))
    );

    fixture.server.kubectl(&[
        "-n",
        &fixture.namespace,
        "delete",
        "workload",
        "a",
        "--wait",
    ]);
    let second = fixture.create(fixture.workload("a")).await;
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
        assert_eq!(fixture.store.write(write).await, Err(StoreError::NotFound));
    }
    assert_eq!(
        fixture.raw("workload", "a").await["metadata"]["uid"],
        json!(uid(&second))
    );
}

#[tokio::test]
async fn keeps_finalizers_of_others() {
    let fixture = KubeFixture::new().await;
    let mut events = fixture.store.watch();
    let workload = fixture.create(fixture.workload("a")).await;
    fixture.server.kubectl(&[
        "-n",
        &fixture.namespace,
        "patch",
        "workload",
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
    let patched = fixture.write(change(add.clone())).await;
    assert_eq!(
        patched.metadata().finalizers,
        ["example.com/theirs", "berth.dev/ours"]
    );
    assert_eq!(patched.metadata().annotations["berth.dev/test"], "1");
    // A patch that changes nothing is not written.
    assert_eq!(
        fixture.write(change(add)).await.metadata().resource_version,
        patched.metadata().resource_version
    );

    let deleting = fixture
        .write(Write::Delete {
            key: workload.key(),
            uid: uid(&workload),
        })
        .await;
    assert!(deleting.metadata().is_deleting());
    let remove = |finalizer| MetadataPatch {
        remove_finalizer: Some(finalizer),
        ..MetadataPatch::default()
    };
    fixture.write(change(remove("berth.dev/ours"))).await;
    fixture.write(change(remove("example.com/theirs"))).await;
    loop {
        if let StoreEvent::Removed { uid: removed, .. } = next_event_of(&mut events, "a").await {
            assert_eq!(removed, uid(&workload));
            break;
        }
    }
}

#[tokio::test]
async fn applies_host_repeatedly_and_kubectl_prints_its_columns() {
    let fixture = KubeFixture::new().await;
    let mut host = fixture.host("calm-fox", "10.0.0.1");
    host.metadata_mut().labels = BTreeMap::from([
        ("hostgroup".to_owned(), "default".to_owned()),
        ("zone".to_owned(), "a".to_owned()),
    ]);
    let first = fixture.write(Write::ApplyHost(host.clone())).await;
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
    fixture
        .write(Write::status(
            first.key(),
            uid(&first),
            Status::Host(status),
        ))
        .await;
    let again = fixture.write(Write::ApplyHost(host.clone())).await;
    assert_eq!(uid(&again), uid(&first));
    assert_eq!(
        fixture.raw("host", "calm-fox").await["status"]["workloadCount"],
        3,
        "the status is unchanged"
    );

    host.metadata_mut().labels.remove("zone");
    let after = fixture.write(Write::ApplyHost(host)).await;
    assert_eq!(
        after.metadata().labels.keys().collect::<Vec<_>>(),
        ["hostgroup"],
        "the label is removed"
    );

    assert_host_columns(&fixture);
    let invalid = fixture
        .store
        .write(Write::ApplyHost(fixture.host("Not A Name", "")))
        .await;
    assert!(
        matches!(invalid, Err(StoreError::Refused(_))),
        "{invalid:?}"
    );
}

fn assert_host_columns(fixture: &KubeFixture) {
    let table = fixture
        .server
        .kubectl(&["-n", &fixture.namespace, "get", "host"]);
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
}

#[tokio::test]
async fn reads_config_maps_and_secrets() {
    let fixture = KubeFixture::new().await;
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "a"}, "data": {"k": "v"}}))
            .expect("a ConfigMap");
    fixture
        .api::<ConfigMap>()
        .create(&PostParams::default(), &map)
        .await
        .expect("created");
    let secret = json!({"metadata": {"name": "a"}, "stringData": {"k": "v"}, "type": "Opaque"});
    let secret: Secret = serde_json::from_value(secret).expect("a Secret");
    fixture
        .api::<Secret>()
        .create(&PostParams::default(), &secret)
        .await
        .expect("created");
    let (store, namespace) = (&fixture.store, fixture.namespace.as_str());
    assert_eq!(
        store.config_map(namespace, "a").await,
        Ok(Some(BTreeMap::from([("k".to_owned(), "v".to_owned())])))
    );
    assert_eq!(store.config_map(namespace, "b").await, Ok(None));
    let read = store
        .secret(namespace, "a")
        .await
        .expect("a response")
        .expect("a Secret");
    assert_eq!(
        (read.kind.as_str(), &read.data["k"][..]),
        ("Opaque", &b"v"[..])
    );
    assert_eq!(store.secret(namespace, "b").await, Ok(None));
}

#[tokio::test]
async fn publishes_event_and_counts_repeats() {
    let fixture = KubeFixture::new().await;
    let workload = fixture.create(fixture.workload("a")).await;
    let event = ObjectEvent {
        key: workload.key(),
        uid: uid(&workload),
        kind: ObjectEventKind::Warning,
        reason: "NoHost",
        message: "no host fits".to_owned(),
    };
    fixture.store.record_event(event.clone()).await;
    fixture.store.record_event(event).await;
    let events = fixture
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
async fn accepts_manifests_of_wasmcloud_and_rejects_invalid_ones() {
    let fixture = KubeFixture::new().await;
    let manifest = include_str!("../data/every-field.yaml").replace(
        "namespace: demo",
        &format!("namespace: {}", fixture.namespace),
    );
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), manifest).expect("written");
    let path = file.path().to_str().expect("a path");
    fixture
        .server
        .kubectl(&["apply", "--validate=strict", "-f", path]);
    let raw = fixture.raw("workload", "everything").await;
    let sent: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(path).expect("a manifest")).expect("YAML");
    assert_eq!(raw["spec"], sent["spec"], "no field is dropped or added");

    let mut object = fixture.workload("bad");
    let mut is_refused = async |spec: Value| {
        let mut value = object.to_value().expect("JSON");
        value["spec"] = spec;
        object = Object::from_value(value).expect("an object");
        matches!(
            fixture.store.write(Write::Create(object.clone())).await,
            Err(StoreError::Refused(_))
        )
    };
    let http = json!({"namespace": "wasi", "package": "http", "interfaces": ["handler"]});
    assert!(
        is_refused(json!({"hostInterfaces": [http, http]})).await,
        "duplicate interface"
    );
    assert!(
        is_refused(json!({"service": {"image": "i", "maxRestarts": -1}})).await,
        "negative restarts"
    );
    assert!(
        is_refused(json!({"components": [{"name": "a", "image": "i", "poolSize": -1}]})).await,
        "negative pool"
    );
}
