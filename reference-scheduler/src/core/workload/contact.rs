//! What is said to the host about a workload: the start, its repetition, the questions.

use std::sync::Arc;
use std::time::Duration;

use berth_proto::WorkloadState;
use berth_sdk::scheduler::liveness;

use super::Phase;
use super::noted::Noted;
use crate::core::agenda::Item;
use crate::core::call::{Call, Purpose};
use crate::core::{CallId, Command, Outcome, Scheduler};

/// What a stop stays behind a start that may still be on its way, so that it cannot overtake it.
const STOP_AFTER_START: Duration = Duration::from_millis(100);

/// How soon a start is sent again that certainly did not arrive, at first.
const RESEND: Duration = Duration::from_millis(500);

/// And at most.
const RESEND_MAX: Duration = Duration::from_secs(5);

/// How soon a start is tried again that could not be made, at first; then double, up to half a minute.
const REBUILD: Duration = Duration::from_secs(1);

/// What the host's answers may come late by.
const GRACE: Duration = Duration::from_secs(1);

/// The conversation about one id.
#[derive(Debug, Default)]
pub(in crate::core) struct Contact {
    start_call: Option<CallId>,
    status_call: Option<CallId>,
    /// Starts that may have arrived.
    sends: u32,
    first_sent_at: Option<Duration>,
    sent_at: Option<Duration>,
    /// It may be there without our knowing, so that the first thing is a question.
    in_doubt: bool,
    /// What the host said to a start that was not the first, or that could not be understood.
    refusal: Option<String>,
    /// When a start may be sent.
    send_at: Duration,
    /// When to ask next.
    ask_at: Duration,
    /// Questions and starts in a row that led to nothing.
    misses: u32,
    /// When it was last asked for.
    asked_at: Duration,
    /// When the host said STARTING first.
    accepted_at: Duration,
}

impl Contact {
    /// One that may know more than we do.
    pub fn adopt(&mut self, now: Duration, stagger: Duration) {
        *self = Self {
            in_doubt: true,
            first_sent_at: None,
            sends: 1,
            ask_at: now + stagger,
            accepted_at: now,
            ..Self::default()
        };
    }

    /// The connection is back. What a host could not say while it was away does not count against it.
    pub fn begin_again(&mut self, now: Duration) {
        self.first_sent_at = self.first_sent_at.map(|_| now);
        self.accepted_at = now;
        self.misses = 0;
    }

    pub fn ask_later(&mut self, at: Duration) {
        self.ask_at = at;
    }

    pub fn may_have_arrived(&self) -> bool {
        self.sends > 0 || self.start_call.is_some()
    }

    /// Before this, a stop could overtake a start.
    pub fn stop_after(&self) -> Duration {
        self.sent_at
            .map_or(Duration::ZERO, |at| at + STOP_AFTER_START)
    }
}

impl Scheduler {
    /// Says what is to be said now, and when to come back.
    pub(super) fn contact(&mut self, number: u32) -> Option<Duration> {
        if !self.bus_up {
            return None;
        }
        let (now, timings) = (self.now, self.options.timings);
        let record = self.workloads.get(number)?;
        let contact = &record.contact;
        if record.phase == Phase::Accepted && now >= contact.accepted_at + timings.starting_patience
        {
            let message = format!("still STARTING after {:?}", timings.starting_patience);
            self.fail(number, false, message);
            return None;
        }
        if record.phase == Phase::Starting {
            let deadline = contact
                .first_sent_at
                .map(|at| at + timings.start_timeout + GRACE);
            if deadline.is_some_and(|deadline| now >= deadline) {
                let message = format!("no answer to its start within {:?}", timings.start_timeout);
                self.fail(number, false, message);
                return None;
            }
            let quiet = contact.start_call.is_none() && !contact.in_doubt;
            if quiet && now < contact.send_at {
                return Some(contact.send_at);
            }
            if quiet {
                self.send_start(number);
            }
        }
        let contact = &self.workloads.get(number)?.contact;
        let deadline = contact
            .first_sent_at
            .map(|at| at + timings.start_timeout + GRACE);
        let deadline = deadline.filter(|at| *at > now);
        if contact.status_call.is_some() {
            return deadline;
        }
        if now < contact.ask_at {
            return Some(deadline.map_or(contact.ask_at, |deadline| deadline.min(contact.ask_at)));
        }
        self.ask(number);
        deadline
    }

