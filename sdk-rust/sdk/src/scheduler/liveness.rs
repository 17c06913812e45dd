//! Which hosts are alive: decides from heartbeats, probes and the connection, and does nothing itself.
//!
//! No clock, no I/O: the shell hands in what happened and carries out the actions that come back.

mod options;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use self::options::LivenessOptions;

/// How a host does, as far as can be known from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// Heard of lately.
    Alive,
    /// Something is wrong; nothing is to be concluded yet.
    Suspect,
    /// Taken for gone. Its workloads may be placed elsewhere, within the rules of fencing.
    Lost,
}

/// Why a host is suspect or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The broker says that nobody listens under its id: the process is gone or cut off.
    NoResponders,
    /// It listens but says nothing: frozen, or busy.
    Silent,
    /// Another process has taken its id: everything that ran in the earlier one is gone.
    Restarted,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    /// A heartbeat arrived.
    Heartbeat { host: String },
    /// A probe was answered, with whatever.
    Answered { host: String },
    /// The broker answered a probe: nobody listens.
    NoResponders { host: String },
    /// A probe has no answer.
    NoAnswer { host: String },
    /// The host has been given a start that it may be silent over until then.
    BusyUntil { host: String, until: Duration },
    /// Our own connection is gone.
    LinkDown,
    /// Our own connection is made, for the first time or again.
    LinkUp,
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Ask for the `status` of any id, and tell how that went.
    Probe { host: String },
    /// The host's health has changed.
    Tell {
        host: String,
        health: Health,
        reason: Option<Reason>,
    },
    /// The host was lost for so long that it is forgotten.
    Forget { host: String },
}

/// What is known of one host.
#[derive(Debug)]
struct Host {
    health: Health,
    heard: Duration,
    /// When it last answered a probe.
    answered: Option<Duration>,
    busy_until: Duration,
    /// When nobody listened for the first time since it was last heard, and how often since.
    deaf: Option<(Duration, u32)>,
    probe_at: Option<Duration>,
}

/// The fleet's pulse.
#[derive(Debug)]
pub(super) struct Liveness {
    options: LivenessOptions,
    hosts: BTreeMap<String, Host>,
    probes: BTreeSet<(Duration, String)>,
    link_up: bool,
    settled_at: Duration,
    probed_until: Duration,
}

impl Liveness {
    pub(super) fn new(options: LivenessOptions) -> Self {
        let (hosts, probes) = (BTreeMap::new(), BTreeSet::new());
        let (settled_at, probed_until) = (Duration::ZERO, Duration::ZERO);
        Self {
            options,
            hosts,
            probes,
            link_up: false,
            settled_at,
            probed_until,
        }
    }

