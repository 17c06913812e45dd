//! Transport to the hosts: NATS, and gRPC for hosts that send their heartbeats by gRPC.

mod call;
mod grpc;

use std::sync::Arc;

use berth_proto::HostHeartbeat;
use berth_sdk::bus::{Bus, BusError, ConnectError, ConnectionState};
use berth_sdk::grpc::GrpcError;
use berth_sdk::scheduler::{ClientError, Heartbeats, HostClient};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

pub use self::call::HostRequest;
use self::grpc::GrpcHosts;
use crate::config::Config;

/// Sends commands to hosts and receives their heartbeats. Cheap to clone.
#[derive(Clone)]
pub struct HostTransport {
    bus: Option<Bus>,
    grpc: Option<Arc<GrpcHosts>>,
    connection: watch::Receiver<ConnectionState>,
    /// Sender of `connection` without NATS. It only keeps the channel open.
    _always_connected: Option<Arc<watch::Sender<ConnectionState>>>,
}

/// Error of [`HostTransport::open`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The connection options are invalid.
    #[error("cannot set up the NATS connection")]
    Bus(#[source] ConnectError),
    /// The gRPC server cannot start.
    #[error("cannot serve gRPC")]
    Grpc(#[source] GrpcError),
}

impl HostTransport {
    /// Binds the gRPC listener, if configured, and connects to NATS in the background, if
    /// configured.
    pub async fn open(config: &Config) -> Result<Self, TransportError> {
        let grpc = match config.grpc.addr {
            None => None,
            Some(address) => {
                let hosts = GrpcHosts::bind(address, &config.grpc).await;
                Some(hosts.map_err(TransportError::Grpc)?)
            }
        };
        if config.grpc.no_nats {
            let (sender, connection) = watch::channel(ConnectionState {
                connected: true,
                generation: 1,
            });
            return Ok(Self {
                bus: None,
                grpc,
                connection,
                _always_connected: Some(Arc::new(sender)),
            });
        }
        let bus = Bus::connect_with_retry(&config.connect).await;
        let bus = bus.map_err(TransportError::Bus)?;
        Ok(Self {
            connection: bus.connection_state(),
            bus: Some(bus),
            grpc,
            _always_connected: None,
        })
    }

    /// Returns a client for one host: over gRPC if the host has sent its URL by gRPC, else over
    /// NATS.
    fn client(&self, host_id: &str) -> Result<HostClient, ClientError> {
        let channel = self.grpc.as_ref().and_then(|grpc| grpc.channel(host_id));
        match (channel, &self.bus) {
            (Some(channel), _) => Ok(HostClient::over_grpc(channel, Some(host_id.to_owned()))),
            (None, Some(bus)) => HostClient::new(bus.clone(), host_id),
            (None, None) => Err(ClientError::url_unknown()),
        }
    }

    /// Returns the state of the connection to NATS; always connected if NATS is not used.
    pub fn connection_state(&self) -> watch::Receiver<ConnectionState> {
        self.connection.clone()
    }

    /// Subscribes to the heartbeats of all hosts.
    pub async fn heartbeats(&self) -> Result<HeartbeatStream, BusError> {
        let bus = match &self.bus {
            Some(bus) => Some(Heartbeats::subscribe(bus).await?),
            None => None,
        };
        let grpc = self.grpc.as_ref().map(|grpc| grpc.heartbeats());
        Ok(HeartbeatStream { bus, grpc })
    }
}

/// Heartbeats of all hosts, from NATS and gRPC.
pub struct HeartbeatStream {
    bus: Option<Heartbeats>,
    grpc: Option<broadcast::Receiver<HostHeartbeat>>,
}

impl HeartbeatStream {
    /// Returns the next heartbeat, or `None` once the connection to NATS is closed. Cancel safe.
    pub async fn next(&mut self) -> Option<HostHeartbeat> {
        tokio::select! {
            heartbeat = next_from_bus(&mut self.bus) => heartbeat,
            heartbeat = next_from_grpc(&mut self.grpc) => Some(heartbeat),
        }
    }
}

async fn next_from_bus(heartbeats: &mut Option<Heartbeats>) -> Option<HostHeartbeat> {
    match heartbeats {
        Some(heartbeats) => heartbeats.next().await,
        None => std::future::pending().await,
    }
}

async fn next_from_grpc(
    heartbeats: &mut Option<broadcast::Receiver<HostHeartbeat>>,
) -> HostHeartbeat {
    while let Some(receiver) = heartbeats {
        match receiver.recv().await {
            Ok(heartbeat) => return heartbeat,
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "dropped heartbeats: too many at once");
            }
            Err(RecvError::Closed) => *heartbeats = None,
        }
    }
    std::future::pending().await
}
