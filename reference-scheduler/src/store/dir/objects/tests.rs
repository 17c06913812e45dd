//! Effects of writes on objects.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::api::{Kind, WorkloadStatus};

fn context(uid: &str) -> WriteContext {
    WriteContext {
        now: Timestamp::from_unix(Duration::from_secs(1_000)),
        uid: uid.to_owned(),
    }
}

fn workload(name: &str) -> Object {
    let value = json!({"metadata": {"namespace": "default", "name": name, "uid": "made up", "generation": 9},
        "spec": {}, "status": {"hostId": "made up"}});
    Object::from_fields(Kind::Workload, value).unwrap()
}

fn host(id: &str, zone: &str) -> Object {
    let value = json!({"metadata": {"namespace": "default", "name": "h", "labels": {"zone": zone}}, "hostId": id});
    Object::from_fields(Kind::Host, value).unwrap()
}

fn apply(objects: &mut Objects, write: Write, uid: &str) -> Object {
    let change = objects.write(write, context(uid)).unwrap();
    objects.commit(&change);
    change.object().clone()
}

fn metadata(object: &Object, patch: MetadataPatch) -> Write {
    Write::Metadata {
        key: object.key(),
        uid: object.metadata().uid.clone(),
        patch,
    }
}

fn delete(object: &Object) -> Write {
    Write::Delete {
        key: object.key(),
        uid: object.metadata().uid.clone(),
    }
}

#[test]
fn create_sets_uid_version_and_generation() {
    let mut objects = Objects::default();
    let created = apply(&mut objects, Write::Create(workload("a")), "u-1");
    let metadata = created.metadata();
    assert_eq!(
        (
            metadata.uid.as_str(),
            metadata.generation,
            metadata.resource_version.as_str()
        ),
        ("u-1", 1, "1")
    );
    assert!(metadata.creation_timestamp.is_some());
    let Object::Workload(created) = created else {
        panic!("not a workload")
    };
    assert_eq!(created.status, None);
    let again = objects.write(Write::Create(workload("a")), context("u-2"));
    assert_eq!(again, Err(StoreError::Exists));
}

#[test]
fn versions_continue_after_restart() {
    let mut objects = Objects::default();
    let created = apply(&mut objects, Write::Create(workload("a")), "u-1");
    let mut later = Objects::default();
    later.load(created);
    let next = apply(&mut later, Write::Create(workload("b")), "u-2");
    assert_eq!(next.metadata().resource_version, "2");
}

#[test]
fn create_rejects_invalid_names() {
    let refused =
        Objects::default().write(Write::Create(workload("../../etc/passwd")), context("u"));
    assert!(
        matches!(refused, Err(StoreError::Refused(_))),
        "{refused:?}"
    );
}

#[test]
fn status_write_keeps_generation_and_equal_status_changes_nothing() {
    let mut objects = Objects::default();
    let created = apply(&mut objects, Write::Create(workload("a")), "u-1");
    let status = WorkloadStatus {
        host_id: "h".to_owned(),
        ..WorkloadStatus::default()
    };
    let write = |uid: &str| {
        Write::status(
            created.key(),
            uid.to_owned(),
            Status::Workload(status.clone()),
        )
    };
    let written = apply(&mut objects, write("u-1"), "");
    assert_eq!(written.metadata().generation, 1);
    assert_eq!(written.metadata().resource_version, "2");
    assert!(matches!(
        objects.write(write("u-1"), context("")),
        Ok(Change::Unchanged(_))
    ));
    assert_eq!(
        objects.write(write("u-0"), context("")),
        Err(StoreError::NotFound)
    );
}

#[test]
fn deleted_object_remains_until_last_finalizer_is_removed() {
    let mut objects = Objects::default();
    let created = apply(&mut objects, Write::Create(workload("a")), "u-1");
    let add = MetadataPatch {
        add_finalizer: Some("f"),
        ..MetadataPatch::default()
    };
    apply(&mut objects, metadata(&created, add.clone()), "");
    let deleting = apply(&mut objects, delete(&created), "");
    assert!(deleting.metadata().is_deleting());
    assert!(matches!(
        objects.write(delete(&created), context("")),
        Ok(Change::Unchanged(_))
    ));
    let late = MetadataPatch {
        add_finalizer: Some("g"),
        ..MetadataPatch::default()
    };
    assert_eq!(
        apply(&mut objects, metadata(&created, late), "")
            .metadata()
            .finalizers,
        ["f"]
    );
    let remove = MetadataPatch {
        remove_finalizer: Some("f"),
        ..MetadataPatch::default()
    };
    let change = objects
        .write(metadata(&created, remove), context(""))
        .unwrap();
    assert!(matches!(change, Change::Remove(_)), "{change:?}");
    objects.commit(&change);
    assert_eq!(objects.get(&created.key()), None);
}

