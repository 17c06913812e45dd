//! A large fleet that answers at once, so that what is measured is the core.

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

use super::sim::host::{Host, says};
use super::sim::store::{Change, Store};
use super::sim::workloads::spec;

/// How long it is looked at rest first.
const REST: Duration = Duration::from_secs(15);

/// Workloads of one replica set.
const REPLICAS: usize = 100;

/// Writes under way together, as in the store on Kubernetes. All others wait, as they do there.
const WRITES_TOGETHER: usize = 32;

pub struct Fleet {
    scheduler: Scheduler,
    store: Store,
    now: Duration,
    /// Time spent in the core.
    spent: Duration,
    writes: usize,
    dead: Vec<bool>,
    /// Which host runs an id.
    runs: BTreeMap<Arc<str>, usize>,
    events: VecDeque<Event>,
    waiting: VecDeque<(WriteId, Write)>,
    numbers: BTreeMap<String, usize>,
    beat_at: Duration,
}

impl Fleet {
    pub fn new(hosts: usize, workloads: usize) -> Self {
        let mut store = Store::default();
        let now = Duration::from_secs(1000);
        for number in 0..workloads / REPLICAS {
            make_set(&mut store, now, number);
        }
        Self {
            scheduler: Scheduler::new(Options::default()),
            store,
            now,
            spent: Duration::ZERO,
            writes: 0,
            dead: vec![false; hosts],
            runs: BTreeMap::new(),
            events: VecDeque::new(),
            waiting: VecDeque::new(),
            numbers: (0..hosts)
                .map(|number| (format!("h{number}"), number))
                .collect(),
            beat_at: now,
        }
    }

    /// Tells the core of all there is.
    pub fn tell(&mut self) -> Duration {
        let (before, meter) = (self.spent, Meter::begin());
        let objects: Vec<Object> = self.store.objects.values().cloned().collect();
        for object in objects {
            self.step(Event::Applied(object));
        }
        self.step(Event::BusUp);
        self.step(Event::Synced);
        self.beat();
        self.drain();
        meter.on_cpu(self.spent - before)
    }

    /// Lets it place everything, in one step.
    pub fn place(&mut self) -> Duration {
        let (before, meter) = (self.spent, Meter::begin());
        self.now += Duration::from_secs(2);
        let began = Instant::now();
        let actions = self.scheduler.step(self.now, Event::Tick);
        self.spent += began.elapsed();
        let took = meter.on_cpu(self.spent - before);
        for action in actions {
            self.act(action);
        }
        self.drain();
        took
    }

    /// Until all run and nothing is left to say.
    pub fn settle(&mut self) {
        let until = self.now + Duration::from_secs(90);
        self.run(until);
    }

    /// So many hosts die; the time that it takes to decide what follows, without what the same while at
    /// rest takes for probes, questions and heartbeats.
    pub fn kill(&mut self, hosts: usize) -> Duration {
        let wanted = self.runs.len();
        let (at_rest, _) = self.rest(REST);
        for number in 0..hosts {
            let victim = number * 7 % self.dead.len();
            self.dead[victim] = true;
        }
        let dead = self.dead.clone();
        self.runs.retain(|_, host| !dead[*host]);
        let (before, began, meter) = (self.spent, self.now, Meter::begin());
        let limit = self.now + Duration::from_secs(120);
        while self.runs.len() < wanted && self.now < limit {
            let until = self.now + Duration::from_millis(50);
            self.run(until);
        }
        assert_eq!(self.runs.len(), wanted, "all run again");
        let at_rest = at_rest.mul_f64((self.now - began).as_secs_f64() / REST.as_secs_f64());
        let spent = meter.on_cpu(self.spent - before);
        println!(
            "{:<44} {spent:.2?} in all, {at_rest:.2?} of it as at rest",
            "while hosts die"
        );
        spent.saturating_sub(at_rest)
    }

