//! The image cache: layers on disk by digest, and an index from references to layers.
//!
//! The cache has its own subdirectory of the cache directory, so that it never counts or removes
//! other files:
//!
//! ```text
//! <cache directory>/berth-images-v1/layers/<hex of the layer's sha256>
//!                                   index/<hex of the reference's sha256>.json
//!                                   incoming/host-…/pull-…  incomplete files of one process
//! ```
//!
//! Files are written elsewhere, synced, and renamed into place, so a reader never finds a partial
//! file, even after a power failure or if two hosts use the same directory. Content is verified at
//! each read; a damaged file is removed and treated as missing. Entries that are not the cache's
//! own, or cannot be read, are named once and otherwise ignored.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::digest::Digest;
use super::reference::ImageReference;
use crate::owned_directory::{self, OwnedDirectory};

/// Name of the subdirectory. A change of the layout gets a new name.
const SUBDIRECTORY: &str = "berth-images-v1";
/// Prefix of the directories for incomplete files, one for each process.
const INCOMING_DIRECTORY_PREFIX: &str = "host-";
/// Prefix of incomplete files.
const INCOMING_PREFIX: &str = "pull-";
/// Limit of the odd entries that are named in the log, so that a foreign directory does not fill
/// it.
const NAMED_MAX: usize = 100;
/// Size limit of an index entry. A valid one has about 300 bytes.
const ENTRY_BYTES_MAX: u64 = 16 * 1024;
/// Limit of index entries: more than any host runs images. Their files have about 10 MB in total.
const ENTRIES_MAX: usize = 20_000;

/// A bounded cache of layers on disk. All methods do blocking I/O.
pub(super) struct Cache {
    layers: PathBuf,
    index: PathBuf,
    /// The incomplete files of this process.
    incoming: OwnedDirectory,
    bytes_max: u64,
    /// Odd entries that were named in the log.
    named: Mutex<HashSet<PathBuf>>,
    /// Serializes evictions, so that two do not both free space for the same bytes.
    evicting: Mutex<()>,
}

/// An index entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    reference: String,
    manifest: String,
    layer: String,
}

/// An image that was read from the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CachedImage {
    pub(super) manifest: Digest,
    pub(super) layer: Digest,
    pub(super) bytes: Bytes,
}

impl Cache {
    /// Opens the cache in `directory` and creates missing directories. Only this user may read
    /// them, because they hold images that were pulled with credentials.
    pub(super) fn open(directory: &Path, bytes_max: u64) -> io::Result<Self> {
        let root = directory.join(SUBDIRECTORY);
        let [layers, index, incoming] = ["layers", "index", "incoming"].map(|it| root.join(it));
        for directory in [&layers, &index, &incoming] {
            create_private_directory(directory)?;
        }
        owned_directory::sweep(&incoming, INCOMING_DIRECTORY_PREFIX);
        let cache = Self {
            layers,
            index,
            // Reports an unwritable directory at startup, not at the first pull.
            incoming: OwnedDirectory::create(&incoming, INCOMING_DIRECTORY_PREFIX)?,
            bytes_max,
            named: Mutex::default(),
            evicting: Mutex::default(),
        };
        cache.name_odd_entries();
        cache.evict(None);
        Ok(cache)
    }

    /// Names the entries of the cache's directories that it does not use.
    fn name_odd_entries(&self) {
        for (directory, is_own) in [
            (&self.layers, is_layer as fn(&str) -> bool),
            (&self.index, is_entry),
        ] {
            let entries = match fs::read_dir(directory) {
                Ok(entries) => entries,
                Err(error) => {
                    self.name(directory, &error.to_string());
                    continue;
                }
            };
            for entry in entries.filter_map(Result::ok) {
                if !entry.file_name().to_str().is_some_and(is_own) {
                    self.name(&entry.path(), "not a file of the cache");
                } else if let Err(error) = open(&entry.path()) {
                    self.name(&entry.path(), &error.to_string());
                }
            }
        }
    }

    /// Logs, once, that a file or directory is ignored.
    fn name(&self, path: &Path, reason: &str) {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if named.len() < NAMED_MAX && named.insert(path.to_owned()) {
            tracing::warn!(path = %path.display(), reason, "ignoring an entry of the image cache");
        }
    }

    /// Creates a file for a download. Dropping it removes it, unless
    /// [`insert_layer`](Self::insert_layer) received it.
    pub(super) fn create_incoming(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new()
            .prefix(INCOMING_PREFIX)
            .tempfile_in(self.incoming.path())
    }

