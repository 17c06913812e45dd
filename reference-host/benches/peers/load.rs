//! The load: a fixed number of keep-alive connections, each with one request at a time, for a fixed
//! time.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Size limit of a response, larger than any correct one.
const RESPONSE_BYTES_MAX: usize = 4096;
/// Time limit of a response. A slower one is a failure of the server, not a measurement.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The server to send requests to, and the host name to use.
#[derive(Clone, Copy)]
pub struct Load {
    pub address: SocketAddr,
    pub host: &'static str,
}

/// The measurements of one run.
#[derive(Clone, Default)]
pub struct Measurements {
    pub elapsed: Duration,
    /// One for each response, unordered.
    pub latencies_us: Vec<u32>,
}

impl Load {
    /// Sends requests over `connections` connections for `duration`. Any response other than status
    /// 200 with the body `hello` is an error.
    pub async fn run(&self, connections: u32, duration: Duration) -> io::Result<Measurements> {
        let mut streams = Vec::new();
        for _ in 0..connections {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
        let started = Instant::now();
        let mut tasks: JoinSet<io::Result<Vec<u32>>> = JoinSet::new();
        for stream in streams {
            let load = *self;
            tasks.spawn(async move { load.send_until(stream, started + duration).await });
        }
        let mut latencies_us = Vec::new();
        while let Some(joined) = tasks.join_next().await {
            latencies_us.extend(joined.map_err(io::Error::other)??);
        }
        Ok(Measurements {
            elapsed: started.elapsed(),
            latencies_us,
        })
    }

    async fn send_until(self, mut stream: TcpStream, end: Instant) -> io::Result<Vec<u32>> {
        let request = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", self.host);
        let (mut latencies_us, mut response) = (Vec::new(), Vec::with_capacity(RESPONSE_BYTES_MAX));
        loop {
            let sent = Instant::now();
            if sent >= end {
                return Ok(latencies_us);
            }
            response.clear();
            stream.write_all(request.as_bytes()).await?;
            let read = read_response(&mut stream, &mut response);
            tokio::time::timeout(RESPONSE_TIMEOUT, read).await??;
            latencies_us.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
    }
}

async fn read_response(stream: &mut TcpStream, response: &mut Vec<u8>) -> io::Result<()> {
    while !is_complete(response)? {
        if response.len() >= RESPONSE_BYTES_MAX {
            return Err(unexpected(response));
        }
        if stream.read_buf(response).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Returns whether the response is complete. Any response other than status 200 with the body
/// `hello` is an error.
fn is_complete(response: &[u8]) -> io::Result<bool> {
    let Some(end) = response.windows(4).position(|it| it == b"\r\n\r\n") else {
        return Ok(false);
    };
    let (head, body) = response.split_at(end + 4);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    if !head.starts_with("http/1.1 200 ") {
        return Err(unexpected(response));
    }
    let whole: &[u8] = if head.contains("transfer-encoding: chunked") {
        b"5\r\nhello\r\n0\r\n\r\n"
    } else {
        b"hello"
    };
    match body {
        body if body == whole => Ok(true),
        body if whole.starts_with(body) => Ok(false),
        _ => Err(unexpected(response)),
    }
}

fn unexpected(response: &[u8]) -> io::Error {
    io::Error::other(format!(
        "unexpected response: {:?}",
        String::from_utf8_lossy(response)
    ))
}
