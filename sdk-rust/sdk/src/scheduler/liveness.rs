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
pub enum Event {
    /// A heartbeat arrived.
    Heartbeat {
        /// Whose.
        host: String,
    },
    /// The host was there before; it has not been heard since, and counts as alive until something
    /// speaks against it. Says nothing of a host that is known.
    Known {
        /// Which.
        host: String,
        /// Whether it had been lost already, so that only a heartbeat raises it.
        lost: bool,
    },
    /// A probe was answered, with whatever.
    Answered {
        /// By whom.
        host: String,
    },
    /// The broker answered a probe: nobody listens.
    NoResponders {
        /// Under this id.
        host: String,
    },
    /// A probe has no answer.
    NoAnswer {
        /// From whom.
        host: String,
    },
    /// The host has been given a start that it may be silent over until then.
    BusyUntil {
        /// Which.
        host: String,
        /// Until when.
        until: Duration,
    },
    /// The host has answered all starts that it was given.
    Idle {
        /// Which.
        host: String,
    },
    /// Our own connection is gone.
    LinkDown,
    /// Our own connection is made, for the first time or again.
    LinkUp,
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Ask for the `status` of any id, and tell how that went.
    Probe {
        /// Whom.
        host: String,
    },
    /// The host's health has changed.
    Tell {
        /// Whose.
        host: String,
        /// To what.
        health: Health,
        /// Why, where it is not well.
        reason: Option<Reason>,
    },
    /// The host was lost for so long that it is forgotten.
    Forget {
        /// Which.
        host: String,
    },
}

/// What is known of one host.
#[derive(Debug)]
struct Host {
    health: Health,
    heard: Duration,
    /// When it last answered a probe.
    answered: Option<Duration>,
    busy_until: Duration,
    /// Whether it was heard since the connection was last made: only then does its silence tell anything
    /// before the connection has settled.
    heard_on_link: bool,
    /// When nobody listened for the first time since it was last heard, and how often since.
    deaf: Option<(Duration, u32)>,
    probe_at: Option<Duration>,
    look_at: Duration,
}

/// The fleet's pulse.
#[derive(Debug)]
pub struct Liveness {
    options: LivenessOptions,
    hosts: BTreeMap<String, Host>,
    probes: BTreeSet<(Duration, String)>,
    /// When to look whether a host has been silent for too long: once for each host, not moved when it
    /// is heard, so that hearing costs nothing.
    looks: BTreeSet<(Duration, String)>,
    /// When hosts that are well last answered a probe.
    answers: BTreeSet<(Duration, String)>,
    deaf: usize,
    /// When the broker was last suspected of having lost a crowd.
    crowd_at: Option<Duration>,
    link_up: bool,
    settled_at: Duration,
    probed_until: Duration,
}

impl Liveness {
    /// One that knows no hosts, and of no connection.
    pub fn new(options: LivenessOptions) -> Self {
        Self {
            options,
            hosts: BTreeMap::new(),
            probes: BTreeSet::new(),
            looks: BTreeSet::new(),
            answers: BTreeSet::new(),
            deaf: 0,
            crowd_at: None,
            link_up: false,
            settled_at: Duration::ZERO,
            probed_until: Duration::ZERO,
        }
    }

