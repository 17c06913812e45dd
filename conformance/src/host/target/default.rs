//! The target when none is named: `berth-host`, from where it is most likely to be.

use std::path::Path;

use super::Target;
use crate::testbed::program::find;

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
