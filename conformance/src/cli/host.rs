//! `host` and `doctor`: judge a host, or verify that the environment of a target works.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::run_args::{self, RunArgs, TargetSelection};
use super::{EXIT_ERROR, EXIT_USAGE, fail, print};
use crate::check::side::Side;
use crate::check::target_file::TargetFileError;
use crate::host::suite::Suite;
use crate::host::target;
use crate::host::target::{Access, ExistingHost, GrpcHost, Target};
use crate::report::run::RunnableSuite as _;
use crate::report::text;
use crate::testbed::broker::BrokerChoice;

/// Time limit for the host to stop after `doctor`.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Flags that select the host.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// Target file (see `init`)
    #[arg(long, value_name = "FILE")]
    target: Option<PathBuf>,

    /// URL of the broker of a host that is already running
    #[arg(
        long,
        value_name = "URL",
        group = "running",
        requires = "host_id",
        conflicts_with = "target"
    )]
    nats_url: Option<String>,

    /// ID of a host that is already running
    #[arg(
        long,
        value_name = "ID",
        requires = "nats_url",
        conflicts_with = "target"
    )]
    host_id: Option<String>,

    /// URL of a host that is already running and receives commands over gRPC, such as
    /// http://127.0.0.1:9090; runs only checks that support gRPC
    #[arg(long, value_name = "URL", group = "running", conflicts_with_all = ["target", "nats_url"])]
    grpc_url: Option<String>,

    /// Address of the ingress of a host that is already running
    #[arg(long, value_name = "ADDR:PORT", requires = "running")]
    http_addr: Option<String>,

    /// Broker: embedded, nats-server (from BERTH_NATS_SERVER or the PATH), or a nats:// URL
    #[arg(long, value_name = "BROKER", default_value = "embedded")]
    broker: BrokerChoice,

    /// Command that launches the host, with {nats_url} {http_addr} {registry} {host_id} {dir}
    #[arg(
        last = true,
        value_name = "COMMAND",
        conflicts_with_all = ["target", "nats_url", "grpc_url"]
    )]
    command: Vec<String>,
}

/// Flags of `host`.
#[derive(Debug, Args)]
pub struct HostArgs {
    #[command(flatten)]
    target: TargetArgs,

    #[command(flatten)]
    run: RunArgs,
}

/// Flags of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    target: TargetArgs,
}

/// Runs `host`.
pub async fn run(arguments: HostArgs) -> u8 {
    run_args::run(&arguments.run, &arguments.target).await
}

/// Runs `doctor`.
pub async fn doctor(arguments: DoctorArgs) -> u8 {
    let file = arguments.target.target.as_deref();
    if let Some(scheduler) = file.and_then(super::scheduler::target_in) {
        return super::scheduler::doctor(scheduler, arguments.target.broker).await;
    }
    let target = match run_args::select_target(&arguments.target) {
        Ok(target) => target,
        Err(code) => return code,
    };
    let suite = Suite::builder()
        .target(target.clone())
        .broker(arguments.target.broker)
        .build();
    if let Err(error) = suite.validate() {
        return fail(&error, EXIT_USAGE);
    }
    match suite.set_up().await {
        Err(error) => fail(&error, EXIT_ERROR),
        Ok(testbed) => {
            let lines = testbed
                .preflight
                .lines(&target, &testbed.host, &testbed.broker.name);
            let healthy = lines.iter().all(|(healthy, _)| *healthy);
            for (healthy, line) in lines {
                let mark = if healthy { "✓" } else { "✗" };
                print(&format!("{mark} {}\n", text::clean(&line)));
            }
            testbed.host.stop(STOP_TIMEOUT).await;
            if healthy { 0 } else { EXIT_ERROR }
        }
    }
}

impl TargetSelection for TargetArgs {
    type Target = Target;
    type Suite = Suite;

    const SIDE: Side = Side::Host;
    const PLACEHOLDERS: &'static [(&'static str, &'static str)] = target::PLACEHOLDERS;
    const RUNNING_FLAGS: &'static str = "--nats-url with --host-id, or --grpc-url";
    const PROGRAM_VARIABLE: &'static str = "BERTH_HOST";
    const PROGRAM: &'static str = "berth-host";

    fn file(&self) -> Option<&Path> {
        self.target.as_deref()
    }

    fn load(path: &Path) -> Result<Target, TargetFileError> {
        target::file::load(path)
    }

    fn running(&self) -> Option<Target> {
        if let (Some(nats_url), Some(host_id)) = (&self.nats_url, &self.host_id) {
            let existing = ExistingHost {
                nats_url: nats_url.clone(),
                host_id: host_id.clone(),
                http_addr: self.http_addr.clone(),
            };
            return Some(Target::new(host_id.clone(), Access::Running(existing)));
        }
        let url = self.grpc_url.as_ref()?;
        let grpc = GrpcHost {
            url: url.clone(),
            http_addr: self.http_addr.clone(),
        };
        Some(Target::new(url.clone(), Access::Grpc(grpc)))
    }

    fn command(&self) -> &[String] {
        &self.command
    }

    fn launched(&self) -> Target {
        Target::command(self.command.clone())
    }

    fn default_target(&self) -> Option<Target> {
        target::default::berth_host()
    }

    fn broker(&self) -> &BrokerChoice {
        &self.broker
    }

    fn suite(target: Target) -> Suite {
        Suite::new(target)
    }
}
