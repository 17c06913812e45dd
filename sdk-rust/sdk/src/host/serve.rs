//! Serves a [`Host`] on the bus until it is told to shut down.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Host, server};
use crate::bus::{Bus, BusError, ConnectError};
use crate::connect::ConnectOptions;
use crate::subject;

/// Serves `host` until `shutdown` is cancelled, and then ends in order: it unsubscribes, answers what
/// was already asked, stops all workloads within the grace period, and returns.
///
/// With [`ConnectOptions`] it connects by itself and waits for a broker that is not there yet; with a
/// [`Bus`] it shares a connection. Either way it reconnects for ever. [`Connection`] says what else it
/// can be served on.
///
/// Cancel safety: dropping the future drops everything that runs for it, without the orderly end.
///
/// # Errors
///
/// Only what no waiting can mend: options or a description that make no sense, a file of credentials
/// that cannot be read, a shared connection that was closed. A broker that is away is not an error.
pub async fn serve<H: Host>(
    connection: impl Into<Connection>,
    options: ServeOptions,
    host: H,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    if !subject::is_host_id(&options.host_id) {
        return Err(ServeError::HostId(options.host_id));
    }
    if !(MIN_INTERVAL..=MAX_INTERVAL).contains(&options.heartbeat_interval) {
        return Err(ServeError::HeartbeatInterval(options.heartbeat_interval));
    }
    server::run(connection.into(), options, host, shutdown).await
}

/// Faster heartbeats would be taken for a burst (HOST-BEAT-004).
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Slower ones would be taken for a dead host (HOST-BEAT-003).
const MAX_INTERVAL: Duration = Duration::from_secs(30);

/// What a host is served on.
///
/// Made from [`ConnectOptions`] it has a connection to the bus of its own, and from a [`Bus`] it shares
/// one. With the feature `grpc` it may serve gRPC besides or instead.
#[derive(Debug)]
pub struct Connection {
    nats: Option<NatsConnection>,
    #[cfg(feature = "grpc")]
    pub(super) grpc: crate::grpc::HostSide,
}

#[derive(Debug)]
enum NatsConnection {
    Own(Box<ConnectOptions>),
    Shared(Bus),
}

impl Connection {
    fn over_nats(nats: NatsConnection) -> Self {
        Self {
            nats: Some(nats),
            #[cfg(feature = "grpc")]
            grpc: crate::grpc::HostSide::default(),
        }
    }

    /// The bus; one of its own is connected to in the background.
    pub(super) async fn bus(&self) -> Result<Option<Bus>, ConnectError> {
        match &self.nats {
            None => Ok(None),
            Some(NatsConnection::Shared(bus)) => Ok(Some(bus.clone())),
            Some(NatsConnection::Own(options)) => Bus::connect_eventually(options).await.map(Some),
        }
    }
}

#[cfg(feature = "grpc")]
impl Connection {
    /// Over gRPC only: no NATS at all.
    pub fn over_grpc(grpc: crate::grpc::HostSide) -> Self {
        Self { nats: None, grpc }
    }

    /// Over gRPC as well. Both ways lead to the same workloads.
    #[must_use]
    pub fn and_grpc(mut self, grpc: crate::grpc::HostSide) -> Self {
        self.grpc = grpc;
        self
    }
}

impl From<ConnectOptions> for Connection {
    fn from(options: ConnectOptions) -> Self {
        Self::over_nats(NatsConnection::Own(Box::new(options)))
    }
}

impl From<Bus> for Connection {
    fn from(bus: Bus) -> Self {
        Self::over_nats(NatsConnection::Shared(bus))
    }
}

/// How a host is served.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The host's id: one subject token of letters, digits, `-` and `_`, new for each process. A random
    /// UUID by default.
    pub host_id: String,
    /// Between two heartbeats, from 1 s to 30 s; 15 s by default.
    pub heartbeat_interval: Duration,
    /// How long stopping all workloads may take at shutdown; 5 s by default.
    pub shutdown_grace: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            host_id: uuid::Uuid::new_v4().to_string(),
            heartbeat_interval: Duration::from_secs(15),
            shutdown_grace: Duration::from_secs(5),
        }
    }
}

/// Why a host cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The host id is not one subject token of the allowed characters.
    #[error("host id {0:?} is not made of letters, digits, '-' and '_' only")]
    HostId(String),
    /// The interval is one that schedulers would misread.
    #[error("a heartbeat interval of {0:?} is not between 1 s and 30 s")]
    HeartbeatInterval(Duration),
    /// The friendly name cannot be the name of a Kubernetes object.
    #[error("friendly name {0:?} is not a DNS-1123 subdomain of at most 253 characters")]
    FriendlyName(String),
    /// The host does not say what each heartbeat must hold.
    #[error("the host does not describe itself: {0}")]
    Description(&'static str),
    /// The connection options cannot work.
    #[error("the connection options cannot work")]
    Connect(#[from] ConnectError),
    /// The bus refused the subscription.
    #[error("cannot subscribe to commands")]
    Bus(#[source] BusError),
    /// The connection was closed by someone else.
    #[error("the connection to the bus was closed")]
    Closed,
}
