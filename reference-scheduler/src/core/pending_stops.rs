//! Pending stops: ids to stop. A stop is repeated until the host no longer has the id, and is
//! recorded while the host is lost. Times are durations since an arbitrary start.

use std::sync::Arc;
use std::time::Duration;

use berth_proto::WorkloadState;

use super::in_flight::{InFlightCall, Purpose};
use super::work_queue::WorkItem;
use super::{CallId, Command, Outcome, Scheduler};

/// Maximum number of stops in flight for each host: low, because a host that serves one command at
/// a time must not be flooded.
const MAX_STOPS_AT_ONCE: usize = 32;

/// An id to stop on one host.
#[derive(Debug, Default)]
pub(super) struct PendingStop {
    /// The item to enqueue when the id has stopped. A stop without a waiter is always recorded in
    /// the Host object, even if the host is not lost.
    pub waiter: Option<WorkItem>,
    call: Option<CallId>,
    /// The host has replied STOPPING: from now on the state of the id is only polled.
    acknowledged: bool,
    attempts: u32,
    next_at: Duration,
}

impl Scheduler {
    /// Requests the stop of an id, not before `at`. The waiter is enqueued when the id has stopped.
    pub(super) fn request_stop(
        &mut self,
        host: u32,
        id: &Arc<str>,
        waiter: Option<WorkItem>,
        at: Duration,
    ) {
        let Some(record) = self.fleet.get_mut(host) else {
            return;
        };
        let stop = record
            .stops
            .entry(id.clone())
            .or_insert_with(|| PendingStop {
                waiter,
                next_at: at,
                ..PendingStop::default()
            });
        stop.waiter = waiter;
        let object = record.object;
        self.queue.enqueue(WorkItem::Stops(host));
        if let Some(object) = object.filter(|_| waiter.is_none()) {
            self.queue.enqueue(WorkItem::HostObject(object));
        }
    }

    /// Returns whether an item still waits for an id to stop.
    pub(super) fn has_stop_waiter(&self, host: u32, id: &str) -> bool {
        let host = self.fleet.get(host);
        let stop = host.and_then(|host| host.stops.get(id));
        stop.is_some_and(|stop| stop.waiter.is_some())
    }

    pub(super) fn reconcile_stops(&mut self, host: u32) {
        if self.fleet.get(host).is_some_and(|host| host.is_lost()) {
            return self.release_lost_stops(host);
        }
        if !self.bus_connected {
            return;
        }
        let now = self.now;
        let Some(record) = self.fleet.get(host) else {
            return;
        };
        let in_flight = record.stops.values().filter(|stop| stop.call.is_some());
        let room = MAX_STOPS_AT_ONCE.saturating_sub(in_flight.count());
        let waiting = || record.stops.iter().filter(|(_, stop)| stop.call.is_none());
        let due = waiting().filter(|(_, stop)| stop.next_at <= now).take(room);
        let due: Vec<_> = due
            .map(|(id, stop)| (id.clone(), stop.acknowledged))
            .collect();
        let next = waiting().map(|(_, stop)| stop.next_at);
        let next = next.filter(|at| *at > now).min();
        self.queue.reschedule(WorkItem::Stops(host), next);
        for (id, acknowledged) in due {
            self.send_stop(host, &id, acknowledged);
        }
    }

    fn send_stop(&mut self, host: u32, id: &Arc<str>, acknowledged: bool) {
        let timings = self.options.timings;
        let (command, timeout) = if acknowledged {
            (Command::Status { id: id.clone() }, timings.status_timeout)
        } else {
            (Command::Stop { id: id.clone() }, timings.stop_timeout)
        };
        let call_id = self.call(
            InFlightCall::new(host, id.clone(), Purpose::Stop),
            command,
            timeout,
        );
        if let Some(stop) = self.stop_mut(host, id) {
            stop.call = Some(call_id);
        }
    }

    fn stop_mut(&mut self, host: u32, id: &str) -> Option<&mut PendingStop> {
        self.fleet.get_mut(host)?.stops.get_mut(id)
    }

    pub(super) fn on_stop_finished(
        &mut self,
        call: &InFlightCall,
        call_id: CallId,
        outcome: Outcome,
    ) {
        let (now, timings) = (self.now, self.options.timings);
        let is_starting = self.has_start_in_flight(call.host, &call.id);
        let Some(stop) = self.stop_mut(call.host, &call.id) else {
            return;
        };
        if stop.call != Some(call_id) {
            return;
        }
        stop.call = None;
        let delay = timings
            .stop_retry
            .saturating_mul(1 << stop.attempts.min(10));
        stop.next_at = now + delay.min(timings.stop_retry_max);
        stop.attempts += 1;
        match outcome {
            // A start that reads ConfigMaps before it is sent can reach the host after the stop. If
            // the host has not replied to either, the stop is repeated.
            Outcome::Status {
                state: WorkloadState::NotFound,
                ..
            } if is_starting && !stop.acknowledged => {}
            Outcome::Status {
                state: WorkloadState::NotFound,
                ..
            } => return self.finish_stop(call.host, &call.id),
            // The host may need long to stop the id; the command is not repeated.
            Outcome::Status {
                state: WorkloadState::Stopping,
                ..
            } => stop.acknowledged = true,
            // In any other state the host has ignored the stop.
            Outcome::Status { .. } => stop.acknowledged = false,
            _ => {}
        }
        self.queue.enqueue(WorkItem::Stops(call.host));
    }

    /// Repeats the stop of an id whose start has ended, without further delay.
    pub(super) fn on_start_ended(&mut self, host: u32, id: &str) {
        let now = self.now;
        if let Some(stop) = self.stop_mut(host, id) {
            stop.next_at = now;
            self.queue.enqueue(WorkItem::Stops(host));
        }
    }

    fn finish_stop(&mut self, host: u32, id: &str) {
        let Some(record) = self.fleet.get_mut(host) else {
            return;
        };
        let waiter = record.stops.remove(id).and_then(|stop| stop.waiter);
        if let Some(object) = record.object {
            self.queue.enqueue(WorkItem::HostObject(object));
        }
        self.queue.enqueue(WorkItem::Stops(host));
        if let Some(waiter) = waiter {
            self.queue.enqueue(waiter);
        }
    }

    /// Releases the waiters of a lost host, which cannot confirm stops. A waiter continues once the
    /// Host object has recorded its id; the id is stopped when the host returns.
    fn release_lost_stops(&mut self, host: u32) {
        self.queue.reschedule(WorkItem::Stops(host), None);
        let Some(record) = self.fleet.get(host) else {
            return;
        };
        let waiting =
            |(id, stop): (&Arc<str>, &PendingStop)| stop.waiter.map(|waiter| (id.clone(), waiter));
        let waiting: Vec<_> = record.stops.iter().filter_map(waiting).collect();
        let host_id = record.id.clone();
        let object = match record.object {
            None if !record.stops.is_empty() => self.recreate_host_object(host),
            object => object,
        };
        for (id, waiter) in waiting {
            let may_release = object
                .and_then(|object| self.host_objects.get(object))
                .is_none_or(|object| object.has_recorded_stop_or_is_failing(&host_id, &id));
            if !may_release {
                continue;
            }
            if let Some(stop) = self.stop_mut(host, &id) {
                (stop.waiter, stop.call) = (None, None);
                (stop.acknowledged, stop.attempts, stop.next_at) = (false, 0, Duration::ZERO);
            }
            self.queue.enqueue(waiter);
        }
        if let Some(object) = object {
            self.queue.enqueue(WorkItem::HostObject(object));
        }
    }
}
