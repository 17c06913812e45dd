//! A broker, a host, and a way to call `berthctl`.

use std::process::{Command, Output, Stdio};

use berth_broker::{Broker, BrokerOptions};
use berth_sdk::ConnectOptions;
use berth_sdk::grpc::{HostSide, Listener};
use berth_sdk::host::{Connection, Description, Host, Refusal, ServeOptions, Start, serve};
use berth_sdk::proto::WitInterface;
use tokio::runtime::Runtime;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A host that runs nothing: `never:1` is STARTING for ever, `refuse:1` is refused.
struct Toy;

impl Host for Toy {
    type Instance = ();

    fn describe(&self) -> Description {
        Description {
            hostname: "toy.example".into(),
            friendly_name: "toy-1".into(),
            version: "7.8.9".into(),
            labels: [("hostgroup".to_owned(), "toys".to_owned())].into(),
            http_port: 8000,
            system_memory_free: 3 << 30,
            imports: vec![WitInterface {
                package: "config".into(),
                ..WitInterface::default()
            }],
            ..Description::default()
        }
    }

    async fn start(&self, start: Start) -> Result<(), Refusal> {
        let world = start.workload.wit_world.unwrap_or_default();
        let image = world
            .components
            .first()
            .map_or("", |component| component.image.as_str());
        match image {
            "never:1" => std::future::pending().await,
            "refuse:1" => Err(Refusal::new("no image refuse:1\u{1b}[31m in the registry")),
            _ => {
                let host = world
                    .host_interfaces
                    .first()
                    .map(|http| http.config["host"].clone());
                start
                    .reporter
                    .running(format!("{image} on {}", host.unwrap_or_default()));
                Ok(())
            }
        }
    }

    async fn stop(&self, (): ()) {}
}

/// A broker with one host on it.
pub struct Stage {
    pub url: String,
    pub host_id: String,
    _runtime: Runtime,
    _broker: Broker,
    _host: DropGuard,
}

impl Stage {
    pub fn set() -> Self {
        let runtime = Runtime::new().unwrap();
        let broker = runtime
            .block_on(Broker::start(BrokerOptions::default()))
            .unwrap();
        let options = ServeOptions {
            heartbeat_interval: std::time::Duration::from_secs(1),
            ..ServeOptions::default()
        };
        let (url, host_id, shutdown) = (
            broker.url(),
            options.host_id.clone(),
            CancellationToken::new(),
        );
        runtime.spawn(serve(
            ConnectOptions::to(url.as_str()),
            options,
            Toy,
            shutdown.clone(),
        ));
        Self {
            url,
            host_id,
            _runtime: runtime,
            _broker: broker,
            _host: shutdown.drop_guard(),
        }
    }

    /// Calls `berthctl` and waits for its end.
    pub fn berthctl(&self, arguments: &[&str]) -> Ended {
        Ended::of(
            berthctl(&self.url, arguments)
                .stdin(Stdio::null())
                .output()
                .unwrap(),
        )
    }

    pub fn berthctl_reading(&self, arguments: &[&str], stdin: &str) -> Ended {
        use std::io::Write;
        let mut child = berthctl(&self.url, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(stdin.as_bytes())
            .unwrap();
        Ended::of(child.wait_with_output().unwrap())
    }
}

/// A host without NATS.
pub struct GrpcStage {
    pub url: String,
    pub host_id: String,
    _runtime: Runtime,
    _host: DropGuard,
}

impl GrpcStage {
    pub fn set() -> Self {
        let runtime = Runtime::new().unwrap();
        let any = ([127, 0, 0, 1], 0).into();
        let listener = runtime.block_on(Listener::bind(any, None)).unwrap();
        let (url, options, shutdown) = (
            listener.url("127.0.0.1"),
            ServeOptions::default(),
            CancellationToken::new(),
        );
        let host_id = options.host_id.clone();
        let connection = Connection::over_grpc(HostSide {
            listener: Some(listener),
            ..HostSide::default()
        });
        runtime.spawn(serve(connection, options, Toy, shutdown.clone()));
        Self {
            url,
            host_id,
            _runtime: runtime,
            _host: shutdown.drop_guard(),
        }
    }

    /// Calls `berthctl --grpc-url`, with no broker to be found, and waits for its end.
    pub fn berthctl(&self, arguments: &[&str]) -> Ended {
        let mut command = berthctl("nats://127.0.0.1:1", arguments);
        command.args(["--grpc-url", &self.url]).stdin(Stdio::null());
        Ended::of(command.output().unwrap())
    }
}

/// A command with nothing of the caller's environment that means something to it.
pub fn berthctl(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berthctl"));
    let ours = std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("BERTH_"));
    for (key, _) in ours {
        command.env_remove(key);
    }
    command.env("BERTH_NATS_URL", url).args(arguments);
    command
}

/// What a call came to.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Fails with everything that was said, unless it ended so.
    #[track_caller]
    pub fn with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}