    /// Returns the image that `reference` named when it was last pulled.
    pub(super) fn get(&self, reference: &ImageReference) -> Option<CachedImage> {
        let entry = self.entry(reference)?;
        let (manifest, layer) = (entry.manifest.parse().ok()?, entry.layer.parse().ok()?);
        let bytes = self.get_layer(&layer)?;
        Some(CachedImage {
            manifest,
            layer,
            bytes,
        })
    }

    /// Returns the verified layer with `digest` and marks it as recently used.
    pub(super) fn get_layer(&self, digest: &Digest) -> Option<Bytes> {
        let path = self.layers.join(digest.hex());
        let bytes = match read_bounded(&path, self.bytes_max) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.name(&path, &error.to_string());
                return None;
            }
        };
        if Digest::of(&bytes) != *digest {
            tracing::warn!(%digest, "removed damaged image from the cache");
            remove(&path);
            return None;
        }
        let marked = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = marked {
            tracing::debug!(%digest, %error, "cannot mark cached image as recently used");
        }
        Some(Bytes::from(bytes))
    }

    /// Moves a complete and verified layer into the cache, and evicts other layers to make room.
    /// Does not cache a layer that is larger than the whole cache.
    pub(super) fn insert_layer(&self, digest: &Digest, file: NamedTempFile) -> io::Result<()> {
        let size = file.as_file().metadata()?.len();
        if size > self.bytes_max {
            tracing::warn!(%digest, size, "image is larger than the image cache; not cached");
            return Ok(());
        }
        persist(file, &self.layers, digest.hex())?;
        self.evict(Some(digest));
        Ok(())
    }

    /// Records the digests that `reference` names now.
    pub(super) fn insert_reference(
        &self,
        reference: &ImageReference,
        manifest: &Digest,
        layer: &Digest,
    ) -> io::Result<()> {
        let [manifest, layer] = [manifest, layer].map(Digest::to_string);
        let entry = Entry {
            reference: reference.to_string(),
            manifest,
            layer,
        };
        if self.entry(reference).as_ref() == Some(&entry) {
            return Ok(());
        }
        let mut file = self.create_incoming()?;
        file.write_all(&serde_json::to_vec(&entry).map_err(io::Error::other)?)?;
        persist(file, &self.index, &entry_name(reference))
    }

    fn entry(&self, reference: &ImageReference) -> Option<Entry> {
        let path = self.index.join(entry_name(reference));
        let text = match read_bounded(&path, ENTRY_BYTES_MAX) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.name(&path, &error.to_string());
                return None;
            }
        };
        match serde_json::from_slice::<Entry>(&text) {
            Ok(entry) if entry.reference == reference.to_string() => Some(entry),
            _ => {
                tracing::warn!(%reference, "removed damaged cache entry");
                remove(&path);
                None
            }
        }
    }

    /// Removes the least recently used layers, except `keep`, until the rest fits; then removes the
    /// oldest index entries above their limit.
    fn evict(&self, keep: Option<&Digest>) {
        let _one_at_a_time = self.evicting.lock().unwrap_or_else(PoisonError::into_inner);
        let layers = list(&self.layers, is_layer);
        for layer in least_recently_used(&layers, self.bytes_max, keep.map(Digest::hex)) {
            tracing::info!(layer, "evicting image from the cache");
            remove(&self.layers.join(layer));
        }
        let mut entries = list(&self.index, is_entry);
        entries.sort_by_key(|entry| entry.modified_at);
        for excess in entries
            .iter()
            .take(entries.len().saturating_sub(ENTRIES_MAX))
        {
            remove(&self.index.join(&excess.name));
        }
    }
}

/// Returns whether a file name is that of a layer.
fn is_layer(name: &str) -> bool {
    format!("sha256:{name}").parse::<Digest>().is_ok()
}

/// Returns whether a file name is that of an index entry.
fn is_entry(name: &str) -> bool {
    name.strip_suffix(".json").is_some_and(is_layer)
}

fn entry_name(reference: &ImageReference) -> String {
    let name = Digest::of(reference.to_string().as_bytes());
    format!("{}.json", name.hex())
}

/// Moves a complete file to its place. Both the content and the name survive a power failure.
fn persist(file: NamedTempFile, directory: &Path, name: &str) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(directory.join(name))
        .map_err(|failed| failed.error)?;
    fs::File::open(directory)?.sync_all()
}

