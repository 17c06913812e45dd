//! The model's own NATS client: just enough of the protocol to be a host on a core NATS server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

/// A line of the protocol longer than this is not NATS.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// A payload longer than this is refused rather than held.
const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Silence after which the connection is asked whether it lives.
const PING_AFTER: Duration = Duration::from_secs(20);
/// Silence after a PING that means that the connection is dead.
const PONG_WITHIN: Duration = Duration::from_secs(20);

/// A message that arrived.
#[derive(Clone, Debug)]
pub struct Message {
    /// Where it was sent to.
    pub subject: String,
    /// Where the answer goes, if one is wanted.
    pub reply: Option<String>,
    /// Whether it carried headers.
    pub has_headers: bool,
    /// The payload.
    pub payload: Bytes,
}

/// The writing half of a connection; replaced when the connection is.
#[derive(Debug, Default)]
pub struct Writer {
    half: Mutex<Option<OwnedWriteHalf>>,
    /// Counts publishes, so that a quiet moment can be seen.
    published: AtomicU64,
}

impl Writer {
    /// Publishes `payload`; headers, where given, are `name: value` lines.
    ///
    /// # Errors
    /// The connection is gone or broke meanwhile.
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
        self.published.fetch_add(1, Ordering::Relaxed);
        self.send(&frame).await
    }

    /// Subscribes to `subject` under `sid`.
    ///
    /// # Errors
    /// As [`Writer::publish`].
    pub async fn subscribe(&self, subject: &str, sid: u32) -> std::io::Result<()> {
        self.send(format!("SUB {subject} {sid}\r\n").as_bytes())
            .await
    }

    /// Ends the subscription `sid`.
    ///
    /// # Errors
    /// As [`Writer::publish`].
    pub async fn unsubscribe(&self, sid: u32) -> std::io::Result<()> {
        self.send(format!("UNSUB {sid}\r\nPING\r\n").as_bytes())
            .await
    }

    async fn send(&self, frame: &[u8]) -> std::io::Result<()> {
        let mut half = self.half.lock().await;
        let stream = half.as_mut().ok_or(std::io::ErrorKind::NotConnected)?;
        stream.write_all(frame).await
    }

    /// Makes a new connection's writing half the one in use.
    pub async fn replace(&self, half: Option<OwnedWriteHalf>) {
        *self.half.lock().await = half;
    }
}

/// The reading half of a connection.
#[derive(Debug)]
pub struct Connection {
    reader: BufReader<OwnedReadHalf>,
    pings: bool,
}

/// Connects, greets the server and hands the writing half to `writer`.
///
/// # Errors
/// The server cannot be reached or is none.
pub async fn connect(authority: &str, pings: bool, writer: &Writer) -> std::io::Result<Connection> {
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let mut connection = Connection {
        reader: BufReader::new(read),
        pings,
    };
    let info = connection.line().await?;
    if !info.starts_with("INFO ") {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let hello = r#"CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"lang":"model","version":"1","protocol":1,"name":"model-host"}"#;
    write
        .write_all(format!("{hello}\r\nPING\r\n").as_bytes())
        .await?;
    loop {
        match connection.line().await?.as_str() {
            "PONG" => break,
            line if line.starts_with("-ERR") => return Err(std::io::Error::other(line.to_owned())),
            _ => {}
        }
    }
    writer.replace(Some(write)).await;
    Ok(connection)
}

impl Connection {
    /// The next message. Answers PING by itself and asks for life after long silence.
    ///
    /// # Errors
    /// The connection ended or was found dead.
    pub async fn next(&mut self, writer: &Writer) -> std::io::Result<Message> {
        let mut asked = false;
        loop {
            let patience = if asked { PONG_WITHIN } else { PING_AFTER };
            let line = match self.pings {
                false => self.line().await?,
                true => match timeout_at(Instant::now() + patience, self.reader.fill_buf()).await {
                    Ok(_) => self.line().await?,
                    Err(_) if asked => return Err(std::io::ErrorKind::TimedOut.into()),
                    Err(_) => {
                        writer.send(b"PING\r\n").await?;
                        asked = true;
                        continue;
                    }
                },
            };
            asked = false;
            if line == "PING" {
                writer.send(b"PONG\r\n").await?;
            } else if let Some(rest) = line.strip_prefix("MSG ") {
                return self.message(rest, false).await;
            } else if let Some(rest) = line.strip_prefix("HMSG ") {
                return self.message(rest, true).await;
            }
        }
    }

    async fn message(&mut self, line: &str, has_headers: bool) -> std::io::Result<Message> {
        let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidData);
        let tokens: Vec<&str> = line.split_ascii_whitespace().collect();
        let sizes = if has_headers { 2 } else { 1 };
        let split = tokens
            .len()
            .checked_sub(sizes)
            .filter(|n| *n >= 2)
            .ok_or_else(invalid)?;
        let (names, numbers) = tokens.split_at(split);
        let size = |n: usize| -> std::io::Result<usize> {
            let text = numbers.get(n).ok_or_else(invalid)?;
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
            reply: names.get(2).map(|reply| (*reply).to_owned()),
            has_headers,
            payload: payload.slice(header_bytes.min(total)..),
        })
    }

    async fn line(&mut self) -> std::io::Result<String> {
        let mut line = Vec::new();
        let mut limited = (&mut self.reader).take(LINE_BYTES_MAX as u64);
        if limited.read_until(b'\n', &mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&line);
        Ok(text.trim_end().to_owned())
    }
}
