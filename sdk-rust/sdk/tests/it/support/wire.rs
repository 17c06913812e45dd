//! A bare NATS client that can also send invalid messages.

use berth_broker::frame::{ClientOp, Headers, Limits, Message, Publish, ServerOp, ServerParser};
use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::within_timeout;

/// A connection that receives messages in order.
pub struct Wire {
    stream: TcpStream,
    input: BytesMut,
    parser: ServerParser,
    requests: u64,
}

/// A received message.
#[derive(Debug)]
pub struct Received {
    pub subject: String,
    pub reply_to: Option<String>,
    pub headers: Headers,
    pub payload: Bytes,
}

impl Received {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.payload))
    }

    /// Returns the state without its prefix and the error code, such as `("RUNNING", None)`.
    pub fn state(&self) -> (String, Option<u16>) {
        let json = self.json();
        let state = json["workloadStatus"]["workloadState"]
            .as_str()
            .unwrap_or("none");
        let code = self.headers.get("Nats-Service-Error-Code");
        (
            state.trim_start_matches("WORKLOAD_STATE_").to_owned(),
            code.map(|code| code.parse().unwrap()),
        )
    }

    pub fn id(&self) -> String {
        self.json()["workloadStatus"]["workloadId"]
            .as_str()
            .unwrap_or("")
            .to_owned()
    }

    pub fn message(&self) -> String {
        self.json()["workloadStatus"]["message"]
            .as_str()
            .unwrap_or("")
            .to_owned()
    }
}

impl Wire {
    pub async fn connect(url: &str) -> Self {
        let stream = TcpStream::connect(url.trim_start_matches("nats://"))
            .await
            .unwrap();
        stream.set_nodelay(true).unwrap();
        let (input, parser) = (BytesMut::new(), ServerParser::new(Limits::for_servers()));
        let mut wire = Self {
            stream,
            input,
            parser,
            requests: 0,
        };
        let hello = Bytes::from_static(
            br#"{"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"lang":"test","version":"0","protocol":1}"#,
        );
        wire.send(&ClientOp::Connect(hello)).await;
        wire.subscribe("_INBOX.wire.*").await;
        wire
    }

    pub async fn subscribe(&mut self, subject: &str) {
        let (subject, sid) = (subject.into(), subject.into());
        self.send(&ClientOp::Subscribe {
            subject,
            queue: None,
            sid,
        })
        .await;
        self.sync().await;
    }

    pub async fn publish(&mut self, subject: &str, reply_to: Option<&str>, payload: &[u8]) {
        let publish = Publish {
            subject: subject.into(),
            reply: reply_to.map(Into::into),
            headers: None,
            payload: Bytes::copy_from_slice(payload),
        };
        self.send(&ClientOp::Publish(publish)).await;
    }

    /// Sends a request and returns the subject of its reply.
    pub async fn send_request(&mut self, subject: &str, payload: &[u8]) -> String {
        self.requests += 1;
        let reply_to = format!("_INBOX.wire.{}", self.requests);
        self.publish(subject, Some(&reply_to), payload).await;
        reply_to
    }

    /// Sends a request and waits for its reply; drops messages on other subjects.
    pub async fn request(&mut self, subject: &str, payload: &[u8]) -> Received {
        let reply_to = self.send_request(subject, payload).await;
        self.receive_on(&reply_to).await
    }

    pub async fn command(&mut self, host: &str, command: &str, payload: &str) -> Received {
        self.request(
            &format!("runtime.host.{host}.{command}"),
            payload.as_bytes(),
        )
        .await
    }

    pub async fn receive_on(&mut self, subject: &str) -> Received {
        loop {
            let received = self.receive().await;
            if received.subject == subject {
                return received;
            }
        }
    }

    /// Returns the next message on any subject.
    pub async fn receive(&mut self) -> Received {
        loop {
            match self.read().await {
                ServerOp::Message(message) => return received(message),
                ServerOp::Error(text) => panic!("error from the broker: {}", text.as_str()),
                _ => {}
            }
        }
    }

    /// Returns all messages that the broker sent before it answered a ping.
    pub async fn sync(&mut self) -> Vec<Received> {
        self.send(&ClientOp::Ping).await;
        let mut before = Vec::new();
        loop {
            match self.read().await {
                ServerOp::Pong => return before,
                ServerOp::Message(message) => before.push(received(message)),
                ServerOp::Error(text) => panic!("error from the broker: {}", text.as_str()),
                _ => {}
            }
        }
    }

    async fn read(&mut self) -> ServerOp {
        loop {
            match self.parser.next(&mut self.input).unwrap() {
                Some(ServerOp::Ping) => self.send(&ClientOp::Pong).await,
                Some(op) => return op,
                None => {
                    let read = self.stream.read_buf(&mut self.input);
                    let bytes = within_timeout("a message", read).await.unwrap();
                    assert!(bytes > 0, "the broker closed the connection");
                }
            }
        }
    }

    async fn send(&mut self, op: &ClientOp) {
        let mut output = BytesMut::new();
        op.encode(&mut output);
        self.stream.write_all(&output).await.unwrap();
    }
}

fn received(message: Message) -> Received {
    Received {
        subject: message.subject.as_str().to_owned(),
        reply_to: message.reply.map(|reply| reply.as_str().to_owned()),
        headers: message
            .headers
            .map_or_else(Headers::default, |block| Headers::parse(&block).unwrap()),
        payload: message.payload,
    }
}
