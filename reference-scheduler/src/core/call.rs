//! Calls to hosts that have not ended yet.

use std::sync::Arc;
use std::time::Duration;

use berth_sdk::scheduler::liveness;

use super::{Action, CallId, Command, Outcome, Scheduler};

/// What was asked, and on whose behalf.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub host: u32,
    /// The id it is about.
    pub id: Arc<str>,
    pub purpose: Purpose,
    /// Whether liveness waits for the answer.
    is_probe: bool,
}

/// On whose behalf a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To start a workload.
    Start(u32),
    /// To know how a workload does.
    Status(u32),
    /// To stop an id, or to see that it is gone.
    Stop,
    /// To know whether the host lives.
    Probe,
}

impl Call {
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
    pub(super) fn call(&mut self, call: Call, command: Command, timeout: Duration) -> CallId {
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
        self.calls.insert(call_id, call);
        call_id
    }

    pub(super) fn answered(&mut self, call_id: CallId, outcome: Outcome) {
        let Some(call) = self.calls.remove(&call_id) else {
            return;
        };
        self.tell_liveness(&call, &outcome);
        if matches!(call.purpose, Purpose::Start(_)) {
            self.start_ended(call.host);
        }
        match call.purpose {
            Purpose::Start(workload) => self.start_answered(workload, &call, call_id, outcome),
            Purpose::Status(workload) => self.status_answered(workload, &call, call_id, outcome),
            Purpose::Stop => self.stop_answered(&call, call_id, outcome),
            Purpose::Probe => {}
        }
    }

    /// A host that owes no start any longer has no excuse to be silent.
    fn start_ended(&mut self, host: u32) {
        let Some(host) = self.fleet.get_mut(host) else {
            return;
        };
        host.open_starts = host.open_starts.saturating_sub(1);
        if host.open_starts == 0 {
            let host = host.id.to_string();
            self.pulse(liveness::Event::Idle { host });
        }
    }

    fn tell_liveness(&mut self, call: &Call, outcome: &Outcome) {
        let Some(host) = self.fleet.get(call.host).map(|host| host.id.to_string()) else {
            return;
        };
        let event = match outcome {
            Outcome::Status { .. } | Outcome::Malformed(_) => liveness::Event::Answered { host },
            Outcome::NoResponders => liveness::Event::NoResponders { host },
            Outcome::TimedOut | Outcome::Disconnected if call.is_probe => {
                liveness::Event::NoAnswer { host }
            }
            Outcome::TimedOut | Outcome::Disconnected | Outcome::Unbuildable(_) => return,
        };
        self.pulse(event);
    }
}
