//! Target: the scheduler to judge, how it is launched, its intake, and its declared time limits.

pub mod default;
pub mod file;
mod running_scheduler;

pub use self::running_scheduler::{LaunchError, RunningScheduler, TappedBus};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::intake::ExecConfig;
use super::timings::Timings;
use crate::check::side::Side;
use crate::spec::requirements::Profile;

/// Default maximum time from the launch of a scheduler until it starts the canary.
pub const READY_WITHIN: Duration = Duration::from_secs(30);

/// Placeholders in the command, environment and intake of a scheduler, each with its description.
pub const PLACEHOLDERS: &[(&str, &str)] = &[
    ("nats_url", "URL of the broker: nats://127.0.0.1:PORT"),
    ("dir", "separate directory, initially empty"),
    (
        "kubeconfig",
        "kubeconfig file for the API server of the kube intake",
    ),
    (
        "namespace",
        "namespace of all objects of the kube intake, including those of the scheduler",
    ),
];

/// Scheduler to judge.
#[derive(Clone, Debug)]
pub struct Target {
    /// Name in reports.
    pub name: String,
    /// Version, if known.
    pub version: Option<String>,
    /// Target file, if there is one.
    pub file: Option<PathBuf>,
    /// Access to the scheduler.
    pub access: Access,
    /// Intake of the scheduler.
    pub intake: IntakeConfig,
    /// Claimed profiles.
    pub profiles: Vec<Profile>,
    /// Features that are declared present or absent.
    pub features: BTreeMap<String, bool>,
    /// Time limits by which the scheduler is judged.
    pub timings: Timings,
}

/// Access to a scheduler.
#[derive(Clone, Debug)]
pub enum Access {
    /// The suite launches the scheduler.
    Launch(Launch),
    /// The scheduler is already running.
    Running {
        /// URL of its broker.
        nats_url: String,
    },
}

/// Launch configuration of a scheduler.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Program and arguments, with placeholders.
    pub command: Vec<String>,
    /// Additional environment, with placeholders.
    pub env: BTreeMap<String, String>,
    /// Additional arguments that restrict each namespace to the hosts of its environment.
    pub isolation_args: Option<Vec<String>>,
    /// Additional arguments that enable leader election.
    pub leader_election_args: Option<Vec<String>>,
    /// Maximum time from the launch until the scheduler starts the canary.
    pub ready_within: Duration,
    /// Signal that stops the scheduler.
    pub stop_signal: Signal,
}

/// Configuration of an intake. Texts contain placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntakeConfig {
    /// Manifests in a directory, and status files.
    Dir {
        /// Directory of the manifests.
        manifests: String,
        /// Directory of the status files.
        status: String,
    },
    /// Commands of the scheduler.
    Exec(ExecConfig),
    /// Custom resources.
    Kube(KubernetesConfig),
}

/// Configuration of the kube intake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubernetesConfig {
    /// Kubeconfig file [default: `KUBECONFIG`].
    pub kubeconfig: Option<String>,
    /// Namespace of all objects [default: a new namespace].
    pub namespace: Option<String>,
}

impl Default for IntakeConfig {
    fn default() -> IntakeConfig {
        IntakeConfig::Dir {
            manifests: "{dir}".to_owned(),
            status: "{dir}/.berth".to_owned(),
        }
    }
}

impl Target {
    /// Returns a target with the directory intake that claims every profile.
    pub fn new(name: impl Into<String>, access: Access) -> Target {
        Target {
            name: name.into(),
            version: None,
            file: None,
            access,
            intake: IntakeConfig::default(),
            profiles: profiles(&IntakeConfig::default()),
            features: BTreeMap::new(),
            timings: Timings::default(),
        }
    }

    /// Returns a target that is launched by a command, with the directory intake.
    pub fn command<S: Into<String>>(command: impl IntoIterator<Item = S>) -> Target {
        let command: Vec<String> = command.into_iter().map(Into::into).collect();
        let program = command.first().map(String::as_str).unwrap_or_default();
        let name = program.rsplit('/').next().unwrap_or(program).to_owned();
        Target::new(name, Access::Launch(Launch::new(command)))
    }

    /// Sets the kube intake, and claims every profile, including the one that requires this intake.
    pub fn with_kubernetes(self, config: KubernetesConfig) -> Target {
        let intake = IntakeConfig::Kube(config);
        Target {
            profiles: profiles(&intake),
            intake,
            ..self
        }
    }

    /// Returns the target with the arguments that isolate environments from each other.
    pub fn with_isolation(&self) -> Option<Target> {
        self.with_arguments(self.launch()?.isolation_args.clone()?)
    }

    /// Returns the target with the arguments that enable leader election.
    pub fn with_leader_election(&self) -> Option<Target> {
        self.with_arguments(self.launch()?.leader_election_args.clone()?)
    }

    fn with_arguments(&self, arguments: Vec<String>) -> Option<Target> {
        let mut launch = self.launch()?.clone();
        launch.command.extend(arguments);
        Some(Target {
            access: Access::Launch(launch),
            ..self.clone()
        })
    }

    /// Returns the launch configuration, unless the scheduler is already running.
    pub fn launch(&self) -> Option<&Launch> {
        match &self.access {
            Access::Launch(launch) => Some(launch),
            Access::Running { .. } => None,
        }
    }
}

/// Returns the profiles that a scheduler with this intake can claim.
fn profiles(intake: &IntakeConfig) -> Vec<Profile> {
    let mut profiles = Side::Scheduler.profiles();
    let has_cluster = matches!(intake, IntakeConfig::Kube(_));
    profiles.retain(|profile| has_cluster || *profile != Profile::Kubernetes);
    profiles
}

impl Launch {
    /// Returns the configuration of a command with default settings.
    pub fn new(command: Vec<String>) -> Launch {
        Launch {
            command,
            env: BTreeMap::new(),
            isolation_args: None,
            leader_election_args: None,
            ready_within: READY_WITHIN,
            stop_signal: Signal::SIGTERM,
        }
    }
}
