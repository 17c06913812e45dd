//! The broker under test: the embedded broker or a real nats-server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use berth_broker::{Auth, Broker, BrokerOptions};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// Time limit for the start of a server and for every expected event.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Interval at which a condition is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Kind of broker under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerKind {
    Embedded,
    NatsServer,
}

pub enum Server {
    Embedded(Broker),
    NatsServer(NatsServer),
}

pub struct NatsServer {
    child: Child,
    options: BrokerOptions,
    dir: tempfile::TempDir,
    addr: SocketAddr,
}

impl ServerKind {
    /// Starts a server with the options except the address.
    pub async fn start(self, options: BrokerOptions) -> Server {
        match self {
            Self::Embedded => Server::Embedded(Broker::start(options).await.unwrap()),
            Self::NatsServer => Server::NatsServer(NatsServer::start(options).await),
        }
    }
}

impl Server {
    pub fn addr(&self) -> SocketAddr {
        match self {
            Self::Embedded(broker) => broker.addr(),
            Self::NatsServer(server) => server.addr,
        }
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.addr())
    }

    /// Connects a standard client.
    pub async fn client(&self) -> async_nats::Client {
        async_nats::connect(self.url()).await.unwrap()
    }

    /// Restarts the server on the same port.
    pub async fn restart(&mut self) {
        match self {
            Self::Embedded(broker) => broker.restart().await.unwrap(),
            Self::NatsServer(server) => server.restart().await,
        }
    }
}

impl NatsServer {
    async fn start(options: BrokerOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let child = spawn(dir.path(), &options, "-1");
        let addr = read_address(dir.path(), child.id()).await;
        Self {
            child,
            options,
            dir,
            addr,
        }
    }

    async fn restart(&mut self) {
        self.kill();
        self.child = spawn(
            self.dir.path(),
            &self.options,
            &self.addr.port().to_string(),
        );
        let addr = self.addr;
        eventually("the nats-server listens again", async || {
            TcpStream::connect(addr).await.is_ok()
        })
        .await;
    }

    fn kill(&mut self) {
        // The process may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until a condition holds.
pub async fn eventually(condition: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "timed out: {condition}");
        sleep(POLL_INTERVAL).await;
    }
}

fn spawn(dir: &Path, options: &BrokerOptions, port: &str) -> Child {
    let config = dir.join("nats.conf");
    std::fs::write(&config, configuration(options, port)).unwrap();
    let program = program();
    Command::new(&program)
        .arg("--config")
        .arg(config)
        .arg("--ports_file_dir")
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()))
}

fn configuration(options: &BrokerOptions, port: &str) -> String {
    let authorization = match &options.auth {
        Auth::None => String::new(),
        Auth::Token(token) => format!("authorization {{ token: \"{token}\" }}"),
        Auth::UserPassword { user, password } => {
            format!("authorization {{ user: \"{user}\", password: \"{password}\" }}")
        }
    };
    format!(
        "listen: \"127.0.0.1:{port}\"\nmax_payload: {}\nmax_pending: {}\nping_interval: \"{}ms\"\n\
         ping_max: {}\nwrite_deadline: \"{}ms\"\n{authorization}\n",
        options.max_payload_bytes,
        options.max_pending_bytes,
        options.ping_interval.as_millis(),
        options.max_pings_out,
        options.write_deadline.as_millis(),
    )
}

/// Returns the nats-server from `BERTH_NATS_SERVER`, or else from the PATH.
fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("BERTH_NATS_SERVER") {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).map(|dir| dir.join("nats-server"));
    candidates.find(|candidate| candidate.is_file()).expect(
        "these tests require nats-server: set BERTH_NATS_SERVER, add nats-server to the PATH, or \
         run `cargo xtask test`, which provides it",
    )
}

async fn read_address(dir: &Path, pid: u32) -> SocketAddr {
    let file = dir.join(format!("nats-server_{pid}.ports"));
    let mut address = None;
    eventually("nats-server writes its ports file", async || {
        let text = std::fs::read(&file).unwrap_or_default();
        let ports = serde_json::from_slice::<serde_json::Value>(&text).unwrap_or_default();
        address = ports["nats"][0]
            .as_str()
            .and_then(|url| url.strip_prefix("nats://")?.parse().ok());
        address.is_some()
    })
    .await;
    address.unwrap()
}
