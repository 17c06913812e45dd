//! Sends starts to the host, repeats them, and polls the state of the incarnation. Times are
//! durations since an arbitrary start.

use std::sync::Arc;
use std::time::Duration;

use berth_proto::WorkloadState;
use berth_sdk::scheduler::liveness;

use super::Phase;
use super::placement_record::PlacementRecord;
use crate::core::in_flight::{InFlightCall, Purpose};
use crate::core::work_queue::WorkItem;
use crate::core::{CallId, Command, Outcome, Scheduler};

/// Delay of a stop after a start that may still be in flight, so that the stop cannot overtake the
/// start.
const STOP_DELAY_AFTER_START: Duration = Duration::from_millis(100);

/// First delay before a start that was not delivered is sent again, doubled each time.
const RESEND_DELAY: Duration = Duration::from_millis(500);

/// Maximum delay before a start that was not delivered is sent again.
const RESEND_DELAY_MAX: Duration = Duration::from_secs(5);

/// First delay before a start request that could not be built is built again, doubled each time.
const REBUILD_DELAY: Duration = Duration::from_secs(1);

/// Maximum delay before such a request is built again. SCHED-REF-002: a workload is started within
/// `act` of the creation of the last object that it references.
const REBUILD_DELAY_MAX: Duration = Duration::from_secs(3);

/// Time beyond the start timeout in which a reply may still arrive.
const REPLY_GRACE_PERIOD: Duration = Duration::from_secs(1);

/// The calls about one incarnation.
#[derive(Debug, Default)]
pub(in crate::core) struct Dispatch {
    start_call: Option<CallId>,
    status_call: Option<CallId>,
    /// Number of starts that may have reached the host.
    send_count: u32,
    first_sent_at: Option<Duration>,
    last_sent_at: Option<Duration>,
    /// Whether a start may have reached the host, so that the host is polled before another start.
    outcome_unknown: bool,
    /// Message with which the host refused a repeated start. An earlier start may have succeeded.
    refusal: Option<String>,
    /// When the next start may be sent.
    next_send_at: Duration,
    /// When the next status poll is due.
    next_poll_at: Duration,
    /// Consecutive starts and polls without a result.
    failures: u32,
    /// When the most recent status poll was sent.
    last_polled_at: Duration,
    /// When the host first replied STARTING.
    accepted_at: Duration,
}

impl Dispatch {
    /// Resets the state for an adopted incarnation, whose start another scheduler may have sent.
    pub fn adopt(&mut self, now: Duration, first_poll_delay: Duration) {
        *self = Self {
            outcome_unknown: true,
            first_sent_at: None,
            send_count: 1,
            next_poll_at: now + first_poll_delay,
            accepted_at: now,
            ..Self::default()
        };
    }

    /// Restarts the deadlines after a reconnect, because the host could not report anything without
    /// the connection.
    pub fn restart_deadlines(&mut self, now: Duration) {
        self.first_sent_at = self.first_sent_at.map(|_| now);
        self.accepted_at = now;
        self.failures = 0;
    }

    pub fn poll_at(&mut self, at: Duration) {
        self.next_poll_at = at;
    }

    pub fn start_may_have_arrived(&self) -> bool {
        self.send_count > 0 || self.start_call.is_some()
    }

    /// Returns the earliest time at which a stop cannot overtake a start.
    pub fn earliest_stop_at(&self) -> Duration {
        self.last_sent_at
            .map_or(Duration::ZERO, |at| at + STOP_DELAY_AFTER_START)
    }
}

