//! A connection of a simulated peer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::watch;

use super::{
    BusError, CONNECT_TIMEOUT, Delivery, Held, delivery, header_map, subscribe, without_credentials,
};
use crate::wire::response::Headers;

/// A connection with nothing on it, for one simulated peer. It is closed when it and everything that
/// was subscribed to on it are dropped.
#[derive(Clone)]
pub struct Link {
    client: async_nats::Client,
    connections: watch::Receiver<u64>,
    _held: Arc<Held>,
}

impl Link {
    /// Connects; after a loss it comes back, each attempt `reconnect_after` the last.
    ///
    /// # Errors
    /// Nobody answers there.
    pub async fn connect(
        url: &str,
        name: &str,
        reconnect_after: Duration,
    ) -> Result<Link, BusError> {
        let held = Arc::<Held>::default();
        let (made, connections) = watch::channel(0);
        let client = async_nats::ConnectOptions::new()
            .name(name)
            .connection_timeout(CONNECT_TIMEOUT)
            .reconnect_delay_callback(held.delays(reconnect_after))
            .event_callback(move |event| {
                if matches!(event, async_nats::Event::Connected) {
                    made.send_modify(|count| *count += 1);
                }
                std::future::ready(())
            })
            .connect(url)
            .await
            .map_err(|source| BusError::Connect {
                url: without_credentials(url),
                source,
            })?;
        Ok(Link {
            client,
            connections,
            _held: held,
        })
    }

    /// Subscribes; the broker knows of it when this returns.
    ///
    /// # Errors
    /// The connection is not there.
    pub async fn subscribe(&self, subject: &str) -> Result<Subscription, BusError> {
        let subscriber = subscribe(&self.client, subject).await?;
        self.client.flush().await.map_err(|_| BusError::Lost)?;
        Ok(Subscription(subscriber))
    }

    /// Publishes, and hands it to the connection before it returns.
    ///
    /// # Errors
    /// It is too large, or the connection is not there.
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

    /// Waits until everything that was published has left.
    pub async fn flush(&self) {
        // A connection that is gone has nothing to send.
        let _ = self.client.flush().await;
    }

    /// How many connections were made so far; it tells of each one more.
    pub fn connections(&self) -> watch::Receiver<u64> {
        self.connections.clone()
    }

    /// Whether the broker is there at the moment.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

/// What arrives on a subject of a [`Link`].
#[derive(Debug)]
pub struct Subscription(async_nats::Subscriber);

impl Subscription {
    /// The next message; `None` when the connection is closed for good. Cancel safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.0.next().await.map(delivery)
    }
}
