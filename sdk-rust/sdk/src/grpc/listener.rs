//! A listener for gRPC calls.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{Service, StdError};
use tonic::transport::Server;
use tonic::transport::server::{Connected, ServerTlsConfig, TcpConnectInfo};

use super::KEEP_ALIVE;
use super::tls::{GrpcError, ServerTls};

/// Maximum number of connections to one listener at a time; further connections wait. Each peer
/// needs one.
const MAX_CONNECTIONS: usize = 256;

/// Maximum number of concurrent calls on a connection: above the number of commands that a host
/// executes at once, so that status requests still get through.
const MAX_CALLS: u32 = 1024;

/// Delay before the next attempt to accept a connection after a failure.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// A bound address for a gRPC server. Connections are queued from now on, so that a call that
/// arrives before the server has started only waits.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<ServerTlsConfig>,
}

impl Listener {
    /// Binds the address; port 0 picks a free port. TLS files are read once, here.
    ///
    /// # Errors
    ///
    /// Fails if the address is in use or a file cannot be read or used.
    pub async fn bind(address: SocketAddr, tls: Option<&ServerTls>) -> Result<Self, GrpcError> {
        let tls = tls.map(ServerTls::read).transpose()?;
        let bind_error = |source| GrpcError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;
        Ok(Self {
            listener,
            address,
            tls,
        })
    }

    /// Returns the bound address.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL of this listener for the given host name or address.
    pub fn url(&self, hostname: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let port = self.address.port();
        if hostname.contains(':') {
            format!("{scheme}://[{hostname}]:{port}")
        } else {
            format!("{scheme}://{hostname}:{port}")
        }
    }

    /// Serves until `close`: then the address is released immediately, new calls are refused, and
    /// calls in flight are finished. `end` closes all connections.
    pub(super) async fn serve<S>(self, service: S, close: CancellationToken, end: CancellationToken)
    where
        S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<StdError> + Send + 'static,
    {
        let mut server = Server::builder()
            .max_concurrent_streams(MAX_CALLS)
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .tcp_nodelay(true);
        if let Some(tls) = self.tls {
            server = match server.tls_config(tls) {
                Ok(server) => server,
                Err(error) => {
                    return tracing::error!(%error, "cannot serve gRPC with this certificate");
                }
            };
        }
        let incoming = connections(self.listener, end);
        let served = server
            .serve_with_incoming_shutdown(service, incoming, close.cancelled_owned())
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "the gRPC server has stopped");
        }
    }
}

fn connections(
    listener: TcpListener,
    end: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    stream::unfold(
        (listener, permits, end),
        async |(listener, permits, end)| {
            // The semaphore is never closed.
            let permit = permits.clone().acquire_owned().await.ok()?;
            let stream = loop {
                match listener.accept().await {
                    Ok((stream, _)) => break stream,
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept connection");
                        tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                    }
                }
            };
            let _ = stream.set_nodelay(true);
            let connection = Connection {
                stream,
                ended: Box::pin(end.clone().cancelled_owned()),
                _permit: permit,
            };
            Some((Ok(connection), (listener, permits, end)))
        },
    )
}

/// A connection that releases its permit when it is dropped. It is owned by a task of Tonic that
/// cannot be cancelled from here, so the connection ends itself when the server ends.
struct Connection {
    stream: TcpStream,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    _permit: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
