//! The guests of the model host: scripts of steps, as JSON in an OCI layer.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::spec::roles::{Kind, Role};

/// Media type of the layer that holds a script.
pub const MEDIA_TYPE: &str = "application/vnd.berth.model-program.v1+json";

/// Maximum time for a beacon, after which the guest continues without a response.
const BEACON_TIMEOUT: Duration = Duration::from_secs(2);

/// Script of a guest.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Steps of a service; absent if the script has no entry point.
    run: Option<Vec<Step>>,
}

/// One step of a run.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Step {
    Beacon(String),
    BeaconMemory,
    SleepMs(u64),
    BeaconForever(String),
    Wait,
    Succeed,
    Fail,
    Trap,
    Exit(u8),
}

/// Result of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// `run` returned ok.
    Returned,
    /// `run` returned an error.
    Failed,
    /// The guest trapped.
    Trapped,
    /// The guest exited with this code.
    Exited(u8),
}

/// Memory of an instance: records whether a run has written to it.
#[derive(Debug, Default)]
pub struct Memory {
    written: bool,
}

impl Program {
    /// Parses the content of a layer.
    ///
    /// # Errors
    /// Returns a description of the error if `bytes` is not a script.
    pub fn parse(bytes: &[u8]) -> Result<Program, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("not a script: {error}"))
    }

    /// Whether the script has an entry point, without which it cannot run as a service.
    #[must_use]
    pub fn has_entry_point(&self) -> bool {
        self.run.is_some()
    }

    /// Runs the steps and sends beacons to `beacon`, which is `HOST:PORT/TOKEN`.
    ///
    /// Cancel safe: the run ends at the current step.
    pub async fn run(&self, beacon: Option<&str>, memory: &mut Memory) -> End {
        for step in self.run.iter().flatten() {
            match step {
                Step::Beacon(message) => send(beacon, message).await,
                Step::BeaconMemory => {
                    let message = if memory.written { "stale" } else { "fresh" };
                    memory.written = true;
                    send(beacon, message).await;
                }
                Step::SleepMs(ms) => tokio::time::sleep(Duration::from_millis(*ms)).await,
                Step::BeaconForever(message) => loop {
                    send(beacon, message).await;
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

/// Returns the script for `role`, or `None` if the model host cannot play the role.
#[must_use]
pub fn artifact(role: Role) -> Option<Bytes> {
    let steps = match role {
        Role::ServiceRun => r#"[{"beacon":"up"},"wait"]"#,
        Role::ServicePing => r#"[{"beacon-forever":"ping"}]"#,
        Role::ServiceOk => r#"[{"beacon":"run"},"succeed"]"#,
        Role::ServiceErr => r#"[{"beacon":"run"},"fail"]"#,
        Role::ServiceTrap => r#"[{"beacon":"run"},"trap"]"#,
        Role::ServiceExit0 => r#"[{"beacon":"run"},{"exit":0}]"#,
        Role::ServiceExit1 => r#"[{"beacon":"run"},{"exit":1}]"#,
        Role::ServiceFresh => r#"["beacon-memory","trap"]"#,
        Role::ServiceErrAfter300Ms => r#"[{"beacon":"run"},{"sleep-ms":300},"fail"]"#,
        Role::ServiceErrAfter61S => r#"[{"beacon":"run"},{"sleep-ms":61000},"fail"]"#,
        Role::ServiceOkAfter300Ms => r#"[{"beacon":"run"},{"sleep-ms":300},"succeed"]"#,
        Role::CoreModule => return Some(Bytes::from_static(b"\0asm\x01\0\0\0")),
        Role::NoRun | Role::Idle | Role::Hello | Role::HelloTwo => {
            return Some(Bytes::from_static(b"{}"));
        }
        _ => return None,
    };
    debug_assert!(role.kind() == Kind::Service);
    Some(Bytes::from(format!(r#"{{"run":{steps}}}"#)))
}

/// Sends a beacon and waits for the response; errors are ignored.
pub async fn send(beacon: Option<&str>, message: &str) {
    if let Some((authority, token)) = beacon.and_then(|value| value.split_once('/')) {
        let path = format!("/{token}/{message}");
        if let Ok(Err(error)) = timeout(BEACON_TIMEOUT, get(authority, &path)).await {
            tracing::debug!(%error, "cannot send beacon");
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
    let response = sender.send_request(request).await;
    driver.abort();
    response?;
    Ok(())
}
