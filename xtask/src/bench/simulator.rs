//! Runs the simulator of the reference scheduler's core at sizes that are too large for tests.

use std::path::Path;
use std::process::ExitCode;

use super::BenchError;
use crate::cargo;

/// Default number of fault runs.
const DEFAULT_SEEDS: &str = "10000";

/// Environment variable with the number of fault runs.
const SEEDS_VARIABLE: &str = "BERTH_SIM_SEEDS";

/// Runs the benchmark of the core. It prints its measurements, and whether they meet their targets.
///
/// # Errors
///
/// When cargo cannot be run.
pub fn run(root: &Path) -> Result<ExitCode, BenchError> {
    println!("bench: building the simulator in release");
    let bench = [
        "bench",
        "--locked",
        "--quiet",
        "-p",
        "berth-scheduler",
        "--bench",
        "sim",
    ];
    let mut command = cargo::command(root, &bench);
    if std::env::var_os(SEEDS_VARIABLE).is_none() {
        command.env(SEEDS_VARIABLE, DEFAULT_SEEDS);
    }
    let status = command.status().map_err(BenchError::Cargo)?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
