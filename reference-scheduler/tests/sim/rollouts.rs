//! Replica sets and deployments: sizes, revisions, and the way between them.

use std::collections::BTreeSet;
use std::time::Duration;

use berth_scheduler::api::{ConditionStatus, Kind, Object, condition};
use berth_scheduler::core::Options;

use super::workloads::{deployment, deployment_of, spec};
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
    let running = world.running();
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

/// Sets the images that fail, by their name: all that hold the word `bad`.
fn fail_bad(world: &mut World) {
    for host in &mut world.hosts {
        host.fails_on = Some("bad".to_owned());
    }
}

#[test]
fn a_rolling_update_keeps_all_ready_and_makes_few_more() {
    let mut world = world(4);
    world.apply(deployment("a", 8, "image:1"));
    world
        .run_until(s(10), |world| world.is_ready("a"))
        .expect("ready");
    world.apply(deployment("a", 8, "image:2"));
    let (mut least, mut most) = (usize::MAX, 0);
    world
        .run_until(s(60), |world| {
            let running = world.running().len();
            (least, most) = (least.min(running), most.max(running));
            world.is_ready("a")
        })
        .expect("rolled out");
    assert!(least >= 8, "{least}");
    assert!(most <= 10 + 8, "{most} with those that are stopping");
    world.run(s(20));
    world.assert_sound();
    assert_eq!(images(&world), vec!["image:2"; 8]);
    assert_eq!(world.store.of_kind(Kind::WorkloadReplicaSet).count(), 1);
    assert_eq!(world.ledger.starts, 16);
    let status = world.deployment("a").unwrap().status.clone().unwrap();
    assert_eq!(status.previous_replica_set, None);
    assert_eq!(
        status.selector,
        "runtime.wasmcloud.dev/workload-deployment=a"
    );
}

#[test]
fn a_bad_revision_never_takes_the_good_one_away_and_is_called_stuck() {
    let mut world = world(4);
    fail_bad(&mut world);
    world.apply(deployment("a", 4, "image:1"));
    world
        .run_until(s(10), |world| world.is_ready("a"))
        .expect("ready");
    let good = world.running();
    world.apply(deployment("a", 4, "image:bad"));
    world.run(s(60));
    world.apply(deployment("a", 4, "image:bad:2"));
    world.run(s(700));
    world.assert_sound();
    assert_eq!(world.running(), good);
    let status = world.deployment("a").unwrap().status.clone().unwrap();
    let deploy = condition(&status.conditions, "Deploy").unwrap();
    assert_eq!(
        (deploy.status, deploy.reason.as_str()),
        (ConditionStatus::False, "ProgressDeadlineExceeded")
    );
    // And back: what has run all the time is what is wanted.
    world.apply(deployment("a", 4, "image:1"));
    world
        .run_until(s(30), |world| world.is_ready("a"))
        .expect("back");
    world.run(s(30));
    assert_eq!(world.running(), good);
    assert_eq!(world.store.of_kind(Kind::WorkloadReplicaSet).count(), 1);
    world.apply(deployment("a", 4, "image:3"));
    world
        .run_until(s(60), |world| world.is_ready("a"))
        .expect("on");
    world.run(s(10));
    assert_eq!(images(&world), vec!["image:3"; 4]);
}

#[test]
fn recreate_stops_before_it_starts() {
    let mut world = world(3);
    let of = |image| deployment_of("a", 3, "Recreate", spec(image));
    world.apply(of("image:1"));
    world
        .run_until(s(10), |world| world.is_ready("a"))
        .expect("ready");
    let old = world.running();
    world.apply(of("image:2"));
    world
        .run_until(s(60), |world| {
            let held: BTreeSet<String> = world
                .hosts
                .iter()
                .flat_map(|host| host.held().cloned())
                .collect();
            let fresh = held.difference(&old).count();
            assert!(fresh == 0 || held.is_disjoint(&old), "{held:?}");
            world.is_ready("a")
        })
        .expect("recreated");
    world.run(s(10));
    world.assert_sound();
    assert_eq!(images(&world), vec!["image:2"; 3]);
}

#[test]
fn recreate_waits_for_a_lost_host_and_its_fence() {
    let mut world = world(2);
    world.apply(deployment_of("a", 2, "Recreate", spec("image:1")));
    world
        .run_until(s(10), |world| world.is_ready("a"))
        .expect("ready");
    world.run(s(30));
    world.trouble(0, super::host::Trouble::Dead);
    let took = world
        .run_until(s(120), |world| world.running().len() == 2)
        .expect("replaced");
    assert!((s(30)..s(35)).contains(&took), "{took:?}");
    world.assert_sound();
}

#[test]
fn scaling_keeps_what_runs_and_takes_away_where_there_is_most() {
    let mut world = world(3);
    world.apply(deployment("a", 3, "image:1"));
    world
        .run_until(s(10), |world| world.is_ready("a"))
        .expect("ready");
    let three = world.running();
    world.apply(deployment("a", 9, "image:1"));
    world
        .run_until(s(10), |world| world.is_ready("a"))
        .expect("up");
    assert!(world.running().is_superset(&three));
    let nine = world.running();
    world.apply(deployment("a", 6, "image:1"));
    world
        .run_until(s(20), |world| {
            world.is_ready("a") && world.running().len() == 6
        })
        .expect("down");
    assert!(nine.is_superset(&world.running()));
    assert_eq!(world.loads(), [2, 2, 2]);
    world.apply(deployment("a", 0, "image:1"));
    world
        .run_until(s(20), |world| {
            world.running().is_empty() && world.is_ready("a")
        })
        .expect("none");
    world.apply(deployment("a", 2, "image:1"));
    world
        .run_until(s(20), |world| world.running().len() == 2)
        .expect("two");
    world.assert_sound();
    assert_eq!(world.ledger.starts, 11);
}

#[test]
fn what_makes_no_sense_is_refused_and_nothing_is_touched() {
    let mut world = world(2);
    world.apply(deployment("a", 3, "image:1"));
    world
        .run_until(s(10), |world| world.is_ready("a"))
        .expect("ready");
    for object in [
        deployment("a", -1, "image:1"),
        deployment_of("a", 3, "Foo", spec("image:2")),
    ] {
        world.apply(object);
        world.run(s(20));
        assert!(!world.is_ready("a"));
        assert_eq!((world.running().len(), world.ledger.stops), (3, 0));
    }
}

#[test]
fn a_changed_template_during_a_lagging_watch_makes_no_more_than_allowed() {
    for lag_ms in [0, 300, 3000] {
        let mut world = world(3);
        world.weather.lag_ms = lag_ms;
        for image in 0..6 {
            world.apply(deployment("a", 5, &format!("image:{image}")));
            world.run(Duration::from_millis(700));
        }
        world
            .run_until(s(120), |world| world.is_ready("a"))
            .expect("rolled out");
        world.run(s(30));
        world.assert_sound();
        assert_eq!(images(&world), vec!["image:5"; 5], "{lag_ms}");
    }
}