impl Scheduler {
    /// Sends the calls that are due and returns when to check again.
    pub(super) fn dispatch(&mut self, workload_index: u32) -> Option<Duration> {
        if !self.bus_connected {
            return None;
        }
        let (now, timings) = (self.now, self.options.timings);
        let record = self.workloads.get(workload_index)?;
        let dispatch = &record.dispatch;
        if record.phase == Phase::Accepted && now >= dispatch.accepted_at + timings.starting_timeout
        {
            let message = format!("still STARTING after {:?}", timings.starting_timeout);
            self.mark_failed(workload_index, message);
            return None;
        }
        if record.phase == Phase::Starting {
            let deadline = dispatch
                .first_sent_at
                .map(|at| at + timings.start_timeout + REPLY_GRACE_PERIOD);
            if deadline.is_some_and(|deadline| now >= deadline) {
                let message = format!("no reply to the start within {:?}", timings.start_timeout);
                self.mark_failed(workload_index, message);
                return None;
            }
            let can_start = dispatch.start_call.is_none() && !dispatch.outcome_unknown;
            if can_start && now < dispatch.next_send_at {
                return Some(dispatch.next_send_at);
            }
            if can_start {
                self.send_start(workload_index);
            }
        }
        let dispatch = &self.workloads.get(workload_index)?.dispatch;
        let deadline = dispatch
            .first_sent_at
            .map(|at| at + timings.start_timeout + REPLY_GRACE_PERIOD);
        let deadline = deadline.filter(|at| *at > now);
        if dispatch.status_call.is_some() {
            return deadline;
        }
        if now < dispatch.next_poll_at {
            return Some(deadline.map_or(dispatch.next_poll_at, |deadline| {
                deadline.min(dispatch.next_poll_at)
            }));
        }
        self.poll_status(workload_index);
        deadline
    }

    fn send_start(&mut self, workload_index: u32) {
        let (now, timings) = (self.now, self.options.timings);
        let Some(record) = self.workloads.get_mut(workload_index) else {
            return;
        };
        let object = record.cached.object.clone();
        let Some(assignment) = &mut record.assignment else {
            return;
        };
        let Some(workload) = assignment.content.clone().or(object) else {
            return;
        };
        assignment.content = Some(workload.clone());
        let (host, id) = (assignment.host, assignment.id.clone());
        let dispatch = &mut record.dispatch;
        // Replies to earlier polls do not reflect this start.
        dispatch.status_call = None;
        dispatch.first_sent_at.get_or_insert(now);
        dispatch.last_sent_at = Some(now);
        dispatch.next_poll_at = now
            + timings
                .start_poll_delay
                .saturating_mul(1 << dispatch.send_count.min(4));
        dispatch.send_count += 1;
        let call = InFlightCall::new(host, id.clone(), Purpose::Start(workload_index));
        let command = Command::Start { workload, id };
        let call_id = self.call(call, command, timings.start_timeout);
        if let Some(record) = self.workloads.get_mut(workload_index) {
            record.dispatch.start_call = Some(call_id);
        }
        if let Some(host) = self.fleet.get_mut(host) {
            host.starts_in_flight += 1;
            let host = host.id.to_string();
            let until = now + timings.start_timeout;
            self.step_liveness(liveness::Event::BusyUntil { host, until });
        }
    }

    fn poll_status(&mut self, workload_index: u32) {
        let Some((host, id)) = self.assignment_of(workload_index) else {
            return;
        };
        let call = InFlightCall::new(host, id.clone(), Purpose::Status(workload_index));
        let timeout = self.options.timings.status_timeout;
        let call_id = self.call(call, Command::Status { id }, timeout);
        self.record_poll(workload_index, call_id);
    }

    fn record_poll(&mut self, workload_index: u32, call_id: CallId) {
        let now = self.now;
        if let Some(record) = self.workloads.get_mut(workload_index) {
            record.dispatch.status_call = Some(call_id);
            record.dispatch.last_polled_at = now;
        }
    }

    fn assignment_of(&self, workload_index: u32) -> Option<(u32, Arc<str>)> {
        let assignment = self.workloads.get(workload_index)?.assignment.as_ref()?;
        Some((assignment.host, assignment.id.clone()))
    }

    /// Returns the least recently polled workload of a host, which is polled in place of a separate
    /// probe.
    pub(in crate::core) fn least_recently_polled(&mut self, host: u32) -> Option<(Arc<str>, u32)> {
        let workloads = &self.fleet.get(host)?.workloads;
        let pollable = workloads.iter().filter_map(|index| {
            let record = self.workloads.get(*index)?;
            let is_accepted = matches!(record.phase, Phase::Accepted | Phase::Running);
            (is_accepted && record.dispatch.status_call.is_none()).then_some((record, *index))
        });
        let (record, workload_index) =
            pollable.min_by_key(|(record, index)| (record.dispatch.last_polled_at, *index))?;
        let id = record.assignment.as_ref()?.id.clone();
        let next_call_id = CallId(self.next_call + 1);
        self.record_poll(workload_index, next_call_id);
        Some((id, workload_index))
    }

