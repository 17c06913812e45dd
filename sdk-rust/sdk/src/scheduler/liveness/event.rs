//! Inputs and outputs of the liveness detection.

use std::time::Duration;

use super::{Health, Reason};

/// An input of the liveness detection.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A heartbeat arrived.
    Heartbeat {
        /// ID of the host.
        host: String,
    },
    /// A host is known from an earlier process of this scheduler, and this process has not heard
    /// from it yet. Unless it was lost, the host counts as alive until probes or silence indicate
    /// otherwise. No effect on a host that is already known.
    Known {
        /// ID of the host.
        host: String,
        /// Whether the host was lost, so that only a heartbeat makes it alive.
        lost: bool,
    },
    /// A probe got a reply, of any content.
    ProbeReplied {
        /// ID of the host.
        host: String,
    },
    /// A probe got "no responders" from the broker.
    NoResponders {
        /// ID of the host.
        host: String,
    },
    /// A probe got no reply.
    ProbeTimedOut {
        /// ID of the host.
        host: String,
    },
    /// A start was sent to the host, which may be silent until it has executed the start.
    BusyUntil {
        /// ID of the host.
        host: String,
        /// Deadline of the start, on the clock of `now` in
        /// [`Liveness::step`](super::Liveness::step).
        until: Duration,
    },
    /// The host has replied to all starts.
    Idle {
        /// ID of the host.
        host: String,
    },
    /// The scheduler's own connection was lost.
    Disconnected,
    /// The scheduler's own connection was established, for the first time or again.
    Connected,
    /// Time has passed.
    Tick,
}

/// An output of the liveness detection.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Request the `status` of any workload ID, and pass the result in as an event.
    Probe {
        /// ID of the host.
        host: String,
    },
    /// Update the health of a host.
    SetHealth {
        /// ID of the host.
        host: String,
        /// New health of the host.
        health: Health,
        /// Reason, unless the host is alive.
        reason: Option<Reason>,
    },
    /// Forget a host that has been lost for a long time.
    Forget {
        /// ID of the host.
        host: String,
    },
}
