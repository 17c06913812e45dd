//! Rules of the liveness detection, with simulated hosts in simulated time.

use proptest::prelude::*;

use super::*;

/// State of a simulated host.
#[derive(Clone, Copy, Debug, PartialEq)]
enum HostState {
    Healthy,
    Dead,
    Frozen,
}

/// A change of the health of a host.
#[derive(Debug, PartialEq)]
struct Change {
    at: Duration,
    host: String,
    health: Health,
    reason: Option<Reason>,
}

/// Hosts, a broker and the scheduler's liveness detection, in simulated time.
struct World {
    liveness: Liveness,
    now: Duration,
    hosts: Vec<HostState>,
    sends_heartbeats: bool,
    probes: usize,
    changes: Vec<Change>,
}

impl World {
    fn with(hosts: usize) -> Self {
        Self::with_options(hosts, LivenessOptions::default())
    }

    fn with_options(hosts: usize, options: LivenessOptions) -> Self {
        let liveness = Liveness::new(options);
        let (now, hosts, changes) = (Duration::ZERO, vec![HostState::Healthy; hosts], Vec::new());
        let mut world = Self {
            liveness,
            now,
            hosts,
            sends_heartbeats: true,
            probes: 0,
            changes,
        };
        world.step(Event::Connected);
        for host in 0..world.hosts.len() {
            world.step(Event::Heartbeat {
                host: host.to_string(),
            });
        }
        world.run(Duration::from_secs(15));
        assert_eq!(world.changes, []);
        world
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += Liveness::TICK;
            self.step(Event::Tick);
            let second = self.now.subsec_nanos() == 0;
            if second && self.sends_heartbeats && self.now.as_secs().is_multiple_of(15) {
                for host in 0..self.hosts.len() {
                    if self.hosts[host] == HostState::Healthy {
                        self.step(Event::Heartbeat {
                            host: host.to_string(),
                        });
                    }
                }
            }
        }
    }

    fn step(&mut self, event: Event) {
        for action in self.liveness.step(self.now, event) {
            match action {
                Action::Probe { host } => {
                    self.probes += 1;
                    let state = self.hosts[host.parse::<usize>().unwrap()];
                    self.step(match state {
                        HostState::Healthy => Event::ProbeReplied { host },
                        HostState::Dead => Event::NoResponders { host },
                        HostState::Frozen => Event::ProbeTimedOut { host },
                    });
                }
                Action::SetHealth {
                    host,
                    health,
                    reason,
                } => {
                    self.changes.push(Change {
                        at: self.now,
                        host,
                        health,
                        reason,
                    });
                }
                Action::Forget { .. } => {}
            }
        }
    }

    /// Returns the time when the health of `host` first became `health`.
    fn changed_at(&self, host: usize, health: Health) -> Option<Duration> {
        let host = host.to_string();
        self.changes
            .iter()
            .find(|change| change.host == host && change.health == health)
            .map(|change| change.at)
    }
}

#[test]
fn dead_host_in_small_fleet_is_lost_within_two_seconds() {
    let mut world = World::with(3);
    let died = world.now;
    world.hosts[1] = HostState::Dead;
    world.run(Duration::from_secs(3));
    let lost = world.changed_at(1, Health::Lost).unwrap() - died;
    assert!(
        lost <= Duration::from_secs(2) && lost >= Duration::from_secs(1),
        "{lost:?}"
    );
    assert_eq!(
        world.changes.last().unwrap().reason,
        Some(Reason::NoResponders)
    );
    assert!(
        world.changes.iter().all(|change| change.host == "1"),
        "{:?}",
        world.changes
    );
}

#[test]
fn dead_host_in_large_fleet_is_lost_within_ten_seconds_and_probe_budget() {
    let mut world = World::with(3000);
    world.hosts[1234] = HostState::Dead;
    let (died, probes) = (world.now, world.probes);
    world.run(Duration::from_secs(10));
    let lost = world.changed_at(1234, Health::Lost).unwrap() - died;
    assert!(lost <= Duration::from_secs(10), "{lost:?}");
    let rate = (world.probes - probes) / 10;
    assert!((300..=400).contains(&rate), "{rate} probes a second");
}

