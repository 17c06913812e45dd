//! NATS client of the suite: raw requests, all replies to each of them, and all heartbeats.

mod peer_connection;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;

pub use self::peer_connection::{PeerConnection, Subscription};
use super::response::Headers;

/// Maximum number of unread replies to one request; further replies are dropped, because a host may
/// flood an inbox.
const MAX_REPLIES: usize = 1024;
/// Number of heartbeats that a receiver may lag behind: hours with normal hosts, seconds with a
/// host that floods the bus.
const HEARTBEAT_BUFFER: usize = 4096;
/// Number of messages that a receiver of the traffic may lag behind.
const TRAFFIC_BUFFER: usize = 16 * 1024;
/// Time limit of connecting; the broker is on the same machine or in the same data center.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Reconnect delay of a client after its last handle is dropped. It is longer than any run, because
/// `async-nats` would reconnect forever, and another process may reuse the port of the broker.
const NO_RECONNECT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Wildcard subject of all heartbeats.
pub const HEARTBEATS: &str = "runtime.operator.heartbeat.>";

/// Prefix of heartbeat subjects; the host id follows.
pub const HEARTBEAT_PREFIX: &str = "runtime.operator.heartbeat.";

/// Subject of discovery requests, which all hosts with the extension receive.
pub const DISCOVER: &str = "berth.ext.v1.discover";

/// Returns the wildcard subject of all commands to a host.
pub fn commands_subject(host_id: &str) -> String {
    command_subject(host_id, ">")
}

/// Splits a command subject into the host id and the command.
pub fn parse_command_subject(subject: &str) -> Option<(&str, &str)> {
    subject.strip_prefix("runtime.host.")?.split_once('.')
}

/// Returns the subject on which a host publishes its heartbeats.
pub fn heartbeat_subject(host_id: &str) -> String {
    format!("{HEARTBEAT_PREFIX}{host_id}")
}

/// Returns the subject of a command to a host.
pub fn command_subject(host_id: &str, command: &str) -> String {
    format!("runtime.host.{host_id}.{command}")
}

/// Received or sent message.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Subject.
    pub subject: String,
    /// Reply subject.
    pub reply: Option<String>,
    /// Headers.
    pub headers: Headers,
    /// Status of the broker, such as 503 for no responders; the message then has no content.
    pub status: Option<u16>,
    /// Payload.
    pub payload: Bytes,
    /// Time of arrival or sending.
    pub at: Instant,
}

/// Failure of the connection to the bus.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// Cannot connect.
    #[error("cannot connect to NATS at {url}")]
    Connect {
        /// URL without credentials.
        url: String,
        /// Error of the NATS client.
        #[source]
        source: async_nats::ConnectError,
    },
    /// Cannot subscribe.
    #[error("cannot subscribe to {subject}")]
    Subscribe {
        /// Subject.
        subject: String,
        /// Error of the NATS client.
        #[source]
        source: async_nats::SubscribeError,
    },
    /// Cannot publish.
    #[error("cannot publish on {subject}")]
    Publish {
        /// Subject.
        subject: String,
        /// Error of the NATS client.
        #[source]
        source: async_nats::PublishError,
    },
    /// The connection is lost.
    #[error("the connection to the broker is lost")]
    Lost,
}

/// Message that a [`Bus`] sent or received.
#[derive(Clone, Debug)]
pub enum Traffic {
    /// Sent message.
    Sent(Delivery),
    /// Received message.
    Received(Delivery),
}

type Pending = Arc<Mutex<HashMap<String, mpsc::Sender<Delivery>>>>;

/// Connection to the bus with its own inbox prefix. Clones share it.
#[derive(Clone)]
pub struct Bus {
    client: async_nats::Client,
    inbox_prefix: String,
    pending: Pending,
    heartbeats: broadcast::Sender<Delivery>,
    traffic: broadcast::Sender<Traffic>,
    round_trips: Arc<AtomicU64>,
    _readers: Arc<Readers>,
    _reconnect: Arc<ReconnectGuard>,
}

