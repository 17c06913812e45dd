//! A script of faults made from a seed, played in a world, and made shorter when something is wrong.

use std::fmt::Write as _;
use std::time::Duration;

use berth_proto::WorkloadState;
use berth_scheduler::api::{Key, Kind, Object, is_true};
use berth_scheduler::core::{Options, Timings};
use berth_sdk::scheduler::LivenessOptions;

use super::chance::Chance;
use super::host::{Host, Manner, Trouble};
use super::workloads::deployment_of;
use super::world::{Weather, World};

/// How long everything may take to be well after the last fault.
const CALM_LIMIT: Duration = Duration::from_secs(900);

/// How long what is written late, such as figures of hosts, may take.
const LATE: Duration = Duration::from_secs(90);

/// How long nothing may be written at the end.
const REST: Duration = Duration::from_secs(45);

/// One thing that goes wrong, or that users do.
#[derive(Clone, Debug)]
pub enum Fault {
    Host(usize, Trouble),
    /// The process is replaced by another, of the same name or a new one.
    Replace(usize, bool),
    Broker {
        away_ms: u64,
        spread_ms: u64,
    },
    Weather(u64, u64, u64),
    RestartScheduler,
    Deploy {
        name: u64,
        replicas: i32,
        image: u64,
        recreate: bool,
    },
    Undeploy(u64),
    /// A user deletes a Host object, to drain it.
    Drain(usize),
    /// A user deletes any one Workload.
    DeleteWorkload(u64),
}

/// What is played.
#[derive(Clone, Debug)]
pub struct Script {
    pub seed: u64,
    pub hosts: usize,
    /// Each fault and how long after the one before, in ms.
    pub faults: Vec<(u64, Fault)>,
}

/// What was wrong, and all that happened before if it was kept.
#[derive(Debug)]
pub struct Failure {
    pub what: String,
    pub log: Vec<String>,
}

impl Failure {
    fn of(what: String, world: World) -> Self {
        let log = world.log.unwrap_or_default();
        Self { what, log }
    }
}

impl Script {
    /// One in four is gentle: nothing in it is a reason to stop anything, or to start anything twice.
    pub fn from_seed(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let gentle = seed.is_multiple_of(4);
        let hosts = match seed % 50 {
            49 => 1000,
            _ => chance.between(2, 12) as usize,
        };
        let mut faults = Vec::new();
        for name in 0..chance.between(1, 4) {
            let (replicas, recreate) = (chance.between(1, 9) as i32, chance.percent(20));
            faults.push((
                10,
                Fault::Deploy {
                    name,
                    replicas,
                    image: 0,
                    recreate,
                },
            ));
        }
        for _ in 0..chance.between(3, 20) {
            let pause = match chance.percent(30) {
                true => chance.between(0, 200),
                false => chance.between(0, 20_000),
            };
            let fault = match gentle {
                true => gentle_fault(&mut chance),
                false => any_fault(&mut chance, hosts),
            };
            faults.push((pause, fault));
        }
        Self {
            seed,
            hosts,
            faults,
        }
    }

    pub fn is_gentle(&self) -> bool {
        self.seed.is_multiple_of(4)
    }

    /// Plays it.
    ///
    /// # Errors
    ///
    /// What was wrong.
    pub fn play(&self, log: bool) -> Result<World, Failure> {
        let mut world = World::new(self.seed, options());
        world.log = log.then(Vec::new);
        let mut chance = Chance::new(self.seed ^ 0x5eed);
        for number in 0..self.hosts {
            let mut host = Host::new(&format!("h{number}"), &format!("host-{number}"));
            if !self.is_gentle() {
                host.manner = if chance.percent(20) {
                    Manner::Serial
                } else {
                    Manner::Prompt
                };
                host.start_ms = *[(5, 50), (5, 50), (500, 8000)]
                    .get(chance.between(0, 3) as usize)
                    .unwrap_or(&(5, 50));
                host.fail_percent = if chance.percent(10) { 30 } else { 0 };
            }
            world.add_host(host);
        }
        world.run(Duration::from_secs(2));
        for (pause, fault) in &self.faults {
            world.run(Duration::from_millis(*pause));
            commit(&mut world, fault);
            if let Some(violation) = world.ledger.violation.clone() {
                return Err(Failure::of(violation, world));
            }
        }
        calm(&mut world);
        match self.judge(&mut world) {
            Ok(()) => Ok(world),
            Err(what) => Err(Failure::of(what, world)),
        }
    }

