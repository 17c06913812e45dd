//! The target when none is named: `berth-host`, from where it is most likely to be.

use std::path::{Path, PathBuf};

use crate::target::Target;

/// The reference host with everything that the suite can ask of it, or `None` when it is nowhere.
pub fn berth_host() -> Option<Target> {
    let program = find("BERTH_HOST", "berth-host")?;
    Some(Target::command(command_of(&program)))
}

/// How `berth-host` is launched for the suite.
pub fn command_of(program: &Path) -> Vec<String> {
    let program = program.display().to_string();
    let arguments = [
        "--nats-url",
        "{nats_url}",
        "--host-id",
        "{host_id}",
        "--http-addr",
        "{http_addr}",
        "--oci-cache-dir",
        "{dir}",
        // Checks bring registries of their own, each on a port of its own.
        "--allow-insecure-registries",
    ];
    std::iter::once(program)
        .chain(arguments.map(str::to_owned))
        .collect()
}

/// A program: named by a variable of the environment, beside this executable, or on the PATH.
pub fn find(variable: &str, name: &str) -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(variable).filter(|value| !value.is_empty()) {
        return Some(PathBuf::from(named));
    }
    beside(name).or_else(|| on_path(name))
}

fn beside(name: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    // A test binary lives one level deeper than what it tests.
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// A program on the PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}