    /// Takes in one event at `now` (any clock that never goes back) and says what to do.
    pub(super) fn step(&mut self, now: Duration, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Heartbeat { host } => self.heard(now, host, true, &mut actions),
            Event::Answered { host } => self.heard(now, host, false, &mut actions),
            Event::NoResponders { host } => self.nobody_listens(now, &host, &mut actions),
            Event::NoAnswer { host } => {
                self.probe_again(&host, now + self.options.silent_probe_interval);
            }
            Event::BusyUntil { host, until } => {
                if let Some(host) = self.hosts.get_mut(&host) {
                    host.busy_until = host.busy_until.max(until);
                }
            }
            Event::LinkDown => self.link_up = false,
            Event::LinkUp => self.link_is_up(now),
            Event::Tick => {
                self.look_for_silence(now, &mut actions);
                self.probe(now, &mut actions);
            }
        }
        actions
    }

    /// How often [`Event::Tick`] is due.
    pub(super) const TICK: Duration = Duration::from_millis(50);

    /// How many hosts are known, lost ones included.
    pub(super) fn len(&self) -> usize {
        self.hosts.len()
    }

    fn heard(&mut self, now: Duration, id: String, by_heartbeat: bool, actions: &mut Vec<Action>) {
        let next_probe = now + self.probe_interval();
        let Some(host) = self.hosts.get_mut(&id) else {
            if by_heartbeat {
                let health = Health::Alive;
                let (busy_until, deaf, probe_at) = (Duration::ZERO, None, None);
                let (heard, answered) = (now, None);
                let host = Host {
                    health,
                    heard,
                    answered,
                    busy_until,
                    deaf,
                    probe_at,
                };
                self.hosts.insert(id.clone(), host);
                self.probe_again(&id, next_probe);
            }
            return;
        };
        // A late answer does not raise the dead: only a heartbeat does.
        if host.health == Health::Lost && !by_heartbeat {
            return;
        }
        let was = std::mem::replace(&mut host.health, Health::Alive);
        host.heard = now;
        if !by_heartbeat {
            host.answered = Some(now);
        }
        host.deaf = None;
        if was != Health::Alive {
            actions.push(Action::Tell {
                host: id.clone(),
                health: Health::Alive,
                reason: None,
            });
        }
        // A heartbeat does not put the probe off, or a host that beats and dies is found late.
        if !by_heartbeat || was != Health::Alive {
            self.probe_again(&id, next_probe);
        }
    }

    fn nobody_listens(&mut self, now: Duration, id: &str, actions: &mut Vec<Action>) {
        if !self.is_settled(now) {
            self.probe_again(id, self.settled_at.max(now));
            return;
        }
        let deaf_probe_interval = self.options.deaf_probe_interval;
        let Some(host) = self.hosts.get_mut(id) else {
            return;
        };
        if host.health == Health::Lost {
            return;
        }
        let (since, times) = host.deaf.unwrap_or((now, 0));
        host.deaf = Some((since, times + 1));
        if host.health == Health::Alive {
            host.health = Health::Suspect;
            actions.push(tell(id, Health::Suspect, Reason::NoResponders));
        }
        self.probe_again(id, now + deaf_probe_interval);
        self.judge_deaf(now, id, actions);
    }

    /// Lost when nobody listened often enough for long enough, and the broker is not to blame.
    fn judge_deaf(&mut self, now: Duration, id: &str, actions: &mut Vec<Action>) {
        let LivenessOptions {
            deaf_for,
            deaf_times,
            ..
        } = self.options;
        let Some((since, times)) = self.hosts.get(id).and_then(|host| host.deaf) else {
            return;
        };
        let confirmed = times >= deaf_times && now - since >= deaf_for;
        if confirmed && !self.broker_is_suspect(since) {
            self.lose(id, Reason::NoResponders, actions);
        }
    }

    /// Whether a large part of the hosts that were probed since then seem gone. It is more likely that
    /// a broker lost them, and that they are on their way to another, than that they all died at once.
    /// Heartbeats do not count here: they come from all, and probes have reached but some.
    fn broker_is_suspect(&self, since: Duration) -> bool {
        let answered = |host: &&Host| host.deaf.is_none() && host.answered >= Some(since);
        let deaf = self
            .hosts
            .values()
            .filter(|host| host.deaf.is_some())
            .count();
        let well = self.hosts.values().filter(answered).count();
        let share_percent = deaf * 100 / (deaf + well).max(1);
        deaf >= self.options.mass_vanish_from
            && share_percent >= self.options.mass_vanish_share_percent
    }

    /// Suspects hosts that listen and say nothing, and gives up on them at the end of their time.
    fn look_for_silence(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if !self.is_settled(now) {
            return;
        }
        let options = self.options;
        let (mut lost, mut forgotten) = (Vec::new(), Vec::new());
        for (id, host) in &mut self.hosts {
            // Silence counts only while we could have heard something.
            let silent = now.saturating_sub(host.heard.max(self.settled_at));
            match host.health {
                Health::Alive if silent >= options.suspect_after => {
                    host.health = Health::Suspect;
                    actions.push(tell(id, Health::Suspect, Reason::Silent));
                }
                Health::Suspect if silent >= options.lost_after => {
                    // Nobody listening is proof enough by now; one that listens may be busy.
                    if host.deaf.is_some() {
                        lost.push((id.clone(), Reason::NoResponders));
                    } else if now >= host.busy_until {
                        lost.push((id.clone(), Reason::Silent));
                    }
                }
                Health::Lost if silent >= options.forget_after => forgotten.push(id.clone()),
                _ => {}
            }
        }
        for (id, reason) in lost {
            self.lose(&id, reason, actions);
        }
        for host in forgotten {
            self.hosts.remove(&host);
            actions.push(Action::Forget { host });
        }
    }

    fn lose(&mut self, id: &str, reason: Reason, actions: &mut Vec<Action>) {
        let Some(host) = self.hosts.get_mut(id) else {
            return;
        };
        host.health = Health::Lost;
        host.deaf = None;
        if let Some(at) = host.probe_at.take() {
            self.probes.remove(&(at, id.to_owned()));
        }
        actions.push(tell(id, Health::Lost, reason));
    }

    /// Sends the probes that are due, as far as the budget goes.
    fn probe(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if !self.is_settled(now) {
            return;
        }
        // What was not used in the last moments is not saved up: probes come evenly.
        let cost = Duration::from_secs(1) / self.options.probes_per_second.max(1);
        self.probed_until = self.probed_until.max(now.saturating_sub(Self::TICK * 2));
        while self.probed_until + cost <= now {
            let Some((at, id)) = self.probes.first().cloned().filter(|(at, _)| *at <= now) else {
                break;
            };
            self.probes.remove(&(at, id.clone()));
            if let Some(host) = self.hosts.get_mut(&id) {
                // The next one is set when this one is answered: one at a time for each host.
                host.probe_at = None;
                self.probed_until += cost;
                actions.push(Action::Probe { host: id });
            }
        }
    }

    fn probe_again(&mut self, id: &str, at: Duration) {
        let Some(host) = self.hosts.get_mut(id) else {
            return;
        };
        if host.health == Health::Lost {
            return;
        }
        if let Some(before) = host.probe_at.replace(at) {
            self.probes.remove(&(before, id.to_owned()));
        }
        self.probes.insert((at, id.to_owned()));
    }

    /// In a small fleet the chosen one; in a large one what the budget allows.
    fn probe_interval(&self) -> Duration {
        let each = Duration::from_secs(1) / self.options.probes_per_second.max(1);
        let hosts = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
        self.options.probe_interval.max(each.saturating_mul(hosts))
    }

    fn link_is_up(&mut self, now: Duration) {
        self.link_up = true;
        self.settled_at = now + self.options.settle;
        for host in self.hosts.values_mut() {
            host.deaf = None;
        }
    }

    fn is_settled(&self, now: Duration) -> bool {
        self.link_up && now >= self.settled_at
    }
}

fn tell(host: &str, health: Health, reason: Reason) -> Action {
    Action::Tell {
        host: host.to_owned(),
        health,
        reason: Some(reason),
    }
}
