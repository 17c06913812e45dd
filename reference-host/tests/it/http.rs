//! An HTTP client that sends requests byte for byte.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Debug, PartialEq, Eq)]
pub struct HttpResponse {
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    pub body: String,
}

impl HttpResponse {
    /// Returns the value of a header, whose name must be in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }
}

pub async fn get(address: SocketAddr, host: &str, path: &str) -> HttpResponse {
    send(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
    )
    .await
}

pub async fn send(address: SocketAddr, request: &str) -> HttpResponse {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    read_to_end(&mut stream).await
}

/// Reads one response, until the server closes the connection.
pub async fn read_to_end(stream: &mut TcpStream) -> HttpResponse {
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    parse(&String::from_utf8(response).unwrap())
}

fn parse(text: &str) -> HttpResponse {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    let chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    let body = if chunked {
        decode_chunked(body)
    } else {
        body.to_owned()
    };
    let head = head.to_owned();
    HttpResponse { status, head, body }
}

/// A server whose responses are sent when the test says so.
pub struct SlowServer(TcpListener);

/// A request that waits for its response.
pub struct PendingRequest(TcpStream);

impl SlowServer {
    pub async fn start() -> Self {
        Self(TcpListener::bind(("127.0.0.1", 0)).await.unwrap())
    }

    pub fn authority(&self) -> String {
        self.0.local_addr().unwrap().to_string()
    }

    /// Waits for the next request.
    pub async fn receive(&self) -> PendingRequest {
        let (mut stream, _) = self.0.accept().await.unwrap();
        stream.read_u8().await.unwrap();
        PendingRequest(stream)
    }
}

impl PendingRequest {
    pub async fn respond(mut self) {
        let response = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        self.0.write_all(response.as_bytes()).await.unwrap();
        // The rest of the request is read, so that the connection is not reset.
        let mut rest = Vec::new();
        let _ = self.0.read_to_end(&mut rest).await;
    }
}

fn decode_chunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body.push_str(&tail[..size]);
        rest = tail[size..].trim_start_matches("\r\n");
    }
    body
}
