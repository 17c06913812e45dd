//! The load: a fixed number of keep-alive connections, each with one request at a time, for a fixed time.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Longer than any answer to hello: whoever sends more is not answering it.
const ANSWER_BYTES_MAX: usize = 4096;
/// An answer that takes longer is a failure of the contestant, not a measurement.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Whom to ask, and under which name.
#[derive(Clone, Copy)]
pub struct Load {
    pub address: SocketAddr,
    pub host: &'static str,
}

/// What a run counted.
#[derive(Clone, Default)]
pub struct Tally {
    pub elapsed: Duration,
    /// One for each answer, in no order.
    pub latencies_us: Vec<u32>,
}

impl Load {
    /// Asks over `connections` connections for `duration`. Any answer but hello ends the run with an error.
    pub async fn run(&self, connections: u32, duration: Duration) -> io::Result<Tally> {
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
            tasks.spawn(async move { load.ask_until(stream, started + duration).await });
        }
        let mut latencies_us = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            latencies_us.extend(ended.map_err(io::Error::other)??);
        }
        Ok(Tally {
            elapsed: started.elapsed(),
            latencies_us,
        })
    }

    async fn ask_until(self, mut stream: TcpStream, end: Instant) -> io::Result<Vec<u32>> {
        let request = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", self.host);
        let (mut latencies_us, mut answer) = (Vec::new(), Vec::with_capacity(ANSWER_BYTES_MAX));
        loop {
            let asked = Instant::now();
            if asked >= end {
                return Ok(latencies_us);
            }
            answer.clear();
            stream.write_all(request.as_bytes()).await?;
            let read = read_answer(&mut stream, &mut answer);
            tokio::time::timeout(ANSWER_TIMEOUT, read).await??;
            latencies_us.push(u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
    }
}

async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> io::Result<()> {
    while !is_complete(answer)? {
        if answer.len() >= ANSWER_BYTES_MAX {
            return Err(unexpected(answer));
        }
        if stream.read_buf(answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Whether the answer is here; an error when it is another than 200 with `hello`.
fn is_complete(answer: &[u8]) -> io::Result<bool> {
    let Some(end) = answer.windows(4).position(|it| it == b"\r\n\r\n") else {
        return Ok(false);
    };
    let (head, body) = answer.split_at(end + 4);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    if !head.starts_with("http/1.1 200 ") {
        return Err(unexpected(answer));
    }
    let whole: &[u8] = match head.contains("transfer-encoding: chunked") {
        true => b"5\r\nhello\r\n0\r\n\r\n",
        false => b"hello",
    };
    match body {
        body if body == whole => Ok(true),
        body if whole.starts_with(body) => Ok(false),
        _ => Err(unexpected(answer)),
    }
}

fn unexpected(answer: &[u8]) -> io::Error {
    io::Error::other(format!(
        "not the answer of hello: {:?}",
        String::from_utf8_lossy(answer)
    ))
}
