//! The broker as its users see it: started, stopped, restarted.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::BrokerOptions;
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
    addr: SocketAddr,
    state: Mutex<State>,
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
        let failed = |source| BrokerError::Listen { addr, source };
        let listener = reserve(addr).and_then(listen).map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let running = Running::start(&options, addr, listener);
        Ok(Self {
            options,
            addr,
            state: Mutex::new(State::Running(running)),
        })
    }

    /// The address, the same over restarts.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address as clients take it: `nats://host:port`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.addr)
    }

    /// Closes the listener and every connection, and waits until they are closed.
    ///
    /// Connections are refused from then on; the port is kept for [`Self::restart`]. A broker that is
    /// stopped already stays so. Not cancel safe: a dropped call leaves the broker stopping.
    pub async fn stop(&self) {
        let running = match std::mem::replace(&mut *self.lock(), State::Stopped(None)) {
            State::Running(running) => running,
            stopped @ State::Stopped(_) => {
                *self.lock() = stopped;
                return;
            }
        };
        running.stop().await;
        // A bound socket that does not listen refuses connections and keeps the port from others.
        *self.lock() = State::Stopped(reserve(self.addr).ok());
    }

    /// Stops if need be, and listens on the same port again, with no connection and no interest left.
    ///
    /// # Errors
    /// When the port was lost to another process.
    pub async fn restart(&self) -> Result<(), BrokerError> {
        self.stop().await;
        let failed = |source| BrokerError::Listen {
            addr: self.addr,
            source,
        };
        let reserved = match &mut *self.lock() {
            State::Stopped(reserved) => reserved.take(),
            State::Running(_) => return Ok(()),
        };
        let socket = reserved
            .map_or_else(|| reserve(self.addr), Ok)
            .map_err(failed)?;
        let listener = listen(socket).map_err(failed)?;
        *self.lock() = State::Running(Running::start(&self.options, self.addr, listener));
        Ok(())
    }

    /// Counts of this moment; all zero while stopped.
    pub fn stats(&self) -> Stats {
        match &*self.lock() {
            State::Running(running) => running.hub.stats(),
            State::Stopped(_) => Stats::default(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let State::Running(running) = &*self.lock() {
            running.stopped.cancel();
        }
    }
}

#[derive(Debug)]
enum State {
    Running(Running),
    /// With a socket that keeps the port, when one could be had.
    Stopped(Option<TcpSocket>),
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

fn reserve(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // Connections of the run before may linger in the kernel.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

fn listen(socket: TcpSocket) -> io::Result<TcpListener> {
    /// Connections that may wait to be accepted: a whole fleet that comes back at once.
    const BACKLOG: u32 = 1024;
    socket.listen(BACKLOG)
}
