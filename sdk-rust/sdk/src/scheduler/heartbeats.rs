//! The heartbeats of all hosts on the bus.

use berth_proto::HostHeartbeat;

use crate::bus::{Bus, BusError, Delivery, Subscription};
use crate::subject;

/// Subscription to heartbeats, for schedulers that do not use [`Fleet`](super::Fleet). Dropping it
/// unsubscribes.
pub struct Heartbeats {
    subscription: Subscription,
}

impl Heartbeats {
    /// Subscribes, even before the connection is established.
    ///
    /// # Errors
    ///
    /// Fails only if the connection is closed for good.
    pub async fn subscribe(bus: &Bus) -> Result<Self, BusError> {
        let subscription = bus.subscribe(subject::all_heartbeats()).await?;
        Ok(Self { subscription })
    }

    /// Returns the next heartbeat whose host ID matches its subject; logs and skips all others.
    /// Returns `None` after the connection is closed for good. Cancel safe.
    pub async fn next(&mut self) -> Option<HostHeartbeat> {
        loop {
            let delivery = self.subscription.next().await?;
            if let Some(heartbeat) = decode(&delivery) {
                return Some(heartbeat);
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
