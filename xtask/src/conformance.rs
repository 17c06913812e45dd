//! Builds the suite and the reference host in release, and runs the one against the other.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::cargo;

/// Runs `berth-conformance host` with these further arguments, and returns its exit code.
///
/// # Errors
///
/// When a program cannot be run at all.
pub fn run(root: &Path, arguments: &[OsString]) -> Result<ExitCode, ConformanceError> {
    println!("conformance: building the suite and the reference host in release");
    let build = [
        "build",
        "--release",
        "--locked",
        "-p",
        "berth-host",
        "-p",
        "berth-conformance",
    ];
    let status = cargo::command(root, &build)
        .status()
        .map_err(ConformanceError::Cargo)?;
    if !status.success() {
        return Ok(ExitCode::from(HARNESS));
    }
    let suite = cargo::built(root, "release", "berth-conformance");
    let status = Command::new(suite)
        .arg("host")
        .args(arguments)
        .status()
        .map_err(ConformanceError::Suite)?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(HARNESS)))
}

/// The suite's exit code for trouble that is not the host's.
const HARNESS: u8 = 3;

/// Why nothing was judged.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// cargo cannot be run.
    #[error("cargo cannot be run")]
    Cargo(#[source] std::io::Error),
    /// The suite cannot be run.
    #[error("the suite was built and cannot be run")]
    Suite(#[source] std::io::Error),
}
