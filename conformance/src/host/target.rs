//! What is judged: how to launch or reach a host, and what it claims to be.

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

/// How long a host may take to show itself, unless the target says otherwise.
pub const READY_WITHIN: Duration = Duration::from_secs(30);

/// A host to judge.
#[derive(Clone, Debug)]
pub struct Target {
    /// What reports call it.
    pub name: String,
    /// Its version, when it is known.
    pub version: Option<String>,
    /// The file that describes it, if one does.
    pub file: Option<PathBuf>,
    /// How it is reached.
    pub access: Access,
    /// The profiles that it claims.
    pub profiles: Vec<Profile>,
    /// Features that it declares present or absent.
    pub features: BTreeMap<String, bool>,
    /// Its own images by role.
    pub images: BTreeMap<Role, Artifact>,
    /// It can run nothing but its own images.
    pub only_own_images: bool,
    /// At most so many checks at once.
    pub jobs_max: Option<usize>,
    /// At most so many processes of it at once.
    pub hosts_max: Option<usize>,
}

impl Target {
    /// A target with that access which claims everything.
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
            jobs_max: None,
            hosts_max: None,
        }
    }

    /// A target launched by a command, with placeholders such as `{nats_url}`.
    pub fn command<S: Into<String>>(command: impl IntoIterator<Item = S>) -> Target {
        let command: Vec<String> = command.into_iter().map(Into::into).collect();
        let program = command.first().map(String::as_str).unwrap_or_default();
        let name = program.rsplit('/').next().unwrap_or(program).to_owned();
        Target::new(name, Access::Launch(Launch::new(command)))
    }

    /// How it is launched, when it is.
    pub fn launch(&self) -> Option<&Launch> {
        match &self.access {
            Access::Launch(launch) => Some(launch),
            Access::Running(_) | Access::Grpc(_) => None,
        }
    }
}

/// How a host is reached.
#[derive(Clone, Debug)]
pub enum Access {
    /// The suite starts it, as often as it needs.
    Launch(Launch),
    /// Somebody else has started it.
    Running(Running),
    /// Somebody else has started it, and it takes commands by gRPC.
    Grpc(OverGrpc),
}

/// How to launch a host.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Program and arguments, with placeholders.
    pub command: Vec<String>,
    /// Additional environment, with placeholders in the values.
    pub env: BTreeMap<String, String>,
    /// How long it may take until it shows itself.
    pub ready_within: Duration,
    /// What asks it to end.
    pub stop_signal: Signal,
    /// `ADDRESS:PORT` of its ingress, when neither `{http_addr}` nor its heartbeat says it.
    pub http_addr: Option<String>,
}

impl Launch {
    /// A command without anything special.
    pub fn new(command: Vec<String>) -> Launch {
        Launch {
            command,
            env: BTreeMap::new(),
            ready_within: READY_WITHIN,
            stop_signal: Signal::SIGTERM,
            http_addr: None,
        }
    }

    /// Whether a placeholder occurs anywhere.
    pub fn uses(&self, placeholder: &str) -> bool {
        let marked = format!("{{{placeholder}}}");
        self.command
            .iter()
            .chain(self.env.values())
            .any(|word| word.contains(&marked))
    }
}

/// A host that runs already.
#[derive(Clone, Debug)]
pub struct Running {
    /// The broker that it is connected to.
    pub nats_url: String,
    /// Its id.
    pub host_id: String,
    /// `ADDRESS:PORT` of its ingress, when its heartbeat's `httpPort` on loopback is not it.
    pub http_addr: Option<String>,
}

/// A host that runs already and is reached by gRPC.
#[derive(Clone, Debug)]
pub struct OverGrpc {
    /// Where it serves `WorkloadService`: `http://ADDRESS:PORT`.
    pub url: String,
    /// `ADDRESS:PORT` of its ingress.
    pub http_addr: Option<String>,
}

/// The placeholders that a command and its environment may hold.
pub const PLACEHOLDERS: &[(&str, &str)] = &[
    ("nats_url", "where to connect: nats://127.0.0.1:PORT"),
    (
        "http_addr",
        "where to serve HTTP: 127.0.0.1:PORT, a port that is free",
    ),
    (
        "registry",
        "the registry with the images: 127.0.0.1:PORT, plain HTTP",
    ),
    (
        "host_id",
        "the id to use, when the host lets itself be given one",
    ),
    ("dir", "an empty directory of its own, removed at the end"),
];
