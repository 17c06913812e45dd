//! Commands to one host, with typed answers.

mod way;

use std::time::Duration;

use berth_proto::{
    HostHeartbeat, Workload, WorkloadStartRequest, WorkloadState, WorkloadStatusRequest,
    WorkloadStopRequest,
};

pub(crate) use self::way::Told;
use self::way::Way;
use super::ClientError;
use crate::bus::Bus;
use crate::subject;

/// Commands one host. A cheap clone; all methods may be called at once.
///
/// Cancel safety: a dropped call may have been carried out or not, as after a timeout.
#[derive(Clone, Debug)]
pub struct HostClient {
    way: Way,
    timeouts: Timeouts,
}

/// How long each command may take. The defaults are those of deployed schedulers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// 60 s, by when a host must have answered.
    pub start: Duration,
    /// 30 s.
    pub stop: Duration,
    /// 5 s.
    pub status: Duration,
    /// 5 s.
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

/// What a host says of one id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The id that was asked for.
    pub workload_id: String,
    /// Its state; never unspecified.
    pub state: WorkloadState,
    /// For people; may be empty.
    pub message: String,
}

impl HostClient {
    /// A client for the host with this id. Whether it exists is seen at the first command.
    ///
    /// # Errors
    ///
    /// An id that cannot stand in a subject.
    pub fn new(bus: Bus, host_id: impl Into<String>) -> Result<Self, ClientError> {
        let host_id = host_id.into();
        if !subject::is_token(&host_id) {
            return Err(ClientError::HostId(host_id));
        }
        Ok(Self {
            way: Way::Nats { bus, host_id },
            timeouts: Timeouts::default(),
        })
    }

    /// A client for the host at the other end of a channel. With an id, commands are for that host
    /// only: when another one has its address by now, nothing is done and the answer is
    /// [`ClientError::NoResponders`].
    #[cfg(feature = "grpc")]
    pub fn over_grpc(channel: crate::grpc::Channel, host_id: Option<String>) -> Self {
        Self {
            way: Way::Grpc { channel, host_id },
            timeouts: Timeouts::default(),
        }
    }

    /// The same with other timeouts.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// The id of the host; its URL when it is reached over gRPC and its id is not known.
    pub fn host_id(&self) -> &str {
        match &self.way {
            Way::Nats { host_id, .. } => host_id,
            #[cfg(feature = "grpc")]
            Way::Grpc { channel, host_id } => host_id.as_deref().unwrap_or(channel.url()),
        }
    }

    /// Starts a workload. `Ok` means that the host has it: RUNNING, or STARTING and to be asked for with
    /// [`HostClient::status`].
    ///
    /// Not idempotent by itself: after a timeout send the same again or ask `status`; a refusal with
    /// code 409 then says that the first one arrived.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] when the answer is ERROR, with or without a code.
    pub async fn start(&self, id: &str, workload: &Workload) -> Result<Status, ClientError> {
        let request = WorkloadStartRequest {
            workload: Some(workload.clone()),
            workload_id: id.to_owned(),
        };
        let told = self.way.start(request, self.timeouts.start).await?;
        let status = understood(id, told)?;
        refuse_error(status)
    }

    /// Stops a workload. STOPPING acknowledges; NOT_FOUND, here or from `status`, proves the end.
    /// May be sent as often as one likes.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] when the answer is ERROR.
    pub async fn stop(&self, id: &str) -> Result<Status, ClientError> {
        let request = WorkloadStopRequest {
            workload_id: id.to_owned(),
        };
        let told = self.way.stop(request, self.timeouts.stop).await?;
        let status = understood(id, told)?;
        refuse_error(status)
    }

    /// Asks for the state of a workload. ERROR and NOT_FOUND are states, not errors.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] only when the host refuses the question.
    pub async fn status(&self, id: &str) -> Result<Status, ClientError> {
        let request = WorkloadStatusRequest {
            workload_id: id.to_owned(),
        };
        let told = self.way.status(request, self.timeouts.status).await?;
        understood(id, told)
    }

    /// Asks for a heartbeat now. A `wash host` measures its load between two of them, so that asking
    /// often spoils the measure.
    ///
    /// # Errors
    ///
    /// [`ClientError::Malformed`] also when the heartbeat is that of another host, and
    /// [`ClientError::NotOverGrpc`] there.
    pub async fn heartbeat(&self) -> Result<HostHeartbeat, ClientError> {
        let heartbeat = self.way.heartbeat(self.timeouts.heartbeat).await?;
        if heartbeat.id != self.host_id() {
            return Err(malformed(format!(
                "it is the heartbeat of {:?}",
                heartbeat.id
            )));
        }
        Ok(heartbeat)
    }
}

/// The status in an answer, checked to be one and to be that of the id.
fn understood(id: &str, told: Told) -> Result<Status, ClientError> {
    let Some(status) = told.status else {
        return Err(malformed("it has no workloadStatus".to_owned()));
    };
    let state = status.workload_state();
    if let Some(code) = told.error_code {
        return Err(ClientError::Refused {
            code: Some(code),
            state,
            message: status.message,
        });
    }
    if state == WorkloadState::Unspecified {
        return Err(malformed("it has no workloadState".to_owned()));
    }
    if status.workload_id != id {
        return Err(malformed("it is about another workload".to_owned()));
    }
    Ok(Status {
        workload_id: status.workload_id,
        state,
        message: status.message,
    })
}

/// ERROR in answer to a start or a stop is a refusal, also without a code.
fn refuse_error(status: Status) -> Result<Status, ClientError> {
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

fn malformed(reason: String) -> ClientError {
    ClientError::Malformed { reason }
}
