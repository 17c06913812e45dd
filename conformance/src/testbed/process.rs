//! A process launched by the suite: in its own process group, with its log, killed on drop.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// Maximum number of log lines per process, more than a failure report needs.
const MAX_LOG_LINES: usize = 20_000;
/// Maximum length of a log line. Longer lines are truncated.
const MAX_LINE_BYTES: usize = 8 * 1024;

/// Failure to launch a command.
#[derive(Debug, thiserror::Error)]
#[error("cannot launch `{program}`")]
pub struct ProcessError {
    /// Program of the command.
    pub program: String,
    /// I/O error.
    #[source]
    pub source: std::io::Error,
}

/// A child process and its descendants. Dropping it kills the whole group.
#[derive(Debug)]
pub struct Process {
    group: Pid,
    exit: watch::Receiver<Option<ExitStatus>>,
    log: Log,
}

impl Process {
    /// Launches a program with arguments and additional environment variables.
    ///
    /// # Errors
    /// Fails if the program cannot be executed.
    pub fn launch(
        command: &[String],
        env: &BTreeMap<String, String>,
    ) -> Result<Process, ProcessError> {
        let mut arguments = command.iter();
        let program = arguments.next().cloned().unwrap_or_default();
        let failed = |source| ProcessError {
            program: program.clone(),
            source,
        };
        let mut child = Command::new(&program)
            .args(arguments)
            // Logs appear in reports, not on a terminal.
            .env("NO_COLOR", "1")
            .envs(env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let pid = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .unwrap_or_default();
        let log = Log::default();
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(capture(stdout, log.clone()));
        }
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(capture(stderr, log.clone()));
        }
        let (sender, exit) = watch::channel(None);
        tokio::spawn(reap(child, sender));
        Ok(Process {
            group: Pid::from_raw(pid),
            exit,
            log,
        })
    }

    /// Returns the id of the process and of its group.
    pub fn pid(&self) -> i32 {
        self.group.as_raw()
    }

    /// Sends a signal to the process but not to its group, as an operator would.
    pub fn signal(&self, signal: Signal) {
        if !self.has_exited() {
            // The process may have exited before the signal was sent.
            let _ = nix::sys::signal::kill(self.group, signal);
        }
    }

    /// Returns whether the process has exited.
    pub fn has_exited(&self) -> bool {
        self.exit.borrow().is_some()
    }

    /// Returns the exit status, if the process has exited.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Waits until the process has exited. Cancel safe.
    pub async fn wait_exit(&self, within: Duration) -> Option<ExitStatus> {
        let mut exit = self.exit.clone();
        let exited = exit.wait_for(Option::is_some);
        tokio::time::timeout(within, exited)
            .await
            .ok()?
            .ok()
            .and_then(|status| *status)
    }

    /// Returns the number of runnable threads in the group, on a CPU or waiting for one, so that
    /// the load of the machine has no effect. `None` where the system has no `/proc`.
    pub fn busy_threads(&self) -> Option<usize> {
        busy_threads_of_group(self.group.as_raw())
    }

    /// Returns stdout and stderr so far, line by line.
    pub fn log(&self) -> String {
        self.log.text()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The group may outlive its leader, so it is killed even if the leader has exited.
        let _ = killpg(self.group, Signal::SIGKILL);
    }
}

async fn reap(mut child: Child, exit: watch::Sender<Option<ExitStatus>>) {
    if let Ok(status) = child.wait().await {
        // The receiver may have been dropped.
        let _ = exit.send(Some(status));
    }
}

#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<VecDeque<String>>>);

impl Log {
    fn push(&self, line: &[u8]) {
        let line = strip_ansi_colors(&String::from_utf8_lossy(line));
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == MAX_LOG_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// Reads the pipe to its end, so that the child never blocks on a full pipe.
async fn capture(pipe: impl AsyncRead + Unpin, log: Log) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    loop {
        let (used, ended) = match pipe.fill_buf().await {
            Ok([]) | Err(_) => break,
            Ok(chunk) => {
                let end = chunk.iter().position(|byte| *byte == b'\n');
                let text = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
                let room = MAX_LINE_BYTES.saturating_sub(line.len());
                line.extend_from_slice(text.get(..room.min(text.len())).unwrap_or_default());
                (end.map_or(chunk.len(), |end| end + 1), end.is_some())
            }
        };
        pipe.consume(used);
        if ended {
            log.push(&std::mem::take(&mut line));
        }
    }
    if !line.is_empty() {
        log.push(&line);
    }
}

/// Removes the escape sequences that set colors.
fn strip_ansi_colors(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|character: char| character.is_ascii_alphabetic());
        plain.push_str(end.and_then(|end| part.get(end + 1..)).unwrap_or(part));
    }
    plain
}

/// Counts the runnable threads of all processes in the group.
fn busy_threads_of_group(group: i32) -> Option<usize> {
    let mut busy = 0;
    for process in entries(Path::new("/proc"))? {
        // A process or thread that exited after the directory was listed has no file any more.
        if stat(&process).is_none_or(|stat| stat.group != group) {
            continue;
        }
        for thread in entries(&process.join("task")).unwrap_or_default() {
            busy += usize::from(stat(&thread).is_some_and(|stat| stat.running));
        }
    }
    Some(busy)
}

/// Returns the entries of a directory in `/proc` that are processes or threads.
fn entries(dir: &Path) -> Option<Vec<PathBuf>> {
    let digits = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.bytes().all(|byte| byte.is_ascii_digit())
    };
    let entries = std::fs::read_dir(dir).ok()?.flatten();
    Some(entries.map(|entry| entry.path()).filter(digits).collect())
}

/// The state of a process or thread in `/proc`.
struct Stat {
    /// On a CPU, or waiting for one.
    running: bool,
    group: i32,
}

fn stat(dir: &Path) -> Option<Stat> {
    let stat = std::fs::read_to_string(dir.join("stat")).ok()?;
    // State, parent and group follow the name, which may contain spaces and parentheses.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let running = fields.next()? == "R";
    let group = fields.nth(1)?.parse().ok()?;
    Some(Stat { running, group })
}

#[cfg(test)]
mod tests {
    use super::strip_ansi_colors;

    #[test]
    fn strips_colors_from_log_lines() {
        assert_eq!(
            strip_ansi_colors("\u{1b}[2m12:00\u{1b}[0m \u{1b}[1;32mINFO\u{1b}[0m up"),
            "12:00 INFO up"
        );
        assert_eq!(strip_ansi_colors("plain"), "plain");
    }
}
