//! The broker of a run: embedded, a nats-server started for the run, or an existing broker.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use berth_broker::{Broker, BrokerError, BrokerOptions};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::process::{Process, ProcessError};
use super::program;
use crate::wire::nats::without_credentials;

/// Time within which a nats-server must listen.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval at which the port of a nats-server is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Default port of a URL.
const DEFAULT_PORT: u16 = 4222;

/// The broker to use.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum BrokerChoice {
    /// A broker in this process.
    #[default]
    Embedded,
    /// A nats-server from `BERTH_NATS_SERVER` or the PATH.
    NatsServer,
    /// An existing broker.
    Url(String),
}

/// Displays a URL without its credentials.
impl fmt::Display for BrokerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BrokerChoice::Embedded => f.write_str("embedded"),
            BrokerChoice::NatsServer => f.write_str("nats-server"),
            BrokerChoice::Url(url) => f.write_str(&without_credentials(url)),
        }
    }
}

impl fmt::Debug for BrokerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for BrokerChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<BrokerChoice, String> {
        match text {
            "embedded" => Ok(BrokerChoice::Embedded),
            "nats-server" => Ok(BrokerChoice::NatsServer),
            url if url.starts_with("nats://") => Ok(BrokerChoice::Url(url.to_owned())),
            _ => Err("expected `embedded`, `nats-server` or a URL that begins with nats://".into()),
        }
    }
}

/// Reasons why no broker is available.
#[derive(Debug, thiserror::Error)]
pub enum BrokerStartError {
    /// The embedded broker cannot start.
    #[error("cannot start the embedded broker")]
    Embedded(#[from] BrokerError),
    /// No nats-server was found.
    #[error("cannot find nats-server: set BERTH_NATS_SERVER or add it to the PATH")]
    NotFound,
    /// nats-server cannot be launched.
    #[error("cannot launch nats-server")]
    Launch(#[from] ProcessError),
    /// nats-server does not listen within the timeout.
    #[error("nats-server does not listen: {0}")]
    NotListening(String),
    /// No directory for the files of nats-server can be created.
    #[error("cannot create a directory for nats-server")]
    Directory(#[source] std::io::Error),
    /// The address in the URL cannot be resolved.
    #[error("cannot resolve the address of the broker {0}")]
    Unresolved(String),
}

/// A running broker.
#[derive(Debug)]
pub struct RunningBroker {
    /// Name for reports: `embedded`, `nats-server`, or the URL without credentials.
    pub name: String,
    /// URL for the suite's own connection.
    pub url: String,
    /// Address of the broker.
    pub addr: SocketAddr,
    /// `user:password@` from the URL.
    pub credentials: String,
    _resources: Resources,
}

/// Resources that must live as long as the broker.
#[derive(Debug)]
enum Resources {
    Embedded(#[expect(dead_code, reason = "dropped at the end of the run")] Broker),
    Server(
        #[expect(dead_code, reason = "dropped at the end of the run")] Process,
        #[expect(dead_code, reason = "contains the files of the server")] TempDir,
    ),
    External,
}

/// Starts the broker, or resolves the address of an existing one.
///
/// # Errors
/// Fails if the broker cannot be started or resolved. An existing broker is not contacted.
pub async fn start(choice: &BrokerChoice) -> Result<RunningBroker, BrokerStartError> {
    match choice {
        BrokerChoice::Embedded => {
            let broker = Broker::start(BrokerOptions::default()).await?;
            Ok(RunningBroker {
                name: "embedded".to_owned(),
                url: broker.url(),
                addr: broker.addr(),
                credentials: String::new(),
                _resources: Resources::Embedded(broker),
            })
        }
        BrokerChoice::NatsServer => {
            let server = program::find("BERTH_NATS_SERVER", "nats-server")
                .ok_or(BrokerStartError::NotFound)?;
            launch(server).await
        }
        BrokerChoice::Url(url) => {
            let (credentials, addr) = resolve(url)?;
            let name = choice.to_string();
            Ok(RunningBroker {
                name,
                url: url.clone(),
                addr,
                credentials,
                _resources: Resources::External,
            })
        }
    }
}

async fn launch(server: PathBuf) -> Result<RunningBroker, BrokerStartError> {
    let dir = tempfile::tempdir().map_err(BrokerStartError::Directory)?;
    let ports = dir.path().display().to_string();
    let command: Vec<String> = [
        server.display().to_string(),
        "--addr".into(),
        "127.0.0.1".into(),
        "--port".into(),
        // The server selects a port and writes it to a file, so that parallel runs do not conflict.
        "-1".into(),
        "--ports_file_dir".into(),
        ports,
    ]
    .into();
    let process = Process::launch(&command, &Default::default())?;
    let started_at = Instant::now();
    let addr = loop {
        if let Some(addr) = read_ports_file(&dir)
            && TcpStream::connect(addr).await.is_ok()
        {
            break addr;
        }
        if process.has_exited() || started_at.elapsed() > STARTUP_TIMEOUT {
            return Err(BrokerStartError::NotListening(process.log()));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    };
    Ok(RunningBroker {
        name: "nats-server".to_owned(),
        url: format!("nats://{addr}"),
        addr,
        credentials: String::new(),
        _resources: Resources::Server(process, dir),
    })
}

/// Reads the ports file of nats-server: `{"nats": ["nats://127.0.0.1:41234"], ...}`.
fn read_ports_file(dir: &TempDir) -> Option<SocketAddr> {
    let file = std::fs::read_dir(dir.path())
        .ok()?
        .flatten()
        .find(|entry| {
            entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "ports")
        })?;
    let text = std::fs::read_to_string(file.path()).ok()?;
    let ports: serde_json::Value = serde_json::from_str(&text).ok()?;
    ports
        .get("nats")?
        .get(0)?
        .as_str()?
        .strip_prefix("nats://")?
        .parse()
        .ok()
}

fn resolve(url: &str) -> Result<(String, SocketAddr), BrokerStartError> {
    let unresolved = || BrokerStartError::Unresolved(without_credentials(url));
    let rest = url.strip_prefix("nats://").unwrap_or(url);
    let rest = rest.split('/').next().unwrap_or(rest);
    let (credentials, authority) = match rest.rsplit_once('@') {
        Some((credentials, authority)) => (format!("{credentials}@"), authority),
        None => (String::new(), rest),
    };
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let authority = if has_port {
        authority.to_owned()
    } else {
        format!("{authority}:{DEFAULT_PORT}")
    };
    let addr = authority
        .to_socket_addrs()
        .ok()
        .and_then(|mut addrs| addrs.next());
    Ok((credentials, addr.ok_or_else(unresolved)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_urls_with_and_without_port() {
        let (credentials, addr) = resolve("nats://u:p@127.0.0.1").unwrap();
        assert_eq!((credentials.as_str(), addr.port()), ("u:p@", 4222));
        assert_eq!(resolve("nats://127.0.0.1:9").unwrap().1.port(), 9);
        assert!(resolve("nats://nowhere.invalid:1").is_err());
    }

    #[test]
    fn display_and_debug_contain_no_credentials() {
        let choice = BrokerChoice::Url("nats://user:hidden@h:1".to_owned());
        assert_eq!(format!("{choice} {choice:?}"), "nats://h:1 nats://h:1");
    }

    #[test]
    fn parses_choices() {
        assert_eq!("embedded".parse(), Ok(BrokerChoice::Embedded));
        assert_eq!("nats-server".parse(), Ok(BrokerChoice::NatsServer));
        assert!("mqtt://x".parse::<BrokerChoice>().is_err());
    }
}
