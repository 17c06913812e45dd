//! `scheduler`: judge a scheduler.

use std::path::PathBuf;

use clap::Args;

use super::run_args::{RunArgs, check_placeholders};
use super::{TROUBLE, USAGE, complain, complain_of, run_args};
use crate::scheduler::target::{Access, KubePlan, Target};
use crate::scheduler::{Suite, target};
use crate::testbed::broker::BrokerChoice;

/// Flags of `scheduler`.
#[derive(Debug, Args)]
pub struct SchedulerArgs {
    /// A target file (see `init --scheduler`)
    #[arg(long, value_name = "FILE")]
    target: Option<PathBuf>,

    /// The broker of a scheduler that runs already, with the manifests in --dir
    #[arg(long, value_name = "URL", requires = "dir", conflicts_with = "target")]
    nats_url: Option<String>,

    /// The directory that a scheduler which runs already takes its manifests from
    #[arg(long, value_name = "DIR", requires = "nats_url")]
    dir: Option<PathBuf>,

    /// Give it custom resources, through the API server that this file leads to; without it or a target file,
    /// manifests in a directory
    #[arg(long, value_name = "FILE", conflicts_with_all = ["target", "nats_url"])]
    kubeconfig: Option<PathBuf>,

    /// The broker: embedded, nats-server (from BERTH_NATS_SERVER or the PATH), or nats://URL
    #[arg(long, value_name = "WHICH", default_value = "embedded")]
    broker: BrokerChoice,

    #[command(flatten)]
    run: RunArgs,

    /// The command that launches the scheduler, with {nats_url} and {dir}, or {kubeconfig} and {namespace}
    #[arg(last = true, value_name = "COMMAND", conflicts_with_all = ["target", "nats_url"])]
    command: Vec<String>,
}

/// Runs `scheduler`.
pub async fn run(arguments: SchedulerArgs) -> u8 {
    let target = match arguments.target() {
        Ok(target) => target,
        Err(code) => return code,
    };
    let mut suite = Suite::new(target);
    suite.options.broker = arguments.broker.clone();
    run_args::run(&arguments.run, suite).await
}

impl SchedulerArgs {
    fn target(&self) -> Result<Target, u8> {
        if let Some(path) = &self.target {
            return target::file::load(path).map_err(|bad| complain(&bad, USAGE));
        }
        if let (Some(nats_url), Some(dir)) = (&self.nats_url, &self.dir) {
            let access = Access::Running {
                nats_url: nats_url.clone(),
            };
            let dir = dir.display().to_string();
            return Ok(Target {
                intake: target::IntakePlan::Dir {
                    status: format!("{dir}/.berth"),
                    manifests: dir,
                },
                ..Target::new("running", access)
            });
        }
        if !self.command.is_empty() {
            check_placeholders(&self.command, target::PLACEHOLDERS, "scheduler")?;
            let target = Target::command(self.command.clone());
            return Ok(match self.kube() {
                Some(plan) => target.with_kube(plan),
                None => target,
            });
        }
        let target = match self.kube() {
            Some(plan) => target::default::berth_scheduler_on_kube(plan),
            None => target::default::berth_scheduler(),
        };
        target.ok_or_else(|| {
            let text = "there is no target: give a command behind `--`, or --target, or --nats-url with \
                        --dir; `berth-scheduler` is neither in BERTH_SCHEDULER nor beside this program nor on \
                        the PATH";
            complain_of(text, TROUBLE)
        })
    }

    fn kube(&self) -> Option<KubePlan> {
        let kubeconfig = Some(self.kubeconfig.as_ref()?.display().to_string());
        Some(KubePlan {
            kubeconfig,
            namespace: None,
        })
    }
}
