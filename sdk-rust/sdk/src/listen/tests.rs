//! Tests of the accept loop on loopback.

#![allow(clippy::unwrap_used, reason = "test code")]

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

async fn acceptor(limits: ConnectionLimits) -> (Acceptor, SocketAddr) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let acceptor = Acceptor::new(listener, limits);
    let address = acceptor.local_addr().unwrap();
    (acceptor, address)
}

fn limits(connections_max: usize, head_timeout: Duration) -> ConnectionLimits {
    ConnectionLimits {
        connections_max,
        head_timeout,
        idle_timeout: Some(head_timeout),
        request_timeout: Some(head_timeout),
    }
}

async fn accept(acceptor: &Acceptor, address: SocketAddr) -> (TcpStream, TcpStream, Connection) {
    let (client, (server, connection)) =
        tokio::join!(TcpStream::connect(address), acceptor.accept());
    (client.unwrap(), server, connection)
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap()
}

#[tokio::test]
async fn silent_connection_expires_after_the_accept() {
    let (acceptor, address) = acceptor(limits(1, Duration::from_millis(20))).await;
    let (_client, _server, connection) = accept(&acceptor, address).await;
    within(connection.expired()).await;
}

#[tokio::test]
async fn request_in_flight_that_ends_arms_the_idle_deadline() {
    let mut limits = limits(1, Duration::from_millis(20));
    limits.request_timeout = None;
    let (acceptor, address) = acceptor(limits).await;
    let (_client, _server, connection) = accept(&acceptor, address).await;
    let request = connection.begin_request();
    let expired = tokio::spawn({
        let connection = connection.clone();
        async move { connection.expired().await }
    });
    within(connection.busy()).await;
    drop(request);
    within(expired).await.unwrap();
}

#[tokio::test]
async fn new_connection_replaces_unused_then_idle_and_never_a_busy_one() {
    let (acceptor, address) = acceptor(limits(3, Duration::from_secs(600))).await;
    let (_busy, _busy_server, busy) = accept(&acceptor, address).await;
    let _request = busy.begin_request();
    let (_idle, _idle_server, idle) = accept(&acceptor, address).await;
    drop(idle.begin_request());
    let (_unused, unused_server, unused) = accept(&acceptor, address).await;
    let ends = |connection: Connection, stream: TcpStream| async move {
        connection.expired().await;
        drop(stream);
    };
    let unused = tokio::spawn(ends(unused, unused_server));
    let (_new, _new_server, new) = within(accept(&acceptor, address)).await;
    within(unused).await.unwrap();
    let _also_busy = new.begin_request();
    let idle = tokio::spawn(ends(idle, _idle_server));
    let (_last, _last_server, _connection) = within(accept(&acceptor, address)).await;
    within(idle).await.unwrap();
    assert_eq!(acceptor.connections().count(), 3);
}

#[tokio::test]
async fn stream_returns_prefix_and_fails_at_the_deadline() {
    let (acceptor, address) = acceptor(limits(1, Duration::from_millis(50))).await;
    let (_client, server, connection) = accept(&acceptor, address).await;
    let mut stream = ConnectionStream::new(server, connection, Bytes::from_static(b"ab"))
        .with_end(CancellationToken::new());
    let mut buffer = [0; 2];
    within(stream.read_exact(&mut buffer)).await.unwrap();
    assert_eq!(&buffer, b"ab");
    let error = within(stream.read(&mut buffer)).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    drop(stream);
    within(acceptor.connections().closed()).await;
}
