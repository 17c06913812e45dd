//! A simulated world in virtual time, from one seed: a scheduler, a lagging store, a lossy bus and
//! failing hosts. Times are durations since an arbitrary start.

mod faults;
mod user;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_scheduler::api::{Kind, Object};
use berth_scheduler::core::{
    Action, CallId, Command, Event, ObjectEventKind, Options, Outcome, Scheduler, StoreError,
    Write, WriteId,
};

use super::host::{Host, HostFault};
use super::invariants::Invariants;
use super::rng::Rng;
use super::store::{Change, Store};

/// The current rates of random faults.
#[derive(Clone, Copy, Debug)]
pub struct FaultRates {
    /// Lost requests and replies, in percent.
    pub loss_percent: u64,
    /// Maximum lag of watch events, in ms.
    pub watch_lag_ms: u64,
    /// Writes that are reported as failed, in percent. Half of these writes take effect.
    pub write_failure_percent: u64,
}

impl FaultRates {
    /// No faults, and a small watch lag.
    pub const NONE: Self = Self {
        loss_percent: 0,
        watch_lag_ms: 20,
        write_failure_percent: 0,
    };
}

/// An event of the simulation.
#[derive(Debug)]
enum SimEvent {
    /// The scheduler receives an event.
    Deliver {
        scheduler: u32,
        event: Box<Event>,
    },
    /// A host receives a command.
    CommandArrival {
        host: usize,
        call: CallId,
        command: Command,
        scheduler: u32,
    },
    /// A host continues its work.
    HostWork {
        host: usize,
    },
    Heartbeat {
        host: usize,
    },
    CallTimeout {
        call: CallId,
        scheduler: u32,
    },
    /// The store executes a write.
    StoreWrite {
        scheduler: u32,
        write_id: WriteId,
        write: Box<Write>,
    },
    CollectGarbage,
    Reconnect {
        host: usize,
    },
}

pub struct World {
    pub now: Duration,
    pub rng: Rng,
    pub store: Store,
    pub hosts: Vec<Host>,
    pub fault_rates: FaultRates,
    pub invariants: Invariants,
    pub scheduler: Scheduler,
    options: Options,
    /// Number of the current scheduler; events for earlier ones are dropped.
    incarnation: u32,
    pub broker_up: bool,
    queue: BTreeMap<(Duration, u64), SimEvent>,
    order: u64,
    wake_at: Option<Duration>,
    /// Calls in flight, with their hosts.
    calls_in_flight: BTreeMap<CallId, usize>,
    /// Arrival of the most recent command at each host, which keeps commands in order.
    last_arrival_at: BTreeMap<usize, Duration>,
    /// Delivery of the most recent watch event of each kind, which keeps events in order.
    last_watch_at: BTreeMap<Kind, Duration>,
    /// Next scheduled work of each host.
    work_at: BTreeMap<usize, Duration>,
    heartbeat_interval: Duration,
    /// Time for which a start reads ConfigMaps and Secrets before it is sent.
    pub time_to_read_references: Duration,
    pub steps: u64,
    pub log: Option<Vec<String>>,
}

impl World {
    pub fn new(seed: u64, options: Options) -> Self {
        let mut world = Self {
            now: Duration::from_secs(1000),
            rng: Rng::new(seed),
            store: Store::default(),
            hosts: Vec::new(),
            fault_rates: FaultRates::NONE,
            invariants: Invariants::default(),
            scheduler: Scheduler::new(options.clone()),
            options,
            incarnation: 0,
            broker_up: true,
            queue: BTreeMap::new(),
            order: 0,
            wake_at: None,
            calls_in_flight: BTreeMap::new(),
            last_arrival_at: BTreeMap::new(),
            last_watch_at: BTreeMap::new(),
            work_at: BTreeMap::new(),
            heartbeat_interval: Duration::from_secs(15),
            time_to_read_references: Duration::ZERO,
            steps: 0,
            log: None,
        };
        world.start_scheduler();
        world.schedule(Duration::from_secs(2), SimEvent::CollectGarbage);
        world
    }

