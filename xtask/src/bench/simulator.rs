//! Runs the simulator of the reference scheduler's core at sizes that no test waits for.

use std::path::Path;
use std::process::ExitCode;

use super::BenchError;
use crate::cargo;

/// How many storms are played, unless the variable says another number.
const SEEDS: &str = "10000";

/// The variable in which the benchmark looks for the number of storms.
const VARIABLE: &str = "BERTH_SIM_SEEDS";

/// Runs the benchmark of the core; it prints what it measures and says whether its targets are met.
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
    if std::env::var_os(VARIABLE).is_none() {
        command.env(VARIABLE, SEEDS);
    }
    let status = command.status().map_err(BenchError::Cargo)?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
