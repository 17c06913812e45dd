//! Why a command to a host did not succeed, told apart by what the caller should do next.

use std::time::Duration;

use berth_proto::WorkloadState;

/// Why a command to a host did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens under the id of the host: its process is gone, or not connected to the broker.
    /// Nothing was done.
    #[error("no host listens")]
    NoResponders,
    /// Somebody listens and did not answer. The command may have been carried out, or may still be:
    /// ask `status`. A `wash host` is silent to what it cannot decode and while it pulls.
    #[error("the host did not answer within {after:?}")]
    Timeout {
        /// How long the answer was waited for.
        after: Duration,
    },
    /// The host answered that it does not, or could not, obey.
    #[error("the host refused: {message}")]
    Refused {
        /// The code of the refusal (400, 404, 409, 413, 503); `None` from hosts that send none, and
        /// when the workload was accepted but could not be started.
        code: Option<u16>,
        /// The state in the answer.
        state: WorkloadState,
        /// For people.
        message: String,
    },
    /// The host answered what is no answer.
    #[error("the host's answer is malformed: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// The host cannot be connected to, or does not let us in, for another reason than that nobody
    /// listens there. Nothing was done. Over gRPC only.
    #[error("the host cannot be reached: {reason}")]
    Unreachable {
        /// What is in the way.
        reason: String,
    },
    /// The connection broke before the answer came. The command may have been carried out: ask `status`.
    /// Over gRPC only.
    #[error("the connection to the host broke before it answered: {reason}")]
    Lost {
        /// What became of it.
        reason: String,
    },
    /// gRPC has no call for this. Nothing was sent.
    #[error("gRPC has no call for {0}")]
    NotOverGrpc(&'static str),
    /// There is no connection to the broker now. Nothing was sent.
    #[error("there is no connection to the broker")]
    Disconnected,
    /// The request is larger than the broker takes. Nothing was sent.
    #[error("the request is larger than the broker takes")]
    TooLarge,
    /// The host id cannot stand in a subject. Nothing was sent.
    #[error("{0:?} cannot be the id of a host")]
    HostId(String),
    /// The request cannot be written, because an enum holds a number without a name. Nothing was sent.
    #[error("the request cannot be written as JSON: {0}")]
    Request(String),
}

impl ClientError {
    /// [`Self::Unreachable`]: the host has not said where it takes commands over gRPC.
    #[must_use]
    pub fn unannounced() -> Self {
        Self::Unreachable {
            reason: "it did not say where it takes commands".to_owned(),
        }
    }
}
