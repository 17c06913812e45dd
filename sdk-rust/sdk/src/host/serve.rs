//! Serving a [`Host`].

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Host, server};
use crate::bus::{Bus, BusError, ConnectError};
use crate::connect::ConnectOptions;
use crate::subject;

/// Serves `host` until `shutdown` is cancelled, then shuts down gracefully: unsubscribes, replies
/// to all pending requests, stops all workloads within the grace period, and returns.
///
/// With [`ConnectOptions`] the host opens its own connection and waits for the broker to become
/// available; with a [`Bus`] it shares that connection. Both connections reconnect forever. See
/// [`Connection`] for gRPC.
///
/// Cancel safety: dropping the future drops all its tasks, without the graceful shutdown.
///
/// # Errors
///
/// Fails only where a retry cannot help: if the options or the description are invalid, a
/// credentials file cannot be read, or a shared connection is closed. An unreachable broker is not
/// an error.
pub async fn serve<H: Host>(
    connection: impl Into<Connection>,
    options: ServeOptions,
    host: H,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    if !subject::is_host_id(&options.host_id) {
        return Err(ServeError::InvalidHostId(options.host_id));
    }
    if !(MIN_HEARTBEAT_INTERVAL..=MAX_HEARTBEAT_INTERVAL).contains(&options.heartbeat_interval) {
        return Err(ServeError::InvalidHeartbeatInterval(
            options.heartbeat_interval,
        ));
    }
    server::run(connection.into(), options, host, shutdown).await
}

/// Minimum heartbeat interval. Heartbeats at a shorter interval are a burst (HOST-BEAT-004).
const MIN_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum heartbeat interval. With a longer one, schedulers consider the host lost
/// (HOST-BEAT-003).
const MAX_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);

/// Connections that a host is served on.
///
/// [`ConnectOptions`] convert to a NATS connection of the host's own, and a [`Bus`] to a shared
/// NATS connection. With the feature `grpc`, gRPC can be used in addition to NATS or instead of it.
#[derive(Debug)]
pub struct Connection {
    nats: Option<NatsConnection>,
    #[cfg(feature = "grpc")]
    pub(super) grpc: crate::grpc::HostEndpoints,
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
            grpc: crate::grpc::HostEndpoints::default(),
        }
    }

    /// Returns the bus, or `None` without NATS. The host's own connection is established in the
    /// background.
    pub(super) async fn bus(&self) -> Result<Option<Bus>, ConnectError> {
        match &self.nats {
            None => Ok(None),
            Some(NatsConnection::Shared(bus)) => Ok(Some(bus.clone())),
            Some(NatsConnection::Own(options)) => Bus::connect_with_retry(options).await.map(Some),
        }
    }
}

#[cfg(feature = "grpc")]
impl Connection {
    /// Creates a connection over gRPC, without NATS.
    pub fn over_grpc(grpc: crate::grpc::HostEndpoints) -> Self {
        Self { nats: None, grpc }
    }

    /// Adds gRPC. Both transports serve the same workloads.
    #[must_use]
    pub fn with_grpc(mut self, grpc: crate::grpc::HostEndpoints) -> Self {
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

/// Options for serving a host.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Host ID: one subject token of letters, digits, `-` and `_`, new for each process. A random
    /// UUID by default.
    pub host_id: String,
    /// Interval between heartbeats, 1 s to 30 s; 15 s by default.
    pub heartbeat_interval: Duration,
    /// Grace period for stopping all workloads at shutdown; 5 s by default.
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

/// Reason a host cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The host ID is not a subject token of the allowed characters.
    #[error("invalid host ID {0:?} (allowed: letters, digits, '-' and '_')")]
    InvalidHostId(String),
    /// The heartbeat interval is out of range.
    #[error("heartbeat interval {0:?} is not between 1 s and 30 s")]
    InvalidHeartbeatInterval(Duration),
    /// The friendly name is not a valid name of a Kubernetes object.
    #[error("friendly name {0:?} is not a DNS-1123 subdomain of at most 253 characters")]
    InvalidFriendlyName(String),
    /// The description lacks a field that each heartbeat needs.
    #[error("incomplete description of the host: {0}")]
    IncompleteDescription(&'static str),
    /// The connection options are invalid.
    #[error("invalid connection options")]
    Connect(#[from] ConnectError),
    /// The subscription to commands fails.
    #[error("cannot subscribe to commands")]
    Subscribe(#[source] BusError),
    /// The shared connection was closed.
    #[error("the connection to the bus was closed")]
    Closed,
}
