//! Compares the performance of the embedded broker and nats-server, each in its own process.
//!
//! `cargo run --release -p berth-broker --example nats_server_comparison [SECONDS]` uses the
//! nats-server from `BERTH_NATS_SERVER` or the PATH. Every metric is measured for SECONDS (default
//! 1) in three rounds that alternate between the two brokers; the result is the median round.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use berth_broker::frame::{ClientOp, Limits, Message, Publish, ServerOp, ServerParser, Text};
use berth_broker::{Broker, BrokerOptions};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

type Failure = Box<dyn Error + Send + Sync>;

const ROUNDS: usize = 3;
const REQUESTERS: usize = 32;
const SUBSCRIBERS: usize = 8;
const PAYLOAD_BYTES: usize = 128;
/// Messages that a publisher may be ahead of its subscribers: enough to keep all of them busy.
const WINDOW: u64 = 4096;

#[derive(Clone, Copy)]
enum Metric {
    RoundTrip,
    FanIn,
    OneToOne,
    FanOut,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let argument = std::env::args().nth(1).unwrap_or_else(|| "1".to_owned());
    if argument == "serve" {
        return serve().await;
    }
    let duration = Duration::from_secs_f64(argument.parse()?);
    let embedded = ServerProcess::embedded().await?;
    let nats_server = ServerProcess::nats_server().await?;
    println!(
        "{:34} {:>12} {:>12} {:>7}",
        "", "berth-broker", "nats-server", "ratio"
    );
    for metric in [
        Metric::RoundTrip,
        Metric::FanIn,
        Metric::OneToOne,
        Metric::FanOut,
    ] {
        let (mut embedded_values, mut nats_server_values) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            embedded_values.push(metric.measure(embedded.addr, duration).await?);
            nats_server_values.push(metric.measure(nats_server.addr, duration).await?);
        }
        let (embedded, nats_server) = (median(embedded_values), median(nats_server_values));
        println!(
            "{:34} {embedded:>12.0} {nats_server:>12.0} {:>7.2}",
            metric.name(),
            embedded / nats_server
        );
    }
    Ok(())
}

/// Runs the embedded broker until standard input ends.
async fn serve() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let broker = runtime
        .spawn(Broker::start(BrokerOptions::default()))
        .await??;
    println!("{}", broker.addr());
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    runtime.shutdown_background();
    Ok(())
}

/// A broker in its own process.
struct ServerProcess {
    child: Child,
    addr: SocketAddr,
}