    // Methods for tests.

    pub fn add_host(&mut self, host: Host) -> usize {
        self.hosts.push(host);
        let host = self.hosts.len() - 1;
        let first = Duration::from_millis(self.rng.between(0, 200));
        self.schedule(first, SimEvent::Heartbeat { host });
        host
    }

    pub fn add_hosts(&mut self, count: usize) {
        for number in 0..count {
            self.add_host(Host::new(&format!("h{number}"), &format!("host-{number}")));
        }
    }

    fn start_scheduler(&mut self) {
        self.wake_at = None;
        let objects: Vec<Object> = self.store.objects.values().cloned().collect();
        for object in objects {
            self.deliver_in(Duration::from_millis(5), Event::Applied(object));
        }
        self.deliver_in(Duration::from_millis(6), Event::Synced);
        if self.broker_up {
            self.deliver_in(Duration::from_millis(10), Event::BusConnected);
        }
    }

    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.advance(until) {}
        self.now = until;
    }

    /// Runs until a condition holds and returns how long that took, or `None` after `limit`.
    pub fn run_until(
        &mut self,
        limit: Duration,
        mut holds: impl FnMut(&Self) -> bool,
    ) -> Option<Duration> {
        let (started_at, until) = (self.now, self.now + limit);
        while !holds(self) {
            if !self.advance(until) {
                self.now = until;
                return holds(self).then(|| self.now - started_at);
            }
        }
        Some(self.now - started_at)
    }

    // The simulation.

    /// Advances to the next event and returns whether there was one before `until`.
    fn advance(&mut self, until: Duration) -> bool {
        let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
        let next = queued.into_iter().chain(self.wake_at).min();
        let Some(next) = next.filter(|next| *next <= until) else {
            return false;
        };
        self.now = self.now.max(next);
        if queued == Some(next) {
            if let Some((_, event)) = self.queue.pop_first() {
                self.handle(event);
            }
        } else {
            self.step(Event::Tick);
        }
        true
    }

    fn handle(&mut self, event: SimEvent) {
        match event {
            SimEvent::Deliver { scheduler, event } => {
                if scheduler == self.incarnation && !self.is_stale(&event) {
                    self.step(*event);
                }
            }
            SimEvent::CommandArrival {
                host,
                call,
                command,
                scheduler,
            } => {
                let call = bus_call_id(call, scheduler);
                let replies = self.hosts[host].receive(self.now, call, command, &mut self.rng);
                self.reply(host, replies);
            }
            SimEvent::HostWork { host } => {
                if self.work_at.get(&host).is_some_and(|at| *at <= self.now) {
                    self.work_at.remove(&host);
                }
                let replies = self.hosts[host].work(self.now, &mut self.rng);
                self.reply(host, replies);
            }
            SimEvent::Heartbeat { host } => {
                if self.hosts[host].fault == HostFault::Dead {
                    return;
                }
                if self.hosts[host].sends_heartbeats(self.now) && self.broker_up {
                    self.publish_heartbeat(host);
                }
                self.schedule(self.heartbeat_interval, SimEvent::Heartbeat { host });
            }
            SimEvent::Reconnect { host } => {
                let connecting = &mut self.hosts[host];
                if connecting.fault == HostFault::Disconnected && self.broker_up {
                    connecting.fault = HostFault::None;
                }
                if connecting.fault == HostFault::None && self.broker_up {
                    self.publish_heartbeat(host);
                    let replies = self.hosts[host].work(self.now, &mut self.rng);
                    self.reply(host, replies);
                }
            }
            SimEvent::CallTimeout { call, scheduler } => {
                if scheduler == self.incarnation && self.calls_in_flight.remove(&call).is_some() {
                    self.step(Event::CallFinished {
                        call_id: call,
                        outcome: Outcome::TimedOut,
                    });
                }
            }
            SimEvent::StoreWrite {
                scheduler,
                write_id,
                write,
            } => {
                self.execute_write(scheduler, write_id, *write);
            }
            SimEvent::CollectGarbage => {
                for (key, uid) in self.store.garbage() {
                    let (_, changes) = self.store.delete(self.now, &key, &uid);
                    self.deliver_changes(changes);
                }
                let changes = self.store.continue_foreground_deletions(self.now);
                self.deliver_changes(changes);
                self.schedule(Duration::from_secs(2), SimEvent::CollectGarbage);
            }
        }
    }

    /// Returns whether an event reports a connection that was lost again in the meantime.
    fn is_stale(&self, event: &Event) -> bool {
        *event == Event::BusConnected && !self.broker_up
    }

    fn publish_heartbeat(&mut self, host: usize) {
        let heartbeat = Box::new(self.hosts[host].heartbeat());
        let delay = Duration::from_millis(self.rng.between(1, 20));
        self.deliver_in(delay, Event::Heartbeat(heartbeat));
    }

    fn reply(&mut self, host: usize, replies: Vec<super::host::Reply>) {
        for (call, outcome) in replies {
            let (call, scheduler) = core_call_id(call);
            let connected = self.broker_up && self.hosts[host].is_connected();
            let lost = self.rng.percent(self.fault_rates.loss_percent);
            if scheduler == self.incarnation
                && connected
                && !lost
                && self.calls_in_flight.remove(&call).is_some()
            {
                let delay = Duration::from_millis(self.rng.between(1, 10));
                self.deliver_in(
                    delay,
                    Event::CallFinished {
                        call_id: call,
                        outcome,
                    },
                );
            }
        }
        if let Some(due) = self.hosts[host].next_due_at(self.now) {
            let is_scheduled = self
                .work_at
                .get(&host)
                .is_some_and(|at| *at <= due && *at > self.now);
            if !is_scheduled {
                self.work_at.insert(host, due);
                self.schedule(
                    due.saturating_sub(self.now) + Duration::from_millis(1),
                    SimEvent::HostWork { host },
                );
            }
        }
    }

    fn execute_write(&mut self, scheduler: u32, write_id: WriteId, write: Write) {
        self.invariants.on_write_finished(&write);
        let fails = self.rng.percent(self.fault_rates.write_failure_percent);
        let takes_effect = !fails || self.rng.percent(50);
        let (mut result, changes) = if takes_effect {
            self.store.write(self.now, write)
        } else {
            (Err(StoreError::Conflict), Vec::new())
        };
        if fails {
            result = Err(StoreError::Unavailable("injected fault".to_owned()));
        }
        self.deliver_changes(changes);
        if scheduler == self.incarnation {
            let delay = Duration::from_millis(self.rng.between(1, 10));
            self.deliver_in(delay, Event::WriteFinished { write_id, result });
        }
    }

    fn deliver_changes(&mut self, changes: Vec<Change>) {
        for change in changes {
            let (kind, event) = match change {
                Change::Applied(object) => (object.kind(), Event::Applied(object)),
                Change::Removed { key, uid } => (key.kind, Event::Removed { key, uid }),
            };
            let lag = Duration::from_millis(self.rng.between(1, self.fault_rates.watch_lag_ms + 2));
            let before = self.last_watch_at.get(&kind).copied().unwrap_or_default();
            let at = before.max(self.now + lag);
            self.last_watch_at.insert(kind, at);
            self.deliver_in(at - self.now, event);
        }
    }

    fn deliver_in(&mut self, delay: Duration, event: Event) {
        let (scheduler, event) = (self.incarnation, Box::new(event));
        self.schedule(delay, SimEvent::Deliver { scheduler, event });
    }

    fn schedule(&mut self, delay: Duration, event: SimEvent) {
        self.order += 1;
        self.queue.insert((self.now + delay, self.order), event);
    }

    /// Performs one step of the scheduler and its actions.
    fn step(&mut self, event: Event) {
        self.steps += 1;
        if let Some(log) = &mut self.log
            && !matches!(event, Event::Tick)
        {
            log.push(format!("{:?} > {event:?}", self.now));
        }
        let actions = self.scheduler.step(self.now, event);
        for action in actions {
            if let Some(log) = &mut self.log {
                log.push(format!("{:?} < {action:?}", self.now));
            }
            self.perform(action);
        }
        self.wake_at = self
            .scheduler
            .next_wake_at()
            .map(|at| at.max(self.now + Duration::from_millis(1)));
        self.invariants
            .check(self.now, &self.store, &self.scheduler);
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Call {
                call_id,
                host_id,
                command,
                timeout,
            } => {
                self.invariants
                    .on_call(self.now, &host_id, &command, &self.store);
                self.send(call_id, &host_id, command, timeout);
            }
            Action::Write { write_id, write } => {
                self.invariants.on_write_started(self.now, &write);
                let (delay, scheduler) = (self.rng.between(1, 15), self.incarnation);
                let write = Box::new(write);
                self.schedule(
                    Duration::from_millis(delay),
                    SimEvent::StoreWrite {
                        scheduler,
                        write_id,
                        write,
                    },
                );
            }
            Action::RecordEvent(event) => {
                if event.kind == ObjectEventKind::Warning {
                    self.invariants
                        .warnings
                        .push(format!("{}: {}", event.reason, event.message));
                }
            }
        }
    }

    fn send(&mut self, call: CallId, host_id: &Arc<str>, command: Command, timeout: Duration) {
        let soon = Duration::from_millis(1);
        let host = self.hosts.iter().position(|host| *host.id == **host_id);
        let host = host.filter(|host| self.hosts[*host].is_connected());
        let Some(host) = host.filter(|_| self.broker_up) else {
            let outcome = if self.broker_up {
                Outcome::NoResponders
            } else {
                Outcome::Disconnected
            };
            return self.deliver_in(
                soon,
                Event::CallFinished {
                    call_id: call,
                    outcome,
                },
            );
        };
        self.calls_in_flight.insert(call, host);
        let scheduler = self.incarnation;
        self.schedule(timeout, SimEvent::CallTimeout { call, scheduler });
        if self.rng.percent(self.fault_rates.loss_percent) {
            return;
        }
        // Messages from one connection to one subscriber arrive in order.
        let delay = Duration::from_millis(self.rng.between(1, 10));
        let before = self.last_arrival_at.get(&host).copied().unwrap_or_default();
        let at = before.max(self.now + delay);
        self.last_arrival_at.insert(host, at);
        // A start is sent once its references are read, after commands of later calls.
        let at = match command {
            Command::Start { .. } => at + self.time_to_read_references,
            _ => at,
        };
        self.schedule(
            at - self.now,
            SimEvent::CommandArrival {
                host,
                call,
                command,
                scheduler,
            },
        );
    }

    fn log_fault(&mut self, text: impl Fn() -> String) {
        let now = self.now;
        if let Some(log) = &mut self.log {
            log.push(format!("{now:?} * {}", text()));
        }
    }
}

/// Each scheduler numbers its calls from the beginning, and a host may reply to a call of a killed
/// scheduler. On the real bus every call has its own reply subject; here the call id includes the
/// scheduler.
const CALL_BITS: u32 = 32;

fn bus_call_id(call: CallId, scheduler: u32) -> CallId {
    CallId(u64::from(scheduler) << CALL_BITS | call.0)
}

fn core_call_id(call: CallId) -> (CallId, u32) {
    let scheduler = u32::try_from(call.0 >> CALL_BITS).expect("scheduler number of 32 bits");
    (CallId(call.0 & u64::from(u32::MAX)), scheduler)
}
