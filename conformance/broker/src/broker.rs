//! The public handle of a broker: start, stop, restart, statistics.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{BrokerOptions, PortReservation};
use router::Router;

mod connection;
mod handshake;
mod outbound;
mod router;
mod session;

/// A running broker. Dropping it closes its listener and all its connections.
#[derive(Debug)]
pub struct Broker {
    options: BrokerOptions,
    port: PortReservation,
    /// `None` while stopped.
    running: Mutex<Option<Running>>,
}

/// Counters of a broker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Open connections.
    pub connections: usize,
    /// Subscriptions of all connections.
    pub subscriptions: usize,
    /// Messages received from publishers since the start or restart.
    pub messages_in: u64,
    /// Messages sent to subscribers since the start or restart.
    pub messages_out: u64,
    /// Clients disconnected as slow consumers since the start or restart.
    pub slow_consumers: u64,
}

/// Reasons why a broker cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The address cannot be bound.
    #[error("the broker cannot listen on {addr}")]
    Listen {
        /// Address from the options.
        addr: SocketAddr,
        /// I/O error.
        #[source]
        source: io::Error,
    },
}

impl Broker {
    /// Starts a broker on the current runtime.
    ///
    /// # Errors
    /// Fails if the broker cannot listen on the address.
    pub async fn start(options: BrokerOptions) -> Result<Self, BrokerError> {
        let addr = options.addr;
        let port =
            PortReservation::bind(addr).map_err(|source| BrokerError::Listen { addr, source })?;
        let broker = Self {
            options,
            port,
            running: Mutex::new(None),
        };
        broker.restart().await?;
        Ok(broker)
    }

    /// Returns the address. It does not change on restarts.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Returns the URL for clients: `nats://host:port`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.addr())
    }

    /// Closes the listener and every connection, and waits until they are closed.
    ///
    /// While the broker is stopped, connections are refused and the port stays reserved for
    /// [`Self::restart`]. Has no effect on a stopped broker. Not cancel safe: if the call is
    /// dropped, the broker is left half stopped.
    pub async fn stop(&self) {
        let Some(running) = self.lock().take() else {
            return;
        };
        running.stop().await;
        self.port.reserve();
    }

    /// Stops the broker if it runs, and starts it on the same port without connections and
    /// subscriptions.
    ///
    /// # Errors
    /// Fails if another process has taken the port.
    pub async fn restart(&self) -> Result<(), BrokerError> {
        self.stop().await;
        let addr = self.addr();
        let listener = self
            .port
            .listen()
            .map_err(|source| BrokerError::Listen { addr, source })?;
        *self.lock() = Some(Running::start(&self.options, addr, listener));
        Ok(())
    }

    /// Returns the current counters; all are zero while the broker is stopped.
    pub fn stats(&self) -> Stats {
        self.lock()
            .as_ref()
            .map_or_else(Stats::default, |running| running.router.stats())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(running) = &*self.lock() {
            running.stopped.cancel();
        }
    }
}

/// The tasks of a broker between a start and a stop.
#[derive(Debug)]
struct Running {
    router: Arc<Router>,
    stopped: CancellationToken,
    tasks: TaskTracker,
}

impl Running {
    fn start(options: &BrokerOptions, addr: SocketAddr, listener: TcpListener) -> Self {
        let stopped = CancellationToken::new();
        let tasks = TaskTracker::new();
        let router = Arc::new(Router::new(options.clone(), addr));
        let accept = connection::accept(router.clone(), listener, stopped.clone(), tasks.clone());
        tasks.spawn(accept);
        Self {
            router,
            stopped,
            tasks,
        }
    }

    async fn stop(self) {
        self.stopped.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
