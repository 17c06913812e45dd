//! Where heartbeats come from, and the way back.

#[cfg(feature = "grpc")]
use std::sync::Arc;

use berth_proto::HostHeartbeat;
use tokio::sync::watch;

use crate::bus::{Bus, Link};
#[cfg(feature = "grpc")]
use crate::grpc;
use crate::scheduler::{ClientError, Heartbeats, HostClient};

/// The way to the hosts, what comes from them, and how the connection stands that they share.
pub(super) type Way = (Side, Heard, watch::Receiver<Link>);

/// The way to the hosts of a fleet; a cheap clone.
#[derive(Clone, Debug)]
pub(super) enum Side {
    Bus(Bus),
    #[cfg(feature = "grpc")]
    Grpc(Arc<grpc::Routes>),
}

impl Side {
    pub fn client(&self, host_id: &str) -> Result<HostClient, ClientError> {
        match self {
            Self::Bus(bus) => HostClient::new(bus.clone(), host_id),
            #[cfg(feature = "grpc")]
            Self::Grpc(routes) => match routes.channel(host_id) {
                Some(channel) => Ok(HostClient::over_grpc(channel, Some(host_id.to_owned()))),
                None => Err(ClientError::unannounced()),
            },
        }
    }

    /// Takes note of the way back to a host.
    pub async fn learn(&self, host_id: &str, url: &str) {
        match self {
            // Hosts on a bus are found by their ids.
            Self::Bus(_) => tracing::debug!(host_id, url, "a way that is not needed"),
            #[cfg(feature = "grpc")]
            Self::Grpc(routes) => {
                if let Err(error) = routes.learn(host_id, url).await {
                    tracing::warn!(host_id, url, %error, "a host cannot be commanded there");
                }
            }
        }
    }
}

/// Heartbeats as they come.
pub(super) enum Heard {
    Bus(Heartbeats),
    #[cfg(feature = "grpc")]
    Grpc(grpc::Heartbeats),
}

impl Heard {
    /// The next one, and the way back when it came with one; `None` when there will be no more. Cancel safe.
    pub async fn next(&mut self) -> Option<(HostHeartbeat, Option<String>)> {
        match self {
            Self::Bus(heartbeats) => Some((heartbeats.next().await?, None)),
            #[cfg(feature = "grpc")]
            Self::Grpc(heartbeats) => {
                let beat = heartbeats.next().await?;
                Some((beat.heartbeat, beat.url))
            }
        }
    }
}

/// Without a bus there is no connection that all hosts share, and so none that could be lost.
#[cfg(feature = "grpc")]
pub(super) fn link_of_none() -> watch::Receiver<Link> {
    let link = Link {
        connected: true,
        connects: 1,
    };
    watch::channel(link).1
}
