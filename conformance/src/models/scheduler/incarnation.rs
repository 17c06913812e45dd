//! The lifecycle of an incarnation: start, status and stop requests and their outcomes.

use std::time::{Duration, Instant};

use serde_json::json;

use super::reply::ReportedStatus;
use super::state::{PendingStop, Phase, Replica, durations};
use super::{CompletedRequest, Model, Mutant, Outcome, RequestKind, Variant, placement, reply};
use crate::wire::response::State;

/// Time after which `Mutant::AbandonsSlowStarts` abandons a start.
const ABANDONED_AFTER: Duration = Duration::from_secs(8);

/// Source of a reported status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StatusSource {
    /// Reply to a start.
    Start,
    /// Reply to a status request.
    StatusRequest,
}

/// Whether the host may still have the id of a replica that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IdAfterFailure {
    /// The host may have the id, so it must be stopped.
    MayExist,
    /// The host does not have the id.
    NotFound,
}

/// Returns the stop of a replica's id, or `None` if the replica has no id.
pub(super) fn pending_stop_of(replica: &Replica, now: Instant) -> Option<PendingStop> {
    Some(PendingStop {
        id: replica.id.clone()?,
        host: replica.host.clone()?,
        owner: replica.owner.clone(),
        replica: replica.number,
        on_lost_host: false,
        not_before: now,
        request_in_flight: false,
        finished: false,
    })
}

impl Model {
    /// Assigns hosts to waiting replicas and sends the starts and status requests that are due.
    pub(super) async fn advance_replicas(&mut self) {
        let mut starts = Vec::new();
        let mut statuses = Vec::new();
        for index in 0..self.persisted.replicas.len() {
            let Some(replica) = self.persisted.replicas.get(index) else {
                break;
            };
            match replica.phase {
                Phase::Waiting if self.now >= replica.not_before => {
                    if self.assign_host(index) {
                        starts.push(index);
                    }
                }
                Phase::Waiting | Phase::Completed => {}
                _ => {
                    let due_at = replica.requested_at + self.poll_interval(replica);
                    if !replica.request_in_flight && self.now >= due_at {
                        statuses.push(index);
                    }
                }
            }
        }
        // The starts must be on disk before they are sent.
        self.save_state();
        for index in starts {
            self.send_start(index).await;
        }
        for index in statuses {
            self.send_status(index).await;
        }
    }

    fn poll_interval(&self, replica: &Replica) -> Duration {
        match replica.phase {
            Phase::Sent => durations::STATUS_AFTER_START,
            Phase::Running if self.is(Mutant::NeverPolls) => Duration::from_secs(3600),
            Phase::Running if self.is(Mutant::PollsTooOften) => Duration::from_millis(50),
            Phase::Running if self.has_variant(Variant::InfrequentProbes) => {
                durations::POLL_INTERVAL * 2
            }
            Phase::Running if self.has_variant(Variant::SlowWithinDeadlines) => {
                durations::POLL_INTERVAL * 3
            }
            Phase::Running => durations::POLL_INTERVAL,
            Phase::Unknown | Phase::Starting | Phase::Stopping => Duration::from_millis(400),
            Phase::Waiting | Phase::Completed => Duration::MAX / 4,
        }
    }

    async fn send_start(&mut self, index: usize) {
        let Some(replica) = self.persisted.replicas.get(index) else {
            return;
        };
        let (Some(id), Some(host)) = (replica.id.clone(), replica.host.clone()) else {
            return;
        };
        let (number, request) = (replica.number, replica.request.clone());
        let until = self.now + durations::START_TIMEOUT;
        if let Some(host) = self.hosts.get_mut(&host) {
            host.busy_until = Some(until);
            host.starts_in_flight += 1;
        }
        if self.is(Mutant::StopOvertakesStart) {
            self.send_stop(host.clone(), id.clone()).await;
        }
        let kind = RequestKind::Start(number, id);
        self.send(&host, "workload.start", request, kind).await;
    }

    async fn send_status(&mut self, index: usize) {
        let Some(replica) = self.persisted.replicas.get_mut(index) else {
            return;
        };
        replica.request_in_flight = true;
        replica.requested_at = self.now;
        let (Some(id), Some(host)) = (replica.id.clone(), replica.host.clone()) else {
            return;
        };
        let kind = RequestKind::Status(replica.number, id.clone());
        let payload = json!({ "workloadId": id }).to_string();
        self.send(&host, "workload.status", payload, kind).await;
    }

