//! The hosts: what they say of themselves, whether they live, what was given to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use berth_sdk::scheduler::liveness::{self, Liveness};
use berth_sdk::scheduler::{Health, Reason};

use super::agenda::Item;
use super::call::Call;
use super::stop::Stop;
use super::{Command, HostReport, Note, NoteKind, Options, Scheduler};
use crate::api;

/// Hosts that are kept in view; beyond this somebody is making them up.
const MAX_HOSTS: usize = 20_000;

/// Label by which a host says how many workloads it takes.
pub(super) const MAX_WORKLOADS_LABEL: &str = "berth.dev/max-workloads";

/// From here on a machine has no processor time left: what is idle below it goes to the kernel and to jitter.
const SPENT_CPU_PERCENT: f32 = 95.0;

/// A machine with less than this share of its memory free has none left. Small, since hosts count what caches hold
/// as taken.
const SPENT_MEMORY_SHARE: u64 = 64;

/// The id that probes ask for when a host has nothing that could be asked for instead.
const PROBE_ID: &str = "berth-probe";

/// All hosts. Numbers are not given twice.
#[derive(Debug)]
pub(super) struct Fleet {
    hosts: Vec<Option<Box<Host>>>,
    by_id: BTreeMap<Arc<str>, u32>,
    pub liveness: Liveness,
    /// Hosts that may get workloads.
    pub usable: BTreeSet<u32>,
    /// Hosts that get nothing new for a while, and until when.
    pub held: BTreeSet<(Duration, u32)>,
}

/// One host: one process, since the next one has another id.
#[derive(Debug)]
pub(super) struct Host {
    pub id: Arc<str>,
    /// Its last heartbeat; none of one that is known from the store only.
    pub report: Option<Box<HostReport>>,
    pub health: Health,
    pub reason: Option<Reason>,
    pub lost_at: Duration,
    /// Its object, by number.
    pub object: Option<u32>,
    /// What the last one was that is gone.
    pub shadow: Option<Arc<api::Host>>,
    /// Whether the object shows it, and not another host of the same name, which does not matter to placement.
    pub is_named: bool,
    /// Its object has been deleted, so it is to be emptied.
    pub drained_since: Option<Duration>,
    /// Gets nothing new until then.
    pub hold_until: Duration,
    /// Starts that it owes an answer to.
    pub open_starts: u32,
    /// What is placed on it and wanted.
    pub workloads: BTreeSet<u32>,
    /// What is to be stopped on it, by id.
    pub stops: BTreeMap<Arc<str>, Stop>,
}

impl Host {
    fn new(id: Arc<str>) -> Self {
        Self {
            id,
            report: None,
            health: Health::Alive,
            reason: None,
            lost_at: Duration::ZERO,
            object: None,
            shadow: None,
            is_named: false,
            drained_since: None,
            hold_until: Duration::ZERO,
            open_starts: 0,
            workloads: BTreeSet::new(),
            stops: BTreeMap::new(),
        }
    }

    pub fn is_lost(&self) -> bool {
        self.health == Health::Lost
    }

    /// Whether it takes only so many.
    pub fn is_limited(&self) -> bool {
        let report = self.report.as_ref();
        report.is_some_and(|report| report.labels.contains_key(MAX_WORKLOADS_LABEL))
    }

    /// How much it has to do: ids that it runs or is to run.
    pub fn load(&self) -> u32 {
        u32::try_from(self.workloads.len()).unwrap_or(u32::MAX)
    }

    /// By what hosts are ranked that are equal otherwise.
    pub fn burden(&self) -> Burden {
        Burden {
            is_spent: self.report.as_ref().is_some_and(|report| is_spent(report)),
            load: self.load(),
        }
    }
}

/// What a host bears; less of it is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Burden {
    /// Its last heartbeat told of a machine that is out of memory or processor time.
    pub is_spent: bool,
    pub load: u32,
}

impl Burden {
    pub const LEAST: Self = Self {
        is_spent: false,
        load: 0,
    };
    pub const MOST: Self = Self {
        is_spent: true,
        load: u32::MAX,
    };
}

