//! A server process that serves the component, ready for requests, and killed when dropped.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use berth_broker::{Broker, BrokerOptions};
use berth_conformance::testbed::registry::{Artifact, Registry};
use berth_sdk::ConnectOptions;
use berth_sdk::bus::Bus;
use berth_sdk::proto::{Component, WitInterface, WitWorld, Workload};
use berth_sdk::scheduler::HostClient;
use bytes::Bytes;
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Time limit until a server is ready: generous, because compiling hello takes a few milliseconds.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval of the readiness checks.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Host name under which `berth-host` routes to the component.
const HOST: &str = "hello.bench";
const HOST_ID: &str = "bench";

/// One of the compared servers.
pub struct ServerProcess {
    pub name: String,
    pub address: SocketAddr,
    pub host: &'static str,
    process: Child,
    /// Resources that must exist as long as the process.
    _resources: Box<dyn Send>,
}

impl ServerProcess {
    /// Starts `wasmtime serve` with the component from a file.
    pub async fn wasmtime_serve(program: &Path, component: &Bytes) -> Result<Self, Box<dyn Error>> {
        let version = Command::new(program).arg("--version").output().await?;
        let version = String::from_utf8_lossy(&version.stdout);
        let version = version
            .split_whitespace()
            .nth(1)
            .unwrap_or("of unknown version")
            .to_owned();
        let file = NamedTempFile::with_suffix(".wasm")?;
        tokio::fs::write(file.path(), component).await?;
        // The component reads its environment, which `-S cli` allows.
        let mut process = Command::new(program)
            .args(["serve", "-S", "cli", "--addr", "127.0.0.1:0"])
            .arg(file.path())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stderr = process.stderr.take().ok_or("wasmtime has no stderr")?;
        let (address, reader) =
            tokio::time::timeout(READY_TIMEOUT, read_address(BufReader::new(stderr))).await??;
        let name = format!("wasmtime serve {version}");
        Ok(Self {
            name,
            address,
            host: "localhost",
            process,
            _resources: Box::new((file, reader)),
        })
    }

    /// Starts `berth-host` and, over NATS, a workload with the component from a registry.
    pub async fn berth_host(component: Bytes) -> Result<Self, Box<dyn Error>> {
        let broker = Broker::start(BrokerOptions::default()).await?;
        let registry = Registry::start().await?;
        let nats_url = format!("nats://{}", broker.addr());
        let process = Command::new(env!("CARGO_BIN_EXE_berth-host"))
            .args([
                "--nats-url",
                &nats_url,
                "--host-id",
                HOST_ID,
                "--http-addr",
                "127.0.0.1:0",
            ])
            .args([
                "--insecure-registry",
                registry.authority(),
                "--log-level",
                "warn",
            ])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let image = registry
            .push("hello", "1", Artifact::wasm(component))
            .reference;
        let bus = Bus::connect(&ConnectOptions::to(nats_url)).await?;
        let client = HostClient::new(bus.clone(), HOST_ID)?;
        let port = tokio::time::timeout(READY_TIMEOUT, http_port(&client)).await?;
        client.start("hello", &workload(image)).await?;
        let name = format!("berth-host {}", env!("CARGO_PKG_VERSION"));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Ok(Self {
            name,
            address,
            host: HOST,
            process,
            _resources: Box::new((broker, registry, bus)),
        })
    }

    /// Returns the processor time that the process has used, where the system reports it.
    pub fn cpu_time(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()?)).ok()?;
        // The second field is the name in parentheses, which may contain anything. User and system
        // time are the fourteenth and the fifteenth field, in hundredths of a second on every
        // Linux.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
    }
}

/// Reads until the process prints its address. Continues to read in the background, so that the
/// process never blocks on a full pipe.
async fn read_address(
    stderr: BufReader<tokio::process::ChildStderr>,
) -> io::Result<(SocketAddr, tokio_util::task::AbortOnDropHandle<()>)> {
    let mut lines = stderr.lines();
    let mut output = String::new();
    while let Some(line) = lines.next_line().await? {
        if let Some((_, address)) = line.split_once("http://")
            && let Ok(address) = address.trim_end_matches('/').parse()
        {
            let reader =
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok((address, tokio_util::task::AbortOnDropHandle::new(reader)));
        }
        output = format!("{output}\n{line}");
    }
    Err(io::Error::other(format!(
        "wasmtime serve ended; its output:{output}"
    )))
}

/// Returns the port of the ingress as soon as the host responds.
async fn http_port(client: &HostClient) -> u16 {
    loop {
        if let Ok(heartbeat) = client.heartbeat().await
            && let Ok(port) = u16::try_from(heartbeat.http_port)
        {
            return port;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn workload(image: String) -> Workload {
    let http = WitInterface {
        namespace: "wasi".into(),
        package: "http".into(),
        interfaces: vec!["incoming-handler".into()],
        config: [("host".to_owned(), HOST.to_owned())].into(),
        ..WitInterface::default()
    };
    let component = Component {
        name: "hello".into(),
        image,
        ..Component::default()
    };
    let world = WitWorld {
        components: vec![component],
        host_interfaces: vec![http],
    };
    Workload {
        namespace: "bench".into(),
        name: "hello".into(),
        wit_world: Some(world),
        ..Workload::default()
    }
}
