//! The folder of the scheduler's own: one readable file for each object, replaced as a whole.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::api::{Key, Object};

/// The folder's name, below that of the manifests.
const FOLDER: &str = ".berth";
/// The file that the acting scheduler holds locked. No namespace is called so.
const LOCK: &str = ".lock";
/// The folder of what is half written.
const SCRATCH: &str = ".tmp";
/// The longest file that can be one of ours; an object in etcd may have 1.5 MiB.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// `PATH/.berth`: `NAMESPACE/KIND/NAME.yaml` for each object.
///
/// A file is replaced by renaming, so that one who looks, and the next process after a `kill -9`, finds the old
/// state or the new one. It is not forced to disk: after a power failure the hosts' processes are gone as well.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
}

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The operating system says no.
    #[error("cannot use {path}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what the scheduler wrote. Without it the scheduler might start something a second time.
    #[error(
        "{path} is not as the scheduler left it ({reason}); mend it, or delete it to have the object forgotten"
    )]
    Spoiled {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Held by the acting scheduler as long as it lives.
#[derive(Debug)]
pub(super) struct Lock {
    _file: fs::File,
}

impl Files {
    /// The folder below `root`, made when it is not there.
    pub(super) fn below(root: &Path) -> Result<Self, FilesError> {
        let files = Self {
            folder: root.join(FOLDER),
        };
        let scratch = files.folder.join(SCRATCH);
        fs::create_dir_all(&scratch).map_err(failed(&scratch))?;
        Ok(files)
    }

    /// Locks the folder; `None` while another process has it. The lock ends with the process, however that ends.
    pub(super) fn try_lock(&self) -> Result<Option<Lock>, FilesError> {
        let path = self.folder.join(LOCK);
        let mut open = fs::OpenOptions::new();
        let file = open.create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(failed(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(source)) => Err(FilesError::Io { path, source }),
        }
    }

    /// All objects that were kept.
    pub(super) fn load(&self) -> Result<Vec<Object>, FilesError> {
        let mut objects = Vec::new();
        for namespace in folders(&self.folder)? {
            if namespace.ends_with(SCRATCH) {
                continue;
            }
            for kind in folders(&namespace)? {
                for path in entries(&kind)? {
                    objects.push(self.load_one(path)?);
                }
            }
        }
        Ok(objects)
    }

    /// Keeps an object as it is now.
    pub(super) fn put(&self, object: &Object) -> io::Result<()> {
        let value = object.to_value().map_err(io::Error::other)?;
        let text = serde_saphyr::to_string(&value).map_err(io::Error::other)?;
        let path = self.path(&object.key());
        let scratch = self.folder.join(SCRATCH).join("object.yaml");
        let mut file = fs::File::create(&scratch)?;
        file.write_all(text.as_bytes())?;
        drop(file);
        match fs::rename(&scratch, &path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(folder) = path.parent() {
                    fs::create_dir_all(folder)?;
                }
                fs::rename(&scratch, &path)
            }
            renamed => renamed,
        }
    }

    /// Forgets an object. One that is not there is forgotten already.
    pub(super) fn remove(&self, key: &Key) -> io::Result<()> {
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The file of an object.
    pub(super) fn path(&self, key: &Key) -> PathBuf {
        let folder = self.folder.join(key.namespace.as_ref());
        let folder = folder.join(key.kind.plural());
        folder.join(format!("{}.yaml", key.name))
    }

    /// Adds a line to the record of what happened; the one before is kept when it gets long.
    pub(super) fn note(&self, line: &str) -> io::Result<()> {
        /// Some ten thousand lines.
        const RECORD_BYTES_MAX: u64 = 1 << 20;
        let path = self.folder.join("events.log");
        if fs::metadata(&path).is_ok_and(|it| it.len() >= RECORD_BYTES_MAX) {
            fs::rename(&path, self.folder.join("events.log.1"))?;
        }
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)?;
        writeln!(file, "{line}")
    }

    fn load_one(&self, path: PathBuf) -> Result<Object, FilesError> {
        let read = read_bounded(&path, FILE_BYTES_MAX).map_err(failed(&path))?;
        let value: Result<serde_json::Value, _> = serde_saphyr::from_str(&read);
        let object = match value.map_err(|error| error.to_string()) {
            Ok(value) => Object::from_value(value).map_err(|error| error.to_string()),
            Err(reason) => Err(reason),
        };
        let object = match object {
            Ok(object) => object,
            Err(reason) => return Err(FilesError::Spoiled { path, reason }),
        };
        if self.path(&object.key()) != path || object.metadata().uid.is_empty() {
            let reason = "it holds another object than its name says".to_owned();
            return Err(FilesError::Spoiled { path, reason });
        }
        Ok(object)
    }
}

/// Reads a file that should not be longer than this.
pub(super) fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<String> {
    use io::Read as _;
    let mut text = String::new();
    let read = fs::File::open(path)?
        .take(bytes_max + 1)
        .read_to_string(&mut text)?;
    if read as u64 > bytes_max {
        let reason = format!("it is longer than {bytes_max} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    Ok(text)
}

fn folders(path: &Path) -> Result<Vec<PathBuf>, FilesError> {
    let mut found = entries(path)?;
    found.retain(|path| path.is_dir());
    Ok(found)
}

fn entries(path: &Path) -> Result<Vec<PathBuf>, FilesError> {
    let listed = fs::read_dir(path).and_then(|entries| {
        entries
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<Vec<_>>>()
    });
    let mut listed = listed.map_err(failed(path))?;
    listed.sort();
    Ok(listed)
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> FilesError {
    let path = path.to_owned();
    |source| FilesError::Io { path, source }
}

#[cfg(test)]
mod tests;
