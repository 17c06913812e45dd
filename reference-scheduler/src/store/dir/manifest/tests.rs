//! Effects of manifests on objects.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::api::{Condition, ConditionStatus, Kind, Timestamp, WorkloadDeploymentStatus};
use crate::core::{MetadataPatch, Status, Write};

fn context() -> WriteContext {
    WriteContext {
        now: Timestamp::from_unix(Duration::from_secs(1_000)),
        uid: "u".to_owned(),
    }
}

fn deployment(replicas: i32, annotations: Value) -> Object {
    let value = json!({
        "metadata": {"namespace": "default", "name": "a", "annotations": annotations, "uid": "made up",
            "finalizers": ["made-up"]},
        "spec": {"replicas": replicas, "template": {"spec": {}}}});
    Object::from_fields(Kind::WorkloadDeployment, value).unwrap()
}

fn manifest_in(file: &str, object: &Object) -> Manifest {
    Manifest {
        object: object.clone(),
        file: file.to_owned(),
        origin: format!("{file}, line 1, column 1"),
        notice: None,
        is_refused: false,
    }
}

fn applied(objects: &mut Objects, object: &Object) -> Change {
    let manifest = manifest_in("a.yaml", object);
    let change = apply(objects, &manifest, &BTreeMap::new(), context()).unwrap();
    objects.commit(&change);
    change
}

fn conditions_of(object: &Object) -> Vec<(String, String)> {
    let Object::Deployment(deployment) = object else {
        panic!("{object:?}")
    };
    let conditions = deployment
        .status
        .iter()
        .flat_map(|status| &status.conditions);
    let pairs = conditions.map(|condition| (condition.name.clone(), condition.reason.clone()));
    pairs.collect()
}

#[test]
fn refused_manifest_creates_an_object_and_changes_none() {
    let mut objects = Objects::default();
    let mut refused = manifest_in("a.yaml", &deployment(-1, json!({})));
    refused.is_refused = true;
    refused.notice = Some(Notice::invalid(
        "a.yaml",
        "spec.replicas: a negative number",
    ));
    let notice = ("Manifest".to_owned(), "InvalidManifest".to_owned());
    let created = apply(&objects, &refused, &BTreeMap::new(), context()).unwrap();
    assert_eq!(
        conditions_of(created.object()),
        std::slice::from_ref(&notice)
    );

    let accepted = applied(&mut objects, &deployment(2, json!({})));
    let change = apply(&objects, &refused, &BTreeMap::new(), context()).unwrap();
    assert_eq!(spec(change.object()), spec(accepted.object()));
    assert_eq!(conditions_of(change.object()), [notice]);
}

#[test]
fn status_tells_problem_of_manifest_until_it_is_solved() {
    let mut objects = Objects::default();
    let unknown = Notice {
        reason: "UnknownFields",
        message: "spec.replica".to_owned(),
    };
    let mut manifest = manifest_in("a.yaml", &deployment(1, json!({})));
    manifest.notice = Some(unknown);
    let change = apply(&objects, &manifest, &BTreeMap::new(), context()).unwrap();
    objects.commit(&change);
    let expected = ("Manifest".to_owned(), "UnknownFields".to_owned());
    assert_eq!(
        conditions_of(change.object()),
        std::slice::from_ref(&expected)
    );

    // The core replaces the status, and does not know the condition.
    let ready = Condition::new("Ready", ConditionStatus::True, "Available", "");
    let status = WorkloadDeploymentStatus {
        conditions: vec![ready],
        ..WorkloadDeploymentStatus::default()
    };
    let (key, uid) = (change.object().key(), "u".to_owned());
    let write = Write::status(key.clone(), uid, Status::Deployment(status));
    let change = objects.write(write, context()).unwrap();
    objects.commit(&change);
    assert!(conditions_of(change.object()).contains(&expected));

    let change = applied(&mut objects, &manifest.object);
    let ready = ("Ready".to_owned(), "Available".to_owned());
    assert_eq!(conditions_of(change.object()), [ready]);
}

