//! Manifests in, changes out.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::api::{Kind, Timestamp};
use crate::core::{MetadataPatch, Write};

fn stamp() -> Stamp {
    Stamp {
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
    let change = apply(objects, manifest, "a.yaml", stamp()).unwrap();
    objects.commit(&change);
    change
}

#[test]
fn a_manifest_makes_an_object_once() {
    let mut objects = Objects::default();
    let manifest = deployment(1, json!({}));
    let Change::Put(made) = applied(&mut objects, &manifest) else {
        panic!()
    };
    assert_eq!(
        (made.metadata().uid.as_str(), made.metadata().generation),
        ("u", 1)
    );
    assert_eq!(made.metadata().finalizers, Vec::<String>::new());
    assert_eq!(made.metadata().annotations[ORIGIN], "a.yaml");
    assert!(matches!(
        applied(&mut objects, &manifest),
        Change::Nothing(_)
    ));
}

#[test]
fn only_a_new_spec_is_a_new_generation() {
    let mut objects = Objects::default();
    applied(&mut objects, &deployment(1, json!({})));
    let noted = applied(&mut objects, &deployment(1, json!({"note": "x"})));
    assert_eq!(noted.object().metadata().generation, 1);
    let scaled = applied(&mut objects, &deployment(2, json!({"note": "x"})));
    assert_eq!(scaled.object().metadata().generation, 2);
}

#[test]
fn annotations_of_the_file_go_with_it_and_others_stay() {
    let mut objects = Objects::default();
    let made = applied(
        &mut objects,
        &deployment(1, json!({"mine": "1", "berth.dev/drain": "true"})),
    );
    let patch = MetadataPatch {
        annotations: BTreeMap::from([("berth.dev/old".to_owned(), Some("h".to_owned()))]),
        ..MetadataPatch::default()
    };
    let write = Write::Metadata {
        key: made.object().key(),
        uid: "u".to_owned(),
        patch,
    };
    let change = objects.write(write, stamp()).unwrap();
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
fn what_goes_from_the_files_is_unwanted_unless_they_are_broken() {
    let mut objects = Objects::default();
    let made = applied(&mut objects, &deployment(1, json!({})));
    let key = made.object().key();
    let mut wanted = Wanted::default();
    assert_eq!(unwanted(&objects, &wanted), [key.clone()].as_slice());
    wanted.broken.insert("a.yaml".to_owned());
    assert_eq!(unwanted(&objects, &wanted), []);
    wanted.broken.clear();
    let moved = (deployment(1, json!({})), "b.yaml".to_owned());
    wanted.objects.insert(key, moved);
    assert_eq!(unwanted(&objects, &wanted), []);
}

#[test]
fn what_the_scheduler_made_itself_is_not_unwanted() {
    let mut objects = Objects::default();
    let change = objects
        .write(Write::Create(deployment(1, json!({}))), stamp())
        .unwrap();
    objects.commit(&change);
    assert_eq!(unwanted(&objects, &Wanted::default()), []);
}

#[test]
fn what_has_an_owner_comes_from_no_file() {
    let mut objects = Objects::default();
    let mut made = deployment(1, json!({}));
    let metadata = made.metadata_mut();
    metadata
        .annotations
        .insert(ORIGIN.to_owned(), "a.yaml".to_owned());
    let owner = crate::api::Metadata::named("default", "owner");
    let owner = crate::api::OwnerReference::controller(Kind::WorkloadDeployment, &owner);
    metadata.owner_references.push(owner);
    let change = objects.write(Write::Create(made), stamp()).unwrap();
    objects.commit(&change);
    assert_eq!(unwanted(&objects, &Wanted::default()), []);
    let noted = change.object().clone();
    assert_eq!(without_origin(noted).metadata().annotations.len(), 0);
}
