//! A process that is measured, frozen, or killed.

use std::fs::File;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use super::super::BenchError;
use crate::child_guard::ChildGuard;

/// A running process; killed when dropped.
pub(super) struct Process(ChildGuard);

impl Process {
    /// Starts `program`, with stderr redirected to the file `log`. Returns its stdout too.
    pub(super) fn start(
        program: &Path,
        arguments: &[&str],
        log: &Path,
    ) -> Result<(Self, Option<ChildStdout>), BenchError> {
        let file = File::create(log).map_err(|source| BenchError::File {
            path: log.to_path_buf(),
            source,
        })?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(file);
        let mut child = ChildGuard::spawn(&mut command).map_err(|source| BenchError::Program {
            program: program.to_path_buf(),
            source,
        })?;
        let output = child.0.stdout.take();
        Ok((Self(child), output))
    }

    /// Suspends the process with SIGSTOP; its connections stay open.
    pub(super) fn freeze(&self) -> Result<(), BenchError> {
        let status = Command::new("kill")
            .args(["-STOP", &self.0.0.id().to_string()])
            .status();
        status.map(|_| ()).map_err(|source| BenchError::Program {
            program: "kill".into(),
            source,
        })
    }
}

impl Process {
    /// Returns the processor time used so far, in clock ticks, or `None` on systems without
    /// `/proc`.
    pub(super) fn used_ticks(&self) -> Option<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.0.id())).ok()?;
        parse_used_ticks(&stat)
    }
}

/// Returns user and system time. These fields follow the name in parentheses, which may contain
/// anything.
fn parse_used_ticks(stat: &str) -> Option<u64> {
    let fields = stat.rsplit_once(") ")?.1.split_whitespace();
    let ticks: Option<Vec<u64>> = fields
        .skip(11)
        .take(2)
        .map(|field| field.parse().ok())
        .collect();
    Some(ticks?.iter().sum())
}

/// Returns the number of clock ticks per second.
pub(super) fn ticks_per_second() -> Option<u64> {
    let output = Command::new("getconf").arg("CLK_TCK").output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::parse_used_ticks;

    #[test]
    fn adds_user_and_system_time_for_any_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 9 0 99 1 2";
        assert_eq!(parse_used_ticks(stat), Some(175));
        assert_eq!(parse_used_ticks("7 (a"), None);
    }
}
