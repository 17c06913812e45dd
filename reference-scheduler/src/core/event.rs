//! The events that the core receives.

use std::time::Duration;

use berth_proto::{HostHeartbeat, WorkloadState};

use super::{CallId, WriteId};
use crate::api::{Key, Object};

/// Something that happened outside the core.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The store has this object: new, changed or from the initial list.
    Applied(Object),
    /// The store no longer has this object.
    Removed {
        /// Key of the object.
        key: Key,
        /// UID of the object, which distinguishes the object from a later one of the same name;
        /// empty if unknown.
        uid: String,
    },
    /// The store has reported every object of its initial list. Sent exactly once; the core
    /// decides nothing before it.
    Synced,
    /// A write has finished.
    WriteFinished {
        /// ID of the write.
        write_id: WriteId,
        /// The stored object after the write; after a deletion, its final state.
        result: Result<Object, StoreError>,
    },
    /// A host published a heartbeat. The runtime has checked that its id matches its subject.
    Heartbeat(Box<HostHeartbeat>),
    /// A call has finished. Every call finishes exactly once.
    CallFinished {
        /// ID of the call.
        call_id: CallId,
        /// Result of the call.
        outcome: Outcome,
    },
    /// The connection to the broker was established, for the first time or again.
    BusConnected,
    /// The connection to the broker was lost.
    BusDisconnected,
    /// This scheduler is shutting down: the runtime no longer sends calls, but still performs
    /// writes. Delayed statuses are written now, for the next scheduler.
    ShuttingDown,
    /// The clock of the system was set. Only timestamps in objects use it.
    ClockChanged {
        /// Unix time now.
        unix_time: Duration,
    },
    /// Time has passed. Due at [`Scheduler::next_wake_at`](super::Scheduler::next_wake_at).
    Tick,
}

/// Result of a call to a host.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The host responded for the requested id, with a state other than UNSPECIFIED. An
    /// ERROR with a code is a refusal.
    Status {
        /// State of the workload.
        state: WorkloadState,
        /// Human-readable message; may be empty.
        message: String,
        /// Code of the refusal, if the host sent one.
        code: Option<u16>,
    },
    /// The host sent the requested heartbeat, whose id is its own.
    Heartbeat(Box<HostHeartbeat>),
    /// The broker has no responders for the host.
    NoResponders,
    /// The host did not respond within the timeout.
    TimedOut,
    /// The response is invalid: not JSON, without a status or a state, or for another id.
    InvalidResponse(String),
    /// The connection was missing or was lost. The host may have executed the command.
    Disconnected,
    /// Nothing was sent because the request cannot be built, for example because a Secret is
    /// missing. The reason is human-readable.
    InvalidRequest(String),
}

/// Error of a request to the store, distinguished by what the core does next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No object has this key and uid.
    #[error("the object does not exist")]
    NotFound,
    /// Another object has this name.
    #[error("an object with this name already exists")]
    Exists,
    /// The object was changed since it was read.
    #[error("the object was changed concurrently")]
    Conflict,
    /// The store rejects the request; a retry does not help.
    #[error("the store refused the request: {0}")]
    Refused(String),
    /// The store is unreachable or overloaded; a write may have succeeded.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
}
