//! Takeover from another scheduler: its workloads are adopted unchanged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_proto::WorkloadState;
use berth_scheduler::api::{
    Condition, ConditionStatus, Host as HostObject, Key, Kind, LocalReference, Metadata, Object,
    OwnerReference, Workload, WorkloadDeployment, WorkloadReplicaSet, WorkloadReplicaSetSpec,
    WorkloadStatus, WorkloadTemplate, names,
};
use berth_scheduler::core::Options;
use berth_scheduler::revision::revision;

use super::host::Host;
use super::workloads::{deployment, spec};
use super::world::World;

const fn s(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Returns a cluster in the state that wasmCloud's operator leaves: with the operator's names, and
/// conditions without a generation.
fn operator_cluster() -> World {
    let mut world = World::new(31, Options::default());
    let put = |world: &mut World, object: Object| {
        let (object, _) = world.store.put(object, world.now);
        object.unwrap()
    };
    let Object::Deployment(manifest) = deployment("a", 3, "image:1") else {
        panic!("not a deployment");
    };
    let mut manifest = WorkloadDeployment::clone(&manifest);
    let reference = LocalReference {
        name: "a-x8k2p".into(),
        ..LocalReference::default()
    };
    manifest.status.get_or_insert_default().current_replica_set = Some(reference);
    let deployment = put(&mut world, Object::Deployment(Arc::new(manifest)));
    let mut set = WorkloadReplicaSet {
        metadata: Metadata::named("demo", "a-x8k2p"),
        spec: WorkloadReplicaSetSpec {
            replicas: Some(3),
            template: WorkloadTemplate {
                spec: spec("image:1"),
                ..WorkloadTemplate::default()
            },
            ..WorkloadReplicaSetSpec::default()
        },
        ..WorkloadReplicaSet::default()
    };
    set.metadata.labels = BTreeMap::from([(names::DEPLOYMENT_LABEL.to_owned(), "a".to_owned())]);
    set.metadata.owner_references = vec![OwnerReference::controller(
        Kind::WorkloadDeployment,
        deployment.metadata(),
    )];
    let set = put(&mut world, Object::ReplicaSet(Arc::new(set)));
    for replica in 0..3 {
        let mut workload = placed_workload(replica, &set);
        let uid = put(&mut world, Object::Workload(Arc::new(workload.clone())))
            .metadata()
            .uid
            .clone();
        workload.status = Some(status_of(replica, &uid));
        put(&mut world, Object::Workload(Arc::new(workload)));
        world
            .invariants
            .record_foreign_start(&uid, &format!("h{}", replica % 2));
    }
    world
}

/// Returns a replica as wasmCloud's operator creates it.
fn placed_workload(replica: u32, set: &Object) -> Workload {
    let mut workload = Workload {
        metadata: Metadata::named("demo", format!("a-x8k2p-{replica}")),
        spec: spec("image:1"),
        ..Workload::default()
    };
    workload.metadata.finalizers = vec![names::WORKLOAD_FINALIZER.to_owned()];
    let hash = revision(&workload.spec);
    workload
        .metadata
        .annotations
        .insert(names::REVISION_ANNOTATION.to_owned(), hash);
    workload.metadata.owner_references = vec![OwnerReference::controller(
        Kind::WorkloadReplicaSet,
        set.metadata(),
    )];
    workload
}

/// Returns the status that wasmCloud's operator has written. The start of the last replica has no
/// reply yet.
fn status_of(replica: u32, uid: &str) -> WorkloadStatus {
    let available = |name: &str| Condition::new(name, ConditionStatus::True, "Available", "");
    let mut status = WorkloadStatus {
        host_id: format!("h{}", replica % 2),
        workload_id: uid.to_owned(),
        conditions: ["Config", "HostSelection", "Placement", "Sync", "Ready"]
            .map(available)
            .to_vec(),
        ..WorkloadStatus::default()
    };
    if replica == 2 {
        status.workload_id.clear();
        status.conditions.truncate(2);
    }
    status
}

fn add_hosts(world: &mut World) {
    for host in 0..2 {
        let name = format!("host-{host}");
        let mut object = HostObject {
            host_id: format!("h{host}"),
            ..HostObject::default()
        };
        object.metadata = Metadata::named("default", name.as_str());
        object.metadata.finalizers = vec![names::HOST_FINALIZER.to_owned()];
        let _ = world.store.put(Object::Host(Arc::new(object)), world.now);
        world.add_host(Host::new(&format!("h{host}"), &name));
    }
    let workloads: Vec<(String, String)> = world
        .store
        .of_kind(Kind::Workload)
        .filter_map(|object| match object {
            Object::Workload(workload) => {
                let host = workload.status.as_ref()?.host_id.clone();
                Some((host, workload.metadata.uid.clone()))
            }
            _ => None,
        })
        .collect();
    for (host, id) in workloads {
        let host = world
            .hosts
            .iter_mut()
            .find(|candidate| candidate.id == host)
            .unwrap();
        host.insert_entry(&id, WorkloadState::Running);
    }
}

#[test]
fn takeover_starts_and_stops_nothing() {
    let mut world = operator_cluster();
    add_hosts(&mut world);
    world.restart_scheduler();
    world.run(s(120));
    world.assert_invariants();
    assert_eq!((world.invariants.starts, world.invariants.stops), (0, 0));
    assert!(world.is_ready("a"));
    assert_eq!(world.wanted_ids().len(), 3);
    assert_eq!(world.store.of_kind(Kind::Workload).count(), 3);
    assert_eq!(world.store.of_kind(Kind::WorkloadReplicaSet).count(), 1);
    let before = world.writes();
    world.run(s(120));
    assert_eq!(world.writes(), before);
}

#[test]
fn adopted_workloads_stop_when_deployment_is_deleted() {
    let mut world = operator_cluster();
    add_hosts(&mut world);
    world.restart_scheduler();
    world.run(s(20));
    world.delete(&Key::new(Kind::WorkloadDeployment, "demo", "a"));
    world
        .run_until(s(20), |world| world.running_ids().is_empty())
        .expect("stopped");
    world.run(s(10));
    assert_eq!(world.store.of_kind(Kind::Workload).count(), 0);
}

#[test]
fn replaces_replica_of_host_that_died_before_takeover() {
    let mut world = operator_cluster();
    add_hosts(&mut world);
    world.set_fault(1, super::host::HostFault::Dead);
    world.restart_scheduler();
    world
        .run_until(s(60), |world| world.running_ids().len() == 3)
        .expect("replaced");
    world.run(s(10));
    world.assert_invariants();
    assert_eq!((world.running_ids().len(), world.invariants.starts), (3, 1));
}

/// Returns a world with ten hosts that are known to the store, whose next heartbeats are up to 15 s
/// away, and a scheduler that has just started with a new deployment.
fn restarted_with_waiting_replicas(change: impl Fn(&mut Host)) -> World {
    let mut world = World::new(37, Options::default());
    for number in 0..10 {
        let mut host = Host::new(&format!("h{number}"), &format!("host-{number}"));
        change(&mut host);
        world.add_host(host);
        world.run(Duration::from_millis(1500));
    }
    world.run(s(60));
    world.apply(deployment("a", 10, "image:1"));
    world.restart_scheduler();
    world
}

#[test]
fn new_scheduler_hears_hosts_of_store_before_it_places() {
    let mut world = restarted_with_waiting_replicas(|_| {});
    let took = world
        .run_until(s(10), |world| world.is_ready("a"))
        .expect("ready");
    assert!(took <= s(3), "{took:?}");
    assert_eq!(world.loads(), [1; 10]);
    world.run(s(60));
    world.assert_invariants();
    assert_eq!(world.invariants.heartbeat_requests, 10, "one for each host");
}

#[test]
fn frozen_host_delays_first_placement_only_within_bound() {
    let mut world = restarted_with_waiting_replicas(|_| {});
    world.set_fault(3, super::host::HostFault::Frozen);
    let took = world
        .run_until(s(10), |world| world.running_ids().len() == 10)
        .expect("placed");
    assert!(took <= s(5), "{took:?}");
    let loads = world.loads();
    assert!(loads.iter().all(|load| (1..=2).contains(load)), "{loads:?}");
    world.assert_invariants();
}

#[test]
fn hosts_with_discovery_are_not_asked_again() {
    let mut world = restarted_with_waiting_replicas(|host| {
        let labels = &mut host.labels;
        labels.insert("berth.dev/discover".to_owned(), "true".to_owned());
    });
    for host in 0..10 {
        world.discover(host);
    }
    world
        .run_until(s(10), |world| world.is_ready("a"))
        .expect("ready");
    world.assert_invariants();
    assert_eq!(world.loads(), [1; 10]);
    assert_eq!(world.invariants.heartbeat_requests, 0);
}
