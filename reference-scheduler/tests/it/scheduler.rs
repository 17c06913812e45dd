//! Starts schedulers in this process, or as a child process that tests can kill.

use std::path::Path;
use std::process::Stdio;

use berth_scheduler::config::Config;
use berth_scheduler::{RunError, args};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fixture::within;

/// A scheduler in this process.
pub struct Scheduler {
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), RunError>>,
}

impl Scheduler {
    pub fn start(url: &str, manifests: &Path, flags: &[&str]) -> Self {
        let shutdown = CancellationToken::new();
        let config = config(url, manifests, flags);
        let running = tokio::spawn(berth_scheduler::run(config, shutdown.clone()));
        Self { shutdown, running }
    }

    /// Shuts the scheduler down gracefully.
    pub async fn stop(self) {
        self.shutdown.cancel();
        within(self.running).await.unwrap().unwrap();
    }
}

pub fn config(url: &str, manifests: &Path, flags: &[&str]) -> Config {
    let store = format!("dir:{}", manifests.display());
    let mut line = vec!["berth-scheduler", "--nats-url", url, "--store", &store];
    line.extend(flags);
    args::parse(line).unwrap()
}

/// Starts the binary as a child process, which is killed on drop.
pub fn process(url: &str, manifests: &Path, flags: &[&str]) -> Child {
    command(url, manifests, flags).spawn().unwrap()
}

/// Returns the command of the binary, without output.
pub fn command(url: &str, manifests: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth-scheduler"));
    command
        .args(["--nats-url", url, "--store"])
        .arg(format!("dir:{}", manifests.display()))
        .args(flags)
        .env_remove("OPERATOR_NAMESPACE")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}