impl ServerProcess {
    async fn embedded() -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().ok_or("no output")?;
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line)?;
        Ok(Self {
            child,
            addr: line.trim().parse()?,
        })
    }

    async fn nats_server() -> Result<Self, Failure> {
        let program = std::env::var_os("BERTH_NATS_SERVER").unwrap_or_else(|| "nats-server".into());
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let child = Command::new(program)
            .args(["--addr", "127.0.0.1", "--port", &addr.port().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| {
                format!("cannot start nats-server (set BERTH_NATS_SERVER): {error}")
            })?;
        let process = Self { child, addr };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(addr).await.is_err() {
            if Instant::now() > deadline {
                return Err("nats-server does not listen".into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(process)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // The process may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Metric {
    fn name(self) -> &'static str {
        match self {
            Self::RoundTrip => "round trip of a request (µs)",
            Self::FanIn => "requests of 32 clients to one (/s)",
            Self::OneToOne => "messages to one subscriber (/s)",
            Self::FanOut => "messages to 8 subscribers (/s)",
        }
    }

    async fn measure(self, addr: SocketAddr, duration: Duration) -> Result<f64, Failure> {
        match self {
            Self::RoundTrip => {
                let per_second = requests(addr, 1, duration).await?;
                Ok(1e6 / per_second)
            }
            Self::FanIn => requests(addr, REQUESTERS, duration).await,
            Self::OneToOne => messages(addr, 1, duration).await,
            Self::FanOut => messages(addr, SUBSCRIBERS, duration).await,
        }
    }
}

/// Returns the requests per second that one service answers, with one request in flight per client.
async fn requests(addr: SocketAddr, clients: usize, duration: Duration) -> Result<f64, Failure> {
    let mut service = Client::connect(addr).await?;
    service.subscribe("svc.*").await?;
    let mut tasks = JoinSet::new();
    let mut requesters = Vec::new();
    for number in 0..clients {
        let mut client = Client::connect(addr).await?;
        client.subscribe(&format!("inbox.{number}.>")).await?;
        requesters.push(client);
    }
    let responder = tokio::spawn(async move {
        loop {
            for message in service.messages().await? {
                let reply = message.reply.ok_or("no reply subject")?;
                service.publish(&reply, None, message.payload);
            }
            service.flush().await?;
        }
        #[allow(unreachable_code, reason = "determines the type of the block")]
        Ok::<(), Failure>(())
    });
    let started_at = Instant::now();
    for (number, mut client) in requesters.into_iter().enumerate() {
        tasks.spawn(async move {
            let (subject, payload) = (Text::from(format!("svc.{number}")), payload());
            let mut count = 0_u64;
            while started_at.elapsed() < duration {
                let inbox = Text::from(format!("inbox.{number}.{count}"));
                client.publish(&subject, Some(inbox), payload.clone());
                client.flush().await?;
                count += client.messages().await?.len() as u64;
            }
            Ok::<u64, Failure>(count)
        });
    }
    let mut count = 0;
    while let Some(done) = tasks.join_next().await {
        count += done??;
    }
    responder.abort();
    Ok(count as f64 / started_at.elapsed().as_secs_f64())
}

/// Returns the messages per second that all subscribers together receive from one publisher.
async fn messages(addr: SocketAddr, count: usize, duration: Duration) -> Result<f64, Failure> {
    let mut subscribers = Vec::new();
    for _ in 0..count {
        let mut client = Client::connect(addr).await?;
        client.subscribe("feed").await?;
        subscribers.push(client);
    }
    let mut publisher = Client::connect(addr).await?;
    let (subject, payload) = (Text::from_static("feed"), payload());
    let (progress, mut received_counts) = tokio::sync::watch::channel(vec![0_u64; count]);
    let mut tasks = JoinSet::new();
    for (number, mut client) in subscribers.into_iter().enumerate() {
        let progress = progress.clone();
        tasks.spawn(async move {
            loop {
                let received = client.messages().await?.len() as u64;
                progress.send_modify(|progress| {
                    if let Some(count) = progress.get_mut(number) {
                        *count += received;
                    }
                });
            }
            #[allow(unreachable_code, reason = "determines the type of the block")]
            Ok::<(), Failure>(())
        });
    }
    let started_at = Instant::now();
    let mut sent = 0;
    while started_at.elapsed() < duration {
        for _ in 0..WINDOW / 8 {
            publisher.publish(&subject, None, payload.clone());
        }
        sent += WINDOW / 8;
        publisher.flush().await?;
        let keeping_up =
            |progress: &Vec<u64>| progress.iter().all(|received| received + WINDOW >= sent);
        received_counts.wait_for(keeping_up).await?;
    }
    received_counts
        .wait_for(|progress| progress.iter().all(|received| *received == sent))
        .await?;
    let elapsed = started_at.elapsed().as_secs_f64();
    Ok((sent * count as u64) as f64 / elapsed)
}

/// A client with minimal overhead.
struct Client {
    stream: TcpStream,
    parser: ServerParser,
    input: BytesMut,
    output: BytesMut,
}

impl Client {
    async fn connect(addr: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream,
            parser: ServerParser::new(Limits::for_servers()),
            input: BytesMut::new(),
            output: BytesMut::new(),
        };
        let json = r#"{"verbose":false,"pedantic":false,"headers":true,"no_responders":true}"#;
        client.encode(&ClientOp::Connect(json.into()));
        client.sync().await?;
        Ok(client)
    }

    async fn subscribe(&mut self, pattern: &str) -> Result<(), Failure> {
        let (subject, sid) = (pattern.into(), "1".into());
        self.encode(&ClientOp::Subscribe {
            subject,
            queue: None,
            sid,
        });
        self.sync().await
    }

    fn publish(&mut self, subject: &Text, reply: Option<Text>, payload: Bytes) {
        let subject = subject.clone();
        self.encode(&ClientOp::Publish(Publish {
            subject,
            reply,
            headers: None,
            payload,
        }));
    }

    fn encode(&mut self, op: &ClientOp) {
        op.encode(&mut self.output);
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.stream.write_all_buf(&mut self.output).await?)
    }

    async fn sync(&mut self) -> Result<(), Failure> {
        self.encode(&ClientOp::Ping);
        self.flush().await?;
        loop {
            if self.read().await?.contains(&ServerOp::Pong) {
                return Ok(());
            }
        }
    }

    /// Waits for at least one message.
    async fn messages(&mut self) -> Result<Vec<Message>, Failure> {
        loop {
            let mut messages = Vec::new();
            for op in self.read().await? {
                match op {
                    ServerOp::Message(message) => messages.push(message),
                    ServerOp::Ping => {
                        self.encode(&ClientOp::Pong);
                        self.flush().await?;
                    }
                    ServerOp::Error(text) => return Err(text.to_string().into()),
                    _ => {}
                }
            }
            if !messages.is_empty() {
                return Ok(messages);
            }
        }
    }

    async fn read(&mut self) -> Result<Vec<ServerOp>, Failure> {
        self.input.reserve(64 * 1024);
        let read = self.stream.read_buf(&mut self.input);
        if timeout(Duration::from_secs(10), read).await?? == 0 {
            return Err("the broker closed the connection".into());
        }
        let mut ops = Vec::new();
        while let Some(op) = self.parser.next(&mut self.input)? {
            ops.push(op);
        }
        Ok(ops)
    }
}

fn payload() -> Bytes {
    Bytes::from_static(&[b'x'; PAYLOAD_BYTES])
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
