//! A child process of `dev`, with its output and its exit.

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// Time for a graceful shutdown before a process is killed, longer than any program of `dev` needs.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(15);

/// A running process, killed on drop.
pub struct Child {
    name: String,
    process: tokio::process::Child,
}

/// The exit of a process.
pub struct Exit {
    name: String,
    status: std::io::Result<ExitStatus>,
}

impl fmt::Display for Exit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.status {
            Ok(status) => write!(out, "{} has exited: {status}", self.name),
            Err(error) => write!(out, "{} has exited: {error}", self.name),
        }
    }
}

impl Child {
    /// Starts a program from the directory of this one, or else from the `PATH`.
    pub fn spawn(name: &str, program: &'static str, flags: Vec<String>) -> Result<Self, Failure> {
        let mut command = Command::new(path_of(program));
        // `BERTH_` variables are meant for berthctl or for one host, but every child would inherit
        // them.
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_berth_variable(name)) {
            command.env_remove(name);
        }
        let mut process = command
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal signals the whole process group; the children are stopped in
            // sequence instead.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| Failure::RunProgram(program, source))?;
        if let Some(output) = process.stdout.take() {
            tokio::spawn(relay(name.to_owned(), output));
        }
        if let Some(output) = process.stderr.take() {
            tokio::spawn(relay(name.to_owned(), output));
        }
        let name = name.to_owned();
        Ok(Self { name, process })
    }

    /// Waits for the exit of the process; stops it when `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) -> Exit {
        let status = tokio::select! {
            status = self.process.wait() => status,
            () = stop.cancelled() => self.stop().await,
        };
        Exit {
            name: self.name,
            status,
        }
    }

    async fn stop(&mut self) -> std::io::Result<ExitStatus> {
        if let Some(pid) = self.process.id().and_then(|pid| i32::try_from(pid).ok()) {
            // Fails if the process has just exited, which is fine.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if let Ok(status) = timeout(SHUTDOWN_TIMEOUT, self.process.wait()).await {
            return status;
        }
        self.process.kill().await?;
        self.process.wait().await
    }
}

fn is_berth_variable(variable: &OsStr) -> bool {
    variable.as_encoded_bytes().starts_with(b"BERTH_")
}

fn path_of(program: &str) -> PathBuf {
    let sibling = std::env::current_exe().map(|this| this.with_file_name(program));
    match sibling {
        Ok(path) if path.is_file() => path,
        _ => PathBuf::from(program),
    }
}

/// Prints each line with the name of the process.
async fn relay(name: String, output: impl AsyncRead + Unpin) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        eprintln!("{name:<9} | {line}");
    }
}
