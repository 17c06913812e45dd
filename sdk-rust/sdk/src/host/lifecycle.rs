//! The table of ids and their states: decides every reply and every piece of work, and does none.
//!
//! No clock, no I/O: the shell hands in what happened and carries out the actions that come back.

mod entry;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use berth_proto::WorkloadState;

use self::entry::{Entry, Phase};
use super::{Refusal, Report, ReportedState};
use crate::reply::{Code, Status};

/// A start is answered with STARTING when its outcome takes longer; inside the 5 s that schedulers
/// are promised, with room for the way to them.
pub(crate) const STARTING_AFTER: Duration = Duration::from_millis(4500);

/// How many ended workloads stay visible; a scheduler asks within minutes, and one entry is at most
/// an id and a message.
pub(crate) const MAX_ENDED: usize = 1024;

/// How many ids may be in use at once: a backstop against a scheduler run wild, far above what one
/// machine can run.
pub(crate) const MAX_WORKLOADS: usize = 16_384;

/// Longest message that is kept for an id.
const MAX_MESSAGE_BYTES: usize = 4096;

/// One request; the shell chooses it, and each gets exactly one [`Action::Reply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RequestId(pub u64);

/// One attempt to run one workload; never reused, so that late news of an earlier attempt with the
/// same id is known as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RunId(pub u64);

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A well-formed start was received.
    Start { request: RequestId, id: String },
    /// A well-formed stop was received.
    Stop { request: RequestId, id: String },
    /// A well-formed status was received.
    Status { request: RequestId, id: String },
    /// The host brought the workload up.
    Up { run: RunId },
    /// The host could not.
    Refused { run: RunId, refusal: Refusal },
    /// The workload told of its later life.
    Reported { run: RunId, report: Report },
    /// Nothing of this run is left in the host. The last event of each run.
    Gone { run: RunId },
    /// Time has passed.
    Tick,
    /// The host ends: nothing new is begun, everything is ended.
    Shutdown,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Answer this request.
    Reply { request: RequestId, status: Status },
    /// Ask the host to bring a workload up; the workload is the one of this request.
    Begin {
        request: RequestId,
        run: RunId,
        id: String,
    },
    /// Drop the start if it is under way, else hand the instance to the host's stop.
    End { run: RunId },
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    entries: HashMap<String, Entry>,
    ids: HashMap<RunId, String>,
    overdue: BTreeSet<(Duration, RunId)>,
    ended: VecDeque<(RunId, String)>,
    last_run: u64,
    shutting_down: bool,
}

