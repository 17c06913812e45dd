//! Hosts that return after hours or days with workloads that were replaced meanwhile.

use std::time::Duration;

use berth_scheduler::api::Kind;
use berth_scheduler::core::Options;

use super::host::{Host, HostFault};
use super::workloads::deployment;
use super::world::World;

const fn s(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const HOUR: Duration = s(3600);

/// Returns a world in which one of two hosts was away for a time with three workloads, and has
/// returned.
fn after_absence(absence: Duration, is_restarted: bool) -> World {
    let mut world = World::new(61, Options::default());
    world.add_hosts(2);
    world.apply(deployment("a", 6, "image:1"));
    world
        .run_until(s(20), |world| world.is_ready("a"))
        .expect("ready");
    world.set_fault(0, HostFault::CutOff);
    world.run(absence / 2);
    assert_eq!(world.hosts[0].active_ids().count(), 3);
    if is_restarted {
        world.restart_scheduler();
    }
    world.run(absence / 2);
    world.set_fault(0, HostFault::None);
    world
}

#[test]
fn stops_old_workloads_of_host_that_was_away_for_hours() {
    for (absence, is_restarted) in [(HOUR * 2, false), (HOUR * 5, true), (HOUR * 23, false)] {
        let mut world = after_absence(absence, is_restarted);
        world
            .run_until(s(30), |world| world.hosts[0].active_ids().count() == 0)
            .expect("the old workloads are stopped");
        world.run(s(60));
        world.assert_invariants();
        assert_eq!(world.running_ids().len(), 6);
    }
}

#[test]
fn host_with_arbitrary_name_and_labels_is_stopped_on_return_too() {
    let mut world = World::new(62, Options::default());
    for (number, name) in ["My Host!", "host-1"].into_iter().enumerate() {
        let mut host = Host::new(&format!("h{number}"), name);
        host.labels
            .insert("note".to_owned(), "two words".to_owned());
        world.add_host(host);
    }
    world.apply(deployment("a", 4, "image:1"));
    world
        .run_until(s(20), |world| world.is_ready("a"))
        .expect("ready");
    for object in world.store.of_kind(Kind::Host) {
        let metadata = object.metadata();
        assert!(!metadata.name.contains(' ') && !metadata.labels.contains_key("note"));
    }
    world.set_fault(0, HostFault::CutOff);
    world.run(s(100));
    world.restart_scheduler();
    world.run(s(50));
    world.set_fault(0, HostFault::None);
    world
        .run_until(s(30), |world| world.hosts[0].active_ids().count() == 0)
        .expect("the old workloads are stopped");
    world.run(s(30));
    world.assert_invariants();
}

#[test]
fn reports_workloads_whose_stops_were_forgotten() {
    let mut world = after_absence(HOUR * 30, false);
    assert_eq!(world.store.of_kind(Kind::Host).count(), 1);
    world.run(s(600));
    world.assert_invariants();
    let warnings = world.invariants.warnings.iter();
    let reports: Vec<_> = warnings
        .filter(|it| it.starts_with("UnknownWorkloads: host h0 runs 3 workloads"))
        .collect();
    assert_eq!(reports.len(), 1, "{reports:?}");
}