/// A file of the cache, with the size and time that determine whether it is removed.
#[derive(Debug)]
struct CacheFile {
    name: String,
    bytes: u64,
    /// Time of the last modification; for a layer, of its last use.
    modified_at: SystemTime,
}

/// Returns the files to remove so that the rest has at most `bytes_max` bytes: the least recently
/// used, never `keep`.
fn least_recently_used<'a>(
    files: &'a [CacheFile],
    bytes_max: u64,
    keep: Option<&str>,
) -> Vec<&'a str> {
    let mut total: u64 = files.iter().map(|file| file.bytes).sum();
    let mut oldest_first: Vec<&CacheFile> = files
        .iter()
        .filter(|file| Some(file.name.as_str()) != keep)
        .collect();
    oldest_first.sort_by(|a, b| (a.modified_at, &a.name).cmp(&(b.modified_at, &b.name)));
    let mut chosen = Vec::new();
    for file in oldest_first {
        if total <= bytes_max {
            break;
        }
        total = total.saturating_sub(file.bytes);
        chosen.push(file.name.as_str());
    }
    chosen
}

/// Lists the regular files in `directory` whose names satisfy `is_own`. Omits files that disappear
/// during the listing.
fn list(directory: &Path, is_own: impl Fn(&str) -> bool) -> Vec<CacheFile> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let read = |entry: fs::DirEntry| {
        let name = entry
            .file_name()
            .into_string()
            .ok()
            .filter(|name| is_own(name))?;
        let metadata = fs::symlink_metadata(entry.path())
            .ok()
            .filter(fs::Metadata::is_file)?;
        Some(CacheFile {
            name,
            bytes: metadata.len(),
            modified_at: metadata.modified().ok()?,
        })
    };
    entries.filter_map(Result::ok).filter_map(read).collect()
}

/// Reads at most `bytes_max` + 1 bytes. The content of a longer file is cut, so it fails the
/// verification by the caller.
fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let mut content = Vec::new();
    file.take(bytes_max.saturating_add(1))
        .read_to_end(&mut content)?;
    Ok(content)
}

/// Opens a regular file. Opening another kind of file may block indefinitely.
fn open(path: &Path) -> io::Result<fs::File> {
    if fs::symlink_metadata(path)?.is_file() {
        fs::File::open(path)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ))
    }
}