    fn send_start(&mut self, number: u32) {
        let (now, timings) = (self.now, self.options.timings);
        let Some(record) = self.workloads.get_mut(number) else {
            return;
        };
        let object = record.kept.object.clone();
        let Some(place) = &mut record.place else {
            return;
        };
        let Some(workload) = place.content.clone().or(object) else {
            return;
        };
        place.content = Some(workload.clone());
        let (host, id) = (place.host, place.id.clone());
        let contact = &mut record.contact;
        // Answers to questions from before say nothing about this start.
        contact.status_call = None;
        contact.first_sent_at.get_or_insert(now);
        contact.sent_at = Some(now);
        contact.ask_at = now
            + timings
                .start_doubt
                .saturating_mul(1 << contact.sends.min(4));
        contact.sends += 1;
        let call = Call::new(host, id.clone(), Purpose::Start(number));
        let command = Command::Start { workload, id };
        let call_id = self.call(call, command, timings.start_timeout);
        if let Some(record) = self.workloads.get_mut(number) {
            record.contact.start_call = Some(call_id);
        }
        if let Some(host) = self.fleet.get_mut(host) {
            host.open_starts += 1;
            let host = host.id.to_string();
            let until = now + timings.start_timeout;
            self.pulse(liveness::Event::BusyUntil { host, until });
        }
    }

    fn ask(&mut self, number: u32) {
        let Some((host, id)) = self.place_of(number) else {
            return;
        };
        let call = Call::new(host, id.clone(), Purpose::Status(number));
        let timeout = self.options.timings.status_timeout;
        let call_id = self.call(call, Command::Status { id }, timeout);
        self.was_asked(number, call_id);
    }

    fn was_asked(&mut self, number: u32, call_id: CallId) {
        let now = self.now;
        if let Some(record) = self.workloads.get_mut(number) {
            record.contact.status_call = Some(call_id);
            record.contact.asked_at = now;
        }
    }

    fn place_of(&self, number: u32) -> Option<(u32, Arc<str>)> {
        let place = self.workloads.get(number)?.place.as_ref()?;
        Some((place.host, place.id.clone()))
    }

    /// The workload of a host that was not asked for longest, to be asked for in place of a probe.
    pub(in crate::core) fn oldest_asked(&mut self, host: u32) -> Option<(Arc<str>, u32)> {
        let workloads = &self.fleet.get(host)?.workloads;
        let askable = workloads.iter().filter_map(|number| {
            let record = self.workloads.get(*number)?;
            let phase = matches!(record.phase, Phase::Accepted | Phase::Running);
            (phase && record.contact.status_call.is_none()).then_some((record, *number))
        });
        let (record, number) =
            askable.min_by_key(|(record, number)| (record.contact.asked_at, *number))?;
        let id = record.place.as_ref()?.id.clone();
        let next = CallId(self.next_call + 1);
        self.was_asked(number, next);
        Some((id, number))
    }

    /// Whether a call is about what is placed there now.
    fn is_about(&self, number: u32, call: &Call) -> bool {
        let place = self.place_of(number);
        let wanted = self
            .workloads
            .get(number)
            .is_some_and(super::Workload::is_wanted);
        wanted && place.is_some_and(|(host, id)| host == call.host && id == call.id)
    }

    pub(in crate::core) fn start_answered(
        &mut self,
        number: u32,
        call: &Call,
        call_id: CallId,
        outcome: Outcome,
    ) {
        let now = self.now;
        if !self.is_about(number, call) {
            return;
        }
        let Some(record) = self.workloads.get_mut(number) else {
            return;
        };
        let last = record.contact.start_call == Some(call_id);
        if last {
            record.contact.start_call = None;
        }
        if record.phase != Phase::Starting {
            return;
        }
        let contact = &mut record.contact;
        record.config_error = None;
        match outcome {
            Outcome::Status {
                state: WorkloadState::Error,
                message,
                code,
            } => {
                if contact.sends > 1 || code == Some(409) {
                    // Of a start that was sent before, this says nothing.
                    contact.refusal = Some(message);
                    (contact.in_doubt, contact.ask_at) = (true, now);
                } else {
                    return self.fail(number, false, message);
                }
            }
            Outcome::Status { state, message, .. } => return self.told(number, state, message),
            // As good as none: the host may have it or not.
            Outcome::Malformed(_) => {
                (contact.in_doubt, contact.ask_at) = (true, now);
            }
            Outcome::NoResponders if last => {
                contact.not_sent(now, RESEND, RESEND_MAX);
            }
            Outcome::Unbuildable(reason) if last => {
                contact.not_sent(now, REBUILD, REBUILD * 30);
                let told = record.config_error.replace(reason.clone());
                if told.as_ref() != Some(&reason) {
                    let (key, uid) = (record.key.clone(), record.uid.to_string());
                    self.warn(key, uid, "ConfigMissing", reason);
                }
            }
            Outcome::TimedOut | Outcome::Disconnected if last => {
                (contact.in_doubt, contact.ask_at) = (true, now);
            }
            _ => {}
        }
        self.workload_changed(number);
    }

