//! What happened outside the core.

use berth_proto::{HostHeartbeat, WorkloadState};

use super::{CallId, WriteId};
use crate::api::{Key, Object};

/// What a host says of itself: a heartbeat whose id was seen to be that of its subject.
pub type HostReport = HostHeartbeat;

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The store tells of an object: new, changed, or there from the beginning.
    Applied(Object),
    /// The store tells that an object is gone. The uid tells it from a successor of the same name; empty
    /// where the store cannot say.
    Removed {
        /// The object.
        key: Key,
        /// Its uid, or nothing.
        uid: String,
    },
    /// The store has told of everything that there was. Nothing is decided before. Also after a new watch.
    Synced,
    /// A write is through: the object as the store keeps it now, for a deletion its last state.
    Written {
        /// Which write.
        write_id: WriteId,
        /// How it went.
        result: Result<Object, WriteError>,
    },
    /// A heartbeat was published. The shell has compared its id with the subject.
    Heartbeat(Box<HostReport>),
    /// A call has an end. Every call has exactly one.
    Answered {
        /// Which call.
        call_id: CallId,
        /// How it went.
        outcome: Outcome,
    },
    /// The connection to the broker is made, for the first time or again.
    BusUp,
    /// The connection to the broker is gone.
    BusDown,
    /// This scheduler is about to end: no call goes out any more, writes do. What had been held back so that
    /// more could be said is written now, for whoever comes after it.
    Ending,
    /// Time has passed; due when [`Scheduler::next_wake`](super::Scheduler::next_wake) says so.
    Tick,
}

/// How a call to a host ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The host answered for the id that was asked for, with a state that is not unspecified. An ERROR
    /// with a code is a refusal and comes like this, too.
    Status {
        /// The state.
        state: WorkloadState,
        /// For people; may be empty.
        message: String,
        /// The code of a refusal, where the host sent one.
        code: Option<u16>,
    },
    /// Nobody listens under this host id.
    NoResponders,
    /// No answer within the time of the call.
    TimedOut,
    /// An answer that cannot be understood: no JSON, no status, no state, another id.
    Malformed(String),
    /// There was no connection, or it broke. The command may have been carried out or not.
    Disconnected,
    /// Nothing was sent: the request cannot be made, since a Secret is missing or the like. For people.
    Unbuildable(String),
}

/// Why something was not written, told apart by what is to be done next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The object is not there, or one of another uid is.
    #[error("there is no such object")]
    NotFound,
    /// An object of this name is there already.
    #[error("an object of this name exists")]
    Exists,
    /// The object has changed since it was read.
    #[error("the object has changed meanwhile")]
    Conflict,
    /// The store will not have it, however often it is tried.
    #[error("the store refuses: {0}")]
    Refused(String),
    /// The store cannot be reached, or is too busy; whether it was written is not known.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
}
