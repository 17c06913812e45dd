//! Timestamps of objects, and a system clock that is set.

use std::time::Duration;

use berth_scheduler::api::{Kind, Object, Timestamp};
use berth_scheduler::core::Options;

use super::workloads::deployment;
use super::world::World;

const fn s(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Returns when the host was seen for the last time.
fn last_seen(world: &World) -> Option<Timestamp> {
    let mut hosts = world.store.of_kind(Kind::Host);
    hosts.find_map(|object| match object {
        Object::Host(host) => host.status.as_ref()?.last_seen,
        _ => None,
    })
}

#[test]
fn timestamps_follow_a_clock_that_is_set() {
    let mut world = World::new(51, Options::default());
    world.add_hosts(1);
    world.run(s(3));
    // The machine starts in 1970 and learns the time later.
    assert!(last_seen(&world).expect("a host").as_unix() < s(2000));
    for unix_time in [s(1_800_000_000), s(1_700_000_000)] {
        world.set_clock(unix_time);
        world.run(s(1));
        world.apply(deployment(
            &format!("a{}", unix_time.as_secs()),
            1,
            "image:1",
        ));
        world.run(s(39));
        let seen = last_seen(&world).expect("a host").as_unix();
        assert!(
            (unix_time..unix_time + s(40)).contains(&seen),
            "{seen:?} after {unix_time:?}"
        );
    }
    world.assert_invariants();
}
