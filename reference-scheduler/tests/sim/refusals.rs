//! Creations that the store refuses, and replicas that fail one by one.

use std::time::Duration;

use berth_proto::WorkloadState;
use berth_scheduler::api::{Condition, Kind, Object, condition};
use berth_scheduler::core::Options;

use super::workloads::deployment;
use super::world::World;

const fn s(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn world() -> World {
    let mut world = World::new(22, Options::default());
    world.add_hosts(3);
    world.run(s(3));
    world
}

fn deployment_condition(world: &World, name: &str) -> Condition {
    let status = world.deployment("a").and_then(|it| it.status.clone());
    let conditions = status.expect("a status").conditions;
    condition(&conditions, name).expect("the condition").clone()
}

#[test]
fn refused_replicas_are_retried_with_backoff_and_explained_once() {
    let mut world = world();
    world.store.refused_kind = Some(Kind::Workload);
    world.apply(deployment("a", 20, "image:1"));
    world.run(s(60));
    let early = world.store.writes[&Kind::Workload];
    assert!((20..=30).contains(&early), "{early} attempts");
    let ready = deployment_condition(&world, "Ready");
    assert_eq!(ready.reason, "FailedCreate");
    assert!(ready.message.contains("exceeded quota"), "{ready:?}");
    let sets = world.store.of_kind(Kind::WorkloadReplicaSet);
    let scale_up = sets.filter_map(|object| match object {
        Object::ReplicaSet(set) => condition(&set.status.as_ref()?.conditions, "ScaleUp"),
        _ => None,
    });
    let reasons: Vec<&str> = scale_up.map(|it| it.reason.as_str()).collect();
    assert_eq!(reasons, ["FailedCreate"]);
    let is_refusal = |warning: &&String| warning.starts_with("FailedCreate");
    assert_eq!(
        world.invariants.warnings.iter().filter(is_refusal).count(),
        1
    );

    world.run(s(540));
    let late = world.store.writes[&Kind::Workload] - early;
    assert!(late <= 10, "{late} attempts");
    world.store.refused_kind = None;
    world
        .run_until(s(310), |world| world.is_ready("a"))
        .expect("ready");
    world.assert_invariants();
    assert_eq!(deployment_condition(&world, "Ready").message, "");
}

#[test]
fn refused_set_is_a_reason_of_its_deployment() {
    let mut world = world();
    world.store.refused_kind = Some(Kind::WorkloadReplicaSet);
    world.apply(deployment("a", 2, "image:1"));
    world.run(s(120));
    assert!(world.store.writes[&Kind::WorkloadReplicaSet] <= 10);
    for name in ["Sync", "Deploy", "Ready"] {
        let condition = deployment_condition(&world, name);
        assert_eq!(condition.reason, "FailedCreate", "{name}");
        assert!(
            condition.message.contains("exceeded quota"),
            "{condition:?}"
        );
    }
    assert_eq!(world.invariants.warnings.len(), 1);
    world.store.refused_kind = None;
    world
        .run_until(s(60), |world| world.is_ready("a"))
        .expect("ready");
}

/// Fails one running replica; the host does not restart it.
fn fail_one(world: &mut World) {
    let mut entries = world
        .hosts
        .iter_mut()
        .flat_map(|host| host.entries.values_mut());
    let running = entries.find(|entry| entry.state == WorkloadState::Running);
    running.expect("a running replica").state = WorkloadState::Error;
}

#[test]
fn failing_replica_delays_no_sibling() {
    let mut world = world();
    world.apply(deployment("a", 3, "image:1"));
    world
        .run_until(s(10), |world| world.is_ready("a"))
        .expect("ready");
    let fail_all = |world: &mut World, percent: u64| {
        for host in &mut world.hosts {
            host.fail_percent = percent;
        }
    };
    // One replica fails again and again, until its backoff is minutes long.
    fail_all(&mut world, 100);
    fail_one(&mut world);
    world.run(s(400));
    assert_eq!(world.running_ids().len(), 2);
    fail_all(&mut world, 0);
    let before = world.running_ids();
    fail_one(&mut world);
    let took = world.run_until(s(60), |world| {
        let running = world.running_ids();
        running.len() >= 2 && running != before
    });
    // The poll of a running workload takes up to 30 s, its first backoff a second.
    assert!(took.expect("replaced") <= s(40), "{took:?}");
    world.assert_invariants();
}
