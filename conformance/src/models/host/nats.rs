//! A minimal NATS client, sufficient for a host on a core NATS server.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

/// Maximum length of a protocol line, in bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Maximum size of a payload, in bytes; a larger one is an error.
const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Time without traffic after which the client sends a PING.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Time without traffic after a PING after which the connection counts as dead.
const PONG_TIMEOUT: Duration = Duration::from_secs(20);

/// A received message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Subject on which the message was published.
    pub subject: String,
    /// Reply subject, if the message is a request.
    pub reply_to: Option<String>,
    /// Whether the message has headers.
    pub has_headers: bool,
    /// Payload without the headers.
    pub payload: Bytes,
}

/// Write half of the current connection.
#[derive(Debug, Default)]
pub struct Writer {
    write_half: Mutex<Option<OwnedWriteHalf>>,
}

impl Writer {
    /// Publishes `payload` with `headers`.
    ///
    /// # Errors
    /// Returns an error if there is no connection or the connection fails.
    pub async fn publish(
        &self,
        subject: &str,
        headers: &[(String, String)],
        payload: &[u8],
    ) -> std::io::Result<()> {
        let mut frame = Vec::with_capacity(payload.len() + 128);
        if headers.is_empty() {
            frame.extend_from_slice(format!("PUB {subject} {}\r\n", payload.len()).as_bytes());
        } else {
            let lines: String = headers
                .iter()
                .map(|(name, value)| format!("{name}: {value}\r\n"))
                .collect();
            let block = format!("NATS/1.0\r\n{lines}\r\n");
            let total = block.len() + payload.len();
            frame.extend_from_slice(
                format!("HPUB {subject} {} {total}\r\n", block.len()).as_bytes(),
            );
            frame.extend_from_slice(block.as_bytes());
        }
        frame.extend_from_slice(payload);
        frame.extend_from_slice(b"\r\n");
        self.send(&frame).await
    }

    /// Subscribes to `subject` with the subscription id `sid`.
    ///
    /// # Errors
    /// Returns an error if there is no connection or the connection fails.
    pub async fn subscribe(&self, subject: &str, sid: u32) -> std::io::Result<()> {
        self.send(format!("SUB {subject} {sid}\r\n").as_bytes())
            .await
    }

    /// Ends the subscription `sid`.
    ///
    /// # Errors
    /// Returns an error if there is no connection or the connection fails.
    pub async fn unsubscribe(&self, sid: u32) -> std::io::Result<()> {
        self.send(format!("UNSUB {sid}\r\nPING\r\n").as_bytes())
            .await
    }

    async fn send(&self, frame: &[u8]) -> std::io::Result<()> {
        let mut write_half = self.write_half.lock().await;
        let stream = write_half
            .as_mut()
            .ok_or(std::io::ErrorKind::NotConnected)?;
        stream.write_all(frame).await
    }

    /// Replaces the write half of the connection.
    pub async fn replace(&self, write_half: Option<OwnedWriteHalf>) {
        *self.write_half.lock().await = write_half;
    }
}

/// Read half of a connection.
#[derive(Debug)]
pub struct Connection {
    reader: BufReader<OwnedReadHalf>,
    sends_pings: bool,
}

/// Connects to the server at `authority` and stores the write half in `writer`.
///
/// # Errors
/// Returns an error if the server is unreachable or is not a NATS server.
pub async fn connect(
    authority: &str,
    sends_pings: bool,
    writer: &Writer,
) -> std::io::Result<Connection> {
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    let (read_half, mut write_half) = stream.into_split();
    let mut connection = Connection {
        reader: BufReader::new(read_half),
        sends_pings,
    };
    let info = connection.read_line().await?;
    if !info.starts_with("INFO ") {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let options = concat!(
        r#"{"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"#,
        r#""lang":"model","version":"1","protocol":1,"name":"model-host"}"#,
    );
    write_half
        .write_all(format!("CONNECT {options}\r\nPING\r\n").as_bytes())
        .await?;
    loop {
        match connection.read_line().await?.as_str() {
            "PONG" => break,
            line if line.starts_with("-ERR") => return Err(std::io::Error::other(line.to_owned())),
            _ => {}
        }
    }
    writer.replace(Some(write_half)).await;
    Ok(connection)
}

impl Connection {
    /// Returns the next message. Sends PONG for each PING of the server, and PING when the
    /// connection is idle.
    ///
    /// # Errors
    /// Returns an error if the connection has ended or is dead.
    pub async fn next(&mut self, writer: &Writer) -> std::io::Result<Message> {
        let mut ping_sent = false;
        loop {
            let idle_timeout = if ping_sent {
                PONG_TIMEOUT
            } else {
                PING_INTERVAL
            };
            if self.sends_pings
                && timeout_at(Instant::now() + idle_timeout, self.reader.fill_buf())
                    .await
                    .is_err()
            {
                if ping_sent {
                    return Err(std::io::ErrorKind::TimedOut.into());
                }
                writer.send(b"PING\r\n").await?;
                ping_sent = true;
                continue;
            }
            let line = self.read_line().await?;
            ping_sent = false;
            if line == "PING" {
                writer.send(b"PONG\r\n").await?;
            } else if let Some((verb @ ("MSG" | "HMSG"), arguments)) = line.split_once(' ') {
                let has_headers = verb == "HMSG";
                return self.read_message(arguments, has_headers).await;
            }
        }
    }

    /// Reads the message whose protocol line has these arguments.
    async fn read_message(
        &mut self,
        arguments: &str,
        has_headers: bool,
    ) -> std::io::Result<Message> {
        let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidData);
        let tokens: Vec<&str> = arguments.split_ascii_whitespace().collect();
        let size_tokens = if has_headers { 2 } else { 1 };
        let split = tokens
            .len()
            .checked_sub(size_tokens)
            .filter(|n| *n >= 2)
            .ok_or_else(invalid)?;
        let (names, sizes) = tokens.split_at(split);
        let size = |n: usize| -> std::io::Result<usize> {
            let text = sizes.get(n).ok_or_else(invalid)?;
            text.parse()
                .ok()
                .filter(|size| *size <= PAYLOAD_BYTES_MAX)
                .ok_or_else(invalid)
        };
        let (header_bytes, total) = if has_headers {
            (size(0)?, size(1)?)
        } else {
            (0, size(0)?)
        };
        let mut body = BytesMut::zeroed(total + 2);
        self.reader.read_exact(&mut body).await?;
        let mut payload = body.freeze();
        payload.truncate(total);
        Ok(Message {
            subject: names.first().copied().unwrap_or_default().to_owned(),
            reply_to: names.get(2).map(|subject| (*subject).to_owned()),
            has_headers,
            payload: payload.slice(header_bytes.min(total)..),
        })
    }

    async fn read_line(&mut self) -> std::io::Result<String> {
        let mut line = Vec::new();
        let mut limited = (&mut self.reader).take(LINE_BYTES_MAX as u64);
        if limited.read_until(b'\n', &mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&line);
        Ok(text.trim_end().to_owned())
    }
}
