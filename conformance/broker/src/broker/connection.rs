//! The life of a connection: accepted, greeted, listened to, kept alive, closed.

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

use super::greeting;
use super::hub::{Client, CutReason, Hub};
use super::outbound::{DrainEnd, Outbound};
use super::session::{Farewell, Session};
use crate::frame::{ClientParser, Limits, ServerOp, Text};

/// Read at once. Large enough for some hundred small messages.
const READ_BYTES: usize = 64 * 1024;
/// How long a publisher waits for a strained subscriber after each batch, as nats-server does.
const RELIEF: Duration = Duration::from_millis(5);
/// How long a client may take to read the error that ends its connection.
const FAREWELL: Duration = Duration::from_millis(500);
/// How much it may go on saying meanwhile: the largest message that any NATS client can be made to send.
const FAREWELL_BYTES: usize = 64 * 1024 * 1024;

/// Accepts connections until stopped.
pub(super) async fn accept(
    hub: Arc<Hub>,
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
                let (hub, cut) = (hub.clone(), stopped.child_token());
                let keepers = tasks.clone();
                tasks.spawn(async move { serve(hub, stream, peer, cut, keepers).await });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // Out of file descriptors: trying again at once would only burn the processor.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

async fn serve(
    hub: Arc<Hub>,
    stream: TcpStream,
    peer: SocketAddr,
    cut: CancellationToken,
    tasks: TaskTracker,
) {
    let others = hub.connections.fetch_add(1, Ordering::Relaxed);
    let full = others >= hub.options.max_connections;
    // Without it every small reply waits for the acknowledgement of the one before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was lost at once");
    }
    let (reader, writer) = stream.into_split();
    let client = Arc::new(Client {
        id: hub.next_client_id(),
        outbound: Outbound::new(writer, hub.options.max_pending_bytes),
        headers: AtomicBool::new(false),
        cut,
        cut_reason: Mutex::new(None),
    });
    let pings_out = Arc::new(AtomicU64::new(0));
    tasks.spawn(keep(hub.clone(), client.clone(), pings_out.clone()));
    let session = Session::new(hub.clone(), client.clone(), pings_out);
    let mut connection = Connection {
        hub: hub.clone(),
        client: client.clone(),
        session,
        reader,
    };
    connection.greet(peer).await;
    let result = match full {
        true => Err(End::Farewell(Farewell("maximum connections exceeded"))),
        false => connection.converse().await,
    };
    connection.session.end();
    connection.part(result).await;
    client.outbound.close();
    client.cut.cancel();
    hub.connections.fetch_sub(1, Ordering::Relaxed);
}

struct Connection {
    hub: Arc<Hub>,
    client: Arc<Client>,
    session: Session,
    reader: OwnedReadHalf,
}

/// Why a conversation is over.
enum End {
    /// The client hung up.
    Closed,
    /// The connection broke.
    Broken(io::Error),
    /// The broker ends it with an error for the client.
    Farewell(Farewell),
    /// The broker ends it, for the reason that stands in the client, or because it stops.
    Cut,
}

impl Connection {
    async fn greet(&mut self, peer: SocketAddr) {
        let hub = &self.hub;
        let info = greeting::info(&hub.options, &hub.server_id, hub.addr, self.client.id, peer);
        self.session.say(&ServerOp::Info(info.into()));
        self.flush().await;
    }

    async fn converse(&mut self) -> Result<(), End> {
        let cut = self.client.cut.clone();
        let mut cut = std::pin::pin!(cut.cancelled());
        let payload_bytes = self.hub.options.max_payload_bytes;
        let mut parser = ClientParser::new(Limits {
            payload_bytes,
            ..Limits::of_clients()
        });
        let mut input = BytesMut::with_capacity(READ_BYTES);
        let deadline = tokio::time::sleep(self.hub.options.auth_timeout);
        let mut deadline = std::pin::pin!(deadline);
        loop {
            let let_in = self.session.is_let_in();
            let read = tokio::select! {
                biased;
                () = &mut cut => return Err(End::Cut),
                () = &mut deadline, if !let_in => {
                    self.hub.cut(&self.client, CutReason::AuthTimeout);
                    return Err(End::Cut);
                }
                read = self.reader.read_buf(&mut input) => read,
            };
            match read {
                Ok(0) => return Err(End::Closed),
                Ok(_) => {}
                Err(error) => return Err(End::Broken(error)),
            }
            let result = self.handle_all(&mut parser, &mut input);
            self.flush().await;
            result?;
            input.reserve(parser.wanted_bytes().max(READ_BYTES / 4));
        }
    }

