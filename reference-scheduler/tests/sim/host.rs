//! A virtual host: what it runs, how it answers, and what can be wrong with it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use berth_proto::{HostHeartbeat, WorkloadState};
use berth_scheduler::api::Workload;
use berth_scheduler::core::{CallId, Command, Outcome};

use super::chance::Chance;

/// How a host goes about its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// By the specification: claims at once, works side by side, says STARTING after 5 s.
    Prompt,
    /// One command at a time, no heartbeats meanwhile, no record of a failed pull.
    Serial,
    /// Never answers a start, nor carries it out.
    Mute,
}

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    None,
    /// The process is gone.
    Dead,
    /// The process stands still; its connection stays, and what it is sent is read later.
    Frozen,
    /// It works, but nothing comes through in either direction, and its connection seems open.
    CutOff,
    /// It works, without a connection.
    Disconnected,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub state: WorkloadState,
    pub message: String,
    /// When its start or its stop is through.
    due: Duration,
    start_call: Option<CallId>,
    fails: bool,
    /// A start of 5 s is answered with STARTING.
    announced_at: Duration,
}

#[derive(Debug)]
pub struct Host {
    pub id: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub environment: String,
    pub cpu_percent: f32,
    pub memory_free_bytes: u64,
    pub manner: Manner,
    pub trouble: Trouble,
    pub entries: BTreeMap<String, Entry>,
    inbox: VecDeque<(CallId, Command)>,
    busy_until: Duration,
    /// How long a start takes, in ms, at least and at most.
    pub start_ms: (u64, u64),
    pub fail_percent: u64,
    /// Images that hold this word cannot be started.
    pub fails_on: Option<String>,
}

/// An answer, once it is due.
pub type Reply = (CallId, Outcome);