    /// Returns whether a call is about the current assignment of a wanted workload.
    fn is_about_current_assignment(&self, workload_index: u32, call: &InFlightCall) -> bool {
        let assignment = self.assignment_of(workload_index);
        let is_wanted = self
            .workloads
            .get(workload_index)
            .is_some_and(super::Workload::is_wanted);
        is_wanted && assignment.is_some_and(|(host, id)| host == call.host && id == call.id)
    }

    pub(in crate::core) fn on_start_finished(
        &mut self,
        workload_index: u32,
        call: &InFlightCall,
        call_id: CallId,
        outcome: Outcome,
    ) {
        let now = self.now;
        if !self.is_about_current_assignment(workload_index, call) {
            return;
        }
        let Some(record) = self.workloads.get_mut(workload_index) else {
            return;
        };
        let is_latest = record.dispatch.start_call == Some(call_id);
        if is_latest {
            record.dispatch.start_call = None;
        }
        if record.phase != Phase::Starting {
            return;
        }
        let dispatch = &mut record.dispatch;
        record.config_error = None;
        match outcome {
            Outcome::Status {
                state: WorkloadState::Error,
                message,
                code,
            } => {
                if dispatch.send_count > 1 || code == Some(409) {
                    // An earlier start may have succeeded.
                    dispatch.refusal = Some(message);
                    (dispatch.outcome_unknown, dispatch.next_poll_at) = (true, now);
                } else {
                    return self.mark_failed(workload_index, message);
                }
            }
            Outcome::Status { state, message, .. } => {
                return self.apply_state(workload_index, state, message);
            }
            // Handled like a missing response: the host may have accepted the start.
            Outcome::InvalidResponse(_) => {
                (dispatch.outcome_unknown, dispatch.next_poll_at) = (true, now);
            }
            Outcome::NoResponders if is_latest => {
                dispatch.record_not_delivered(now, RESEND_DELAY, RESEND_DELAY_MAX);
            }
            Outcome::InvalidRequest(reason) if is_latest => {
                dispatch.record_not_delivered(now, REBUILD_DELAY, REBUILD_DELAY_MAX);
                let reported = record.config_error.replace(reason.clone());
                if reported.as_ref() != Some(&reason) {
                    let (key, uid) = (record.key.clone(), record.uid.to_string());
                    self.record_warning(key, uid, "ConfigMissing", reason);
                }
            }
            Outcome::TimedOut | Outcome::Disconnected if is_latest => {
                (dispatch.outcome_unknown, dispatch.next_poll_at) = (true, now);
            }
            _ => {}
        }
        self.on_workload_changed(workload_index);
    }

    pub(in crate::core) fn on_status_finished(
        &mut self,
        workload_index: u32,
        call: &InFlightCall,
        call_id: CallId,
        outcome: Outcome,
    ) {
        let now = self.now;
        if !self.is_about_current_assignment(workload_index, call) {
            return;
        }
        let Some(record) = self.workloads.get_mut(workload_index) else {
            return;
        };
        if record.dispatch.status_call != Some(call_id) {
            return;
        }
        record.dispatch.status_call = None;
        match outcome {
            Outcome::Status { state, message, .. } => {
                self.apply_state(workload_index, state, message)
            }
            _ => {
                let dispatch = &mut record.dispatch;
                let delay = Duration::from_secs(1) * (1 << dispatch.failures.min(3));
                dispatch.failures += 1;
                dispatch.next_poll_at = now + delay;
                self.queue.enqueue(WorkItem::Workload(workload_index));
            }
        }
    }

