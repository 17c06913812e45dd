//! Liveness detection: decides from heartbeats, probes and the connection which hosts are alive.
//!
//! The detection does no I/O and reads no clock: the caller passes events in and executes the
//! returned actions. A time is a duration since an arbitrary point, the same for all calls.

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
    /// The broker reports no responders for the host: its process has ended or is disconnected.
    NoResponders,
    /// The host is subscribed but does not reply: it is frozen or busy.
    Silent,
    /// Another process uses the ID of the host: all workloads of the earlier process are gone.
    Restarted,
}

/// Kind of message by which a host was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeardBy {
    Heartbeat,
    Reply,
}

/// State of one host.
#[derive(Debug)]
struct Host {
    health: Health,
    last_heard_at: Duration,
    last_replied_at: Option<Duration>,
    /// Latest deadline of the starts in progress, until which silence does not make the host lost.
    busy_until: Duration,
    /// Whether the host was heard on the current connection. During the settling period, only the
    /// silence of such hosts counts.
    heard_since_connect: bool,
    no_responders: Option<NoResponders>,
    next_probe_at: Option<Duration>,
    next_check_at: Duration,
}

/// A series of "no responders" results, which ends when the host is heard.
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
    /// Time of the next probe of each host.
    probes: BTreeSet<(Duration, String)>,
    /// Time of the next check of each host for silence. A heartbeat does not move it, so that
    /// heartbeats are cheap.
    checks: BTreeSet<(Duration, String)>,
    /// Time of the last reply of each host that currently responds.
    replies: BTreeSet<(Duration, String)>,
    /// Number of hosts with a series of "no responders" results.
    hosts_without_responders: usize,
    /// Time when the broker, and not the hosts, was last suspected.
    broker_suspected_at: Option<Duration>,
    connected: bool,
    /// End of the settling period after the latest connect.
    settled_at: Duration,
    /// Time up to which the probe rate is used up: each probe moves it by its share of a second.
    probe_budget_used_until: Duration,
}

