//! The rules of liveness, played through in simulated time with simulated hosts.

use proptest::prelude::*;

use super::*;

/// What a simulated host is like.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Well,
    Dead,
    Frozen,
}

/// Hosts, a broker and a scheduler's view of them, in simulated time.
struct World {
    liveness: Liveness,
    now: Duration,
    hosts: Vec<Kind>,
    beats: bool,
    probes: usize,
    told: Vec<(Duration, String, Health, Option<Reason>)>,
}

impl World {
    fn with(hosts: usize) -> Self {
        let liveness = Liveness::new(LivenessOptions::default());
        let (now, hosts, told) = (Duration::ZERO, vec![Kind::Well; hosts], Vec::new());
        let mut world = Self {
            liveness,
            now,
            hosts,
            beats: true,
            probes: 0,
            told,
        };
        world.step(Event::LinkUp);
        for host in 0..world.hosts.len() {
            world.step(Event::Heartbeat {
                host: host.to_string(),
            });
        }
        world.run(Duration::from_secs(15));
        assert_eq!(world.told, []);
        world
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += Liveness::TICK;
            self.step(Event::Tick);
            let second = self.now.subsec_nanos() == 0;
            if second && self.beats && self.now.as_secs().is_multiple_of(15) {
                for host in 0..self.hosts.len() {
                    if self.hosts[host] == Kind::Well {
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
                    let kind = self.hosts[host.parse::<usize>().unwrap()];
                    self.step(match kind {
                        Kind::Well => Event::Answered { host },
                        Kind::Dead => Event::NoResponders { host },
                        Kind::Frozen => Event::NoAnswer { host },
                    });
                }
                Action::Tell {
                    host,
                    health,
                    reason,
                } => {
                    self.told.push((self.now, host, health, reason));
                }
                Action::Forget { .. } => {}
            }
        }
    }

    /// When this host was told to be so.
    fn told(&self, host: usize, health: Health) -> Option<Duration> {
        let host = host.to_string();
        self.told
            .iter()
            .find(|told| told.1 == host && told.2 == health)
            .map(|told| told.0)
    }
}

#[test]
fn a_dead_host_in_a_small_fleet_is_lost_within_two_seconds() {
    let mut world = World::with(3);
    let died = world.now;
    world.hosts[1] = Kind::Dead;
    world.run(Duration::from_secs(3));
    let lost = world.told(1, Health::Lost).unwrap() - died;
    assert!(
        lost <= Duration::from_secs(2) && lost >= Duration::from_secs(1),
        "{lost:?}"
    );
    assert_eq!(world.told.last().unwrap().3, Some(Reason::NoResponders));
    assert!(
        world.told.iter().all(|told| told.1 == "1"),
        "{:?}",
        world.told
    );
}

#[test]
fn a_dead_host_among_thousands_is_lost_within_ten_seconds_and_within_the_budget() {
    let mut world = World::with(3000);
    world.hosts[1234] = Kind::Dead;
    let (died, probes) = (world.now, world.probes);
    world.run(Duration::from_secs(10));
    let lost = world.told(1234, Health::Lost).unwrap() - died;
    assert!(lost <= Duration::from_secs(10), "{lost:?}");
    let rate = (world.probes - probes) / 10;
    assert!((300..=400).contains(&rate), "{rate} probes a second");
}

#[test]
fn a_frozen_host_is_suspect_and_then_lost_at_the_deadline() {
    let mut world = World::with(3);
    world.hosts[0] = Kind::Frozen;
    world.run(Duration::from_secs(90));
    let suspect = world.told(0, Health::Suspect).unwrap();
    let lost = world.told(0, Health::Lost).unwrap();
    assert!(
        (13..=17).contains(&(lost - suspect).as_secs()),
        "{:?}",
        world.told
    );
}

#[test]
fn a_busy_host_is_not_lost_before_its_start_deadline() {
    let mut world = World::with(3);
    world.hosts[0] = Kind::Frozen;
    let until = world.now + Duration::from_secs(120);
    world.step(Event::BusyUntil {
        host: "0".into(),
        until,
    });
    world.run(Duration::from_secs(150));
    assert!(world.told(0, Health::Lost).unwrap() >= until);
}

#[test]
fn a_host_that_has_answered_its_starts_is_not_busy_any_longer() {
    let mut world = World::with(3);
    let until = world.now + Duration::from_secs(300);
    let host = || "0".to_owned();
    world.step(Event::BusyUntil {
        host: host(),
        until,
    });
    world.hosts[0] = Kind::Frozen;
    world.run(Duration::from_secs(70));
    assert_eq!(world.told(0, Health::Lost), None);
    // The next look was put off to the end of the start.
    world.step(Event::Idle { host: host() });
    world.run(Duration::from_secs(1));
    assert!(world.told(0, Health::Lost).is_some());
}

#[test]
fn a_host_that_reconnects_quickly_is_not_lost() {
    let mut world = World::with(3);
    world.hosts[2] = Kind::Dead;
    world.run(Duration::from_millis(900));
    world.hosts[2] = Kind::Well;
    world.run(Duration::from_secs(5));
    assert_eq!(world.told(2, Health::Lost), None);
    assert_eq!(world.told.last().unwrap().2, Health::Alive);
}

