//! State machine of workload IDs: decides every reply, every start and every stop.
//!
//! The state machine does no I/O and reads no clock: the caller passes events in and executes the
//! returned actions. A time is a duration since an arbitrary point, the same for all calls.

mod entry;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use berth_proto::WorkloadState;

use self::entry::{Entry, Phase};
use super::{ReportedState, StartError, StatusReport};
use crate::reply::{Code, Status};

/// Time after which the reply to an unfinished start is STARTING: within the 5 s that schedulers
/// rely on, with a margin for the network.
pub(crate) const REPLY_STARTING_AFTER: Duration = Duration::from_millis(4500);

/// Maximum number of ended workloads that stay visible at once. Enough, because a scheduler
/// requests their status within minutes, and cheap, because an entry holds at most an ID and a
/// message.
pub(crate) const MAX_ENDED: usize = 1024;

/// Maximum number of IDs in use at once on one host: a protection against a runaway scheduler, far
/// above the capacity of one machine.
pub(crate) const MAX_WORKLOADS: usize = 16_384;

/// Maximum length of the message of an ID.
const MAX_MESSAGE_BYTES: usize = 4096;

/// ID of a request, chosen by the caller. Each request gets exactly one [`Action::Reply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RequestId(pub u64);

/// ID of a run: one execution of a start, until the host has released the instance. Never reused,
/// so that a late event of an earlier run with the same workload ID is recognized as stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RunId(pub u64);

/// An input of the state machine.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A well-formed start was received.
    Start { request: RequestId, id: String },
    /// A well-formed stop was received.
    Stop { request: RequestId, id: String },
    /// A well-formed status was received.
    Status { request: RequestId, id: String },
    /// The host has started the workload.
    Started { run: RunId },
    /// The host cannot start the workload.
    StartFailed { run: RunId, error: StartError },
    /// The workload has reported a state change.
    Reported { run: RunId, report: StatusReport },
    /// The host has released all resources of the run. The last event of each run.
    Released { run: RunId },
    /// Time has passed.
    Tick,
    /// The host begins to shut down: it refuses new starts, and cancels those in progress.
    Drain,
    /// The host shuts down: it refuses new starts and stops all workloads.
    Shutdown,
}

/// An output of the state machine.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Reply to this request.
    Reply { request: RequestId, status: Status },
    /// Have the host start the workload of this request.
    StartRun {
        request: RequestId,
        run: RunId,
        id: String,
    },
    /// Cancel the start if it is in progress; otherwise have the host stop the instance.
    StopRun { run: RunId },
}

/// All IDs with their states, by ID and by run.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    entries: HashMap<String, Entry>,
    /// Workload ID of each run that the host has not released.
    id_by_run: HashMap<RunId, String>,
    /// Times at which unfinished starts get the reply STARTING.
    start_deadlines: BTreeSet<(Duration, RunId)>,
    /// Ended and released runs that stay visible, the oldest first.
    ended: VecDeque<(RunId, String)>,
    /// Number of the most recent run.
    latest_run: u64,
    shutting_down: bool,
}

