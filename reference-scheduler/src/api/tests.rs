//! Objects are read, written back and preserve unknown fields.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;

fn read(value: Value) -> Object {
    Object::from_value(value).expect("an object")
}

#[test]
fn preserves_unknown_fields_at_every_level() {
    let manifest = json!({
        "apiVersion": API_VERSION, "kind": "WorkloadDeployment",
        "metadata": {
            "name": "hello", "namespace": "demo", "generation": 2,
            "managedFields": [{"manager": "kubectl"}],
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "u", "controller": true}],
        },
        "spec": {
            "replicas": 0,
            "later": 1,
            "template": {"spec": {
                "components": [{"name": "a", "image": "i", "later": {"deep": true},
                    "localResources": {"environment": {"configFrom": [{"name": "c", "optional": true}]}}}],
                "hostInterfaces": [{"config": {"a": "b"}, "namespace": "wasi", "package": "http",
                    "interfaces": ["incoming-handler"], "later": 2}],
                "volumes": [{"name": "v", "ephemeral": {"sizeLimit": "1Gi"}}],
            }},
        },
        "status": {"currentReplicas": 1, "phase": "Later",
            "conditions": [{"type": "Ready", "status": "True", "lastProbeTime": "2026-01-02T03:04:05Z"}]},
    });
    assert_eq!(read(manifest.clone()).to_value().expect("JSON"), manifest);
}

#[test]
fn null_is_unset() {
    let object = read(json!({
        "apiVersion": API_VERSION, "kind": "Workload",
        "metadata": {"name": "a", "namespace": "n", "labels": null, "creationTimestamp": null},
        "spec": {"components": null, "service": null, "hostId": null},
        "status": null,
    }));
    let Object::Workload(workload) = object else {
        panic!("not a workload")
    };
    assert_eq!(workload.spec, WorkloadSpec::default());
    assert_eq!(workload.status, None);
}

#[test]
fn key_contains_kind_namespace_and_name() {
    let object = read(json!({
        "apiVersion": API_VERSION, "kind": "Host", "hostId": "h",
        "metadata": {"name": "calm-fox", "namespace": "berth"},
    }));
    assert_eq!(object.key(), Key::new(Kind::Host, "berth", "calm-fox"));
    assert_eq!(object.key().to_string(), "Host berth/calm-fox");
}

#[test]
fn rejects_foreign_kinds_with_reason() {
    let error = |value| Object::from_value(value).expect_err("an error").to_string();
    assert!(error(json!([])).contains("object"));
    assert!(error(json!({"kind": "Host"})).contains("apiVersion"));
    assert!(error(json!({"apiVersion": "v1", "kind": "Pod"})).contains("\"v1\""));
    assert!(error(json!({"apiVersion": API_VERSION, "kind": "Pod"})).contains("Pod"));
    assert!(
        error(json!({"apiVersion": API_VERSION, "kind": "Artifact", "spec": {}}))
            .contains("Artifact")
    );
}

#[test]
fn transition_time_changes_only_with_status() {
    let at = |secs| Timestamp::from_unix(Duration::from_secs(secs));
    let mut list = Vec::new();
    assert!(set_condition(
        &mut list,
        Condition::new("Ready", ConditionStatus::False, "Wait", "1 of 2"),
        at(10)
    ));
    assert!(!set_condition(
        &mut list,
        Condition::new("Ready", ConditionStatus::False, "Wait", "1 of 2"),
        at(20)
    ));
    assert!(set_condition(
        &mut list,
        Condition::new("Ready", ConditionStatus::False, "Wait", "2 of 2"),
        at(30)
    ));
    assert_eq!(
        condition(&list, "Ready")
            .expect("an entry")
            .last_transition_time,
        Some(at(10))
    );
    assert!(set_condition(
        &mut list,
        Condition::new("Ready", ConditionStatus::True, "Done", ""),
        at(40)
    ));
    assert_eq!(
        condition(&list, "Ready")
            .expect("an entry")
            .last_transition_time,
        Some(at(40))
    );
    assert!(is_true(&list, "Ready"));
    assert_eq!(list.len(), 1);
}

#[test]
fn timestamps_are_whole_seconds_in_utc() {
    let time: Timestamp = "2026-11-23T08:49:18.75+01:00".parse().expect("a time");
    assert_eq!(time.to_string(), "2026-11-23T07:49:18Z");
    assert_eq!(time.as_unix().as_secs(), 1_795_420_158);
    assert_eq!(Timestamp::from_unix(time.as_unix()), time);
    assert!("yesterday".parse::<Timestamp>().is_err());
}

#[test]
fn replicas_default_to_one_and_are_never_negative() {
    let replicas = |replicas| {
        WorkloadReplicaSetSpec {
            replicas,
            ..Default::default()
        }
        .replicas()
    };
    assert_eq!(
        (replicas(None), replicas(Some(3)), replicas(Some(-2))),
        (1, 3, 0)
    );
}
