//! A scheduler, a store that lags, a bus that loses, hosts that fail: all in virtual time, from one seed.

mod faults;
mod user;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_scheduler::api::{Kind, Object};
use berth_scheduler::core::{
    Action, CallId, Command, Event, NoteKind, Options, Outcome, Scheduler, Write, WriteError,
    WriteId,
};

use super::chance::Chance;
use super::host::{Host, Trouble};
use super::ledger::Ledger;
use super::store::{Change, Store};

/// How the surroundings behave at the moment.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Requests and replies that are lost, in percent.
    pub loss_percent: u64,
    /// How late a watch tells, in ms, at most.
    pub lag_ms: u64,
    /// Writes that fail, in percent; half of them are carried out all the same.
    pub write_failure_percent: u64,
}

impl Weather {
    pub const FAIR: Self = Self {
        loss_percent: 0,
        lag_ms: 20,
        write_failure_percent: 0,
    };
}

#[derive(Debug)]
enum Happening {
    Tell {
        scheduler: u32,
        event: Box<Event>,
    },
    Arrive {
        host: usize,
        call: CallId,
        command: Command,
        scheduler: u32,
    },
    Work {
        host: usize,
    },
    Beat {
        host: usize,
    },
    GiveUp {
        call: CallId,
        scheduler: u32,
    },
    Store {
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
    pub chance: Chance,
    pub store: Store,
    pub hosts: Vec<Host>,
    pub weather: Weather,
    pub ledger: Ledger,
    pub scheduler: Scheduler,
    options: Options,
    /// Which scheduler this is; what was meant for another is dropped.
    incarnation: u32,
    pub broker_up: bool,
    queue: BTreeMap<(Duration, u64), Happening>,
    order: u64,
    wake_at: Option<Duration>,
    /// Calls that have no end yet, with the host.
    open: BTreeMap<CallId, usize>,
    fifo: BTreeMap<usize, Duration>,
    watch_at: BTreeMap<Kind, Duration>,
    work_at: BTreeMap<usize, Duration>,
    beat_every: Duration,
    pub steps: u64,
    pub log: Option<Vec<String>>,
}

impl World {
    pub fn new(seed: u64, options: Options) -> Self {
        let mut world = Self {
            now: Duration::from_secs(1000),
            chance: Chance::new(seed),
            store: Store::default(),
            hosts: Vec::new(),
            weather: Weather::FAIR,
            ledger: Ledger::default(),
            scheduler: Scheduler::new(options.clone()),
            options,
            incarnation: 0,
            broker_up: true,
            queue: BTreeMap::new(),
            order: 0,
            wake_at: None,
            open: BTreeMap::new(),
            fifo: BTreeMap::new(),
            watch_at: BTreeMap::new(),
            work_at: BTreeMap::new(),
            beat_every: Duration::from_secs(15),
            steps: 0,
            log: None,
        };
        world.begin();
        world.at(Duration::from_secs(2), Happening::CollectGarbage);
        world
    }

    // What a test does.

    pub fn add_host(&mut self, host: Host) -> usize {
        self.hosts.push(host);
        let number = self.hosts.len() - 1;
        let first = Duration::from_millis(self.chance.between(0, 200));
        self.at(first, Happening::Beat { host: number });
        number
    }

    pub fn add_hosts(&mut self, count: usize) {
        for number in 0..count {
            self.add_host(Host::new(&format!("h{number}"), &format!("host-{number}")));
        }
    }

    fn begin(&mut self) {
        self.wake_at = None;
        let objects: Vec<Object> = self.store.objects.values().cloned().collect();
        for object in objects {
            self.tell_in(Duration::from_millis(5), Event::Applied(object));
        }
        self.tell_in(Duration::from_millis(6), Event::Synced);
        if self.broker_up {
            self.tell_in(Duration::from_millis(10), Event::BusUp);
        }
    }

    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.advance(until) {}
        self.now = until;
    }

    /// Runs until something holds; tells how long that took, or nothing if it does not come true in time.
    pub fn run_until(
        &mut self,
        limit: Duration,
        mut holds: impl FnMut(&Self) -> bool,
    ) -> Option<Duration> {
        let (began, until) = (self.now, self.now + limit);
        while !holds(self) {
            if !self.advance(until) {
                self.now = until;
                return holds(self).then(|| self.now - began);
            }
        }
        Some(self.now - began)
    }

    // What happens.

