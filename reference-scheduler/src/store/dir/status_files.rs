//! Status files: one readable file per object, replaced atomically, in a directory of the
//! scheduler.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::api::{Key, Object};

/// Name of the directory, below the directory of the manifests.
const STATUS_DIRECTORY: &str = ".berth";
/// Name of the file that the leader locks. It is not a valid namespace.
const LOCK_FILE: &str = ".lock";
/// Name of the directory for files that are being written.
const TEMPORARY_DIRECTORY: &str = ".tmp";
/// Maximum size of a status file: more than the 1.5 MiB to which etcd limits an object, so that an
/// object that fits in Kubernetes fits here, too.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The directory `PATH/.berth` with a file `NAMESPACE/KIND/NAME.yaml` for each object.
///
/// A file is replaced by renaming, so that readers, including the next process after a `kill -9`,
/// find the old state or the new state. Files are not synced to disk: the hosts run on the
/// same machine, so that a power failure ends their workloads, too.
#[derive(Debug)]
pub(super) struct StatusFiles {
    directory: PathBuf,
}

/// Error of reading or writing the status files.
#[derive(Debug, thiserror::Error)]
pub enum StatusFilesError {
    /// A file operation failed.
    #[error("cannot access {path}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A file is not as the scheduler wrote it. If the scheduler ignored the file, it could start a
    /// workload a second time.
    #[error("corrupt status file {path} ({reason}); repair it, or delete it to discard the object")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Description of the error.
        reason: String,
    },
}

/// Lock on the directory, which the leader holds until it ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: fs::File,
}

impl StatusFiles {
    /// Creates the directory below `root`, if missing.
    pub(super) fn create(root: &Path) -> Result<Self, StatusFilesError> {
        let files = Self {
            directory: root.join(STATUS_DIRECTORY),
        };
        let temporary = files.directory.join(TEMPORARY_DIRECTORY);
        fs::create_dir_all(&temporary).map_err(io_error(&temporary))?;
        Ok(files)
    }

    /// Locks the directory; returns `None` while another process holds the lock. The operating
    /// system releases the lock when the process ends, even if it is killed.
    pub(super) fn try_lock(&self) -> Result<Option<Lock>, StatusFilesError> {
        let path = self.directory.join(LOCK_FILE);
        let mut open = fs::OpenOptions::new();
        let file = open.create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(io_error(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(source)) => Err(StatusFilesError::Io { path, source }),
        }
    }

    /// Reads all objects.
    pub(super) fn load(&self) -> Result<Vec<Object>, StatusFilesError> {
        let mut objects = Vec::new();
        for namespace in directories(&self.directory)? {
            if namespace.ends_with(TEMPORARY_DIRECTORY) {
                continue;
            }
            for kind in directories(&namespace)? {
                for path in entries(&kind)? {
                    objects.push(self.load_one(path)?);
                }
            }
        }
        Ok(objects)
    }

    /// Writes an object.
    pub(super) fn put(&self, object: &Object) -> io::Result<()> {
        let value = object.to_value().map_err(io::Error::other)?;
        let text = serde_saphyr::to_string(&value).map_err(io::Error::other)?;
        let path = self.path(&object.key());
        let temporary = self.directory.join(TEMPORARY_DIRECTORY).join("object.yaml");
        let mut file = fs::File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        drop(file);
        match fs::rename(&temporary, &path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent)?;
                }
                fs::rename(&temporary, &path)
            }
            renamed => renamed,
        }
    }

    /// Removes the file of an object, if it exists.
    pub(super) fn remove(&self, key: &Key) -> io::Result<()> {
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns the path of the file of an object.
    pub(super) fn path(&self, key: &Key) -> PathBuf {
        let directory = self.directory.join(key.namespace.as_ref());
        let directory = directory.join(key.kind.plural());
        directory.join(format!("{}.yaml", key.name))
    }

    /// Appends a line to the event log, and rotates a long log.
    pub(super) fn append_event(&self, line: &str) -> io::Result<()> {
        /// Size of about ten thousand lines.
        const LOG_BYTES_MAX: u64 = 1 << 20;
        let path = self.directory.join("events.log");
        if fs::metadata(&path).is_ok_and(|it| it.len() >= LOG_BYTES_MAX) {
            fs::rename(&path, self.directory.join("events.log.1"))?;
        }
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)?;
        writeln!(file, "{line}")
    }

    fn load_one(&self, path: PathBuf) -> Result<Object, StatusFilesError> {
        let read = read_bounded(&path, FILE_BYTES_MAX).map_err(io_error(&path))?;
        let value: Result<serde_json::Value, _> = serde_saphyr::from_str(&read);
        let object = match value.map_err(|error| error.to_string()) {
            Ok(value) => Object::from_value(value).map_err(|error| error.to_string()),
            Err(reason) => Err(reason),
        };
        let object = match object {
            Ok(object) => object,
            Err(reason) => return Err(StatusFilesError::Corrupt { path, reason }),
        };
        let reason = if self.path(&object.key()) != path {
            Some("its path does not match its object")
        } else if object.metadata().uid.is_empty() {
            Some("its object has no uid")
        } else {
            None
        };
        if let Some(reason) = reason {
            let reason = reason.to_owned();
            return Err(StatusFilesError::Corrupt { path, reason });
        }
        Ok(object)
    }
}

/// Reads a file of at most `bytes_max` bytes.
pub(super) fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<String> {
    use io::Read as _;
    let mut text = String::new();
    let read = fs::File::open(path)?
        .take(bytes_max + 1)
        .read_to_string(&mut text)?;
    if read as u64 > bytes_max {
        let reason = format!("longer than {bytes_max} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    Ok(text)
}

fn directories(path: &Path) -> Result<Vec<PathBuf>, StatusFilesError> {
    let mut found = entries(path)?;
    found.retain(|path| path.is_dir());
    Ok(found)
}

fn entries(path: &Path) -> Result<Vec<PathBuf>, StatusFilesError> {
    let listed = fs::read_dir(path).and_then(|entries| {
        entries
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<Vec<_>>>()
    });
    let mut listed = listed.map_err(io_error(path))?;
    listed.sort();
    Ok(listed)
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> StatusFilesError {
    let path = path.to_owned();
    |source| StatusFilesError::Io { path, source }
}

#[cfg(test)]
mod tests;
