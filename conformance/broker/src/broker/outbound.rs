//! The bounded outgoing data of one client, and how it is written to the socket.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

/// Maximum capacity of a buffer that is reused. Larger buffers are freed after they are written.
const MAX_REUSED_BYTES: usize = 256 * 1024;
/// Maximum number of consecutive writes by a publisher. The connection's own task writes the rest.
const MAX_WRITES: usize = 8;

/// The outgoing data of one client.
///
/// The task that appends a message also writes it, so no other task has to wake up for that. Only
/// one task writes at a time, outside the lock, and it never waits: if the socket is full,
/// [`Outbound::drain`] writes the rest.
#[derive(Debug)]
pub(super) struct Outbound {
    state: Mutex<State>,
    /// Notified when `drain` must write the rest.
    socket_full: Notify,
    /// Notified when the socket has accepted data, for publishers that wait.
    progress: Notify,
    limit_bytes: usize,
}

/// Result of [`Outbound::append`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appended {
    /// Appended; the caller must flush.
    FlushRequired,
    /// Appended; another caller is about to flush.
    FlushPending,
    /// The connection is closed.
    Closed,
    /// The limit is exceeded: the client is slow and must be disconnected.
    Overflow,
}

/// Reason that [`Outbound::drain`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DrainEnd {
    /// The client has read nothing for the whole deadline.
    TimedOut,
    /// The connection is lost or closed.
    Lost,
}

impl Outbound {
    /// Creates the outgoing side of a connection, with at most `limit_bytes` of pending data.
    pub(super) fn new(socket: OwnedWriteHalf, limit_bytes: usize) -> Self {
        let state = State {
            socket: Some(Arc::new(socket)),
            partial: BytesMut::new(),
            waiting: BytesMut::new(),
            in_flight_bytes: 0,
            writing: false,
            flush_pending: false,
        };
        Self {
            state: Mutex::new(state),
            socket_full: Notify::new(),
            progress: Notify::new(),
            limit_bytes,
        }
    }

    /// Appends the bytes that `put` writes.
    pub(super) fn append(&self, put: impl FnOnce(&mut BytesMut)) -> Appended {
        let mut state = self.lock();
        if state.socket.is_none() {
            return Appended::Closed;
        }
        put(&mut state.waiting);
        if state.pending_bytes() > self.limit_bytes {
            return Appended::Overflow;
        }
        if std::mem::replace(&mut state.flush_pending, true) {
            return Appended::FlushPending;
        }
        Appended::FlushRequired
    }

    /// Writes as much as the socket accepts. Never waits.
    pub(super) fn flush(&self) {
        {
            let mut state = self.lock();
            state.flush_pending = false;
            if state.writing || state.pending_bytes() == 0 {
                return;
            }
            state.writing = true;
        }
        if self.write() != Written::All {
            self.socket_full.notify_one();
        }
    }

    /// Continues the writes that [`Self::flush`] could not complete; run by the connection's own
    /// task.
    pub(super) async fn drain(&self, deadline: Duration) -> DrainEnd {
        loop {
            self.socket_full.notified().await;
            loop {
                let Some(socket) = self.lock().socket.clone() else {
                    return DrainEnd::Lost;
                };
                match tokio::time::timeout(deadline, socket.writable()).await {
                    Err(_) => return DrainEnd::TimedOut,
                    Ok(Err(_)) => return DrainEnd::Lost,
                    Ok(Ok(())) => {}
                }
                match self.write() {
                    Written::All => break,
                    Written::Some => tokio::task::consume_budget().await,
                    Written::Lost => return DrainEnd::Lost,
                }
            }
        }
    }

    /// Returns whether publishers should wait because too much data is pending.
    pub(super) fn is_congested(&self) -> bool {
        self.lock().pending_bytes() > self.limit_bytes / 4 * 3
    }

    /// Waits until the client is no longer congested, at most for `limit`.
    pub(super) async fn wait_until_uncongested(&self, limit: Duration) {
        self.wait_until(limit, |outbound| !outbound.is_congested())
            .await;
    }

    /// Waits until everything is written, at most for `limit`.
    pub(super) async fn wait_until_flushed(&self, limit: Duration) {
        self.wait_until(limit, |outbound| outbound.lock().pending_bytes() == 0)
            .await;
    }

    /// Closes the socket and drops all pending data.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.socket = None;
        state.partial = BytesMut::new();
        state.waiting = BytesMut::new();
        drop(state);
        self.progress.notify_waiters();
        self.socket_full.notify_one();
    }

    async fn wait_until(&self, limit: Duration, done: impl Fn(&Self) -> bool) {
        let wait = async {
            loop {
                let mut progress = std::pin::pin!(self.progress.notified());
                // Registered before the condition is checked, so that no notification is missed.
                progress.as_mut().enable();
                if done(self) {
                    return;
                }
                progress.await;
            }
        };
        // A timeout is not an error: the caller continues either way.
        let _ = tokio::time::timeout(limit, wait).await;
    }

    /// Writes until nothing is pending. Only the current writer calls this.
    fn write(&self) -> Written {
        for _ in 0..MAX_WRITES {
            let Some((socket, mut bytes)) = self.take() else {
                return Written::All;
            };
            let result = socket.try_write(&bytes);
            let mut state = self.lock();
            state.in_flight_bytes = 0;
            match result {
                Ok(written) => bytes.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    state.partial = bytes;
                    return Written::Some;
                }
                Err(_) => {
                    state.socket = None;
                    return Written::Lost;
                }
            }
            state.keep_rest(bytes);
            drop(state);
            self.progress.notify_waiters();
        }
        Written::Some
    }

    /// Takes the bytes to write next. Returns `None`, and ends the caller's turn as writer, if
    /// there are none.
    fn take(&self) -> Option<(Arc<OwnedWriteHalf>, BytesMut)> {
        let mut state = self.lock();
        let socket = state.socket.clone();
        let bytes = if state.partial.is_empty() {
            std::mem::take(&mut state.waiting)
        } else {
            std::mem::take(&mut state.partial)
        };
        match socket {
            Some(socket) if !bytes.is_empty() => {
                state.in_flight_bytes = bytes.len();
                state.writing = true;
                Some((socket, bytes))
            }
            _ => {
                state.writing = false;
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct State {
    /// `None` once closed.
    socket: Option<Arc<OwnedWriteHalf>>,
    /// The unwritten rest of the most recent write; sent before `waiting`.
    partial: BytesMut,
    waiting: BytesMut,
    /// Bytes that the current writer has taken.
    in_flight_bytes: usize,
    /// A task is writing, or has left the rest to `drain`.
    writing: bool,
    /// A task is about to flush.
    flush_pending: bool,
}

impl State {
    fn pending_bytes(&self) -> usize {
        self.partial.len() + self.in_flight_bytes + self.waiting.len()
    }

    /// Keeps the unwritten rest of a write. If nothing is left, keeps the buffer for the next
    /// append.
    fn keep_rest(&mut self, mut bytes: BytesMut) {
        if !bytes.is_empty() {
            self.partial = bytes;
        } else if self.waiting.capacity() == 0 && bytes.capacity() <= MAX_REUSED_BYTES {
            bytes.clear();
            self.waiting = bytes;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    All,
    Some,
    Lost,
}