#[test]
fn delete_without_finalizer_removes_object() {
    let mut objects = Objects::default();
    let created = apply(&mut objects, Write::Create(workload("a")), "u-1");
    assert!(matches!(
        objects.write(delete(&created), context("")),
        Ok(Change::Remove(_))
    ));
}

#[test]
fn apply_host_creates_or_updates_host() {
    let mut objects = Objects::default();
    apply(&mut objects, Write::ApplyHost(host("1", "a")), "u-1");
    let same = objects.write(Write::ApplyHost(host("1", "a")), context("u-2"));
    assert!(matches!(same, Ok(Change::Unchanged(_))), "{same:?}");
    let moved = apply(&mut objects, Write::ApplyHost(host("2", "b")), "u-3");
    assert_eq!(
        (moved.metadata().uid.as_str(), moved.metadata().generation),
        ("u-1", 2)
    );
    assert_eq!(moved.metadata().labels["zone"], "b");
}

#[test]
fn foreground_deletion_removes_owner_after_dependents() {
    let mut objects = Objects::default();
    let owned_by = |name: &str, kind: Kind, owner: &Object| {
        let reference = json!({"apiVersion": "runtime.wasmcloud.dev/v1alpha1", "kind": owner.kind().as_str(),
            "name": owner.metadata().name, "uid": owner.metadata().uid, "controller": true});
        let value = json!({"metadata": {"namespace": "default", "name": name, "ownerReferences": [reference],
            "finalizers": if kind == Kind::Workload { vec!["f"] } else { vec![] }},
            "spec": {"template": {"spec": {}}}});
        Write::Create(Object::from_fields(kind, value).unwrap())
    };
    let deployment = json!({"metadata": {"namespace": "default", "name": "d"},
        "spec": {"template": {"spec": {}}}});
    let deployment = Object::from_fields(Kind::WorkloadDeployment, deployment).unwrap();
    let deployment = apply(&mut objects, Write::Create(deployment), "u-d");
    let set = apply(
        &mut objects,
        owned_by("s", Kind::WorkloadReplicaSet, &deployment),
        "u-s",
    );
    let one = apply(&mut objects, owned_by("one", Kind::Workload, &set), "u-1");
    let other = apply(&mut objects, owned_by("other", Kind::Workload, &set), "u-2");
    let now = context("").now;
    let cascade = |objects: &mut Objects| {
        while !objects.cascade_steps().is_empty() {
            for (key, step) in objects.cascade_steps() {
                let change = objects.cascade(&key, step, now).unwrap();
                objects.commit(&change);
            }
        }
        objects.all().count()
    };

    assert!(objects.cascade_steps().is_empty());
    let change = objects.delete_in_foreground(&deployment, now);
    objects.commit(&change);
    assert_eq!(cascade(&mut objects), 4);
    assert!(objects.all().all(|object| object.metadata().is_deleting()));
    let release = |object: &Object| {
        let remove_finalizer = Some("f");
        let patch = MetadataPatch {
            remove_finalizer,
            ..MetadataPatch::default()
        };
        metadata(object, patch)
    };
    apply(&mut objects, release(&one), "");
    assert_eq!(cascade(&mut objects), 3);
    // A dependent that is created late is deleted too.
    let late = apply(&mut objects, owned_by("late", Kind::Workload, &set), "u-3");
    assert_eq!(cascade(&mut objects), 4);
    apply(&mut objects, release(&late), "");
    apply(&mut objects, release(&other), "");
    assert_eq!(cascade(&mut objects), 0);

    let alone = apply(&mut objects, Write::Create(workload("alone")), "u-4");
    assert!(matches!(
        objects.delete_in_foreground(&alone, now),
        Change::Remove(_)
    ));
}
