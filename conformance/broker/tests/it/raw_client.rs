//! A client that sends raw text and returns every operation that it receives.

use std::net::SocketAddr;

use berth_broker::frame::{FrameError, Limits, Message, ServerOp, ServerParser};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::server::PATIENCE;

pub struct RawClient {
    stream: TcpStream,
    parser: ServerParser,
    input: BytesMut,
    /// JSON of the server's INFO.
    pub info: serde_json::Value,
}

impl RawClient {
    /// Connects and reads INFO, and sends nothing.
    pub async fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut raw = Self {
            stream,
            parser: ServerParser::new(Limits::for_servers()),
            input: BytesMut::new(),
            info: serde_json::Value::Null,
        };
        match raw.next().await {
            Some(ServerOp::Info(json)) => raw.info = serde_json::from_slice(&json).unwrap(),
            other => panic!("expected INFO, received {other:?}"),
        }
        raw
    }

    /// Connects, sends CONNECT with the JSON, and waits until the server has processed it.
    pub async fn connect(addr: SocketAddr, json: &str) -> Self {
        let mut raw = Self::open(addr).await;
        raw.send(&format!("CONNECT {json}\r\n")).await;
        raw.sync().await;
        raw
    }

    /// Connects without verbose mode, with headers and no-responders, like most clients.
    pub async fn connect_default(addr: SocketAddr) -> Self {
        let json = r#"{"verbose":false,"pedantic":false,"headers":true,"no_responders":true}"#;
        Self::connect(addr, json).await
    }

    pub async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Sends text and ignores errors, because the server may close the connection at the same time.
    pub async fn try_send(&mut self, text: &str) {
        let _ = self.stream.write_all(text.as_bytes()).await;
    }

    /// Sends a ping and returns everything that arrives before the pong.
    pub async fn sync(&mut self) -> Vec<ServerOp> {
        self.send("PING\r\n").await;
        let mut received = Vec::new();
        loop {
            match self.next().await {
                Some(ServerOp::Pong) => return received,
                Some(op) => received.push(op),
                None => panic!("the server closed the connection after {received:?}"),
            }
        }
    }

    /// Returns the next operation other than a ping, or `None` if the server closed the connection.
    pub async fn next(&mut self) -> Option<ServerOp> {
        loop {
            match self.next_including_pings().await {
                Some(ServerOp::Ping) => self.try_send("PONG\r\n").await,
                other => return other,
            }
        }
    }

    /// Returns the next operation, or `None` if the server closed the connection.
    pub async fn next_including_pings(&mut self) -> Option<ServerOp> {
        timeout(PATIENCE, self.read())
            .await
            .expect("the server sent nothing within the time limit")
            .unwrap()
    }

    /// Returns the next message.
    pub async fn message(&mut self) -> Message {
        match self.next().await {
            Some(ServerOp::Message(message)) => message,
            other => panic!("expected a message, received {other:?}"),
        }
    }

    /// Waits until the server closes the connection, and returns the most recent error that the
    /// server sent before.
    pub async fn close_error(&mut self) -> String {
        let mut close_error = None;
        while let Some(op) = self.next().await {
            if let ServerOp::Error(text) = op {
                close_error = Some(text.to_string());
            }
        }
        close_error.expect("the server closed the connection without an error")
    }

    async fn read(&mut self) -> Result<Option<ServerOp>, FrameError> {
        loop {
            if let Some(op) = self.parser.next(&mut self.input)? {
                return Ok(Some(op));
            }
            // A connection reset counts as closed, too.
            if self.stream.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                return Ok(None);
            }
        }
    }
}
