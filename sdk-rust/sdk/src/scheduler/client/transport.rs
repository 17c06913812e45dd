//! Transports of commands to a host.

use std::time::Duration;

use berth_proto::{
    HostHeartbeat, WorkloadStartRequest, WorkloadStartResponse, WorkloadStatus,
    WorkloadStatusRequest, WorkloadStatusResponse, WorkloadStopRequest, WorkloadStopResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::invalid;
use crate::bus::{Bus, BusError, Reply, RequestError};
use crate::client_error::ClientError;
use crate::reply::RawReply;
use crate::subject::{self, Command};

/// Transport of commands to a host.
#[derive(Clone, Debug)]
pub(super) enum Transport {
    /// Over the bus, to the subjects of this ID.
    Nats { bus: Bus, host_id: String },
    /// Over gRPC; with an ID, only if the host has it.
    #[cfg(feature = "grpc")]
    Grpc {
        channel: crate::grpc::Channel,
        host_id: Option<String>,
    },
}

impl Transport {
    pub async fn start(
        &self,
        request: WorkloadStartRequest,
        timeout: Duration,
    ) -> Result<RawReply, ClientError> {
        match self {
            Self::Nats { bus, host_id } => {
                let reply = send(bus, host_id, Command::Start, &request, timeout).await?;
                let response = decode::<WorkloadStartResponse>(&reply)?;
                Ok(raw_reply(response.workload_status, &reply))
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
    ) -> Result<RawReply, ClientError> {
        match self {
            Self::Nats { bus, host_id } => {
                let reply = send(bus, host_id, Command::Stop, &request, timeout).await?;
                let response = decode::<WorkloadStopResponse>(&reply)?;
                Ok(raw_reply(response.workload_status, &reply))
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
    ) -> Result<RawReply, ClientError> {
        match self {
            Self::Nats { bus, host_id } => {
                let reply = send(bus, host_id, Command::Status, &request, timeout).await?;
                let response = decode::<WorkloadStatusResponse>(&reply)?;
                Ok(raw_reply(response.workload_status, &reply))
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
                decode(&send(bus, host_id, Command::Heartbeat, &empty, timeout).await?)
            }
            #[cfg(feature = "grpc")]
            Self::Grpc { .. } => Err(ClientError::UnsupportedOverGrpc("a heartbeat request")),
        }
    }
}

fn raw_reply(status: Option<WorkloadStatus>, reply: &Reply) -> RawReply {
    RawReply {
        status,
        error_code: reply.error_code,
    }
}

async fn send<M: Serialize>(
    bus: &Bus,
    host_id: &str,
    command: Command,
    message: &M,
    timeout: Duration,
) -> Result<Reply, ClientError> {
    let payload = crate::json::encode(message)?;
    let subject = subject::command(host_id, command);
    bus.request(subject, payload, timeout)
        .await
        .map_err(|error| match error {
            RequestError::NoResponders => ClientError::NoResponders,
            RequestError::Timeout => ClientError::Timeout { after: timeout },
            RequestError::MessageTooLarge | RequestError::Failed(BusError::MessageTooLarge) => {
                ClientError::RequestTooLarge
            }
            RequestError::Failed(BusError::InvalidSubject) => {
                ClientError::InvalidHostId(host_id.to_owned())
            }
            RequestError::Failed(_) => ClientError::Disconnected,
        })
}

fn decode<M: DeserializeOwned>(reply: &Reply) -> Result<M, ClientError> {
    crate::json::decode(&reply.payload).map_err(|error| invalid(error.to_string()))
}
