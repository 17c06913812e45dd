//! A cache folder for a host that was given none: it goes with the host, or with the next one.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

/// How such folders are named.
const PREFIX: &str = "berth-host-images-";
/// The file in it that its host keeps locked, for as long as it lives and in whatever container.
const LOCK: &str = "lock";
/// A folder younger than this may belong to a host that has not locked it yet.
const AGE_MIN: Duration = Duration::from_secs(60);

/// The folder; removed when dropped.
pub(super) struct TemporaryFolder {
    folder: TempDir,
    _lock: File,
}

impl TemporaryFolder {
    /// Makes a folder below `parent`, and removes those there whose hosts were killed.
    pub(super) fn make(parent: &Path) -> io::Result<Self> {
        sweep(parent, SystemTime::now());
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        let lock = File::create(folder.path().join(LOCK))?;
        lock.lock()?;
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes the folders of dead hosts: those that have a lock which nobody holds.
fn sweep(parent: &Path, now: SystemTime) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let named = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if named && is_abandoned(&entry.path(), now) {
            tracing::debug!(path = %entry.path().display(), "removing the images of a dead host");
            // Another host may be removing it at this moment; what stays is swept the next time.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

fn is_abandoned(folder: &Path, now: SystemTime) -> bool {
    let Ok(lock) = File::open(folder.join(LOCK)) else {
        return false;
    };
    let made = lock.metadata().and_then(|found| found.modified());
    let old = made.is_ok_and(|made| now.duration_since(made).is_ok_and(|age| age > AGE_MIN));
    old && lock.try_lock().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_dead_host_is_removed_and_that_of_a_living_one_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let living = TemporaryFolder::make(parent.path()).unwrap();
        let killed = TemporaryFolder::make(parent.path()).unwrap();
        // A killed process holds no lock and removes nothing.
        let TemporaryFolder { folder, _lock } = killed;
        let killed = folder.keep();
        drop(_lock);
        let foreign = parent.path().join(format!("{PREFIX}theirs"));
        fs::create_dir(&foreign).unwrap();

        sweep(parent.path(), SystemTime::now());
        assert!(killed.exists(), "it could be one that is just being made");
        sweep(parent.path(), SystemTime::now() + 2 * AGE_MIN);
        assert!(!killed.exists() && living.path().exists() && foreign.exists());

        let path = living.path().to_owned();
        drop(living);
        assert!(!path.exists());
    }
}
