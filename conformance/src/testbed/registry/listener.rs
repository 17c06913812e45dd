//! The listener of the registry, on an address that stays reserved while it is closed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};

use super::handler::Handler;
use crate::testbed::tcp_server::TcpServer;

/// Maximum lifetime of a connection, so that a hung response ends even if its client hangs
/// too.
const MAX_CONNECTION_LIFETIME: Duration = Duration::from_secs(600);
/// Accept backlog.
const BACKLOG: u32 = 1024;

/// Starts to serve an address that [`reserve`] has reserved.
pub(super) fn listen(address: SocketAddr, handler: Arc<Handler>) -> io::Result<TcpServer> {
    let listener = reserve(address)?.listen(BACKLOG)?;
    Ok(TcpServer::start(listener, move |stream| {
        let connection = serve(stream, handler.clone());
        async move {
            let _ = tokio::time::timeout(MAX_CONNECTION_LIFETIME, connection).await;
        }
    }))
}

/// Reserves an address for the lifetime of the returned socket.
///
/// The socket is bound and never listens: while no server listens, the port refuses connections,
/// and no other process can bind it.
pub(super) fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseport(true)?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn serve(stream: TcpStream, handler: Arc<Handler>) {
    let service = service_fn(|request: Request<Incoming>| {
        let handler = handler.clone();
        async move { handler.handle(&request).await }
    });
    // A client may close the connection during a response, which is not an error.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
