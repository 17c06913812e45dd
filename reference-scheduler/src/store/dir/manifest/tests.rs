//! Effects of manifests on objects.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::api::{Kind, Timestamp};
use crate::core::{MetadataPatch, Write};

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

fn applied(objects: &mut Objects, manifest: &Object) -> Change {
    let change = apply(objects, manifest, "a.yaml", context()).unwrap();
    objects.commit(&change);
    change
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
    manifests.invalid_files.insert("a.yaml".to_owned());
    assert_eq!(without_manifest(&objects, &manifests), []);
    manifests.invalid_files.clear();
    let moved = (deployment(1, json!({})), "b.yaml".to_owned());
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
