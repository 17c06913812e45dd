//! The heartbeats of all hosts, as they arrive.

use berth_proto::HostHeartbeat;

use crate::bus::{Bus, BusError, Delivery, Subscription};
use crate::subject;

/// Heartbeats from now on, for schedulers with a view of the fleet of their own; others have
/// [`Fleet`](super::Fleet). Listening ends when it is dropped.
pub struct Heartbeats {
    subscription: Subscription,
}

impl Heartbeats {
    /// Begins to listen, also while there is no connection yet.
    ///
    /// # Errors
    ///
    /// Only when the connection is closed for good.
    pub async fn subscribe(bus: &Bus) -> Result<Self, BusError> {
        let subscription = bus.subscribe(subject::all_heartbeats()).await?;
        Ok(Self { subscription })
    }

    /// The next heartbeat whose id is that of its subject; what else arrives is logged and passed over.
    /// `None` when the connection is closed for good. Cancel safe.
    pub async fn next(&mut self) -> Option<HostHeartbeat> {
        loop {
            let delivery = self.subscription.next().await?;
            if let Some(heartbeat) = read(&delivery) {
                return Some(heartbeat);
            }
        }
    }
}

fn read(delivery: &Delivery) -> Option<HostHeartbeat> {
    let host_id = subject::parse_heartbeat(&delivery.subject)?;
    match crate::json::read::<HostHeartbeat>(&delivery.payload) {
        Ok(heartbeat) if heartbeat.id == host_id => return Some(heartbeat),
        Ok(_) => tracing::warn!(host_id, "a heartbeat holds another id than its subject"),
        Err(error) => tracing::warn!(host_id, %error, "a heartbeat cannot be read"),
    }
    None
}
