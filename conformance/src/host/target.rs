//! Target: how the suite launches or reaches a host, and what the host claims.

mod bridge;
pub mod default;
pub mod file;
mod launch;
mod monitor_feed;
mod running_host;

pub use self::bridge::Bridge;
pub use self::launch::{LaunchError, Launcher};
pub use self::running_host::RunningHost;
pub use crate::testbed::images::{ImageError, Images};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::spec::requirements::Profile;
use crate::spec::roles::Role;
use crate::testbed::registry::Artifact;

/// Default time within which a host must publish its first heartbeat.
pub const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// Host to judge.
#[derive(Clone, Debug)]
pub struct Target {
    /// Name in reports.
    pub name: String,
    /// Version, if known.
    pub version: Option<String>,
    /// Target file, if any.
    pub file: Option<PathBuf>,
    /// Access of the suite to the host.
    pub access: Access,
    /// Profiles that the host claims.
    pub profiles: Vec<Profile>,
    /// Features that the target declares present or absent.
    pub features: BTreeMap<String, bool>,
    /// Images of the target, by role.
    pub images: BTreeMap<Role, Artifact>,
    /// Whether the host can run only its own images.
    pub only_own_images: bool,
    /// Maximum number of concurrent checks.
    pub max_jobs: Option<usize>,
    /// Maximum number of concurrent host processes.
    pub max_hosts: Option<usize>,
}

impl Target {
    /// Creates a target that claims all profiles.
    pub fn new(name: impl Into<String>, access: Access) -> Target {
        Target {
            name: name.into(),
            version: None,
            file: None,
            access,
            profiles: Profile::ALL.to_vec(),
            features: BTreeMap::new(),
            images: BTreeMap::new(),
            only_own_images: false,
            max_jobs: None,
            max_hosts: None,
        }
    }

    /// Creates a target that a command launches, with placeholders such as `{nats_url}`.
    pub fn command<S: Into<String>>(command: impl IntoIterator<Item = S>) -> Target {
        let command: Vec<String> = command.into_iter().map(Into::into).collect();
        let program = command.first().map(String::as_str).unwrap_or_default();
        let name = program.rsplit('/').next().unwrap_or(program).to_owned();
        Target::new(name, Access::Launch(Launch::new(command)))
    }

    /// Returns the launch command, if the suite launches the host.
    pub fn launch(&self) -> Option<&Launch> {
        match &self.access {
            Access::Launch(launch) => Some(launch),
            Access::Running(_) | Access::Grpc(_) => None,
        }
    }
}

/// Access of the suite to a host.
#[derive(Clone, Debug)]
pub enum Access {
    /// The suite launches the host, as often as necessary.
    Launch(Launch),
    /// The host is already running.
    Running(ExistingHost),
    /// The host is already running and receives commands over gRPC.
    Grpc(GrpcHost),
}

/// Command that launches a host, and its timing.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Program and arguments, with placeholders.
    pub command: Vec<String>,
    /// Additional environment variables, with placeholders in the values.
    pub env: BTreeMap<String, String>,
    /// Time within which the host must publish its first heartbeat.
    pub ready_timeout: Duration,
    /// Signal that requests shutdown.
    pub stop_signal: Signal,
    /// `ADDRESS:PORT` of the ingress, if neither `{http_addr}` nor the heartbeat contains it.
    pub http_addr: Option<String>,
}

impl Launch {
    /// Creates a launch with the default settings.
    pub fn new(command: Vec<String>) -> Launch {
        Launch {
            command,
            env: BTreeMap::new(),
            ready_timeout: READY_TIMEOUT,
            stop_signal: Signal::SIGTERM,
            http_addr: None,
        }
    }

    /// Returns whether the command or the environment contains the placeholder.
    pub fn uses_placeholder(&self, placeholder: &str) -> bool {
        let placeholder = format!("{{{placeholder}}}");
        self.command
            .iter()
            .chain(self.env.values())
            .any(|argument| argument.contains(&placeholder))
    }
}

/// Host that is already running.
#[derive(Clone, Debug)]
pub struct ExistingHost {
    /// URL of the broker that the host is connected to.
    pub nats_url: String,
    /// ID of the host.
    pub host_id: String,
    /// `ADDRESS:PORT` of the ingress, if it differs from `httpPort` of the heartbeat on loopback.
    pub http_addr: Option<String>,
}

/// Host that is already running and receives commands over gRPC.
#[derive(Clone, Debug)]
pub struct GrpcHost {
    /// URL of `WorkloadService`: `http://ADDRESS:PORT`.
    pub url: String,
    /// `ADDRESS:PORT` of the ingress.
    pub http_addr: Option<String>,
}

/// Placeholders in a command and its environment, each with its description.
pub const PLACEHOLDERS: &[(&str, &str)] = &[
    ("nats_url", "URL of the broker: nats://127.0.0.1:PORT"),
    (
        "http_addr",
        "address for the HTTP ingress: 127.0.0.1:PORT, a free port",
    ),
    (
        "registry",
        "registry with the images: 127.0.0.1:PORT, plain HTTP",
    ),
    ("host_id", "host id to use, if the host accepts one"),
    ("dir", "empty directory for this host, removed at the end"),
];
