//! The encodings of the protocol in other languages: their generated code, their tests, their style.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use crate::cache::NoHome;

pub mod go;
pub mod python;

/// What the tests of a language are given.
#[derive(Clone, Copy, Debug)]
pub struct Tools<'a> {
    /// A real nats-server.
    pub nats_server: &'a Path,
    /// The suite, to judge the examples.
    pub suite: &'a Path,
    /// The reference host, to be spoken to by gRPC.
    pub host: &'a Path,
}

/// Whether generated code is to be written, or only looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Made and written.
    Made,
    /// Made and compared.
    Checked,
}

/// Why nothing could be said about a language.
#[derive(Debug, thiserror::Error)]
pub enum BindingsError {
    /// A program of the language is missing.
    #[error("`{program}` cannot be run; {hint}")]
    Program {
        /// The program.
        program: String,
        /// What to install.
        hint: &'static str,
        /// Why.
        source: io::Error,
    },
    /// There is nowhere to keep the tools.
    #[error("there is no folder for the tools of the language")]
    Cache(#[from] NoHome),
    /// Something cannot be written there.
    #[error("{} cannot be read or written", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is pinned cannot be installed, or what is there not be compiled.
    #[error("`{command}` failed")]
    Install {
        /// The command.
        command: String,
    },
}

/// Runs commands of one language in one folder, up to the first that fails.
#[derive(Debug)]
struct Runner<'a> {
    dir: PathBuf,
    hint: &'static str,
    environment: Vec<(&'static str, &'a OsStr)>,
}

impl Runner<'_> {
    /// Whether all of them succeeded.
    fn all(&self, commands: &[(&Path, &[&str])]) -> Result<bool, BindingsError> {
        for (program, arguments) in commands {
            if !self.one(program, arguments)?.success() {
                println!("failed: {}", spelled(program, arguments));
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn one(&self, program: &Path, arguments: &[&str]) -> Result<ExitStatus, BindingsError> {
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

fn spelled(program: &Path, arguments: &[&str]) -> String {
    format!("{} {}", program.display(), arguments.join(" "))
}
