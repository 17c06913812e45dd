//! Failures of hosts, the broker and the scheduler, and their consequences.

use std::time::Duration;

use berth_scheduler::api::{Key, Kind};
use berth_scheduler::core::{Options, Timings};

use super::host::{Host, HostBehavior, HostFault};
use super::workloads::{deployment, spec, workload};
use super::world::{FaultRates, World};

const fn s(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Returns a world with hosts and a deployment that is ready.
fn ready(hosts: usize, replicas: i32) -> World {
    let mut world = World::new(1, Options::default());
    world.add_hosts(hosts);
    world.run(s(3));
    world.apply(deployment("a", replicas, "image:1"));
    world
        .run_until(s(10), |world| world.is_ready("a"))
        .expect("ready");
    world.run(s(60));
    world.assert_invariants();
    world
}

#[test]
fn spreads_replicas_with_few_writes_and_none_when_idle() {
    let mut world = ready(4, 10);
    let mut loads = world.loads();
    loads.sort_unstable();
    assert_eq!(loads, [2, 2, 3, 3]);
    assert_eq!(world.invariants.starts, 10);
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
    assert_eq!((world.invariants.starts, world.invariants.stops), (10, 0));
}

#[test]
fn replaces_replicas_of_dead_host_within_two_seconds() {
    let mut world = ready(2, 10);
    world.set_fault(0, HostFault::Dead);
    let took = world
        .run_until(s(20), |world| world.running_ids().len() == 10)
        .expect("moved");
    assert!(took <= s(2), "{took:?}");
    world.run(s(30));
    world.assert_invariants();
    assert!(world.is_ready("a") && world.invariants.stops == 0);
}

#[test]
fn replaces_replicas_of_frozen_host_within_forty_seconds_and_stops_old_ones_on_return() {
    let mut world = ready(3, 9);
    world.set_fault(0, HostFault::Frozen);
    let elsewhere =
        |world: &World| world.hosts[1].running_ids().count() + world.hosts[2].running_ids().count();
    let took = world
        .run_until(s(60), |world| elsewhere(world) == 9)
        .expect("moved");
    assert!((s(20)..=s(40)).contains(&took), "{took:?}");
    world.run(s(200));
    world.set_fault(0, HostFault::None);
    let until_clean = world
        .run_until(s(60), |world| world.hosts[0].active_ids().count() == 0)
        .expect("returned host has no workloads");
    assert!(until_clean <= s(10), "{until_clean:?}");
    world.run(s(60));
    world.assert_invariants();
    assert_eq!((elsewhere(&world), world.running_ids().len()), (9, 9));
}

#[test]
fn next_scheduler_stops_workloads_on_returning_host() {
    let mut world = ready(3, 9);
    world.set_fault(0, HostFault::CutOff);
    world.run(s(100));
    world.restart_scheduler();
    world.run(s(50));
    assert_eq!(world.hosts[0].active_ids().count(), 3);
    world.set_fault(0, HostFault::None);
    let until_clean = world
        .run_until(s(60), |world| world.hosts[0].active_ids().count() == 0)
        .expect("returned host has no workloads");
    assert!(until_clean <= s(10), "{until_clean:?}");
    world.run(s(60));
    world.assert_invariants();
    let host = Key::new(Kind::Host, "default", "host-0");
    let annotations = &world.store.objects[&host].metadata().annotations;
    assert!(annotations.is_empty(), "{annotations:?}");
}

#[test]
fn broker_outage_starts_and_stops_nothing() {
    for (hosts, away_ms, spread_ms) in [
        (2, 50, 10_000),
        (6, 50, 10_000),
        (2, 180_000, 8000),
        (6, 180_000, 8000),
    ] {
        let mut world = ready(hosts, 10);
        let ids = world.running_ids();
        world.stop_broker();
        world.run(Duration::from_millis(away_ms));
        world.restart_broker(spread_ms);
        world.run(s(120));
        world.assert_invariants();
        assert_eq!(
            (world.invariants.starts, world.invariants.stops),
            (10, 0),
            "{hosts} {away_ms}"
        );
        assert_eq!(world.running_ids(), ids);
        assert!(world.is_ready("a"));
    }
}

#[test]
fn short_absence_of_third_of_hosts_moves_nothing() {
    let mut world = ready(9, 18);
    for host in [0, 3, 6] {
        world.set_fault(host, HostFault::Disconnected);
    }
    world.run(s(15));
    for host in [0, 3, 6] {
        world.hosts[host].fault = HostFault::None;
        world.set_fault(host, HostFault::None);
    }
    world.run(s(60));
    world.assert_invariants();
    assert_eq!((world.invariants.starts, world.invariants.stops), (18, 0));
}

#[test]
fn freeze_of_only_host_restarts_nothing() {
    let mut world = ready(1, 4);
    world.set_fault(0, HostFault::Frozen);
    world.run(s(200));
    world.set_fault(0, HostFault::None);
    world
        .run_until(s(60), |world| world.is_ready("a"))
        .expect("ready");
    world.run(s(60));
    world.assert_invariants();
    assert_eq!(
        (
            world.invariants.starts,
            world.invariants.stops,
            world.running_ids().len()
        ),
        (4, 0, 4)
    );
}

#[test]
fn host_that_ignores_starts_delays_no_other_host() {
    let mut world = World::new(2, Options::default());
    world.add_hosts(4);
    world.hosts[2].behavior = HostBehavior::Mute;
    world.run(s(3));
    for number in 0..20 {
        world.apply(deployment(&format!("d{number}"), 1, "image:1"));
    }
    let until_others_run = world
        .run_until(s(10), |world| world.running_ids().len() == 15)
        .expect("workloads of the other hosts run");
    assert!(until_others_run <= s(2), "{until_others_run:?}");
    let until_all_run = world
        .run_until(s(100), |world| world.running_ids().len() == 20)
        .expect("all workloads run");
    assert!(
        until_others_run + until_all_run <= s(65),
        "{until_all_run:?}"
    );
    world.run(s(60));
    world.assert_invariants();
}

#[test]
fn polls_after_lost_replies_and_starts_nothing_twice() {
    let mut world = World::new(3, Options::default());
    world.add_hosts(3);
    world.run(s(3));
    world.fault_rates = FaultRates {
        loss_percent: 20,
        ..FaultRates::NONE
    };
    world.apply(deployment("a", 12, "image:1"));
    // A lost start is repeated when its reply can no longer arrive (SCHED-START-010).
    world
        .run_until(s(150), |world| world.running_ids().len() == 12)
        .expect("running");
    world.fault_rates = FaultRates::NONE;
    world
        .run_until(s(150), |world| world.is_ready("a"))
        .expect("ready");
    world.run(s(60));
    world.assert_invariants();
    // Replicas whose starts were lost repeatedly were replaced. Only these replicas were stopped.
    assert_eq!(world.running_ids().len(), 12);
    assert!(
        world.invariants.stops <= 12,
        "{} stops",
        world.invariants.stops
    );
}

#[test]
fn failing_image_is_retried_with_backoff() {
    let mut world = World::new(4, Options::default());
    world.add_hosts(3);
    for host in &mut world.hosts {
        host.fail_percent = 100;
    }
    world.run(s(3));
    world.apply(deployment("a", 1, "image:bad"));
    world.apply(workload("bare", spec("image:bad")));
    world.run(s(60));
    let early = world.invariants.starts;
    assert!(
        (6..=16).contains(&early),
        "{early} starts in the first minute"
    );
    assert_eq!(world.message("bare", "Ready"), "no such image");
    world.run(s(540));
    assert!(
        world.invariants.starts - early <= 12,
        "{} starts in the next nine minutes",
        world.invariants.starts - early
    );
    for host in &mut world.hosts {
        host.fail_percent = 0;
    }
    world
        .run_until(s(310), |world| world.running_ids().len() == 2)
        .expect("running");
    world.run(s(5));
    world.assert_invariants();
    // The object stays the same, and each incarnation has its own id.
    let bare = world.workload("bare").unwrap();
    let id = &bare.status.as_ref().unwrap().workload_id;
    assert!(id.starts_with(&format!("{}-", bare.metadata.uid)), "{id}");
}

#[test]
fn bare_workload_moves_with_new_id() {
    let mut world = World::new(5, Options::default());
    world.add_hosts(2);
    world.run(s(3));
    world.apply(workload("bare", spec("image:1")));
    world
        .run_until(s(5), |world| world.running_ids().len() == 1)
        .expect("running");
    let uid = world.workload("bare").unwrap().metadata.uid.clone();
    assert!(world.running_ids().contains(&uid));
    let at = world
        .hosts
        .iter()
        .position(|host| host.running_ids().count() == 1)
        .unwrap();
    world.set_fault(at, HostFault::Dead);
    world
        .run_until(s(5), |world| world.running_ids().len() == 1)
        .expect("moved");
    assert!(world.running_ids().contains(&format!("{uid}-1")));
    world.run(s(20));
    world.assert_invariants();
    world.delete(&Key::new(Kind::Workload, "demo", "bare"));
    world
        .run_until(s(10), |world| world.workload("bare").is_none())
        .expect("gone");
    assert!(world.running_ids().is_empty());
}

#[test]
fn deletion_completes_on_lost_host() {
    let mut world = ready(2, 6);
    world.set_fault(0, HostFault::Frozen);
    world.delete(&Key::new(Kind::WorkloadDeployment, "demo", "a"));
    let gone = |world: &World| world.store.of_kind(Kind::Workload).count() == 0;
    let took = world.run_until(s(90), gone).expect("gone");
    assert!(took <= s(45), "{took:?}");
    world.run(s(60));
    world.set_fault(0, HostFault::None);
    world
        .run_until(s(30), |world| world.hosts[0].active_ids().count() == 0)
        .expect("returned host has no workloads");
    world.assert_invariants();
}

#[test]
fn deletion_of_host_object_drains_host() {
    let mut world = ready(3, 9);
    world.delete(&Key::new(Kind::Host, "default", "host-1"));
    world
        .run_until(s(30), |world| world.hosts[1].active_ids().count() == 0)
        .expect("drained");
    let least = world.running_ids().len();
    assert!(least >= 9, "{least} run during the drain");
    world.run(s(20));
    world.assert_invariants();
    assert!(world.is_ready("a"));
    let key = Key::new(Kind::Host, "default", "host-1");
    let object = &world.store.objects[&key];
    assert!(
        !object.metadata().is_deleting(),
        "the next heartbeat recreates the object"
    );
}

#[test]
fn stops_workloads_of_draining_host_that_was_cut_off() {
    let key = Key::new(Kind::Host, "default", "host-1");
    for point in 0..40 {
        let mut world = ready(3, 3);
        world.delete(&key);
        world.run(Duration::from_millis(97 * point));
        world.set_fault(1, HostFault::CutOff);
        world.run(s(120));
        world.restart_scheduler();
        world.run(s(50));
        world.set_fault(1, HostFault::None);
        world
            .run_until(s(60), |world| world.running_ids() == world.wanted_ids())
            .unwrap_or_else(|| panic!("at {point}: not stopped on return"));
        world.assert_invariants();
    }
}

#[test]
fn stops_workloads_of_lost_host_with_deleted_object() {
    let mut world = World::new(5, Options::default());
    world.add_hosts(1);
    world.run(s(3));
    world.apply(workload("bare", spec("image:1")));
    world
        .run_until(s(5), |world| world.running_ids().len() == 1)
        .expect("running");
    world.set_fault(0, HostFault::CutOff);
    world.run(s(100));
    world.delete(&Key::new(Kind::Host, "default", "host-0"));
    world.run(s(5));
    // Only now is another host feasible, and the workload leaves a pending stop behind.
    world.add_host(Host::new("h1", "host-1"));
    world
        .run_until(s(60), |world| world.hosts[1].running_ids().count() == 1)
        .expect("moved");
    world.run(s(10));
    world.restart_scheduler();
    world.run(s(50));
    assert_eq!(world.hosts[0].active_ids().count(), 1);
    world.set_fault(0, HostFault::None);
    world
        .run_until(s(60), |world| world.hosts[0].active_ids().count() == 0)
        .expect("returned host has no workloads");
    world.run(s(60));
    world.assert_invariants();
}

#[test]
fn rollout_survives_scheduler_kills_at_any_point() {
    for point in 0..20 {
        let mut world = ready(4, 8);
        world.apply(deployment("a", 8, "image:2"));
        for kill in 0..3 {
            world.run(Duration::from_millis(23 * point + 211 * kill));
            world.restart_scheduler();
        }
        world
            .run_until(s(60), |world| {
                world.is_ready("a") && world.running_ids().len() == 8
            })
            .expect("rolled out");
        world.run(s(60));
        world.assert_invariants();
        assert_eq!(world.running_ids(), world.wanted_ids());
        assert_eq!(world.invariants.starts, 16, "at {point}");
    }
}

#[test]
fn busy_serial_host_loses_no_workload() {
    let mut world = World::new(6, Options::default());
    world.add_hosts(2);
    for host in &mut world.hosts {
        (host.behavior, host.start_ms) = (HostBehavior::Serial, (8_000, 8_001));
    }
    world.run(s(3));
    world.apply(deployment("a", 6, "image:1"));
    world
        .run_until(s(60), |world| world.is_ready("a"))
        .expect("ready");
    world.run(s(60));
    world.assert_invariants();
    assert_eq!(world.invariants.stops, 0);
}

#[test]
fn frozen_host_is_lost_after_configured_time() {
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
    world.set_fault(0, HostFault::Frozen);
    let took = world
        .run_until(s(60), |world| world.hosts[1].running_ids().count() == 4)
        .expect("moved");
    assert!(took <= s(7), "{took:?}");
}

#[test]
fn host_object_does_not_flap_between_hosts_with_same_name() {
    let mut world = ready(2, 4);
    world.add_host(Host::new("other", "host-0"));
    world.run(s(40));
    assert!(
        world
            .invariants
            .warnings
            .iter()
            .any(|warning| warning.starts_with("NameTaken"))
    );
    let before = world.writes();
    world.run(s(120));
    assert_eq!(world.writes(), before);
    world.set_fault(0, HostFault::Dead);
    world
        .run_until(s(40), |world| world.running_ids().len() == 4)
        .expect("moved");
    world.run(s(30));
    world.assert_invariants();
    let Some(berth_scheduler::api::Object::Host(host)) =
        world
            .store
            .objects
            .get(&Key::new(Kind::Host, "default", "host-0"))
    else {
        panic!("the Host object is missing");
    };
    assert_eq!(host.host_id, "other");
}

/// The start reads its references while the workload is deleted, and reaches the host after the
/// stop.
#[test]
fn start_that_a_stop_overtakes_leaves_no_guest() {
    let mut world = World::new(3, Options::default());
    world.add_hosts(1);
    world.run(s(3));
    world.time_to_read_references = Duration::from_millis(400);
    world.apply(workload("a", spec("image:1")));
    world
        .run_until(s(10), |world| world.invariants.starts == 1)
        .expect("a start");
    world.delete(&Key::new(Kind::Workload, "demo", "a"));
    world.run(s(30));
    assert_eq!(world.running_ids().len(), 0);
    assert_eq!(world.store.of_kind(Kind::Workload).count(), 0);
    world.assert_invariants();
}
