//! Placement: the hosts that fit, the host that is chosen, and the reason if no host fits.

use std::time::Duration;

use berth_scheduler::api::{HostInterface, Object, WorkloadSpec};
use berth_scheduler::core::Options;

use super::host::{Host, HostFault};
use super::workloads::{deployment, spec, workload};
use super::world::World;

const fn s(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn world_with_shared_hosts() -> World {
    let allow_shared_hosts = true;
    world(allow_shared_hosts)
}

fn world_without_shared_hosts() -> World {
    let allow_shared_hosts = false;
    world(allow_shared_hosts)
}

fn world(allow_shared_hosts: bool) -> World {
    let mut world = World::new(
        21,
        Options {
            allow_shared_hosts,
            ..Options::default()
        },
    );
    for (number, (group, environment)) in [
        ("default", ""),
        ("default", "demo"),
        ("default", "prod"),
        ("edge", "demo"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut host = Host::new(&format!("h{number}"), &format!("host-{number}"));
        host.labels.insert("hostgroup".into(), group.into());
        host.environment = environment.into();
        world.add_host(host);
    }
    world.run(s(3));
    world
}

fn environment(environment: &str) -> WorkloadSpec {
    WorkloadSpec {
        environment: environment.into(),
        ..spec("image:1")
    }
}

fn group(group: &str) -> WorkloadSpec {
    let mut spec = spec("image:1");
    spec.host_selector.insert("hostgroup".into(), group.into());
    spec
}

fn pinned(host: &str) -> WorkloadSpec {
    WorkloadSpec {
        host_id: host.into(),
        ..WorkloadSpec::default()
    }
}

fn requiring(package: &str) -> WorkloadSpec {
    let interface = HostInterface {
        namespace: "wasi".into(),
        package: package.into(),
        interfaces: vec!["store".into()],
        ..HostInterface::default()
    };
    WorkloadSpec {
        host_interfaces: vec![interface],
        ..spec("image:1")
    }
}

/// Applies a workload and returns its host.
fn host_of(world: &mut World, spec: WorkloadSpec) -> Option<String> {
    let name = format!("w{}", world.store.objects.len());
    world.apply(workload(&name, spec));
    world.run(s(2));
    let status = world.workload(&name)?.status.clone()?;
    Some(status.host_id).filter(|host| !host.is_empty())
}

#[test]
fn respects_environments_with_and_without_shared_hosts() {
    let mut shared = world_with_shared_hosts();
    assert!(host_of(&mut shared, environment("")).is_some());
    assert_eq!(
        host_of(&mut shared, environment("demo")).as_deref(),
        Some("h1")
    );
    assert_eq!(
        host_of(&mut shared, environment("prod")).as_deref(),
        Some("h2")
    );
    assert_eq!(host_of(&mut shared, pinned("h2")).as_deref(), Some("h2"));
    let mut unshared = world_without_shared_hosts();
    assert_eq!(
        host_of(&mut unshared, environment("")).as_deref(),
        Some("h1")
    );
    assert_eq!(
        host_of(&mut unshared, environment("demo")).as_deref(),
        Some("h1")
    );
    assert_eq!(host_of(&mut unshared, environment("prod")), None);
    assert_eq!(
        host_of(&mut unshared, pinned("h2")),
        None,
        "a pinned host must also be in the environment"
    );
    assert_eq!(host_of(&mut unshared, pinned("h1")).as_deref(), Some("h1"));
}

#[test]
fn workload_that_fits_no_host_waits_with_reason() {
    let mut world = world_with_shared_hosts();
    world.set_fault(2, HostFault::Dead);
    world.run(s(20));
    world.apply(workload("nowhere", requiring("keyvalue")));
    world.apply(workload("moon", group("moon")));
    world.run(s(3));
    assert_eq!(
        world.message("nowhere", "HostSelection"),
        "0/4 hosts fit: 2 without wasi:keyvalue, 1 lost, \
         1 without the required label hostgroup"
    );
    assert_eq!(
        world.message("moon", "Ready"),
        "0/4 hosts fit: 3 without the required label hostgroup, 1 lost"
    );
    let uid = world.workload("moon").unwrap().metadata.uid.clone();
    let mut moon = Host::new("m", "moon");
    moon.labels.insert("hostgroup".into(), "moon".into());
    world.add_host(moon);
    world
        .run_until(s(3), |world| world.running_ids().contains(&uid))
        .expect("placed");
    world.assert_invariants();
}

#[test]
fn respects_maximum_workloads_of_host() {
    let mut world = World::new(22, Options::default());
    let mut host = Host::new("h", "small");
    host.labels
        .insert("berth.dev/max-workloads".into(), "2".into());
    world.add_host(host);
    world.run(s(3));
    for number in 0..3 {
        world.apply(workload(&format!("w{number}"), spec("image:1")));
    }
    world.run(s(3));
    assert_eq!(world.running_ids().len(), 2);
    let waiting = (0..3).map(|number| world.message(&format!("w{number}"), "HostSelection"));
    assert_eq!(
        waiting
            .filter(|message| message == "0/1 hosts fit: 1 full")
            .count(),
        1
    );
    let keys: Vec<_> = world
        .store
        .objects
        .values()
        .filter(|object| matches!(object, Object::Workload(_)))
        .map(Object::key)
        .collect();
    world.delete(&keys[0]);
    world.delete(&keys[1]);
    world
        .run_until(s(10), |world| {
            world.workload("w2").is_some() && world.running_ids().len() == 1
        })
        .expect("one workload runs");
    world.assert_invariants();
}

#[test]
fn prefers_host_with_image_among_equals() {
    let mut world = World::new(23, Options::default());
    world.add_hosts(3);
    world.run(s(3));
    let host_of = |world: &World, name: &str| {
        world
            .workload(name)
            .unwrap()
            .status
            .clone()
            .unwrap()
            .host_id
    };
    for (name, image) in [
        ("a", "x"),
        ("b", "y"),
        ("c", "z"),
        ("d", "z"),
        ("e", "y"),
        ("f", "x"),
    ] {
        world.apply(workload(name, spec(image)));
        world.run(s(2));
    }
    assert_eq!(host_of(&world, "a"), host_of(&world, "f"));
    assert_eq!(host_of(&world, "b"), host_of(&world, "e"));
    assert_eq!(host_of(&world, "c"), host_of(&world, "d"));
}

#[test]
fn exhausted_hosts_come_last_among_equals() {
    let mut world = World::new(24, Options::default());
    world.add_hosts(3);
    world.hosts[0].cpu_percent = 99.0;
    world.hosts[1].memory_free_bytes = 4_000_000;
    world.run(s(3));
    for name in ["a", "b", "c"] {
        assert_eq!(host_of(&mut world, spec(name)).as_deref(), Some("h2"));
    }
    // The replicas of a set are spread over all hosts, even over the two exhausted hosts.
    world.apply(deployment("d", 3, "image:1"));
    world
        .run_until(s(5), |world| world.is_ready("d"))
        .expect("ready");
    assert_eq!(world.loads(), [1, 1, 4]);
    // The next heartbeat updates the load.
    world.hosts[0].cpu_percent = 10.0;
    world.run(s(20));
    assert_eq!(host_of(&mut world, spec("e")).as_deref(), Some("h0"));
    world.assert_invariants();
}
