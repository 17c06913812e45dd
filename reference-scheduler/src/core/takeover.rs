//! Takeover from an earlier scheduler: before anything is placed, each host that is known from the
//! store is heard, within a bound. Otherwise the few hosts that happen to be heard first would get
//! all waiting workloads, and nothing moves later.
//!
//! Hosts that support discovery answer the discovery of the transport; the other hosts are asked
//! for one heartbeat each. Times are durations since an arbitrary start.

use std::collections::BTreeSet;
use std::time::Duration;

use berth_sdk::scheduler::DISCOVER_LABEL;

use super::in_flight::{InFlightCall, Purpose};
use super::work_queue::WorkItem;
use super::{Command, Outcome, Scheduler};

/// Maximum number of concurrent requests, so that the replies of a large fleet do not overflow the
/// connection.
const MAX_REQUESTS: usize = 256;

/// The takeover, which happens once.
#[derive(Debug, Default)]
pub(super) struct Takeover {
    has_begun: bool,
    ends_at: Duration,
    /// Hosts to ask.
    unasked: BTreeSet<u32>,
    requests_in_flight: usize,
    /// Hosts that were not heard yet.
    unheard: BTreeSet<u32>,
}

impl Takeover {
    /// Returns whether all hosts were heard, or the time is over.
    pub fn is_over(&self, now: Duration) -> bool {
        self.has_begun && (self.unheard.is_empty() || now >= self.ends_at)
    }

    /// Returns when the takeover is over at the latest, while it lasts.
    pub fn lasts_until(&self, now: Duration) -> Option<Duration> {
        let lasts = self.has_begun && !self.is_over(now);
        lasts.then_some(self.ends_at)
    }
}

impl Scheduler {
    /// Begins the takeover, if it has not begun, once all objects are known and the bus is
    /// connected.
    pub(super) fn begin_takeover(&mut self) {
        if self.takeover.has_begun || !self.synced || !self.bus_connected {
            return;
        }
        let hosts = self.fleet.iter();
        let unheard = hosts.filter(|(_, host)| host.last_heartbeat.is_none() && !host.is_lost());
        let unheard: BTreeSet<u32> = unheard.map(|(host, _)| host).collect();
        let unasked = unheard.iter().copied();
        let unasked = unasked.filter(|host| !self.supports_discovery(*host));
        let ends_at = self.now + self.options.timings.takeover_patience;
        self.takeover = Takeover {
            has_begun: true,
            ends_at,
            unasked: unasked.collect(),
            requests_in_flight: 0,
            unheard,
        };
        self.queue.enqueue_at(WorkItem::Placement, ends_at);
        self.request_heartbeats();
    }

    fn supports_discovery(&self, host: u32) -> bool {
        let object = self.fleet.get(host).and_then(|host| host.object);
        let object =
            object.and_then(|object| self.host_objects.get(object)?.cached.object.as_ref());
        object.is_some_and(|object| {
            let label = object.metadata.labels.get(DISCOVER_LABEL);
            label.is_some_and(|label| label == "true")
        })
    }

    fn request_heartbeats(&mut self) {
        while self.takeover.requests_in_flight < MAX_REQUESTS
            && let Some(host) = self.takeover.unasked.pop_first()
        {
            self.takeover.requests_in_flight += 1;
            let call = InFlightCall::new(host, "".into(), Purpose::Heartbeat);
            let timeout = self.options.timings.takeover_patience;
            self.call(call, Command::Heartbeat, timeout);
        }
    }

    pub(super) fn on_heartbeat_call_finished(&mut self, host: u32, outcome: Outcome) {
        self.takeover.requests_in_flight = self.takeover.requests_in_flight.saturating_sub(1);
        self.request_heartbeats();
        match outcome {
            Outcome::Heartbeat(heartbeat) => self.on_heartbeat(heartbeat),
            // The host may be reconnecting; its first heartbeat follows.
            Outcome::NoResponders => {}
            _ => self.await_host_no_longer(host),
        }
    }

    /// Continues without a host that was heard or does not answer.
    pub(super) fn await_host_no_longer(&mut self, host: u32) {
        self.takeover.unasked.remove(&host);
        if self.takeover.unheard.remove(&host) && self.takeover.unheard.is_empty() {
            let at = self.now + self.options.timings.placement_delay;
            self.queue.enqueue_at(WorkItem::Placement, at);
        }
    }
}
