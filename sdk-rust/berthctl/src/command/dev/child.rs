//! One process of `dev`: what it says under its name, and its end.

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

/// How long a process may take to end in order before it is killed: a host grants its requests 10 s.
const END_WITHIN: Duration = Duration::from_secs(15);

/// A process that runs; dropping it kills it.
pub struct Child {
    name: String,
    process: tokio::process::Child,
}

/// How it ended.
pub struct Ended {
    name: String,
    how: std::io::Result<ExitStatus>,
}

impl fmt::Display for Ended {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.how {
            Ok(status) => write!(out, "{} has ended: {status}", self.name),
            Err(error) => write!(out, "{} has ended: {error}", self.name),
        }
    }
}

impl Child {
    /// Starts one of our programs: the one beside this one, or else the one on the `PATH`.
    pub fn spawn(name: &str, program: &'static str, flags: Vec<String>) -> Result<Self, Failure> {
        let mut command = Command::new(path_of(program));
        // Set for one host, or for berthctl, they would hold for every child.
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_ours(name)) {
            command.env_remove(name);
        }
        let mut process = command
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C at a terminal reaches the whole group of this process; the children end in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| Failure::Program(program, source))?;
        if let Some(output) = process.stdout.take() {
            tokio::spawn(relay(name.to_owned(), output));
        }
        if let Some(output) = process.stderr.take() {
            tokio::spawn(relay(name.to_owned(), output));
        }
        let name = name.to_owned();
        Ok(Self { name, process })
    }

    /// Until it ends by itself, or is told to by `stop`.
    pub async fn run(mut self, stop: CancellationToken) -> Ended {
        let how = tokio::select! {
            how = self.process.wait() => how,
            () = stop.cancelled() => self.end().await,
        };
        Ended {
            name: self.name,
            how,
        }
    }

    async fn end(&mut self) -> std::io::Result<ExitStatus> {
        if let Some(pid) = self.process.id().and_then(|pid| i32::try_from(pid).ok()) {
            // It may have ended this moment; then there is nobody to tell.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if let Ok(how) = timeout(END_WITHIN, self.process.wait()).await {
            return how;
        }
        self.process.kill().await?;
        self.process.wait().await
    }
}

fn is_ours(variable: &OsStr) -> bool {
    variable.as_encoded_bytes().starts_with(b"BERTH_")
}

fn path_of(program: &str) -> PathBuf {
    let beside = std::env::current_exe().map(|this| this.with_file_name(program));
    match beside {
        Ok(path) if path.is_file() => path,
        _ => PathBuf::from(program),
    }
}

/// Shows each line under the name of the process.
async fn relay(name: String, output: impl AsyncRead + Unpin) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        eprintln!("{name:<9} | {line}");
    }
}
