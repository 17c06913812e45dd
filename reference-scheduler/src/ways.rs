//! The ways to the hosts: the bus, and gRPC to those that beat over it.

mod call;
mod grpc;

use std::sync::Arc;

use berth_proto::HostHeartbeat;
use berth_sdk::bus::{Bus, BusError, ConnectError, Link};
use berth_sdk::grpc::GrpcError;
use berth_sdk::scheduler::{ClientError, Heartbeats, HostClient};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

pub use self::call::Request;
use self::grpc::GrpcHosts;
use crate::config::Config;

/// The ways to the hosts; a cheap clone.
#[derive(Clone)]
pub struct Ways {
    bus: Option<Bus>,
    grpc: Option<Arc<GrpcHosts>>,
    link: watch::Receiver<Link>,
    /// Without a bus nothing ever changes, and nothing must look as if it had ended.
    _no_bus: Option<Arc<watch::Sender<Link>>>,
}

/// Why there is no way to the hosts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaysError {
    /// The connection options cannot work.
    #[error("there is no way to the broker")]
    Bus(#[source] ConnectError),
    /// gRPC cannot be served.
    #[error("gRPC cannot be served")]
    Grpc(#[source] GrpcError),
}

impl Ways {
    /// Binds the address where hosts beat over gRPC, and connects to the bus in the background, as it is configured.
    pub async fn open(config: &Config) -> Result<Self, WaysError> {
        let grpc = match config.grpc.addr {
            None => None,
            Some(address) => {
                let hosts = GrpcHosts::bind(address, &config.grpc).await;
                Some(hosts.map_err(WaysError::Grpc)?)
            }
        };
        if config.grpc.no_nats {
            let (sender, link) = watch::channel(Link {
                connected: true,
                connects: 1,
            });
            return Ok(Self {
                bus: None,
                grpc,
                link,
                _no_bus: Some(Arc::new(sender)),
            });
        }
        let bus = Bus::connect_eventually(&config.connect).await;
        let bus = bus.map_err(WaysError::Bus)?;
        Ok(Self {
            link: bus.link(),
            bus: Some(bus),
            grpc,
            _no_bus: None,
        })
    }

    /// A client for one host, on the way by which it was last heard over gRPC, if it was, and else on the bus.
    fn client(&self, host_id: &str) -> Result<HostClient, ClientError> {
        let channel = self.grpc.as_ref().and_then(|grpc| grpc.channel(host_id));
        match (channel, &self.bus) {
            (Some(channel), _) => Ok(HostClient::over_grpc(channel, Some(host_id.to_owned()))),
            (None, Some(bus)) => HostClient::new(bus.clone(), host_id),
            (None, None) => Err(ClientError::unannounced()),
        }
    }

    /// How the connection to the bus stands. Without a bus it is always there.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    /// The heartbeats from now on.
    pub async fn heartbeats(&self) -> Result<Heard, BusError> {
        let bus = match &self.bus {
            Some(bus) => Some(Heartbeats::subscribe(bus).await?),
            None => None,
        };
        let grpc = self.grpc.as_ref().map(|grpc| grpc.heartbeats());
        Ok(Heard { bus, grpc })
    }
}

/// Heartbeats of all hosts, whichever way they came.
pub struct Heard {
    bus: Option<Heartbeats>,
    grpc: Option<broadcast::Receiver<HostHeartbeat>>,
}

impl Heard {
    /// The next one; `None` when the connection to the bus is closed for good. Cancel safe.
    pub async fn next(&mut self) -> Option<HostHeartbeat> {
        tokio::select! {
            heartbeat = on_the_bus(&mut self.bus) => heartbeat,
            heartbeat = over_grpc(&mut self.grpc) => Some(heartbeat),
        }
    }
}

async fn on_the_bus(heartbeats: &mut Option<Heartbeats>) -> Option<HostHeartbeat> {
    match heartbeats {
        Some(heartbeats) => heartbeats.next().await,
        None => std::future::pending().await,
    }
}

async fn over_grpc(beats: &mut Option<broadcast::Receiver<HostHeartbeat>>) -> HostHeartbeat {
    while let Some(receiver) = beats {
        match receiver.recv().await {
            Ok(heartbeat) => return heartbeat,
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "too many heartbeats at once");
            }
            Err(RecvError::Closed) => *beats = None,
        }
    }
    std::future::pending().await
}
