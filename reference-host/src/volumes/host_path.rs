//! The host paths that a workload may mount.

use std::path::{Path, PathBuf};

/// Directories with data of others, which not even reading is harmless: views of the kernel with
/// the environments and memory of all processes, the host with its credentials included; secrets
/// and sockets of running programs; the files of other containers.
const PRIVATE: [&str; 9] = [
    "/dev",
    "/proc",
    "/root",
    "/run",
    "/sys",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/kubelet",
    "/var/run",
];

/// Directories from which the machine runs. Who writes to them owns the machine.
const SYSTEM: [&str; 10] = [
    "/bin",
    "/boot",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/sbin",
    "/usr",
    "/var/lib",
    "/var/spool",
];

/// Directories of [`SYSTEM`] whose subdirectories belong to single programs and may be mounted.
const SHARED: [&str; 1] = ["/var/lib"];

/// Reason why a host path may not be mounted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostPathRefusal {
    /// The path is below none of the directories that the operator allowed.
    #[error("the directory is in none that --allow-host-path names")]
    NotAllowed,
    /// The path contains, or is in, a directory with data of other programs.
    #[error(
        "the directory gives access to {0}; mount another directory, or start the host with --allow-host-path"
    )]
    Private(PathBuf),
    /// The path contains, or is in, a directory that guests must not change.
    #[error(
        "the mount makes {0} writable; mount it readOnly, mount another directory, or start the host \
         with --allow-host-path"
    )]
    Writable(PathBuf),
}

/// Checks whether a directory may be mounted. `path` contains no symbolic links. A non-empty
/// `allowed` lists the permitted directories; then nothing else is checked.
pub fn check(path: &Path, read_only: bool, allowed: &[PathBuf]) -> Result<(), HostPathRefusal> {
    if !allowed.is_empty() {
        // An allowed directory may be a link, or may not exist on this machine.
        let real = |it: &PathBuf| it.canonicalize().unwrap_or_else(|_| it.clone());
        if allowed.iter().any(|it| path.starts_with(real(it))) {
            return Ok(());
        }
        return Err(HostPathRefusal::NotAllowed);
    }
    let temporary = std::env::temp_dir();
    let volumes = temporary.canonicalize().unwrap_or(temporary);
    let is_of_volumes = path.starts_with(&volumes)
        && path
            .components()
            .any(|it| is_name_of_volumes(it.as_os_str()));
    if is_of_volumes || volumes.starts_with(path) {
        return Err(HostPathRefusal::Private(volumes));
    }
    let contains = |it: &&&str| Path::new(it).starts_with(path);
    let overlaps = |it: &&&str| path.starts_with(it) || contains(it);
    if let Some(private) = PRIVATE.iter().find(overlaps) {
        return Err(HostPathRefusal::Private(private.into()));
    }
    let system = SYSTEM.iter().find(|it| {
        if SHARED.contains(it) {
            contains(it)
        } else {
            overlaps(it)
        }
    });
    match system {
        Some(system) if !read_only => Err(HostPathRefusal::Writable(system.into())),
        _ => Ok(()),
    }
}

fn is_name_of_volumes(name: &std::ffi::OsStr) -> bool {
    name.to_str()
        .is_some_and(|name| name.starts_with(super::TEMPORARY_PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_directories_are_refused() {
        for (path, read_only, permitted) in [
            ("/", false, false),
            ("/", true, false),
            ("/proc/1", true, false),
            ("/dev", true, false),
            ("/sys/kernel", false, false),
            ("/etc", false, false),
            ("/etc/ssl/certs", false, false),
            ("/etc/ssl/certs", true, true),
            ("/usr/share/zoneinfo", true, true),
            ("/usr", false, false),
            ("/var", false, false),
            ("/var/lib", false, false),
            ("/var/lib/kubelet/pods", false, false),
            ("/var/lib/shop", false, true),
            ("/var/run", false, false),
            ("/run/secrets", true, false),
            ("/var/lib/kubelet", true, false),
            ("/home/shop/data", false, true),
            ("/srv/data", false, true),
            ("/data", false, true),
            ("/etcetera", false, true),
        ] {
            let checked = check(Path::new(path), read_only, &[]);
            assert_eq!(
                checked.is_ok(),
                permitted,
                "{path} {read_only}: {checked:?}"
            );
        }
    }

    #[test]
    fn allowed_directories_exclude_all_others() {
        let allowed = ["/srv/data".into(), "/etc/app".into()];
        for (path, permitted) in [
            ("/srv/data", true),
            ("/srv/data/a", true),
            ("/etc/app", true),
            ("/srv", false),
            ("/srv/data2", false),
            ("/data", false),
        ] {
            assert_eq!(
                check(Path::new(path), false, &allowed).is_ok(),
                permitted,
                "{path}"
            );
        }
    }
}
