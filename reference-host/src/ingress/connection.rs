//! Serves one connection of the ingress, from its first byte to its end.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use berth_sdk::listen::{Connection, ConnectionStream, RequestInFlight};
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::rt::{Read, Write};
use hyper::server::conn;
use hyper::service::{HttpService, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::protocol::{Protocol, recognize};
use crate::engine::Body;

/// Limit of the head of a request, and of what HTTP/1.1 buffers in each direction.
const HTTP1_BUFFER_BYTES: usize = 64 << 10;

/// Limits of what HTTP/2 buffers: of each request's body, of the bodies of one connection, and of
/// each response. With the limit of instances they bound the buffers of all connections.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 128 << 10;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 512 << 10;
const HTTP2_SEND_BUFFER_BYTES: usize = 64 << 10;

/// Limit of concurrent requests on one HTTP/2 connection; the client queues further ones.
const HTTP2_STREAMS: u32 = 200;

/// Interval and timeout of pings on HTTP/2 connections, which find clients that are gone.
const HTTP2_PING: Duration = Duration::from_secs(20);

/// Time in which a request that is on its way to an idle connection may still arrive while the
/// ingress drains.
const DRAIN_LINGER: Duration = Duration::from_millis(500);

/// Time for the last bytes of a connection that is being closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves a connection until it is closed, expires, or has nothing to do while `draining`.
pub async fn serve<F>(
    mut stream: TcpStream,
    connection: Connection,
    draining: CancellationToken,
    respond: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
) where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let recognized = tokio::select! {
        recognized = recognize(&mut stream) => recognized,
        () = connection.expired() => return,
        () = lingered(&draining) => return,
    };
    let Ok(Some((protocol, prefix))) = recognized else {
        return;
    };
    let requests = connection.clone();
    let service = service_fn(move |request| {
        let in_flight = requests.begin_request();
        let response = respond(request);
        async move {
            // The request ends when the body of the response is sent or dropped.
            let response = response.await;
            let response = response.map(|body| InFlightBody {
                body,
                _in_flight: in_flight,
            });
            Ok::<_, Infallible>(response)
        }
    });
    let stream = ConnectionStream::new(stream, connection.clone(), prefix);
    match protocol {
        Protocol::Http1 => {
            let mut server = conn::http1::Builder::new();
            server.max_buf_size(HTTP1_BUFFER_BYTES);
            let io = TokioIo::new(stream);
            drive(server.serve_connection(io, service), &connection, &draining).await;
        }
        Protocol::Http2 => {
            let mut server = conn::http2::Builder::new(TokioExecutor::new());
            server
                .timer(TokioTimer::new())
                .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
                .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
                .max_send_buf_size(HTTP2_SEND_BUFFER_BYTES)
                .max_concurrent_streams(HTTP2_STREAMS)
                .keep_alive_interval(HTTP2_PING)
                .keep_alive_timeout(HTTP2_PING);
            let io = TokioIo::new(stream.with_control_frames());
            drive(server.serve_connection(io, service), &connection, &draining).await;
        }
    }
}

/// The body of a response whose request is in flight until the body is dropped.
struct InFlightBody {
    body: Body,
    _in_flight: RequestInFlight,
}

impl hyper::body::Body for InFlightBody {
    type Data = Bytes;
    type Error = <Body as hyper::body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that can be asked to end after its requests in flight.
trait Graceful: Future<Output = hyper::Result<()>> {
    fn shut_down(self: Pin<&mut Self>);
}

impl<I, S> Graceful for conn::http1::Connection<I, S>
where
    S: HttpService<Incoming, ResBody = InFlightBody, Error = Infallible>,
    I: Read + Write + Unpin,
{
    fn shut_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> Graceful for conn::http2::Connection<I, S, TokioExecutor>
where
    S: HttpService<Incoming, ResBody = InFlightBody, Error = Infallible>,
    S::Future: Send + 'static,
    I: Read + Write + Unpin,
{
    fn shut_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

async fn drive(serving: impl Graceful, connection: &Connection, draining: &CancellationToken) {
    tokio::pin!(serving);
    let result = tokio::select! {
        result = serving.as_mut() => result,
        () = connection.expired() => {
            if connection.is_busy() {
                return;
            }
            return close(serving, CLOSE_TIMEOUT).await;
        }
        () = drained(connection, draining) => {
            serving.as_mut().shut_down();
            if !connection.is_busy() {
                return close(serving, CLOSE_TIMEOUT).await;
            }
            tokio::select! {
                result = serving => result,
                () = connection.expired() => return,
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection failed");
    }
}

/// Tells the client that the connection ends, and ends it.
async fn close(mut serving: Pin<&mut impl Graceful>, limit: Duration) {
    serving.as_mut().shut_down();
    let _ = tokio::time::timeout(limit, serving).await;
}

/// Waits until the ingress drains and the connection can be closed after its requests in flight: at
/// once if there are any, else after the next request or the time for it.
async fn drained(connection: &Connection, draining: &CancellationToken) {
    draining.cancelled().await;
    tokio::select! {
        () = connection.busy() => {}
        () = tokio::time::sleep(DRAIN_LINGER) => {}
    }
}

async fn lingered(draining: &CancellationToken) {
    draining.cancelled().await;
    tokio::time::sleep(DRAIN_LINGER).await;
}
