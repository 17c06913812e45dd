//! Commands to one host.

mod transport;

use std::time::Duration;

use berth_proto::{
    HostHeartbeat, Workload, WorkloadStartRequest, WorkloadState, WorkloadStatusRequest,
    WorkloadStopRequest,
};

use self::transport::Transport;
use crate::bus::Bus;
use crate::client_error::ClientError;
use crate::reply::RawReply;
use crate::subject;

/// Client of one host; cheap to clone. All methods may be called concurrently.
///
/// Cancel safety: the command of a dropped call may have been executed, as after a timeout.
#[derive(Clone, Debug)]
pub struct HostClient {
    transport: Transport,
    timeouts: Timeouts,
}

/// Timeouts of the commands. The defaults are those of the wasmCloud operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Timeout of a start: 60 s, within which a host must have replied.
    pub start: Duration,
    /// Timeout of a stop: 30 s.
    pub stop: Duration,
    /// Timeout of a status: 5 s.
    pub status: Duration,
    /// Timeout of a heartbeat request: 5 s.
    pub heartbeat: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(60),
            stop: Duration::from_secs(30),
            status: Duration::from_secs(5),
            heartbeat: Duration::from_secs(5),
        }
    }
}

/// Status of one workload ID on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// ID of the workload.
    pub workload_id: String,
    /// State of the workload; never unspecified.
    pub state: WorkloadState,
    /// Message for users; may be empty.
    pub message: String,
}

impl HostClient {
    /// Creates a client for the host with this ID. Nothing is sent before the first command.
    ///
    /// # Errors
    ///
    /// Fails if the ID cannot be part of a subject.
    pub fn new(bus: Bus, host_id: impl Into<String>) -> Result<Self, ClientError> {
        let host_id = host_id.into();
        if !subject::is_token(&host_id) {
            return Err(ClientError::InvalidHostId(host_id));
        }
        Ok(Self {
            transport: Transport::Nats { bus, host_id },
            timeouts: Timeouts::default(),
        })
    }

    /// Creates a client for the host at the other end of a channel. With an ID, only the host with
    /// this ID executes the commands: if another host now has the address, it executes nothing, and
    /// the call fails with [`ClientError::NoResponders`].
    #[cfg(feature = "grpc")]
    pub fn over_grpc(channel: crate::grpc::Channel, host_id: Option<String>) -> Self {
        Self {
            transport: Transport::Grpc { channel, host_id },
            timeouts: Timeouts::default(),
        }
    }

    /// Replaces the timeouts.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Returns the ID of the host, or its URL if only that is known (over gRPC).
    pub fn host_id(&self) -> &str {
        match &self.transport {
            Transport::Nats { host_id, .. } => host_id,
            #[cfg(feature = "grpc")]
            Transport::Grpc { channel, host_id } => host_id.as_deref().unwrap_or(channel.url()),
        }
    }

    /// Starts a workload. `Ok` means that the host has accepted it: RUNNING, or STARTING, to be
    /// followed with [`HostClient::status`].
    ///
    /// Not idempotent by itself: after a timeout, retry or check `status`; a refusal with code 409
    /// then means that the first request arrived.
    ///
    /// # Errors
    ///
    /// Fails with [`ClientError::Refused`] if the state is ERROR, with or without a code.
    pub async fn start(&self, id: &str, workload: &Workload) -> Result<Status, ClientError> {
        let request = WorkloadStartRequest {
            workload: Some(workload.clone()),
            workload_id: id.to_owned(),
        };
        let reply = self.transport.start(request, self.timeouts.start).await?;
        let status = validate(id, reply)?;
        error_as_refusal(status)
    }

    /// Stops a workload. STOPPING acknowledges the stop; NOT_FOUND, here or from `status`, proves
    /// that it is complete. Idempotent.
    ///
    /// # Errors
    ///
    /// Fails with [`ClientError::Refused`] if the state is ERROR.
    pub async fn stop(&self, id: &str) -> Result<Status, ClientError> {
        let request = WorkloadStopRequest {
            workload_id: id.to_owned(),
        };
        let reply = self.transport.stop(request, self.timeouts.stop).await?;
        let status = validate(id, reply)?;
        error_as_refusal(status)
    }

    /// Returns the status of a workload. ERROR and NOT_FOUND are states, not errors.
    ///
    /// # Errors
    ///
    /// Fails with [`ClientError::Refused`] only if the host refuses the request itself.
    pub async fn status(&self, id: &str) -> Result<Status, ClientError> {
        let request = WorkloadStatusRequest {
            workload_id: id.to_owned(),
        };
        let reply = self.transport.status(request, self.timeouts.status).await?;
        validate(id, reply)
    }

    /// Requests a heartbeat. A `wash host` measures its load between two heartbeats, so frequent
    /// requests distort its metrics.
    ///
    /// # Errors
    ///
    /// Fails with [`ClientError::InvalidResponse`] also if the heartbeat belongs to another host,
    /// and with [`ClientError::UnsupportedOverGrpc`] over gRPC.
    pub async fn heartbeat(&self) -> Result<HostHeartbeat, ClientError> {
        let heartbeat = self.transport.heartbeat(self.timeouts.heartbeat).await?;
        if heartbeat.id != self.host_id() {
            return Err(invalid(format!(
                "heartbeat of another host, {:?}",
                heartbeat.id
            )));
        }
        Ok(heartbeat)
    }
}

/// Validates a reply about this workload ID.
fn validate(id: &str, reply: RawReply) -> Result<Status, ClientError> {
    let Some(status) = reply.status else {
        return Err(invalid("field `workloadStatus` is missing".to_owned()));
    };
    let state = status.workload_state();
    if let Some(code) = reply.error_code {
        return Err(ClientError::Refused {
            code: Some(code),
            state,
            message: status.message,
        });
    }
    if state == WorkloadState::Unspecified {
        return Err(invalid("field `workloadState` is missing".to_owned()));
    }
    if status.workload_id != id {
        return Err(invalid("status of another workload".to_owned()));
    }
    Ok(Status {
        workload_id: status.workload_id,
        state,
        message: status.message,
    })
}

/// Converts the state ERROR in the reply to a start or stop to a refusal without a code.
fn error_as_refusal(status: Status) -> Result<Status, ClientError> {
    if status.state == WorkloadState::Error {
        let Status { state, message, .. } = status;
        return Err(ClientError::Refused {
            code: None,
            state,
            message,
        });
    }
    Ok(status)
}

fn invalid(reason: String) -> ClientError {
    ClientError::InvalidResponse { reason }
}
