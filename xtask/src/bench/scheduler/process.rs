//! A program that is measured and disturbed.

use std::fs::File;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use super::super::BenchError;
use crate::running::Running;

/// A running program.
pub(super) struct Process(Running);

impl Process {
    /// Runs `program`; what it says on stderr goes to the file `log`.
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
        let mut running = Running::begin(&mut command).map_err(|source| BenchError::Program {
            program: program.to_path_buf(),
            source,
        })?;
        let output = running.0.stdout.take();
        Ok((Self(running), output))
    }

    /// Stops it where it is, with its connections open.
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
    /// The processor time that it has used so far, in clock ticks; `None` where there is no `/proc`.
    pub(super) fn used_ticks(&self) -> Option<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.0.id())).ok()?;
        used_ticks_of(&stat)
    }
}

/// User and system time, behind the name in parentheses, which may contain anything.
fn used_ticks_of(stat: &str) -> Option<u64> {
    let fields = stat.rsplit_once(") ")?.1.split_whitespace();
    let ticks: Option<Vec<u64>> = fields
        .skip(11)
        .take(2)
        .map(|field| field.parse().ok())
        .collect();
    Some(ticks?.iter().sum())
}

/// Ticks in a second.
pub(super) fn ticks_per_second() -> Option<u64> {
    let output = Command::new("getconf").arg("CLK_TCK").output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::used_ticks_of;

    #[test]
    fn user_and_system_time_are_added_whatever_the_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 9 0 99 1 2";
        assert_eq!(used_ticks_of(stat), Some(175));
        assert_eq!(used_ticks_of("7 (a"), None);
    }
}