    /// Applies the state that the host has reported.
    fn apply_state(&mut self, workload_index: u32, state: WorkloadState, message: String) {
        let (now, timings) = (self.now, self.options.timings);
        let message = match state {
            WorkloadState::Stopping => "the host is stopping it without a request".to_owned(),
            _ => message,
        };
        let Some(record) = self.workloads.get_mut(workload_index) else {
            return;
        };
        let before = record.phase;
        if let Some(assignment) = record.assignment.as_mut()
            && assignment.record == PlacementRecord::Unverified
            && state != WorkloadState::NotFound
        {
            assignment.record = PlacementRecord::Status;
        }
        let dispatch = &mut record.dispatch;
        dispatch.failures = 0;
        match (state, before) {
            (_, Phase::Waiting | Phase::Unrecorded | Phase::Completed | Phase::Terminating) => {
                return;
            }
            (WorkloadState::Running, _) => {
                record.phase = Phase::Running;
                dispatch.next_poll_at = now + timings.status_interval;
            }
            (WorkloadState::Completed, _) => record.phase = Phase::Completed,
            // SCHED-START-015: a workload that the host is stopping without a request may still
            // run. It is replaced when the host no longer has it.
            (WorkloadState::Starting | WorkloadState::Stopping, _) => {
                if before != Phase::Accepted {
                    dispatch.accepted_at = now;
                }
                record.phase = Phase::Accepted;
                dispatch.next_poll_at = now + timings.starting_interval;
            }
            (WorkloadState::NotFound, Phase::Starting) => {
                return self.handle_not_found(workload_index);
            }
            (WorkloadState::NotFound, _) => {
                return self
                    .mark_failed_and_gone(workload_index, "the host no longer has it".to_owned());
            }
            (WorkloadState::Error | WorkloadState::Unspecified, _) => {
                return self.mark_failed(workload_index, message);
            }
        }
        dispatch.outcome_unknown = false;
        dispatch.refusal = None;
        if let Some(assignment) = &mut record.assignment {
            assignment.was_accepted = true;
        }
        if matches!(record.phase, Phase::Running | Phase::Completed) {
            dispatch.first_sent_at = None;
        }
        let next_poll_at = dispatch.next_poll_at;
        let changed = record.phase != before || record.message != message;
        record.message = message;
        if changed {
            self.on_workload_changed(workload_index);
        } else {
            // Most polls report no change and only schedule the next poll.
            self.queue
                .enqueue_at(WorkItem::Workload(workload_index), next_poll_at);
        }
    }

    /// Handles NOT_FOUND for a start with an unknown outcome. After an adoption, the start may not
    /// have been sent at all.
    fn handle_not_found(&mut self, workload_index: u32) {
        let now = self.now;
        let Some(record) = self.workloads.get_mut(workload_index) else {
            return;
        };
        if record.awaits_host_confirmation() {
            return self.verify_assignment(workload_index);
        }
        let dispatch = &mut record.dispatch;
        if let Some(refusal) = dispatch.refusal.take() {
            return self.mark_failed_and_gone(workload_index, refusal);
        }
        dispatch.outcome_unknown = false;
        if dispatch.start_call.is_some() {
            // SCHED-START-010: the host may still be working and report only at the end. It is
            // polled again.
            let delay = self.options.timings.start_poll_delay;
            dispatch.next_poll_at = now + delay.saturating_mul(1 << dispatch.send_count.min(4));
        } else {
            // A host with invalid responses is not flooded with starts.
            let delay = RESEND_DELAY.saturating_mul((1 << dispatch.send_count.min(10)) - 1);
            let last_sent_at = dispatch.last_sent_at.unwrap_or(Duration::ZERO);
            dispatch.next_send_at = now.max(last_sent_at + delay.min(RESEND_DELAY_MAX));
        }
        self.on_workload_changed(workload_index);
    }
}

impl Dispatch {
    /// Records that the most recent start has certainly not reached the host.
    fn record_not_delivered(&mut self, now: Duration, first_delay: Duration, max_delay: Duration) {
        self.send_count = self.send_count.saturating_sub(1);
        if self.send_count == 0 {
            (self.first_sent_at, self.last_sent_at) = (None, None);
        }
        let delay = first_delay.saturating_mul(1 << self.failures.min(10));
        self.failures += 1;
        self.next_send_at = now + delay.min(max_delay);
    }
}
