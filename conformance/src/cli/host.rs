//! `host` and `doctor`: put a suite together from flags, run it, and hand out the report.

use std::path::PathBuf;

use clap::Args;

use super::run_args::{RunArgs, check_placeholders};
use super::{TROUBLE, USAGE, complain, complain_of, run_args, say};
use crate::host::suite::Suite;
use crate::host::target;
use crate::host::target::{Access, OverGrpc, Running, Target};
use crate::report::run::RunnableSuite as _;
use crate::report::text;
use crate::testbed::broker::BrokerChoice;

/// Which host.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// A target file (see `init`)
    #[arg(long, value_name = "FILE")]
    target: Option<PathBuf>,

    /// The broker of a host that runs already
    #[arg(
        long,
        value_name = "URL",
        group = "running",
        requires = "host_id",
        conflicts_with = "target"
    )]
    nats_url: Option<String>,

    /// The id of a host that runs already
    #[arg(
        long,
        value_name = "ID",
        requires = "nats_url",
        conflicts_with = "target"
    )]
    host_id: Option<String>,

    /// A host that runs already and takes commands by gRPC here, like http://127.0.0.1:9090: the checks
    /// that ask for nothing else
    #[arg(long, value_name = "URL", group = "running", conflicts_with_all = ["target", "nats_url"])]
    grpc_url: Option<String>,

    /// The ingress of a host that runs already
    #[arg(long, value_name = "ADDR:PORT", requires = "running")]
    http_addr: Option<String>,

    /// The broker: embedded, nats-server (from BERTH_NATS_SERVER or the PATH), or nats://URL
    #[arg(long, value_name = "WHICH", default_value = "embedded")]
    broker: BrokerChoice,

    /// The command that launches the host, with {nats_url} {http_addr} {registry} {host_id} {dir}
    #[arg(last = true, value_name = "COMMAND", conflicts_with_all = ["target", "nats_url", "grpc_url"])]
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
    let target = match arguments.target.target() {
        Ok(target) => target,
        Err(code) => return code,
    };
    let suite = Suite::builder()
        .target(target)
        .broker(arguments.target.broker.clone())
        .build();
    run_args::run(&arguments.run, suite).await
}

/// Runs `doctor`.
pub async fn doctor(arguments: DoctorArgs) -> u8 {
    let target = match arguments.target.target() {
        Ok(target) => target,
        Err(code) => return code,
    };
    let suite = Suite::builder()
        .target(target.clone())
        .broker(arguments.target.broker)
        .build();
    if let Err(usage) = suite.validate() {
        return complain(&usage, USAGE);
    }
    match suite.set_up().await {
        Err(trouble) => complain(&trouble, TROUBLE),
        Ok(setup) => {
            let lines = setup
                .examination
                .lines(&target, &setup.host, &setup.broker.name);
            let well = lines.iter().all(|(well, _)| *well);
            for (well, line) in lines {
                let mark = if well { "✓" } else { "✗" };
                say(&format!("{mark} {}\n", text::clean(&line)));
            }
            setup.host.end(std::time::Duration::from_secs(5)).await;
            if well { 0 } else { TROUBLE }
        }
    }
}

impl TargetArgs {
    fn target(&self) -> Result<Target, u8> {
        if let Some(path) = &self.target {
            return target::file::load(path).map_err(|bad| complain(&bad, USAGE));
        }
        if let (Some(nats_url), Some(host_id)) = (&self.nats_url, &self.host_id) {
            let running = Running {
                nats_url: nats_url.clone(),
                host_id: host_id.clone(),
                http_addr: self.http_addr.clone(),
            };
            return Ok(Target::new(host_id.clone(), Access::Running(running)));
        }
        if let Some(url) = &self.grpc_url {
            let over = OverGrpc {
                url: url.clone(),
                http_addr: self.http_addr.clone(),
            };
            return Ok(Target::new(url.clone(), Access::Grpc(over)));
        }
        if !self.command.is_empty() {
            return self.launched();
        }
        target::default::berth_host().ok_or_else(|| {
            let text = "there is no target: give a command behind `--`, or --target, or --nats-url with \
                        --host-id, or --grpc-url; `berth-host` is neither in BERTH_HOST nor beside this program nor on the PATH";
            complain_of(text, TROUBLE)
        })
    }

    /// A command, whose placeholders must be those that there are.
    fn launched(&self) -> Result<Target, u8> {
        check_placeholders(&self.command, target::PLACEHOLDERS, "host")?;
        Ok(Target::command(self.command.clone()))
    }
}
