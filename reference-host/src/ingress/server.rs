//! Serves HTTP/1.1 and HTTP/2 without TLS.

use std::convert::Infallible;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::Table;
use super::host_header::{HostName, NoHost};
use crate::breakage::Breakage;
use crate::engine::{Body, Handler, HandlerError};

/// Connections at one moment; further ones wait in the system's backlog. Each costs a file
/// descriptor, of which a process commonly has few thousand.
const MAX_CONNECTIONS: usize = 4096;

/// How long a client may take to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// After a failed accept: long enough not to spin while descriptors are short.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Serves until it is dropped.
pub struct Server {
    address: SocketAddr,
    stop: CancellationToken,
}

/// The ingress cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for HTTP on {address}")]
pub struct ServerError {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

impl Server {
    pub(super) fn listen(
        address: SocketAddr,
        table: Arc<Table>,
        guests: &Handle,
    ) -> Result<Self, ServerError> {
        let error = |source| ServerError { address, source };
        // A socket belongs to the runtime in which it is made.
        let _guests = guests.enter();
        let listener = std::net::TcpListener::bind(address).map_err(error)?;
        listener.set_nonblocking(true).map_err(error)?;
        let listener = TcpListener::from_std(listener).map_err(error)?;
        let address = listener.local_addr().map_err(error)?;
        let stop = CancellationToken::new();
        let accepting = accept(listener, table, stop.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(accepting));
        Ok(Self { address, stop })
    }

    /// The address that is listened on.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(listener: TcpListener, table: Arc<Table>, stop: CancellationToken) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // The semaphore is never closed, so this never fails.
        let Ok(permit) = connections.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let serving = serve(stream, table.clone(), permit);
                tokio::spawn(stop.clone().run_until_cancelled_owned(serving));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, table: Arc<Table>, _permit: OwnedSemaphorePermit) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps its delay");
    }
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    server.http2().timer(TokioTimer::new());
    let service = service_fn(move |request| {
        let table = table.clone();
        async move { Ok::<_, Infallible>(answer(&table, request).await) }
    });
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection broke");
    }
}

async fn answer(table: &Table, mut request: Request<Incoming>) -> Response<Body> {
    let handler = match route(table, &request) {
        Ok(handler) => handler,
        Err(status) => return plain(status),
    };
    if Breakage::DropsQuery.is_on() {
        *request.uri_mut() = without_query(request.uri());
    }
    // Not released when the client goes away first: the fault is that such a request stays.
    let one_of_few = ManuallyDrop::new(one_of_few().await);
    let answer = handler.handle(request).await;
    drop(ManuallyDrop::into_inner(one_of_few));
    match answer {
        Ok(response) => response,
        Err(HandlerError::Guest(_)) => plain(StatusCode::INTERNAL_SERVER_ERROR),
        Err(HandlerError::Timeout) => plain(StatusCode::GATEWAY_TIMEOUT),
        Err(HandlerError::Ended | HandlerError::Busy) => plain(StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// The handler for a request, or the status that answers it (HOST-HTTP-002, HOST-HTTP-003).
fn route(table: &Table, request: &Request<Incoming>) -> Result<Handler, StatusCode> {
    let host = HostName::of(request).map_err(|reason| match reason {
        NoHost::Missing if Breakage::MissingHostIs404.is_on() => StatusCode::NOT_FOUND,
        NoHost::Missing => StatusCode::BAD_REQUEST,
        NoHost::Unroutable => no_route(),
    })?;
    let routes = table.current.load();
    let handler = if Breakage::RoutesIgnoreHost.is_on() {
        routes.any()
    } else if Breakage::OneReplicaGetsAll.is_on() {
        routes.first(host.as_str())
    } else {
        routes.find(host.as_str())
    };
    handler.cloned().ok_or_else(no_route)
}

/// Lets four requests in at a time, whosesoever they are, which is what HOST-HTTP-015 forbids.
async fn one_of_few() -> Option<tokio::sync::SemaphorePermit<'static>> {
    static FEW: Semaphore = Semaphore::const_new(4);
    if Breakage::SpinBlocksIngress.is_on() {
        FEW.acquire().await.ok()
    } else {
        None
    }
}

fn no_route() -> StatusCode {
    if Breakage::NoRouteIs500.is_on() {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        StatusCode::NOT_FOUND
    }
}

fn plain(status: StatusCode) -> Response<Body> {
    let reason = status.canonical_reason().unwrap_or_default();
    let body = Full::new(Bytes::from_static(reason.as_bytes())).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response
}

fn without_query(uri: &Uri) -> Uri {
    uri.path().parse().unwrap_or_default()
}