    async fn send_stop(&mut self, host: String, id: String) {
        let payload = json!({ "workloadId": id }).to_string();
        let kind = RequestKind::Stop(host.clone(), id);
        self.send(&host, "workload.stop", payload, kind).await;
    }

    /// Handles the end of a request.
    pub(super) fn on_request_completed(&mut self, completed: CompletedRequest) {
        self.now = Instant::now();
        self.record_contact(&completed);
        match completed.kind.clone() {
            RequestKind::Start(number, id) => self.on_start_completed(number, &id, &completed),
            RequestKind::Status(number, id) => self.on_status_completed(number, &id, &completed),
            RequestKind::Stop(host, id) => self.on_stop_completed(&host, &id, &completed),
            RequestKind::Probe => {}
        }
    }

    fn parse_status(&self, completed: &CompletedRequest, id: &str) -> Option<ReportedStatus> {
        match &completed.outcome {
            Outcome::Reply(payload) => reply::decode_status(payload, id, self.options.mutant),
            _ => None,
        }
    }

    fn on_start_completed(&mut self, number: u64, id: &str, completed: &CompletedRequest) {
        let has_ended = !matches!(completed.outcome, Outcome::TimedOut);
        if let Some(host) = self.hosts.get_mut(&completed.host) {
            host.starts_in_flight = host.starts_in_flight.saturating_sub(1);
            if has_ended && host.starts_in_flight == 0 {
                host.busy_until = None;
            }
        }
        let status = self.parse_status(completed, id);
        let trusts_errors = self.is(Mutant::RepeatedStartErrorIsFailure);
        let retries_same_host = self.is(Mutant::RetriesHostWithoutResponders);
        let Some(index) = self.index_of(number, id) else {
            return;
        };
        let Some(replica) = self.persisted.replicas.get_mut(index) else {
            return;
        };
        let is_undelivered = matches!(completed.outcome, Outcome::NoResponders | Outcome::NotSent);
        if is_undelivered && replica.attempts <= 1 {
            let pause = if retries_same_host {
                Duration::from_secs(20)
            } else {
                Duration::from_millis(50)
            };
            replica.reset("no responders for the start", self.now + pause);
            return self.mark_dirty();
        }
        if matches!(completed.outcome, Outcome::TooLarge) {
            let later = self.now + Duration::from_secs(3600);
            replica.reset("the start request exceeds the maximum payload", later);
            return self.mark_dirty();
        }
        let is_repeated = replica.attempts > 1;
        match status {
            None => self.on_start_unanswered(index),
            Some(status) if status.state == State::Error && is_repeated && !trusts_errors => {
                replica.phase = Phase::Unknown;
            }
            Some(status) => self.apply_status(index, status, StatusSource::Start),
        }
    }

    fn on_start_unanswered(&mut self, index: usize) {
        let restarts = self.is(Mutant::RestartsWithoutStatusCheck);
        let Some(replica) = self.persisted.replicas.get_mut(index) else {
            return;
        };
        if matches!(replica.phase, Phase::Sent) {
            replica.phase = Phase::Unknown;
            replica.requested_at = self.now - Duration::from_secs(2);
        }
        if restarts {
            replica.reset("the start is unanswered", self.now);
            self.dirty = true;
        }
    }

    fn on_status_completed(&mut self, number: u64, id: &str, completed: &CompletedRequest) {
        let status = self.parse_status(completed, id);
        let Some(index) = self.index_of(number, id) else {
            return;
        };
        let Some(replica) = self.persisted.replicas.get_mut(index) else {
            return;
        };
        replica.request_in_flight = false;
        let phase = replica.phase;
        match status {
            None if self.is(Mutant::UnansweredStatusIsFailure) && phase == Phase::Running => {
                let reason = "the status request is unanswered";
                self.on_failure(index, reason, IdAfterFailure::MayExist);
            }
            None => {}
            Some(ReportedStatus {
                state: State::NotFound,
                ..
            }) if phase == Phase::Unknown => self.resend_start(index),
            // The start is still in flight, so these states may be stale.
            Some(ReportedStatus {
                state: State::NotFound | State::Error | State::Starting,
                ..
            }) if phase == Phase::Sent => {}
            Some(status) => self.apply_status(index, status, StatusSource::StatusRequest),
        }
    }

