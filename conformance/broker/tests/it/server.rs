//! A broker to be tested: the embedded one or a real nats-server, started the same way.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use berth_broker::{Auth, Broker, BrokerOptions};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// How long a server may take to start, and anything to happen that should.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(10);

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
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

impl Kind {
    /// Starts a server with the options; their address is not looked at.
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

    /// A client that speaks as users' clients do.
    pub async fn client(&self) -> async_nats::Client {
        async_nats::connect(self.url()).await.unwrap()
    }

    /// Stops, and starts again on the same port.
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
        self.end();
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

    fn end(&mut self) {
        // It may have ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits until a condition holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(LOOK).await;
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
        .unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()))
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

/// The nats-server of `BERTH_NATS_SERVER`, or else of the PATH.
fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("BERTH_NATS_SERVER") {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).map(|dir| dir.join("nats-server"));
    candidates.find(|candidate| candidate.is_file()).expect(
        "these tests need a real nats-server: set BERTH_NATS_SERVER to its path, put it on the \
         PATH, or run them by `cargo xtask test`, which sets one up",
    )
}

async fn read_address(dir: &Path, pid: u32) -> SocketAddr {
    let file = dir.join(format!("nats-server_{pid}.ports"));
    let mut address = None;
    eventually("the nats-server says where it listens", async || {
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
