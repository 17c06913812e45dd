//! Builds the suite and the reference host in release, and runs the suite against the host.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::cargo;

/// Runs `berth-conformance host` with `arguments`, and returns its exit code.
///
/// # Errors
///
/// When a program cannot be run.
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
        return Ok(ExitCode::from(HARNESS_FAILURE));
    }
    let mut command = Command::new(cargo::program(root, "release", "berth-conformance"));
    command
        .arg("host")
        .env("BERTH_HOST", cargo::program(root, "release", "berth-host"));
    let reports = report_flags(root, "conformance").map_err(ConformanceError::Reports)?;
    let status = command.args(&reports).args(arguments).status();
    let status = status.map_err(ConformanceError::Suite)?;
    println!(
        "conformance: the reports are in {}/",
        root.join(REPORT_DIR).display()
    );
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(HARNESS_FAILURE)))
}

/// Creates the report directory, and returns the flags for a report in each format.
///
/// # Errors
///
/// When the directory cannot be created.
pub fn report_flags(root: &Path, name: &str) -> std::io::Result<Vec<OsString>> {
    let dir = root.join(REPORT_DIR);
    std::fs::create_dir_all(&dir)?;
    let files =
        ["json", "xml", "txt"].map(|extension| dir.join(format!("{name}.{extension}")).into());
    Ok(files
        .into_iter()
        .flat_map(|file| ["--report".into(), file])
        .collect())
}

/// Directory of the reports; not committed.
const REPORT_DIR: &str = "berth-report";

/// The suite's exit code for failures that the host did not cause.
const HARNESS_FAILURE: u8 = 3;

/// Reason why the suite did not run.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// cargo cannot be run.
    #[error("cannot run cargo")]
    Cargo(#[source] std::io::Error),
    /// The report directory cannot be created.
    #[error("cannot create the directory for reports")]
    Reports(#[source] std::io::Error),
    /// The suite cannot be run.
    #[error("cannot run the suite")]
    Suite(#[source] std::io::Error),
}
