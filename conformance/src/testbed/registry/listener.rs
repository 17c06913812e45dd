//! A listening socket whose connections end with it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use super::body::Flow;
use super::handler::Answerer;

/// At once on one listener: a few dozen images in flight are usual, a leaking host must not sink us.
const MAX_CONNECTIONS: usize = 1024;
/// A hung answer is let go at last, so that nothing stays for ever when the client stays too.
const MAX_CONNECTION_LIFE: Duration = Duration::from_secs(600);
/// Pending connections in the kernel.
const BACKLOG: u32 = 1024;

/// Serves until dropped; then the port refuses and every connection is cut.
#[derive(Debug)]
pub(super) struct Door {
    server: JoinHandle<()>,
}

impl Door {
    /// Opens the door on an address that [`reserve`] has kept.
    pub fn open(address: SocketAddr, answerer: Arc<Answerer>) -> io::Result<Door> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseport(true)?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        Ok(Door {
            server: tokio::spawn(accept(listener, answerer)),
        })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// An address, kept as long as the socket lives.
///
/// The socket is bound and never listens: with no door on it the port refuses connections, and
/// nobody else can be given it in between.
pub(super) fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn accept(listener: TcpListener, answerer: Arc<Answerer>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Connections die with this task: the set is dropped with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let answerer = answerer.clone();
        connections.spawn(async move {
            let _ = tokio::time::timeout(MAX_CONNECTION_LIFE, serve(stream, answerer)).await;
            drop(permit);
        });
    }
}

async fn serve(stream: TcpStream, answerer: Arc<Answerer>) {
    let answer = service_fn(|request: Request<Incoming>| {
        let answerer = answerer.clone();
        async move {
            answerer.answer(&request).await
                as Result<Response<Flow>, crate::testbed::registry::body::Hangup>
        }
    });
    // Clients that go away in mid-answer are part of the game: nothing to report.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}