#[test]
fn frozen_host_is_suspect_and_then_lost_at_the_deadline() {
    let mut world = World::with(3);
    world.hosts[0] = HostState::Frozen;
    world.run(Duration::from_secs(90));
    let suspect = world.changed_at(0, Health::Suspect).unwrap();
    let lost = world.changed_at(0, Health::Lost).unwrap();
    assert!(
        (13..=17).contains(&(lost - suspect).as_secs()),
        "{:?}",
        world.changes
    );
}

#[test]
fn busy_host_is_not_lost_before_its_start_deadline() {
    let mut world = World::with(3);
    world.hosts[0] = HostState::Frozen;
    let until = world.now + Duration::from_secs(120);
    world.step(Event::BusyUntil {
        host: "0".into(),
        until,
    });
    world.run(Duration::from_secs(150));
    assert!(world.changed_at(0, Health::Lost).unwrap() >= until);
}

#[test]
fn host_is_no_longer_busy_after_replying_to_its_starts() {
    let mut world = World::with(3);
    let until = world.now + Duration::from_secs(300);
    let host = || "0".to_owned();
    world.step(Event::BusyUntil {
        host: host(),
        until,
    });
    world.hosts[0] = HostState::Frozen;
    world.run(Duration::from_secs(70));
    assert_eq!(world.changed_at(0, Health::Lost), None);
    // The next check was postponed to the deadline of the start.
    world.step(Event::Idle { host: host() });
    world.run(Duration::from_secs(1));
    assert!(world.changed_at(0, Health::Lost).is_some());
}

#[test]
fn host_that_reconnects_quickly_is_not_lost() {
    let mut world = World::with(3);
    world.hosts[2] = HostState::Dead;
    world.run(Duration::from_millis(900));
    world.hosts[2] = HostState::Healthy;
    world.run(Duration::from_secs(5));
    assert_eq!(world.changed_at(2, Health::Lost), None);
    assert_eq!(world.changes.last().unwrap().health, Health::Alive);
}

#[test]
fn health_does_not_change_while_disconnected_or_settling() {
    let mut world = World::with(3);
    world.step(Event::Disconnected);
    world.hosts.fill(HostState::Dead);
    world.sends_heartbeats = false;
    world.run(Duration::from_secs(180));
    assert_eq!(world.changes, []);
    world.step(Event::Connected);
    world.run(Duration::from_secs(4));
    world.hosts.fill(HostState::Healthy);
    world.run(Duration::from_secs(10));
    assert_eq!(world.changes, []);
}

#[test]
fn loss_of_a_third_of_the_hosts_suspects_the_broker_first() {
    for hosts in [9, 1800] {
        let mut world = World::with(hosts);
        let lost_at = world.now;
        for host in (0..hosts).step_by(3) {
            world.hosts[host] = HostState::Dead;
        }
        world.run(Duration::from_secs(20));
        let lost = world
            .changes
            .iter()
            .filter(|change| change.health == Health::Lost)
            .count();
        assert_eq!(lost, 0, "of {hosts}");
        // Hosts that come back prove the broker healthy; the others are then lost immediately.
        for host in (3..hosts).step_by(3) {
            world.hosts[host] = HostState::Healthy;
        }
        world.run(Duration::from_secs(10));
        let lost = world.changed_at(0, Health::Lost).unwrap() - lost_at;
        assert!(lost < Duration::from_secs(30), "{lost:?} of {hosts}");
    }
}

#[test]
fn waits_for_hosts_that_come_back_one_by_one() {
    let mut world = World::with(6);
    let lost_at = world.now;
    for host in 0..5 {
        world.hosts[host] = HostState::Dead;
    }
    world.run(Duration::from_millis(3000));
    for host in 0..4 {
        world.hosts[host] = HostState::Healthy;
        world.run(Duration::from_millis(1500));
    }
    assert!(
        world
            .changes
            .iter()
            .all(|change| change.health != Health::Lost),
        "{:?}",
        world.changes
    );
    // The host that does not come back is lost after the settling period.
    world.run(Duration::from_secs(4));
    let lost = world.changed_at(4, Health::Lost).unwrap() - lost_at;
    assert!((12..14).contains(&lost.as_secs()), "{lost:?}");
}

#[test]
fn hosts_are_lost_at_the_deadline_if_a_mass_loss_is_permanent() {
    let mut world = World::with(6);
    world.hosts.fill(HostState::Dead);
    world.run(Duration::from_secs(80));
    for host in 0..6 {
        assert!(world.changed_at(host, Health::Lost).is_some(), "{host}");
    }
}