    fn judge(&self, world: &mut World) -> Result<(), String> {
        let settled = world.run_until(CALM_LIMIT, |world| {
            world.ledger.violation.is_some() || unrest(world).is_none()
        });
        if let Some(violation) = &world.ledger.violation {
            return Err(violation.clone());
        }
        if settled.is_none() {
            return Err(format!(
                "no rest after {CALM_LIMIT:?}: {}",
                unrest(world).unwrap_or_default()
            ));
        }
        let before = world.store.writes.values().sum::<usize>();
        world.run(LATE);
        let between = world.store.writes.values().sum::<usize>();
        world.run(REST);
        let after = world.store.writes.values().sum::<usize>();
        if after != between {
            return Err(format!(
                "{} writes at rest ({} before)",
                after - between,
                between - before
            ));
        }
        if let Some(violation) = &world.ledger.violation {
            return Err(violation.clone());
        }
        if let Some(what) = unrest(world) {
            return Err(format!("restless after rest: {what}"));
        }
        // What is lost is drawn for each request and reply: in the worst weather that may be all of a start.
        let mut warnings = world.ledger.warnings.iter();
        let unheard = warnings.any(|warning| warning.contains("no answer to its start"));
        if self.is_gentle() && world.ledger.stops > 0 && !unheard {
            return Err(format!(
                "{} stops though nothing gave a reason",
                world.ledger.stops
            ));
        }
        Ok(())
    }

    /// The same with as few faults as it takes.
    pub fn shrunk(&self) -> Self {
        let mut script = self.clone();
        let mut index = 0;
        while index < script.faults.len() {
            let mut shorter = script.clone();
            let (pause, _) = shorter.faults.remove(index);
            if let Some(next) = shorter.faults.get_mut(index) {
                next.0 += pause;
            }
            match shorter.play(false) {
                Err(_) => script = shorter,
                Ok(_) => index += 1,
            }
        }
        script
    }
}

fn options() -> Options {
    Options {
        timings: Timings {
            liveness: LivenessOptions {
                probe_interval: Duration::from_secs(2),
                ..Timings::default().liveness
            },
            backoff_max: Duration::from_secs(60),
            ..Timings::default()
        },
        ..Options::default()
    }
}

fn gentle_fault(chance: &mut Chance) -> Fault {
    match chance.between(0, 4) {
        0 => Fault::Broker {
            away_ms: chance.between(1, 200_000),
            spread_ms: chance.between(1, 10_000),
        },
        1 => Fault::Weather(
            chance.between(0, 30),
            chance.between(1, 3000),
            chance.between(0, 20),
        ),
        2 => Fault::RestartScheduler,
        _ => Fault::Weather(0, chance.between(1, 5000), 0),
    }
}

fn any_fault(chance: &mut Chance, hosts: usize) -> Fault {
    let host = chance.between(0, hosts as u64) as usize;
    match chance.between(0, 16) {
        0 => Fault::Host(host, Trouble::Dead),
        1 | 2 => Fault::Replace(host, chance.percent(50)),
        3 => Fault::Host(host, Trouble::Frozen),
        4 => Fault::Host(host, Trouble::CutOff),
        5 => Fault::Host(host, Trouble::Disconnected),
        6 | 7 => Fault::Host(host, Trouble::None),
        8 => Fault::Drain(host),
        9 => Fault::DeleteWorkload(chance.next()),
        10 => Fault::Undeploy(chance.between(0, 4)),
        11..=13 => Fault::Deploy {
            name: chance.between(0, 4),
            replicas: chance.between(0, 9) as i32,
            image: chance.between(0, 4),
            recreate: chance.percent(20),
        },
        _ => gentle_fault(chance),
    }
}

