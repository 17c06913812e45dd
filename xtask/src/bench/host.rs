//! Measures the reference host beside its peers: builds both in release and lets them take turns.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::BenchError;
use crate::{cache, cargo};

/// The release of Wasmtime that the reference host is built on: what is compared is the host, not the engine.
const WASMTIME_CLI: &str = "48.0.8";

/// What `wasmtime serve` needs, with the allocator and the asynchronous component model that an ordinary build of
/// it has, and without what takes as long again to compile and has no part in serving.
const WASMTIME_FEATURES: &str =
    "serve,run,cranelift,pooling-allocator,parallel-compilation,component-model-async";

/// Measures `berth-host`, and with `peers` also `wasmtime serve`, by the benchmark of the reference host, which gets
/// these further arguments. Prints; judges nothing.
///
/// # Errors
///
/// When cargo cannot be run, or the peer cannot be built.
pub fn run(root: &Path, peers: bool, arguments: &[OsString]) -> Result<ExitCode, BenchError> {
    let peer = peers.then(|| wasmtime_cli(root)).transpose()?;
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
    if let Some(program) = peer {
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

/// The program: from the cache, or built now, once. Cargo installs by rename, so no one finds half of it.
fn wasmtime_cli(root: &Path) -> Result<PathBuf, BenchError> {
    let dir = cache::dir()?.join(format!("wasmtime-cli-{WASMTIME_CLI}"));
    let program = dir.join("bin").join("wasmtime");
    if program.is_file() {
        return Ok(program);
    }
    println!(
        "bench: building wasmtime-cli {WASMTIME_CLI}, once, some minutes, into {}",
        dir.display()
    );
    let version = format!("={WASMTIME_CLI}");
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
    // Its objects are of no further use, and must not end up in the target directory of this repository.
    let status = command
        .arg(&dir)
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .map_err(BenchError::Cargo)?;
    if status.success() && program.is_file() {
        Ok(program)
    } else {
        Err(BenchError::Peer {
            release: WASMTIME_CLI,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_is_the_release_that_the_host_is_built_on() {
        let lock = include_str!("../../../Cargo.lock");
        let package = format!("name = \"wasmtime\"\nversion = \"{WASMTIME_CLI}\"\n");
        assert!(
            lock.contains(&package),
            "WASMTIME_CLI is not the wasmtime of Cargo.lock"
        );
    }
}
