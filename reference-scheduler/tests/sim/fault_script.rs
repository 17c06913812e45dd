//! Fault scripts: generated from a seed, run in a simulated world, and minimized after a failure.

use std::fmt::Write as _;
use std::time::Duration;

use berth_proto::WorkloadState;
use berth_scheduler::api::{Key, Kind, Object, is_true};
use berth_scheduler::core::{Options, Timings};
use berth_sdk::scheduler::LivenessOptions;

use super::host::{Host, HostBehavior, HostFault};
use super::rng::Rng;
use super::workloads::{DEFAULT_POLICY, deployment_with};
use super::world::{FaultRates, World};

/// Time limit for everything to settle after the last fault.
const SETTLE_LIMIT: Duration = Duration::from_secs(900);

/// Time for delayed writes, such as figures of hosts.
const DELAYED_WRITES: Duration = Duration::from_secs(90);

/// Time at the end during which nothing may be written.
const IDLE_PERIOD: Duration = Duration::from_secs(45);

/// A fault, or an action of a user.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Sets the fault of the host with this index.
    Host(usize, HostFault),
    /// Replaces the process of the host with this index by a new process; `true` gives the new host
    /// a new name.
    Replace(usize, bool),
    /// Stops the broker for `away_ms`; afterwards the hosts reconnect within `spread_ms`.
    Broker {
        away_ms: u64,
        spread_ms: u64,
    },
    /// Sets the three rates of [`FaultRates`], in the order of its fields.
    Rates(u64, u64, u64),
    RestartScheduler,
    /// Applies the deployment `d{name}` with `image:{image}`.
    Deploy {
        name: u64,
        replicas: i32,
        image: u64,
        recreate: bool,
    },
    /// Deletes the deployment with this name, with foreground propagation if the name is odd.
    Undeploy(u64),
    /// Deletes the Host object of the host with this index, which drains the host.
    Drain(usize),
    /// Deletes the Workload with this index, modulo the number of Workloads.
    DeleteWorkload(u64),
}

/// A script of faults.
#[derive(Clone, Debug)]
pub struct Script {
    pub seed: u64,
    pub hosts: usize,
    /// Faults, each with its delay after the previous fault, in ms.
    pub faults: Vec<(u64, Fault)>,
}

/// The first failure of a run.
#[derive(Debug)]
pub struct Failure {
    pub message: String,
    /// The log up to the failure; empty without logging.
    pub log: Vec<String>,
}

impl Failure {
    fn new(message: String, world: World) -> Self {
        let log = world.log.unwrap_or_default();
        Self { message, log }
    }
}