fn create_private_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Removes a file. A missing file is not an error: another host on the same directory removed it.
fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove file of the image cache");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn insert(cache: &Cache, reference: &str, content: &[u8]) -> Digest {
        let digest = Digest::of(content);
        let mut file = cache.create_incoming().unwrap();
        file.write_all(content).unwrap();
        cache.insert_layer(&digest, file).unwrap();
        cache
            .insert_reference(
                &reference.parse().unwrap(),
                &Digest::of(b"manifest"),
                &digest,
            )
            .unwrap();
        digest
    }

    fn get(cache: &Cache, reference: &str) -> Option<Bytes> {
        cache
            .get(&reference.parse().unwrap())
            .map(|image| image.bytes)
    }

    fn set_used(cache: &Cache, digest: &Digest, seconds: u64) {
        let file = fs::File::open(cache.layers.join(digest.hex())).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
            .unwrap();
    }

    #[test]
    fn finds_images_of_an_earlier_process() {
        let directory = tempfile::tempdir().unwrap();
        insert(
            &Cache::open(directory.path(), 100).unwrap(),
            "a/b:1",
            b"content",
        );
        let cache = Cache::open(directory.path(), 100).unwrap();
        assert_eq!(get(&cache, "docker.io/a/b:1").unwrap(), "content");
        assert_eq!(get(&cache, "a/b:2"), None);
        insert(&cache, "a/b:1", b"moved");
        assert_eq!(get(&cache, "a/b:1").unwrap(), "moved");
    }

    #[test]
    fn evicts_least_recently_used_layer() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path(), 10).unwrap();
        let (old, new) = (
            insert(&cache, "a:1", b"11111"),
            insert(&cache, "a:2", b"22222"),
        );
        set_used(&cache, &old, 1_000);
        set_used(&cache, &new, 2_000);
        assert!(
            get(&cache, "a:1").is_some(),
            "this read makes a:1 the most recently used"
        );
        insert(&cache, "a:3", b"33333");
        assert_eq!(get(&cache, "a:2"), None);
        assert!(get(&cache, "a:1").is_some() && get(&cache, "a:3").is_some());
    }

    #[test]
    fn does_not_evict_for_a_layer_larger_than_the_cache() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path(), 10).unwrap();
        insert(&cache, "a:1", b"12345");
        insert(&cache, "a:2", b"12345678901");
        assert!(get(&cache, "a:1").is_some());
        assert_eq!(get(&cache, "a:2"), None);
    }

    #[test]
    fn removes_damaged_files() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path(), 100).unwrap();
        let digest = insert(&cache, "a:1", b"content");
        let layer = cache.layers.join(digest.hex());
        for damage in [&b"c0ntent"[..], b"", b"content and more"] {
            fs::write(&layer, damage).unwrap();
            assert_eq!(get(&cache, "a:1"), None, "{damage:?}");
            assert!(!layer.exists());
        }
        insert(&cache, "a:1", b"content");
        let entry = cache.index.join(entry_name(&"a:1".parse().unwrap()));
        for damage in [&b"{\"reference\""[..], b"", &[0; 300]] {
            insert(&cache, "a:1", b"content");
            fs::write(&entry, damage).unwrap();
            assert_eq!(get(&cache, "a:1"), None, "{damage:?}");
            assert!(!entry.exists());
        }
    }

    #[test]
    fn neither_counts_nor_removes_foreign_files() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join(SUBDIRECTORY);
        drop(Cache::open(directory.path(), 1).unwrap());
        let foreign = [
            directory.path().join("blobs"),
            root.join("notes.txt"),
            root.join("layers/readme"),
            root.join("incoming/theirs"),
            root.join("index/x.json"),
        ];
        for path in &foreign {
            fs::write(path, b"0123456789").unwrap();
            fs::File::open(path)
                .unwrap()
                .set_modified(SystemTime::UNIX_EPOCH)
                .unwrap();
        }
        let cache = Cache::open(directory.path(), 8).unwrap();
        insert(&cache, "a:1", b"12345678");
        insert(&cache, "a:2", b"87654321");
        assert!(foreign.iter().all(|path| path.exists()));
        assert!(get(&cache, "a:2").is_some());
    }

    #[test]
    #[cfg(unix)]
    fn odd_entries_are_named_once_and_do_not_hide_images() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path(), 100).unwrap();
        let good = insert(&cache, "good:1", b"good");
        let as_directory = insert(&cache, "directory:1", b"directory");
        let as_link = insert(&cache, "link:1", b"link");
        let fifo = insert(&cache, "fifo:1", b"fifo");
        let path = |digest: &Digest| cache.layers.join(digest.hex());
        for digest in [&as_directory, &as_link, &fifo] {
            fs::remove_file(path(digest)).unwrap();
        }
        fs::create_dir(path(&as_directory)).unwrap();
        symlink("nowhere", path(&as_link)).unwrap();
        nix::unistd::mkfifo(&path(&fifo), nix::sys::stat::Mode::S_IRUSR).unwrap();
        fs::write(cache.layers.join("README"), "text").unwrap();
        let lost = directory.path().join("lost+found");
        fs::create_dir(&lost).unwrap();
        fs::set_permissions(&lost, PermissionsExt::from_mode(0o0)).unwrap();

        let reopened = Cache::open(directory.path(), 100).unwrap();
        let named = |cache: &Cache| cache.named.lock().unwrap().len();
        assert_eq!(named(&reopened), 4);
        assert_eq!(get(&reopened, "good:1").unwrap(), "good");
        for odd in ["directory:1", "link:1", "fifo:1"] {
            assert_eq!(get(&reopened, odd), None, "{odd}");
        }
        assert_eq!(named(&reopened), 4, "each entry is named once");
        assert!(path(&good).exists() && path(&as_directory).exists() && lost.exists());
        insert(&reopened, "new:1", b"new");
        assert_eq!(get(&reopened, "new:1").unwrap(), "new");
    }

    #[test]
    fn removes_incomplete_files_of_dead_processes_only() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path(), 8).unwrap();
        let active = cache.create_incoming().unwrap();
        // The directory of a killed process: its lock is free.
        let killed = cache.incoming.path().with_file_name("host-killed");
        fs::create_dir(&killed).unwrap();
        fs::write(killed.join("lock"), "").unwrap();
        fs::write(killed.join("pull-1"), "partial").unwrap();
        drop(Cache::open(directory.path(), 8).unwrap());
        assert!(!killed.exists() && active.path().exists());
    }
}