impl Bus {
    /// Connects, and subscribes to its inboxes and to all heartbeats.
    ///
    /// `run_token` makes the inboxes of this run unique.
    pub async fn connect(url: &str, run_token: &str) -> Result<Bus, BusError> {
        let reconnect = Arc::<ReconnectGuard>::default();
        let client = async_nats::ConnectOptions::new()
            .name("berth-conformance")
            .connection_timeout(CONNECT_TIMEOUT)
            // Deadlines start when the broker returns: the suite must reconnect immediately.
            .reconnect_delay_callback(reconnect.delays(Duration::from_millis(50)))
            .connect(url)
            .await
            .map_err(|source| BusError::Connect {
                url: without_credentials(url),
                source,
            })?;
        let inbox_prefix = format!("_INBOX.berth-{run_token}");
        let pending = Pending::default();
        let (heartbeats, _) = broadcast::channel(HEARTBEAT_BUFFER);
        let (traffic, _) = broadcast::channel(TRAFFIC_BUFFER);

        let replies = subscribe(&client, &format!("{inbox_prefix}.>")).await?;
        let heartbeat_messages = subscribe(&client, HEARTBEATS).await?;
        client.flush().await.map_err(|_| BusError::Lost)?;
        let readers = Arc::new(Readers([
            tokio::spawn(read_replies(replies, pending.clone(), traffic.clone())),
            tokio::spawn(read_heartbeats(
                heartbeat_messages,
                heartbeats.clone(),
                traffic.clone(),
            )),
        ]));
        Ok(Bus {
            client,
            inbox_prefix,
            pending,
            heartbeats,
            traffic,
            round_trips: Arc::default(),
            _readers: readers,
            _reconnect: reconnect,
        })
    }

    /// Returns the prefix of all reply subjects of this connection.
    pub fn inbox_prefix(&self) -> &str {
        &self.inbox_prefix
    }

    /// Returns the maximum payload that the broker accepts.
    pub fn max_payload_bytes(&self) -> usize {
        self.client.max_payload()
    }

    /// Returns whether the connection is open.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// Sends a request. The returned [`Replies`] receives every reply until it is dropped.
    ///
    /// `inbox` is the part of the reply subject after [`Bus::inbox_prefix`].
    pub async fn request(
        &self,
        subject: &str,
        inbox: &str,
        payload: Bytes,
        headers: &Headers,
    ) -> Result<Replies, BusError> {
        let replies = self.listen(format!("{}.{inbox}", self.inbox_prefix));
        self.send(subject, Some(&replies.inbox), payload, headers)
            .await?;
        Ok(replies)
    }

    /// Subscribes to a reply subject outside of the inboxes of this connection. On return, the
    /// broker has the subscription.
    ///
    /// # Errors
    /// Fails if the connection is lost.
    pub async fn subscribe(&self, subject: &str) -> Result<Subscription, BusError> {
        let subscription = Subscription::new(&self.client, subject).await?;
        self.round_trip().await?;
        Ok(subscription)
    }

    /// Sends a request with any reply subject.
    ///
    /// # Errors
    /// Fails if the connection is lost.
    pub async fn request_with_reply_subject(
        &self,
        subject: &str,
        reply: &str,
        payload: Bytes,
    ) -> Result<(), BusError> {
        self.send(subject, Some(reply), payload, &Headers::none())
            .await
    }

    /// Publishes without a reply subject, and returns when the broker has received the message.
    pub async fn publish(
        &self,
        subject: &str,
        payload: Bytes,
        headers: &Headers,
    ) -> Result<(), BusError> {
        self.send(subject, None, payload, headers).await?;
        self.round_trip().await.map(|_| ())
    }

    /// Measures a round trip to the broker. On return, the broker has every message sent before.
    ///
    /// # Errors
    /// Fails if the connection is lost.
    pub async fn round_trip(&self) -> Result<Duration, BusError> {
        let number = self.round_trips.fetch_add(1, Ordering::Relaxed);
        let inbox = format!("{}.trip.{number}", self.inbox_prefix);
        // Publishes to its own inbox, which has no other subscriber.
        let mut replies = self.listen(inbox.clone());
        self.send(&inbox, None, Bytes::new(), &Headers::none())
            .await?;
        let delivery = replies.next(CONNECT_TIMEOUT).await.ok_or(BusError::Lost)?;
        Ok(delivery.at.saturating_duration_since(replies.sent_at))
    }

    /// Subscribes to all messages that this connection sends and receives from now on.
    pub fn traffic(&self) -> broadcast::Receiver<Traffic> {
        self.traffic.subscribe()
    }

    /// Subscribes to the heartbeats of all hosts from now on.
    pub fn heartbeats(&self) -> broadcast::Receiver<Delivery> {
        self.heartbeats.subscribe()
    }

    fn listen(&self, inbox: String) -> Replies {
        let (sender, receiver) = mpsc::channel(MAX_REPLIES);
        self.lock().insert(inbox.clone(), sender);
        Replies {
            inbox,
            receiver,
            pending: self.pending.clone(),
            sent_at: Instant::now(),
        }
    }

