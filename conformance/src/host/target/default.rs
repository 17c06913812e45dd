//! Default target: `berth-host`, if it is found.

use std::path::Path;

use super::Target;
use crate::testbed::program::find;

/// Returns the reference host as a target, or `None` if its program is not found.
pub fn berth_host() -> Option<Target> {
    let program = find("BERTH_HOST", "berth-host")?;
    Some(Target::command(launch_command(&program)))
}

/// Returns the command with which the suite launches `berth-host`.
pub fn launch_command(program: &Path) -> Vec<String> {
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
        // Checks start private registries on random ports.
        "--allow-insecure-registries",
    ];
    std::iter::once(program)
        .chain(arguments.map(str::to_owned))
        .collect()
}