    /// What a time at rest takes, and how much is written in it.
    pub fn rest(&mut self, time: Duration) -> (Duration, usize) {
        let (spent, writes, meter) = (self.spent, self.writes, Meter::begin());
        let until = self.now + time;
        self.run(until);
        (meter.on_cpu(self.spent - spent), self.writes - writes)
    }

    /// How many run on each host that lives.
    pub fn loads(&self) -> Vec<usize> {
        let mut loads = vec![0; self.dead.len()];
        for host in self.runs.values() {
            loads[*host] += 1;
        }
        let living = loads
            .into_iter()
            .zip(&self.dead)
            .filter(|(_, dead)| !**dead);
        living.map(|(load, _)| load).collect()
    }

    fn run(&mut self, until: Duration) {
        while self.now < until {
            let wake = self.scheduler.next_wake().unwrap_or(until);
            let next = wake
                .min(self.beat_at)
                .max(self.now + Duration::from_millis(1));
            self.now = next.min(until);
            if self.now >= self.beat_at {
                self.beat();
            }
            self.step(Event::Tick);
            self.drain();
        }
    }

    fn beat(&mut self) {
        self.beat_at = self.now + Duration::from_secs(15);
        for number in 0..self.dead.len() {
            if !self.dead[number] {
                let host = Host::new(&format!("h{number}"), &format!("host-{number}"));
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
            let together = self.waiting.len().min(WRITES_TOGETHER);
            if together == 0 {
                return;
            }
            for (write_id, write) in self.waiting.drain(..together).collect::<Vec<_>>() {
                self.write(write_id, write);
            }
        }
    }

    fn write(&mut self, write_id: WriteId, write: Write) {
        self.writes += 1;
        let (result, changes) = self.store.write(self.now, write);
        self.events.push_back(Event::Written { write_id, result });
        self.events
            .extend(changes.into_iter().map(|change| match change {
                Change::Applied(object) => Event::Applied(object),
                Change::Removed { key, uid } => Event::Removed { key, uid },
            }));
    }

    fn step(&mut self, event: Event) {
        let began = Instant::now();
        let actions = self.scheduler.step(self.now, event);
        self.spent += began.elapsed();
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Call {
                call_id,
                host_id,
                command,
                ..
            } => {
                let outcome = self.answer(&host_id, command);
                self.events.push_back(Event::Answered { call_id, outcome });
            }
            Action::Write { write_id, write } => self.waiting.push_back((write_id, write)),
            Action::Note(_) => {}
        }
    }

    fn answer(&mut self, host: &str, command: Command) -> Outcome {
        let number = self.numbers[host];
        if self.dead[number] {
            return Outcome::NoResponders;
        }
        match command {
            Command::Start { id, .. } => {
                self.runs.insert(id, number);
                says(WorkloadState::Running, "")
            }
            Command::Stop { id } => {
                self.runs.remove(&id);
                says(WorkloadState::NotFound, "")
            }
            Command::Status { id } => match self.runs.get(&id) == Some(&number) {
                true => says(WorkloadState::Running, ""),
                false => says(WorkloadState::NotFound, ""),
            },
        }
    }
}

/// A replica set with all its workloads, none of them placed.
fn make_set(store: &mut Store, now: Duration, number: usize) {
    let template = spec(&format!("registry.example/app:{}", number % 50));
    let name = format!("set-{number}");
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

/// Tells time on a processor from time that others had it.
struct Meter {
    began: Instant,
    used: Duration,
}

impl Meter {
    fn begin() -> Self {
        Self {
            began: Instant::now(),
            used: cpu_time(),
        }
    }

    /// The part of `spent` that this process was running.
    fn on_cpu(&self, spent: Duration) -> Duration {
        let wall = self.began.elapsed().as_secs_f64().max(f64::EPSILON);
        let used = cpu_time().saturating_sub(self.used).as_secs_f64();
        spent.mul_f64((used / wall).min(1.0))
    }
}

/// What the only thread has had of a processor so far; nothing where the system does not tell.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanos = text
        .split_whitespace()
        .next()
        .and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}