    async fn send(
        &self,
        subject: &str,
        reply: Option<&str>,
        payload: Bytes,
        headers: &Headers,
    ) -> Result<(), BusError> {
        if self.traffic.receiver_count() > 0 {
            let sent = Delivery {
                subject: subject.to_owned(),
                reply: reply.map(str::to_owned),
                headers: headers.clone(),
                status: None,
                payload: payload.clone(),
                at: Instant::now(),
            };
            let _ = self.traffic.send(Traffic::Sent(sent));
        }
        let subject = subject.to_owned();
        let failed = |source| BusError::Publish {
            subject: subject.clone(),
            source,
        };
        let map = (!headers.0.is_empty()).then(|| header_map(headers));
        match (reply.map(str::to_owned), map) {
            (None, None) => self.client.publish(subject.clone(), payload).await,
            (None, Some(map)) => {
                self.client
                    .publish_with_headers(subject.clone(), map, payload)
                    .await
            }
            (Some(reply), None) => {
                self.client
                    .publish_with_reply(subject.clone(), reply, payload)
                    .await
            }
            (Some(reply), Some(map)) => {
                self.client
                    .publish_with_reply_and_headers(subject.clone(), reply, map, payload)
                    .await
            }
        }
        .map_err(failed)?;
        self.client.flush().await.map_err(|_| BusError::Lost)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, mpsc::Sender<Delivery>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus")
            .field("inbox_prefix", &self.inbox_prefix)
            .finish_non_exhaustive()
    }
}

/// Replies to one request.
#[derive(Debug)]
pub struct Replies {
    /// Reply subject.
    pub inbox: String,
    /// Time of sending the request.
    pub sent_at: Instant,
    receiver: mpsc::Receiver<Delivery>,
    pending: Pending,
}

impl Replies {
    /// Returns the next message on the inbox, or `None` on timeout. Cancel safe.
    pub async fn next(&mut self, within: Duration) -> Option<Delivery> {
        tokio::time::timeout(within, self.receiver.recv())
            .await
            .ok()
            .flatten()
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.inbox);
    }
}

/// Stops the reconnects of a client when its last handle is dropped.
#[derive(Debug, Default)]
struct ReconnectGuard(Arc<AtomicBool>);

impl ReconnectGuard {
    /// Returns the function that determines the delay before each reconnect.
    fn delays(&self, delay: Duration) -> impl Fn(usize) -> Duration + Send + Sync + 'static {
        let dropped = self.0.clone();
        move |_| {
            if dropped.load(Ordering::Relaxed) {
                NO_RECONNECT
            } else {
                delay
            }
        }
    }
}

impl Drop for ReconnectGuard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Tasks that read the subscriptions of a [`Bus`]. Dropping it ends them.
struct Readers([JoinHandle<()>; 2]);

impl Drop for Readers {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

async fn subscribe(
    client: &async_nats::Client,
    subject: &str,
) -> Result<async_nats::Subscriber, BusError> {
    let failed = |source| BusError::Subscribe {
        subject: subject.to_owned(),
        source,
    };
    client.subscribe(subject.to_owned()).await.map_err(failed)
}

async fn read_replies(
    mut replies: async_nats::Subscriber,
    pending: Pending,
    traffic: broadcast::Sender<Traffic>,
) {
    while let Some(message) = replies.next().await {
        let delivery = delivery(message);
        // Sending fails if there is no receiver, which is normal.
        let _ = traffic.send(Traffic::Received(delivery.clone()));
        let waiting = pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&delivery.subject)
            .cloned();
        if let Some(waiting) = waiting {
            // A full inbox drops replies: checks judge the first reply and whether there are more.
            let _ = waiting.try_send(delivery);
        }
    }
}

async fn read_heartbeats(
    mut messages: async_nats::Subscriber,
    heartbeats: broadcast::Sender<Delivery>,
    traffic: broadcast::Sender<Traffic>,
) {
    while let Some(message) = messages.next().await {
        let delivery = delivery(message);
        let _ = traffic.send(Traffic::Received(delivery.clone()));
        let _ = heartbeats.send(delivery);
    }
}

fn delivery(message: async_nats::Message) -> Delivery {
    let headers = message.headers.map(|map| {
        let lines = map.iter().flat_map(|(name, values)| {
            values
                .iter()
                .map(move |value| (name.to_string(), value.as_str().to_owned()))
        });
        Headers(lines.collect())
    });
    Delivery {
        subject: message.subject.to_string(),
        reply: message.reply.map(|reply| reply.to_string()),
        headers: headers.unwrap_or_default(),
        status: message.status.map(|status| status.as_u16()),
        payload: message.payload,
        at: Instant::now(),
    }
}

fn header_map(headers: &Headers) -> async_nats::HeaderMap {
    let mut map = async_nats::HeaderMap::new();
    for (name, value) in &headers.0 {
        map.append(name.as_str(), value.as_str());
    }
    map
}

/// Removes user and password from a URL, for display.
pub fn without_credentials(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            format!(
                "{}://{}",
                url.get(..scheme).unwrap_or_default(),
                url.get(at + 1..).unwrap_or_default()
            )
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn removes_credentials() {
        assert_eq!(super::without_credentials("nats://u:p@h:1"), "nats://h:1");
        assert_eq!(super::without_credentials("nats://h:1"), "nats://h:1");
    }
}
