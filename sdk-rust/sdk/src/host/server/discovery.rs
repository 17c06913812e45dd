//! Replies to discovery requests with a heartbeat.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::heartbeat::HeartbeatPublisher;
use crate::bus::{Bus, Subscription};
use crate::host::Host;
use crate::subject;

/// Maximum delay of a reply. The hosts of a fleet reply at random times within it, so that the
/// asker does not receive thousands of replies at once (1 s is permitted).
const MAX_DELAY: Duration = Duration::from_millis(250);

/// Maximum number of replies that wait for their time. Further requests are ignored: one request
/// reaches all hosts, so that an unbounded number would multiply a flood.
const MAX_WAITING: usize = 16;

/// Replies to discovery requests until `stop`.
pub(super) async fn run<H: Host>(
    bus: Bus,
    heartbeats: Arc<HeartbeatPublisher<H>>,
    stop: CancellationToken,
) {
    match bus.subscribe(subject::DISCOVER.to_owned()).await {
        Ok(requests) => {
            stop.run_until_cancelled(reply_to_all(requests, &bus, &heartbeats))
                .await;
        }
        Err(error) => tracing::debug!(%error, "cannot subscribe to discovery requests"),
    }
}

async fn reply_to_all<H: Host>(
    mut requests: Subscription,
    bus: &Bus,
    heartbeats: &Arc<HeartbeatPublisher<H>>,
) {
    let mut replies = JoinSet::new();
    loop {
        tokio::select! {
            request = requests.next() => {
                let Some(request) = request else {
                    return;
                };
                let reply_to = request.reply_to.filter(|subject| !subject::is_reserved(subject));
                if let Some(reply_to) = reply_to && replies.len() < MAX_WAITING {
                    replies.spawn(reply(bus.clone(), heartbeats.clone(), reply_to));
                }
            }
            Some(_) = replies.join_next() => {}
        }
    }
}

async fn reply<H: Host>(bus: Bus, heartbeats: Arc<HeartbeatPublisher<H>>, reply_to: String) {
    let delay = rand::rng().random_range(Duration::ZERO..=MAX_DELAY);
    tokio::time::sleep(delay).await;
    let Some(message) = heartbeats.message() else {
        return;
    };
    if let Err(error) = bus.publish(reply_to, message, None).await {
        tracing::debug!(%error, "cannot reply to a discovery request");
    }
}
