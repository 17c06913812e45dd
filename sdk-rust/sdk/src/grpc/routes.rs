//! The way back to each host that beats over gRPC.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use super::{Channel, ChannelOptions, ClientTls, GrpcError};

/// Hosts whose way is remembered, far more than beat over gRPC anywhere; the one heard longest ago goes first.
const MAX_HOSTS: usize = 4096;

/// The channels to the hosts that say in their heartbeats where they take commands.
#[derive(Debug, Default)]
pub struct Routes {
    tls: ClientTls,
    routes: Mutex<HashMap<String, Route>>,
}

#[derive(Debug)]
struct Route {
    channel: Channel,
    heard_at: Instant,
}

impl Routes {
    /// None yet. The files of certificates are for hosts behind `https://`; with any, no host is commanded in the clear,
    /// because a workload may carry secrets.
    pub fn new(tls: ClientTls) -> Self {
        Self {
            tls,
            routes: Mutex::default(),
        }
    }

    /// Takes note of where a host takes commands, as its heartbeat says. Files are read now, and not again.
    ///
    /// # Errors
    ///
    /// A URL that is none or in the clear where it must not be, files that cannot be used. What was known of the host stays.
    pub async fn learn(&self, host_id: &str, url: &str) -> Result<(), GrpcError> {
        let known = self.channel(host_id);
        let channel = match known.filter(|channel| channel.url() == url) {
            Some(channel) => channel,
            None => self.open(url).await?,
        };
        let heard_at = Instant::now();
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.insert(host_id.to_owned(), Route { channel, heard_at });
        if routes.len() > MAX_HOSTS {
            let oldest = routes.iter().min_by_key(|(_, route)| route.heard_at);
            if let Some(oldest) = oldest.map(|(host_id, _)| host_id.clone()) {
                routes.remove(&oldest);
            }
        }
        Ok(())
    }

    /// The way to a host that has said where it is.
    pub fn channel(&self, host_id: &str) -> Option<Channel> {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.get(host_id).map(|route| route.channel.clone())
    }

    async fn open(&self, url: &str) -> Result<Channel, GrpcError> {
        let mut options = ChannelOptions::to(url);
        if url.starts_with("https:") {
            options.tls = self.tls.clone();
        } else if !self.tls.is_empty() {
            return Err(GrpcError::PlainUrl(url.to_owned()));
        }
        Channel::open(&options).await
    }
}
