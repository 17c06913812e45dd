//! What is judged: how a scheduler is launched, how it is given its work, and which times it declares.

pub mod default;
pub mod file;
mod running_scheduler;

pub use self::running_scheduler::{Bus, LaunchError, RunningScheduler};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::intake::ExecPlan;
use super::timings::Timings;
use crate::check::side::Side;
use crate::spec::requirements::Profile;

/// How long a scheduler may take until it obeys.
pub const READY_WITHIN: Duration = Duration::from_secs(30);

/// The placeholders of a scheduler's command, environment and intake.
pub const PLACEHOLDERS: &[(&str, &str)] = &[
    ("nats_url", "where to connect: nats://127.0.0.1:PORT"),
    ("dir", "a directory of its own, empty at first"),
    (
        "kubeconfig",
        "a file with how the API server of the kube intake is reached",
    ),
    (
        "namespace",
        "where the kube intake has its objects, for those of the scheduler, too",
    ),
];

/// A scheduler to judge.
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
    /// How it is given its work.
    pub intake: IntakePlan,
    /// The profiles that it claims.
    pub profiles: Vec<Profile>,
    /// Features that it declares present or absent.
    pub features: BTreeMap<String, bool>,
    /// The times that it is judged by.
    pub timings: Timings,
}

/// How a scheduler is reached.
#[derive(Clone, Debug)]
pub enum Access {
    /// The suite starts it.
    Launch(Launch),
    /// It runs already, on this broker.
    Running {
        /// The broker.
        nats_url: String,
    },
}

/// How a scheduler is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Program and arguments, with placeholders.
    pub command: Vec<String>,
    /// Additional environment, with placeholders.
    pub env: BTreeMap<String, String>,
    /// Further arguments that keep environments apart.
    pub isolated: Option<Vec<String>>,
    /// Further arguments by which several instances agree on who acts, where that takes any.
    pub elected: Option<Vec<String>>,
    /// How long it may take until it obeys.
    pub ready_within: Duration,
    /// What asks it to end.
    pub stop_signal: Signal,
}

/// How work is given to a scheduler; texts hold placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntakePlan {
    /// Manifests in a directory; the scheduler's word in a folder.
    Dir {
        /// Where manifests are put.
        manifests: String,
        /// Where the scheduler says how it goes.
        status: String,
    },
    /// Commands.
    Exec(ExecPlan),
    /// Custom resources.
    Kube(KubePlan),
}

/// How the API server of a scheduler is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubePlan {
    /// Instead of the file that `KUBECONFIG` names.
    pub kubeconfig: Option<String>,
    /// The namespace of all that is submitted; without it the suite makes some of its own.
    pub namespace: Option<String>,
}

impl Default for IntakePlan {
    fn default() -> IntakePlan {
        IntakePlan::Dir {
            manifests: "{dir}".to_owned(),
            status: "{dir}/.berth".to_owned(),
        }
    }
}

impl Target {
    /// A target with that access which claims everything.
    pub fn new(name: impl Into<String>, access: Access) -> Target {
        Target {
            name: name.into(),
            version: None,
            file: None,
            access,
            intake: IntakePlan::default(),
            profiles: profiles(&IntakePlan::default()),
            features: BTreeMap::new(),
            timings: Timings::default(),
        }
    }

    /// A target launched by a command, with the directory intake.
    pub fn command<S: Into<String>>(command: impl IntoIterator<Item = S>) -> Target {
        let command: Vec<String> = command.into_iter().map(Into::into).collect();
        let program = command.first().map(String::as_str).unwrap_or_default();
        let name = program.rsplit('/').next().unwrap_or(program).to_owned();
        Target::new(name, Access::Launch(Launch::new(command)))
    }

    /// With custom resources as its intake, and the profile that is about them.
    pub fn with_kube(self, plan: KubePlan) -> Target {
        let intake = IntakePlan::Kube(plan);
        Target {
            profiles: profiles(&intake),
            intake,
            ..self
        }
    }

    /// The same, launched so that hosts are not shared between environments.
    pub fn isolated(&self) -> Option<Target> {
        self.with_arguments(self.launch()?.isolated.clone()?)
    }

    /// The same, launched so that several instances agree on who acts.
    pub fn elected(&self) -> Option<Target> {
        self.with_arguments(self.launch()?.elected.clone()?)
    }

    fn with_arguments(&self, arguments: Vec<String>) -> Option<Target> {
        let mut launch = self.launch()?.clone();
        launch.command.extend(arguments);
        Some(Target {
            access: Access::Launch(launch),
            ..self.clone()
        })
    }

    /// How it is launched, when it is.
    pub fn launch(&self) -> Option<&Launch> {
        match &self.access {
            Access::Launch(launch) => Some(launch),
            Access::Running { .. } => None,
        }
    }
}

/// The profiles that a scheduler with such an intake can claim.
fn profiles(intake: &IntakePlan) -> Vec<Profile> {
    let mut profiles = Side::Scheduler.profiles();
    let cluster = matches!(intake, IntakePlan::Kube(_));
    profiles.retain(|profile| cluster || *profile != Profile::Kubernetes);
    profiles
}

impl Launch {
    /// A command without anything special.
    pub fn new(command: Vec<String>) -> Launch {
        Launch {
            command,
            env: BTreeMap::new(),
            isolated: None,
            elected: None,
            ready_within: READY_WITHIN,
            stop_signal: Signal::SIGTERM,
        }
    }
}
