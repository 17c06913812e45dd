//! What waits to be written to one client, bounded, and how it gets out.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

/// Buffers above this are given back to the allocator once they are written.
const KEPT_BYTES: usize = 256 * 1024;
/// Writes that a publisher does on behalf of others before the connection's own task takes over.
const TURNS: usize = 8;

/// The way out to one client.
///
/// Whoever appends may also write, without waiting: one at a time, outside the lock, so that a message
/// reaches the socket without a task being woken. Only when the socket is full is the rest left to
/// [`Outbound::drain`].
#[derive(Debug)]
pub(super) struct Outbound {
    state: Mutex<State>,
    /// Told when the rest is left to `drain`.
    full: Notify,
    /// Told when the socket took something, for publishers that pause.
    relieved: Notify,
    limit_bytes: usize,
}

/// What became of bytes that were to be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appended {
    /// They wait, and the caller is the one who must flush.
    FlushIsYours,
    /// They wait, and somebody else has promised to flush.
    FlushIsPromised,
    /// The client is gone.
    Closed,
    /// Too much waits: the client is slow and must be cut.
    Overflow,
}

/// Why [`Outbound::drain`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DrainEnd {
    /// The client took nothing for the whole deadline.
    Stuck,
    /// The connection is lost or closed.
    Lost,
}

impl Outbound {
    /// A way out through `socket`, on which at most `limit_bytes` may wait.
    pub(super) fn new(socket: OwnedWriteHalf, limit_bytes: usize) -> Self {
        let state = State {
            socket: Some(Arc::new(socket)),
            partial: BytesMut::new(),
            waiting: BytesMut::new(),
            in_flight_bytes: 0,
            turn_taken: false,
            promised: false,
        };
        Self {
            state: Mutex::new(state),
            full: Notify::new(),
            relieved: Notify::new(),
            limit_bytes,
        }
    }

    /// Appends what `put` writes.
    pub(super) fn append(&self, put: impl FnOnce(&mut BytesMut)) -> Appended {
        let mut state = self.lock();
        if state.socket.is_none() {
            return Appended::Closed;
        }
        put(&mut state.waiting);
        if state.pending_bytes() > self.limit_bytes {
            return Appended::Overflow;
        }
        if std::mem::replace(&mut state.promised, true) {
            return Appended::FlushIsPromised;
        }
        Appended::FlushIsYours
    }

    /// Writes what the socket takes now. Never waits.
    pub(super) fn flush(&self) {
        {
            let mut state = self.lock();
            state.promised = false;
            if state.turn_taken || state.pending_bytes() == 0 {
                return;
            }
            state.turn_taken = true;
        }
        if self.write() != Written::All {
            self.full.notify_one();
        }
    }

    /// Goes on writing whenever [`Self::flush`] could not; for a task of the connection's own.
    pub(super) async fn drain(&self, deadline: Duration) -> DrainEnd {
        loop {
            self.full.notified().await;
            loop {
                let Some(socket) = self.lock().socket.clone() else {
                    return DrainEnd::Lost;
                };
                match tokio::time::timeout(deadline, socket.writable()).await {
                    Err(_) => return DrainEnd::Stuck,
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

    /// Whether so much waits that publishers should pause.
    pub(super) fn is_strained(&self) -> bool {
        self.lock().pending_bytes() > self.limit_bytes / 4 * 3
    }

    /// Waits until nothing more waits than [`Self::is_strained`] allows, or `patience` is over.
    pub(super) async fn relief(&self, patience: Duration) {
        self.until(patience, |outbound| !outbound.is_strained())
            .await;
    }

    /// Waits until everything is written, or `patience` is over.
    pub(super) async fn emptied(&self, patience: Duration) {
        self.until(patience, |outbound| outbound.lock().pending_bytes() == 0)
            .await;
    }

    /// Lets go of the socket and of everything that waits.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.socket = None;
        state.partial = BytesMut::new();
        state.waiting = BytesMut::new();
        drop(state);
        self.relieved.notify_waiters();
        self.full.notify_one();
    }

    async fn until(&self, patience: Duration, done: impl Fn(&Self) -> bool) {
        let wait = async {
            loop {
                let mut told = std::pin::pin!(self.relieved.notified());
                // Listening has to begin before the look, or the last word may be missed.
                told.as_mut().enable();
                if done(self) {
                    return;
                }
                told.await;
            }
        };
        // Patience running out is no error: the caller simply goes on.
        let _ = tokio::time::timeout(patience, wait).await;
    }

    /// Writes in turns until nothing waits. Whoever calls has the turn, or is `drain`.
    fn write(&self) -> Written {
        for _ in 0..TURNS {
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
            state.give_back(bytes);
            drop(state);
            self.relieved.notify_waiters();
        }
        Written::Some
    }

    /// The bytes that are next; `None`, and the turn given up, when there are none.
    fn take(&self) -> Option<(Arc<OwnedWriteHalf>, BytesMut)> {
        let mut state = self.lock();
        let socket = state.socket.clone();
        let bytes = match state.partial.is_empty() {
            false => std::mem::take(&mut state.partial),
            true => std::mem::take(&mut state.waiting),
        };
        match socket {
            Some(socket) if !bytes.is_empty() => {
                state.in_flight_bytes = bytes.len();
                state.turn_taken = true;
                Some((socket, bytes))
            }
            _ => {
                state.turn_taken = false;
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
    /// What is left of the last write, in front of `waiting`.
    partial: BytesMut,
    waiting: BytesMut,
    /// Bytes in the hands of whoever is writing.
    in_flight_bytes: usize,
    /// Somebody writes, or has left the rest to `drain`.
    turn_taken: bool,
    /// Somebody promised to flush.
    promised: bool,
}

impl State {
    fn pending_bytes(&self) -> usize {
        self.partial.len() + self.in_flight_bytes + self.waiting.len()
    }

    /// Keeps what was not written, or else the empty buffer for what is appended next.
    fn give_back(&mut self, mut bytes: BytesMut) {
        if !bytes.is_empty() {
            self.partial = bytes;
        } else if self.waiting.capacity() == 0 && bytes.capacity() <= KEPT_BYTES {
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
