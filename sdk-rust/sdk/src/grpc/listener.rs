//! A listener for gRPC calls.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{Stream, stream};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{Service, StdError};
use tonic::transport::Server;
use tonic::transport::server::{Connected, ServerTlsConfig, TlsConnectInfo};

use super::KEEP_ALIVE;
use super::tls::{GrpcError, ServerTls};
use crate::listen::{Acceptor, Connection, ConnectionLimits, ConnectionStream};

/// Default limits of one listener. Each peer needs one connection, which it keeps; a dead one is
/// detected by [`KEEP_ALIVE`].
const LIMITS: ConnectionLimits = ConnectionLimits {
    connections_max: 256,
    head_timeout: Duration::from_secs(10),
    idle_timeout: None,
    request_timeout: None,
};

/// Maximum number of concurrent calls on a connection: above the number of commands that a host
/// executes at once, so that status requests still get through.
const MAX_CALLS: u32 = 1024;

/// A bound address for a gRPC server. Connections are queued from now on, so that a call that
/// arrives before the server has started only waits.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<ServerTlsConfig>,
    limits: ConnectionLimits,
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
        let listener = crate::listen::bind(address).map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;
        Ok(Self {
            listener,
            address,
            tls,
            limits: LIMITS,
        })
    }

    /// Sets the limit of open connections, 256 by default. Beyond it, a new connection replaces one
    /// without a call in flight.
    #[must_use]
    pub fn with_connections_max(mut self, connections_max: usize) -> Self {
        self.limits.connections_max = connections_max.max(1);
        self
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
        let incoming = connections(self.listener, self.limits, end);
        let served = server
            .serve_with_incoming_shutdown(Tracked(service), incoming, close.cancelled_owned())
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "the gRPC server has stopped");
        }
    }
}

fn connections(
    listener: TcpListener,
    limits: ConnectionLimits,
    end: CancellationToken,
) -> impl Stream<Item = io::Result<ConnectionStream>> {
    let acceptor = Acceptor::new(listener, limits);
    stream::unfold((acceptor, end), async |(acceptor, end)| {
        let (stream, connection) = acceptor.accept().await;
        let stream = ConnectionStream::new(stream, connection, Bytes::new());
        let stream = stream.with_control_frames().with_end(end.clone());
        Some((Ok(stream), (acceptor, end)))
    })
}

/// Marks the requests of each connection, so that it counts as busy or idle.
#[derive(Clone)]
struct Tracked<S>(S);

impl<S> Service<Request<Body>> for Tracked<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let extensions = request.extensions();
        let over_tls = extensions.get::<TlsConnectInfo<Connection>>();
        let connection = over_tls.map(TlsConnectInfo::get_ref);
        let in_flight = connection
            .or_else(|| extensions.get::<Connection>())
            .map(Connection::begin_request);
        let response = self.0.call(request);
        Box::pin(async move {
            let _in_flight = in_flight;
            response.await
        })
    }
}

impl Connected for ConnectionStream {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.connection().clone()
    }
}