fn commit(world: &mut World, fault: &Fault) {
    if let Some(log) = &mut world.log {
        log.push(format!("{:?} * {fault:?}", world.now));
    }
    match fault {
        Fault::Host(host, trouble) if world.hosts[*host].trouble == Trouble::Dead => {
            let _ = trouble;
        }
        Fault::Host(host, trouble) => world.trouble(*host, *trouble),
        Fault::Replace(host, renamed) => {
            let before = &world.hosts[*host];
            let number = world.hosts.len();
            let name = if *renamed {
                format!("host-{number}")
            } else {
                before.name.clone()
            };
            let mut next = Host::new(&format!("h{number}"), &name);
            (next.manner, next.start_ms) = (before.manner, before.start_ms);
            world.trouble(*host, Trouble::Dead);
            world.add_host(next);
        }
        Fault::Broker { away_ms, spread_ms } => {
            world.broker_down();
            world.run(Duration::from_millis(*away_ms));
            world.broker_back(*spread_ms);
        }
        Fault::Weather(loss_percent, lag_ms, write_failure_percent) => {
            world.weather = Weather {
                loss_percent: *loss_percent,
                lag_ms: *lag_ms,
                write_failure_percent: *write_failure_percent,
            };
        }
        Fault::RestartScheduler => world.restart_scheduler(),
        Fault::Deploy {
            name,
            replicas,
            image,
            recreate,
        } => {
            let policy = if *recreate { "Recreate" } else { "" };
            let spec = super::workloads::spec(&format!("image:{image}"));
            world.apply(deployment_of(&format!("d{name}"), *replicas, policy, spec));
        }
        Fault::Undeploy(name) => {
            let key = Key::new(Kind::WorkloadDeployment, "demo", format!("d{name}"));
            match name.is_multiple_of(2) {
                true => world.delete(&key),
                false => world.delete_in_foreground(&key),
            }
        }
        Fault::Drain(host) => {
            let key = Key::new(Kind::Host, "default", world.hosts[*host].name.as_str());
            world.delete(&key);
        }
        Fault::DeleteWorkload(number) => {
            let keys: Vec<Key> = world
                .store
                .of_kind(Kind::Workload)
                .map(Object::key)
                .collect();
            if !keys.is_empty() {
                world.delete(&keys[*number as usize % keys.len()].clone());
            }
        }
    }
}

/// All faults cease: what is away comes back, what is dead stays so, and one good host there is.
fn calm(world: &mut World) {
    world.weather = Weather::FAIR;
    world.broker_back(5000);
    for host in 0..world.hosts.len() {
        world.hosts[host].fail_percent = 0;
        if world.hosts[host].trouble != Trouble::Dead {
            world.trouble(host, Trouble::None);
        }
    }
    if world.hosts.iter().all(|host| host.trouble == Trouble::Dead) {
        world.add_host(Host::new("last", "last"));
    }
}

/// What is not as it should be in the end.
fn unrest(world: &World) -> Option<String> {
    for object in world.store.objects.values() {
        if object.metadata().is_deleting() {
            return Some(format!("{} is still going", object.key()));
        }
        let (Object::Deployment(deployment), key) = (object, object.key()) else {
            continue;
        };
        let status = deployment.status.clone().unwrap_or_default();
        let counts = status.replicas.unwrap_or_default();
        let wanted = deployment.spec.replicas() as i32;
        if !is_true(&status.conditions, "Ready")
            || counts.ready != wanted
            || counts.current != wanted
        {
            return Some(format!("{key} is not ready: {status:?}"));
        }
    }
    let (wanted, running) = (world.wanted(), world.running());
    if wanted != running {
        let mut text = String::new();
        let _ = write!(
            text,
            "missing {:?}, ",
            wanted.difference(&running).collect::<Vec<_>>()
        );
        let _ = write!(
            text,
            "unwanted {:?}",
            running.difference(&wanted).collect::<Vec<_>>()
        );
        return Some(text);
    }
    let held: usize = world.hosts.iter().map(|host| host.held().count()).sum();
    if held != running.len() {
        return Some(format!("{held} ids are held and {} run", running.len()));
    }
    let failed = world.hosts.iter().flat_map(|host| host.entries.values());
    let failed = failed
        .filter(|entry| entry.state == WorkloadState::Error)
        .count();
    if failed > 0 {
        return Some(format!("{failed} failed ones were not stopped"));
    }
    let deployments =
        world
            .store
            .of_kind(Kind::WorkloadDeployment)
            .filter_map(|object| match object {
                Object::Deployment(deployment) => Some(deployment.spec.replicas() as usize),
                _ => None,
            });
    let expected: usize = deployments.sum();
    (running.len() != expected).then(|| format!("{} run of {expected}", running.len()))
}
