//! A client that says exactly what it is told to, and hears every operation.

use std::net::SocketAddr;

use berth_broker::frame::{FrameError, Limits, Message, ServerOp, ServerParser};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::server::PATIENCE;

pub struct Wire {
    stream: TcpStream,
    parser: ServerParser,
    input: BytesMut,
    /// The JSON that the server greeted with.
    pub info: serde_json::Value,
}

impl Wire {
    /// Connects and reads the greeting, and says nothing yet.
    pub async fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut wire = Self {
            stream,
            parser: ServerParser::new(Limits::of_servers()),
            input: BytesMut::new(),
            info: serde_json::Value::Null,
        };
        match wire.next().await {
            Some(ServerOp::Info(json)) => wire.info = serde_json::from_slice(&json).unwrap(),
            other => panic!("{other:?} instead of INFO"),
        }
        wire
    }

    /// Connects, introduces itself with the JSON, and waits until that was taken.
    pub async fn connect(addr: SocketAddr, json: &str) -> Self {
        let mut wire = Self::open(addr).await;
        wire.say(&format!("CONNECT {json}\r\n")).await;
        wire.sync().await;
        wire
    }

    /// Connects quietly, with headers and no-responders, as most clients do.
    pub async fn quiet(addr: SocketAddr) -> Self {
        let json = r#"{"verbose":false,"pedantic":false,"headers":true,"no_responders":true}"#;
        Self::connect(addr, json).await
    }

    pub async fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Says something that the server may hang up on while it is being said.
    pub async fn try_say(&mut self, text: &str) {
        let _ = self.stream.write_all(text.as_bytes()).await;
    }

    /// Everything that came before the server answered a ping.
    pub async fn sync(&mut self) -> Vec<ServerOp> {
        self.say("PING\r\n").await;
        let mut heard = Vec::new();
        loop {
            match self.next().await {
                Some(ServerOp::Pong) => return heard,
                Some(op) => heard.push(op),
                None => panic!("hung up on after {heard:?}"),
            }
        }
    }

    /// The next operation that is no ping of the server's; `None` when it hung up.
    pub async fn next(&mut self) -> Option<ServerOp> {
        loop {
            match self.next_of_any_kind().await {
                Some(ServerOp::Ping) => self.try_say("PONG\r\n").await,
                other => return other,
            }
        }
    }

    /// The next operation; `None` when the server hung up.
    pub async fn next_of_any_kind(&mut self) -> Option<ServerOp> {
        timeout(PATIENCE, self.read())
            .await
            .expect("the server says nothing")
            .unwrap()
    }

    /// The next message.
    pub async fn message(&mut self) -> Message {
        match self.next().await {
            Some(ServerOp::Message(message)) => message,
            other => panic!("{other:?} instead of a message"),
        }
    }

    /// The text of the error that the server says before it hangs up, which it must then do.
    pub async fn farewell(&mut self) -> String {
        let mut farewell = None;
        while let Some(op) = self.next().await {
            if let ServerOp::Error(text) = op {
                farewell = Some(text.to_string());
            }
        }
        farewell.expect("the server hung up without a word")
    }

    async fn read(&mut self) -> Result<Option<ServerOp>, FrameError> {
        loop {
            if let Some(op) = self.parser.next(&mut self.input)? {
                return Ok(Some(op));
            }
            // A reset is a way of hanging up.
            if self.stream.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                return Ok(None);
            }
        }
    }
}
