//! The broker of a run: the embedded one, a nats-server started for it, or one that is there already.

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

/// How long a nats-server may take until it listens.
const SERVER_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The port of a URL without one.
const DEFAULT_PORT: u16 = 4222;

/// Which broker to use.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum BrokerChoice {
    /// The one in this process.
    #[default]
    Embedded,
    /// A nats-server from `BERTH_NATS_SERVER` or the PATH.
    NatsServer,
    /// One that is there already.
    Url(String),
}

/// A URL is shown without its credentials.
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

/// No broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerStartError {
    /// The embedded one cannot listen.
    #[error("the embedded broker cannot start")]
    Embedded(#[from] BrokerError),
    /// There is no nats-server.
    #[error("there is no nats-server: set BERTH_NATS_SERVER or put it on the PATH")]
    NoServer,
    /// The nats-server cannot be launched.
    #[error("nats-server cannot be launched")]
    Launch(#[from] ProcessError),
    /// The nats-server does not listen.
    #[error("nats-server does not listen: {0}")]
    Silent(String),
    /// There is no place for its files.
    #[error("there is no directory for nats-server")]
    Directory(#[source] std::io::Error),
    /// The URL leads nowhere.
    #[error("the broker's address {0} cannot be resolved")]
    Address(String),
}

/// A broker that is up.
#[derive(Debug)]
pub struct RunningBroker {
    /// For reports: `embedded`, `nats-server`, or the URL without credentials.
    pub name: String,
    /// For the suite itself.
    pub url: String,
    /// Where it listens.
    pub addr: SocketAddr,
    /// `user:password@` of its URL.
    pub credentials: String,
    _keep: Keep,
}

#[derive(Debug)]
enum Keep {
    Embedded(#[expect(dead_code, reason = "lives as long as the run")] Broker),
    Server(
        #[expect(dead_code, reason = "lives as long as the run")] Process,
        #[expect(dead_code, reason = "holds its files")] TempDir,
    ),
    Nothing,
}

/// Brings up the broker, or finds it.
///
/// # Errors
/// It cannot be started or resolved. That nobody listens at a URL shows when the suite connects.
pub async fn start(choice: &BrokerChoice) -> Result<RunningBroker, BrokerStartError> {
    match choice {
        BrokerChoice::Embedded => {
            let broker = Broker::start(BrokerOptions::default()).await?;
            Ok(RunningBroker {
                name: "embedded".to_owned(),
                url: broker.url(),
                addr: broker.addr(),
                credentials: String::new(),
                _keep: Keep::Embedded(broker),
            })
        }
        BrokerChoice::NatsServer => {
            let server = program::find("BERTH_NATS_SERVER", "nats-server")
                .ok_or(BrokerStartError::NoServer)?;
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
                _keep: Keep::Nothing,
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
        // The server picks the port and writes it to a file, so that no two runs want the same.
        "-1".into(),
        "--ports_file_dir".into(),
        ports,
    ]
    .into();
    let process = Process::launch(&command, &Default::default())?;
    let began = Instant::now();
    let addr = loop {
        if let Some(addr) = written_port(&dir)
            && TcpStream::connect(addr).await.is_ok()
        {
            break addr;
        }
        if process.has_exited() || began.elapsed() > SERVER_WITHIN {
            return Err(BrokerStartError::Silent(process.log()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    Ok(RunningBroker {
        name: "nats-server".to_owned(),
        url: format!("nats://{addr}"),
        addr,
        credentials: String::new(),
        _keep: Keep::Server(process, dir),
    })
}

/// What the server wrote down: `{"nats": ["nats://127.0.0.1:41234"], ...}`.
fn written_port(dir: &TempDir) -> Option<SocketAddr> {
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
    let unresolved = || BrokerStartError::Address(without_credentials(url));
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
        .and_then(|mut found| found.next());
    Ok((credentials, addr.ok_or_else(unresolved)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let (credentials, addr) = resolve("nats://u:p@127.0.0.1").unwrap();
        assert_eq!((credentials.as_str(), addr.port()), ("u:p@", 4222));
        assert_eq!(resolve("nats://127.0.0.1:9").unwrap().1.port(), 9);
        assert!(resolve("nats://nowhere.invalid:1").is_err());
    }

    #[test]
    fn credentials_are_never_shown() {
        let choice = BrokerChoice::Url("nats://user:hidden@h:1".to_owned());
        assert_eq!(format!("{choice} {choice:?}"), "nats://h:1 nats://h:1");
    }

    #[test]
    fn choices_are_read() {
        assert_eq!("embedded".parse(), Ok(BrokerChoice::Embedded));
        assert_eq!("nats-server".parse(), Ok(BrokerChoice::NatsServer));
        assert!("mqtt://x".parse::<BrokerChoice>().is_err());
    }
}
