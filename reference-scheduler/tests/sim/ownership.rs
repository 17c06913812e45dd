//! Objects that lose or change their owner.

use std::sync::Arc;
use std::time::Duration;

use berth_scheduler::api::{Key, Kind, Object};
use berth_scheduler::core::{Event, Options, Scheduler};
use serde_json::json;

use super::host::HostFault;
use super::workloads::deployment;
use super::world::World;

const fn s(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn ready() -> World {
    let mut world = World::new(21, Options::default());
    world.add_hosts(3);
    world.run(s(3));
    world.apply(deployment("a", 4, "image:1"));
    world
        .run_until(s(10), |world| world.is_ready("a"))
        .expect("ready");
    world.run(s(5));
    world
}

/// Removes the owners of all objects of a kind, as `kubectl delete --cascade=orphan` does.
fn orphan(world: &mut World, kind: Kind) {
    let objects: Vec<Object> = world.store.of_kind(kind).cloned().collect();
    for mut object in objects {
        object.metadata_mut().owner_references.clear();
        world.apply(object);
    }
}

fn set(world: &World) -> Object {
    let mut sets = world.store.of_kind(Kind::WorkloadReplicaSet);
    sets.next().expect("a set").clone()
}

#[test]
fn orphaned_set_replaces_replicas_and_scales() {
    for deployment_goes_first in [false, true] {
        let mut world = ready();
        let deployment = Key::new(Kind::WorkloadDeployment, "demo", "a");
        if deployment_goes_first {
            world.delete(&deployment);
            world.run(Duration::from_millis(500));
        }
        orphan(&mut world, Kind::WorkloadReplicaSet);
        world.delete(&deployment);
        world.run(s(5));
        assert_eq!(world.running_ids().len(), 4);

        world.set_fault(0, HostFault::Dead);
        world
            .run_until(s(10), |world| world.running_ids().len() == 4)
            .expect("replaced");
        let Object::ReplicaSet(set) = set(&world) else {
            panic!("not a set")
        };
        let mut set = set.as_ref().clone();
        set.spec.replicas = Some(6);
        world.apply(Object::ReplicaSet(Arc::new(set)));
        world
            .run_until(s(10), |world| world.running_ids().len() == 6)
            .expect("scaled");
    }
}

#[test]
fn orphaned_workloads_move_from_dead_host() {
    let mut world = ready();
    world.delete(&Key::new(Kind::WorkloadDeployment, "demo", "a"));
    orphan(&mut world, Kind::WorkloadReplicaSet);
    let set = set(&world).key();
    orphan(&mut world, Kind::Workload);
    world.delete(&set);
    world.run(s(5));
    world.set_fault(0, HostFault::Dead);
    world
        .run_until(s(10), |world| world.running_ids().len() == 4)
        .expect("moved");
}

#[test]
fn late_event_of_replaced_deployment_is_ignored() {
    let object = |uid: &str, version: &str, replicas: i32| {
        let value = json!({"metadata": {"namespace": "demo", "name": "a", "uid": uid,
            "resourceVersion": version}, "spec": {"replicas": replicas, "template": {"spec": {}}}});
        Object::from_fields(Kind::WorkloadDeployment, value).expect("a deployment")
    };
    let mut scheduler = Scheduler::new(Options::default());
    scheduler.step(s(1), Event::Applied(object("new", "9", 3)));
    scheduler.step(s(1), Event::Applied(object("old", "7", 1)));
    let actions = scheduler.step(s(2), Event::Synced);
    let printed = format!("{actions:?}");
    assert!(printed.contains("replicas: Some(3)"), "{printed}");
    assert!(!printed.contains("replicas: Some(1)"), "{printed}");
}
