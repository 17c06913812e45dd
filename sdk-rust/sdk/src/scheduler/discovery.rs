//! Asks all hosts for their heartbeats, instead of waiting for the next ones.

use std::collections::BTreeSet;
use std::time::Duration;

use berth_proto::HostHeartbeat;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::HostClient;
use crate::bus::{Bus, BusError};
use crate::subject;

/// Time in which replies to one request are accepted: a host replies within 1 s; the rest is for a
/// busy network.
const WINDOW: Duration = Duration::from_secs(2);

/// Maximum number of hosts that one request discovers, as many as a fleet can have.
const MAX_HOSTS: usize = 10_000;

/// Maximum number of concurrent requests for heartbeats.
const MAX_REQUESTS: usize = 64;

/// Asks once whenever the connection is established, and sends the heartbeats to `found`. Returns
/// after the connection is closed for good, or when `found` is closed.
pub(super) async fn run(bus: Bus, found: mpsc::Sender<HostHeartbeat>) {
    let mut state = bus.connection_state();
    let mut generation = 0;
    loop {
        let connected = state.wait_for(|now| now.connected && now.generation > generation);
        let Ok(now) = connected.await.map(|now| *now) else {
            return;
        };
        generation = now.generation;
        tokio::select! {
            () = found.closed() => return,
            asked = ask(&bus, &found) => if let Err(error) = asked {
                tracing::debug!(%error, "cannot ask for hosts");
            },
        }
    }
}

/// Asks once. A reply only names a host, because any client can send it; the heartbeat is then
/// requested on the subject of that host, which belongs to the host alone.
async fn ask(bus: &Bus, found: &mpsc::Sender<HostHeartbeat>) -> Result<(), BusError> {
    let inbox = bus.new_inbox();
    let mut replies = bus.subscribe(inbox.clone()).await?;
    bus.publish_request(subject::DISCOVER, inbox).await?;
    let end = Instant::now() + WINDOW;
    let mut asked = BTreeSet::new();
    let mut requests = JoinSet::new();
    while let Ok(Some(reply)) = timeout_at(end, replies.next()).await {
        let Some(host_id) = named_host(&reply.payload) else {
            continue;
        };
        if asked.len() < MAX_HOSTS && asked.insert(host_id.clone()) {
            if requests.len() >= MAX_REQUESTS {
                requests.join_next().await;
            }
            requests.spawn(request(bus.clone(), host_id, found.clone()));
        }
    }
    while requests.join_next().await.is_some() {}
    Ok(())
}

fn named_host(payload: &[u8]) -> Option<String> {
    let heartbeat = crate::json::decode::<HostHeartbeat>(payload).ok()?;
    subject::is_host_id(&heartbeat.id).then_some(heartbeat.id)
}

async fn request(bus: Bus, host_id: String, found: mpsc::Sender<HostHeartbeat>) {
    let Ok(client) = HostClient::new(bus, &host_id) else {
        return;
    };
    match client.heartbeat().await {
        Ok(heartbeat) => drop(found.send(heartbeat).await),
        Err(error) => tracing::debug!(host_id, %error, "cannot request heartbeat"),
    }
}
