//! A host process launched by the suite: in a group of its own, its output kept, killed on drop.

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

/// Log lines kept of one host: enough for a failure report, bounded against a host that babbles.
const MAX_LOG_LINES: usize = 20_000;
/// Longer lines are cut.
const MAX_LINE_BYTES: usize = 8 * 1024;

/// The command could not be launched.
#[derive(Debug, thiserror::Error)]
#[error("cannot launch `{program}`")]
pub struct ProcessError {
    /// The program.
    pub program: String,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

/// A child and everything that it starts. Dropping it kills the whole group.
#[derive(Debug)]
pub struct Process {
    group: Pid,
    exit: watch::Receiver<Option<ExitStatus>>,
    log: Log,
}

impl Process {
    /// Launches a program with arguments and additional environment.
    ///
    /// # Errors
    /// The program cannot be executed.
    pub fn launch(
        command: &[String],
        env: &BTreeMap<String, String>,
    ) -> Result<Process, ProcessError> {
        let mut words = command.iter();
        let program = words.next().cloned().unwrap_or_default();
        let failed = |source| ProcessError {
            program: program.clone(),
            source,
        };
        let mut child = Command::new(&program)
            .args(words)
            // Logs are read by people in reports, not on a terminal.
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
            tokio::spawn(keep(stdout, log.clone()));
        }
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(keep(stderr, log.clone()));
        }
        let (sender, exit) = watch::channel(None);
        tokio::spawn(reap(child, sender));
        Ok(Process {
            group: Pid::from_raw(pid),
            exit,
            log,
        })
    }

    /// The id of the process, and of its group.
    pub fn pid(&self) -> i32 {
        self.group.as_raw()
    }

    /// Sends a signal to the process alone, as an operator would.
    pub fn signal(&self, signal: Signal) {
        if !self.has_exited() {
            // A process that is gone meanwhile needs no signal.
            let _ = nix::sys::signal::kill(self.group, signal);
        }
    }

    /// Whether it has exited.
    pub fn has_exited(&self) -> bool {
        self.exit.borrow().is_some()
    }

    /// How it exited, when it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Waits until it has exited. Cancel safe.
    pub async fn wait_exit(&self, within: Duration) -> Option<ExitStatus> {
        let mut exit = self.exit.clone();
        let exited = exit.wait_for(Option::is_some);
        tokio::time::timeout(within, exited)
            .await
            .ok()?
            .ok()
            .and_then(|status| *status)
    }

    /// How many threads of the whole group compute at this moment, or would if they had a processor:
    /// a busy machine changes nothing about it. `None` where the system does not tell.
    pub fn busy_threads(&self) -> Option<usize> {
        busy_threads_of_group(self.group.as_raw())
    }

    /// What it wrote to stdout and stderr so far, line by line.
    pub fn log(&self) -> String {
        self.log.text()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The group may outlive its leader, so it is killed even when that has exited.
        let _ = killpg(self.group, Signal::SIGKILL);
    }
}

async fn reap(mut child: Child, exit: watch::Sender<Option<ExitStatus>>) {
    if let Ok(status) = child.wait().await {
        // Nobody may be interested any more.
        let _ = exit.send(Some(status));
    }
}

#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<VecDeque<String>>>);

impl Log {
    fn push(&self, line: &[u8]) {
        let line = without_colours(&String::from_utf8_lossy(line));
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

/// Reads to the end, so that the child never blocks on a full pipe.
async fn keep(pipe: impl AsyncRead + Unpin, log: Log) {
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

/// The line without the escape sequences that set colours.
fn without_colours(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|character: char| character.is_ascii_alphabetic());
        plain.push_str(end.and_then(|end| part.get(end + 1..)).unwrap_or(part));
    }
    plain
}

/// Looks at every thread of every process of the group.
fn busy_threads_of_group(group: i32) -> Option<usize> {
    let mut busy = 0;
    for process in entries(Path::new("/proc"))? {
        // A process or thread that ended between two looks has no file any more.
        if stat(&process).is_none_or(|stat| stat.group != group) {
            continue;
        }
        for thread in entries(&process.join("task")).unwrap_or_default() {
            busy += usize::from(stat(&thread).is_some_and(|stat| stat.running));
        }
    }
    Some(busy)
}

/// The entries of a directory of `/proc` that stand for processes or threads.
fn entries(dir: &Path) -> Option<Vec<PathBuf>> {
    let digits = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.bytes().all(|byte| byte.is_ascii_digit())
    };
    let entries = std::fs::read_dir(dir).ok()?.flatten();
    Some(entries.map(|entry| entry.path()).filter(digits).collect())
}

/// What `/proc` says of a process or a thread.
struct Stat {
    /// On a processor, or waiting for one.
    running: bool,
    group: i32,
}

fn stat(dir: &Path) -> Option<Stat> {
    let stat = std::fs::read_to_string(dir.join("stat")).ok()?;
    // The name in parentheses may hold spaces and parentheses; state, parent and group follow it.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let running = fields.next()? == "R";
    let group = fields.nth(1)?.parse().ok()?;
    Some(Stat { running, group })
}

#[cfg(test)]
mod tests {
    use super::without_colours;

    #[test]
    fn colours_are_taken_out_of_logs() {
        assert_eq!(
            without_colours("\u{1b}[2m12:00\u{1b}[0m \u{1b}[1;32mINFO\u{1b}[0m up"),
            "12:00 INFO up"
        );
        assert_eq!(without_colours("plain"), "plain");
    }
}
