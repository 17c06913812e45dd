//! Liveness detection: decides from heartbeats, probes and the connection which hosts are alive.
//!
//! It does no I/O and reads no clock: the caller passes events in and executes the returned
//! actions.

mod event;
mod options;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use self::event::{Action, Event};
pub use self::options::LivenessOptions;

/// Health of a host, as far as the scheduler can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// A heartbeat or a reply of the host arrived recently.
    Alive,
    /// The host may be lost; no conclusion should be drawn yet.
    Suspect,
    /// The host is considered gone. Its workloads may be placed elsewhere, subject to fencing.
    Lost,
}

/// Reason a host is suspect or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The broker reports no responders for its ID: the process has ended or is disconnected.
    NoResponders,
    /// It subscribes but does not reply: it is frozen or busy.
    Silent,
    /// Another process uses its ID: all workloads of the earlier process are gone.
    Restarted,
}

/// State of one host.
#[derive(Debug)]
struct Host {
    health: Health,
    last_heard: Duration,
    last_replied: Option<Duration>,
    busy_until: Duration,
    /// Whether it was heard on the current connection. Only then does its silence mean anything
    /// before the settling period is over.
    heard_since_connect: bool,
    no_responders: Option<NoResponders>,
    next_probe: Option<Duration>,
    next_check: Duration,
}

/// A series of "no responders" results since the host was last heard.
#[derive(Clone, Copy, Debug)]
struct NoResponders {
    since: Duration,
    count: u32,
}

/// Liveness detection for a fleet.
#[derive(Debug)]
pub struct Liveness {
    options: LivenessOptions,
    hosts: BTreeMap<String, Host>,
    probes: BTreeSet<(Duration, String)>,
    /// Next check of each host for silence. A heartbeat does not move it, so that heartbeats are
    /// cheap.
    checks: BTreeSet<(Duration, String)>,
    /// Time of the last reply of each host that currently responds.
    replies: BTreeSet<(Duration, String)>,
    no_responders: usize,
    /// Time when the broker, and not the hosts, was last suspected.
    broker_suspected_at: Option<Duration>,
    connected: bool,
    settled_at: Duration,
    probe_budget_used_until: Duration,
}

impl Liveness {
    /// Creates a detection without hosts, in the disconnected state.
    pub fn new(options: LivenessOptions) -> Self {
        Self {
            options,
            hosts: BTreeMap::new(),
            probes: BTreeSet::new(),
            checks: BTreeSet::new(),
            replies: BTreeSet::new(),
            no_responders: 0,
            broker_suspected_at: None,
            connected: false,
            settled_at: Duration::ZERO,
            probe_budget_used_until: Duration::ZERO,
        }
    }

