//! The HTTP server of the ingress: HTTP/1.1 and HTTP/2 without TLS.

use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use berth_sdk::listen::{Acceptor, ConnectionLimits, Connections};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::host_header::{HostHeaderError, HostName};
use super::{Lookup, RouteTable, connection};
use crate::engine::{Body, Handler, HandlerError, MAX_HANDLER_RUN};
use crate::fault_injection::Breakage;

/// Time limit for the head of a request, from the accept on.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Time after which an idle connection is closed: longer than the 60 s for which load balancers
/// commonly keep theirs, so that they do not use a connection that is just being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// Time after which a request ends its connection: a client that does not read its response would
/// keep it forever. By then the handler has ended, and what it has sent had time to arrive.
const REQUEST_TIMEOUT: Duration = MAX_HANDLER_RUN.saturating_add(Duration::from_secs(30));

/// Value of `Retry-After` in seconds: a stop and most restarts are over by then.
const RETRY_AFTER_SECONDS: &str = "1";

/// The HTTP server; it stops when dropped.
pub struct Server {
    address: SocketAddr,
    connections: Connections,
    draining: CancellationToken,
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
        connections_max: usize,
        table: Arc<RouteTable>,
        guest_runtime: &Handle,
    ) -> Result<Self, ServerError> {
        let error = |source| ServerError { address, source };
        // A Tokio socket belongs to the runtime in which it is created.
        let _entered = guest_runtime.enter();
        let listener = berth_sdk::listen::bind(address).map_err(error)?;
        let address = listener.local_addr().map_err(error)?;
        let limits = ConnectionLimits {
            connections_max,
            head_timeout: HEAD_TIMEOUT,
            idle_timeout: Some(IDLE_TIMEOUT),
            request_timeout: Some(REQUEST_TIMEOUT),
        };
        let acceptor = Acceptor::new(listener, limits);
        let server = Self {
            address,
            connections: acceptor.connections(),
            draining: CancellationToken::new(),
            stop: CancellationToken::new(),
        };
        let (draining, stop) = (server.draining.clone(), server.stop.clone());
        let accepting = accept(acceptor, table, draining, stop.clone());
        tokio::spawn(stop.run_until_cancelled_owned(accepting));
        Ok(server)
    }

    /// Waits until the responses that have begun are sent, up to `limit`, and then ends all
    /// connections.
    pub async fn close(self, limit: Duration) {
        self.draining.cancel();
        let _ = tokio::time::timeout(limit, self.connections.closed()).await;
    }

    pub(super) fn connections(&self) -> Connections {
        self.connections.clone()
    }

    pub(super) fn draining(&self) -> CancellationToken {
        self.draining.clone()
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

async fn accept(
    acceptor: Acceptor,
    table: Arc<RouteTable>,
    draining: CancellationToken,
    stop: CancellationToken,
) {
    loop {
        let (stream, connection) = acceptor.accept().await;
        let (table, closing) = (table.clone(), draining.clone());
        let respond = move |request: Request<Incoming>| {
            let (table, closing) = (table.clone(), closing.clone());
            async move {
                let version = request.version();
                let mut response = respond(&table, request).await;
                if closing.is_cancelled() && version < Version::HTTP_2 {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                response
            }
        };
        let serving = connection::serve(stream, connection, draining.clone(), respond);
        tokio::spawn(stop.clone().run_until_cancelled_owned(serving));
    }
}

async fn respond(table: &RouteTable, mut request: Request<Incoming>) -> Response<Body> {
    let handler = match route(table, &request) {
        Ok(handler) => handler,
        Err(status) => return error_response(status),
    };
    if let Some(uri) = with_path(request.uri()) {
        *request.uri_mut() = uri;
    }
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
        Err(HandlerError::Guest(_)) => error_response(StatusCode::INTERNAL_SERVER_ERROR),
        Err(HandlerError::Timeout) => error_response(StatusCode::GATEWAY_TIMEOUT),
        Err(HandlerError::Stopped | HandlerError::Busy) => {
            error_response(StatusCode::SERVICE_UNAVAILABLE)
        }
    }
}

/// Returns the handler for a request, or the status of the response (HOST-HTTP-002, HOST-HTTP-003).
fn route(table: &RouteTable, request: &Request<Incoming>) -> Result<Handler, StatusCode> {
    // A tunnel would lead to the guest, which cannot serve one.
    if request.method() == Method::CONNECT {
        return Err(StatusCode::NOT_IMPLEMENTED);
    }
    let host = HostName::from_request(request).map_err(|error| match error {
        HostHeaderError::Missing if Breakage::MissingHostIs404.is_on() => StatusCode::NOT_FOUND,
        HostHeaderError::Missing | HostHeaderError::Invalid => StatusCode::BAD_REQUEST,
        HostHeaderError::Unroutable => no_route(),
    })?;
    let routes = table.current.load();
    let found = if Breakage::RoutesIgnoreHost.is_on() {
        routes.any()
    } else if Breakage::NoLoadBalancing.is_on() {
        routes.first(host.as_str())
    } else {
        routes.find(host.as_str())
    };
    match found {
        Lookup::Found(handler) => Ok(handler.clone()),
        Lookup::Suspended => Err(StatusCode::SERVICE_UNAVAILABLE),
        Lookup::Unknown => Err(no_route()),
    }
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

fn error_response(status: StatusCode) -> Response<Body> {
    let reason = status.canonical_reason().unwrap_or_default();
    let body = Full::new(Bytes::from_static(reason.as_bytes())).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let retry_after = HeaderValue::from_static(RETRY_AFTER_SECONDS);
        response.headers_mut().insert(RETRY_AFTER, retry_after);
    }
    response
}

/// Returns the request target with the path `/` if it has a query only, as in `http://a.test?b`:
/// the two are equivalent (RFC 9110, section 4.2.3), and a guest expects a path.
fn with_path(uri: &Uri) -> Option<Uri> {
    let query_only = uri
        .path_and_query()
        .filter(|it| it.as_str().starts_with('?'))?;
    let mut parts = uri.clone().into_parts();
    // Its text has the path that it lacks.
    parts.path_and_query = Some(query_only.to_string().parse().ok()?);
    Uri::from_parts(parts).ok()
}

fn without_query(uri: &Uri) -> Uri {
    uri.path().parse().unwrap_or_default()
}
