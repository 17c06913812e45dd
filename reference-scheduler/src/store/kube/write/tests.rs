//! The bodies of patches; that the server takes them is seen in the tests against one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::api::{LocalReference, Metadata, Workload, WorkloadDeploymentStatus, WorkloadStatus};

fn workload(finalizers: &[&str]) -> Object {
    let mut metadata = Metadata::named("n", "a");
    metadata.finalizers = finalizers
        .iter()
        .map(|&finalizer| finalizer.to_owned())
        .collect();
    metadata
        .annotations
        .insert("kept".to_owned(), "1".to_owned());
    Object::Workload(Arc::new(Workload {
        metadata,
        ..Workload::default()
    }))
}

#[test]
fn what_a_status_does_not_say_is_cleared() {
    let status = WorkloadStatus {
        host_id: "h".to_owned(),
        ..WorkloadStatus::default()
    };
    let patch = status_patch(&Status::Workload(status)).expect("JSON");
    assert_eq!(
        patch,
        json!({"hostId": "h", "environment": null, "workloadId": null, "conditions": null})
    );
    let status = WorkloadDeploymentStatus {
        current_replica_set: Some(LocalReference {
            name: "b".to_owned(),
            ..LocalReference::default()
        }),
        ..WorkloadDeploymentStatus::default()
    };
    let patch = status_patch(&Status::Deployment(status)).expect("JSON");
    assert_eq!(patch["currentReplicaSet"], json!({"name": "b"}));
    assert_eq!(patch["previousReplicaSet"], Value::Null);
    assert_eq!(patch["currentReplicas"], json!(0));
}

#[test]
fn finalizers_of_others_stay() {
    let add = MetadataPatch {
        add_finalizer: Some("ours"),
        ..MetadataPatch::default()
    };
    let remove = MetadataPatch {
        remove_finalizer: Some("ours"),
        ..MetadataPatch::default()
    };
    let finalizers = |object: &Object, patch| {
        Some(metadata_patch(object, patch)?["metadata"]["finalizers"].clone())
    };
    assert_eq!(
        finalizers(&workload(&["theirs"]), &add),
        Some(json!(["theirs", "ours"]))
    );
    assert_eq!(
        finalizers(&workload(&["ours", "theirs"]), &remove),
        Some(json!(["theirs"]))
    );
    assert_eq!(finalizers(&workload(&["ours"]), &add), None);
    assert_eq!(finalizers(&workload(&["theirs"]), &remove), None);
}

#[test]
fn annotations_are_set_and_taken_away_and_nothing_is_written_for_nothing() {
    let patch = |name: &str, value: Option<&str>| MetadataPatch {
        annotations: BTreeMap::from([(name.to_owned(), value.map(str::to_owned))]),
        ..MetadataPatch::default()
    };
    let body = |patch| metadata_patch(&workload(&[]), &patch);
    assert_eq!(
        body(patch("new", Some("2"))),
        Some(json!({"metadata": {"annotations": {"new": "2"}}}))
    );
    assert_eq!(
        body(patch("kept", None)),
        Some(json!({"metadata": {"annotations": {"kept": null}}}))
    );
    assert_eq!(body(patch("kept", Some("1"))), None);
    assert_eq!(body(patch("absent", None)), None);
}