    pub(in crate::core) fn status_answered(
        &mut self,
        number: u32,
        call: &Call,
        call_id: CallId,
        outcome: Outcome,
    ) {
        let now = self.now;
        if !self.is_about(number, call) {
            return;
        }
        let Some(record) = self.workloads.get_mut(number) else {
            return;
        };
        if record.contact.status_call != Some(call_id) {
            return;
        }
        record.contact.status_call = None;
        match outcome {
            Outcome::Status { state, message, .. } => self.told(number, state, message),
            _ => {
                let contact = &mut record.contact;
                let pause = Duration::from_secs(1) * (1 << contact.misses.min(3));
                contact.misses += 1;
                contact.ask_at = now + pause;
                self.agenda.look_at(Item::Workload(number));
            }
        }
    }

    /// The host says how it does.
    fn told(&mut self, number: u32, state: WorkloadState, message: String) {
        let (now, timings) = (self.now, self.options.timings);
        let Some(record) = self.workloads.get_mut(number) else {
            return;
        };
        let before = record.phase;
        if let Some(place) = record.place.as_mut()
            && place.noted == Noted::AsHint
            && state != WorkloadState::NotFound
        {
            place.noted = Noted::InStatus;
        }
        let contact = &mut record.contact;
        contact.misses = 0;
        match (state, before) {
            (_, Phase::Waiting | Phase::Bound | Phase::Completed | Phase::Leaving) => return,
            (WorkloadState::Running, _) => {
                record.phase = Phase::Running;
                contact.ask_at = now + timings.status_interval;
            }
            (WorkloadState::Completed, _) => record.phase = Phase::Completed,
            (WorkloadState::Starting, _) => {
                if before != Phase::Accepted {
                    contact.accepted_at = now;
                }
                record.phase = Phase::Accepted;
                contact.ask_at = now + timings.starting_interval;
            }
            (WorkloadState::NotFound, Phase::Starting) => return self.not_there(number),
            (WorkloadState::NotFound, _) => {
                return self.fail(
                    number,
                    true,
                    "its host does not know it any longer".to_owned(),
                );
            }
            (WorkloadState::Stopping, _) => {
                return self.fail(number, false, "its host is stopping it, unasked".to_owned());
            }
            (WorkloadState::Error | WorkloadState::Unspecified, _) => {
                return self.fail(number, false, message);
            }
        }
        contact.in_doubt = false;
        contact.refusal = None;
        if let Some(place) = &mut record.place {
            place.was_taken = true;
        }
        if matches!(record.phase, Phase::Running | Phase::Completed) {
            contact.first_sent_at = None;
        }
        let ask_at = contact.ask_at;
        let is_news = record.phase != before || record.message != message;
        record.message = message;
        match is_news {
            // Most answers say that all is as it was, and cost nothing but the next question.
            false => self.agenda.look_by(Item::Workload(number), ask_at),
            true => self.workload_changed(number),
        }
    }

    /// A start whose fate was unknown has led to nothing. A start of an earlier scheduler may not have
    /// been sent at all.
    fn not_there(&mut self, number: u32) {
        let now = self.now;
        let Some(record) = self.workloads.get_mut(number) else {
            return;
        };
        if record.is_hint() {
            return self.prove_hint(number);
        }
        let contact = &mut record.contact;
        if let Some(refusal) = contact.refusal.take() {
            return self.fail(number, true, refusal);
        }
        contact.in_doubt = false;
        if contact.start_call.is_some() {
            // SCHED-START-010: the host may be at it, and say so only when it is done. It is asked again.
            let doubt = self.options.timings.start_doubt;
            contact.ask_at = now + doubt.saturating_mul(1 << contact.sends.min(4));
        } else {
            // A host that garbles its answers is not flooded with starts.
            let pause = RESEND.saturating_mul((1 << contact.sends.min(10)) - 1);
            let sent_at = contact.sent_at.unwrap_or(Duration::ZERO);
            contact.send_at = now.max(sent_at + pause.min(RESEND_MAX));
        }
        self.workload_changed(number);
    }
}

impl Contact {
    /// A start certainly did not arrive.
    fn not_sent(&mut self, now: Duration, first: Duration, longest: Duration) {
        self.sends = self.sends.saturating_sub(1);
        if self.sends == 0 {
            (self.first_sent_at, self.sent_at) = (None, None);
        }
        let pause = first.saturating_mul(1 << self.misses.min(10));
        self.misses += 1;
        self.send_at = now + pause.min(longest);
    }
}