    /// Repeats a start that did not arrive, with the same content and on the same host.
    fn resend_start(&mut self, index: usize) {
        let elsewhere = self.is(Mutant::RetriesElsewhereWithSameId);
        let other = self.persisted.replicas.get(index).and_then(|replica| {
            let mut others = self.hosts.iter().filter(|(id, host)| {
                replica.host.as_ref() != Some(*id)
                    && self.is_usable(host)
                    && placement::check_host(&replica.spec, id, &host.heartbeat, None).is_ok()
            });
            others.next().map(|(id, _)| id.clone())
        });
        let Some(replica) = self.persisted.replicas.get_mut(index) else {
            return;
        };
        replica.attempts += 1;
        replica.phase = Phase::Sent;
        replica.requested_at = self.now;
        if let (true, Some(other)) = (elsewhere, other) {
            replica.host = Some(other);
        }
        let (Some(id), Some(host)) = (replica.id.clone(), replica.host.clone()) else {
            return;
        };
        self.pending_resends
            .push((host, replica.number, id, replica.request.clone()));
        self.dirty = true;
    }

    /// Applies the status that a host reports for a replica.
    fn apply_status(&mut self, index: usize, status: ReportedStatus, source: StatusSource) {
        let now = self.now;
        let mutant = self.options.mutant;
        let Some(replica) = self.persisted.replicas.get_mut(index) else {
            return;
        };
        let previous = replica.phase;
        match status.state {
            State::Running => {
                replica.phase = Phase::Running;
                replica.message = "running".to_owned();
                if previous != Phase::Running {
                    replica.running_since = now;
                } else if now > replica.running_since + Duration::from_secs(10) {
                    replica.failures = 0;
                }
            }
            State::Starting => self.on_starting(index, status.message),
            State::Completed if mutant == Some(Mutant::RestartsCompleted) => {
                self.on_failure(index, "completed", IdAfterFailure::MayExist);
            }
            State::Completed => {
                replica.phase = Phase::Completed;
                let message = if mutant == Some(Mutant::CompletedShownAsRunning) {
                    "running"
                } else {
                    "completed"
                };
                replica.message = message.to_owned();
            }
            State::Stopping if mutant != Some(Mutant::ReadyForever) => {
                replica.phase = Phase::Stopping;
            }
            State::Error | State::NotFound => {
                if source == StatusSource::Start && mutant == Some(Mutant::IgnoresStateInStartReply)
                {
                    replica.phase = Phase::Running;
                } else if matches!(mutant, Some(Mutant::NeverReplaces | Mutant::ReadyForever))
                    && previous != Phase::Sent
                    && source == StatusSource::StatusRequest
                {
                    if mutant == Some(Mutant::NeverReplaces) {
                        replica.phase = Phase::Stopping;
                    }
                } else {
                    let id_after_failure = if status.state == State::Error {
                        IdAfterFailure::MayExist
                    } else {
                        IdAfterFailure::NotFound
                    };
                    self.on_failure(index, &status.message, id_after_failure);
                }
            }
            _ => {}
        }
        self.dirty |= self
            .persisted
            .replicas
            .get(index)
            .is_some_and(|replica| replica.phase != previous);
    }

    fn on_starting(&mut self, index: usize, message: String) {
        let (now, mutant) = (self.now, self.options.mutant);
        let Some(replica) = self.persisted.replicas.get_mut(index) else {
            return;
        };
        if replica.phase != Phase::Starting {
            replica.running_since = now;
        }
        let is_slow = now > replica.running_since + ABANDONED_AFTER;
        let fails = mutant == Some(Mutant::StartingIsFailure)
            || is_slow && mutant == Some(Mutant::AbandonsSlowStarts);
        if fails {
            return self.on_failure(index, &message, IdAfterFailure::MayExist);
        }
        replica.phase = Phase::Starting;
        replica.message = message;
    }

