//! What fails and what comes of it: hosts, the broker, the scheduler, and what none of that may do.

use std::time::Duration;

use berth_scheduler::api::{Key, Kind};
use berth_scheduler::core::{Options, Timings};

use super::host::{Host, Manner, Trouble};
use super::workloads::{deployment, spec, workload};
use super::world::{Weather, World};

const fn s(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Hosts that were heard, and one deployment of a size that is ready.
fn ready(hosts: usize, replicas: i32) -> World {
    let mut world = World::new(1, Options::default());
    world.add_hosts(hosts);
    world.run(s(3));
    world.apply(deployment("a", replicas, "image:1"));
    world
        .run_until(s(10), |world| world.is_ready("a"))
        .expect("ready");
    world.run(s(60));
    world.assert_sound();
    world
}

#[test]
fn replicas_are_spread_with_few_writes_and_none_at_rest() {
    let mut world = ready(4, 10);
    let mut loads = world.loads();
    loads.sort_unstable();
    assert_eq!(loads, [2, 2, 3, 3]);
    assert_eq!(world.ledger.starts, 10);
    assert_eq!(
        world.store.writes[&Kind::Workload],
        20,
        "{:?}",
        world.store.writes
    );
    assert!(
        world.store.writes[&Kind::WorkloadReplicaSet] <= 4,
        "{:?}",
        world.store.writes
    );
    assert!(
        world.store.writes[&Kind::WorkloadDeployment] <= 4,
        "{:?}",
        world.store.writes
    );
    world.run(s(120));
    let before = world.writes();
    world.run(s(600));
    assert_eq!(world.writes(), before);
    assert_eq!((world.ledger.starts, world.ledger.stops), (10, 0));
}

#[test]
fn what_ran_on_a_dead_host_runs_elsewhere_within_two_seconds() {
    let mut world = ready(2, 10);
    world.trouble(0, Trouble::Dead);
    let took = world
        .run_until(s(20), |world| world.running().len() == 10)
        .expect("moved");
    assert!(took <= s(2), "{took:?}");
    world.run(s(30));
    world.assert_sound();
    assert!(world.is_ready("a") && world.ledger.stops == 0);
}

#[test]
fn what_ran_on_a_frozen_host_runs_elsewhere_within_forty_seconds_and_is_stopped_there() {
    let mut world = ready(3, 9);
    world.trouble(0, Trouble::Frozen);
    let elsewhere =
        |world: &World| world.hosts[1].running().count() + world.hosts[2].running().count();
    let took = world
        .run_until(s(60), |world| elsewhere(world) == 9)
        .expect("moved");
    assert!((s(20)..=s(40)).contains(&took), "{took:?}");
    world.run(s(200));
    world.trouble(0, Trouble::None);
    let cleaned = world
        .run_until(s(60), |world| world.hosts[0].held().count() == 0)
        .expect("cleaned");
    assert!(cleaned <= s(10), "{cleaned:?}");
    world.run(s(60));
    world.assert_sound();
    assert_eq!((elsewhere(&world), world.running().len()), (9, 9));
}

#[test]
fn another_scheduler_stops_what_a_returning_host_has_left() {
    let mut world = ready(3, 9);
    world.trouble(0, Trouble::CutOff);
    world.run(s(100));
    world.restart_scheduler();
    world.run(s(50));
    assert_eq!(world.hosts[0].held().count(), 3);
    world.trouble(0, Trouble::None);
    let cleaned = world
        .run_until(s(60), |world| world.hosts[0].held().count() == 0)
        .expect("cleaned");
    assert!(cleaned <= s(10), "{cleaned:?}");
    world.run(s(60));
    world.assert_sound();
    let host = Key::new(Kind::Host, "default", "host-0");
    let annotations = &world.store.objects[&host].metadata().annotations;
    assert!(annotations.is_empty(), "{annotations:?}");
}

#[test]
fn an_outage_of_the_broker_changes_nothing() {
    for (hosts, away_ms, spread_ms) in [
        (2, 50, 10_000),
        (6, 50, 10_000),
        (2, 180_000, 8000),
        (6, 180_000, 8000),
    ] {
        let mut world = ready(hosts, 10);
        let ids = world.running();
        world.broker_down();
        world.run(Duration::from_millis(away_ms));
        world.broker_back(spread_ms);
        world.run(s(120));
        world.assert_sound();
        assert_eq!(
            (world.ledger.starts, world.ledger.stops),
            (10, 0),
            "{hosts} {away_ms}"
        );
        assert_eq!(world.running(), ids);
        assert!(world.is_ready("a"));
    }
}

#[test]
fn when_a_third_of_the_hosts_are_away_for_a_moment_nothing_moves() {
    let mut world = ready(9, 18);
    for host in [0, 3, 6] {
        world.trouble(host, Trouble::Disconnected);
    }
    world.run(s(15));
    for host in [0, 3, 6] {
        world.hosts[host].trouble = Trouble::None;
        world.trouble(host, Trouble::None);
    }
    world.run(s(60));
    world.assert_sound();
    assert_eq!((world.ledger.starts, world.ledger.stops), (18, 0));
}

#[test]
fn the_only_host_may_freeze_and_come_back_without_a_restart() {
    let mut world = ready(1, 4);
    world.trouble(0, Trouble::Frozen);
    world.run(s(200));
    world.trouble(0, Trouble::None);
    world
        .run_until(s(60), |world| world.is_ready("a"))
        .expect("ready");
    world.run(s(60));
    world.assert_sound();
    assert_eq!(
        (
            world.ledger.starts,
            world.ledger.stops,
            world.running().len()
        ),
        (4, 0, 4)
    );
}

#[test]
fn a_host_that_never_answers_a_start_delays_nobody_else() {
    let mut world = World::new(2, Options::default());
    world.add_hosts(4);
    world.hosts[2].manner = Manner::Mute;
    world.run(s(3));
    for number in 0..20 {
        world.apply(deployment(&format!("d{number}"), 1, "image:1"));
    }
    let others = world
        .run_until(s(10), |world| world.running().len() == 15)
        .expect("others");
    assert!(others <= s(2), "{others:?}");
    let all = world
        .run_until(s(100), |world| world.running().len() == 20)
        .expect("all");
    assert!(others + all <= s(65), "{all:?}");
    world.run(s(60));
    world.assert_sound();
}

#[test]
fn lost_answers_are_asked_after_and_nothing_starts_twice() {
    let mut world = World::new(3, Options::default());
    world.add_hosts(3);
    world.run(s(3));
    world.weather = Weather {
        loss_percent: 20,
        ..Weather::FAIR
    };
    world.apply(deployment("a", 12, "image:1"));
    // A start that is lost is repeated when its answer can no longer come (SCHED-START-010).
    world
        .run_until(s(150), |world| world.running().len() == 12)
        .expect("running");
    world.weather = Weather::FAIR;
    world
        .run_until(s(150), |world| world.is_ready("a"))
        .expect("ready");
    world.run(s(60));
    world.assert_sound();
    // Of those whose start was lost and lost again, another was made: only they were stopped.
    assert_eq!(world.running().len(), 12);
    assert!(world.ledger.stops <= 12, "{} stops", world.ledger.stops);
}

#[test]
fn a_failing_image_is_tried_less_and_less() {
    let mut world = World::new(4, Options::default());
    world.add_hosts(3);
    for host in &mut world.hosts {
        host.fail_percent = 100;
    }
    world.run(s(3));
    world.apply(deployment("a", 1, "image:bad"));
    world.apply(workload("bare", spec("image:bad")));
    world.run(s(60));
    let early = world.ledger.starts;
    assert!((6..=16).contains(&early), "{early} in the first minute");
    assert_eq!(world.message("bare", "Ready"), "no such image");
    world.run(s(540));
    assert!(
        world.ledger.starts - early <= 12,
        "{} in nine more",
        world.ledger.starts - early
    );
    for host in &mut world.hosts {
        host.fail_percent = 0;
    }
    world
        .run_until(s(310), |world| world.running().len() == 2)
        .expect("well");
    world.run(s(5));
    world.assert_sound();
    // The object is the same all the time, and each life of it has an id of its own.
    let bare = world.workload("bare").unwrap();
    let id = &bare.status.as_ref().unwrap().workload_id;
    assert!(id.starts_with(&format!("{}-", bare.metadata.uid)), "{id}");
}

#[test]
fn a_bare_workload_moves_under_another_id() {
    let mut world = World::new(5, Options::default());
    world.add_hosts(2);
    world.run(s(3));
    world.apply(workload("bare", spec("image:1")));
    world
        .run_until(s(5), |world| world.running().len() == 1)
        .expect("running");
    let uid = world.workload("bare").unwrap().metadata.uid.clone();
    assert!(world.running().contains(&uid));
    let at = world
        .hosts
        .iter()
        .position(|host| host.running().count() == 1)
        .unwrap();
    world.trouble(at, Trouble::Dead);
    world
        .run_until(s(5), |world| world.running().len() == 1)
        .expect("moved");
    assert!(world.running().contains(&format!("{uid}-1")));
    world.run(s(20));
    world.assert_sound();
    world.delete(&Key::new(Kind::Workload, "demo", "bare"));
    world
        .run_until(s(10), |world| world.workload("bare").is_none())
        .expect("gone");
    assert!(world.running().is_empty());
}

#[test]
fn deletion_does_not_hang_on_a_lost_host() {
    let mut world = ready(2, 6);
    world.trouble(0, Trouble::Frozen);
    world.delete(&Key::new(Kind::WorkloadDeployment, "demo", "a"));
    let gone = |world: &World| world.store.of_kind(Kind::Workload).count() == 0;
    let took = world.run_until(s(90), gone).expect("gone");
    assert!(took <= s(45), "{took:?}");
    world.run(s(60));
    world.trouble(0, Trouble::None);
    world
        .run_until(s(30), |world| world.hosts[0].held().count() == 0)
        .expect("cleaned");
    world.assert_sound();
}

#[test]
fn a_deleted_host_object_empties_its_host() {
    let mut world = ready(3, 9);
    world.delete(&Key::new(Kind::Host, "default", "host-1"));
    world
        .run_until(s(30), |world| world.hosts[1].held().count() == 0)
        .expect("emptied");
    let least = world.running().len();
    assert!(least >= 9, "{least} run while it is emptied");
    world.run(s(20));
    world.assert_sound();
    assert!(world.is_ready("a"));
    let key = Key::new(Kind::Host, "default", "host-1");
    let object = &world.store.objects[&key];
    assert!(
        !object.metadata().is_deleting(),
        "the next heartbeat has made it again"
    );
}

#[test]
fn a_drained_host_that_is_cut_off_meanwhile_is_not_forgotten() {
    let key = Key::new(Kind::Host, "default", "host-1");
    for point in 0..40 {
        let mut world = ready(3, 3);
        world.delete(&key);
        world.run(Duration::from_millis(97 * point));
        world.trouble(1, Trouble::CutOff);
        world.run(s(120));
        world.restart_scheduler();
        world.run(s(50));
        world.trouble(1, Trouble::None);
        world
            .run_until(s(60), |world| world.running() == world.wanted())
            .unwrap_or_else(|| panic!("at {point}: not stopped on its return"));
        world.assert_sound();
    }
}

#[test]
fn a_lost_host_whose_object_is_deleted_is_not_forgotten() {
    let mut world = World::new(5, Options::default());
    world.add_hosts(1);
    world.run(s(3));
    world.apply(workload("bare", spec("image:1")));
    world
        .run_until(s(5), |world| world.running().len() == 1)
        .expect("running");
    world.trouble(0, Trouble::CutOff);
    world.run(s(100));
    world.delete(&Key::new(Kind::Host, "default", "host-0"));
    world.run(s(5));
    // Only now has it somewhere to go, and leaves something that is to be stopped.
    world.add_host(Host::new("h1", "host-1"));
    world
        .run_until(s(60), |world| world.hosts[1].running().count() == 1)
        .expect("moved");
    world.run(s(10));
    world.restart_scheduler();
    world.run(s(50));
    assert_eq!(world.hosts[0].held().count(), 1);
    world.trouble(0, Trouble::None);
    world
        .run_until(s(60), |world| world.hosts[0].held().count() == 0)
        .expect("stopped on its return");
    world.run(s(60));
    world.assert_sound();
}

#[test]
fn the_scheduler_may_be_killed_at_any_point_of_a_rollout() {
    for point in 0..20 {
        let mut world = ready(4, 8);
        world.apply(deployment("a", 8, "image:2"));
        for kill in 0..3 {
            world.run(Duration::from_millis(23 * point + 211 * kill));
            world.restart_scheduler();
        }
        world
            .run_until(s(60), |world| {
                world.is_ready("a") && world.running().len() == 8
            })
            .expect("rolled out");
        world.run(s(60));
        world.assert_sound();
        assert_eq!(world.running(), world.wanted());
        assert_eq!(world.ledger.starts, 16, "at {point}");
    }
}

#[test]
fn a_busy_serial_host_is_left_alone() {
    let mut world = World::new(6, Options::default());
    world.add_hosts(2);
    for host in &mut world.hosts {
        (host.manner, host.start_ms) = (Manner::Serial, (8_000, 8_001));
    }
    world.run(s(3));
    world.apply(deployment("a", 6, "image:1"));
    world
        .run_until(s(60), |world| world.is_ready("a"))
        .expect("ready");
    world.run(s(60));
    world.assert_sound();
    assert_eq!(world.ledger.stops, 0);
}

#[test]
fn a_frozen_host_is_given_up_as_soon_as_one_likes() {
    let mut timings = Timings::default();
    timings.liveness.suspect_after = s(3);
    timings.liveness.lost_after = s(5);
    timings.liveness.silent_probe_interval = s(1);
    let mut world = World::new(
        7,
        Options {
            timings,
            ..Options::default()
        },
    );
    world.add_hosts(2);
    world.run(s(3));
    world.apply(deployment("a", 4, "image:1"));
    world
        .run_until(s(10), |world| world.is_ready("a"))
        .expect("ready");
    world.run(s(20));
    world.trouble(0, Trouble::Frozen);
    let took = world
        .run_until(s(60), |world| world.hosts[1].running().count() == 4)
        .expect("moved");
    assert!(took <= s(7), "{took:?}");
}

#[test]
fn two_hosts_of_one_name_do_not_take_turns() {
    let mut world = ready(2, 4);
    world.add_host(Host::new("other", "host-0"));
    world.run(s(40));
    assert!(
        world
            .ledger
            .warnings
            .iter()
            .any(|warning| warning.starts_with("NameTaken"))
    );
    let before = world.writes();
    world.run(s(120));
    assert_eq!(world.writes(), before);
    world.trouble(0, Trouble::Dead);
    world
        .run_until(s(40), |world| world.running().len() == 4)
        .expect("moved");
    world.run(s(30));
    world.assert_sound();
    let Some(berth_scheduler::api::Object::Host(host)) =
        world
            .store
            .objects
            .get(&Key::new(Kind::Host, "default", "host-0"))
    else {
        panic!("an object");
    };
    assert_eq!(host.host_id, "other");
}
