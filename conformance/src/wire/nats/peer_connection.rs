//! NATS connection of a simulated peer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::watch;

use super::{
    BusError, CONNECT_TIMEOUT, Delivery, ReconnectGuard, delivery, header_map, subscribe,
    without_credentials,
};
use crate::wire::response::Headers;

/// Connection of one simulated peer, without initial subscriptions. Closed when all clones and
/// subscriptions are dropped.
#[derive(Clone)]
pub struct PeerConnection {
    client: async_nats::Client,
    connections: watch::Receiver<u64>,
    _reconnect: Arc<ReconnectGuard>,
}

impl PeerConnection {
    /// Connects. After a loss of the connection, it tries to reconnect every `reconnect_delay`.
    ///
    /// # Errors
    /// Fails if the first attempt to connect fails.
    pub async fn connect(
        url: &str,
        name: &str,
        reconnect_delay: Duration,
    ) -> Result<PeerConnection, BusError> {
        let reconnect = Arc::<ReconnectGuard>::default();
        let (connected, connections) = watch::channel(0);
        let client = async_nats::ConnectOptions::new()
            .name(name)
            .connection_timeout(CONNECT_TIMEOUT)
            .reconnect_delay_callback(reconnect.delays(reconnect_delay))
            .event_callback(move |event| {
                if matches!(event, async_nats::Event::Connected) {
                    connected.send_modify(|count| *count += 1);
                }
                std::future::ready(())
            })
            .connect(url)
            .await
            .map_err(|source| BusError::Connect {
                url: without_credentials(url),
                source,
            })?;
        Ok(PeerConnection {
            client,
            connections,
            _reconnect: reconnect,
        })
    }

    /// Subscribes. On return, the broker has the subscription.
    ///
    /// # Errors
    /// Fails if the connection is lost.
    pub async fn subscribe(&self, subject: &str) -> Result<Subscription, BusError> {
        Subscription::new(&self.client, subject).await
    }

    /// Publishes a message: on return, it is in the send buffer of the connection.
    ///
    /// # Errors
    /// Fails if the message is too large or the connection is closed.
    pub async fn publish(
        &self,
        subject: &str,
        payload: Bytes,
        headers: &Headers,
    ) -> Result<(), BusError> {
        let failed = |source| BusError::Publish {
            subject: subject.to_owned(),
            source,
        };
        let to = subject.to_owned();
        if headers.0.is_empty() {
            self.client.publish(to, payload).await.map_err(failed)
        } else {
            let map = header_map(headers);
            self.client
                .publish_with_headers(to, map, payload)
                .await
                .map_err(failed)
        }
    }

    /// Waits until all published messages are written to the connection.
    pub async fn flush(&self) {
        // A closed connection has nothing to write.
        let _ = self.client.flush().await;
    }

    /// Returns a receiver of the number of connects so far.
    pub fn connections(&self) -> watch::Receiver<u64> {
        self.connections.clone()
    }

    /// Returns whether the connection is up.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }
}

impl fmt::Debug for PeerConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

/// Subscription to one subject.
#[derive(Debug)]
pub struct Subscription(async_nats::Subscriber);

impl Subscription {
    pub(super) async fn new(
        client: &async_nats::Client,
        subject: &str,
    ) -> Result<Subscription, BusError> {
        let subscriber = subscribe(client, subject).await?;
        client.flush().await.map_err(|_| BusError::Lost)?;
        Ok(Subscription(subscriber))
    }

    /// Returns the next message, or `None` once the connection is closed. Cancel safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.0.next().await.map(delivery)
    }
}