impl Liveness {
    /// Creates a detector that knows no hosts and is disconnected.
    pub fn new(options: LivenessOptions) -> Self {
        Self {
            options: options.within_limits(),
            hosts: BTreeMap::new(),
            probes: BTreeSet::new(),
            checks: BTreeSet::new(),
            replies: BTreeSet::new(),
            hosts_without_responders: 0,
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
            Event::Heartbeat { host } => self.on_heard(now, host, HeardBy::Heartbeat, &mut actions),
            Event::Known { host, lost } => self.insert(now, host, lost),
            Event::ProbeReplied { host } => self.on_heard(now, host, HeardBy::Reply, &mut actions),
            Event::NoResponders { host } => self.on_no_responders(now, &host, &mut actions),
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
                    // The next check may have been postponed to the deadline of a start.
                    if self.checks.remove(&(host.next_check_at, id.clone())) {
                        host.next_check_at = now;
                        self.checks.insert((now, id));
                    }
                }
            }
            Event::Disconnected => self.connected = false,
            Event::Connected => self.on_connected(now),
            Event::Tick => {
                self.check_silence(now, &mut actions);
                self.send_probes(now, &mut actions);
            }
        }
        actions
    }

    /// Resolution of the detection: more frequent [`Event::Tick`]s have no benefit.
    pub const TICK: Duration = Duration::from_millis(50);

    /// Returns whether no host is known.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Returns the number of known hosts, including lost ones.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Returns the time from which the next [`Event::Tick`] can have an effect. The caller may
    /// delay the tick until [`Liveness::TICK`] has passed since the last one.
    pub fn next_tick_at(&self) -> Option<Duration> {
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
        let next_probe_at = now + self.probe_interval();
        let (health, next_check_at) = if lost {
            (Health::Lost, now + self.options.forget_after)
        } else {
            (Health::Alive, now + self.options.suspect_after)
        };
        let host = Host {
            health,
            last_heard_at: now,
            last_replied_at: None,
            busy_until: Duration::ZERO,
            heard_since_connect: false,
            no_responders: None,
            next_probe_at: None,
            next_check_at,
        };
        self.hosts.insert(id.clone(), host);
        self.checks.insert((next_check_at, id.clone()));
        self.schedule_probe(&id, next_probe_at);
    }

    fn on_heard(
        &mut self,
        now: Duration,
        id: String,
        heard_by: HeardBy,
        actions: &mut Vec<Action>,
    ) {
        let next_probe_at = now + self.probe_interval();
        let by_heartbeat = heard_by == HeardBy::Heartbeat;
        if by_heartbeat {
            let lost = false;
            self.insert(now, id.clone(), lost);
        }
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        // A late reply does not make a lost host alive; only a heartbeat does.
        if host.health == Health::Lost && !by_heartbeat {
            return;
        }
        let previous_health = std::mem::replace(&mut host.health, Health::Alive);
        (host.last_heard_at, host.heard_since_connect) = (now, self.connected);
        if !by_heartbeat && let Some(before) = host.last_replied_at.replace(now) {
            self.replies.remove(&(before, id.clone()));
        }
        if let Some(replied) = host.last_replied_at {
            self.replies.insert((replied, id.clone()));
        }
        self.hosts_without_responders -= usize::from(host.no_responders.take().is_some());
        if previous_health != Health::Alive {
            self.checks.remove(&(host.next_check_at, id.clone()));
            host.next_check_at = now + self.options.suspect_after;
            self.checks.insert((host.next_check_at, id.clone()));
            actions.push(Action::SetHealth {
                host: id.clone(),
                health: Health::Alive,
                reason: None,
            });
        }
        // A heartbeat does not postpone the probe. Otherwise, a host that dies right after a
        // heartbeat would be detected late.
        if !by_heartbeat || previous_health != Health::Alive {
            self.schedule_probe(&id, next_probe_at);
        }
    }

    fn on_no_responders(&mut self, now: Duration, id: &str, actions: &mut Vec<Action>) {
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
            self.hosts_without_responders += 1;
            if let Some(replied) = host.last_replied_at {
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
        self.declare_lost_if_unresponsive(now, id, actions);
    }

    /// Declares a host lost after enough "no responders" results, unless the broker is suspect.
    fn declare_lost_if_unresponsive(&mut self, now: Duration, id: &str, actions: &mut Vec<Action>) {
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
        // After a mass loss the hosts reconnect one by one. The replies of the first ones lower the
        // share of hosts without responders below the threshold, but the others must not be
        // declared lost yet (SCHED-CONT-006).
        let in_mass_loss = self.broker_suspected_at.is_some_and(|at| at >= since);
        if !(in_mass_loss && now - since < settling_period) {
            self.declare_lost(id, Reason::NoResponders, actions);
        }
    }

    /// Returns whether a large share of the hosts that were probed after `since` has no responders.
    /// Then it is more likely that a broker failed and its clients are reconnecting to another one
    /// than that all these hosts ended at once. Heartbeats do not count here: they come from all
    /// hosts, while probes have reached only some.
    fn is_broker_suspect(&self, since: Duration) -> bool {
        if self.hosts_without_responders < self.options.mass_loss_threshold {
            return false;
        }
        // Counts healthy hosts only up to the number that decides the result.
        let percent = self.options.mass_loss_percent.max(1);
        let enough = self.hosts_without_responders * 100 / percent + 1;
        let healthy = self.replies.iter().rev().take(enough);
        let healthy = healthy.take_while(|(replied, _)| *replied >= since).count();
        self.hosts_without_responders * 100 / (self.hosts_without_responders + healthy).max(1)
            >= percent
    }

    /// Checks for silence each host whose check is due, and marks it suspect or lost, or forgets
    /// it.
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
                host.next_check_at = next.max(now + Self::TICK);
                self.checks.insert((host.next_check_at, id));
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
        let silent_since = if host.heard_since_connect {
            host.last_heard_at
        } else {
            host.last_heard_at.max(self.settled_at)
        };
        match host.health {
            Health::Alive if now < silent_since + options.suspect_after => {
                Some(silent_since + options.suspect_after)
            }
            Health::Alive => {
                host.health = Health::Suspect;
                actions.push(set_health(id, Health::Suspect, Reason::Silent));
                Some(silent_since + options.lost_after)
            }
            Health::Suspect if now < silent_since + options.lost_after => {
                Some(silent_since + options.lost_after)
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
                self.declare_lost(id, reason, actions);
                Some(silent_since + options.forget_after)
            }
            Health::Lost if now < silent_since + options.forget_after => {
                Some(silent_since + options.forget_after)
            }
            Health::Lost => {
                let host = id.to_owned();
                self.hosts.remove(id);
                actions.push(Action::Forget { host });
                None
            }
        }
    }

    fn declare_lost(&mut self, id: &str, reason: Reason, actions: &mut Vec<Action>) {
        let Some(host) = self.hosts.get_mut(id) else {
            return;
        };
        host.health = Health::Lost;
        self.hosts_without_responders -= usize::from(host.no_responders.take().is_some());
        if let Some(replied) = host.last_replied_at.take() {
            self.replies.remove(&(replied, id.to_owned()));
        }
        if let Some(at) = host.next_probe_at.take() {
            self.probes.remove(&(at, id.to_owned()));
        }
        actions.push(set_health(id, Health::Lost, reason));
    }

    /// Sends the probes that are due, within the probe rate.
    fn send_probes(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if !self.connected {
            return;
        }
        // Unused probe rate expires, so that probes are sent evenly.
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
                host.next_probe_at = None;
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
        if let Some(before) = host.next_probe_at.replace(at) {
            self.probes.remove(&(before, id.to_owned()));
        }
        self.probes.insert((at, id.to_owned()));
    }

    /// Returns the interval between probes of a host, which is longer in a large fleet to stay
    /// within the probe rate.
    fn probe_interval(&self) -> Duration {
        let cost = Duration::from_secs(1) / self.options.probes_per_second.max(1);
        let hosts = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
        self.options.probe_interval.max(cost.saturating_mul(hosts))
    }

    fn on_connected(&mut self, now: Duration) {
        self.connected = true;
        self.settled_at = now + self.options.settling_period;
        self.hosts_without_responders = 0;
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
