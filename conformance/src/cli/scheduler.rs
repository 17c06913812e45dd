//! `scheduler`: judge a scheduler, or verify that its environment works.

use std::path::{Path, PathBuf};

use clap::Args;

use super::run_args::{self, RunArgs, TargetSelection};
use super::{EXIT_ERROR, EXIT_USAGE, fail, fail_with, print};
use crate::check::side::Side;
use crate::check::target_file::TargetFileError;
use crate::report::run::RunnableSuite as _;
use crate::report::text;
use crate::scheduler::target::{Access, IntakeConfig, KubernetesConfig, Target};
use crate::scheduler::{Suite, target};
use crate::testbed::broker::BrokerChoice;

/// Flags of `scheduler`.
#[derive(Debug, Args)]
pub struct SchedulerArgs {
    #[command(flatten)]
    target: TargetArgs,

    #[command(flatten)]
    run: RunArgs,
}

/// Flags that select the scheduler.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// Target file (see `init --scheduler`)
    #[arg(long, value_name = "FILE")]
    target: Option<PathBuf>,

    /// URL of the broker of a scheduler that is already running, with its manifests in --dir
    #[arg(long, value_name = "URL", requires = "dir", conflicts_with = "target")]
    nats_url: Option<String>,

    /// Directory from which a scheduler that is already running reads its manifests
    #[arg(long, value_name = "DIR", requires = "nats_url")]
    dir: Option<PathBuf>,

    /// Kubeconfig file: submit custom resources to its API server [default: manifests in a
    /// directory]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["target", "nats_url"])]
    kubeconfig: Option<PathBuf>,

    /// Broker: embedded, nats-server (from BERTH_NATS_SERVER or the PATH), or a nats:// URL
    #[arg(long, value_name = "BROKER", default_value = "embedded")]
    broker: BrokerChoice,

    /// Command that launches the scheduler, with {nats_url} and {dir}, or {kubeconfig} and
    /// {namespace}
    #[arg(last = true, value_name = "COMMAND", conflicts_with_all = ["target", "nats_url"])]
    command: Vec<String>,
}

/// Runs `scheduler`.
pub async fn run(arguments: SchedulerArgs) -> u8 {
    run_args::run(&arguments.run, &arguments.target).await
}

/// Returns the target of a file that is a target file of a scheduler, and not of a host.
pub fn target_in(path: &Path) -> Option<Target> {
    let is_host = crate::host::target::file::load(path).is_ok();
    if is_host {
        return None;
    }
    target::file::load(path).ok()
}

/// Runs `doctor` for a scheduler.
pub async fn doctor(target: Target, broker: BrokerChoice) -> u8 {
    let mut suite = Suite::new(target);
    suite.options.broker = broker;
    if let Err(error) = suite.validate() {
        return fail(&error, EXIT_USAGE);
    }
    match suite.diagnose().await {
        Err(error) => fail_with(&error, EXIT_ERROR),
        Ok(lines) => {
            let lines = lines
                .iter()
                .map(|line| format!("✓ {}\n", text::clean(line)));
            print(&lines.collect::<String>());
            0
        }
    }
}

impl TargetArgs {
    fn kubernetes(&self) -> Option<KubernetesConfig> {
        let kubeconfig = Some(self.kubeconfig.as_ref()?.display().to_string());
        Some(KubernetesConfig {
            kubeconfig,
            namespace: None,
        })
    }
}

impl TargetSelection for TargetArgs {
    type Target = Target;
    type Suite = Suite;

    const SIDE: Side = Side::Scheduler;
    const PLACEHOLDERS: &'static [(&'static str, &'static str)] = target::PLACEHOLDERS;
    const RUNNING_FLAGS: &'static str = "--nats-url with --dir";
    const PROGRAM_VARIABLE: &'static str = "BERTH_SCHEDULER";
    const PROGRAM: &'static str = "berth-scheduler";

    fn file(&self) -> Option<&Path> {
        self.target.as_deref()
    }

    fn load(path: &Path) -> Result<Target, TargetFileError> {
        target::file::load(path)
    }

    fn running(&self) -> Option<Target> {
        let (nats_url, dir) = (self.nats_url.as_ref()?, self.dir.as_ref()?);
        let access = Access::Running {
            nats_url: nats_url.clone(),
        };
        let dir = dir.display().to_string();
        Some(Target {
            intake: IntakeConfig::Dir {
                status: format!("{dir}/.berth"),
                manifests: dir,
            },
            ..Target::new("running", access)
        })
    }

    fn command(&self) -> &[String] {
        &self.command
    }

    fn launched(&self) -> Target {
        let target = Target::command(self.command.clone());
        match self.kubernetes() {
            Some(config) => target.with_kubernetes(config),
            None => target,
        }
    }

    fn default_target(&self) -> Option<Target> {
        match self.kubernetes() {
            Some(config) => target::default::berth_scheduler_on_kubernetes(config),
            None => target::default::berth_scheduler(),
        }
    }

    fn broker(&self) -> &BrokerChoice {
        &self.broker
    }

    fn suite(target: Target) -> Suite {
        Suite::new(target)
    }
}