#[test]
fn nothing_is_concluded_while_the_connection_is_away_or_settles() {
    let mut world = World::with(3);
    world.step(Event::LinkDown);
    world.hosts.fill(Kind::Dead);
    world.beats = false;
    world.run(Duration::from_secs(180));
    assert_eq!(world.told, []);
    world.step(Event::LinkUp);
    world.run(Duration::from_secs(4));
    world.hosts.fill(Kind::Well);
    world.run(Duration::from_secs(10));
    assert_eq!(world.told, []);
}

#[test]
fn when_a_third_of_the_hosts_vanish_the_broker_is_suspected_first() {
    for hosts in [9, 1800] {
        let mut world = World::with(hosts);
        let vanished = world.now;
        for host in (0..hosts).step_by(3) {
            world.hosts[host] = Kind::Dead;
        }
        world.run(Duration::from_secs(20));
        let lost = world
            .told
            .iter()
            .filter(|told| told.2 == Health::Lost)
            .count();
        assert_eq!(lost, 0, "of {hosts}");
        // Those that come back prove the broker well; those that do not are lost at once.
        for host in (3..hosts).step_by(3) {
            world.hosts[host] = Kind::Well;
        }
        world.run(Duration::from_secs(10));
        let lost = world.told(0, Health::Lost).unwrap() - vanished;
        assert!(lost < Duration::from_secs(30), "{lost:?} of {hosts}");
    }
}

#[test]
fn a_crowd_that_comes_back_one_by_one_is_waited_for() {
    let mut world = World::with(6);
    let vanished = world.now;
    for host in 0..5 {
        world.hosts[host] = Kind::Dead;
    }
    world.run(Duration::from_millis(3000));
    for host in 0..4 {
        world.hosts[host] = Kind::Well;
        world.run(Duration::from_millis(1500));
    }
    assert!(
        world.told.iter().all(|told| told.2 != Health::Lost),
        "{:?}",
        world.told
    );
    // The one that does not come with them is given up when they had their time.
    world.run(Duration::from_secs(4));
    let lost = world.told(4, Health::Lost).unwrap() - vanished;
    assert!((12..14).contains(&lost.as_secs()), "{lost:?}");
}

#[test]
fn a_mass_death_is_believed_at_the_deadline() {
    let mut world = World::with(6);
    world.hosts.fill(Kind::Dead);
    world.run(Duration::from_secs(80));
    for host in 0..6 {
        assert!(world.told(host, Health::Lost).is_some(), "{host}");
    }
}

#[test]
fn a_lost_host_returns_with_a_heartbeat_only() {
    let mut world = World::with(3);
    world.hosts[0] = Kind::Dead;
    world.run(Duration::from_secs(3));
    world.step(Event::Answered { host: "0".into() });
    assert_eq!(world.told.last().unwrap().2, Health::Lost);
    world.step(Event::Heartbeat { host: "0".into() });
    assert_eq!(world.told.last().unwrap().2, Health::Alive);
}

#[test]
fn a_host_that_came_back_and_dies_while_the_connection_settles_is_lost_at_once() {
    let mut world = World::with(3);
    world.step(Event::LinkDown);
    world.step(Event::LinkUp);
    world.step(Event::Heartbeat { host: "1".into() });
    world.hosts[0] = Kind::Dead;
    world.hosts[1] = Kind::Dead;
    let died = world.now;
    world.run(Duration::from_secs(4));
    assert_eq!(world.told(0, Health::Lost), None, "it may be on its way");
    assert!(world.told(1, Health::Lost).unwrap() - died <= Duration::from_secs(2));
}

#[test]
fn silence_counts_from_when_a_host_was_heard_on_this_connection_or_from_when_that_settled() {
    let mut world = World::with(3);
    world.step(Event::LinkDown);
    world.step(Event::LinkUp);
    world.step(Event::Heartbeat { host: "1".into() });
    world.hosts[..2].fill(Kind::Frozen);
    let froze = world.now;
    world.run(Duration::from_secs(60));
    let lost = |host| (world.told(host, Health::Lost).unwrap() - froze).as_secs();
    assert_eq!((lost(1), lost(0)), (35, 47));
}

#[test]
fn a_host_that_was_there_before_is_probed_and_judged() {
    let mut world = World::with(3);
    world.hosts.push(Kind::Dead);
    world.step(Event::Known {
        host: "3".into(),
        lost: false,
    });
    world.run(Duration::from_secs(3));
    assert!(world.told(3, Health::Lost).is_some());
}

proptest! {
    #[test]
    fn a_well_host_is_never_lost_and_no_host_changes_to_what_it_is(
        changes in prop::collection::vec((0..7usize, 0..4u8, 1..40u64), 0..30),
    ) {
        let mut world = World::with(8);
        for (host, change, tenths) in changes {
            match change {
                0 => world.hosts[host] = Kind::Dead,
                1 => world.hosts[host] = Kind::Frozen,
                2 => world.hosts[host] = Kind::Well,
                _ => {
                    world.step(Event::LinkDown);
                    world.run(Duration::from_millis(tenths * 100));
                    world.step(Event::LinkUp);
                }
            }
            world.run(Duration::from_millis(tenths * 200));
        }
        prop_assert_eq!(world.told(7, Health::Lost), None, "number 7 is always well");
        let mut health = [Health::Alive; 8];
        for (_, host, now, _) in &world.told {
            let before = std::mem::replace(&mut health[host.parse::<usize>().unwrap()], *now);
            prop_assert_ne!(before, *now);
            prop_assert!(before != Health::Lost || *now == Health::Alive);
        }
    }
}