impl Lifecycle {
    /// Applies an event at `now` (any monotonic clock) and returns the actions to execute.
    pub(crate) fn step(&mut self, now: Duration, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Start { request, id } => self.on_start(now, request, id, &mut actions),
            Event::Stop { request, id } => self.on_stop(request, id, &mut actions),
            Event::Status { request, id } => actions.push(reply(request, self.status(id))),
            Event::Started { run } => self.on_started(run, &mut actions),
            Event::StartFailed { run, error } => self.on_start_failed(run, error, &mut actions),
            Event::Reported { run, report } => self.on_reported(run, report, &mut actions),
            Event::Released { run } => self.on_released(run, &mut actions),
            Event::Tick => self.reply_to_overdue_starts(now, &mut actions),
            Event::Drain => self.on_drain(&mut actions),
            Event::Shutdown => self.on_shutdown(&mut actions),
        }
        actions
    }

    /// Returns the time of the next [`Event::Tick`], if any.
    pub(crate) fn next_tick_at(&self) -> Option<Duration> {
        self.start_deadlines.first().map(|(at, _)| *at)
    }

    /// Returns the number of workloads that are starting, running or stopping.
    pub(crate) fn workload_count(&self) -> u64 {
        self.entries
            .values()
            .filter(|entry| entry.is_active())
            .count() as u64
    }

    /// Returns whether the host has released all runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.id_by_run.is_empty()
    }

    fn on_start(
        &mut self,
        now: Duration,
        request: RequestId,
        id: String,
        actions: &mut Vec<Action>,
    ) {
        if let Some((code, message)) = self.refusal(&id) {
            actions.push(reply(request, Status::refused(id, code, message)));
            return;
        }
        self.latest_run += 1;
        let run = RunId(self.latest_run);
        if let Some(earlier) = self
            .entries
            .insert(id.clone(), Entry::starting(run, request))
        {
            self.ended.retain(|(ended, _)| *ended != earlier.run);
        }
        self.id_by_run.insert(run, id.clone());
        self.start_deadlines
            .insert((now + REPLY_STARTING_AFTER, run));
        actions.push(Action::StartRun { request, run, id });
    }

    /// Returns the reason to refuse a start, if any.
    fn refusal(&self, id: &str) -> Option<(Code, String)> {
        if self.shutting_down {
            return Some((Code::Unavailable, "the host is shutting down".to_owned()));
        }
        match self.entries.get(id) {
            Some(entry) if !entry.may_start_again() => Some((
                Code::Conflict,
                format!(
                    "the workload ID is in use in state {}; stop it before reusing the ID",
                    entry.state().as_str_name()
                ),
            )),
            None if self.entries.len().saturating_sub(self.ended.len()) >= MAX_WORKLOADS => Some((
                Code::Unavailable,
                format!("the host has reached its limit of {MAX_WORKLOADS} workloads"),
            )),
            _ => None,
        }
    }

    fn on_stop(&mut self, request: RequestId, id: String, actions: &mut Vec<Action>) {
        let Some(entry) = self.entries.get_mut(&id) else {
            actions.push(reply(request, Status::not_found(id)));
            return;
        };
        let run = entry.run;
        match &entry.phase {
            Phase::Starting { .. } | Phase::Started { .. } => {
                self.stop_run(&id, "stopped during its start", actions);
            }
            Phase::Ended { in_host: true, .. } => entry.phase = Phase::Stopping,
            Phase::Ended { in_host: false, .. } => {
                self.entries.remove(&id);
                self.ended.retain(|(ended, _)| *ended != run);
            }
            Phase::Stopping => {}
        }
        actions.push(reply(
            request,
            Status::new(id, WorkloadState::Stopping, "stopping"),
        ));
    }

    /// Stops a run that is starting or started, and replies to its start request if that is
    /// pending.
    fn stop_run(&mut self, id: &str, reason: &str, actions: &mut Vec<Action>) {
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        let run = entry.run;
        if let Phase::Starting {
            unanswered: Some(request),
            ..
        } = entry.phase
        {
            let status = Status::new(id, WorkloadState::Stopping, reason);
            actions.push(reply(request, status));
        }
        entry.phase = Phase::Stopping;
        self.remove_deadline(run);
        actions.push(Action::StopRun { run });
    }

    fn status(&self, id: String) -> Status {
        match self.entries.get(&id) {
            None => Status::not_found(id),
            Some(entry) => Status::new(id, entry.state(), entry.message()),
        }
    }

    fn on_started(&mut self, run: RunId, actions: &mut Vec<Action>) {
        let Some((id, entry)) = self.entry_of(run) else {
            return;
        };
        let Phase::Starting {
            unanswered, report, ..
        } = &mut entry.phase
        else {
            return;
        };
        let unanswered = *unanswered;
        let report = report.take().filter(|report| report.has_run);
        entry.phase = Phase::Started {
            state: WorkloadState::Running,
            message: "running".to_owned(),
        };
        self.remove_deadline(run);
        if let Some(report) = report {
            self.on_reported(run, report, actions);
        }
        if let Some(request) = unanswered {
            actions.push(reply(request, self.status(id)));
        }
    }

    fn on_start_failed(&mut self, run: RunId, error: StartError, actions: &mut Vec<Action>) {
        let Some((id, entry)) = self.entry_of(run) else {
            return;
        };
        let Phase::Starting {
            unanswered, report, ..
        } = &entry.phase
        else {
            return;
        };
        let unanswered = *unanswered;
        // A start is not retryable if guest code has run.
        let guest_ran = !error.is_retryable() || report.as_ref().is_some_and(|r| r.has_run);
        entry.phase = Phase::Ended {
            state: WorkloadState::Error,
            message: message_or(error.message(), "the start failed, no reason given"),
            guest_ran,
            in_host: true,
        };
        self.remove_deadline(run);
        if let Some(request) = unanswered {
            actions.push(reply(request, self.status(id)));
        }
    }

    fn on_reported(&mut self, run: RunId, report: StatusReport, actions: &mut Vec<Action>) {
        let Some((_, entry)) = self.entry_of(run) else {
            return;
        };
        match &mut entry.phase {
            Phase::Starting {
                message,
                report: latest,
                ..
            } => {
                if report.state == ReportedState::Starting {
                    *message = message_or(&report.message, "starting");
                }
                *latest = Some(report);
            }
            Phase::Started { state, message } => {
                let (to, default) = match report.state {
                    ReportedState::Starting => (WorkloadState::Starting, "starting"),
                    ReportedState::Running => (WorkloadState::Running, "running"),
                    ReportedState::Completed => (WorkloadState::Completed, "completed"),
                    ReportedState::Failed => (WorkloadState::Error, "failed, no reason given"),
                };
                let text = message_or(&report.message, default);
                if matches!(to, WorkloadState::Completed | WorkloadState::Error) {
                    entry.phase = Phase::Ended {
                        state: to,
                        message: text,
                        guest_ran: true,
                        in_host: true,
                    };
                    actions.push(Action::StopRun { run });
                } else {
                    (*state, *message) = (to, text);
                }
            }
            Phase::Stopping | Phase::Ended { .. } => {}
        }
    }

    fn on_released(&mut self, run: RunId, actions: &mut Vec<Action>) {
        self.fail_unfinished(run, actions);
        let Some(id) = self.id_by_run.remove(&run) else {
            return;
        };
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.run == run) else {
            return;
        };
        if let Phase::Ended { in_host, .. } = &mut entry.phase {
            *in_host = false;
            self.ended.push_back((run, id));
            if self.ended.len() > MAX_ENDED
                && let Some((_, oldest)) = self.ended.pop_front()
            {
                self.entries.remove(&oldest);
            }
        } else {
            self.entries.remove(&id);
        }
    }

    /// Fails a run that was released without being stopped, so that its start request gets a reply.
    fn fail_unfinished(&mut self, run: RunId, actions: &mut Vec<Action>) {
        let message = "the host lost the workload";
        let Some((_, entry)) = self.entry_of(run) else {
            return;
        };
        match &mut entry.phase {
            Phase::Starting { .. } => {
                self.on_start_failed(run, StartError::new(message).non_retryable(), actions);
            }
            phase @ Phase::Started { .. } => {
                *phase = Phase::Ended {
                    state: WorkloadState::Error,
                    message: message.to_owned(),
                    guest_ran: true,
                    in_host: true,
                };
            }
            Phase::Stopping | Phase::Ended { .. } => {}
        }
    }

    fn reply_to_overdue_starts(&mut self, now: Duration, actions: &mut Vec<Action>) {
        while let Some((at, run)) = self.start_deadlines.first().copied()
            && at <= now
        {
            self.start_deadlines.remove(&(at, run));
            let Some((id, entry)) = self.entry_of(run) else {
                continue;
            };
            let Phase::Starting { unanswered, .. } = &mut entry.phase else {
                continue;
            };
            if let Some(request) = unanswered.take() {
                actions.push(reply(request, self.status(id)));
            }
        }
    }

    fn on_drain(&mut self, actions: &mut Vec<Action>) {
        self.shutting_down = true;
        self.stop_runs(|phase| matches!(phase, Phase::Starting { .. }), actions);
    }

    fn on_shutdown(&mut self, actions: &mut Vec<Action>) {
        self.shutting_down = true;
        let unfinished =
            |phase: &Phase| matches!(phase, Phase::Starting { .. } | Phase::Started { .. });
        self.stop_runs(unfinished, actions);
    }

    fn stop_runs(&mut self, stops: impl Fn(&Phase) -> bool, actions: &mut Vec<Action>) {
        let ids: Vec<String> = self.id_by_run.values().cloned().collect();
        for id in ids {
            if self
                .entries
                .get(&id)
                .is_some_and(|entry| stops(&entry.phase))
            {
                self.stop_run(&id, "the host is shutting down", actions);
            }
        }
    }

    fn remove_deadline(&mut self, run: RunId) {
        self.start_deadlines.retain(|(_, other)| *other != run);
    }

    fn entry_of(&mut self, run: RunId) -> Option<(String, &mut Entry)> {
        let id = self.id_by_run.get(&run)?.clone();
        let entry = self.entries.get_mut(&id).filter(|entry| entry.run == run)?;
        Some((id, entry))
    }
}

fn reply(request: RequestId, status: Status) -> Action {
    Action::Reply { request, status }
}

/// Returns the message, or a default for an empty one, within [`MAX_MESSAGE_BYTES`].
fn message_or(message: &str, default: &str) -> String {
    let message = if message.is_empty() { default } else { message };
    crate::text::shorten(message, MAX_MESSAGE_BYTES)
}