    /// Lets the next thing happen, unless that is later.
    fn advance(&mut self, until: Duration) -> bool {
        let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
        let next = queued.into_iter().chain(self.wake_at).min();
        let Some(next) = next.filter(|next| *next <= until) else {
            return false;
        };
        self.now = self.now.max(next);
        if queued == Some(next) {
            if let Some((_, happening)) = self.queue.pop_first() {
                self.happen(happening);
            }
        } else {
            self.step(Event::Tick);
        }
        true
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Tell { scheduler, event } => {
                if scheduler == self.incarnation && !self.is_stale(&event) {
                    self.step(*event);
                }
            }
            Happening::Arrive {
                host,
                call,
                command,
                scheduler,
            } => {
                let call = on_the_wire(call, scheduler);
                let replies = self.hosts[host].receive(self.now, call, command, &mut self.chance);
                self.reply(host, replies);
            }
            Happening::Work { host } => {
                if self.work_at.get(&host).is_some_and(|at| *at <= self.now) {
                    self.work_at.remove(&host);
                }
                let replies = self.hosts[host].work(self.now, &mut self.chance);
                self.reply(host, replies);
            }
            Happening::Beat { host } => {
                if self.hosts[host].trouble == Trouble::Dead {
                    return;
                }
                if self.hosts[host].beats(self.now) && self.broker_up {
                    self.beat(host);
                }
                self.at(self.beat_every, Happening::Beat { host });
            }
            Happening::Reconnect { host } => {
                let hosts = &mut self.hosts[host];
                if hosts.trouble == Trouble::Disconnected && self.broker_up {
                    hosts.trouble = Trouble::None;
                }
                if hosts.trouble == Trouble::None && self.broker_up {
                    self.beat(host);
                    let replies = self.hosts[host].work(self.now, &mut self.chance);
                    self.reply(host, replies);
                }
            }
            Happening::GiveUp { call, scheduler } => {
                if scheduler == self.incarnation && self.open.remove(&call).is_some() {
                    self.step(Event::Answered {
                        call_id: call,
                        outcome: Outcome::TimedOut,
                    });
                }
            }
            Happening::Store {
                scheduler,
                write_id,
                write,
            } => {
                self.carry_out(scheduler, write_id, *write);
            }
            Happening::CollectGarbage => {
                for (key, uid) in self.store.garbage() {
                    let (_, changes) = self.store.delete(self.now, &key, &uid);
                    self.tell_changes(changes);
                }
                let changes = self.store.fall(self.now);
                self.tell_changes(changes);
                self.at(Duration::from_secs(2), Happening::CollectGarbage);
            }
        }
    }

    /// A connection that is gone again is not told of: what a scheduler hears of it comes in order.
    fn is_stale(&self, event: &Event) -> bool {
        *event == Event::BusUp && !self.broker_up
    }

    fn beat(&mut self, host: usize) {
        let report = Box::new(self.hosts[host].heartbeat());
        let delay = Duration::from_millis(self.chance.between(1, 20));
        self.tell_in(delay, Event::Heartbeat(report));
    }

    fn reply(&mut self, host: usize, replies: Vec<super::host::Reply>) {
        for (call, outcome) in replies {
            let (call, scheduler) = off_the_wire(call);
            let connected = self.broker_up && self.hosts[host].is_connected();
            let lost = self.chance.percent(self.weather.loss_percent);
            if scheduler == self.incarnation
                && connected
                && !lost
                && self.open.remove(&call).is_some()
            {
                let delay = Duration::from_millis(self.chance.between(1, 10));
                self.tell_in(
                    delay,
                    Event::Answered {
                        call_id: call,
                        outcome,
                    },
                );
            }
        }
        if let Some(due) = self.hosts[host].next_due(self.now) {
            let known = self
                .work_at
                .get(&host)
                .is_some_and(|at| *at <= due && *at > self.now);
            if !known {
                self.work_at.insert(host, due);
                self.at(
                    due.saturating_sub(self.now) + Duration::from_millis(1),
                    Happening::Work { host },
                );
            }
        }
    }

    fn carry_out(&mut self, scheduler: u32, write_id: WriteId, write: Write) {
        self.ledger.write_ended(&write);
        let fails = self.chance.percent(self.weather.write_failure_percent);
        let done = !fails || self.chance.percent(50);
        let (mut result, changes) = match done {
            true => self.store.write(self.now, write),
            false => (Err(WriteError::Conflict), Vec::new()),
        };
        if fails {
            result = Err(WriteError::Unavailable("stormy".to_owned()));
        }
        self.tell_changes(changes);
        if scheduler == self.incarnation {
            let delay = Duration::from_millis(self.chance.between(1, 10));
            self.tell_in(delay, Event::Written { write_id, result });
        }
    }

    fn tell_changes(&mut self, changes: Vec<Change>) {
        for change in changes {
            let (kind, event) = match change {
                Change::Applied(object) => (object.kind(), Event::Applied(object)),
                Change::Removed { key, uid } => (key.kind, Event::Removed { key, uid }),
            };
            let lag = Duration::from_millis(self.chance.between(1, self.weather.lag_ms + 2));
            let before = self.watch_at.get(&kind).copied().unwrap_or_default();
            let at = before.max(self.now + lag);
            self.watch_at.insert(kind, at);
            self.tell_in(at - self.now, event);
        }
    }

    fn tell_in(&mut self, delay: Duration, event: Event) {
        let (scheduler, event) = (self.incarnation, Box::new(event));
        self.at(delay, Happening::Tell { scheduler, event });
    }

    fn at(&mut self, delay: Duration, happening: Happening) {
        self.order += 1;
        self.queue.insert((self.now + delay, self.order), happening);
    }

    /// One step of the scheduler, and what comes of it.
    fn step(&mut self, event: Event) {
        self.steps += 1;
        if let Some(log) = &mut self.log
            && !matches!(event, Event::Tick)
        {
            log.push(format!("{:?} > {}", self.now, short(&format!("{event:?}"))));
        }
        let actions = self.scheduler.step(self.now, event);
        for action in actions {
            if let Some(log) = &mut self.log {
                log.push(format!(
                    "{:?} < {}",
                    self.now,
                    short(&format!("{action:?}"))
                ));
            }
            self.act(action);
        }
        self.wake_at = self
            .scheduler
            .next_wake()
            .map(|at| at.max(self.now + Duration::from_millis(1)));
        self.ledger.check(self.now, &self.store, &self.scheduler);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Call {
                call_id,
                host_id,
                command,
                timeout,
            } => {
                self.ledger
                    .called(self.now, &host_id, &command, &self.store);
                self.send(call_id, &host_id, command, timeout);
            }
            Action::Write { write_id, write } => {
                self.ledger.write_began(self.now, &write);
                let (delay, scheduler) = (self.chance.between(1, 15), self.incarnation);
                let write = Box::new(write);
                self.at(
                    Duration::from_millis(delay),
                    Happening::Store {
                        scheduler,
                        write_id,
                        write,
                    },
                );
            }
            Action::Note(note) => {
                if note.kind == NoteKind::Warning {
                    self.ledger
                        .warnings
                        .push(format!("{}: {}", note.reason, note.message));
                }
            }
        }
    }

    fn send(&mut self, call: CallId, host_id: &Arc<str>, command: Command, timeout: Duration) {
        let soon = Duration::from_millis(1);
        let host = self.hosts.iter().position(|host| *host.id == **host_id);
        let host = host.filter(|host| self.hosts[*host].is_connected());
        let Some(host) = host.filter(|_| self.broker_up) else {
            let outcome = match self.broker_up {
                true => Outcome::NoResponders,
                false => Outcome::Disconnected,
            };
            return self.tell_in(
                soon,
                Event::Answered {
                    call_id: call,
                    outcome,
                },
            );
        };
        self.open.insert(call, host);
        let scheduler = self.incarnation;
        self.at(timeout, Happening::GiveUp { call, scheduler });
        if self.chance.percent(self.weather.loss_percent) {
            return;
        }
        // What one connection sends to one subscriber arrives in order.
        let delay = Duration::from_millis(self.chance.between(1, 10));
        let before = self.fifo.get(&host).copied().unwrap_or_default();
        let at = before.max(self.now + delay);
        self.fifo.insert(host, at);
        self.at(
            at - self.now,
            Happening::Arrive {
                host,
                call,
                command,
                scheduler,
            },
        );
    }

    fn note(&mut self, text: impl Fn() -> String) {
        let now = self.now;
        if let Some(log) = &mut self.log {
            log.push(format!("{now:?} * {}", text()));
        }
    }
}

/// Calls are numbered by each scheduler from the beginning, and a host may answer that of one after it was killed:
/// on the bus they have reply subjects that are never used twice.
const CALL_BITS: u32 = 32;

fn on_the_wire(call: CallId, scheduler: u32) -> CallId {
    CallId(u64::from(scheduler) << CALL_BITS | call.0)
}

fn off_the_wire(call: CallId) -> (CallId, u32) {
    let scheduler = u32::try_from(call.0 >> CALL_BITS).expect("32 bits");
    (CallId(call.0 & u64::from(u32::MAX)), scheduler)
}

fn short(text: &str) -> &str {
    text.get(..text.floor_char_boundary(420)).unwrap_or(text)
}
