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
    let mut command = Command::new(cargo::built(root, "release", "berth-conformance"));
    command
        .arg("host")
        .env("BERTH_HOST", cargo::built(root, "release", "berth-host"));
    let reports = report_flags(root, "conformance").map_err(ConformanceError::Reports)?;
    let status = command.args(&reports).args(arguments).status();
    let status = status.map_err(ConformanceError::Suite)?;
    println!(
        "conformance: the reports of a run are in {}/",
        root.join(REPORT_DIR).display()
    );
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(HARNESS)))
}

/// Flags that leave the report of a run in each of its forms, in a directory that exists then.
///
/// # Errors
///
/// When the directory cannot be made.
pub fn report_flags(root: &Path, name: &str) -> std::io::Result<Vec<OsString>> {
    let dir = root.join(REPORT_DIR);
    std::fs::create_dir_all(&dir)?;
    let files = ["json", "xml", "txt"].map(|form| dir.join(format!("{name}.{form}")).into());
    Ok(files
        .into_iter()
        .flat_map(|file| ["--report".into(), file])
        .collect())
}

/// Where reports are left; not committed.
const REPORT_DIR: &str = "berth-report";

/// The suite's exit code for trouble that is not the host's.
const HARNESS: u8 = 3;

/// Why nothing was judged.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// cargo cannot be run.
    #[error("cargo cannot be run")]
    Cargo(#[source] std::io::Error),
    /// There is no place for reports.
    #[error("no directory can be made for the reports")]
    Reports(#[source] std::io::Error),
    /// The suite cannot be run.
    #[error("the suite was built and cannot be run")]
    Suite(#[source] std::io::Error),
}
