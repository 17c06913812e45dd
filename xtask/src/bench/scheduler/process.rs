//! A child process that ends with its owner.

use std::fs::File;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::super::BenchError;

/// A running program.
pub(super) struct Process(Child);

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
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .map_err(|source| BenchError::Program {
                program: program.to_path_buf(),
                source,
            })?;
        let output = child.stdout.take();
        Ok((Self(child), output))
    }

    /// Stops it where it is, with its connections open.
    pub(super) fn freeze(&self) -> Result<(), BenchError> {
        let status = Command::new("kill")
            .args(["-STOP", &self.0.id().to_string()])
            .status();
        status.map(|_| ()).map_err(|source| BenchError::Program {
            program: "kill".into(),
            source,
        })
    }
}

impl Drop for Process {
    /// As abruptly as can be: SIGKILL, which a frozen process obeys, too.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