    /// Applies an event at `now` (any monotonic clock) and returns the actions to execute.
    pub fn step(&mut self, now: Duration, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Heartbeat { host } => self.heard(now, host, true, &mut actions),
            Event::Known { host, lost } => self.insert(now, host, lost),
            Event::ProbeReplied { host } => self.heard(now, host, false, &mut actions),
            Event::NoResponders { host } => self.no_responders(now, &host, &mut actions),
            Event::ProbeTimedOut { host } => {
                self.schedule_probe(&host, now + self.options.silent_probe_interval);
            }
            Event::BusyUntil { host, until } => {
                if let Some(host) = self.hosts.get_mut(&host) {
                    host.busy_until = host.busy_until.max(until);
                }
            }
            Event::Idle { host: id } => {
                if let Some(host) = self.hosts.get_mut(&id) {
                    host.busy_until = now;
                    // The next check may have been postponed to the deadline of the start.
                    if self.checks.remove(&(host.next_check, id.clone())) {
                        host.next_check = now;
                        self.checks.insert((now, id));
                    }
                }
            }
            Event::Disconnected => self.connected = false,
            Event::Connected => self.connected(now),
            Event::Tick => {
                self.check_silence(now, &mut actions);
                self.send_probes(now, &mut actions);
            }
        }
        actions
    }

    /// Maximum interval between two [`Event::Tick`].
    pub const TICK: Duration = Duration::from_millis(50);

    /// Returns whether no host is known.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Returns the number of known hosts, including lost ones.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Returns the time when the next [`Event::Tick`] can have an effect. A caller may round it up
    /// to [`Liveness::TICK`] after the last tick.
    pub fn next_due(&self) -> Option<Duration> {
        if !self.connected {
            return None;
        }
        let first = |set: &BTreeSet<(Duration, String)>| set.first().map(|(at, _)| *at);
        let check = first(&self.checks);
        let probe = first(&self.probes).map(|at| at.max(self.probe_budget_used_until));
        check.into_iter().chain(probe).min()
    }

    fn insert(&mut self, now: Duration, id: String, lost: bool) {
        if self.hosts.contains_key(&id) {
            return;
        }
        let next_probe = now + self.probe_interval();
        let (health, next_check) = if lost {
            (Health::Lost, now + self.options.forget_after)
        } else {
            (Health::Alive, now + self.options.suspect_after)
        };
        let host = Host {
            health,
            last_heard: now,
            last_replied: None,
            busy_until: Duration::ZERO,
            heard_since_connect: false,
            no_responders: None,
            next_probe: None,
            next_check,
        };
        self.hosts.insert(id.clone(), host);
        self.checks.insert((next_check, id.clone()));
        self.schedule_probe(&id, next_probe);
    }

    fn heard(&mut self, now: Duration, id: String, by_heartbeat: bool, actions: &mut Vec<Action>) {
        let next_probe = now + self.probe_interval();
        if by_heartbeat {
            self.insert(now, id.clone(), false);
        }
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        // A late reply does not make a lost host alive; only a heartbeat does.
        if host.health == Health::Lost && !by_heartbeat {
            return;
        }
        let previous_health = std::mem::replace(&mut host.health, Health::Alive);
        (host.last_heard, host.heard_since_connect) = (now, self.connected);
        if !by_heartbeat && let Some(before) = host.last_replied.replace(now) {
            self.replies.remove(&(before, id.clone()));
        }
        if let Some(replied) = host.last_replied {
            self.replies.insert((replied, id.clone()));
        }
        self.no_responders -= usize::from(host.no_responders.take().is_some());
        if previous_health != Health::Alive {
            self.checks.remove(&(host.next_check, id.clone()));
            host.next_check = now + self.options.suspect_after;
            self.checks.insert((host.next_check, id.clone()));
            actions.push(Action::SetHealth {
                host: id.clone(),
                health: Health::Alive,
                reason: None,
            });
        }
        // A heartbeat does not postpone the probe: a host that dies right after it would be
        // detected late.
        if !by_heartbeat || previous_health != Health::Alive {
            self.schedule_probe(&id, next_probe);
        }
    }

    fn no_responders(&mut self, now: Duration, id: &str, actions: &mut Vec<Action>) {
        let settled = self.is_settled(now);
        let Some(host) = self.hosts.get_mut(id) else {
            return;
        };
        if host.health == Health::Lost {
            return;
        }
        // Without a heartbeat or reply on this connection, the host may still be reconnecting.
        if !(settled || self.connected && host.heard_since_connect) {
            let next = self
                .settled_at
                .max(now + self.options.no_responders_probe_interval);
            return self.schedule_probe(id, next);
        }
        if host.no_responders.is_none() {
            self.no_responders += 1;
            if let Some(replied) = host.last_replied {
                self.replies.remove(&(replied, id.to_owned()));
            }
        }
        let series = host.no_responders.get_or_insert(NoResponders {
            since: now,
            count: 0,
        });
        series.count += 1;
        if host.health == Health::Alive {
            host.health = Health::Suspect;
            actions.push(set_health(id, Health::Suspect, Reason::NoResponders));
        }
        self.schedule_probe(id, now + self.options.no_responders_probe_interval);
        self.lose_without_responders(now, id, actions);
    }

    /// Declares a host lost after enough "no responders" results, unless the broker is to blame.
    fn lose_without_responders(&mut self, now: Duration, id: &str, actions: &mut Vec<Action>) {
        let LivenessOptions {
            no_responders_for,
            no_responders_count,
            settling_period,
            ..
        } = self.options;
        let Some(NoResponders { since, count }) =
            self.hosts.get(id).and_then(|host| host.no_responders)
        else {
            return;
        };
        if count < no_responders_count || now - since < no_responders_for {
            return;
        }
        if self.is_broker_suspect(since) {
            self.broker_suspected_at = Some(now);
            return;
        }
        // After a mass loss the hosts reconnect one by one: the first ones to do so must not
        // condemn the last ones (SCHED-CONT-006).
        let in_mass_loss = self.broker_suspected_at.is_some_and(|at| at >= since);
        if !(in_mass_loss && now - since < settling_period) {
            self.lose(id, Reason::NoResponders, actions);
        }
    }

    /// Returns whether a large share of the hosts that were probed since then has no responders. A
    /// broker that lost its clients, which reconnect to another one, is then more likely than the
    /// simultaneous end of all these hosts. Heartbeats do not count here: they come from all hosts,
    /// while probes have reached only some.
    fn is_broker_suspect(&self, since: Duration) -> bool {
        if self.no_responders < self.options.mass_loss_threshold {
            return false;
        }
        // Counts only as many healthy hosts as it takes to outweigh the others.
        let percent = self.options.mass_loss_percent.max(1);
        let enough = self.no_responders * 100 / percent + 1;
        let healthy = self.replies.iter().rev().take(enough);
        let healthy = healthy.take_while(|(replied, _)| *replied >= since).count();
        self.no_responders * 100 / (self.no_responders + healthy).max(1) >= percent
    }

    /// Checks the hosts that are due for silence, and suspects, loses or forgets them.
    fn check_silence(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if !self.connected {
            return;
        }
        while let Some((at, id)) = self.checks.pop_first() {
            if at > now {
                self.checks.insert((at, id));
                break;
            }
            let next = self.check_host(now, &id, actions);
            if let Some((next, host)) = next.zip(self.hosts.get_mut(&id)) {
                host.next_check = next.max(now + Self::TICK);
                self.checks.insert((host.next_check, id));
            }
        }
    }

    /// Checks one host for silence, and returns the time of the next check.
    fn check_host(
        &mut self,
        now: Duration,
        id: &str,
        actions: &mut Vec<Action>,
    ) -> Option<Duration> {
        let options = self.options;
        let settled = self.is_settled(now);
        let host = self.hosts.get_mut(id)?;
        if !settled && !host.heard_since_connect {
            return Some(self.settled_at);
        }
        // Silence counts only while the host could have been heard.
        let last_heard = if host.heard_since_connect {
            host.last_heard
        } else {
            host.last_heard.max(self.settled_at)
        };
        match host.health {
            Health::Alive if now < last_heard + options.suspect_after => {
                Some(last_heard + options.suspect_after)
            }
            Health::Alive => {
                host.health = Health::Suspect;
                actions.push(set_health(id, Health::Suspect, Reason::Silent));
                Some(last_heard + options.lost_after)
            }
            Health::Suspect if now < last_heard + options.lost_after => {
                Some(last_heard + options.lost_after)
            }
            // A host with a responder may be busy; one without responders is gone by now.
            Health::Suspect if host.no_responders.is_none() && now < host.busy_until => {
                Some(host.busy_until)
            }
            Health::Suspect => {
                let reason = match host.no_responders {
                    Some(_) => Reason::NoResponders,
                    None => Reason::Silent,
                };
                self.lose(id, reason, actions);
                Some(last_heard + options.forget_after)
            }
            Health::Lost if now < last_heard + options.forget_after => {
                Some(last_heard + options.forget_after)
            }
            Health::Lost => {
                let host = id.to_owned();
                self.hosts.remove(id);
                actions.push(Action::Forget { host });
                None
            }
        }
    }

    fn lose(&mut self, id: &str, reason: Reason, actions: &mut Vec<Action>) {
        let Some(host) = self.hosts.get_mut(id) else {
            return;
        };
        host.health = Health::Lost;
        self.no_responders -= usize::from(host.no_responders.take().is_some());
        if let Some(replied) = host.last_replied.take() {
            self.replies.remove(&(replied, id.to_owned()));
        }
        if let Some(at) = host.next_probe.take() {
            self.probes.remove(&(at, id.to_owned()));
        }
        actions.push(set_health(id, Health::Lost, reason));
    }

    /// Sends the probes that are due, within the budget.
    fn send_probes(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if !self.connected {
            return;
        }
        // An unused budget expires, so that the rate of probes stays even.
        let cost = Duration::from_secs(1) / self.options.probes_per_second.max(1);
        self.probe_budget_used_until = self
            .probe_budget_used_until
            .max(now.saturating_sub(Self::TICK * 2));
        while self.probe_budget_used_until + cost <= now {
            let Some((at, id)) = self.probes.first().cloned().filter(|(at, _)| *at <= now) else {
                break;
            };
            self.probes.remove(&(at, id.clone()));
            if let Some(host) = self.hosts.get_mut(&id) {
                // The result of this probe schedules the next one: a host has one probe in flight.
                host.next_probe = None;
                self.probe_budget_used_until += cost;
                actions.push(Action::Probe { host: id });
            }
        }
    }

    fn schedule_probe(&mut self, id: &str, at: Duration) {
        let Some(host) = self.hosts.get_mut(id) else {
            return;
        };
        if host.health == Health::Lost {
            return;
        }
        if let Some(before) = host.next_probe.replace(at) {
            self.probes.remove(&(before, id.to_owned()));
        }
        self.probes.insert((at, id.to_owned()));
    }

    /// Returns the interval between probes of a host: in a large fleet, as long as the budget
    /// requires.
    fn probe_interval(&self) -> Duration {
        let cost = Duration::from_secs(1) / self.options.probes_per_second.max(1);
        let hosts = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
        self.options.probe_interval.max(cost.saturating_mul(hosts))
    }

    fn connected(&mut self, now: Duration) {
        self.connected = true;
        self.settled_at = now + self.options.settling_period;
        self.no_responders = 0;
        for host in self.hosts.values_mut() {
            (host.no_responders, host.heard_since_connect) = (None, false);
        }
    }

    fn is_settled(&self, now: Duration) -> bool {
        self.connected && now >= self.settled_at
    }
}

fn set_health(host: &str, health: Health, reason: Reason) -> Action {
    Action::SetHealth {
        host: host.to_owned(),
        health,
        reason: Some(reason),
    }
}