    /// Takes in one event at `now` (any clock that never goes back) and says what to do.
    pub fn step(&mut self, now: Duration, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Heartbeat { host } => self.heard(now, host, true, &mut actions),
            Event::Known { host, lost } => self.known(now, host, lost),
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
            Event::Idle { host: id } => {
                if let Some(host) = self.hosts.get_mut(&id) {
                    host.busy_until = now;
                    // The next look may have been put off to the end of the start.
                    if self.looks.remove(&(host.look_at, id.clone())) {
                        host.look_at = now;
                        self.looks.insert((now, id));
                    }
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

    /// How often [`Event::Tick`] is due at most.
    pub const TICK: Duration = Duration::from_millis(50);

    /// Whether no host is known.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// How many hosts are known, lost ones included.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// When the next [`Event::Tick`] can change anything; [`Liveness::TICK`] after the last is soon enough.
    pub fn next_due(&self) -> Option<Duration> {
        if !self.link_up {
            return None;
        }
        let first = |set: &BTreeSet<(Duration, String)>| set.first().map(|(at, _)| *at);
        let look = first(&self.looks);
        let probe = first(&self.probes).map(|at| at.max(self.probed_until));
        look.into_iter().chain(probe).min()
    }

    fn known(&mut self, now: Duration, id: String, lost: bool) {
        if self.hosts.contains_key(&id) {
            return;
        }
        let next_probe = now + self.probe_interval();
        let (health, look) = match lost {
            true => (Health::Lost, now + self.options.forget_after),
            false => (Health::Alive, now + self.options.suspect_after),
        };
        let host = Host {
            health,
            heard: now,
            answered: None,
            busy_until: Duration::ZERO,
            heard_on_link: false,
            deaf: None,
            probe_at: None,
            look_at: look,
        };
        self.hosts.insert(id.clone(), host);
        self.looks.insert((look, id.clone()));
        self.probe_again(&id, next_probe);
    }

    fn heard(&mut self, now: Duration, id: String, by_heartbeat: bool, actions: &mut Vec<Action>) {
        let next_probe = now + self.probe_interval();
        if by_heartbeat {
            self.known(now, id.clone(), false);
        }
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        // A late answer does not raise the dead: only a heartbeat does.
        if host.health == Health::Lost && !by_heartbeat {
            return;
        }
        let was = std::mem::replace(&mut host.health, Health::Alive);
        (host.heard, host.heard_on_link) = (now, self.link_up);
        if !by_heartbeat && let Some(before) = host.answered.replace(now) {
            self.answers.remove(&(before, id.clone()));
        }
        if let Some(answered) = host.answered {
            self.answers.insert((answered, id.clone()));
        }
        self.deaf -= usize::from(host.deaf.take().is_some());
        if was != Health::Alive {
            self.looks.remove(&(host.look_at, id.clone()));
            host.look_at = now + self.options.suspect_after;
            self.looks.insert((host.look_at, id.clone()));
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
        let settled = self.is_settled(now);
        let Some(host) = self.hosts.get_mut(id) else {
            return;
        };
        if host.health == Health::Lost {
            return;
        }
        // A host that was heard since has come back already: if nobody listens now, it has gone.
        if !(settled || self.link_up && host.heard_on_link) {
            let next = self.settled_at.max(now + self.options.deaf_probe_interval);
            return self.probe_again(id, next);
        }
        if host.deaf.is_none() {
            self.deaf += 1;
            if let Some(answered) = host.answered {
                self.answers.remove(&(answered, id.to_owned()));
            }
        }
        let (since, times) = host.deaf.unwrap_or((now, 0));
        host.deaf = Some((since, times + 1));
        if host.health == Health::Alive {
            host.health = Health::Suspect;
            actions.push(tell(id, Health::Suspect, Reason::NoResponders));
        }
        self.probe_again(id, now + self.options.deaf_probe_interval);
        self.judge_deaf(now, id, actions);
    }

    /// Lost when nobody listened often enough for long enough, and the broker is not to blame.
    fn judge_deaf(&mut self, now: Duration, id: &str, actions: &mut Vec<Action>) {
        let LivenessOptions {
            deaf_for,
            deaf_times,
            settle,
            ..
        } = self.options;
        let Some((since, times)) = self.hosts.get(id).and_then(|host| host.deaf) else {
            return;
        };
        if times < deaf_times || now - since < deaf_for {
            return;
        }
        if self.broker_is_suspect(since) {
            self.crowd_at = Some(now);
            return;
        }
        // A crowd comes back one by one: the last of it must not be judged by the first (SCHED-CONT-006).
        let in_crowd = self.crowd_at.is_some_and(|at| at >= since);
        if !(in_crowd && now - since < settle) {
            self.lose(id, Reason::NoResponders, actions);
        }
    }

    /// Whether a large part of the hosts that were probed since then seem gone. It is more likely that
    /// a broker lost them, and that they are on their way to another, than that they all died at once.
    /// Heartbeats do not count here: they come from all, and probes have reached but some.
    fn broker_is_suspect(&self, since: Duration) -> bool {
        if self.deaf < self.options.mass_vanish_from {
            return false;
        }
        // No more than it takes to outweigh the deaf are counted.
        let share_percent = self.options.mass_vanish_share_percent.max(1);
        let enough = self.deaf * 100 / share_percent + 1;
        let well = self.answers.iter().rev().take(enough);
        let well = well.take_while(|(answered, _)| *answered >= since).count();
        self.deaf * 100 / (self.deaf + well).max(1) >= share_percent
    }

    /// Suspects hosts that listen and say nothing, and gives up on them at the end of their time.
    fn look_for_silence(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if !self.link_up {
            return;
        }
        while let Some((at, id)) = self.looks.pop_first() {
            if at > now {
                self.looks.insert((at, id));
                break;
            }
            let next = self.look_at(now, &id, actions);
            if let Some((next, host)) = next.zip(self.hosts.get_mut(&id)) {
                host.look_at = next.max(now + Self::TICK);
                self.looks.insert((host.look_at, id));
            }
        }
    }

    /// Judges the silence of one host, and says when to do so again. That is said once for each host.
    fn look_at(&mut self, now: Duration, id: &str, actions: &mut Vec<Action>) -> Option<Duration> {
        let options = self.options;
        let settled = self.is_settled(now);
        let host = self.hosts.get_mut(id)?;
        if !settled && !host.heard_on_link {
            return Some(self.settled_at);
        }
        // Silence counts only while we could have heard something: a host that was heard has come back.
        let heard = match host.heard_on_link {
            true => host.heard,
            false => host.heard.max(self.settled_at),
        };
        match host.health {
            Health::Alive if now < heard + options.suspect_after => {
                Some(heard + options.suspect_after)
            }
            Health::Alive => {
                host.health = Health::Suspect;
                actions.push(tell(id, Health::Suspect, Reason::Silent));
                Some(heard + options.lost_after)
            }
            Health::Suspect if now < heard + options.lost_after => Some(heard + options.lost_after),
            // Nobody listening is proof enough by now; one that listens may be busy.
            Health::Suspect if host.deaf.is_none() && now < host.busy_until => {
                Some(host.busy_until)
            }
            Health::Suspect => {
                let reason = match host.deaf {
                    Some(_) => Reason::NoResponders,
                    None => Reason::Silent,
                };
                self.lose(id, reason, actions);
                Some(heard + options.forget_after)
            }
            Health::Lost if now < heard + options.forget_after => {
                Some(heard + options.forget_after)
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
        self.deaf -= usize::from(host.deaf.take().is_some());
        if let Some(answered) = host.answered.take() {
            self.answers.remove(&(answered, id.to_owned()));
        }
        if let Some(at) = host.probe_at.take() {
            self.probes.remove(&(at, id.to_owned()));
        }
        actions.push(tell(id, Health::Lost, reason));
    }

    /// Sends the probes that are due, as far as the budget goes.
    fn probe(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if !self.link_up {
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
        self.deaf = 0;
        for host in self.hosts.values_mut() {
            (host.deaf, host.heard_on_link) = (None, false);
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
