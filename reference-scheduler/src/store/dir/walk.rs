//! Walks through a directory and its subdirectories. An entry that cannot be read spoils only
//! itself.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Maximum number of manifests in the whole directory, because a scan of more files would take
/// longer than the interval between scans.
const FILES_MAX: usize = 10_000;
/// Maximum number of entries in the whole directory, for the same reason.
const ENTRIES_MAX: usize = 100_000;
/// Maximum depth of nested directories.
const DEPTH_MAX: usize = 8;

/// The manifests of a directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Fingerprints of the manifests, by path below the directory.
    pub files: BTreeMap<String, Fingerprint>,
    /// Entries that cannot be followed, by path, with the reason.
    pub problems: BTreeMap<String, String>,
    /// Paths of files and directories of which it is unknown whether they still exist.
    unlisted: Vec<String>,
    entries: usize,
}

/// Properties by which a change of a file is detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    modified: SystemTime,
    /// Time of the last change of content or permissions, in seconds and nanoseconds.
    changed: (i64, i64),
    pub bytes: u64,
    inode: u64,
}

/// A directory, identified by device and inode.
type DirectoryId = (u64, u64);

impl Listing {
    /// Lists the manifests below `root`.
    pub(super) fn of(root: &Path) -> Self {
        let mut listing = Self::default();
        let identified = fs::metadata(root).map(|metadata| id_of(&metadata));
        match identified {
            Ok(id) => listing.add_directory(root, "", &mut vec![id]),
            Err(error) => listing.add_unlisted("", &error),
        }
        listing
    }

    /// Returns whether a file that was not found may still exist.
    pub(super) fn may_contain(&self, path: &str) -> bool {
        self.unlisted.iter().any(|unlisted| {
            let rest = path.strip_prefix(unlisted.as_str());
            rest.is_some_and(|rest| unlisted.is_empty() || rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Returns whether the directory itself cannot be listed.
    pub(super) fn is_root_missing(&self) -> bool {
        self.problems.contains_key(ROOT)
    }

    fn add_directory(&mut self, folder: &Path, path: &str, ancestors: &mut Vec<DirectoryId>) {
        let entries = fs::read_dir(folder).and_then(|entries| {
            let paths = entries.map(|entry| Ok(entry?.path()));
            let bounded = paths.take(ENTRIES_MAX.saturating_sub(self.entries) + 1);
            bounded.collect::<io::Result<Vec<PathBuf>>>()
        });
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => return self.add_unlisted(path, &error),
        };
        self.entries += entries.len();
        if self.entries > ENTRIES_MAX {
            let reason = format!("more than {ENTRIES_MAX} entries in the whole directory");
            return self.add_unlisted(path, &io::Error::other(reason));
        }
        // The order of a directory is arbitrary, and limits must always leave out the same files.
        entries.sort();
        for entry in entries {
            self.add_entry(&entry, path, ancestors);
        }
    }

    fn add_entry(&mut self, entry: &Path, parent: &str, ancestors: &mut Vec<DirectoryId>) {
        let Some(name) = entry.file_name() else {
            return;
        };
        let separator = if parent.is_empty() { "" } else { "/" };
        let path = format!("{parent}{separator}{}", name.to_string_lossy());
        let Some(name) = name.to_str() else {
            if is_manifest(&path) {
                self.add_problem(path, "the name is not UTF-8".to_owned());
            }
            return;
        };
        // Hidden files belong to this store or to an editor.
        if name.starts_with('.') {
            return;
        }
        // Follows links, which Kubernetes uses to mount ConfigMaps.
        match fs::metadata(entry) {
            Ok(metadata) if metadata.is_dir() => {
                self.add_subdirectory(entry, path, id_of(&metadata), ancestors);
            }
            Ok(metadata) if is_manifest(name) => self.add_file(path, &metadata),
            Ok(_) => {}
            Err(error) => self.add_unlisted(&path, &error),
        }
    }

    fn add_subdirectory(
        &mut self,
        entry: &Path,
        path: String,
        id: DirectoryId,
        ancestors: &mut Vec<DirectoryId>,
    ) {
        if ancestors.contains(&id) {
            self.add_problem(
                path,
                "the link leads to a directory that contains it".to_owned(),
            );
        } else if ancestors.len() > DEPTH_MAX {
            let reason = format!("nested deeper than {DEPTH_MAX} directories");
            self.add_problem(path, reason);
        } else {
            ancestors.push(id);
            self.add_directory(entry, &path, ancestors);
            ancestors.pop();
        }
    }

    fn add_file(&mut self, path: String, metadata: &fs::Metadata) {
        if !metadata.is_file() {
            return self.add_problem(path, "neither a file nor a directory".to_owned());
        }
        if self.files.len() == FILES_MAX {
            let error = io::Error::other(format!("more than {FILES_MAX} manifests"));
            return self.add_unlisted(&path, &error);
        }
        let fingerprint = Fingerprint {
            modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            bytes: metadata.len(),
            inode: metadata.ino(),
        };
        self.files.insert(path, fingerprint);
    }

    fn add_unlisted(&mut self, path: &str, error: &io::Error) {
        let shown = if path.is_empty() { ROOT } else { path };
        self.add_problem(
            shown.to_owned(),
            format!("{error}; its objects stay as they were"),
        );
        self.unlisted.push(path.to_owned());
    }

    fn add_problem(&mut self, path: String, reason: String) {
        self.problems.insert(path, reason);
    }
}

/// The directory itself, as its own path.
const ROOT: &str = ".";

fn id_of(metadata: &fs::Metadata) -> DirectoryId {
    (metadata.dev(), metadata.ino())
}

fn is_manifest(name: &str) -> bool {
    [".yaml", ".yml", ".json"]
        .iter()
        .any(|extension| name.ends_with(extension))
}