impl Script {
    /// Generates a script. Every fourth script is gentle: its faults are no reason to stop a
    /// workload or to start one again.
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let gentle = seed.is_multiple_of(4);
        let hosts = match seed % 50 {
            49 => 1000,
            _ => rng.between(2, 12) as usize,
        };
        let mut faults = Vec::new();
        for name in 0..rng.between(1, 4) {
            let (replicas, recreate) = (rng.between(1, 9) as i32, rng.percent(20));
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
        for _ in 0..rng.between(3, 20) {
            let delay = if rng.percent(30) {
                rng.between(0, 200)
            } else {
                rng.between(0, 20_000)
            };
            let fault = if gentle {
                gentle_fault(&mut rng)
            } else {
                any_fault(&mut rng, hosts)
            };
            faults.push((delay, fault));
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

    /// Runs the script without a log.
    ///
    /// # Errors
    ///
    /// Returns the first failure.
    pub fn run(&self) -> Result<World, Failure> {
        self.run_in(World::new(self.seed, options()))
    }

    /// Runs the script and logs every event and action.
    ///
    /// # Errors
    ///
    /// Returns the first failure.
    pub fn run_logged(&self) -> Result<World, Failure> {
        let mut world = World::new(self.seed, options());
        world.log = Some(Vec::new());
        self.run_in(world)
    }

    fn run_in(&self, mut world: World) -> Result<World, Failure> {
        let mut rng = Rng::new(self.seed ^ 0x5eed);
        for number in 0..self.hosts {
            let mut host = Host::new(&format!("h{number}"), &format!("host-{number}"));
            if !self.is_gentle() {
                host.behavior = if rng.percent(20) {
                    HostBehavior::Serial
                } else {
                    HostBehavior::Prompt
                };
                host.start_ms = *[(5, 50), (5, 50), (500, 8000)]
                    .get(rng.between(0, 3) as usize)
                    .unwrap_or(&(5, 50));
                host.fail_percent = if rng.percent(10) { 30 } else { 0 };
            }
            world.add_host(host);
        }
        world.run(Duration::from_secs(2));
        for (delay, fault) in &self.faults {
            world.run(Duration::from_millis(*delay));
            inject(&mut world, fault);
            if let Some(violation) = world.invariants.violation.clone() {
                return Err(Failure::new(violation, world));
            }
        }
        end_faults(&mut world);
        match self.check_outcome(&mut world) {
            Ok(()) => Ok(world),
            Err(message) => Err(Failure::new(message, world)),
        }
    }

    fn check_outcome(&self, world: &mut World) -> Result<(), String> {
        let settled = world.run_until(SETTLE_LIMIT, |world| {
            world.invariants.violation.is_some() || unsettled(world).is_none()
        });
        if let Some(violation) = &world.invariants.violation {
            return Err(violation.clone());
        }
        if settled.is_none() {
            return Err(format!(
                "not settled after {SETTLE_LIMIT:?}: {}",
                unsettled(world).unwrap_or_default()
            ));
        }
        let before = world.store.writes.values().sum::<usize>();
        world.run(DELAYED_WRITES);
        let between = world.store.writes.values().sum::<usize>();
        world.run(IDLE_PERIOD);
        let after = world.store.writes.values().sum::<usize>();
        if after != between {
            return Err(format!(
                "{} writes when idle ({} before)",
                after - between,
                between - before
            ));
        }
        if let Some(violation) = &world.invariants.violation {
            return Err(violation.clone());
        }
        if let Some(message) = unsettled(world) {
            return Err(format!("no longer settled: {message}"));
        }
        // Each request and reply may be lost. At the highest rate, every request and reply of a
        // start may be lost, which is a reason for a stop.
        let mut warnings = world.invariants.warnings.iter();
        let start_timed_out =
            warnings.any(|warning| warning.contains("no reply to the start within"));
        if self.is_gentle() && world.invariants.stops > 0 && !start_timed_out {
            return Err(format!("{} unnecessary stops", world.invariants.stops));
        }
        Ok(())
    }

    /// Returns a script that still fails, with as few faults of this script as possible.
    pub fn minimized(&self) -> Self {
        let mut script = self.clone();
        let mut index = 0;
        while index < script.faults.len() {
            let mut shorter = script.clone();
            let (delay, _) = shorter.faults.remove(index);
            if let Some(next) = shorter.faults.get_mut(index) {
                next.0 += delay;
            }
            match shorter.run() {
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

fn gentle_fault(rng: &mut Rng) -> Fault {
    match rng.between(0, 4) {
        0 => Fault::Broker {
            away_ms: rng.between(1, 200_000),
            spread_ms: rng.between(1, 10_000),
        },
        1 => Fault::Rates(rng.between(0, 30), rng.between(1, 3000), rng.between(0, 20)),
        2 => Fault::RestartScheduler,
        _ => Fault::Rates(0, rng.between(1, 5000), 0),
    }
}

fn any_fault(rng: &mut Rng, hosts: usize) -> Fault {
    let host = rng.between(0, hosts as u64) as usize;
    match rng.between(0, 16) {
        0 => Fault::Host(host, HostFault::Dead),
        1 | 2 => Fault::Replace(host, rng.percent(50)),
        3 => Fault::Host(host, HostFault::Frozen),
        4 => Fault::Host(host, HostFault::CutOff),
        5 => Fault::Host(host, HostFault::Disconnected),
        6 | 7 => Fault::Host(host, HostFault::None),
        8 => Fault::Drain(host),
        9 => Fault::DeleteWorkload(rng.next()),
        10 => Fault::Undeploy(rng.between(0, 4)),
        11..=13 => Fault::Deploy {
            name: rng.between(0, 4),
            replicas: rng.between(0, 9) as i32,
            image: rng.between(0, 4),
            recreate: rng.percent(20),
        },
        _ => gentle_fault(rng),
    }
}

fn inject(world: &mut World, fault: &Fault) {
    if let Some(log) = &mut world.log {
        log.push(format!("{:?} * {fault:?}", world.now));
    }
    match fault {
        Fault::Host(host, fault) if world.hosts[*host].fault == HostFault::Dead => {
            let _ = fault;
        }
        Fault::Host(host, fault) => world.set_fault(*host, *fault),
        Fault::Replace(host, renamed) => {
            let before = &world.hosts[*host];
            let number = world.hosts.len();
            let name = if *renamed {
                format!("host-{number}")
            } else {
                before.name.clone()
            };
            let mut next = Host::new(&format!("h{number}"), &name);
            (next.behavior, next.start_ms) = (before.behavior, before.start_ms);
            world.set_fault(*host, HostFault::Dead);
            world.add_host(next);
        }
        Fault::Broker { away_ms, spread_ms } => {
            world.stop_broker();
            world.run(Duration::from_millis(*away_ms));
            world.restart_broker(*spread_ms);
        }
        Fault::Rates(loss_percent, watch_lag_ms, write_failure_percent) => {
            world.fault_rates = FaultRates {
                loss_percent: *loss_percent,
                watch_lag_ms: *watch_lag_ms,
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
            let deploy_policy = if *recreate {
                "Recreate"
            } else {
                DEFAULT_POLICY
            };
            let spec = super::workloads::spec(&format!("image:{image}"));
            let name = format!("d{name}");
            world.apply(deployment_with(&name, *replicas, deploy_policy, spec));
        }
        Fault::Undeploy(name) => {
            let key = Key::new(Kind::WorkloadDeployment, "demo", format!("d{name}"));
            if name.is_multiple_of(2) {
                world.delete(&key);
            } else {
                world.delete_in_foreground(&key);
            }
        }
        Fault::Drain(host) => {
            let key = Key::new(Kind::Host, "default", world.hosts[*host].name.as_str());
            world.delete(&key);
        }
        Fault::DeleteWorkload(selector) => delete_workload(world, *selector),
    }
}

fn delete_workload(world: &mut World, selector: u64) {
    let workloads = world.store.of_kind(Kind::Workload);
    let keys: Vec<Key> = workloads.map(Object::key).collect();
    if !keys.is_empty() {
        world.delete(&keys[selector as usize % keys.len()].clone());
    }
}

/// Ends all faults: disconnected hosts return, dead hosts do not return, and at least one host is
/// healthy.
fn end_faults(world: &mut World) {
    world.fault_rates = FaultRates::NONE;
    world.restart_broker(5000);
    for host in 0..world.hosts.len() {
        world.hosts[host].fail_percent = 0;
        if world.hosts[host].fault != HostFault::Dead {
            world.set_fault(host, HostFault::None);
        }
    }
    if world.hosts.iter().all(|host| host.fault == HostFault::Dead) {
        world.add_host(Host::new("last", "last"));
    }
}

/// Returns a description of the first object or id that is not in its desired state.
fn unsettled(world: &World) -> Option<String> {
    for object in world.store.objects.values() {
        if object.metadata().is_deleting() {
            return Some(format!("{} is still being deleted", object.key()));
        }
        let (Object::Deployment(deployment), key) = (object, object.key()) else {
            continue;
        };
        let status = deployment.status.clone().unwrap_or_default();
        let counts = status.replicas.unwrap_or_default();
        let replicas = deployment.spec.replicas() as i32;
        if !is_true(&status.conditions, "Ready")
            || counts.ready != replicas
            || counts.current != replicas
        {
            return Some(format!("{key} is not ready: {status:?}"));
        }
    }
    let (wanted, running) = (world.wanted_ids(), world.running_ids());
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
    let active: usize = world
        .hosts
        .iter()
        .map(|host| host.active_ids().count())
        .sum();
    if active != running.len() {
        return Some(format!("{active} ids are active and {} run", running.len()));
    }
    let failed = world.hosts.iter().flat_map(|host| host.entries.values());
    let failed = failed
        .filter(|entry| entry.state == WorkloadState::Error)
        .count();
    if failed > 0 {
        return Some(format!("{failed} failed ids were not stopped"));
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
