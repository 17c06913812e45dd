//! A connection from accept to close: INFO, the client's operations, pings, the final error.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::handshake;
use super::outbound::{DrainEnd, Outbound};
use super::router::{Client, DisconnectReason, Router};
use super::session::{FatalError, Session};
use crate::frame::{ClientParser, Limits, ServerOp, Text};

/// Size of the read buffer: several hundred small messages.
const READ_BYTES: usize = 64 * 1024;
/// Time that a publisher waits for a congested subscriber after each batch, as in nats-server.
const CONGESTION_PAUSE: Duration = Duration::from_millis(5);
/// Time that a client has to read the error that ends its connection.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// Maximum input that is discarded during that time, enough for the largest message that a NATS
/// client can send.
const MAX_DISCARDED_BYTES: usize = 64 * 1024 * 1024;
/// Pause after a failed accept. The usual reason is a lack of file descriptors, with which an
/// immediate retry would fail again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until stopped.
pub(super) async fn accept(
    router: Arc<Router>,
    listener: TcpListener,
    stopped: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            () = stopped.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, close) = (router.clone(), stopped.child_token());
                let connection_tasks = tasks.clone();
                tasks.spawn(async move {
                    serve(router, stream, peer, close, connection_tasks).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(
    router: Arc<Router>,
    stream: TcpStream,
    peer: SocketAddr,
    close: CancellationToken,
    tasks: TaskTracker,
) {
    let others = router.connections.fetch_add(1, Ordering::Relaxed);
    let full = others >= router.options.max_connections;
    // Nagle's algorithm would delay every small reply until the previous one is acknowledged.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let (reader, writer) = stream.into_split();
    let client = Arc::new(Client {
        id: router.next_client_id(),
        outbound: Outbound::new(writer, router.options.max_pending_bytes),
        headers: AtomicBool::new(false),
        close,
        disconnect_reason: Mutex::new(None),
    });
    let pings_out = Arc::new(AtomicU64::new(0));
    tasks.spawn(keep_alive(
        router.clone(),
        client.clone(),
        pings_out.clone(),
    ));
    let session = Session::new(router.clone(), client.clone(), pings_out);
    let mut connection = Connection {
        router: router.clone(),
        client: client.clone(),
        session,
        reader,
    };
    connection.send_info(peer).await;
    let result = if full {
        Err(End::Fatal(FatalError("maximum connections exceeded")))
    } else {
        connection.run().await
    };
    connection.session.unsubscribe_all();
    connection.send_fatal_error(result).await;
    client.outbound.close();
    client.close.cancel();
    router.connections.fetch_sub(1, Ordering::Relaxed);
}

struct Connection {
    router: Arc<Router>,
    client: Arc<Client>,
    session: Session,
    reader: OwnedReadHalf,
}

/// Reasons for the end of a connection.
enum End {
    /// The client closed the connection.
    ClosedByClient,
    /// The connection is lost.
    Lost(io::Error),
    /// The broker closes the connection after it has sent this error to the client.
    Fatal(FatalError),
    /// The broker closes the connection, because the broker stops or for the reason in
    /// `Client::disconnect_reason`.
    Disconnected,
}

impl Connection {
    async fn send_info(&mut self, peer: SocketAddr) {
        let router = &self.router;
        let info = handshake::info(
            &router.options,
            &router.server_id,
            router.addr,
            self.client.id,
            peer,
        );
        self.session.send(&ServerOp::Info(info.into()));
        self.flush().await;
    }

    async fn run(&mut self) -> Result<(), End> {
        let close = self.client.close.clone();
        let mut close = std::pin::pin!(close.cancelled());
        let payload_bytes = self.router.options.max_payload_bytes;
        let mut parser = ClientParser::new(Limits {
            payload_bytes,
            ..Limits::for_clients()
        });
        let mut input = BytesMut::with_capacity(READ_BYTES);
        let deadline = tokio::time::sleep(self.router.options.auth_timeout);
        let mut deadline = std::pin::pin!(deadline);
        loop {
            let established = self.session.is_established();
            let read = tokio::select! {
                biased;
                () = &mut close => return Err(End::Disconnected),
                () = &mut deadline, if !established => {
                    self.router.disconnect(&self.client, DisconnectReason::AuthTimeout);
                    return Err(End::Disconnected);
                }
                read = self.reader.read_buf(&mut input) => read,
            };
            match read {
                Ok(0) => return Err(End::ClosedByClient),
                Ok(_) => {}
                Err(error) => return Err(End::Lost(error)),
            }
            let result = self.handle_all(&mut parser, &mut input);
            self.flush().await;
            result?;
            input.reserve(parser.required_bytes().max(READ_BYTES / 4));
        }
    }

    fn handle_all(&mut self, parser: &mut ClientParser, input: &mut BytesMut) -> Result<(), End> {
        loop {
            let op = parser
                .next(input)
                .map_err(|error| End::Fatal(error.into()))?;
            let Some(op) = op else { return Ok(()) };
            self.session.handle(op).map_err(End::Fatal)?;
        }
    }

    /// Flushes the clients with new data, and waits briefly if one of them is congested.
    async fn flush(&mut self) {
        let mut congested = None;
        for client in self.session.take_to_flush() {
            client.outbound.flush();
            if client.outbound.is_congested() {
                congested = Some(client);
            }
        }
        if let Some(client) = congested {
            client
                .outbound
                .wait_until_uncongested(CONGESTION_PAUSE)
                .await;
        }
    }

    /// Sends the final error, if there is one, and gives the client time to read it.
    async fn send_fatal_error(&mut self, result: Result<(), End>) {
        let reason = *self
            .client
            .disconnect_reason
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let fatal = match (&result, reason) {
            (Err(End::Fatal(fatal)), _) => *fatal,
            (Err(End::Disconnected), Some(DisconnectReason::Stale)) => {
                FatalError("Stale Connection")
            }
            (Err(End::Disconnected), Some(DisconnectReason::AuthTimeout)) => {
                FatalError("Authentication Timeout")
            }
            (Err(End::Disconnected), Some(DisconnectReason::SlowConsumer)) => {
                tracing::debug!(client = self.client.id, "slow consumer disconnected");
                return;
            }
            (Err(End::Lost(error)), _) => {
                tracing::debug!(client = self.client.id, %error, "connection lost");
                return;
            }
            _ => return,
        };
        tracing::debug!(client = self.client.id, error = fatal.0, "connection ended");
        self.session
            .send(&ServerOp::Error(Text::from_static(fatal.0)));
        self.flush().await;
        self.client.outbound.wait_until_flushed(CLOSE_TIMEOUT).await;
        // Closing a socket with unread input resets the connection, and the client may miss the
        // error.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.discard_input()).await;
    }

    /// Reads and discards input until the client closes the connection or the limit is reached.
    async fn discard_input(&mut self) {
        let mut remaining = MAX_DISCARDED_BYTES;
        let mut discarded = BytesMut::with_capacity(READ_BYTES);
        while remaining > 0 {
            discarded.clear();
            discarded.reserve(READ_BYTES);
            match self.reader.read_buf(&mut discarded).await {
                Ok(0) | Err(_) => return,
                Ok(read) => remaining = remaining.saturating_sub(read),
            }
        }
    }
}

/// Continues pending writes and sends pings. Disconnects a client that neither reads nor answers.
async fn keep_alive(router: Arc<Router>, client: Arc<Client>, pings_out: Arc<AtomicU64>) {
    tokio::select! {
        () = client.close.cancelled() => {}
        end = client.outbound.drain(router.options.write_deadline) => match end {
            DrainEnd::TimedOut => router.disconnect(&client, DisconnectReason::SlowConsumer),
            DrainEnd::Lost => client.close.cancel(),
        },
        () = ping(&router, &client, &pings_out) => {
            router.disconnect(&client, DisconnectReason::Stale);
        }
    }
}

/// Sends pings until too many are unanswered.
async fn ping(router: &Router, client: &Arc<Client>, pings_out: &AtomicU64) {
    loop {
        tokio::time::sleep(router.options.ping_interval).await;
        if pings_out.fetch_add(1, Ordering::Relaxed) >= u64::from(router.options.max_pings_out) {
            return;
        }
        client
            .outbound
            .append(|output| ServerOp::Ping.encode(output));
        client.outbound.flush();
    }
}
