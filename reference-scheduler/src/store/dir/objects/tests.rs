//! Writes in, changes out.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::api::{Kind, WorkloadStatus};

fn stamp(uid: &str) -> Stamp {
    Stamp {
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

fn done(objects: &mut Objects, write: Write, uid: &str) -> Object {
    let change = objects.write(write, stamp(uid)).unwrap();
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
fn the_store_gives_uid_version_and_generation() {
    let mut objects = Objects::default();
    let made = done(&mut objects, Write::Create(workload("a")), "u-1");
    let given = made.metadata();
    assert_eq!(
        (
            given.uid.as_str(),
            given.generation,
            given.resource_version.as_str()
        ),
        ("u-1", 1, "1")
    );
    assert!(given.creation_timestamp.is_some());
    let Object::Workload(made) = made else {
        panic!()
    };
    assert_eq!(made.status, None);
    let again = objects.write(Write::Create(workload("a")), stamp("u-2"));
    assert_eq!(again, Err(WriteError::Exists));
}

#[test]
fn versions_go_on_after_a_restart() {
    let mut objects = Objects::default();
    let made = done(&mut objects, Write::Create(workload("a")), "u-1");
    let mut later = Objects::default();
    later.load(made);
    let next = done(&mut later, Write::Create(workload("b")), "u-2");
    assert_eq!(next.metadata().resource_version, "2");
}

#[test]
fn names_that_are_no_names_of_files_are_refused() {
    let refused = Objects::default().write(Write::Create(workload("../../etc/passwd")), stamp("u"));
    assert!(
        matches!(refused, Err(WriteError::Refused(_))),
        "{refused:?}"
    );
}

#[test]
fn a_status_is_no_new_generation_and_the_same_one_no_change() {
    let mut objects = Objects::default();
    let made = done(&mut objects, Write::Create(workload("a")), "u-1");
    let status = WorkloadStatus {
        host_id: "h".to_owned(),
        ..WorkloadStatus::default()
    };
    let write =
        |uid: &str| Write::status(made.key(), uid.to_owned(), Status::Workload(status.clone()));
    let written = done(&mut objects, write("u-1"), "");
    assert_eq!(written.metadata().generation, 1);
    assert_eq!(written.metadata().resource_version, "2");
    assert!(matches!(
        objects.write(write("u-1"), stamp("")),
        Ok(Change::Nothing(_))
    ));
    assert_eq!(
        objects.write(write("u-0"), stamp("")),
        Err(WriteError::NotFound)
    );
}

#[test]
fn a_finalizer_holds_what_is_deleted() {
    let mut objects = Objects::default();
    let made = done(&mut objects, Write::Create(workload("a")), "u-1");
    let add = MetadataPatch {
        add_finalizer: Some("f"),
        ..MetadataPatch::default()
    };
    done(&mut objects, metadata(&made, add.clone()), "");
    let held = done(&mut objects, delete(&made), "");
    assert!(held.metadata().is_deleting());
    assert!(matches!(
        objects.write(delete(&made), stamp("")),
        Ok(Change::Nothing(_))
    ));
    let late = MetadataPatch {
        add_finalizer: Some("g"),
        ..MetadataPatch::default()
    };
    assert_eq!(
        done(&mut objects, metadata(&made, late), "")
            .metadata()
            .finalizers,
        ["f"]
    );
    let remove = MetadataPatch {
        remove_finalizer: Some("f"),
        ..MetadataPatch::default()
    };
    let change = objects.write(metadata(&made, remove), stamp("")).unwrap();
    assert!(matches!(change, Change::Remove(_)), "{change:?}");
    objects.commit(&change);
    assert_eq!(objects.get(&made.key()), None);
}

#[test]
fn without_a_finalizer_a_deletion_is_the_end() {
    let mut objects = Objects::default();
    let made = done(&mut objects, Write::Create(workload("a")), "u-1");
    assert!(matches!(
        objects.write(delete(&made), stamp("")),
        Ok(Change::Remove(_))
    ));
}

#[test]
fn a_host_is_created_or_brought_up_to_date() {
    let mut objects = Objects::default();
    done(&mut objects, Write::ApplyHost(host("1", "a")), "u-1");
    let same = objects.write(Write::ApplyHost(host("1", "a")), stamp("u-2"));
    assert!(matches!(same, Ok(Change::Nothing(_))), "{same:?}");
    let moved = done(&mut objects, Write::ApplyHost(host("2", "b")), "u-3");
    assert_eq!(
        (moved.metadata().uid.as_str(), moved.metadata().generation),
        ("u-1", 2)
    );
    assert_eq!(moved.metadata().labels["zone"], "b");
}

#[test]
fn what_is_deleted_with_all_goes_last() {
    let mut objects = Objects::default();
    let below = |name: &str, kind: Kind, owner: &Object| {
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
    let deployment = done(&mut objects, Write::Create(deployment), "u-d");
    let set = done(
        &mut objects,
        below("s", Kind::WorkloadReplicaSet, &deployment),
        "u-s",
    );
    let one = done(&mut objects, below("one", Kind::Workload, &set), "u-1");
    let other = done(&mut objects, below("other", Kind::Workload, &set), "u-2");
    let now = stamp("").now;
    let fall = |objects: &mut Objects| {
        while !objects.falling().is_empty() {
            for (key, fall) in objects.falling() {
                let change = objects.fall(&key, fall, now).unwrap();
                objects.commit(&change);
            }
        }
        objects.all().count()
    };

    assert!(objects.falling().is_empty());
    let change = objects.delete_with_all(&deployment, now);
    objects.commit(&change);
    assert_eq!(fall(&mut objects), 4);
    assert!(objects.all().all(|object| object.metadata().is_deleting()));
    let free = |object: &Object| {
        let remove_finalizer = Some("f");
        let patch = MetadataPatch {
            remove_finalizer,
            ..MetadataPatch::default()
        };
        metadata(object, patch)
    };
    done(&mut objects, free(&one), "");
    assert_eq!(fall(&mut objects), 3);
    // One that was on its way to the store goes as well.
    let late = done(&mut objects, below("late", Kind::Workload, &set), "u-3");
    assert_eq!(fall(&mut objects), 4);
    done(&mut objects, free(&late), "");
    done(&mut objects, free(&other), "");
    assert_eq!(fall(&mut objects), 0);

    let alone = done(&mut objects, Write::Create(workload("alone")), "u-4");
    assert!(matches!(
        objects.delete_with_all(&alone, now),
        Change::Remove(_)
    ));
}
