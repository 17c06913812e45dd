//! Replicas are created with their first assignment: the assignment survives a restart, and users
//! cannot forge it.

use std::sync::Arc;
use std::time::Duration;

use berth_proto::WorkloadState;
use berth_scheduler::api::{Kind, Object, Workload, WorkloadSpec, names};
use berth_scheduler::core::Options;

use super::host::{Host, HostFault};
use super::workloads::{DEFAULT_POLICY, deployment_with, spec, workload};
use super::world::World;

const fn s(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Returns a world with a host for `demo`, one for `prod`, and a deployment of `demo` that is being
/// created.
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
    world.apply(deployment_with("a", replicas, DEFAULT_POLICY, demo()));
    world
}

fn demo() -> WorkloadSpec {
    WorkloadSpec {
        environment: "demo".into(),
        ..spec("image:1")
    }
}

/// Returns a spec for an environment without hosts.
fn other_environment() -> WorkloadSpec {
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
    annotations.insert(names::PLACED_ON_ANNOTATION.to_owned(), "prod".to_owned());
    object
}

/// Asserts that the host of another environment has never received a start.
fn assert_prod_is_empty(world: &World) {
    world.assert_invariants();
    assert!(world.hosts[1].entries.is_empty());
}

#[test]
fn next_scheduler_adopts_started_replicas_without_status() {
    let mut world = creating(3);
    world
        .run_until(s(5), |world| world.invariants.starts == 3)
        .unwrap();
    assert!(workloads(&world).iter().all(|it| it.status.is_none()));
    world.restart_scheduler();
    world.run_until(s(20), |world| world.is_ready("a")).unwrap();
    world.assert_invariants();
    assert_eq!((world.invariants.starts, world.invariants.stops), (3, 0));
}

#[test]
fn shutdown_writes_delayed_statuses() {
    let mut world = creating(3);
    world
        .run_until(s(5), |world| world.invariants.starts == 3)
        .unwrap();
    world.shut_down_scheduler();
    for workload in workloads(&world) {
        let status = workload.status.clone().unwrap_or_default();
        let assignment = (&*status.host_id, &*status.workload_id);
        assert_eq!(assignment, ("demo", &*workload.metadata.uid));
    }
}

#[test]
fn next_scheduler_starts_replicas_that_were_created_but_not_started() {
    let mut world = creating(1);
    world
        .run_until(s(5), |world| workloads(world).len() == 1)
        .unwrap();
    let uid = workloads(&world).remove(0).metadata.uid.clone();
    assert_eq!(world.invariants.starts, 0);
    world.restart_scheduler();
    world.run_until(s(20), |world| world.is_ready("a")).unwrap();
    world.run(s(10));
    world.assert_invariants();
    assert_eq!((world.invariants.starts, world.invariants.stops), (1, 0));
    assert!(world.running_ids().contains(&uid));
}

#[test]
fn forged_annotation_of_bare_workload_is_ignored() {
    let mut world = creating(1);
    world.run_until(s(5), |world| world.is_ready("a")).unwrap();
    world.apply(forged(workload("bare", demo())));
    world.run(s(3));
    let bare = world.workload("bare").unwrap().status.clone().unwrap();
    assert_eq!(bare.host_id, "demo");
    world.apply(forged(workload("nowhere", other_environment())));
    world.run(s(60));
    assert_prod_is_empty(&world);
}

#[test]
fn forged_replica_is_not_started_on_annotated_host() {
    let mut world = creating(1);
    world.run_until(s(5), |world| world.is_ready("a")).unwrap();
    world.set_fault(1, HostFault::Frozen);
    let replica = workloads(&world).remove(0);
    let mut lookalike = forged(Object::Workload(replica));
    lookalike.metadata_mut().name = "lookalike".to_owned();
    if let Object::Workload(lookalike) = &mut lookalike {
        Arc::make_mut(lookalike).status = None;
    }
    let _ = world.store.put(lookalike, world.now);
    // The deployment is scaled up at the same time, so that the forged replica is not excess.
    world.apply(deployment_with("a", 2, DEFAULT_POLICY, demo()));
    world.restart_scheduler();
    world.run(s(3));
    assert!(world.workload("lookalike").is_some());
    // While the host is silent, nothing may be recorded that the next scheduler would trust.
    world.restart_scheduler();
    world.set_fault(1, HostFault::None);
    world.run_until(s(60), |world| world.is_ready("a")).unwrap();
    world.run(s(30));
    assert_prod_is_empty(&world);
    assert!(world.workload("lookalike").is_none());
    assert_eq!(world.running_ids().len(), 2);
}

#[test]
fn status_of_another_scheduler_takes_precedence_over_annotation() {
    let mut world = creating(1);
    world.run_until(s(5), |world| world.is_ready("a")).unwrap();
    // wasmCloud's operator writes the host without an id.
    let mut moved = Object::Workload(workloads(&world).remove(0));
    if let Object::Workload(moved) = &mut moved {
        let status = Arc::make_mut(moved).status.get_or_insert_default();
        (status.host_id, status.workload_id) = ("prod".to_owned(), String::new());
    }
    let uid = moved.metadata().uid.clone();
    let _ = world.store.put(moved, world.now);
    world.hosts[1].insert_entry(&uid, WorkloadState::Running);
    world.hosts[0].entries.clear();
    world.restart_scheduler();
    world.run(s(60));
    assert_eq!(world.invariants.starts, 1, "it runs where the status says");
    assert_eq!(world.running_ids().len(), 1);
    assert_eq!(world.hosts[1].running_ids().collect::<Vec<_>>(), [&uid]);
}

#[test]
fn annotation_in_template_is_ignored() {
    let mut world = creating(1);
    world.run_until(s(5), |world| world.is_ready("a")).unwrap();
    let other = deployment_with("b", 1, DEFAULT_POLICY, other_environment());
    let Object::Deployment(mut other) = other else {
        panic!("not a deployment");
    };
    let annotations = &mut Arc::make_mut(&mut other).spec.template.annotations;
    annotations.insert(names::PLACED_ON_ANNOTATION.to_owned(), "prod".to_owned());
    world.apply(Object::Deployment(other));
    world.run(s(10));
    let before: Vec<String> = names_of(&world);
    world.run(s(120));
    assert_prod_is_empty(&world);
    assert_eq!(
        names_of(&world),
        before,
        "the replica waits and is not replaced"
    );
}

fn names_of(world: &World) -> Vec<String> {
    let workloads = workloads(world);
    let names = workloads.iter().map(|it| it.metadata.name.clone());
    names.collect()
}
