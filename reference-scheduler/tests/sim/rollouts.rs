//! Replica sets and deployments: sizes, revisions and rollouts.

use std::collections::BTreeSet;
use std::time::Duration;

use berth_scheduler::api::{ConditionStatus, Kind, Object, condition};
use berth_scheduler::core::Options;

use super::host::Host;
use super::workloads::{deployment, deployment_with, spec};
use super::world::World;

const fn s(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn world(hosts: usize) -> World {
    let mut world = World::new(11, Options::default());
    world.add_hosts(hosts);
    world.run(s(3));
    world
}

fn images(world: &World) -> Vec<String> {
    let running = world.running_ids();
    let workloads = world
        .store
        .of_kind(Kind::Workload)
        .filter_map(|object| match object {
            Object::Workload(workload) if running.contains(&workload.metadata.uid) => {
                Some(workload.spec.components[0].image.clone())
            }
            _ => None,
        });
    workloads.collect()
}

/// Makes the starts of all images fail whose name contains `bad`.
fn fail_bad_images(world: &mut World) {
    for host in &mut world.hosts {
        host.failing_image = Some("bad".to_owned());
    }
}

#[test]
fn rolling_update_keeps_all_replicas_ready_within_surge() {
    let mut world = world(4);
    world.apply(deployment("a", 8, "image:1"));
    world
        .run_until(s(10), |world| world.is_ready("a"))
        .expect("ready");
    world.apply(deployment("a", 8, "image:2"));
    let (mut least, mut most) = (usize::MAX, 0);
    world
        .run_until(s(60), |world| {
            let running = world.running_ids().len();
            (least, most) = (least.min(running), most.max(running));
            world.is_ready("a")
        })
        .expect("rolled out");
    assert!(least >= 8, "{least}");
    assert!(most <= 10 + 8, "{most} including stopping replicas");
    world.run(s(20));
    world.assert_invariants();
    assert_eq!(images(&world), vec!["image:2"; 8]);
    assert_eq!(world.store.of_kind(Kind::WorkloadReplicaSet).count(), 1);
    assert_eq!(world.invariants.starts, 16);
    let status = world.deployment("a").unwrap().status.clone().unwrap();
    assert_eq!(status.previous_replica_set, None);
    assert_eq!(
        status.selector,
        "runtime.wasmcloud.dev/workload-deployment=a"
    );
}

#[test]
fn bad_revision_keeps_last_good_one_and_is_reported_as_stuck() {
    let mut world = world(4);
    fail_bad_images(&mut world);
    world.apply(deployment("a", 4, "image:1"));
    world
        .run_until(s(10), |world| world.is_ready("a"))
        .expect("ready");
    let good = world.running_ids();
    world.apply(deployment("a", 4, "image:bad"));
    world.run(s(60));
    world.apply(deployment("a", 4, "image:bad:2"));
    world.run(s(700));
    world.assert_invariants();
    assert_eq!(world.running_ids(), good);
    let status = world.deployment("a").unwrap().status.clone().unwrap();
    let deploy = condition(&status.conditions, "Deploy").unwrap();
    assert_eq!(
        (deploy.status, deploy.reason.as_str()),
        (ConditionStatus::False, "ProgressDeadlineExceeded")
    );
    // After a rollback, the replicas that kept running are wanted again.
    world.apply(deployment("a", 4, "image:1"));
    world
        .run_until(s(30), |world| world.is_ready("a"))
        .expect("rolled back");
    world.run(s(30));
    assert_eq!(world.running_ids(), good);
    assert_eq!(world.store.of_kind(Kind::WorkloadReplicaSet).count(), 1);
    world.apply(deployment("a", 4, "image:3"));
    world
        .run_until(s(60), |world| world.is_ready("a"))
        .expect("rolled out");
    world.run(s(10));
    assert_eq!(images(&world), vec!["image:3"; 4]);
}

/// Returns a world in which the rollout of a bad revision of four replicas is stuck.
fn blocked_rollout() -> World {
    let mut world = world(4);
    fail_bad_images(&mut world);
    world.apply(deployment("a", 4, "image:1"));
    world
        .run_until(s(10), |world| world.is_ready("a"))
        .expect("ready");
    world.apply(deployment("a", 4, "image:bad"));
    world.run(s(700));
    world
}

fn running(world: &World, image: &str) -> usize {
    images(world).iter().filter(|it| *it == image).count()
}

#[test]
fn scale_during_blocked_rollout_scales_the_last_good_revision() {
    for (replicas, is_restarted) in [(5, false), (9, false), (9, true), (2, false), (0, false)] {
        let mut world = blocked_rollout();
        world.apply(deployment("a", replicas, "image:bad"));
        if is_restarted {
            world.restart_scheduler();
        }
        let expected = usize::try_from(replicas).unwrap();
        world
            .run_until(s(30), |world| running(world, "image:1") == expected)
            .unwrap_or_else(|| panic!("{replicas}: {:?}", images(&world)));
        world.run(s(100));
        world.assert_invariants();
        assert_eq!(running(&world, "image:1"), expected, "{replicas}");
        // SCHED-ROLL-013: the rollout ends with the new number of replicas.
        world.apply(deployment("a", replicas, "image:2"));
        world
            .run_until(s(120), |world| world.is_ready("a"))
            .expect("rolled out");
        world.run(s(20));
        world.assert_invariants();
        assert_eq!(images(&world), vec!["image:2"; expected]);
    }
}

#[test]
fn template_and_replicas_that_change_together_start_only_new_replicas() {
    let mut world = world(4);
    world.apply(deployment("a", 4, "image:1"));
    world
        .run_until(s(10), |world| world.is_ready("a"))
        .expect("ready");
    world.apply(deployment("a", 8, "image:2"));
    world
        .run_until(s(60), |world| world.is_ready("a"))
        .expect("rolled out");
    world.run(s(20));
    world.assert_invariants();
    assert_eq!(world.invariants.starts, 4 + 8);
}

/// Returns a world whose two hosts have room for two replicas each.
fn full_world(annotation: Option<&str>) -> World {
    let mut world = World::new(13, Options::default());
    for number in 0..2 {
        let mut host = Host::new(&format!("h{number}"), &format!("host-{number}"));
        let labels = &mut host.labels;
        labels.insert("berth.dev/max-workloads".to_owned(), "2".to_owned());
        world.add_host(host);
    }
    world.run(s(3));
    for image in ["image:1", "image:2"] {
        world.apply(annotated(deployment("a", 4, image), annotation));
        world.run_until(s(10), |world| world.is_ready("a"));
    }
    world
}

fn annotated(deployment: Object, max_unavailable: Option<&str>) -> Object {
    let mut deployment = deployment;
    if let Some(value) = max_unavailable {
        let annotations = &mut deployment.metadata_mut().annotations;
        annotations.insert("berth.dev/max-unavailable".to_owned(), value.to_owned());
    }
    deployment
}

#[test]
fn rollout_in_a_full_fleet_needs_and_respects_max_unavailable() {
    let mut world = full_world(None);
    world.run(s(700));
    assert_eq!(running(&world, "image:1"), 4);
    let status = world.deployment("a").unwrap().status.clone().unwrap();
    let deploy = condition(&status.conditions, "Deploy").unwrap();
    assert!(deploy.message.contains("2 full"), "{}", deploy.message);
    let warnings = &world.invariants.warnings;
    let is_stuck = |it: &String| it.contains("ProgressDeadlineExceeded") && it.contains("2 full");
    assert!(warnings.iter().any(is_stuck), "{warnings:?}");

    for (annotation, missing_max) in [("1", 1), ("50%", 2)] {
        let mut world = full_world(None);
        world.apply(annotated(deployment("a", 4, "image:2"), Some(annotation)));
        let mut fewest = usize::MAX;
        world
            .run_until(s(120), |world| {
                fewest = fewest.min(world.running_ids().len());
                world.is_ready("a")
            })
            .expect("rolled out");
        assert!(fewest >= 4 - missing_max, "{annotation}: {fewest}");
        world.assert_invariants();
        assert_eq!(images(&world), vec!["image:2"; 4]);
    }
}

#[test]
fn invalid_max_unavailable_changes_nothing() {
    for value in ["-1", "101%", "a", "", "%", "1.5"] {
        let mut world = world(2);
        world.apply(deployment("a", 3, "image:1"));
        world
            .run_until(s(10), |world| world.is_ready("a"))
            .expect("ready");
        world.apply(annotated(deployment("a", 3, "image:2"), Some(value)));
        world.run(s(20));
        assert!(!world.is_ready("a"));
        assert_eq!(running(&world, "image:1"), 3, "{value}");
    }
}

#[test]
fn recreate_stops_old_replicas_before_it_starts_new_ones() {
    let mut world = world(3);
    let recreate = |image| deployment_with("a", 3, "Recreate", spec(image));
    world.apply(recreate("image:1"));
    world
        .run_until(s(10), |world| world.is_ready("a"))
        .expect("ready");
    let old = world.running_ids();
    world.apply(recreate("image:2"));
    world
        .run_until(s(60), |world| {
            let active: BTreeSet<String> = world
                .hosts
                .iter()
                .flat_map(|host| host.active_ids().cloned())
                .collect();
            let new = active.difference(&old).count();
            assert!(new == 0 || active.is_disjoint(&old), "{active:?}");
            world.is_ready("a")
        })
        .expect("recreated");
    world.run(s(10));
    world.assert_invariants();
    assert_eq!(images(&world), vec!["image:2"; 3]);
}

/// Returns a world in which a `Recreate` deployment of two replicas has just lost a host.
fn recreate_with_dead_host() -> World {
    let mut world = world(2);
    world.apply(deployment_with("a", 2, "Recreate", spec("image:1")));
    world
        .run_until(s(10), |world| world.is_ready("a"))
        .expect("ready");
    world.run(s(30));
    world.set_fault(0, super::host::HostFault::Dead);
    world
}

#[test]
fn recreate_waits_for_fence_of_lost_host() {
    let mut world = recreate_with_dead_host();
    let took = world
        .run_until(s(120), |world| world.running_ids().len() == 2)
        .expect("replaced");
    assert!((s(30)..s(35)).contains(&took), "{took:?}");
    world.assert_invariants();
}

#[test]
fn fence_of_lost_host_survives_restart() {
    let mut world = recreate_with_dead_host();
    let shown = world
        .run_until(s(20), |world| !world.is_ready("a"))
        .expect("shown");
    world.restart_scheduler();
    let took = world
        .run_until(s(120), |world| world.running_ids().len() == 2)
        .expect("replaced");
    assert!(
        (s(30)..s(50)).contains(&(shown + took)),
        "{shown:?} {took:?}"
    );
    world.assert_invariants();
}

#[test]
fn scaling_keeps_running_replicas_and_removes_from_fullest_hosts() {
    let mut world = world(3);
    world.apply(deployment("a", 3, "image:1"));
    world
        .run_until(s(10), |world| world.is_ready("a"))
        .expect("ready");
    let three = world.running_ids();
    world.apply(deployment("a", 9, "image:1"));
    world
        .run_until(s(10), |world| world.is_ready("a"))
        .expect("scaled up");
    assert!(world.running_ids().is_superset(&three));
    let nine = world.running_ids();
    world.apply(deployment("a", 6, "image:1"));
    world
        .run_until(s(20), |world| {
            world.is_ready("a") && world.running_ids().len() == 6
        })
        .expect("scaled down");
    assert!(nine.is_superset(&world.running_ids()));
    assert_eq!(world.loads(), [2, 2, 2]);
    world.apply(deployment("a", 0, "image:1"));
    world
        .run_until(s(20), |world| {
            world.running_ids().is_empty() && world.is_ready("a")
        })
        .expect("scaled to zero");
    world.apply(deployment("a", 2, "image:1"));
    world
        .run_until(s(20), |world| world.running_ids().len() == 2)
        .expect("scaled to two");
    world.assert_invariants();
    assert_eq!(world.invariants.starts, 11);
}

#[test]
fn invalid_deployment_changes_nothing() {
    let mut world = world(2);
    world.apply(deployment("a", 3, "image:1"));
    world
        .run_until(s(10), |world| world.is_ready("a"))
        .expect("ready");
    for object in [
        deployment("a", -1, "image:1"),
        deployment_with("a", 3, "Foo", spec("image:2")),
    ] {
        world.apply(object);
        world.run(s(20));
        assert!(!world.is_ready("a"));
        assert_eq!((world.running_ids().len(), world.invariants.stops), (3, 0));
    }
}

#[test]
fn template_changes_during_watch_lag_stay_within_surge() {
    for watch_lag_ms in [0, 300, 3000] {
        let mut world = world(3);
        world.fault_rates.watch_lag_ms = watch_lag_ms;
        for image in 0..6 {
            world.apply(deployment("a", 5, &format!("image:{image}")));
            world.run(Duration::from_millis(700));
        }
        world
            .run_until(s(120), |world| world.is_ready("a"))
            .expect("rolled out");
        world.run(s(30));
        world.assert_invariants();
        assert_eq!(images(&world), vec!["image:5"; 5], "{watch_lag_ms}");
    }
}
