//! A simulated host: its incarnations, its replies and its faults. Times are durations since an
//! arbitrary start.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use berth_proto::{HostHeartbeat, WorkloadState};
use berth_scheduler::api::Workload;
use berth_scheduler::core::{CallId, Command, Outcome};

use super::rng::Rng;

/// Execution of commands by a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostBehavior {
    /// As specified: the host claims ids at once, executes commands concurrently, and replies
    /// STARTING after 5 s.
    Prompt,
    /// The host executes one command at a time, sends no heartbeats in the meantime, and does not
    /// keep the id of a failed start.
    Serial,
    /// The host ignores starts and never replies to them.
    Mute,
}

/// The current fault of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostFault {
    None,
    /// The process is gone.
    Dead,
    /// The process is frozen: its connection stays open, and commands are read later.
    Frozen,
    /// The process works, and its connection seems open, but no message passes in either direction.
    CutOff,
    /// The process works without a connection.
    Disconnected,
}

/// An incarnation on the host.
#[derive(Clone, Debug)]
pub struct Entry {
    pub state: WorkloadState,
    pub message: String,
    /// When its start or its stop finishes.
    finishes_at: Duration,
    start_call: Option<CallId>,
    fails: bool,
    /// When the host replies STARTING to a start that is not finished.
    reply_starting_at: Duration,
}

#[derive(Debug)]
pub struct Host {
    pub id: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub environment: String,
    pub cpu_percent: f32,
    pub memory_free_bytes: u64,
    pub behavior: HostBehavior,
    pub fault: HostFault,
    pub entries: BTreeMap<String, Entry>,
    inbox: VecDeque<(CallId, Command)>,
    busy_until: Duration,
    /// Duration of a start, in ms: minimum and maximum.
    pub start_ms: (u64, u64),
    pub fail_percent: u64,
    /// Starts of images that contain this text fail.
    pub failing_image: Option<String>,
}

