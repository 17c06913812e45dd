//! The heartbeats of all hosts on the bus.

use berth_proto::HostHeartbeat;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::discovery;
use crate::bus::{Bus, BusError, Delivery, Subscription};
use crate::subject;

/// Capacity of the queue of discovered hosts; discovery waits while it is full.
const MAX_QUEUED_HOSTS: usize = 64;

/// Subscription to heartbeats, for schedulers that do not use [`Fleet`](super::Fleet). Dropping it
/// unsubscribes.
///
/// Whenever the connection is established, hosts are also asked for their heartbeats (the extension
/// `discover`). Hosts that do not support it follow with their next heartbeat.
pub struct Heartbeats {
    subscription: Subscription,
    discovered: mpsc::Receiver<HostHeartbeat>,
    _discovery: DropGuard,
}

impl Heartbeats {
    /// Subscribes, even before the connection is established.
    ///
    /// # Errors
    ///
    /// Fails only if the connection is closed for good.
    pub async fn subscribe(bus: &Bus) -> Result<Self, BusError> {
        let subscription = bus.subscribe(subject::all_heartbeats()).await?;
        let (found, discovered) = mpsc::channel(MAX_QUEUED_HOSTS);
        let end = CancellationToken::new();
        let discovery = discovery::run(bus.clone(), found);
        tokio::spawn(end.clone().run_until_cancelled_owned(discovery));
        Ok(Self {
            subscription,
            discovered,
            _discovery: end.drop_guard(),
        })
    }

    /// Returns the next heartbeat whose host ID matches its subject; logs and skips all others.
    /// Returns `None` after the connection is closed for good. Cancel safe.
    pub async fn next(&mut self) -> Option<HostHeartbeat> {
        loop {
            tokio::select! {
                delivery = self.subscription.next() => {
                    if let Some(heartbeat) = decode(&delivery?) {
                        return Some(heartbeat);
                    }
                }
                Some(heartbeat) = self.discovered.recv() => return Some(heartbeat),
            }
        }
    }
}

fn decode(delivery: &Delivery) -> Option<HostHeartbeat> {
    let host_id = subject::parse_heartbeat(&delivery.subject)?;
    match crate::json::decode::<HostHeartbeat>(&delivery.payload) {
        Ok(heartbeat) if heartbeat.id == host_id => return Some(heartbeat),
        Ok(_) => tracing::warn!(
            host_id,
            "heartbeat ignored: host ID and subject do not match"
        ),
        Err(error) => tracing::warn!(host_id, %error, "cannot decode heartbeat"),
    }
    None
}
