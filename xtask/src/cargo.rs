//! Runs cargo, and locates the programs that it builds.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns a cargo command in the repository. It runs the same cargo that runs this program.
#[must_use]
pub fn command(root: &Path, arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root).args(arguments);
    command
}

/// Returns the path of a program that cargo builds. `profile_dir` is `debug` or `release`.
#[must_use]
pub fn program(root: &Path, profile_dir: &str, name: &str) -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    root.join(target).join(profile_dir).join(name)
}
