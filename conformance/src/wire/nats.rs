//! The suite's own NATS client: raw requests, every reply to them, and all heartbeats.

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

pub use self::peer_connection::{Link, Subscription};
use super::response::Headers;

/// Replies kept for one request: a host that floods an inbox is seen, not stored without end.
const MAX_REPLIES: usize = 1024;
/// Heartbeats a slow reader may lag behind: hours of one host, seconds of a mad one.
const HEARTBEATS_KEPT: usize = 4096;
/// Messages that an eavesdropper may lag behind.
const TRAFFIC_KEPT: usize = 16 * 1024;
/// How long a connection may take: a broker on the same machine or in the same building.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client that nobody holds any more looks for its broker no sooner than this: the library itself would go on
/// for ever, and the port of an ended broker is soon somebody else's.
const NEVER: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The subject of all heartbeats.
pub const HEARTBEATS: &str = "runtime.operator.heartbeat.>";

/// What stands before the host id in the subject of a heartbeat.
pub const HEARTBEAT_PREFIX: &str = "runtime.operator.heartbeat.";

/// The subject of every command to a host.
pub fn commands_subject(host_id: &str) -> String {
    command_subject(host_id, ">")
}

/// The host and the command that a subject speaks of.
pub fn read_command_subject(subject: &str) -> Option<(&str, &str)> {
    subject.strip_prefix("runtime.host.")?.split_once('.')
}

/// What hosts publish their heartbeats on.
pub fn heartbeat_subject(host_id: &str) -> String {
    format!("{HEARTBEAT_PREFIX}{host_id}")
}

/// What a host listens on for a command.
pub fn command_subject(host_id: &str, command: &str) -> String {
    format!("runtime.host.{host_id}.{command}")
}

/// A message that arrived.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its subject.
    pub subject: String,
    /// Its reply subject.
    pub reply: Option<String>,
    /// Its headers.
    pub headers: Headers,
    /// The broker's status instead of a message: 503 for "no responders".
    pub status: Option<u16>,
    /// Its payload.
    pub payload: Bytes,
    /// When it arrived.
    pub at: Instant,
}

/// The bus cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// No connection.
    #[error("no NATS server answers at {url}")]
    Connect {
        /// Where, without credentials.
        url: String,
        /// Why.
        #[source]
        source: async_nats::ConnectError,
    },
    /// Could not subscribe.
    #[error("cannot subscribe to {subject}")]
    Subscribe {
        /// To what.
        subject: String,
        /// Why.
        #[source]
        source: async_nats::SubscribeError,
    },
    /// Could not publish.
    #[error("cannot publish on {subject}")]
    Publish {
        /// On what.
        subject: String,
        /// Why.
        #[source]
        source: async_nats::PublishError,
    },
    /// The connection is not there.
    #[error("the connection to the broker is lost")]
    Lost,
}

/// One message of the suite's own connection.
#[derive(Clone, Debug)]
pub enum Overheard {
    /// The suite sent it.
    Sent(Delivery),
    /// It came for the suite.
    ReceivedCommand(Delivery),
}

type Pending = Arc<Mutex<HashMap<String, mpsc::Sender<Delivery>>>>;

/// One connection with a reply inbox of its own. Clones share it.
#[derive(Clone)]
pub struct Bus {
    client: async_nats::Client,
    inboxes: String,
    pending: Pending,
    heartbeats: broadcast::Sender<Delivery>,
    traffic: broadcast::Sender<Overheard>,
    trips: Arc<AtomicU64>,
    _pumps: Arc<Pumps>,
    _held: Arc<Held>,
}

impl Bus {
    /// Connects and subscribes to its inbox and to all heartbeats.
    ///
    /// `run` is a token that makes the inboxes of this run unlike any other's.
    pub async fn connect(url: &str, run: &str) -> Result<Bus, BusError> {
        let held = Arc::<Held>::default();
        let client = async_nats::ConnectOptions::new()
            .name("berth-conformance")
            .connection_timeout(CONNECT_TIMEOUT)
            // A broker that comes back must be found at once: deadlines run from its return.
            .reconnect_delay_callback(held.delays(Duration::from_millis(50)))
            .connect(url)
            .await
            .map_err(|source| BusError::Connect {
                url: without_credentials(url),
                source,
            })?;
        let inboxes = format!("_INBOX.berth-{run}");
        let pending = Pending::default();
        let (heartbeats, _) = broadcast::channel(HEARTBEATS_KEPT);
        let (traffic, _) = broadcast::channel(TRAFFIC_KEPT);

        let replies = subscribe(&client, &format!("{inboxes}.>")).await?;
        let beats = subscribe(&client, HEARTBEATS).await?;
        client.flush().await.map_err(|_| BusError::Lost)?;
        let pumps = Arc::new(Pumps([
            tokio::spawn(pump_replies(replies, pending.clone(), traffic.clone())),
            tokio::spawn(pump_heartbeats(beats, heartbeats.clone(), traffic.clone())),
        ]));
        Ok(Bus {
            client,
            inboxes,
            pending,
            heartbeats,
            traffic,
            trips: Arc::default(),
            _pumps: pumps,
            _held: held,
        })
    }

