//! A large simulated fleet that replies at once, so that only the core is measured.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_proto::WorkloadState;
use berth_scheduler::api::{
    Kind, Metadata, Object, OwnerReference, Workload, WorkloadReplicaSet, WorkloadReplicaSetSpec,
    WorkloadTemplate, names,
};
use berth_scheduler::core::{Action, Command, Event, Options, Outcome, Scheduler, Write, WriteId};
use berth_scheduler::revision::revision;

use super::sim::host::{Host, status_outcome};
use super::sim::store::{Change, Store};
use super::sim::workloads::spec;

/// Duration of the measurement of the idle fleet.
const IDLE_DURATION: Duration = Duration::from_secs(15);

/// Replicas of each set.
const REPLICAS: usize = 100;

/// Maximum number of writes in flight, as in the Kubernetes store.
const WRITES_IN_FLIGHT: usize = 32;

pub struct Fleet {
    scheduler: Scheduler,
    store: Store,
    now: Duration,
    /// Time spent in the core.
    spent: Duration,
    writes: usize,
    dead: Vec<bool>,
    /// The host of each running id.
    host_of: BTreeMap<Arc<str>, usize>,
    events: VecDeque<Event>,
    pending_writes: VecDeque<(WriteId, Write)>,
    host_indexes: BTreeMap<String, usize>,
    heartbeat_at: Duration,
}

impl Fleet {
    pub fn new(hosts: usize, workloads: usize) -> Self {
        let mut store = Store::default();
        let now = Duration::from_secs(1000);
        for index in 0..workloads / REPLICAS {
            create_set(&mut store, now, index);
        }
        Self {
            scheduler: Scheduler::new(Options::default()),
            store,
            now,
            spent: Duration::ZERO,
            writes: 0,
            dead: vec![false; hosts],
            host_of: BTreeMap::new(),
            events: VecDeque::new(),
            pending_writes: VecDeque::new(),
            host_indexes: (0..hosts)
                .map(|index| (format!("h{index}"), index))
                .collect(),
            heartbeat_at: now,
        }
    }

    /// Passes all objects and heartbeats to the core.
    pub fn sync(&mut self) -> Duration {
        let (before, meter) = (self.spent, Meter::start());
        let objects: Vec<Object> = self.store.objects.values().cloned().collect();
        for object in objects {
            self.step(Event::Applied(object));
        }
        self.step(Event::BusConnected);
        self.step(Event::Synced);
        self.publish_heartbeats();
        self.drain();
        meter.on_cpu(self.spent - before)
    }

    /// Places all workloads in one step.
    pub fn place(&mut self) -> Duration {
        let (before, meter) = (self.spent, Meter::start());
        self.now += Duration::from_secs(2);
        let started_at = Instant::now();
        let actions = self.scheduler.step(self.now, Event::Tick);
        self.spent += started_at.elapsed();
        let took = meter.on_cpu(self.spent - before);
        for action in actions {
            self.perform(action);
        }
        self.drain();
        took
    }

    /// Runs until all workloads are in their desired state.
    pub fn settle(&mut self) {
        let until = self.now + Duration::from_secs(90);
        self.run(until);
    }

    /// Kills hosts and returns the time of the decisions until all workloads run again, less the
    /// time that an idle fleet spends on probes, polls and heartbeats.
    pub fn kill(&mut self, hosts: usize) -> Duration {
        let wanted = self.host_of.len();
        let (idle, _) = self.idle(IDLE_DURATION);
        for index in 0..hosts {
            let victim = index * 7 % self.dead.len();
            self.dead[victim] = true;
        }
        let dead = self.dead.clone();
        self.host_of.retain(|_, host| !dead[*host]);
        let (before, started_at, meter) = (self.spent, self.now, Meter::start());
        let limit = self.now + Duration::from_secs(120);
        while self.host_of.len() < wanted && self.now < limit {
            let until = self.now + Duration::from_millis(50);
            self.run(until);
        }
        assert_eq!(self.host_of.len(), wanted, "all run again");
        let idle =
            idle.mul_f64((self.now - started_at).as_secs_f64() / IDLE_DURATION.as_secs_f64());
        let spent = meter.on_cpu(self.spent - before);
        println!(
            "{:<44} {spent:.2?}, of which {idle:.2?} as when idle",
            "until replacement of the dead hosts' workloads"
        );
        spent.saturating_sub(idle)
    }

    /// Runs an idle fleet and returns the time in the core and the number of writes.
    pub fn idle(&mut self, time: Duration) -> (Duration, usize) {
        let (spent, writes, meter) = (self.spent, self.writes, Meter::start());
        let until = self.now + time;
        self.run(until);
        (meter.on_cpu(self.spent - spent), self.writes - writes)
    }

    /// Returns the number of workloads on each live host.
    pub fn loads(&self) -> Vec<usize> {
        let mut loads = vec![0; self.dead.len()];
        for host in self.host_of.values() {
            loads[*host] += 1;
        }
        let live = loads
            .into_iter()
            .zip(&self.dead)
            .filter(|(_, dead)| !**dead);
        live.map(|(load, _)| load).collect()
    }

