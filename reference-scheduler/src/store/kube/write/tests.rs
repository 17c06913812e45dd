//! Bodies of patches. Integration tests check that an API server accepts them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::api::{Metadata, Workload, WorkloadDeploymentStatus, WorkloadStatus};

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
fn status_update_replaces_status_and_nothing_else() {
    let status = |host: &str| WorkloadStatus {
        host_id: host.to_owned(),
        ..WorkloadStatus::default()
    };
    let mut current = workload(&["theirs"]);
    let placed = Status::Workload(WorkloadStatus {
        workload_id: "old".to_owned(),
        ..status("h")
    });
    placed
        .apply_to(&mut current)
        .expect("a status of the kind of the object");
    current.metadata_mut().resource_version = "7".to_owned();
    let moved = Status::Workload(status("other"));
    let Ok(Update::Status(raw)) = with_status(&current, &moved) else {
        panic!("expected a new status");
    };
    assert_eq!(raw.data["status"], json!({"hostId": "other"}));
    assert_eq!(raw.metadata.resource_version.as_deref(), Some("7"));
    let written = object::decode(Kind::Workload, *raw).expect("an object");
    assert_eq!(written.metadata(), current.metadata());
    assert!(matches!(with_status(&written, &moved), Ok(Update::Nothing)));
}

#[test]
fn rejects_status_of_another_kind() {
    let status = Status::Deployment(WorkloadDeploymentStatus::default());
    assert!(with_status(&workload(&[]), &status).is_err());
}

fn body(update: Update) -> Option<Value> {
    match update {
        Update::Patch(body) => Some(body),
        Update::Nothing | Update::Status(_) => None,
    }
}

#[test]
fn keeps_finalizers_of_others() {
    let add = MetadataPatch {
        add_finalizer: Some("ours"),
        ..MetadataPatch::default()
    };
    let remove = MetadataPatch {
        remove_finalizer: Some("ours"),
        ..MetadataPatch::default()
    };
    let finalizers = |object: &Object, patch| {
        Some(body(metadata_patch(object, patch))?["metadata"]["finalizers"].clone())
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
fn sets_and_removes_annotations_and_skips_patches_without_change() {
    let patch = |name: &str, value: Option<&str>| MetadataPatch {
        annotations: BTreeMap::from([(name.to_owned(), value.map(str::to_owned))]),
        ..MetadataPatch::default()
    };
    let body = |patch| body(metadata_patch(&workload(&[]), &patch));
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
