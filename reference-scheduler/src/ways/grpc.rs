//! Hosts without NATS: their heartbeats, and the way back to each.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use berth_proto::HostHeartbeat;
use berth_sdk::cli::GrpcServe;
use berth_sdk::grpc::{Beat, Channel, GrpcError, Heartbeats, Listener, Routes};
use tokio::sync::broadcast;

/// Heartbeats that a busy loop may be behind; it takes them in at once.
const BEATS_BEHIND: usize = 1024;

/// The hosts that beat over gRPC.
pub(super) struct GrpcHosts {
    /// Served from the first term on; a heartbeat that comes earlier waits for it instead of being lost.
    listener: Mutex<Option<Listener>>,
    beats: broadcast::Sender<HostHeartbeat>,
    routes: Routes,
}

impl GrpcHosts {
    /// Binds the address where `HostService` is to be served.
    pub async fn bind(address: SocketAddr, settings: &GrpcServe) -> Result<Arc<Self>, GrpcError> {
        let listener = Listener::bind(address, settings.tls.as_ref()).await?;
        tracing::info!(address = %listener.local_addr(), tls = settings.tls.is_some(), "gRPC");
        Ok(Arc::new(Self {
            listener: Mutex::new(Some(listener)),
            beats: broadcast::channel(BEATS_BEHIND).0,
            routes: Routes::new(settings.client.clone()),
        }))
    }

    /// Heartbeats from now on. It listens for as long as somebody has this.
    pub fn heartbeats(self: &Arc<Self>) -> broadcast::Receiver<HostHeartbeat> {
        let beats = self.beats.subscribe();
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listener) = listener.take() {
            let (hosts, mut heartbeats) = (Arc::downgrade(self), Heartbeats::listen(listener));
            tokio::spawn(async move {
                while let Some(beat) = heartbeats.next().await {
                    let Some(hosts) = hosts.upgrade() else { return };
                    hosts.take(beat).await;
                }
            });
        }
        beats
    }

    /// The way to a host that said where it takes commands.
    pub fn channel(&self, host_id: &str) -> Option<Channel> {
        self.routes.channel(host_id)
    }

    async fn take(&self, Beat { heartbeat, url }: Beat) {
        if let Some(url) = url
            && let Err(error) = self.routes.learn(&heartbeat.id, &url).await
        {
            let (host_id, error) = (&heartbeat.id, berth_sdk::cli::chain(&error));
            tracing::warn!(host_id, url, error, "a host cannot be commanded there");
        }
        // Nobody hears while another scheduler acts.
        let _ = self.beats.send(heartbeat);
    }
}