impl Lifecycle {
    /// Takes in one event at `now` (any clock that never goes back) and says what to do.
    pub(crate) fn step(&mut self, now: Duration, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Start { request, id } => self.start(now, request, id, &mut actions),
            Event::Stop { request, id } => self.stop(request, id, &mut actions),
            Event::Status { request, id } => actions.push(reply(request, self.status(id))),
            Event::Up { run } => self.up(run, &mut actions),
            Event::Refused { run, refusal } => self.refused(run, refusal, &mut actions),
            Event::Reported { run, report } => self.reported(run, report, &mut actions),
            Event::Gone { run } => self.gone(run, &mut actions),
            Event::Tick => self.answer_overdue(now, &mut actions),
            Event::Shutdown => self.shut_down(&mut actions),
        }
        actions
    }

    /// When [`Event::Tick`] is due next.
    pub(crate) fn next_tick(&self) -> Option<Duration> {
        self.overdue.first().map(|(at, _)| *at)
    }

    /// Workloads that the host works for: starting, running or stopping.
    pub(crate) fn workload_count(&self) -> u64 {
        self.entries
            .values()
            .filter(|entry| entry.is_active())
            .count() as u64
    }

    /// Whether no run is left in the host.
    pub(crate) fn is_idle(&self) -> bool {
        self.ids.is_empty()
    }

    fn start(&mut self, now: Duration, request: RequestId, id: String, actions: &mut Vec<Action>) {
        if let Some(refusal) = self.refuse_start(&id) {
            let (code, message) = refusal;
            actions.push(reply(request, Status::refused(id, code, message)));
            return;
        }
        self.last_run += 1;
        let run = RunId(self.last_run);
        if let Some(earlier) = self
            .entries
            .insert(id.clone(), Entry::starting(run, request))
        {
            self.ended.retain(|(ended, _)| *ended != earlier.run);
        }
        self.ids.insert(run, id.clone());
        self.overdue.insert((now + STARTING_AFTER, run));
        actions.push(Action::Begin { request, run, id });
    }

    fn refuse_start(&self, id: &str) -> Option<(Code, String)> {
        if self.shutting_down {
            return Some((Code::Unavailable, "the host is shutting down".to_owned()));
        }
        match self.entries.get(id) {
            Some(entry) if !entry.may_start_again() => Some((
                Code::Conflict,
                format!(
                    "the workload id is in use, its state is {}; stop it to use the id again",
                    entry.state().as_str_name()
                ),
            )),
            None if self.entries.len().saturating_sub(self.ended.len()) >= MAX_WORKLOADS => Some((
                Code::Unavailable,
                format!("the host has {MAX_WORKLOADS} workloads and takes no more"),
            )),
            _ => None,
        }
    }

    fn stop(&mut self, request: RequestId, id: String, actions: &mut Vec<Action>) {
        let Some(entry) = self.entries.get_mut(&id) else {
            actions.push(reply(request, Status::not_found(id)));
            return;
        };
        let run = entry.run;
        match &entry.phase {
            Phase::Starting { .. } | Phase::Up { .. } => {
                self.end(&id, "stopped while it was starting", actions);
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

    /// Begins the end of a run that is starting or up, and answers a start that still waits.
    fn end(&mut self, id: &str, why: &str, actions: &mut Vec<Action>) {
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        let run = entry.run;
        if let Phase::Starting {
            waiting: Some(request),
            ..
        } = entry.phase
        {
            let status = Status::new(id, WorkloadState::Stopping, why);
            actions.push(reply(request, status));
        }
        entry.phase = Phase::Stopping;
        self.overdue.retain(|(_, overdue)| *overdue != run);
        actions.push(Action::End { run });
    }

    fn status(&self, id: String) -> Status {
        match self.entries.get(&id) {
            None => Status::not_found(id),
            Some(entry) => Status::new(id, entry.state(), entry.message()),
        }
    }

    fn up(&mut self, run: RunId, actions: &mut Vec<Action>) {
        let Some((id, entry)) = self.entry_of(run) else {
            return;
        };
        let Phase::Starting {
            waiting, report, ..
        } = &mut entry.phase
        else {
            return;
        };
        let waiting = *waiting;
        let report = report.take().filter(|report| report.was_up);
        entry.phase = Phase::Up {
            state: WorkloadState::Running,
            message: "running".to_owned(),
        };
        self.overdue.retain(|(_, overdue)| *overdue != run);
        if let Some(report) = report {
            self.reported(run, report, actions);
        }
        if let Some(request) = waiting {
            actions.push(reply(request, self.status(id)));
        }
    }

    fn refused(&mut self, run: RunId, refusal: Refusal, actions: &mut Vec<Action>) {
        let Some((id, entry)) = self.entry_of(run) else {
            return;
        };
        let Phase::Starting {
            waiting, report, ..
        } = &entry.phase
        else {
            return;
        };
        let waiting = *waiting;
        let guest_ran = refusal.guest_ran() || report.as_ref().is_some_and(|r| r.was_up);
        entry.phase = Phase::Ended {
            state: WorkloadState::Error,
            message: shortened(said(
                refusal.message(),
                "the host refused it and said no reason",
            )),
            guest_ran,
            in_host: true,
        };
        self.overdue.retain(|(_, overdue)| *overdue != run);
        if let Some(request) = waiting {
            actions.push(reply(request, self.status(id)));
        }
    }

    fn reported(&mut self, run: RunId, report: Report, actions: &mut Vec<Action>) {
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
                    *message = shortened(said(&report.message, "starting"));
                }
                *latest = Some(report);
            }
            Phase::Up { state, message } => {
                let (to, default) = match report.state {
                    ReportedState::Starting => (WorkloadState::Starting, "starting"),
                    ReportedState::Running => (WorkloadState::Running, "running"),
                    ReportedState::Completed => (WorkloadState::Completed, "completed"),
                    ReportedState::Failed => (WorkloadState::Error, "failed and said no reason"),
                };
                let text = shortened(said(&report.message, default));
                if matches!(to, WorkloadState::Completed | WorkloadState::Error) {
                    entry.phase = Phase::Ended {
                        state: to,
                        message: text,
                        guest_ran: true,
                        in_host: true,
                    };
                    actions.push(Action::End { run });
                } else {
                    (*state, *message) = (to, text);
                }
            }
            Phase::Stopping | Phase::Ended { .. } => {}
        }
    }

    fn gone(&mut self, run: RunId, actions: &mut Vec<Action>) {
        self.lost(run, actions);
        let Some(id) = self.ids.remove(&run) else {
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

    /// A run that is gone although nothing ended it: say so rather than lose its caller.
    fn lost(&mut self, run: RunId, actions: &mut Vec<Action>) {
        let lost = "the host lost the workload";
        let Some((_, entry)) = self.entry_of(run) else {
            return;
        };
        match &mut entry.phase {
            Phase::Starting { .. } => {
                self.refused(run, Refusal::new(lost).after_guest_ran(), actions);
            }
            phase @ Phase::Up { .. } => {
                *phase = Phase::Ended {
                    state: WorkloadState::Error,
                    message: lost.to_owned(),
                    guest_ran: true,
                    in_host: true,
                };
            }
            Phase::Stopping | Phase::Ended { .. } => {}
        }
    }

    fn answer_overdue(&mut self, now: Duration, actions: &mut Vec<Action>) {
        while let Some((at, run)) = self.overdue.first().copied()
            && at <= now
        {
            self.overdue.remove(&(at, run));
            let Some((id, entry)) = self.entry_of(run) else {
                continue;
            };
            let Phase::Starting { waiting, .. } = &mut entry.phase else {
                continue;
            };
            if let Some(request) = waiting.take() {
                actions.push(reply(request, self.status(id)));
            }
        }
    }

    fn shut_down(&mut self, actions: &mut Vec<Action>) {
        self.shutting_down = true;
        let ids: Vec<String> = self.ids.values().cloned().collect();
        for id in ids {
            let phase = self.entries.get(&id).map(|entry| &entry.phase);
            if matches!(phase, Some(Phase::Starting { .. } | Phase::Up { .. })) {
                self.end(&id, "the host is shutting down", actions);
            }
        }
    }

    fn entry_of(&mut self, run: RunId) -> Option<(String, &mut Entry)> {
        let id = self.ids.get(&run)?.clone();
        let entry = self.entries.get_mut(&id).filter(|entry| entry.run == run)?;
        Some((id, entry))
    }
}

fn reply(request: RequestId, status: Status) -> Action {
    Action::Reply { request, status }
}

/// ERROR without a reason helps nobody.
fn said<'a>(message: &'a str, otherwise: &'a str) -> &'a str {
    if message.is_empty() {
        otherwise
    } else {
        message
    }
}

fn shortened(message: &str) -> String {
    crate::reply::shorten(message, MAX_MESSAGE_BYTES)
}