#[test]
fn lost_host_recovers_only_with_a_heartbeat() {
    let mut world = World::with(3);
    world.hosts[0] = HostState::Dead;
    world.run(Duration::from_secs(3));
    world.step(Event::ProbeReplied { host: "0".into() });
    assert_eq!(world.changes.last().unwrap().health, Health::Lost);
    world.step(Event::Heartbeat { host: "0".into() });
    assert_eq!(world.changes.last().unwrap().health, Health::Alive);
}

#[test]
fn host_that_reconnected_and_died_while_settling_is_lost_immediately() {
    let mut world = World::with(3);
    world.step(Event::Disconnected);
    world.step(Event::Connected);
    world.step(Event::Heartbeat { host: "1".into() });
    world.hosts[0] = HostState::Dead;
    world.hosts[1] = HostState::Dead;
    let died = world.now;
    world.run(Duration::from_secs(4));
    assert_eq!(
        world.changed_at(0, Health::Lost),
        None,
        "it may still reconnect"
    );
    assert!(world.changed_at(1, Health::Lost).unwrap() - died <= Duration::from_secs(2));
}

#[test]
fn silence_starts_when_last_heard_on_this_connection_or_when_settled() {
    let mut world = World::with(3);
    world.step(Event::Disconnected);
    world.step(Event::Connected);
    world.step(Event::Heartbeat { host: "1".into() });
    world.hosts[..2].fill(HostState::Frozen);
    let froze = world.now;
    world.run(Duration::from_secs(60));
    let lost = |host| (world.changed_at(host, Health::Lost).unwrap() - froze).as_secs();
    assert_eq!((lost(1), lost(0)), (35, 47));
}

#[test]
fn known_host_is_probed_and_lost() {
    let mut world = World::with(3);
    world.hosts.push(HostState::Dead);
    world.step(Event::Known {
        host: "3".into(),
        lost: false,
    });
    world.run(Duration::from_secs(3));
    assert!(world.changed_at(3, Health::Lost).is_some());
}

proptest! {
    #[test]
    fn healthy_host_is_never_lost_and_every_change_is_real(
        inputs in prop::collection::vec((0..7usize, 0..4u8, 1..40u64), 0..30),
    ) {
        let mut world = World::with(8);
        for (host, input, tenths) in inputs {
            match input {
                0 => world.hosts[host] = HostState::Dead,
                1 => world.hosts[host] = HostState::Frozen,
                2 => world.hosts[host] = HostState::Healthy,
                _ => {
                    world.step(Event::Disconnected);
                    world.run(Duration::from_millis(tenths * 100));
                    world.step(Event::Connected);
                }
            }
            world.run(Duration::from_millis(tenths * 200));
        }
        prop_assert_eq!(world.changed_at(7, Health::Lost), None, "host 7 is always healthy");
        let mut health = [Health::Alive; 8];
        for change in &world.changes {
            let (host, now) = (change.host.parse::<usize>().unwrap(), change.health);
            let before = std::mem::replace(&mut health[host], now);
            prop_assert_ne!(before, now);
            prop_assert!(before != Health::Lost || now == Health::Alive);
        }
    }
}

#[test]
fn silent_host_is_lost_at_the_configured_time() {
    for lost_after_s in [7, 10, 20, 35, 60] {
        let mut world = World::with_options(
            1,
            LivenessOptions {
                lost_after: Duration::from_secs(lost_after_s),
                ..LivenessOptions::default()
            },
        );
        world.hosts = vec![HostState::Frozen];
        world.sends_heartbeats = false;
        let frozen_at = world.now;
        world.run(Duration::from_secs(2 * lost_after_s));
        let [suspect, lost] = &world.changes[..] else {
            panic!("{:?}", world.changes);
        };
        assert_eq!(
            (suspect.health, lost.health),
            (Health::Suspect, Health::Lost)
        );
        let silence = lost.at - frozen_at;
        let expected = Duration::from_secs(lost_after_s);
        assert!(
            silence <= expected + Liveness::TICK && silence + Duration::from_secs(2) >= expected,
            "lost after {silence:?} instead of {expected:?}"
        );
    }
}