impl Host {
    pub fn new(id: &str, name: &str) -> Self {
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            labels: BTreeMap::from([("hostgroup".to_owned(), "default".to_owned())]),
            environment: String::new(),
            cpu_percent: 10.0,
            memory_free_bytes: 4 << 30,
            manner: Manner::Prompt,
            trouble: Trouble::None,
            entries: BTreeMap::new(),
            inbox: VecDeque::new(),
            busy_until: Duration::ZERO,
            start_ms: (5, 50),
            fail_percent: 0,
            fails_on: None,
        }
    }

    pub fn is_connected(&self) -> bool {
        !matches!(self.trouble, Trouble::Dead | Trouble::Disconnected)
    }

    pub fn beats(&self, now: Duration) -> bool {
        self.trouble == Trouble::None && (self.manner != Manner::Serial || now >= self.busy_until)
    }

    pub fn heartbeat(&self) -> HostHeartbeat {
        HostHeartbeat {
            id: self.id.clone(),
            friendly_name: self.name.clone(),
            hostname: self.name.clone(),
            labels: self.labels.clone(),
            environment: self.environment.clone(),
            http_port: 8000,
            system_cpu_usage: self.cpu_percent,
            system_memory_total: 8 << 30,
            system_memory_free: self.memory_free_bytes,
            workload_count: self.running().count() as u64,
            ..HostHeartbeat::default()
        }
    }

    pub fn running(&self) -> impl Iterator<Item = &String> {
        let running = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.state == WorkloadState::Running);
        running.map(|(id, _)| id)
    }

    /// Ids of which a guest runs or may soon.
    pub fn held(&self) -> impl Iterator<Item = &String> {
        use WorkloadState::{Running, Starting, Stopping};
        let held = self.entries.iter();
        held.filter(|(_, entry)| matches!(entry.state, Running | Starting | Stopping))
            .map(|(id, _)| id)
    }

    pub fn die(&mut self) {
        self.trouble = Trouble::Dead;
        self.entries.clear();
        self.inbox.clear();
    }

    /// A command arrives.
    pub fn receive(
        &mut self,
        now: Duration,
        call: CallId,
        command: Command,
        chance: &mut Chance,
    ) -> Vec<Reply> {
        match self.trouble {
            Trouble::CutOff | Trouble::Dead | Trouble::Disconnected => Vec::new(),
            _ => {
                self.inbox.push_back((call, command));
                self.work(now, chance)
            }
        }
    }

    /// Goes on with what is due, and with what has come in.
    pub fn work(&mut self, now: Duration, chance: &mut Chance) -> Vec<Reply> {
        let mut replies = Vec::new();
        if matches!(self.trouble, Trouble::Dead | Trouble::Frozen) {
            return replies;
        }
        let ids: Vec<String> = self.entries.keys().cloned().collect();
        for id in ids {
            self.go_on(now, &id, &mut replies);
        }
        while self.manner != Manner::Serial || now >= self.busy_until {
            let Some((call, command)) = self.inbox.pop_front() else {
                break;
            };
            self.obey(now, call, command, chance, &mut replies);
        }
        if self.trouble == Trouble::CutOff {
            replies.clear();
        }
        replies
    }

    /// When there is something to go on with.
    pub fn next_due(&self, now: Duration) -> Option<Duration> {
        if matches!(self.trouble, Trouble::Dead | Trouble::Frozen) {
            return None;
        }
        use WorkloadState::{Starting, Stopping};
        let entries = self
            .entries
            .values()
            .filter(|entry| matches!(entry.state, Starting | Stopping));
        let entries = entries.map(|entry| match entry.start_call {
            Some(_) if self.manner == Manner::Prompt => entry.due.min(entry.announced_at),
            _ => entry.due,
        });
        let inbox = (!self.inbox.is_empty()).then_some(self.busy_until);
        entries.chain(inbox).min().map(|at| at.max(now))
    }

    fn go_on(&mut self, now: Duration, id: &str, replies: &mut Vec<Reply>) {
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        match entry.state {
            WorkloadState::Starting if now >= entry.due => {
                (entry.state, entry.message) = match entry.fails {
                    true => (WorkloadState::Error, "no such image".to_owned()),
                    false => (WorkloadState::Running, String::new()),
                };
                let (state, message) = (entry.state, entry.message.clone());
                if let Some(call) = entry.start_call.take() {
                    replies.push((call, says(state, &message)));
                }
                if self.manner == Manner::Serial && state == WorkloadState::Error {
                    self.entries.remove(id);
                }
            }
            WorkloadState::Starting
                if self.manner == Manner::Prompt && now >= entry.announced_at =>
            {
                if let Some(call) = entry.start_call.take() {
                    replies.push((call, says(WorkloadState::Starting, "")));
                }
            }
            WorkloadState::Stopping if now >= entry.due => {
                self.entries.remove(id);
            }
            _ => {}
        }
    }

    fn obey(
        &mut self,
        now: Duration,
        call: CallId,
        command: Command,
        chance: &mut Chance,
        replies: &mut Vec<Reply>,
    ) {
        match command {
            Command::Status { id } => replies.push((call, self.status(&id))),
            Command::Stop { id } => {
                let due = now + Duration::from_millis(chance.between(0, 1500));
                let Some(entry) = self.entries.get_mut(&*id) else {
                    return replies.push((call, says(WorkloadState::NotFound, "")));
                };
                if entry.state != WorkloadState::Stopping {
                    (entry.state, entry.due) = (WorkloadState::Stopping, due);
                    if let Some(start) = entry.start_call.take() {
                        replies.push((start, says(WorkloadState::Stopping, "")));
                    }
                }
                replies.push((call, says(WorkloadState::Stopping, "")));
            }
            Command::Start { .. } if self.manner == Manner::Mute => {}
            Command::Start { id, workload } => {
                if self.entries.contains_key(&*id) {
                    let code = (self.manner == Manner::Prompt).then_some(409);
                    let (state, message) = (WorkloadState::Error, "already exists".to_owned());
                    return replies.push((
                        call,
                        Outcome::Status {
                            state,
                            message,
                            code,
                        },
                    ));
                }
                let takes = Duration::from_millis(chance.between(self.start_ms.0, self.start_ms.1));
                let entry = Entry {
                    state: WorkloadState::Starting,
                    message: String::new(),
                    due: now + takes,
                    start_call: Some(call),
                    fails: chance.percent(self.fail_percent) || self.fails(&workload),
                    announced_at: now + Duration::from_secs(5),
                };
                self.busy_until = entry.due;
                self.entries.insert(id.to_string(), entry);
            }
        }
    }

    fn fails(&self, workload: &Workload) -> bool {
        let bad = |word: &String| {
            let mut components = workload.spec.components.iter();
            components.any(|component| component.image.contains(word.as_str()))
        };
        self.fails_on.as_ref().is_some_and(bad)
    }

    /// Gives it an id in some state, as if it had been started before.
    pub fn has(&mut self, id: &str, state: WorkloadState) {
        let entry = Entry {
            state,
            message: String::new(),
            due: Duration::ZERO,
            start_call: None,
            fails: false,
            announced_at: Duration::ZERO,
        };
        self.entries.insert(id.to_owned(), entry);
    }

    fn status(&self, id: &str) -> Outcome {
        match self.entries.get(id) {
            Some(entry) => says(entry.state, &entry.message),
            None => says(WorkloadState::NotFound, ""),
        }
    }
}

pub fn says(state: WorkloadState, message: &str) -> Outcome {
    let message = message.to_owned();
    Outcome::Status {
        state,
        message,
        code: None,
    }
}
