//! Calls to hosts that are in flight.

use std::sync::Arc;
use std::time::Duration;

use berth_sdk::scheduler::liveness;

use super::{Action, CallId, Command, Outcome, Scheduler};

/// A call in flight, with its subject and its purpose.
#[derive(Clone, Debug)]
pub(super) struct InFlightCall {
    pub host: u32,
    /// ID of the incarnation; empty for a heartbeat.
    pub id: Arc<str>,
    pub purpose: Purpose,
    /// Whether liveness waits for the reply.
    is_probe: bool,
}

/// Purpose of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Starts a workload.
    Start(u32),
    /// Queries the state of a workload.
    Status(u32),
    /// Stops an id, or queries whether the id has stopped.
    Stop,
    /// Checks whether the host is alive.
    Probe,
    /// Requests a heartbeat.
    Heartbeat,
}

impl InFlightCall {
    pub fn new(host: u32, id: Arc<str>, purpose: Purpose) -> Self {
        Self {
            host,
            id,
            purpose,
            is_probe: false,
        }
    }

    pub fn probe(host: u32, id: Arc<str>, workload: Option<u32>) -> Self {
        let purpose = workload.map_or(Purpose::Probe, Purpose::Status);
        Self {
            host,
            id,
            purpose,
            is_probe: true,
        }
    }
}

impl Scheduler {
    pub(super) fn call(
        &mut self,
        call: InFlightCall,
        command: Command,
        timeout: Duration,
    ) -> CallId {
        self.next_call += 1;
        let call_id = CallId(self.next_call);
        if let Some(host) = self.fleet.get(call.host) {
            self.actions.push(Action::Call {
                call_id,
                host_id: host.id.clone(),
                command,
                timeout,
            });
        }
        self.calls_in_flight.insert(call_id, call);
        call_id
    }

    pub(super) fn on_call_finished(&mut self, call_id: CallId, outcome: Outcome) {
        let Some(call) = self.calls_in_flight.remove(&call_id) else {
            return;
        };
        self.report_to_liveness(&call, &outcome);
        if matches!(call.purpose, Purpose::Start(_)) {
            self.decrement_starts_in_flight(call.host);
            self.on_start_ended(call.host, &call.id);
        }
        match call.purpose {
            Purpose::Start(workload) => self.on_start_finished(workload, &call, call_id, outcome),
            Purpose::Status(workload) => self.on_status_finished(workload, &call, call_id, outcome),
            Purpose::Stop => self.on_stop_finished(&call, call_id, outcome),
            Purpose::Probe => {}
            Purpose::Heartbeat => self.on_heartbeat_call_finished(call.host, outcome),
        }
    }

    /// Returns whether a start of this id on this host is in flight.
    pub(super) fn has_start_in_flight(&self, host: u32, id: &str) -> bool {
        let has_any = self.fleet.get(host).map(|host| host.starts_in_flight > 0);
        let is_start = |call: &InFlightCall| {
            matches!(call.purpose, Purpose::Start(_)) && call.host == host && *call.id == *id
        };
        has_any == Some(true) && self.calls_in_flight.values().any(is_start)
    }

    /// Counts a start as finished. When no start is left in flight, the host is idle, and from then
    /// on liveness evaluates its silence.
    fn decrement_starts_in_flight(&mut self, host: u32) {
        let Some(host) = self.fleet.get_mut(host) else {
            return;
        };
        host.starts_in_flight = host.starts_in_flight.saturating_sub(1);
        if host.starts_in_flight == 0 {
            let host = host.id.to_string();
            self.step_liveness(liveness::Event::Idle { host });
        }
    }

    fn report_to_liveness(&mut self, call: &InFlightCall, outcome: &Outcome) {
        let Some(host) = self.fleet.get(call.host).map(|host| host.id.to_string()) else {
            return;
        };
        let event = match outcome {
            Outcome::Status { .. } | Outcome::InvalidResponse(_) => {
                liveness::Event::ProbeReplied { host }
            }
            Outcome::NoResponders => liveness::Event::NoResponders { host },
            Outcome::TimedOut | Outcome::Disconnected if call.is_probe => {
                liveness::Event::ProbeTimedOut { host }
            }
            // A heartbeat is reported like any other one.
            Outcome::Heartbeat(_)
            | Outcome::TimedOut
            | Outcome::Disconnected
            | Outcome::InvalidRequest(_) => return,
        };
        self.step_liveness(event);
    }
}
