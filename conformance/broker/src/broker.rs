//! The broker as its users see it: started, stopped, restarted.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{BrokerOptions, Port};
use hub::Hub;

mod connection;
mod greeting;
mod hub;
mod outbound;
mod session;

/// A running broker. Dropping it ends its listener and all its connections.
#[derive(Debug)]
pub struct Broker {
    options: BrokerOptions,
    port: Port,
    /// `None` while stopped.
    running: Mutex<Option<Running>>,
}

/// What a broker has done and holds at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections that are open.
    pub connections: usize,
    /// Subscriptions of all connections.
    pub subscriptions: usize,
    /// Messages taken from publishers since the start or restart.
    pub messages_in: u64,
    /// Messages handed to subscribers since the start or restart.
    pub messages_out: u64,
    /// Clients cut because they did not take what was sent to them, since the start or restart.
    pub slow_consumers: u64,
}

/// Why a broker could not begin to listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The address cannot be listened on.
    #[error("the broker cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

impl Broker {
    /// Starts a broker on the current runtime.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(options: BrokerOptions) -> Result<Self, BrokerError> {
        let addr = options.addr;
        let port = Port::bind(addr).map_err(|source| BrokerError::Listen { addr, source })?;
        let broker = Self {
            options,
            port,
            running: Mutex::new(None),
        };
        broker.restart().await?;
        Ok(broker)
    }

    /// The address, the same over restarts.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// The address as clients take it: `nats://host:port`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.addr())
    }

    /// Closes the listener and every connection, and waits until they are closed.
    ///
    /// Connections are refused from then on; the port is kept for [`Self::restart`]. A broker that is
    /// stopped already stays so. Not cancel safe: a dropped call leaves the broker stopping.
    pub async fn stop(&self) {
        let Some(running) = self.lock().take() else {
            return;
        };
        running.stop().await;
        self.port.reserve();
    }

    /// Stops if need be, and listens on the same port again, with no connection and no interest left.
    ///
    /// # Errors
    /// When the port was lost to another process.
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

    /// Counts of this moment; all zero while stopped.
    pub fn stats(&self) -> Stats {
        self.lock()
            .as_ref()
            .map_or_else(Stats::default, |running| running.hub.stats())
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

/// One run from a start to a stop.
#[derive(Debug)]
struct Running {
    hub: Arc<Hub>,
    stopped: CancellationToken,
    tasks: TaskTracker,
}

impl Running {
    fn start(options: &BrokerOptions, addr: SocketAddr, listener: TcpListener) -> Self {
        let stopped = CancellationToken::new();
        let tasks = TaskTracker::new();
        let hub = Arc::new(Hub::new(options.clone(), addr));
        let accept = connection::accept(hub.clone(), listener, stopped.clone(), tasks.clone());
        tasks.spawn(accept);
        Self {
            hub,
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