    /// Ends the incarnation of a replica; the next one starts after a backoff.
    fn on_failure(&mut self, index: usize, reason: &str, id_after_failure: IdAfterFailure) {
        let (now, mutant) = (self.now, self.options.mutant);
        let Some(replica) = self.persisted.replicas.get_mut(index) else {
            return;
        };
        let was_running = replica.phase == Phase::Running;
        let stop = pending_stop_of(replica, now);
        replica.failures += 1;
        replica.last_failed_host = replica.host.clone();
        let backoff = durations::BACKOFF_MIN * 2_u32.pow(replica.failures.min(6) - 1);
        let pause = match (was_running && replica.failures <= 1, mutant) {
            (true, _) | (_, Some(Mutant::RetriesWithoutBackoff)) => Duration::ZERO,
            (_, Some(Mutant::GivesUpAfterFailure)) => Duration::from_secs(3600),
            _ => backoff.min(durations::BACKOFF_MAX),
        };
        let message = if mutant == Some(Mutant::HidesHostMessages) {
            "failed"
        } else {
            reason
        };
        replica.reset(message, now + pause);
        let owner = replica.owner.clone();
        let must_stop = id_after_failure == IdAfterFailure::MayExist;
        if must_stop && mutant != Some(Mutant::NeverStopsFailedIds) {
            self.persisted.pending_stops.extend(stop);
        }
        if mutant == Some(Mutant::OneFailureRestartsAll) {
            let siblings = self
                .persisted
                .replicas
                .iter_mut()
                .filter(|other| other.owner == owner && other.id.is_some());
            for sibling in siblings {
                let stop = pending_stop_of(sibling, now);
                self.persisted.pending_stops.extend(stop);
                sibling.reset("another replica failed", now);
            }
        }
        self.mark_dirty();
    }

    fn index_of(&self, number: u64, id: &str) -> Option<usize> {
        let mut replicas = self.persisted.replicas.iter();
        replicas.position(|replica| replica.number == number && replica.id.as_deref() == Some(id))
    }

    fn mark_dirty(&mut self) {
        self.dirty = true;
    }

    /// Sends the repeated starts and the stops that are due.
    pub(super) async fn send_stops(&mut self) {
        for (host, number, id, request) in std::mem::take(&mut self.pending_resends) {
            let kind = RequestKind::Start(number, id);
            self.send(&host, "workload.start", request, kind).await;
        }
        let before = self.persisted.pending_stops.len();
        self.persisted.pending_stops.retain(|stop| !stop.finished);
        self.dirty |= self.persisted.pending_stops.len() != before;
        self.save_state();
        let now = self.now;
        let is_due = |stop: &&mut PendingStop| {
            !stop.on_lost_host && !stop.request_in_flight && now >= stop.not_before
        };
        let mut due = Vec::new();
        for stop in self.persisted.pending_stops.iter_mut().filter(is_due) {
            stop.request_in_flight = true;
            due.push((stop.host.clone(), stop.id.clone()));
        }
        for (host, id) in due {
            self.send_stop(host, id).await;
        }
    }

    fn on_stop_completed(&mut self, host: &str, id: &str, completed: &CompletedRequest) {
        let status = self.parse_status(completed, id);
        let (now, mutant) = (self.now, self.options.mutant);
        let (interval, resend_delay) = if self.has_variant(Variant::SlowWithinDeadlines) {
            (durations::SLOW_STOP_INTERVAL, durations::SLOW_STOP_RESEND)
        } else {
            (Duration::from_millis(250), Duration::from_millis(400))
        };
        let mut pending_stops = self.persisted.pending_stops.iter_mut();
        let Some(stop) = pending_stops.find(|stop| stop.id == id && stop.host == host) else {
            return;
        };
        stop.request_in_flight = false;
        match status.map(|status| status.state) {
            Some(State::NotFound) if mutant == Some(Mutant::StopsAfterNotFound) => {
                stop.not_before = now + Duration::from_millis(300);
            }
            Some(State::NotFound) => stop.finished = true,
            Some(_) if mutant == Some(Mutant::StoppingIsGone) => stop.finished = true,
            None if mutant == Some(Mutant::NeverRepeatsStops) => stop.finished = true,
            Some(_) => stop.not_before = now + interval,
            None => stop.not_before = now + resend_delay,
        }
    }
}
