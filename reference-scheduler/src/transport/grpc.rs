//! Hosts without NATS: receives their heartbeats and keeps a channel to each.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use berth_proto::HostHeartbeat;
use berth_sdk::cli::GrpcSettings;
use berth_sdk::grpc::{Channel, GrpcError, Heartbeats, Listener, PeerChannels, ReceivedHeartbeat};
use tokio::sync::broadcast;

/// Heartbeats buffered for a busy scheduler loop.
const HEARTBEATS_BUFFERED: usize = 1024;

/// Hosts that send their heartbeats by gRPC.
pub(super) struct GrpcHosts {
    /// The listener before the first term; `None` once it serves. Heartbeats that arrive before the
    /// first term wait and are not lost.
    listener: Mutex<Option<Listener>>,
    heartbeats: broadcast::Sender<HostHeartbeat>,
    channels: PeerChannels,
}

impl GrpcHosts {
    /// Binds the address of the gRPC `HostService`.
    pub async fn bind(
        address: SocketAddr,
        settings: &GrpcSettings,
    ) -> Result<Arc<Self>, GrpcError> {
        let listener = Listener::bind(address, settings.tls.as_ref()).await?;
        tracing::info!(address = %listener.local_addr(), tls = settings.tls.is_some(), "serving gRPC");
        Ok(Arc::new(Self {
            listener: Mutex::new(Some(listener)),
            heartbeats: broadcast::channel(HEARTBEATS_BUFFERED).0,
            channels: PeerChannels::new(settings.client_tls.clone()),
        }))
    }

    /// Subscribes to heartbeats. Serves gRPC from the first call on, until `self` is dropped.
    pub fn heartbeats(self: &Arc<Self>) -> broadcast::Receiver<HostHeartbeat> {
        let receiver = self.heartbeats.subscribe();
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listener) = listener.take() {
            let (hosts, mut heartbeats) = (Arc::downgrade(self), Heartbeats::listen(listener));
            tokio::spawn(async move {
                while let Some(received) = heartbeats.next().await {
                    let Some(hosts) = hosts.upgrade() else { return };
                    hosts.receive(received).await;
                }
            });
        }
        receiver
    }

    /// Returns the channel to a host that has sent its URL.
    pub fn channel(&self, host_id: &str) -> Option<Channel> {
        self.channels.get(host_id)
    }

    async fn receive(&self, ReceivedHeartbeat { heartbeat, url }: ReceivedHeartbeat) {
        if let Some(url) = url
            && let Err(error) = self.channels.update(&heartbeat.id, &url).await
        {
            let (host_id, error) = (&heartbeat.id, berth_sdk::cli::error_chain(&error));
            tracing::warn!(host_id, url, error, "cannot use the URL of a host");
        }
        // The channel has no receiver while another scheduler is the leader.
        let _ = self.heartbeats.send(heartbeat);
    }
}