/// SCHED-PLACE-011. A figure that is not told speaks against nobody.
fn is_spent(report: &HostReport) -> bool {
    report.system_cpu_usage >= SPENT_CPU_PERCENT
        || report.system_memory_free < report.system_memory_total / SPENT_MEMORY_SHARE
}

impl Fleet {
    pub fn new(options: &Options) -> Self {
        // What must be stopped on a lost host is remembered longer than the host by itself.
        let liveness = liveness::LivenessOptions {
            forget_after: options.timings.remember_lost,
            ..options.timings.liveness
        };
        Self {
            hosts: Vec::new(),
            by_id: BTreeMap::new(),
            liveness: Liveness::new(liveness),
            usable: BTreeSet::new(),
            held: BTreeSet::new(),
        }
    }

    /// Those whose time is over.
    pub fn release_held(&mut self, now: Duration) -> Vec<u32> {
        let mut released = Vec::new();
        while let Some((at, number)) = self.held.pop_first() {
            if at > now {
                self.held.insert((at, number));
                break;
            }
            released.push(number);
        }
        released
    }

    pub fn get(&self, number: u32) -> Option<&Host> {
        self.hosts.get(number as usize)?.as_deref()
    }

    pub fn get_mut(&mut self, number: u32) -> Option<&mut Host> {
        self.hosts.get_mut(number as usize)?.as_deref_mut()
    }

    pub fn number(&self, id: &str) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Host)> {
        let numbers = self.by_id.values();
        numbers.filter_map(|number| Some((*number, self.get(*number)?)))
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    fn insert(&mut self, id: &str) -> u32 {
        let number = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
        let id: Arc<str> = id.into();
        self.by_id.insert(id.clone(), number);
        self.hosts.push(Some(Box::new(Host::new(id))));
        number
    }

    fn remove(&mut self, number: u32) -> Option<Host> {
        let host = self.hosts.get_mut(number as usize)?.take()?;
        self.by_id.remove(&host.id);
        self.usable.remove(&number);
        Some(*host)
    }
}

impl Scheduler {
    /// The number of a host that something in the store speaks of.
    pub(super) fn known_host(&mut self, id: &str, lost: bool) -> u32 {
        if let Some(number) = self.fleet.number(id) {
            return number;
        }
        let number = self.fleet.insert(id);
        if let Some(host) = self.fleet.get_mut(number).filter(|_| lost) {
            (host.health, host.lost_at) = (Health::Lost, self.now);
        }
        let host = id.to_owned();
        self.pulse(liveness::Event::Known { host, lost });
        number
    }

    pub(super) fn heartbeat(&mut self, report: Box<HostReport>) {
        let known = self.fleet.number(&report.id);
        if known.is_none() && self.fleet.len() >= MAX_HOSTS {
            return;
        }
        let number = known.unwrap_or_else(|| self.fleet.insert(&report.id));
        let Some(host) = self.fleet.get_mut(number) else {
            return;
        };
        let host_id = report.id.clone();
        // SCHED-REG-008: what the process before it ran is gone, whatever its heartbeats look like.
        let restarted = host.report.as_ref().is_some_and(|before| {
            before.started_at.is_some()
                && report.started_at.is_some()
                && before.started_at != report.started_at
        });
        let changed = host.report.as_ref().is_none_or(|before| {
            before.labels != report.labels
                || before.environment != report.environment
                || before.http_port != report.http_port
                || before.imports != report.imports
                || before.exports != report.exports
                || is_spent(before) != is_spent(&report)
        });
        host.report = Some(report);
        self.pulse(liveness::Event::Heartbeat { host: host_id });
        self.name_host(number);
        if restarted {
            self.host_restarted(number);
        }
        if changed {
            self.host_changed(number);
        }
    }

    /// Another process answers under the id of a host: nothing of what was there is, and nothing of it is left to
    /// be stopped.
    fn host_restarted(&mut self, number: u32) {
        let workloads = self.fleet.get(number).map(|host| host.workloads.clone());
        for workload in workloads.unwrap_or_default() {
            self.vanish(workload);
        }
    }

