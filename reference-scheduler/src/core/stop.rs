//! Ids that are to be stopped: asked until they are gone, remembered while their host is lost.

use std::sync::Arc;
use std::time::Duration;

use berth_proto::WorkloadState;

use super::agenda::Item;
use super::call::{Call, Purpose};
use super::{CallId, Command, Outcome, Scheduler};

/// Stops that one host is asked for at once. A host that serves one command at a time must not be
/// buried in them.
const MAX_STOPS_AT_ONCE: usize = 32;

/// One id that is to be stopped on one host.
#[derive(Debug, Default)]
pub(super) struct Stop {
    /// Who waits for the end. Without one the id is an orphan, and the Host object remembers it.
    pub holder: Option<Item>,
    call: Option<CallId>,
    /// The host has said that it is stopping: from then on it is only asked whether it is done.
    acknowledged: bool,
    tries: u32,
    next_at: Duration,
}

impl Scheduler {
    /// Has an id stopped, not before a time. Whoever holds it is looked at when it is gone.
    pub(super) fn want_stop(
        &mut self,
        host: u32,
        id: &Arc<str>,
        holder: Option<Item>,
        at: Duration,
    ) {
        let Some(record) = self.fleet.get_mut(host) else {
            return;
        };
        let stop = record.stops.entry(id.clone()).or_insert_with(|| Stop {
            holder,
            next_at: at,
            ..Stop::default()
        });
        stop.holder = holder;
        let object = record.object;
        self.agenda.look_at(Item::Stops(host));
        if let Some(object) = object.filter(|_| holder.is_none()) {
            self.agenda.look_at(Item::Host(object));
        }
    }

    /// Whether somebody still has to wait for the end of an id.
    pub(super) fn is_stop_held(&self, host: u32, id: &str) -> bool {
        let host = self.fleet.get(host);
        let stop = host.and_then(|host| host.stops.get(id));
        stop.is_some_and(|stop| stop.holder.is_some())
    }

    pub(super) fn look_at_stops(&mut self, host: u32) {
        if self.fleet.get(host).is_some_and(|host| host.is_lost()) {
            return self.release_lost_stops(host);
        }
        if !self.bus_up {
            return;
        }
        let now = self.now;
        let Some(record) = self.fleet.get(host) else {
            return;
        };
        let asked = record.stops.values().filter(|stop| stop.call.is_some());
        let room = MAX_STOPS_AT_ONCE.saturating_sub(asked.count());
        let waiting = || record.stops.iter().filter(|(_, stop)| stop.call.is_none());
        let due = waiting().filter(|(_, stop)| stop.next_at <= now).take(room);
        let due: Vec<_> = due
            .map(|(id, stop)| (id.clone(), stop.acknowledged))
            .collect();
        let next = waiting().map(|(_, stop)| stop.next_at);
        let next = next.filter(|at| *at > now).min();
        self.agenda.look_again(Item::Stops(host), next);
        for (id, acknowledged) in due {
            self.ask_to_stop(host, &id, acknowledged);
        }
    }

    fn ask_to_stop(&mut self, host: u32, id: &Arc<str>, acknowledged: bool) {
        let timings = self.options.timings;
        let (command, timeout) = match acknowledged {
            false => (Command::Stop { id: id.clone() }, timings.stop_timeout),
            true => (Command::Status { id: id.clone() }, timings.status_timeout),
        };
        let call_id = self.call(Call::new(host, id.clone(), Purpose::Stop), command, timeout);
        if let Some(stop) = self.stop_mut(host, id) {
            stop.call = Some(call_id);
        }
    }

    fn stop_mut(&mut self, host: u32, id: &str) -> Option<&mut Stop> {
        self.fleet.get_mut(host)?.stops.get_mut(id)
    }

    pub(super) fn stop_answered(&mut self, call: &Call, call_id: CallId, outcome: Outcome) {
        let (now, timings) = (self.now, self.options.timings);
        let Some(stop) = self.stop_mut(call.host, &call.id) else {
            return;
        };
        if stop.call != Some(call_id) {
            return;
        }
        stop.call = None;
        let pause = timings.stop_retry.saturating_mul(1 << stop.tries.min(10));
        stop.next_at = now + pause.min(timings.stop_retry_max);
        stop.tries += 1;
        match outcome {
            Outcome::Status {
                state: WorkloadState::NotFound,
                ..
            } => return self.finish_stop(call.host, &call.id),
            // It may take its time, and is not asked to stop again over that.
            Outcome::Status {
                state: WorkloadState::Stopping,
                ..
            } => stop.acknowledged = true,
            // A host that is asked and says something else has not understood.
            Outcome::Status { .. } => stop.acknowledged = false,
            _ => {}
        }
        self.agenda.look_at(Item::Stops(call.host));
    }

    fn finish_stop(&mut self, host: u32, id: &str) {
        let Some(record) = self.fleet.get_mut(host) else {
            return;
        };
        let holder = record.stops.remove(id).and_then(|stop| stop.holder);
        if let Some(object) = record.object {
            self.agenda.look_at(Item::Host(object));
        }
        self.agenda.look_at(Item::Stops(host));
        if let Some(holder) = holder {
            self.agenda.look_at(holder);
        }
    }

    /// On a lost host nothing can be proven. Once the Host object remembers an id, nobody needs to wait
    /// for it any longer: it is stopped when the host comes back.
    fn release_lost_stops(&mut self, host: u32) {
        self.agenda.look_again(Item::Stops(host), None);
        let Some(record) = self.fleet.get(host) else {
            return;
        };
        let held = |(id, stop): (&Arc<str>, &Stop)| stop.holder.map(|holder| (id.clone(), holder));
        let held: Vec<_> = record.stops.iter().filter_map(held).collect();
        let host_id = record.id.clone();
        let object = match record.object {
            None if !record.stops.is_empty() => self.remember_host(host),
            object => object,
        };
        for (id, holder) in held {
            let remembered = object
                .and_then(|object| self.host_objects.get(object))
                .is_none_or(|object| object.remembers(&host_id, &id));
            if !remembered {
                continue;
            }
            if let Some(stop) = self.stop_mut(host, &id) {
                (stop.holder, stop.call) = (None, None);
                (stop.acknowledged, stop.tries, stop.next_at) = (false, 0, Duration::ZERO);
            }
            self.agenda.look_at(holder);
        }
        if let Some(object) = object {
            self.agenda.look_at(Item::Host(object));
        }
    }
}
