//! Commands to one host, with typed answers.

use std::time::Duration;

use berth_proto::{
    HostHeartbeat, Workload, WorkloadStartRequest, WorkloadStartResponse, WorkloadState,
    WorkloadStatusRequest, WorkloadStatusResponse, WorkloadStopRequest, WorkloadStopResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ClientError;
use crate::bus::{Answer, Bus, BusError, NoAnswer};
use crate::subject::{self, Command};

/// Commands one host. A cheap clone; all methods may be called at once.
///
/// Cancel safety: a dropped call may have been carried out or not, as after a timeout.
#[derive(Clone, Debug)]
pub struct HostClient {
    bus: Bus,
    host_id: String,
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
            bus,
            host_id,
            timeouts: Timeouts::default(),
        })
    }

    /// The same with other timeouts.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// The id of the host.
    pub fn host_id(&self) -> &str {
        &self.host_id
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
        let answer = self
            .ask(Command::Start, &request, self.timeouts.start)
            .await?;
        let status = read::<WorkloadStartResponse>(&answer)?.workload_status;
        let status = understood(id, status, &answer)?;
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
        let answer = self
            .ask(Command::Stop, &request, self.timeouts.stop)
            .await?;
        let status = read::<WorkloadStopResponse>(&answer)?.workload_status;
        let status = understood(id, status, &answer)?;
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
        let answer = self
            .ask(Command::Status, &request, self.timeouts.status)
            .await?;
        let status = read::<WorkloadStatusResponse>(&answer)?.workload_status;
        understood(id, status, &answer)
    }

    /// Asks for a heartbeat now. A `wash host` measures its load between two of them, so that asking
    /// often spoils the measure.
    ///
    /// # Errors
    ///
    /// [`ClientError::Malformed`] also when the heartbeat is that of another host.
    pub async fn heartbeat(&self) -> Result<HostHeartbeat, ClientError> {
        let empty = serde_json::Map::new();
        let answer = self
            .ask(Command::Heartbeat, &empty, self.timeouts.heartbeat)
            .await?;
        let heartbeat = read::<HostHeartbeat>(&answer)?;
        if heartbeat.id != self.host_id {
            return Err(malformed(format!(
                "it is the heartbeat of {:?}",
                heartbeat.id
            )));
        }
        Ok(heartbeat)
    }

    async fn ask<M: Serialize>(
        &self,
        command: Command,
        request: &M,
        timeout: Duration,
    ) -> Result<Answer, ClientError> {
        let payload =
            crate::json::write(request).map_err(|error| ClientError::Request(error.to_string()))?;
        let subject = subject::command(&self.host_id, command);
        self.bus
            .request(subject, payload, timeout)
            .await
            .map_err(|none| match none {
                NoAnswer::NoResponders => ClientError::NoResponders,
                NoAnswer::Timeout => ClientError::Timeout { after: timeout },
                NoAnswer::TooLarge | NoAnswer::Failed(BusError::TooLarge) => ClientError::TooLarge,
                NoAnswer::Failed(BusError::Subject) => ClientError::HostId(self.host_id.clone()),
                NoAnswer::Failed(_) => ClientError::Disconnected,
            })
    }
}

fn read<M: DeserializeOwned>(answer: &Answer) -> Result<M, ClientError> {
    crate::json::read(&answer.payload).map_err(|error| malformed(error.to_string()))
}

/// The status in an answer, checked to be one and to be that of the id.
fn understood(
    id: &str,
    status: Option<berth_proto::WorkloadStatus>,
    answer: &Answer,
) -> Result<Status, ClientError> {
    let Some(status) = status else {
        return Err(malformed("it has no workloadStatus".to_owned()));
    };
    let state = status.workload_state();
    if let Some(code) = answer.error_code {
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
