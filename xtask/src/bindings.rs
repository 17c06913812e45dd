//! The SDKs in other languages: their generated code, tests, and style checks.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use crate::cache::NoCacheDir;

pub mod go;
pub mod python;

/// Programs for the tests of a language.
#[derive(Clone, Copy, Debug)]
pub struct Tools<'a> {
    /// A real nats-server.
    pub nats_server: &'a Path,
    /// The conformance suite, which tests the examples.
    pub suite: &'a Path,
    /// The reference host, for tests over gRPC.
    pub host: &'a Path,
}

/// Whether generated code is written or only checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Write the generated code.
    Write,
    /// Compare the generated code with the existing files.
    Check,
}

/// Reason why a language cannot be generated or tested.
#[derive(Debug, thiserror::Error)]
pub enum BindingsError {
    /// A program of the language cannot be run.
    #[error("cannot run `{program}`; {hint}")]
    Program {
        /// Name of the program.
        program: String,
        /// Installation hint.
        hint: &'static str,
        /// I/O error.
        source: io::Error,
    },
    /// The directory for tools is unknown.
    #[error("cannot locate the directory for tools")]
    Cache(#[from] NoCacheDir),
    /// A file cannot be read or written.
    #[error("cannot read or write {}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// I/O error.
        source: io::Error,
    },
    /// Installing pinned tools or compiling failed.
    #[error("`{command}` failed")]
    Install {
        /// The command line.
        command: String,
    },
}

/// Runs commands of one language in one directory, up to the first that fails.
#[derive(Debug)]
struct Runner<'a> {
    dir: PathBuf,
    hint: &'static str,
    environment: Vec<(&'static str, &'a OsStr)>,
}

impl Runner<'_> {
    /// Runs the commands. Returns whether all succeeded.
    fn run_all(&self, commands: &[(&Path, &[&str])]) -> Result<bool, BindingsError> {
        for (program, arguments) in commands {
            if !self.run(program, arguments)?.success() {
                println!("failed: {}", command_line(program, arguments));
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn run(&self, program: &Path, arguments: &[&str]) -> Result<ExitStatus, BindingsError> {
        let mut command = Command::new(program);
        command.current_dir(&self.dir).args(arguments);
        command.envs(self.environment.iter().copied());
        command.status().map_err(|source| BindingsError::Program {
            program: program.display().to_string(),
            hint: self.hint,
            source,
        })
    }
}

fn command_line(program: &Path, arguments: &[&str]) -> String {
    format!("{} {}", program.display(), arguments.join(" "))
}
