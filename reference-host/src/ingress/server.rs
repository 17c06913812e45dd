//! The HTTP server of the ingress: HTTP/1.1 and HTTP/2 without TLS.

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

use super::RouteTable;
use super::host_header::{HostHeaderError, HostName};
use crate::engine::{Body, Handler, HandlerError};
use crate::fault_injection::Breakage;

/// Limit of open connections to the ingress, because each uses a file descriptor, and processes are
/// commonly limited to a few thousand. Further connections wait in the system's backlog.
const MAX_CONNECTIONS: usize = 4096;

/// Time limit for the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Backoff after a failed accept, so that the loop does not spin while file descriptors are
/// exhausted.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// The HTTP server; it stops when dropped.
pub struct Server {
    address: SocketAddr,
    stop: CancellationToken,
}

/// The ingress cannot listen on its address.
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
        table: Arc<RouteTable>,
        guest_runtime: &Handle,
    ) -> Result<Self, ServerError> {
        let error = |source| ServerError { address, source };
        // A Tokio socket belongs to the runtime in which it is created.
        let _entered = guest_runtime.enter();
        let listener = std::net::TcpListener::bind(address).map_err(error)?;
        listener.set_nonblocking(true).map_err(error)?;
        let listener = TcpListener::from_std(listener).map_err(error)?;
        let address = listener.local_addr().map_err(error)?;
        let stop = CancellationToken::new();
        let accepting = accept(listener, table, stop.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(accepting));
        Ok(Self { address, stop })
    }

    /// Returns the bound address.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(listener: TcpListener, table: Arc<RouteTable>, stop: CancellationToken) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // Cannot fail, because the semaphore is never closed.
        let Ok(permit) = connections.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let serving = serve(stream, table.clone(), permit);
                tokio::spawn(stop.clone().run_until_cancelled_owned(serving));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, table: Arc<RouteTable>, _permit: OwnedSemaphorePermit) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    server.http2().timer(TokioTimer::new());
    let service = service_fn(move |request| {
        let table = table.clone();
        async move { Ok::<_, Infallible>(respond(&table, request).await) }
    });
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "connection failed");
    }
}

async fn respond(table: &RouteTable, mut request: Request<Incoming>) -> Response<Body> {
    let handler = match route(table, &request) {
        Ok(handler) => handler,
        Err(status) => return status_response(status),
    };
    if Breakage::DropsQuery.is_on() {
        *request.uri_mut() = without_query(request.uri());
    }
    // Without the injected fault there is no permit. With it, a client that disconnects before the
    // response leaks its permit; this is part of the fault.
    let permit = ManuallyDrop::new(injected_shared_permit().await);
    let result = handler.handle(request).await;
    drop(ManuallyDrop::into_inner(permit));
    match result {
        Ok(response) => response,
        Err(HandlerError::Guest(_)) => status_response(StatusCode::INTERNAL_SERVER_ERROR),
        Err(HandlerError::Timeout) => status_response(StatusCode::GATEWAY_TIMEOUT),
        Err(HandlerError::Stopped | HandlerError::Busy) => {
            status_response(StatusCode::SERVICE_UNAVAILABLE)
        }
    }
}

/// Returns the handler for a request, or the status of the response (HOST-HTTP-002, HOST-HTTP-003).
fn route(table: &RouteTable, request: &Request<Incoming>) -> Result<Handler, StatusCode> {
    let host = HostName::from_request(request).map_err(|error| match error {
        HostHeaderError::Missing if Breakage::MissingHostIs404.is_on() => StatusCode::NOT_FOUND,
        HostHeaderError::Missing => StatusCode::BAD_REQUEST,
        HostHeaderError::Unroutable => no_route(),
    })?;
    let routes = table.current.load();
    let handler = if Breakage::RoutesIgnoreHost.is_on() {
        routes.any()
    } else if Breakage::NoLoadBalancing.is_on() {
        routes.first(host.as_str())
    } else {
        routes.find(host.as_str())
    };
    handler.cloned().ok_or_else(no_route)
}

/// Injected fault: limits the requests of all workloads together to four, which HOST-HTTP-015
/// forbids.
async fn injected_shared_permit() -> Option<tokio::sync::SemaphorePermit<'static>> {
    static PERMITS: Semaphore = Semaphore::const_new(4);
    if Breakage::BusyGuestBlocksIngress.is_on() {
        PERMITS.acquire().await.ok()
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

fn status_response(status: StatusCode) -> Response<Body> {
    let reason = status.canonical_reason().unwrap_or_default();
    let body = Full::new(Bytes::from_static(reason.as_bytes())).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response
}

fn without_query(uri: &Uri) -> Uri {
    uri.path().parse().unwrap_or_default()
}
