//! What the model host runs instead of components: a script of steps, as JSON, in an OCI layer.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::spec::roles::{Kind, Role};

/// The media type of the layer that holds a script.
pub const MEDIA_TYPE: &str = "application/vnd.berth.model-program.v1+json";

/// How long a beacon may take before the guest goes on without it.
const BEACON_TIMEOUT: Duration = Duration::from_secs(2);

/// A guest of the model host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The steps of a service. Absent: nothing to run.
    run: Option<Vec<Step>>,
}

/// One step of a run.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Step {
    Beacon(String),
    BeaconMemory,
    SleepMs(u64),
    BeatForever(String),
    Wait,
    Succeed,
    Fail,
    Trap,
    Exit(u8),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// `run` returned ok.
    Returned,
    /// `run` returned an error.
    Failed,
    /// The guest crashed.
    Trapped,
    /// The guest exited with this code.
    Exited(u8),
}

/// The memory of an instance, as far as a script can tell: whether a run has marked it.
#[derive(Debug, Default)]
pub struct Memory {
    marked: bool,
}

impl Program {
    /// Reads the bytes of a layer.
    ///
    /// # Errors
    /// The bytes are no script, in words.
    pub fn read(bytes: &[u8]) -> Result<Program, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("not a program: {error}"))
    }

    /// Whether there is something to run as a service.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.run.is_some()
    }

    /// Runs the steps; `beacon` is where beacons go, as `HOST:PORT/TOKEN`. May be dropped at any step.
    pub async fn run(&self, beacon: Option<&str>, memory: &mut Memory) -> End {
        for step in self.run.iter().flatten() {
            match step {
                Step::Beacon(what) => send(beacon, what).await,
                Step::BeaconMemory => {
                    let what = if memory.marked { "stale" } else { "fresh" };
                    memory.marked = true;
                    send(beacon, what).await;
                }
                Step::SleepMs(ms) => tokio::time::sleep(Duration::from_millis(*ms)).await,
                Step::BeatForever(what) => loop {
                    send(beacon, what).await;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                },
                Step::Wait => std::future::pending().await,
                Step::Succeed => return End::Returned,
                Step::Fail => return End::Failed,
                Step::Trap => return End::Trapped,
                Step::Exit(code) => return End::Exited(*code),
            }
        }
        End::Returned
    }
}

/// The artifact that plays `role` on the model host, if it can be played there.
#[must_use]
pub fn artifact(role: Role) -> Option<Bytes> {
    let steps = match role {
        Role::ServiceRun => r#"[{"beacon":"up"},"wait"]"#,
        Role::ServiceBeat => r#"[{"beat-forever":"beat"}]"#,
        Role::ServiceOk => r#"[{"beacon":"run"},"succeed"]"#,
        Role::ServiceErr => r#"[{"beacon":"run"},"fail"]"#,
        Role::ServiceTrap => r#"[{"beacon":"run"},"trap"]"#,
        Role::ServiceExit0 => r#"[{"beacon":"run"},{"exit":0}]"#,
        Role::ServiceExit1 => r#"[{"beacon":"run"},{"exit":1}]"#,
        Role::ServiceFresh => r#"["beacon-memory","trap"]"#,
        Role::ServiceSlowFail => r#"[{"beacon":"run"},{"sleep-ms":300},"fail"]"#,
        Role::ServiceLongFail => r#"[{"beacon":"run"},{"sleep-ms":61000},"fail"]"#,
        Role::ServiceOnce => r#"[{"beacon":"run"},{"sleep-ms":300},"succeed"]"#,
        Role::CoreModule => return Some(Bytes::from_static(b"\0asm\x01\0\0\0")),
        Role::NoRun | Role::Idle | Role::Hello | Role::HelloTwo => {
            return Some(Bytes::from_static(b"{}"));
        }
        _ => return None,
    };
    debug_assert!(role.kind() == Kind::Service);
    Some(Bytes::from(format!(r#"{{"run":{steps}}}"#)))
}

/// Sends a beacon and waits for the answer; a beacon that cannot be sent is not sent.
pub async fn send(beacon: Option<&str>, what: &str) {
    if let Some((authority, token)) = beacon.and_then(|value| value.split_once('/')) {
        let path = format!("/{token}/{what}");
        if let Ok(Err(error)) = timeout(BEACON_TIMEOUT, get(authority, &path)).await {
            tracing::debug!(%error, "beacon lost");
        }
    }
}

async fn get(authority: &str, path: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(authority).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = hyper::Request::get(path)
        .header("host", authority)
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await;
    driver.abort();
    answer?;
    Ok(())
}
