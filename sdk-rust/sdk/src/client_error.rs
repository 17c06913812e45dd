//! Errors of commands to a host, distinguished by the next step of the caller.

use std::time::Duration;

use berth_proto::WorkloadState;

use crate::json::EncodeError;

/// Reason a command to a host failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No process subscribes to the host's commands: it has ended, or it is not connected to the
    /// broker. The command was not executed.
    #[error("no responders for the host")]
    NoResponders,
    /// The host did not reply in time. The command may have been executed, or may be executed
    /// later: check with `status`. A `wash host` does not reply to requests that it cannot decode,
    /// nor while it pulls an image.
    #[error("the host did not reply within {after:?}")]
    Timeout {
        /// The timeout that expired.
        after: Duration,
    },
    /// The host refused the command, or failed to start the workload.
    #[error("the host refused the command: {message}")]
    Refused {
        /// Code of the refusal (400, 404, 409, 413, 503); `None` from hosts that send none, and if
        /// the start was accepted but failed.
        code: Option<u16>,
        /// State in the response.
        state: WorkloadState,
        /// Message for users.
        message: String,
    },
    /// The response of the host is invalid.
    #[error("invalid response from the host: {reason}")]
    InvalidResponse {
        /// The defect of the response.
        reason: String,
    },
    /// The connection to the host failed or was rejected, although its port is open. The command
    /// was not executed. Only over gRPC.
    #[error("cannot connect to the host: {reason}")]
    Unreachable {
        /// Cause of the failure.
        reason: String,
    },
    /// The connection broke before the response arrived. The command may have been executed: check
    /// with `status`. Only over gRPC.
    #[error("connection to the host lost before it responded: {reason}")]
    ConnectionLost {
        /// Cause of the failure.
        reason: String,
    },
    /// gRPC has no method for this command. Nothing was sent.
    #[error("{0} is not supported over gRPC")]
    UnsupportedOverGrpc(&'static str),
    /// The connection to the broker is down. Nothing was sent.
    #[error("no connection to the broker")]
    Disconnected,
    /// The request is larger than the broker accepts. Nothing was sent.
    #[error("the request is larger than the broker accepts")]
    RequestTooLarge,
    /// The host ID cannot be part of a subject. Nothing was sent.
    #[error("invalid host ID {0:?}")]
    InvalidHostId(String),
    /// The request cannot be encoded. Nothing was sent.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl ClientError {
    /// Creates [`Self::Unreachable`] for a host whose heartbeats named no URL for commands.
    #[must_use]
    pub fn url_unknown() -> Self {
        Self::Unreachable {
            reason: "its heartbeats name no URL for commands".to_owned(),
        }
    }
}
