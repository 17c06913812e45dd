//! Bounded listening: one accept loop for every endpoint of a program, with a limit on connections,
//! deadlines that begin with the accept, and idle connections that give way to new ones.

mod activity;
mod bind;
mod stream;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::activity::Activity;
pub use self::bind::bind;
pub use self::stream::ConnectionStream;

/// Delay before the next accept after a failure, so that the loop does not spin while file
/// descriptors are exhausted.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// Limits of the connections of one listener, for all its clients together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Open connections. Beyond it, a new connection replaces one without a request in flight: one
    /// that never made a request if there is any, else the one that is idle for the longest time.
    /// If all have requests in flight, new connections wait.
    pub connections_max: usize,
    /// Time from the accept, or from the first byte after an idle time, to the end of a request's
    /// head, any handshake included. Further bytes do not extend it.
    pub head_timeout: Duration,
    /// Time without a request in flight after which a connection is closed. `None` means no limit.
    pub idle_timeout: Option<Duration>,
    /// Time after which a request ends its connection. `None` means no limit.
    pub request_timeout: Option<Duration>,
}

/// Accepts the connections of one listener.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    connections: Connections,
}

/// The open connections of one listener. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Connections {
    table: Arc<Table>,
}

/// One accepted connection, which occupies its place until the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Connection {
    inner: Arc<Inner>,
}

/// A request in flight, which ends when this value is dropped.
#[derive(Debug)]
pub struct RequestInFlight {
    connection: Connection,
    number: u64,
}

#[derive(Debug)]
struct Table {
    limits: ConnectionLimits,
    open: Mutex<Open>,
    /// Notified when a connection is closed.
    closed: Notify,
}

#[derive(Debug, Default)]
struct Open {
    latest_id: u64,
    by_id: HashMap<u64, Weak<Inner>>,
}

#[derive(Debug)]
struct Inner {
    id: u64,
    table: Arc<Table>,
    watched: Mutex<Watched>,
    /// Notified when the deadline moves ahead of the time for which the watcher sleeps.
    earlier: Notify,
    /// Notified when a request begins.
    request_began: Notify,
    evicted: CancellationToken,
}

#[derive(Debug)]
struct Watched {
    activity: Activity,
    /// Time until which the watcher sleeps.
    armed: Option<Instant>,
}

impl Acceptor {
    /// Creates an acceptor for a bound listener.
    pub fn new(listener: TcpListener, limits: ConnectionLimits) -> Self {
        let table = Table {
            limits,
            open: Mutex::default(),
            closed: Notify::new(),
        };
        let connections = Connections {
            table: Arc::new(table),
        };
        Self {
            listener,
            connections,
        }
    }

    /// Returns the bound address.
    ///
    /// # Errors
    ///
    /// Fails if the system does not report the address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Returns the open connections.
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Waits for the next connection and for its place among the open ones. Failures of the system
    /// are logged and retried.
    ///
    /// Cancel safety: a connection that waits for its place is closed.
    pub async fn accept(&self) -> (TcpStream, Connection) {
        let stream = loop {
            match self.listener.accept().await {
                Ok((stream, _)) => break stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connection");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        };
        let accepted_at = Instant::now();
        // Without it, small responses wait for the peer's acknowledgments.
        let _ = stream.set_nodelay(true);
        (stream, self.connections.admit(accepted_at).await)
    }
}

impl Connections {
    /// Returns the number of open connections.
    pub fn count(&self) -> usize {
        self.table.lock().by_id.len()
    }

    /// Waits until no connection is open. Cancel safe.
    pub async fn closed(&self) {
        loop {
            let closed = self.table.closed.notified();
            tokio::pin!(closed);
            closed.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            closed.await;
        }
    }

    async fn admit(&self, accepted_at: Instant) -> Connection {
        loop {
            let closed = self.table.closed.notified();
            tokio::pin!(closed);
            closed.as_mut().enable();
            if let Some(connection) = self.try_admit(accepted_at) {
                return connection;
            }
            self.evict_one();
            closed.await;
        }
    }

    fn try_admit(&self, accepted_at: Instant) -> Option<Connection> {
        let mut open = self.table.lock();
        if open.by_id.len() >= self.table.limits.connections_max {
            return None;
        }
        open.latest_id += 1;
        let inner = Arc::new(Inner {
            id: open.latest_id,
            table: self.table.clone(),
            watched: Mutex::new(Watched {
                activity: Activity::accepted(accepted_at),
                armed: None,
            }),
            earlier: Notify::new(),
            request_began: Notify::new(),
            evicted: CancellationToken::new(),
        });
        open.by_id.insert(inner.id, Arc::downgrade(&inner));
        Some(Connection { inner })
    }

    /// Ends the connection that is the least useful one, if any is without a request in flight.
    fn evict_one(&self) {
        // The connections are dropped after the lock, because dropping the last clone takes it.
        let open: Vec<Arc<Inner>> = {
            let open = self.table.lock();
            open.by_id.values().filter_map(Weak::upgrade).collect()
        };
        let quiet = open.iter().filter(|inner| !inner.evicted.is_cancelled());
        let quiet = quiet.filter_map(|inner| Some((inner.lock().activity.quiet_rank()?, inner)));
        if let Some((_, inner)) = quiet.min_by_key(|(rank, _)| *rank) {
            inner.evicted.cancel();
        }
    }
}

impl Connection {
    /// Marks the beginning of a request, when its head is complete.
    pub fn begin_request(&self) -> RequestInFlight {
        let number = self.change(|activity| activity.begin_request(Instant::now()));
        self.inner.request_began.notify_one();
        RequestInFlight {
            connection: self.clone(),
            number,
        }
    }

    /// Returns whether a request is in flight.
    pub fn is_busy(&self) -> bool {
        self.inner.lock().activity.quiet_rank().is_none()
    }

    /// Waits until a request is in flight. Cancel safe.
    pub async fn busy(&self) {
        while !self.is_busy() {
            self.inner.request_began.notified().await;
        }
    }

    /// Marks the arrival of bytes, which begin a head if the connection was idle.
    fn receive(&self) {
        self.change(|activity| activity.receive(Instant::now()));
    }

    /// Waits until the connection has to end: a deadline has passed, or a new connection needs the
    /// place. Cancel safe.
    pub async fn expired(&self) {
        loop {
            let deadline = {
                let mut watched = self.inner.lock();
                watched.armed = watched.activity.deadline(&self.inner.table.limits);
                watched.armed
            };
            let passed = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.inner.evicted.cancelled() => return,
                () = self.inner.earlier.notified() => {}
                () = passed => {
                    let watched = self.inner.lock();
                    let now = watched.activity.deadline(&self.inner.table.limits);
                    if now.is_some_and(|at| at <= Instant::now()) {
                        return;
                    }
                }
            }
        }
    }

    fn change<R>(&self, change: impl FnOnce(&mut Activity) -> R) -> R {
        let mut watched = self.inner.lock();
        let result = change(&mut watched.activity);
        let deadline = watched.activity.deadline(&self.inner.table.limits);
        if let Some(at) = deadline
            && watched.armed.is_none_or(|armed| at < armed)
        {
            watched.armed = deadline;
            self.inner.earlier.notify_one();
        }
        result
    }
}

impl Drop for RequestInFlight {
    fn drop(&mut self) {
        let number = self.number;
        self.connection
            .change(|activity| activity.end_request(number, Instant::now()));
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.table.lock().by_id.remove(&self.id);
        self.table.closed.notify_waiters();
    }
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
