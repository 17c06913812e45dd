//! Measures the reference host and, for comparison, `wasmtime serve`, both as release builds.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::BenchError;
use crate::{cache, cargo};

/// Wasmtime release of the reference host, so that the comparison is between hosts and not between
/// engines.
const WASMTIME_RELEASE: &str = "48.0.8";

/// Features that `wasmtime serve` needs, with the allocator and the asynchronous component model of
/// a default build. Other default features double the build time and do not affect serving.
const WASMTIME_FEATURES: &str =
    "serve,run,cranelift,pooling-allocator,parallel-compilation,component-model-async";

/// Runs the benchmark of the reference host with `arguments`. It measures `berth-host`, and with
/// `peers` also `wasmtime serve`. Prints the results without comparing them with targets.
///
/// # Errors
///
/// When cargo cannot be run, or `wasmtime serve` cannot be built.
pub fn run(root: &Path, peers: bool, arguments: &[OsString]) -> Result<ExitCode, BenchError> {
    let wasmtime = peers.then(|| wasmtime_cli(root)).transpose()?;
    println!("bench: building berth-host in release");
    let bench = [
        "bench",
        "--locked",
        "--quiet",
        "-p",
        "berth-host",
        "--bench",
        "peers",
        "--",
    ];
    let mut command = cargo::command(root, &bench);
    if let Some(program) = wasmtime {
        command.arg("--wasmtime").arg(program);
    }
    let status = command
        .args(arguments)
        .status()
        .map_err(BenchError::Cargo)?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Returns the program from the cache, or builds it. Cargo installs by rename, so the program is
/// never incomplete.
fn wasmtime_cli(root: &Path) -> Result<PathBuf, BenchError> {
    let dir = cache::dir()?.join(format!("wasmtime-cli-{WASMTIME_RELEASE}"));
    let program = dir.join("bin").join("wasmtime");
    if program.is_file() {
        return Ok(program);
    }
    println!(
        "bench: building wasmtime-cli {WASMTIME_RELEASE} into {} (once; takes some minutes)",
        dir.display()
    );
    let version = format!("={WASMTIME_RELEASE}");
    let install = [
        "install",
        "wasmtime-cli",
        "--version",
        &version,
        "--locked",
        "--no-default-features",
        "--features",
        WASMTIME_FEATURES,
        "--root",
    ];
    let mut command = cargo::command(root, &install);
    // Keeps its object files out of the target directory of this repository.
    let status = command
        .arg(&dir)
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .map_err(BenchError::Cargo)?;
    if status.success() && program.is_file() {
        Ok(program)
    } else {
        Err(BenchError::Wasmtime {
            release: WASMTIME_RELEASE,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_has_the_wasmtime_release_of_the_host() {
        let lock = include_str!("../../../Cargo.lock");
        let package = format!("name = \"wasmtime\"\nversion = \"{WASMTIME_RELEASE}\"\n");
        assert!(
            lock.contains(&package),
            "WASMTIME_RELEASE differs from the wasmtime version in Cargo.lock"
        );
    }
}