#[test]
fn no_file_takes_over_objects_of_unread_file() {
    let mut objects = Objects::default();
    applied(&mut objects, &deployment(1, json!({})));
    let unread_files = BTreeMap::from([("a.yaml".to_owned(), "line 1".to_owned())]);
    let other = manifest_in("b.yaml", &deployment(5, json!({})));
    let change = apply(&objects, &other, &unread_files, context()).unwrap();
    assert!(matches!(change, Change::Unchanged(_)), "{change:?}");

    let manifests = Manifests {
        unread_files,
        ..Manifests::default()
    };
    let changes = explain_unread(&objects, &manifests, context().now);
    let expected = ("Manifest".to_owned(), "InvalidManifest".to_owned());
    assert_eq!(conditions_of(changes[0].object()), [expected]);
}

#[test]
fn manifest_creates_its_object_once() {
    let mut objects = Objects::default();
    let manifest = deployment(1, json!({}));
    let Change::Put(created) = applied(&mut objects, &manifest) else {
        panic!()
    };
    assert_eq!(
        (
            created.metadata().uid.as_str(),
            created.metadata().generation
        ),
        ("u", 1)
    );
    assert_eq!(created.metadata().finalizers, Vec::<String>::new());
    assert_eq!(created.metadata().annotations[ORIGIN_ANNOTATION], "a.yaml");
    assert!(matches!(
        applied(&mut objects, &manifest),
        Change::Unchanged(_)
    ));
}

#[test]
fn only_spec_changes_increment_generation() {
    let mut objects = Objects::default();
    applied(&mut objects, &deployment(1, json!({})));
    let annotated = applied(&mut objects, &deployment(1, json!({"note": "x"})));
    assert_eq!(annotated.object().metadata().generation, 1);
    let scaled = applied(&mut objects, &deployment(2, json!({"note": "x"})));
    assert_eq!(scaled.object().metadata().generation, 2);
}

#[test]
fn removes_annotations_of_manifest_and_keeps_others() {
    let mut objects = Objects::default();
    let created = applied(
        &mut objects,
        &deployment(1, json!({"mine": "1", "berth.dev/drain": "true"})),
    );
    let patch = MetadataPatch {
        annotations: BTreeMap::from([("berth.dev/old".to_owned(), Some("h".to_owned()))]),
        ..MetadataPatch::default()
    };
    let write = Write::Metadata {
        key: created.object().key(),
        uid: "u".to_owned(),
        patch,
    };
    let change = objects.write(write, context()).unwrap();
    objects.commit(&change);
    let change = applied(&mut objects, &deployment(1, json!({"mine": "2"})));
    let annotations = &change.object().metadata().annotations;
    assert_eq!(annotations["mine"], "2");
    assert_eq!(annotations["berth.dev/old"], "h");
    assert!(
        !annotations.contains_key("berth.dev/drain"),
        "{annotations:?}"
    );
}

#[test]
fn object_without_manifest_is_found_unless_file_is_invalid() {
    let mut objects = Objects::default();
    let created = applied(&mut objects, &deployment(1, json!({})));
    let key = created.object().key();
    let mut manifests = Manifests::default();
    assert_eq!(
        without_manifest(&objects, &manifests),
        [key.clone()].as_slice()
    );
    manifests
        .unread_files
        .insert("a.yaml".to_owned(), "line 1".to_owned());
    assert_eq!(without_manifest(&objects, &manifests), []);
    manifests.unread_files.clear();
    let moved = manifest_in("b.yaml", &deployment(1, json!({})));
    manifests.objects.insert(key, moved);
    assert_eq!(without_manifest(&objects, &manifests), []);
}

#[test]
fn objects_of_the_scheduler_need_no_manifest() {
    let mut objects = Objects::default();
    let change = objects
        .write(Write::Create(deployment(1, json!({}))), context())
        .unwrap();
    objects.commit(&change);
    assert_eq!(without_manifest(&objects, &Manifests::default()), []);
}

#[test]
fn objects_with_owner_need_no_manifest() {
    let mut objects = Objects::default();
    let mut created = deployment(1, json!({}));
    let metadata = created.metadata_mut();
    metadata
        .annotations
        .insert(ORIGIN_ANNOTATION.to_owned(), "a.yaml".to_owned());
    let owner = crate::api::Metadata::named("default", "owner");
    let owner = crate::api::OwnerReference::controller(Kind::WorkloadDeployment, &owner);
    metadata.owner_references.push(owner);
    let change = objects.write(Write::Create(created), context()).unwrap();
    objects.commit(&change);
    assert_eq!(without_manifest(&objects, &Manifests::default()), []);
    let object = change.object().clone();
    assert_eq!(without_origin(object).metadata().annotations.len(), 0);
}
