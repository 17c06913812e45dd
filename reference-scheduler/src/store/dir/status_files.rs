//! Status files: one readable file per object, replaced atomically, in a directory of the
//! scheduler.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::api::{Key, Kind, Object};
use crate::revision::fnv1a;

/// Name of the directory, below the directory of the manifests.
const STATUS_DIRECTORY: &str = ".berth";
/// Name of the file that the leader locks. It is not a valid namespace.
const LOCK_FILE: &str = ".lock";
/// Name of the directory for files that are being written.
const TEMPORARY_DIRECTORY: &str = ".tmp";
/// Name of the directory for files that are set aside because they are corrupt.
const INVALID_DIRECTORY: &str = ".invalid";
/// Name of the event log, and of the log before it.
const EVENT_LOG: [&str; 2] = ["events.log", "events.log.1"];
/// Maximum number of copies of one corrupt file that are set aside.
const COPIES_MAX: u32 = 1000;
/// Extension of a status file.
const EXTENSION: &str = ".yaml";
/// Maximum length of a file name.
const FILE_NAME_BYTES_MAX: usize = 255;
/// Maximum size of a status file: more than the 1.5 MiB to which etcd limits an object, so that an
/// object that fits in Kubernetes fits here, too.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The directory `PATH/.berth` with a file `NAMESPACE/KIND/NAME.yaml` for each object.
///
/// A file is written, synced and renamed, and its directory is synced, so that readers, including
/// the next process after a `kill -9` or a power failure, find the old state or the new state.
#[derive(Debug)]
pub(super) struct StatusFiles {
    directory: PathBuf,
}

/// The status files of an earlier process.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub objects: Vec<Object>,
    /// Corrupt files, which were set aside.
    pub lost: Vec<PathBuf>,
    /// Files that are not used, by path below the directory of the manifests, with the reason.
    pub problems: BTreeMap<String, String>,
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
        // Without a writable directory, no stop could be remembered.
        let probe = files.temporary_file();
        fs::File::create(&probe).map_err(io_error(&probe))?;
        Ok(files)
    }

    /// Returns the directory of the status files.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    fn temporary_file(&self) -> PathBuf {
        self.directory.join(TEMPORARY_DIRECTORY).join("object.yaml")
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

    /// Reads all objects. A corrupt file is set aside, and a file of another program is left alone.
    ///
    /// # Errors
    ///
    /// The directory itself cannot be listed.
    pub(super) fn load(&self) -> Result<Loaded, StatusFilesError> {
        let mut loaded = Loaded::default();
        for namespace in entries(&self.directory).map_err(io_error(&self.directory))? {
            let name = file_name(&namespace);
            if name.starts_with('.') || EVENT_LOG.contains(&name) {
                continue;
            }
            for kind in self.entries_of(&namespace, &mut loaded) {
                if Kind::ALL.iter().all(|it| it.plural() != file_name(&kind)) {
                    self.leave_alone(&kind, "not the directory of a kind", &mut loaded);
                    continue;
                }
                for path in self.entries_of(&kind, &mut loaded) {
                    self.load_file(&path, &mut loaded);
                }
            }
        }
        Ok(loaded)
    }

    fn entries_of(&self, folder: &Path, loaded: &mut Loaded) -> Vec<PathBuf> {
        entries(folder).unwrap_or_else(|error| {
            self.leave_alone(folder, &error.to_string(), loaded);
            Vec::new()
        })
    }

    fn load_file(&self, path: &Path, loaded: &mut Loaded) {
        if !file_name(path).ends_with(EXTENSION) || !path.is_file() {
            return self.leave_alone(path, "not a status file", loaded);
        }
        let bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
        let text = match read_bounded(path, FILE_BYTES_MAX, bytes) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => String::new(),
            Err(error) => return self.leave_alone(path, &error.to_string(), loaded),
        };
        match parse(&text) {
            Ok(object) if self.path(&object.key()) != *path => {
                let reason = format!("its object is {}", object.key());
                self.leave_alone(path, &reason, loaded);
            }
            Ok(object) => loaded.objects.push(object),
            Err(reason) => self.set_aside(path, &reason, loaded),
        }
    }

    fn leave_alone(&self, path: &Path, reason: &str, loaded: &mut Loaded) {
        let reason = format!("ignored: {reason}");
        loaded.problems.insert(self.shown(path), reason);
    }

    fn set_aside(&self, path: &Path, reason: &str, loaded: &mut Loaded) {
        loaded.lost.push(path.to_owned());
        let moved = self.move_aside(path);
        let end = match moved {
            Ok(to) => format!("moved to {}", self.shown(&to)),
            Err(error) => format!("cannot move it to {INVALID_DIRECTORY}: {error}"),
        };
        let reason = format!("corrupt status file ({reason}), {end}");
        loaded.problems.insert(self.shown(path), reason);
    }

    fn move_aside(&self, path: &Path) -> io::Result<PathBuf> {
        let folder = self.directory.join(INVALID_DIRECTORY);
        fs::create_dir_all(&folder)?;
        let below = path.strip_prefix(&self.directory).unwrap_or(path);
        let flat = below.to_string_lossy().replace('/', "_");
        let start = flat.len().saturating_sub(FILE_NAME_BYTES_MAX - 8);
        let flat = flat.get(start..).unwrap_or_default().to_owned();
        let numbered = (1..COPIES_MAX).map(|number| folder.join(format!("{flat}.{number}")));
        let mut free = std::iter::once(folder.join(&flat))
            .chain(numbered)
            .filter(|path| !path.exists());
        let to = free
            .next()
            .ok_or_else(|| io::Error::other("too many corrupt files"))?;
        fs::rename(path, &to)?;
        Ok(to)
    }

    /// Returns a path below the directory of the manifests.
    fn shown(&self, path: &Path) -> String {
        let root = self.directory.parent().unwrap_or(&self.directory);
        let below = path.strip_prefix(root).unwrap_or(path);
        below.display().to_string()
    }

    /// Writes an object.
    pub(super) fn put(&self, object: &Object) -> Result<(), StatusFilesError> {
        let path = self.path(&object.key());
        self.replace(&path, object).map_err(io_error(&path))
    }

    fn replace(&self, path: &Path, object: &Object) -> io::Result<()> {
        let value = object.to_value().map_err(io::Error::other)?;
        let text = serde_saphyr::to_string(&value).map_err(io::Error::other)?;
        let temporary = self.temporary_file();
        let mut file = fs::File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        drop(file);
        let Some(folder) = path.parent() else {
            return Ok(());
        };
        match fs::rename(&temporary, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.create_synced(folder)?;
                fs::rename(&temporary, path)?;
            }
            renamed => renamed?,
        }
        sync(folder)
    }

    /// Creates the directory of a kind with its parents, so that a power failure does not remove
    /// them.
    fn create_synced(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let created = folder.ancestors().skip(1);
        created
            .take_while(|folder| folder.starts_with(&self.directory))
            .try_for_each(sync)
    }

    /// Removes the file of an object, if it exists.
    pub(super) fn remove(&self, key: &Key) -> Result<(), StatusFilesError> {
        let path = self.path(key);
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => removed,
        };
        let folder = path.parent().unwrap_or(&path);
        removed.and_then(|()| sync(folder)).map_err(io_error(&path))
    }

    /// Returns the path of the file of an object.
    pub(super) fn path(&self, key: &Key) -> PathBuf {
        let directory = self.directory.join(key.namespace.as_ref());
        let directory = directory.join(key.kind.plural());
        directory.join(status_file_name(&key.name))
    }

    /// Appends a line to the event log, and rotates a long log.
    pub(super) fn append_event(&self, line: &str) -> Result<(), StatusFilesError> {
        let [log, before] = EVENT_LOG.map(|name| self.directory.join(name));
        append_line(&log, &before, line).map_err(io_error(&log))
    }
}

