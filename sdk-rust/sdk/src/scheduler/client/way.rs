//! The two ways to a host, and the same three commands on each.

use std::time::Duration;

use berth_proto::{
    HostHeartbeat, WorkloadStartRequest, WorkloadStartResponse, WorkloadStatus,
    WorkloadStatusRequest, WorkloadStatusResponse, WorkloadStopRequest, WorkloadStopResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::malformed;
use crate::bus::{Answer, Bus, BusError, NoAnswer};
use crate::scheduler::ClientError;
use crate::subject::{self, Command};

/// How a host is reached.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// By its id on the bus.
    Nats { bus: Bus, host_id: String },
    /// By its address; with an id, only if it is that host.
    #[cfg(feature = "grpc")]
    Grpc {
        channel: crate::grpc::Channel,
        host_id: Option<String>,
    },
}

/// What was answered, not looked at yet.
#[derive(Debug)]
pub(crate) struct Told {
    pub status: Option<WorkloadStatus>,
    /// The code of a refusal, from the headers or the metadata.
    pub error_code: Option<u16>,
}

impl Way {
    pub async fn start(
        &self,
        request: WorkloadStartRequest,
        timeout: Duration,
    ) -> Result<Told, ClientError> {
        match self {
            Self::Nats { bus, host_id } => {
                let answer = ask(bus, host_id, Command::Start, &request, timeout).await?;
                let read = read::<WorkloadStartResponse>(&answer)?;
                Ok(Told::over_nats(read.workload_status, &answer))
            }
            #[cfg(feature = "grpc")]
            Self::Grpc { channel, host_id } => {
                channel.start(host_id.as_deref(), request, timeout).await
            }
        }
    }

    pub async fn stop(
        &self,
        request: WorkloadStopRequest,
        timeout: Duration,
    ) -> Result<Told, ClientError> {
        match self {
            Self::Nats { bus, host_id } => {
                let answer = ask(bus, host_id, Command::Stop, &request, timeout).await?;
                let read = read::<WorkloadStopResponse>(&answer)?;
                Ok(Told::over_nats(read.workload_status, &answer))
            }
            #[cfg(feature = "grpc")]
            Self::Grpc { channel, host_id } => {
                channel.stop(host_id.as_deref(), request, timeout).await
            }
        }
    }

    pub async fn status(
        &self,
        request: WorkloadStatusRequest,
        timeout: Duration,
    ) -> Result<Told, ClientError> {
        match self {
            Self::Nats { bus, host_id } => {
                let answer = ask(bus, host_id, Command::Status, &request, timeout).await?;
                let read = read::<WorkloadStatusResponse>(&answer)?;
                Ok(Told::over_nats(read.workload_status, &answer))
            }
            #[cfg(feature = "grpc")]
            Self::Grpc { channel, host_id } => {
                channel.status(host_id.as_deref(), request, timeout).await
            }
        }
    }

    pub async fn heartbeat(&self, timeout: Duration) -> Result<HostHeartbeat, ClientError> {
        match self {
            Self::Nats { bus, host_id } => {
                let empty = serde_json::Map::new();
                read(&ask(bus, host_id, Command::Heartbeat, &empty, timeout).await?)
            }
            #[cfg(feature = "grpc")]
            Self::Grpc { .. } => Err(ClientError::NotOverGrpc("a heartbeat on request")),
        }
    }
}

impl Told {
    fn over_nats(status: Option<WorkloadStatus>, answer: &Answer) -> Self {
        Self {
            status,
            error_code: answer.error_code,
        }
    }
}

async fn ask<M: Serialize>(
    bus: &Bus,
    host_id: &str,
    command: Command,
    request: &M,
    timeout: Duration,
) -> Result<Answer, ClientError> {
    let payload =
        crate::json::write(request).map_err(|error| ClientError::Request(error.to_string()))?;
    let subject = subject::command(host_id, command);
    bus.request(subject, payload, timeout)
        .await
        .map_err(|none| match none {
            NoAnswer::NoResponders => ClientError::NoResponders,
            NoAnswer::Timeout => ClientError::Timeout { after: timeout },
            NoAnswer::TooLarge | NoAnswer::Failed(BusError::TooLarge) => ClientError::TooLarge,
            NoAnswer::Failed(BusError::Subject) => ClientError::HostId(host_id.to_owned()),
            NoAnswer::Failed(_) => ClientError::Disconnected,
        })
}

fn read<M: DeserializeOwned>(answer: &Answer) -> Result<M, ClientError> {
    crate::json::read(&answer.payload).map_err(|error| malformed(error.to_string()))
}