/// A reply as the core receives it.
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
            behavior: HostBehavior::Prompt,
            fault: HostFault::None,
            entries: BTreeMap::new(),
            inbox: VecDeque::new(),
            busy_until: Duration::ZERO,
            start_ms: (5, 50),
            fail_percent: 0,
            failing_image: None,
        }
    }

    pub fn is_connected(&self) -> bool {
        !matches!(self.fault, HostFault::Dead | HostFault::Disconnected)
    }

    pub fn sends_heartbeats(&self, now: Duration) -> bool {
        self.fault == HostFault::None
            && (self.behavior != HostBehavior::Serial || now >= self.busy_until)
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
            workload_count: self.running_ids().count() as u64,
            ..HostHeartbeat::default()
        }
    }

    pub fn running_ids(&self) -> impl Iterator<Item = &String> {
        let running = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.state == WorkloadState::Running);
        running.map(|(id, _)| id)
    }

    /// Returns the ids that are starting, running or stopping.
    pub fn active_ids(&self) -> impl Iterator<Item = &String> {
        use WorkloadState::{Running, Starting, Stopping};
        let entries = self.entries.iter();
        entries
            .filter(|(_, entry)| matches!(entry.state, Running | Starting | Stopping))
            .map(|(id, _)| id)
    }

    pub fn die(&mut self) {
        self.fault = HostFault::Dead;
        self.entries.clear();
        self.inbox.clear();
    }

    /// Receives a command.
    pub fn receive(
        &mut self,
        now: Duration,
        call: CallId,
        command: Command,
        rng: &mut Rng,
    ) -> Vec<Reply> {
        match self.fault {
            HostFault::CutOff | HostFault::Dead | HostFault::Disconnected => Vec::new(),
            _ => {
                self.inbox.push_back((call, command));
                self.work(now, rng)
            }
        }
    }

    /// Advances entries that are due, executes commands, and returns the replies.
    pub fn work(&mut self, now: Duration, rng: &mut Rng) -> Vec<Reply> {
        let mut replies = Vec::new();
        if matches!(self.fault, HostFault::Dead | HostFault::Frozen) {
            return replies;
        }
        let ids: Vec<String> = self.entries.keys().cloned().collect();
        for id in ids {
            self.advance_entry(now, &id, &mut replies);
        }
        while self.behavior != HostBehavior::Serial || now >= self.busy_until {
            let Some((call, command)) = self.inbox.pop_front() else {
                break;
            };
            self.execute(now, call, command, rng, &mut replies);
        }
        if self.fault == HostFault::CutOff {
            replies.clear();
        }
        replies
    }

    /// Returns when the host has work to do next.
    pub fn next_due_at(&self, now: Duration) -> Option<Duration> {
        if matches!(self.fault, HostFault::Dead | HostFault::Frozen) {
            return None;
        }
        use WorkloadState::{Starting, Stopping};
        let entries = self
            .entries
            .values()
            .filter(|entry| matches!(entry.state, Starting | Stopping));
        let entries = entries.map(|entry| match entry.start_call {
            Some(_) if self.behavior == HostBehavior::Prompt => {
                entry.finishes_at.min(entry.reply_starting_at)
            }
            _ => entry.finishes_at,
        });
        let inbox = (!self.inbox.is_empty()).then_some(self.busy_until);
        entries.chain(inbox).min().map(|at| at.max(now))
    }

    fn advance_entry(&mut self, now: Duration, id: &str, replies: &mut Vec<Reply>) {
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        match entry.state {
            WorkloadState::Starting if now >= entry.finishes_at => {
                (entry.state, entry.message) = if entry.fails {
                    (WorkloadState::Error, "no such image".to_owned())
                } else {
                    (WorkloadState::Running, String::new())
                };
                let (state, message) = (entry.state, entry.message.clone());
                if let Some(call) = entry.start_call.take() {
                    replies.push((call, status_outcome(state, &message)));
                }
                if self.behavior == HostBehavior::Serial && state == WorkloadState::Error {
                    self.entries.remove(id);
                }
            }
            WorkloadState::Starting
                if self.behavior == HostBehavior::Prompt && now >= entry.reply_starting_at =>
            {
                if let Some(call) = entry.start_call.take() {
                    replies.push((call, status_outcome(WorkloadState::Starting, "")));
                }
            }
            WorkloadState::Stopping if now >= entry.finishes_at => {
                self.entries.remove(id);
            }
            _ => {}
        }
    }

    fn execute(
        &mut self,
        now: Duration,
        call: CallId,
        command: Command,
        rng: &mut Rng,
        replies: &mut Vec<Reply>,
    ) {
        match command {
            Command::Status { id } => replies.push((call, self.status(&id))),
            Command::Heartbeat => {
                replies.push((call, Outcome::Heartbeat(Box::new(self.heartbeat()))));
            }
            Command::Stop { id } => {
                let finishes_at = now + Duration::from_millis(rng.between(0, 1500));
                let Some(entry) = self.entries.get_mut(&*id) else {
                    return replies.push((call, status_outcome(WorkloadState::NotFound, "")));
                };
                if entry.state != WorkloadState::Stopping {
                    (entry.state, entry.finishes_at) = (WorkloadState::Stopping, finishes_at);
                    if let Some(start) = entry.start_call.take() {
                        replies.push((start, status_outcome(WorkloadState::Stopping, "")));
                    }
                }
                replies.push((call, status_outcome(WorkloadState::Stopping, "")));
            }
            Command::Start { .. } if self.behavior == HostBehavior::Mute => {}
            Command::Start { id, workload } => {
                if self.entries.contains_key(&*id) {
                    let code = (self.behavior == HostBehavior::Prompt).then_some(409);
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
                let duration = Duration::from_millis(rng.between(self.start_ms.0, self.start_ms.1));
                let entry = Entry {
                    state: WorkloadState::Starting,
                    message: String::new(),
                    finishes_at: now + duration,
                    start_call: Some(call),
                    fails: rng.percent(self.fail_percent) || self.fails(&workload),
                    reply_starting_at: now + Duration::from_secs(5),
                };
                self.busy_until = entry.finishes_at;
                self.entries.insert(id.to_string(), entry);
            }
        }
    }

    fn fails(&self, workload: &Workload) -> bool {
        let has_image = |text: &String| {
            let mut components = workload.spec.components.iter();
            components.any(|component| component.image.contains(text.as_str()))
        };
        self.failing_image.as_ref().is_some_and(has_image)
    }

    /// Inserts an incarnation in this state, as if an earlier command had started it.
    pub fn insert_entry(&mut self, id: &str, state: WorkloadState) {
        let entry = Entry {
            state,
            message: String::new(),
            finishes_at: Duration::ZERO,
            start_call: None,
            fails: false,
            reply_starting_at: Duration::ZERO,
        };
        self.entries.insert(id.to_owned(), entry);
    }

    fn status(&self, id: &str) -> Outcome {
        match self.entries.get(id) {
            Some(entry) => status_outcome(entry.state, &entry.message),
            None => status_outcome(WorkloadState::NotFound, ""),
        }
    }
}

pub fn status_outcome(state: WorkloadState, message: &str) -> Outcome {
    let message = message.to_owned();
    Outcome::Status {
        state,
        message,
        code: None,
    }
}
