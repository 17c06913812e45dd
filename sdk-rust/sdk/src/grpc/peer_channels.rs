//! Channels to the hosts that send heartbeats over gRPC.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use super::{Channel, ChannelOptions, ClientTls, GrpcError};

/// Maximum number of hosts with a channel at a time, far above any fleet over gRPC. The host with
/// the oldest heartbeat is evicted first.
const MAX_HOSTS: usize = 4096;

/// Channels to the hosts whose heartbeats name a URL for commands.
#[derive(Debug, Default)]
pub struct PeerChannels {
    tls: ClientTls,
    peers: Mutex<HashMap<String, Peer>>,
}

#[derive(Debug)]
struct Peer {
    channel: Channel,
    last_heartbeat_at: Instant,
}

impl PeerChannels {
    /// Creates an empty set of channels. `tls` applies to `https://` URLs. If it is not empty,
    /// `http://` URLs are rejected, because a workload may carry secrets.
    pub fn new(tls: ClientTls) -> Self {
        Self {
            tls,
            peers: Mutex::default(),
        }
    }

    /// Records the URL from the heartbeat of a host. A new URL opens a channel and reads the TLS
    /// files once.
    ///
    /// # Errors
    ///
    /// Fails if the URL is invalid or not permitted, or the TLS files cannot be used. The previous
    /// channel to the host, if any, then remains in use.
    pub async fn update(&self, host_id: &str, url: &str) -> Result<(), GrpcError> {
        let current = self.get(host_id);
        let channel = match current.filter(|channel| channel.url() == url) {
            Some(channel) => channel,
            None => self.open(url).await?,
        };
        let peer = Peer {
            channel,
            last_heartbeat_at: Instant::now(),
        };
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.insert(host_id.to_owned(), peer);
        if peers.len() > MAX_HOSTS {
            let oldest = peers.iter().min_by_key(|(_, peer)| peer.last_heartbeat_at);
            if let Some(oldest) = oldest.map(|(host_id, _)| host_id.clone()) {
                peers.remove(&oldest);
            }
        }
        Ok(())
    }

    /// Returns the channel to a host, if its heartbeats named a URL.
    pub fn get(&self, host_id: &str) -> Option<Channel> {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.get(host_id).map(|peer| peer.channel.clone())
    }

    async fn open(&self, url: &str) -> Result<Channel, GrpcError> {
        let mut options = ChannelOptions::to(url);
        if url.starts_with("https:") {
            options.tls = self.tls.clone();
        } else if !self.tls.is_empty() {
            return Err(GrpcError::PlaintextUrl(url.to_owned()));
        }
        Channel::open(&options).await
    }
}
