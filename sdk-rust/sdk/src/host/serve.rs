//! Serves a [`Host`] on the bus until it is told to shut down.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Host;
use crate::connect::ConnectOptions;

/// Serves `host` until `shutdown` is cancelled, and then ends in order: it unsubscribes, answers what
/// was already asked, stops all workloads, and returns.
///
/// It connects by itself, waits for a broker that is not there yet, and reconnects for ever.
///
/// # Errors
///
/// Only what no waiting can mend: options that make no sense. A broker that is away is not an error.
pub async fn serve<H: Host>(
    connect: ConnectOptions,
    options: ServeOptions,
    host: H,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let _ = (connect, options, host);
    shutdown.cancelled().await;
    Ok(())
}

/// How a host is served.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServeOptions {
    /// The host's id: one subject token, new for each process. A random one by default.
    pub host_id: String,
    /// Between two heartbeats: 15 s by default, at most 30 s (HOST-BEAT).
    pub heartbeat_interval: Duration,
    /// How long stopping all workloads may take at shutdown: 5 s by default.
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
    /// The host id is not one subject token.
    #[error("host id {0:?} is not one subject token")]
    HostId(String),
    /// The heartbeat interval is 0 or longer than schedulers wait.
    #[error("heartbeat interval {0:?} is not between 100 ms and 30 s")]
    HeartbeatInterval(Duration),
}
