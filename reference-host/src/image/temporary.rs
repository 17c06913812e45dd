//! A temporary cache directory, removed with the host or, after a crash, by the next host.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

/// Prefix of the directory names.
const PREFIX: &str = "berth-host-images-";
/// Lock file in the directory. The host that owns the directory keeps it locked, even in a
/// container.
const LOCK: &str = "lock";
/// Minimum age of an abandoned directory. A younger one may belong to a host that has not locked it
/// yet.
const AGE_MIN: Duration = Duration::from_secs(60);

/// The directory; removed when dropped.
pub(super) struct TemporaryDirectory {
    directory: TempDir,
    _lock: File,
}

impl TemporaryDirectory {
    /// Creates a directory below `parent`, and removes the directories of killed hosts.
    pub(super) fn create(parent: &Path) -> io::Result<Self> {
        remove_abandoned(parent, SystemTime::now());
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        let lock = File::create(directory.path().join(LOCK))?;
        lock.lock()?;
        Ok(Self {
            directory,
            _lock: lock,
        })
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Removes the directories of dead hosts: those with an unlocked lock file.
fn remove_abandoned(parent: &Path, now: SystemTime) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let is_own = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if is_own && is_abandoned(&entry.path(), now) {
            tracing::debug!(path = %entry.path().display(), "removing image cache of a dead host");
            // Another host may be removing it too; the next host removes any leftovers.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

fn is_abandoned(directory: &Path, now: SystemTime) -> bool {
    let Ok(lock) = File::open(directory.join(LOCK)) else {
        return false;
    };
    let created = lock.metadata().and_then(|metadata| metadata.modified());
    let old =
        created.is_ok_and(|created| now.duration_since(created).is_ok_and(|age| age > AGE_MIN));
    old && lock.try_lock().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_directories_of_dead_hosts_only() {
        let parent = tempfile::tempdir().unwrap();
        let running = TemporaryDirectory::create(parent.path()).unwrap();
        let killed = TemporaryDirectory::create(parent.path()).unwrap();
        // A killed process holds no lock and removes nothing.
        let TemporaryDirectory { directory, _lock } = killed;
        let killed = directory.keep();
        drop(_lock);
        let foreign = parent.path().join(format!("{PREFIX}theirs"));
        fs::create_dir(&foreign).unwrap();

        remove_abandoned(parent.path(), SystemTime::now());
        assert!(killed.exists(), "its host may not have locked it yet");
        remove_abandoned(parent.path(), SystemTime::now() + 2 * AGE_MIN);
        assert!(!killed.exists() && running.path().exists() && foreign.exists());

        let path = running.path().to_owned();
        drop(running);
        assert!(!path.exists());
    }
}