    fn handle_all(&mut self, parser: &mut ClientParser, input: &mut BytesMut) -> Result<(), End> {
        loop {
            let op = parser
                .next(input)
                .map_err(|error| End::Farewell(error.into()))?;
            let Some(op) = op else { return Ok(()) };
            self.session.handle(op).map_err(End::Farewell)?;
        }
    }

    /// Flushes everyone who got something, and waits a little for those who have too much.
    async fn flush(&mut self) {
        let mut strained = None;
        for client in self.session.take_touched() {
            client.outbound.flush();
            if client.outbound.is_strained() {
                strained = Some(client);
            }
        }
        if let Some(client) = strained {
            client.outbound.relief(RELIEF).await;
        }
    }

    /// Tells the client why, if it may know, and gives it the time to read it.
    async fn part(&mut self, result: Result<(), End>) {
        let reason = *self
            .client
            .cut_reason
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let farewell = match (&result, reason) {
            (Err(End::Farewell(farewell)), _) => *farewell,
            (Err(End::Cut), Some(CutReason::Stale)) => Farewell("Stale Connection"),
            (Err(End::Cut), Some(CutReason::AuthTimeout)) => Farewell("Authentication Timeout"),
            (Err(End::Cut), Some(CutReason::SlowConsumer)) => {
                tracing::debug!(client = self.client.id, "slow consumer cut");
                return;
            }
            (Err(End::Broken(error)), _) => {
                tracing::debug!(client = self.client.id, %error, "connection lost");
                return;
            }
            _ => return,
        };
        tracing::debug!(
            client = self.client.id,
            error = farewell.0,
            "connection ended"
        );
        self.session
            .say(&ServerOp::Error(Text::from_static(farewell.0)));
        self.flush().await;
        self.client.outbound.emptied(FAREWELL).await;
        // Closing on unread input resets the connection, and the error may never be read.
        let _ = tokio::time::timeout(FAREWELL, self.swallow()).await;
    }

    /// Reads and forgets until the client hangs up or has sent more than it can have meant well.
    async fn swallow(&mut self) {
        let mut left = FAREWELL_BYTES;
        let mut sink = BytesMut::with_capacity(READ_BYTES);
        while left > 0 {
            sink.clear();
            sink.reserve(READ_BYTES);
            match self.reader.read_buf(&mut sink).await {
                Ok(0) | Err(_) => return,
                Ok(read) => left = left.saturating_sub(read),
            }
        }
    }
}

/// Writes on when the socket was full, and pings to find out who is dead.
async fn keep(hub: Arc<Hub>, client: Arc<Client>, pings_out: Arc<AtomicU64>) {
    tokio::select! {
        () = client.cut.cancelled() => {}
        end = client.outbound.drain(hub.options.write_deadline) => match end {
            DrainEnd::Stuck => hub.cut(&client, CutReason::SlowConsumer),
            DrainEnd::Lost => client.cut.cancel(),
        },
        () = ping(&hub, &client, &pings_out) => hub.cut(&client, CutReason::Stale),
    }
}

/// Pings until too many pings are unanswered.
async fn ping(hub: &Hub, client: &Arc<Client>, pings_out: &AtomicU64) {
    loop {
        tokio::time::sleep(hub.options.ping_interval).await;
        if pings_out.fetch_add(1, Ordering::Relaxed) >= u64::from(hub.options.max_pings_out) {
            return;
        }
        client
            .outbound
            .append(|output| ServerOp::Ping.encode(output));
        client.outbound.flush();
    }
}
