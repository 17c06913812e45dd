//! The image cache: layers on disk by their digest, and an index from references to them.
//!
//! Everything is in one folder of a name of our own below the folder that the operator gave, so that nothing
//! foreign is ever counted or removed:
//!
//! ```text
//! <cache folder>/berth-images-v1/layers/<hex of the layer's sha256>
//!                                index/<hex of the reference's sha256>.json
//!                                incoming/pull-…       half-written files
//! ```
//!
//! Files appear by rename, so a reader, a second host on the same folder, or a crash never sees half of one.
//! What is read is verified again; what does not verify is removed and counts as absent.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::digest::Digest;
use super::reference::ImageReference;

/// The folder of ours; a change of the layout gets another name.
const FOLDER: &str = "berth-images-v1";
/// How half-written files begin.
const INCOMING_PREFIX: &str = "pull-";
/// A half-written file this old is no pull's: its process died. No pull may last so long.
const INCOMING_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// An index entry is about 300 bytes; beyond this it is broken.
const ENTRY_BYTES_MAX: u64 = 16 * 1024;
/// References remembered: some 10 MB of small files, more than any host runs.
const ENTRIES_MAX: usize = 20_000;

/// A bounded cache of layers on disk. All methods block on the disk.
pub(super) struct Cache {
    layers: PathBuf,
    index: PathBuf,
    incoming: PathBuf,
    bytes_max: u64,
    /// One eviction at a time, so that two do not both make room for the same bytes.
    evicting: Mutex<()>,
}

/// What the index says of a reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    reference: String,
    manifest: String,
    layer: String,
}

/// An image as it was found in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cached {
    pub(super) manifest: Digest,
    pub(super) layer: Digest,
    pub(super) bytes: Bytes,
}

impl Cache {
    /// Opens the cache below `folder`, making what is missing, readable by this user only: it holds what was
    /// pulled with credentials.
    pub(super) fn open(folder: &Path, bytes_max: u64) -> io::Result<Self> {
        let root = folder.join(FOLDER);
        let [layers, index, incoming] = ["layers", "index", "incoming"].map(|it| root.join(it));
        for folder in [&layers, &index, &incoming] {
            private_folder(folder)?;
        }
        let cache = Self {
            layers,
            index,
            incoming,
            bytes_max,
            evicting: Mutex::default(),
        };
        // Tells an unwritable folder at start, not at the first pull.
        drop(cache.incoming()?);
        cache.sweep_incoming(SystemTime::now());
        cache.make_room(None);
        Ok(cache)
    }

    /// A file to write a layer into; gone when dropped, unless it is given to [`keep`](Self::keep).
    pub(super) fn incoming(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new()
            .prefix(INCOMING_PREFIX)
            .tempfile_in(&self.incoming)
    }

    /// The image that `reference` stood for when it was last pulled.
    pub(super) fn find(&self, reference: &ImageReference) -> Option<Cached> {
        let entry = self.entry(reference)?;
        let (manifest, layer) = (entry.manifest.parse().ok()?, entry.layer.parse().ok()?);
        let bytes = self.layer(&layer)?;
        Some(Cached {
            manifest,
            layer,
            bytes,
        })
    }

