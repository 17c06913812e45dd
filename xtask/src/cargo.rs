//! Runs cargo, and finds what it has built.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A cargo command in the repository, by the cargo that runs this.
#[must_use]
pub fn command(root: &Path, arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root).args(arguments);
    command
}

/// A program that cargo has built; `profile_dir` is `debug` or `release`.
#[must_use]
pub fn built(root: &Path, profile_dir: &str, name: &str) -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    root.join(target).join(profile_dir).join(name)
}
