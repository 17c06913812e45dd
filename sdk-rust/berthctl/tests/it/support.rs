//! Fixtures: a broker, a host, and calls of `berthctl`.

use std::process::{Command, Output, Stdio};

use berth_broker::{Broker, BrokerOptions};
use berth_sdk::ConnectOptions;
use berth_sdk::grpc::{HostEndpoints, Listener};
use berth_sdk::host::{
    Connection, Description, Host, ServeOptions, StartError, StartRequest, serve,
};
use berth_sdk::proto::WitInterface;
use tokio::runtime::Runtime;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A fake host: image `never:1` stays STARTING, and `missing:1` fails to start.
struct FakeHost;

impl Host for FakeHost {
    type Instance = ();

    fn describe(&self) -> Description {
        Description {
            hostname: "fake.example".into(),
            friendly_name: "fake-1".into(),
            version: "7.8.9".into(),
            labels: [("hostgroup".to_owned(), "fakes".to_owned())].into(),
            http_port: 8000,
            system_memory_free: 3 << 30,
            imports: vec![WitInterface {
                package: "config".into(),
                ..WitInterface::default()
            }],
            ..Description::default()
        }
    }

    async fn start(&self, request: StartRequest) -> Result<(), StartError> {
        let world = request.workload.wit_world.unwrap_or_default();
        let image = world
            .components
            .first()
            .map_or("", |component| component.image.as_str());
        match image {
            "never:1" => std::future::pending().await,
            "missing:1" => Err(StartError::new(
                "no image missing:1\u{1b}[31m in the registry",
            )),
            _ => {
                let host = world
                    .host_interfaces
                    .first()
                    .map(|http| http.config["host"].clone());
                request
                    .reporter
                    .running(format!("{image} on {}", host.unwrap_or_default()));
                Ok(())
            }
        }
    }

    async fn stop(&self, (): ()) {}
}

/// A broker with one host.
pub struct Fixture {
    pub url: String,
    pub host_id: String,
    _runtime: Runtime,
    _broker: Broker,
    _host: DropGuard,
}

impl Fixture {
    pub fn start() -> Self {
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
            FakeHost,
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

    /// Runs `berthctl`.
    pub fn berthctl(&self, arguments: &[&str]) -> Outcome {
        Outcome::new(
            berthctl(&self.url, arguments)
                .stdin(Stdio::null())
                .output()
                .unwrap(),
        )
    }

    pub fn berthctl_with_stdin(&self, arguments: &[&str], stdin: &str) -> Outcome {
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
        Outcome::new(child.wait_with_output().unwrap())
    }
}

/// A host without NATS.
pub struct GrpcFixture {
    pub url: String,
    pub host_id: String,
    _runtime: Runtime,
    _host: DropGuard,
}

impl GrpcFixture {
    pub fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let address = ([127, 0, 0, 1], 0).into();
        let listener = runtime.block_on(Listener::bind(address, None)).unwrap();
        let (url, options, shutdown) = (
            listener.url("127.0.0.1"),
            ServeOptions::default(),
            CancellationToken::new(),
        );
        let host_id = options.host_id.clone();
        let connection = Connection::over_grpc(HostEndpoints {
            listener: Some(listener),
            ..HostEndpoints::default()
        });
        runtime.spawn(serve(connection, options, FakeHost, shutdown.clone()));
        Self {
            url,
            host_id,
            _runtime: runtime,
            _host: shutdown.drop_guard(),
        }
    }

    /// Runs `berthctl --grpc-url` without a broker.
    pub fn berthctl(&self, arguments: &[&str]) -> Outcome {
        let mut command = berthctl("nats://127.0.0.1:1", arguments);
        command.args(["--grpc-url", &self.url]).stdin(Stdio::null());
        Outcome::new(command.output().unwrap())
    }
}

/// Returns a `berthctl` command without the `BERTH_` variables of the caller.
pub fn berthctl(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berthctl"));
    let inherited =
        std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("BERTH_"));
    for (key, _) in inherited {
        command.env_remove(key);
    }
    command.env("BERTH_NATS_URL", url).args(arguments);
    command
}

/// Exit code and output of a call.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn new(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Asserts the exit code.
    #[track_caller]
    pub fn exits_with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}