/// Appends a line, after the end of a line that was cut off.
fn append_line(log: &Path, before: &Path, line: &str) -> io::Result<()> {
    use io::{Read as _, Seek as _};
    /// Size of about ten thousand lines.
    const LOG_BYTES_MAX: u64 = 1 << 20;
    if fs::metadata(log).is_ok_and(|it| it.is_file() && it.len() >= LOG_BYTES_MAX) {
        fs::rename(log, before)?;
    }
    let mut options = fs::OpenOptions::new();
    let mut file = options.create(true).read(true).append(true).open(log)?;
    let mut last = [b'\n'];
    if file.seek(io::SeekFrom::End(-1)).is_ok() {
        file.read_exact(&mut last)?;
    }
    let start = if last == [b'\n'] { "" } else { "\n" };
    file.write_all(format!("{start}{line}\n").as_bytes())
}

/// Returns the name of the file of an object. A name that leaves no room for the extension is
/// shortened with a hash, after an underscore, which no name of an object contains.
fn status_file_name(name: &str) -> String {
    if name.len() + EXTENSION.len() <= FILE_NAME_BYTES_MAX {
        return format!("{name}{EXTENSION}");
    }
    let hash = format!("_{:08x}{EXTENSION}", fnv1a(name.as_bytes()));
    let start = name.get(..FILE_NAME_BYTES_MAX - hash.len());
    format!("{}{hash}", start.unwrap_or_default())
}

fn parse(text: &str) -> Result<Object, String> {
    let value: serde_json::Value =
        serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let object = Object::from_value(value).map_err(|error| error.to_string())?;
    if object.metadata().uid.is_empty() {
        return Err("its object has no uid".to_owned());
    }
    Ok(object)
}

/// Syncs the entries of a directory to disk.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

/// Reads a file of at most `bytes_max` bytes, without reading one that is longer according to its
/// metadata.
pub(super) fn read_bounded(path: &Path, bytes_max: u64, bytes: u64) -> io::Result<String> {
    use io::Read as _;
    let too_long = || {
        let reason = format!("longer than {bytes_max} bytes");
        io::Error::new(io::ErrorKind::FileTooLarge, reason)
    };
    if bytes > bytes_max {
        return Err(too_long());
    }
    let mut text = String::new();
    let read = fs::File::open(path)?
        .take(bytes_max + 1)
        .read_to_string(&mut text)?;
    if read as u64 > bytes_max {
        return Err(too_long());
    }
    Ok(text)
}

fn entries(path: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(path)?.map(|entry| Ok(entry?.path()));
    let mut listed = paths.collect::<io::Result<Vec<_>>>()?;
    listed.sort();
    Ok(listed)
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(OsStr::to_str).unwrap_or_default()
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> StatusFilesError {
    let path = path.to_owned();
    |source| StatusFilesError::Io { path, source }
}

#[cfg(test)]
mod tests;
