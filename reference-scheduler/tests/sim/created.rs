//! Replicas are created with their first place: what that saves, what it survives, and what it opens to nobody.

use std::sync::Arc;
use std::time::Duration;

use berth_proto::WorkloadState;
use berth_scheduler::api::{Kind, Object, Workload, WorkloadSpec, names};
use berth_scheduler::core::Options;

use super::host::{Host, Trouble};
use super::workloads::{deployment_of, spec, workload};
use super::world::World;

const fn s(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A host for `demo`, one for `prod`, and a deployment of `demo` that is being created.
fn creating(replicas: i32) -> World {
    let options = Options {
        allow_shared_hosts: false,
        ..Options::default()
    };
    let mut world = World::new(41, options);
    for environment in ["demo", "prod"] {
        let mut host = Host::new(environment, &format!("host-{environment}"));
        host.environment = environment.into();
        world.add_host(host);
    }
    world.run(s(3));
    world.apply(deployment_of("a", replicas, "", demo()));
    world
}

fn demo() -> WorkloadSpec {
    WorkloadSpec {
        environment: "demo".into(),
        ..spec("image:1")
    }
}

/// Where no host is.
fn elsewhere() -> WorkloadSpec {
    WorkloadSpec {
        environment: "other".into(),
        ..spec("image:1")
    }
}

fn workloads(world: &World) -> Vec<Arc<Workload>> {
    let objects = world.store.of_kind(Kind::Workload);
    let workloads = objects.filter_map(|object| match object {
        Object::Workload(workload) => Some(workload.clone()),
        _ => None,
    });
    workloads.collect()
}

fn forged(mut object: Object) -> Object {
    let annotations = &mut object.metadata_mut().annotations;
    annotations.insert(names::PLACED_ANNOTATION.to_owned(), "prod".to_owned());
    object
}

/// Hosts of another environment have never heard of anything.
fn assert_prod_is_empty(world: &World) {
    world.assert_sound();
    assert!(world.hosts[1].entries.is_empty());
}

#[test]
fn what_was_started_and_not_yet_written_about_is_found_by_the_next_scheduler() {
    let mut world = creating(3);
    world
        .run_until(s(5), |world| world.ledger.starts == 3)
        .unwrap();
    assert!(workloads(&world).iter().all(|it| it.status.is_none()));
    world.restart_scheduler();
    world.run_until(s(20), |world| world.is_ready("a")).unwrap();
    world.assert_sound();
    assert_eq!((world.ledger.starts, world.ledger.stops), (3, 0));
}

#[test]
fn a_scheduler_that_ends_leaves_nothing_half_said() {
    let mut world = creating(3);
    world
        .run_until(s(5), |world| world.ledger.starts == 3)
        .unwrap();
    world.end_scheduler();
    for workload in workloads(&world) {
        let status = workload.status.clone().unwrap_or_default();
        let place = (&*status.host_id, &*status.workload_id);
        assert_eq!(place, ("demo", &*workload.metadata.uid));
    }
}

#[test]
fn what_was_created_and_never_started_is_started_by_the_next_scheduler() {
    let mut world = creating(1);
    world
        .run_until(s(5), |world| workloads(world).len() == 1)
        .unwrap();
    let uid = workloads(&world).remove(0).metadata.uid.clone();
    assert_eq!(world.ledger.starts, 0);
    world.restart_scheduler();
    world.run_until(s(20), |world| world.is_ready("a")).unwrap();
    world.run(s(10));
    world.assert_sound();
    assert_eq!((world.ledger.starts, world.ledger.stops), (1, 0));
    assert!(world.running().contains(&uid));
}

#[test]
fn an_annotation_of_a_users_starts_nothing() {
    let mut world = creating(1);
    world.run_until(s(5), |world| world.is_ready("a")).unwrap();
    world.apply(forged(workload("bare", demo())));
    world.run(s(3));
    let bare = world.workload("bare").unwrap().status.clone().unwrap();
    assert_eq!(bare.host_id, "demo");
    world.apply(forged(workload("nowhere", elsewhere())));
    world.run(s(60));
    assert_prod_is_empty(&world);
}

#[test]
fn what_looks_like_a_replica_is_not_started_where_it_says() {
    let mut world = creating(1);
    world.run_until(s(5), |world| world.is_ready("a")).unwrap();
    world.trouble(1, Trouble::Frozen);
    let replica = workloads(&world).remove(0);
    let mut lookalike = forged(Object::Workload(replica));
    lookalike.metadata_mut().name = "lookalike".to_owned();
    if let Object::Workload(lookalike) = &mut lookalike {
        Arc::make_mut(lookalike).status = None;
    }
    let _ = world.store.put(lookalike, world.now);
    // One more is wanted just then, so that it is not one too many.
    world.apply(deployment_of("a", 2, "", demo()));
    world.restart_scheduler();
    world.run(s(3));
    assert!(world.workload("lookalike").is_some());
    // While the host is silent nothing may become of it that the next scheduler trusts.
    world.restart_scheduler();
    world.trouble(1, Trouble::None);
    world.run_until(s(60), |world| world.is_ready("a")).unwrap();
    world.run(s(30));
    assert_prod_is_empty(&world);
    assert!(world.workload("lookalike").is_none());
    assert_eq!(world.running().len(), 2);
}

#[test]
fn a_status_of_another_scheduler_is_believed_before_the_annotation() {
    let mut world = creating(1);
    world.run_until(s(5), |world| world.is_ready("a")).unwrap();
    // As upstream writes it: a host, and no id yet.
    let mut moved = Object::Workload(workloads(&world).remove(0));
    if let Object::Workload(moved) = &mut moved {
        let status = Arc::make_mut(moved).status.get_or_insert_default();
        (status.host_id, status.workload_id) = ("prod".to_owned(), String::new());
    }
    let uid = moved.metadata().uid.clone();
    let _ = world.store.put(moved, world.now);
    world.hosts[1].has(&uid, WorkloadState::Running);
    world.hosts[0].entries.clear();
    world.restart_scheduler();
    world.run(s(60));
    assert_eq!(world.ledger.starts, 1, "it runs where the status says");
    assert_eq!(world.running().len(), 1);
    assert_eq!(world.hosts[1].running().collect::<Vec<_>>(), [&uid]);
}

#[test]
fn a_template_cannot_say_where_its_replicas_are() {
    let mut world = creating(1);
    world.run_until(s(5), |world| world.is_ready("a")).unwrap();
    let Object::Deployment(mut other) = deployment_of("b", 1, "", elsewhere()) else {
        panic!("a deployment");
    };
    let annotations = &mut Arc::make_mut(&mut other).spec.template.annotations;
    annotations.insert(names::PLACED_ANNOTATION.to_owned(), "prod".to_owned());
    world.apply(Object::Deployment(other));
    world.run(s(10));
    let before: Vec<String> = names_of(&world);
    world.run(s(120));
    assert_prod_is_empty(&world);
    assert_eq!(names_of(&world), before, "it waits, and says why");
}

fn names_of(world: &World) -> Vec<String> {
    let workloads = workloads(world);
    let names = workloads.iter().map(|it| it.metadata.name.clone());
    names.collect()
}