    /// Lets liveness take something in, and follows what it says.
    pub(super) fn pulse(&mut self, event: liveness::Event) {
        for action in self.fleet.liveness.step(self.now, event) {
            match action {
                liveness::Action::Probe { host } => self.probe(&host),
                liveness::Action::Tell {
                    host,
                    health,
                    reason,
                } => self.judge(&host, health, reason),
                liveness::Action::Forget { host } => self.forget(&host),
            }
        }
    }

    fn judge(&mut self, id: &str, health: Health, reason: Option<Reason>) {
        let now = self.now;
        let Some(number) = self.fleet.number(id) else {
            return;
        };
        let Some(host) = self.fleet.get_mut(number) else {
            return;
        };
        let was = std::mem::replace(&mut host.health, health);
        host.reason = reason;
        if health == Health::Lost {
            host.lost_at = now;
        }
        if health == Health::Lost || was == Health::Lost {
            self.workloads_of_host_changed(number);
            self.agenda.look_at(Item::Stops(number));
            self.note_host(number, health, reason);
        }
        self.host_changed(number);
    }

    fn note_host(&mut self, number: u32, health: Health, reason: Option<Reason>) {
        let Some(host) = self.fleet.get(number) else {
            return;
        };
        let message = match (health, reason) {
            (Health::Lost, Some(Reason::NoResponders)) => "the broker knows of nobody under its id",
            (Health::Lost, _) => "it has been silent for too long",
            _ => "it is back",
        };
        let (kind, reason) = match health {
            Health::Lost => (NoteKind::Warning, "HostLost"),
            _ => (NoteKind::Normal, "HostBack"),
        };
        if let Some(object) = host.object.and_then(|object| self.host_objects.get(object)) {
            let (key, uid) = (object.key.clone(), object.uid());
            let message = format!("host {}: {message}", host.id);
            self.note(Note {
                key,
                uid,
                kind,
                reason,
                message,
            });
        }
    }

    /// Everything that is placed there, and what it belongs to, has to be thought over.
    pub(super) fn workloads_of_host_changed(&mut self, number: u32) {
        let Some(host) = self.fleet.get(number) else {
            return;
        };
        for workload in &host.workloads {
            self.agenda.look_at(Item::Workload(*workload));
            if let Some(set) = self.set_of(*workload) {
                self.agenda.look_at(Item::Set(set));
            }
        }
    }

    /// Something has changed that placement goes by.
    pub(super) fn host_changed(&mut self, number: u32) {
        let now = self.now;
        let Some(host) = self.fleet.get(number) else {
            return;
        };
        if let Some(object) = host.object {
            self.agenda.look_at(Item::Host(object));
        }
        let usable = host.health == Health::Alive
            && host.report.is_some()
            && host.drained_since.is_none()
            && now >= host.hold_until;
        match usable {
            true => self.fleet.usable.insert(number),
            false => self.fleet.usable.remove(&number),
        };
        self.candidates.refresh(number, &self.fleet, now);
        if !self.waiting.is_empty() || usable {
            let at = now + self.options.timings.join;
            self.agenda.look_by(Item::Placement, at);
        }
    }

    /// Asks for a workload that was not asked for longest; so that probing is of use, too.
    fn probe(&mut self, id: &str) {
        let Some(host) = self.fleet.number(id) else {
            return;
        };
        let oldest = self.oldest_asked(host);
        let (id, workload) = match oldest {
            Some((id, workload)) => (id, Some(workload)),
            None => (PROBE_ID.into(), None),
        };
        let call = Call::probe(host, id.clone(), workload);
        let timeout = self.options.timings.status_timeout;
        self.call(call, Command::Status { id }, timeout);
    }

    /// A host was lost for so long that it is forgotten, with all that might still run there.
    fn forget(&mut self, id: &str) {
        let Some(number) = self.fleet.number(id) else {
            return;
        };
        self.workloads_of_host_changed(number);
        let Some(host) = self.fleet.remove(number) else {
            return;
        };
        self.candidates.forget(number);
        for stop in host.stops.into_values() {
            if let Some(holder) = stop.holder {
                self.agenda.look_at(holder);
            }
        }
        self.host_forgotten(number);
    }
}
