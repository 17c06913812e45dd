//! Hosts without NATS: their heartbeats, and the way back to each.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use berth_proto::HostHeartbeat;
use berth_sdk::cli::GrpcServe;
use berth_sdk::grpc::{Beat, Channel, GrpcError, Heartbeats, Listener};
use tokio::sync::broadcast;
use tokio::time::Instant;

/// Heartbeats that a busy loop may be behind; it takes them in at once.
const BEATS_BEHIND: usize = 1024;

/// Hosts whose way is remembered, far more than beat over gRPC anywhere; the one heard longest ago goes first.
const HOSTS_MAX: usize = 4096;

/// The hosts that beat over gRPC.
pub(super) struct GrpcHosts {
    /// Served from the first term on; a heartbeat that comes earlier waits for it instead of being lost.
    listener: Mutex<Option<Listener>>,
    beats: broadcast::Sender<HostHeartbeat>,
    ways: Mutex<HashMap<String, Way>>,
    settings: GrpcServe,
}

struct Way {
    channel: Channel,
    heard_at: Instant,
}

impl GrpcHosts {
    /// Binds the address where `HostService` is to be served.
    pub async fn bind(address: SocketAddr, settings: &GrpcServe) -> Result<Arc<Self>, GrpcError> {
        let listener = Listener::bind(address, settings.tls.as_ref()).await?;
        tracing::info!(address = %listener.local_addr(), tls = settings.tls.is_some(), "gRPC");
        Ok(Arc::new(Self {
            listener: Mutex::new(Some(listener)),
            beats: broadcast::channel(BEATS_BEHIND).0,
            ways: Mutex::default(),
            settings: settings.clone(),
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
        let ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        ways.get(host_id).map(|way| way.channel.clone())
    }

    async fn take(&self, Beat { heartbeat, url }: Beat) {
        if let Some(url) = url {
            self.note(&heartbeat.id, &url).await;
        }
        // Nobody hears while another scheduler acts.
        let _ = self.beats.send(heartbeat);
    }

    async fn note(&self, host_id: &str, url: &str) {
        let known = self.channel(host_id);
        let channel = match known.filter(|channel| channel.url() == url) {
            Some(channel) => channel,
            None => match self.open(url).await {
                Ok(channel) => channel,
                Err(error) => {
                    let error = berth_sdk::cli::chain(&error);
                    return tracing::warn!(host_id, url, error, "a host cannot be commanded there");
                }
            },
        };
        let heard_at = Instant::now();
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        ways.insert(host_id.to_owned(), Way { channel, heard_at });
        if ways.len() > HOSTS_MAX {
            let oldest = ways.iter().min_by_key(|(_, way)| way.heard_at);
            if let Some(oldest) = oldest.map(|(host_id, _)| host_id.clone()) {
                ways.remove(&oldest);
            }
        }
    }

    /// Whoever has certificates for hosts sends no workload to one in the clear: it may carry secrets.
    async fn open(&self, url: &str) -> Result<Channel, GrpcError> {
        if !self.settings.client.is_empty() && !url.starts_with("https:") {
            return Err(GrpcError::PlainUrl(url.to_owned()));
        }
        Channel::open(&self.settings.channel(url)).await
    }
}
