//! Looks at the directory: which files are new, changed or gone, and at rest since the last look.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::document::{self, Document};
use super::files::read_bounded;
use super::manifest::Wanted;

/// The longest manifest file: that of an API server's request.
const FILE_BYTES_MAX: u64 = 3 << 20;
/// How many files are looked at; more would make a look take longer than the time between two.
const FILES_MAX: usize = 10_000;
/// How deep folders may be in one another.
const DEPTH_MAX: usize = 8;

/// The files of a directory as they were at the last looks.
///
/// A change counts when two looks find the same: editors write in several steps, and between them a file can be
/// empty or away.
#[derive(Debug)]
pub(super) struct Looks {
    root: PathBuf,
    files: BTreeMap<String, File>,
}

/// By what a change of a file shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sign {
    modified: SystemTime,
    bytes: u64,
    inode: u64,
}

#[derive(Debug)]
struct File {
    /// At the last look; `None` when it was away.
    seen: Option<Sign>,
    /// When it was read.
    read: Option<Sign>,
    /// What it held; `None` when it cannot be used now.
    held: Option<Vec<Document>>,
}

impl Looks {
    pub(super) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            files: BTreeMap::new(),
        }
    }

    /// Looks, and says whether anything is to be done.
    ///
    /// # Errors
    ///
    /// A folder that cannot be listed. Nothing is concluded then: a directory that is away for a moment wants
    /// nothing deleted.
    pub(super) fn look(&mut self) -> io::Result<bool> {
        let mut found = BTreeMap::new();
        list(&self.root, "", 0, &mut found)?;
        let mut changed = false;
        self.files.retain(|name, file| {
            if found.contains_key(name) {
                return true;
            }
            let was_seen = file.seen.take().is_some();
            changed |= !was_seen;
            was_seen
        });
        for (name, sign) in found {
            let path = self.root.join(&name);
            let file = self.files.entry(name).or_insert_with_key(|_| File {
                seen: None,
                read: None,
                held: None,
            });
            let at_rest = file.seen.replace(sign) == Some(sign);
            if at_rest && file.read != Some(sign) {
                file.read = Some(sign);
                file.held = read(&path);
                changed = true;
            }
        }
        Ok(changed)
    }

    /// What all files want together.
    pub(super) fn wanted(&self) -> Wanted {
        let mut wanted = Wanted::default();
        for (name, file) in &self.files {
            match &file.held {
                Some(documents) => documents
                    .iter()
                    .for_each(|document| want(&mut wanted, name, document)),
                None => {
                    wanted.broken.insert(name.clone());
                }
            }
        }
        wanted
    }
}

fn want(wanted: &mut Wanted, name: &str, document: &Document) {
    let taken = match document {
        Document::Object(object) => {
            let key = object.key();
            match wanted.objects.get(&key) {
                Some((_, first)) => Some(format!("{key} is in {first} already")),
                None => {
                    let value = (object.clone(), name.to_owned());
                    wanted.objects.insert(key, value);
                    None
                }
            }
        }
        Document::ConfigMap(reference, data) => wanted
            .config_maps
            .insert(reference.clone(), data.clone())
            .map(|_| format!("ConfigMap {}/{} is there twice", reference.0, reference.1)),
        Document::Secret(reference, secret) => wanted
            .secrets
            .insert(reference.clone(), secret.clone())
            .map(|_| format!("Secret {}/{} is there twice", reference.0, reference.1)),
        Document::Other(_) => None,
    };
    if let Some(reason) = taken {
        tracing::warn!(file = name, reason, "a manifest is passed over");
    }
}

/// What a file holds; `None`, and a line in the log, when it cannot be used.
fn read(path: &Path) -> Option<Vec<Document>> {
    let read = read_bounded(path, FILE_BYTES_MAX).map_err(|error| error.to_string());
    let documents = read.and_then(|text| document::read(&text).map_err(|error| error.to_string()));
    match documents {
        Ok(documents) => {
            let mut others = BTreeSet::new();
            for document in &documents {
                if let Document::Other(kind) = document {
                    others.insert(kind.as_str());
                }
            }
            for kind in others {
                tracing::info!(file = %path.display(), kind, "documents of this kind mean nothing here");
            }
            Some(documents)
        }
        Err(reason) => {
            tracing::warn!(
                file = %path.display(),
                reason,
                "a file cannot be used; what it held before stays"
            );
            None
        }
    }
}

fn list(
    folder: &Path,
    prefix: &str,
    depth: usize,
    found: &mut BTreeMap<String, Sign>,
) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Names that are no text cannot be told to people; hidden ones are ours or an editor's.
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if name.starts_with('.') {
            continue;
        }
        // Follows links: Kubernetes mounts ConfigMaps with them. One that leads nowhere is no file.
        let metadata = match fs::metadata(entry.path()) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let path = format!("{prefix}{name}");
        if metadata.is_dir() {
            if depth < DEPTH_MAX {
                list(&entry.path(), &format!("{path}/"), depth + 1, found)?;
            }
        } else if is_manifest(&name) {
            if found.len() == FILES_MAX {
                return Err(io::Error::other(format!(
                    "there are over {FILES_MAX} files"
                )));
            }
            let sign = Sign {
                modified: metadata.modified()?,
                bytes: metadata.len(),
                inode: metadata.ino(),
            };
            found.insert(path, sign);
        }
    }
    Ok(())
}

fn is_manifest(name: &str) -> bool {
    [".yaml", ".yml", ".json"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests;
