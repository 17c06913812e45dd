//! The sources of heartbeats, and the connections back to their hosts.

#[cfg(feature = "grpc")]
use std::sync::Arc;

use berth_proto::HostHeartbeat;
use tokio::sync::watch;

use crate::bus::{Bus, ConnectionState};
#[cfg(feature = "grpc")]
use crate::grpc;
use crate::scheduler::{ClientError, Heartbeats, HostClient};

/// Everything that connects a fleet to its hosts.
pub(super) struct Source {
    pub connector: HostConnector,
    pub heartbeats: HeartbeatSource,
    /// State of the connection that all hosts share.
    pub connection: watch::Receiver<ConnectionState>,
}

/// Creates clients for the hosts of a fleet; cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum HostConnector {
    Bus(Bus),
    #[cfg(feature = "grpc")]
    Grpc(Arc<grpc::PeerChannels>),
}

impl HostConnector {
    pub fn client(&self, host_id: &str) -> Result<HostClient, ClientError> {
        match self {
            Self::Bus(bus) => HostClient::new(bus.clone(), host_id),
            #[cfg(feature = "grpc")]
            Self::Grpc(channels) => match channels.get(host_id) {
                Some(channel) => Ok(HostClient::over_grpc(channel, Some(host_id.to_owned()))),
                None => Err(ClientError::url_unknown()),
            },
        }
    }

    /// Records the URL from the heartbeat of a host.
    pub async fn update(&self, host_id: &str, url: &str) {
        match self {
            // The subject of a host on the bus follows from its ID.
            Self::Bus(_) => tracing::debug!(host_id, url, "URL of a host on the bus ignored"),
            #[cfg(feature = "grpc")]
            Self::Grpc(channels) => {
                if let Err(error) = channels.update(host_id, url).await {
                    tracing::warn!(host_id, url, %error, "cannot open channel to host");
                }
            }
        }
    }
}

/// A stream of heartbeats.
pub(super) enum HeartbeatSource {
    Bus(Heartbeats),
    #[cfg(feature = "grpc")]
    Grpc(grpc::Heartbeats),
}

impl HeartbeatSource {
    /// Returns the next heartbeat, with the URL of its host if it named one; `None` at the end of
    /// the stream. Cancel safe.
    pub async fn next(&mut self) -> Option<(HostHeartbeat, Option<String>)> {
        match self {
            Self::Bus(heartbeats) => Some((heartbeats.next().await?, None)),
            #[cfg(feature = "grpc")]
            Self::Grpc(heartbeats) => {
                let received = heartbeats.next().await?;
                Some((received.heartbeat, received.url))
            }
        }
    }
}

/// Returns a connection state that never changes: hosts without a bus share no connection.
#[cfg(feature = "grpc")]
pub(super) fn always_connected() -> watch::Receiver<ConnectionState> {
    let state = ConnectionState {
        connected: true,
        generation: 1,
    };
    watch::channel(state).1
}