    /// The layer of that digest, verified, and marked as used now.
    pub(super) fn layer(&self, digest: &Digest) -> Option<Bytes> {
        let path = self.layers.join(digest.hex());
        let bytes = match read_bounded(&path, self.bytes_max) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read a cached image");
                return None;
            }
        };
        if Digest::of(&bytes) != *digest {
            tracing::warn!(%digest, "a cached image is damaged, it will be pulled again");
            remove(&path);
            return None;
        }
        let used = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = used {
            tracing::debug!(%digest, %error, "cannot mark a cached image as used");
        }
        Some(Bytes::from(bytes))
    }

    /// Keeps a written and verified layer under its digest, and makes room for it. A layer larger than the
    /// whole cache is not kept.
    pub(super) fn keep(&self, digest: &Digest, file: NamedTempFile) -> io::Result<()> {
        let size = file.as_file().metadata()?.len();
        if size > self.bytes_max {
            tracing::warn!(%digest, size, "an image is larger than the image cache, it is not kept");
            return Ok(());
        }
        // Not synced: after a crash, what is not whole does not verify and is pulled again.
        file.persist(self.layers.join(digest.hex()))
            .map_err(|failed| failed.error)?;
        self.make_room(Some(digest));
        Ok(())
    }

    /// Notes what `reference` stands for now.
    pub(super) fn note(
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
        let mut file = self.incoming()?;
        file.write_all(&serde_json::to_vec(&entry).map_err(io::Error::other)?)?;
        file.persist(self.entry_path(reference))
            .map_err(|failed| failed.error)?;
        Ok(())
    }

    fn entry_path(&self, reference: &ImageReference) -> PathBuf {
        let name = Digest::of(reference.to_string().as_bytes());
        self.index.join(format!("{}.json", name.hex()))
    }

    fn entry(&self, reference: &ImageReference) -> Option<Entry> {
        let path = self.entry_path(reference);
        let text = read_bounded(&path, ENTRY_BYTES_MAX).ok()?;
        match serde_json::from_slice::<Entry>(&text) {
            Ok(entry) if entry.reference == reference.to_string() => Some(entry),
            _ => {
                tracing::warn!(%reference, "a cache entry is damaged, it is dropped");
                remove(&path);
                None
            }
        }
    }

    /// Removes the layers used longest ago until the rest fits, `keep` excepted, and then the index entries
    /// beyond their own bound.
    fn make_room(&self, keep: Option<&Digest>) {
        let _one_at_a_time = self.evicting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_layer = |name: &str| format!("sha256:{name}").parse::<Digest>().is_ok();
        let layers = list(&self.layers, is_layer);
        for victim in victims(&layers, self.bytes_max, keep.map(Digest::hex)) {
            tracing::info!(layer = victim, "evicting an image from the cache");
            remove(&self.layers.join(victim));
        }
        let mut entries = list(&self.index, |name| {
            name.strip_suffix(".json").is_some_and(is_layer)
        });
        entries.sort_by_key(|entry| entry.used);
        for stale in entries
            .iter()
            .take(entries.len().saturating_sub(ENTRIES_MAX))
        {
            remove(&self.index.join(&stale.name));
        }
    }

    /// Removes what pulls of dead processes left behind.
    fn sweep_incoming(&self, now: SystemTime) {
        for file in list(&self.incoming, |name| name.starts_with(INCOMING_PREFIX)) {
            if now
                .duration_since(file.used)
                .is_ok_and(|age| age > INCOMING_AGE_MAX)
            {
                remove(&self.incoming.join(file.name));
            }
        }
    }
}

/// A file of ours, as eviction sees it.
#[derive(Debug)]
struct Kept {
    name: String,
    bytes: u64,
    used: SystemTime,
}

/// Which files to remove so that the rest has at most `bytes_max`: those used longest ago, never `keep`.
fn victims<'a>(files: &'a [Kept], bytes_max: u64, keep: Option<&str>) -> Vec<&'a str> {
    let mut total: u64 = files.iter().map(|file| file.bytes).sum();
    let mut oldest_first: Vec<&Kept> = files
        .iter()
        .filter(|file| Some(file.name.as_str()) != keep)
        .collect();
    oldest_first.sort_by(|a, b| (a.used, &a.name).cmp(&(b.used, &b.name)));
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

/// The plain files in `folder` whose names are `ours`; what vanishes meanwhile is left out.
fn list(folder: &Path, ours: impl Fn(&str) -> bool) -> Vec<Kept> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let read = |entry: fs::DirEntry| {
        let name = entry
            .file_name()
            .into_string()
            .ok()
            .filter(|name| ours(name))?;
        let found = fs::symlink_metadata(entry.path())
            .ok()
            .filter(fs::Metadata::is_file)?;
        Some(Kept {
            name,
            bytes: found.len(),
            used: found.modified().ok()?,
        })
    };
    entries.filter_map(Result::ok).filter_map(read).collect()
}

fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = fs::File::open(path)?;
    let mut content = Vec::new();
    file.take(bytes_max.saturating_add(1))
        .read_to_end(&mut content)?;
    Ok(content)
}

fn private_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// A file that is gone already was removed by another host on the same folder.
fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove a file of the image cache");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(cache: &Cache, reference: &str, content: &[u8]) -> Digest {
        let digest = Digest::of(content);
        let mut file = cache.incoming().unwrap();
        file.write_all(content).unwrap();
        cache.keep(&digest, file).unwrap();
        cache
            .note(
                &reference.parse().unwrap(),
                &Digest::of(b"manifest"),
                &digest,
            )
            .unwrap();
        digest
    }

    fn find(cache: &Cache, reference: &str) -> Option<Bytes> {
        cache
            .find(&reference.parse().unwrap())
            .map(|found| found.bytes)
    }

    fn set_used(cache: &Cache, digest: &Digest, seconds: u64) {
        let file = fs::File::open(cache.layers.join(digest.hex())).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
            .unwrap();
    }

    #[test]
    fn what_was_kept_is_found_again_by_another_process() {
        let folder = tempfile::tempdir().unwrap();
        put(
            &Cache::open(folder.path(), 100).unwrap(),
            "a/b:1",
            b"content",
        );
        let cache = Cache::open(folder.path(), 100).unwrap();
        assert_eq!(find(&cache, "docker.io/a/b:1").unwrap(), "content");
        assert_eq!(find(&cache, "a/b:2"), None);
        put(&cache, "a/b:1", b"moved");
        assert_eq!(find(&cache, "a/b:1").unwrap(), "moved");
    }

    #[test]
    fn the_layer_used_longest_ago_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), 10).unwrap();
        let (old, new) = (put(&cache, "a:1", b"11111"), put(&cache, "a:2", b"22222"));
        set_used(&cache, &old, 1_000);
        set_used(&cache, &new, 2_000);
        assert!(
            find(&cache, "a:1").is_some(),
            "which makes it the one used last"
        );
        put(&cache, "a:3", b"33333");
        assert_eq!(find(&cache, "a:2"), None);
        assert!(find(&cache, "a:1").is_some() && find(&cache, "a:3").is_some());
    }

    #[test]
    fn a_layer_larger_than_the_cache_pushes_nothing_out() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), 10).unwrap();
        put(&cache, "a:1", b"12345");
        put(&cache, "a:2", b"12345678901");
        assert!(find(&cache, "a:1").is_some());
        assert_eq!(find(&cache, "a:2"), None);
    }

    #[test]
    fn damage_is_noticed_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), 100).unwrap();
        let digest = put(&cache, "a:1", b"content");
        let layer = cache.layers.join(digest.hex());
        for damage in [&b"c0ntent"[..], b"", b"content and more"] {
            fs::write(&layer, damage).unwrap();
            assert_eq!(find(&cache, "a:1"), None, "{damage:?}");
            assert!(!layer.exists());
        }
        put(&cache, "a:1", b"content");
        let entry = cache.entry_path(&"a:1".parse().unwrap());
        fs::write(&entry, b"{\"reference\"").unwrap();
        assert_eq!(find(&cache, "a:1"), None);
        assert!(!entry.exists());
    }

    #[test]
    fn foreign_files_are_neither_counted_nor_removed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join(FOLDER);
        drop(Cache::open(folder.path(), 1).unwrap());
        let foreign = [
            folder.path().join("blobs"),
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
        let cache = Cache::open(folder.path(), 8).unwrap();
        put(&cache, "a:1", b"12345678");
        put(&cache, "a:2", b"87654321");
        assert!(foreign.iter().all(|path| path.exists()));
        assert!(find(&cache, "a:2").is_some());
    }

    #[test]
    fn what_a_dead_pull_left_is_swept_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), 8).unwrap();
        let (_, dead) = cache.incoming().unwrap().keep().unwrap();
        let living = cache.incoming().unwrap();
        fs::File::open(&dead)
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH)
            .unwrap();
        drop(Cache::open(folder.path(), 8).unwrap());
        assert!(!dead.exists() && living.path().exists());
    }
}