    fn run(&mut self, until: Duration) {
        while self.now < until {
            let wake = self.scheduler.next_wake_at().unwrap_or(until);
            let next = wake
                .min(self.heartbeat_at)
                .max(self.now + Duration::from_millis(1));
            self.now = next.min(until);
            if self.now >= self.heartbeat_at {
                self.publish_heartbeats();
            }
            self.step(Event::Tick);
            self.drain();
        }
    }

    fn publish_heartbeats(&mut self) {
        self.heartbeat_at = self.now + Duration::from_secs(15);
        for index in 0..self.dead.len() {
            if !self.dead[index] {
                let host = Host::new(&format!("h{index}"), &format!("host-{index}"));
                self.events
                    .push_back(Event::Heartbeat(Box::new(host.heartbeat())));
            }
        }
    }

    fn drain(&mut self) {
        loop {
            while let Some(event) = self.events.pop_front() {
                self.step(event);
            }
            let batch = self.pending_writes.len().min(WRITES_IN_FLIGHT);
            if batch == 0 {
                return;
            }
            for (write_id, write) in self.pending_writes.drain(..batch).collect::<Vec<_>>() {
                self.write(write_id, write);
            }
        }
    }

    fn write(&mut self, write_id: WriteId, write: Write) {
        self.writes += 1;
        let (result, changes) = self.store.write(self.now, write);
        self.events
            .push_back(Event::WriteFinished { write_id, result });
        self.events
            .extend(changes.into_iter().map(|change| match change {
                Change::Applied(object) => Event::Applied(object),
                Change::Removed { key, uid } => Event::Removed { key, uid },
            }));
    }

    fn step(&mut self, event: Event) {
        let started_at = Instant::now();
        let actions = self.scheduler.step(self.now, event);
        self.spent += started_at.elapsed();
        for action in actions {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Call {
                call_id,
                host_id,
                command,
                ..
            } => {
                let outcome = self.execute(&host_id, command);
                self.events
                    .push_back(Event::CallFinished { call_id, outcome });
            }
            Action::Write { write_id, write } => self.pending_writes.push_back((write_id, write)),
            Action::RecordEvent(_) => {}
        }
    }

    fn execute(&mut self, host: &str, command: Command) -> Outcome {
        let index = self.host_indexes[host];
        if self.dead[index] {
            return Outcome::NoResponders;
        }
        match command {
            Command::Start { id, .. } => {
                self.host_of.insert(id, index);
                status_outcome(WorkloadState::Running, "")
            }
            Command::Stop { id } => {
                self.host_of.remove(&id);
                status_outcome(WorkloadState::NotFound, "")
            }
            Command::Status { id } => {
                if self.host_of.get(&id) == Some(&index) {
                    status_outcome(WorkloadState::Running, "")
                } else {
                    status_outcome(WorkloadState::NotFound, "")
                }
            }
            Command::Heartbeat => Outcome::TimedOut,
        }
    }
}

/// Creates a replica set with all its workloads, none of them placed.
fn create_set(store: &mut Store, now: Duration, index: usize) {
    let template = spec(&format!("registry.example/app:{}", index % 50));
    let name = format!("set-{index}");
    let set = WorkloadReplicaSet {
        metadata: Metadata::named("demo", name.as_str()),
        spec: WorkloadReplicaSetSpec {
            replicas: i32::try_from(REPLICAS).ok(),
            template: WorkloadTemplate {
                spec: template.clone(),
                ..WorkloadTemplate::default()
            },
            ..WorkloadReplicaSetSpec::default()
        },
        ..WorkloadReplicaSet::default()
    };
    let set = store
        .put(Object::ReplicaSet(Arc::new(set)), now)
        .0
        .expect("a set");
    let hash = revision(&template);
    for replica in 0..REPLICAS {
        let mut metadata = Metadata::named("demo", format!("{name}-{replica}"));
        metadata.finalizers = vec![names::WORKLOAD_FINALIZER.to_owned()];
        metadata
            .annotations
            .insert(names::REVISION_ANNOTATION.to_owned(), hash.clone());
        metadata.owner_references = vec![OwnerReference::controller(
            Kind::WorkloadReplicaSet,
            set.metadata(),
        )];
        let workload = Workload {
            metadata,
            spec: template.clone(),
            ..Workload::default()
        };
        let _ = store.put(Object::Workload(Arc::new(workload)), now);
    }
}

/// Separates processor time of this process from time of other processes.
struct Meter {
    started_at: Instant,
    used: Duration,
}

impl Meter {
    fn start() -> Self {
        Self {
            started_at: Instant::now(),
            used: cpu_time(),
        }
    }

    /// Returns the part of `spent` in which this process was running.
    fn on_cpu(&self, spent: Duration) -> Duration {
        let wall = self.started_at.elapsed().as_secs_f64().max(f64::EPSILON);
        let used = cpu_time().saturating_sub(self.used).as_secs_f64();
        spent.mul_f64((used / wall).min(1.0))
    }
}

/// Returns the processor time of the only thread so far; zero where the system does not report it.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanos = text
        .split_whitespace()
        .next()
        .and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}
