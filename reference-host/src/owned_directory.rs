//! Directories that belong to one process and are removed with it or, if it was killed, by the next
//! host.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::remove_tree::remove_tree;

/// Lock file in the directory. The owner keeps it locked, so that others see whether it lives, even
/// across containers and when its process id has been used again.
const LOCK: &str = "lock";

/// Part of the name before the lock is taken, so that a sweep never meets an unlocked directory of
/// a living host.
const UNLOCKED: &str = "new-";

/// Age above which an unlocked directory belongs to a dead process: its owner locks it within
/// milliseconds.
const UNLOCKED_AGE_MAX: Duration = Duration::from_secs(60);

/// A directory that belongs to this process. Dropping it removes it with its content.
#[derive(Debug)]
pub struct OwnedDirectory {
    path: PathBuf,
    _lock: File,
}

impl OwnedDirectory {
    /// Creates a directory below `parent` whose name begins with `prefix`. Only this user may
    /// access it.
    pub fn create(parent: &Path, prefix: &str) -> io::Result<Self> {
        let unlocked = tempfile::Builder::new()
            .prefix(&format!("{prefix}{UNLOCKED}"))
            .tempdir_in(parent)?;
        let lock = File::create(unlocked.path().join(LOCK))?;
        lock.lock()?;
        let path = parent.join(format!("{prefix}{}", uuid::Uuid::new_v4().simple()));
        fs::rename(unlocked.path(), &path)?;
        // It has another name now, so nothing is left to remove.
        let _ = unlocked.keep();
        Ok(Self { path, _lock: lock })
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for OwnedDirectory {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes the directories below `parent` whose names begin with `prefix` and whose owners are
/// dead. Logs each one that cannot be removed. Does blocking I/O, in proportion to their size.
pub fn sweep(parent: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(prefix)) else {
            continue;
        };
        let path = entry.path();
        if rest.starts_with(UNLOCKED) {
            if is_older_than(&path, UNLOCKED_AGE_MAX) && lock_of_dead_owner(&path).is_some() {
                remove(&path);
            }
        } else if let Some(_lock) = lock_of_dead_owner(&path) {
            tracing::info!(path = %path.display(), "removing the directory of a dead host");
            remove(&path);
        }
    }
}

/// Returns the lock of a directory if nobody holds it. A directory without a lock file is not ours.
fn lock_of_dead_owner(directory: &Path) -> Option<File> {
    let is_directory = fs::symlink_metadata(directory).is_ok_and(|it| it.is_dir());
    let lock = File::open(directory.join(LOCK))
        .ok()
        .filter(|_| is_directory)?;
    lock.try_lock().is_ok().then_some(lock)
}

fn is_older_than(path: &Path, age: Duration) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|it| it.modified());
    modified.is_ok_and(|at| {
        SystemTime::now()
            .duration_since(at)
            .is_ok_and(|it| it > age)
    })
}

/// Removes the content of a directory, then its lock, then the directory, so that a sweep can
/// continue an interrupted removal.
fn remove(directory: &Path) {
    let mut result = Ok(());
    match fs::read_dir(directory) {
        Err(error) => result = Err(error),
        Ok(entries) => {
            for entry in entries.filter_map(Result::ok) {
                let is_directory = entry.file_type().is_ok_and(|it| it.is_dir());
                let removed = match is_directory {
                    _ if entry.file_name() == LOCK => Ok(()),
                    true => remove_tree(&entry.path()),
                    false => fs::remove_file(entry.path()),
                };
                result = result.and(removed);
            }
        }
    }
    let result = result.and_then(|()| {
        fs::remove_file(directory.join(LOCK))?;
        fs::remove_dir(directory)
    });
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let path = directory.display();
            tracing::warn!(%path, %error, "cannot remove a directory of the host");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the path of a directory whose owner was killed.
    fn killed(parent: &Path) -> PathBuf {
        let directory = OwnedDirectory::create(parent, "p-").unwrap();
        let path = directory.path().to_owned();
        fs::create_dir(path.join("volume")).unwrap();
        fs::write(path.join("volume/file"), "x").unwrap();
        // The lock ends with the process; its directory stays.
        let copy = parent.join("copy");
        fs::rename(&path, &copy).unwrap();
        drop(directory);
        fs::rename(&copy, &path).unwrap();
        path
    }

    #[test]
    fn sweep_removes_directories_of_dead_owners_only() {
        let parent = tempfile::tempdir().unwrap();
        let living = OwnedDirectory::create(parent.path(), "p-").unwrap();
        fs::write(living.path().join("file"), "x").unwrap();
        let dead = killed(parent.path());
        let foreign = parent.path().join("p-theirs");
        fs::create_dir(&foreign).unwrap();
        let other = OwnedDirectory::create(parent.path(), "q-").unwrap();

        sweep(parent.path(), "p-");
        assert!(!dead.exists());
        assert!(living.path().join("file").exists() && foreign.exists() && other.path().exists());

        let path = living.path().to_owned();
        drop(living);
        assert!(!path.exists());
        sweep(&parent.path().join("missing"), "p-");
    }
}