    /// What all reply subjects of this bus begin with.
    pub fn inboxes(&self) -> &str {
        &self.inboxes
    }

    /// The largest payload that the broker takes.
    pub fn max_payload_bytes(&self) -> usize {
        self.client.max_payload()
    }

    /// Whether the broker is there at the moment.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// Sends a request; the replies, all of them, arrive on what is returned until it is dropped.
    ///
    /// `inbox` is the rest of the reply subject behind [`Bus::inboxes`].
    pub async fn request(
        &self,
        subject: &str,
        inbox: &str,
        payload: Bytes,
        headers: &Headers,
    ) -> Result<Replies, BusError> {
        let replies = self.listen(format!("{}.{inbox}", self.inboxes));
        self.send(subject, Some(&replies.inbox), payload, headers)
            .await?;
        Ok(replies)
    }

    /// Publishes without a reply subject and returns when the broker has it.
    pub async fn publish(
        &self,
        subject: &str,
        payload: Bytes,
        headers: &Headers,
    ) -> Result<(), BusError> {
        self.send(subject, None, payload, headers).await?;
        self.round_trip().await.map(|_| ())
    }

    /// Goes to the broker and back: when it returns, the broker has everything sent before.
    ///
    /// # Errors
    /// The broker is not there.
    pub async fn round_trip(&self) -> Result<Duration, BusError> {
        let number = self.trips.fetch_add(1, Ordering::Relaxed);
        let inbox = format!("{}.trip.{number}", self.inboxes);
        // Nobody else listens there: it comes straight back.
        let mut replies = self.listen(inbox.clone());
        self.send(&inbox, None, Bytes::new(), &Headers::none())
            .await?;
        let came = replies.next(CONNECT_TIMEOUT).await.ok_or(BusError::Lost)?;
        Ok(came.at.saturating_duration_since(replies.sent))
    }

    /// Everything that this connection sends and gets from now on.
    pub fn overhear(&self) -> broadcast::Receiver<Overheard> {
        self.traffic.subscribe()
    }

    /// Heartbeats from now on, of every host.
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
            sent: Instant::now(),
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
            let _ = self.traffic.send(Overheard::Sent(sent));
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
            .field("inboxes", &self.inboxes)
            .finish_non_exhaustive()
    }
}

/// What arrives for one request.
#[derive(Debug)]
pub struct Replies {
    /// The reply subject.
    pub inbox: String,
    /// When the request was sent.
    pub sent: Instant,
    receiver: mpsc::Receiver<Delivery>,
    pending: Pending,
}

impl Replies {
    /// The next message on the inbox, or `None` when nothing came in time. Cancel safe.
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

/// Somebody still holds a client.
#[derive(Debug, Default)]
struct Held(Arc<AtomicBool>);

impl Held {
    /// How long to wait before each attempt to connect again.
    fn delays(&self, ordinary: Duration) -> impl Fn(usize) -> Duration + Send + Sync + 'static {
        let dropped = self.0.clone();
        move |_| match dropped.load(Ordering::Relaxed) {
            true => NEVER,
            false => ordinary,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Pumps([JoinHandle<()>; 2]);

impl Drop for Pumps {
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

async fn pump_replies(
    mut replies: async_nats::Subscriber,
    pending: Pending,
    traffic: broadcast::Sender<Overheard>,
) {
    while let Some(message) = replies.next().await {
        let delivery = delivery(message);
        // Mostly nobody eavesdrops.
        let _ = traffic.send(Overheard::ReceivedCommand(delivery.clone()));
        let waiting = pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&delivery.subject)
            .cloned();
        if let Some(waiting) = waiting {
            // A full inbox loses the rest: what is judged is the first and that there is more than one.
            let _ = waiting.try_send(delivery);
        }
    }
}

async fn pump_heartbeats(
    mut beats: async_nats::Subscriber,
    out: broadcast::Sender<Delivery>,
    traffic: broadcast::Sender<Overheard>,
) {
    while let Some(message) = beats.next().await {
        let delivery = delivery(message);
        let _ = traffic.send(Overheard::ReceivedCommand(delivery.clone()));
        // Nobody listening is not an error.
        let _ = out.send(delivery);
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

/// A URL as it may be shown: whatever stands before `@` is a secret.
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
    fn credentials_are_never_shown() {
        assert_eq!(super::without_credentials("nats://u:p@h:1"), "nats://h:1");
        assert_eq!(super::without_credentials("nats://h:1"), "nats://h:1");
    }
}
