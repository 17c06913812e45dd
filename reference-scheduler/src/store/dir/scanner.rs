//! Scans the directory for files that are new, changed or removed, and stable since the previous
//! scan.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::manifest::Manifests;
use super::parser::{self, Document};
use super::status_files::read_bounded;

/// Maximum size of a manifest, the same as that of a request to the API server.
const FILE_BYTES_MAX: u64 = 3 << 20;
/// Maximum number of files in the whole directory, because a scan of more files would take longer
/// than the interval between scans.
const FILES_MAX: usize = 10_000;
/// Maximum depth of nested directories.
const DEPTH_MAX: usize = 8;

/// The files of a directory as of the most recent scans.
///
/// A change of a file takes effect when two scans in a row find the same fingerprint: editors write
/// in several steps, between which a file can be empty or missing.
#[derive(Debug)]
pub(super) struct Scanner {
    root: PathBuf,
    files: BTreeMap<String, File>,
}

/// Properties by which a change of a file is detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint {
    modified: SystemTime,
    bytes: u64,
    inode: u64,
}

#[derive(Debug)]
struct File {
    /// Fingerprint in the most recent scan; `None` if the file was missing.
    scanned: Option<Fingerprint>,
    /// Fingerprint when the file was most recently parsed.
    parsed: Option<Fingerprint>,
    /// Documents of the file; `None` if it is invalid.
    documents: Option<Vec<Document>>,
}

impl Scanner {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            files: BTreeMap::new(),
        }
    }

    /// Scans the directory and returns whether a change takes effect.
    ///
    /// # Errors
    ///
    /// Returns an error if a directory cannot be listed. In this case no change takes effect,
    /// because a directory that is temporarily missing must not delete anything.
    pub(super) fn scan(&mut self) -> io::Result<bool> {
        let mut found = BTreeMap::new();
        list(&self.root, "", 0, &mut found)?;
        let mut changed = false;
        self.files.retain(|name, file| {
            if found.contains_key(name) {
                return true;
            }
            let existed = file.scanned.take().is_some();
            changed |= !existed;
            existed
        });
        for (name, fingerprint) in found {
            let path = self.root.join(&name);
            let file = self.files.entry(name).or_insert_with_key(|_| File {
                scanned: None,
                parsed: None,
                documents: None,
            });
            let is_stable = file.scanned.replace(fingerprint) == Some(fingerprint);
            if is_stable && file.parsed != Some(fingerprint) {
                file.parsed = Some(fingerprint);
                file.documents = parse(&path);
                changed = true;
            }
        }
        Ok(changed)
    }

    /// Returns the content of all files.
    pub(super) fn manifests(&self) -> Manifests {
        let mut manifests = Manifests::default();
        for (name, file) in &self.files {
            match &file.documents {
                Some(documents) => documents
                    .iter()
                    .for_each(|document| add(&mut manifests, name, document)),
                None => {
                    manifests.invalid_files.insert(name.clone());
                }
            }
        }
        manifests
    }
}

fn add(manifests: &mut Manifests, name: &str, document: &Document) {
    let duplicate = match document {
        Document::Object(object) => {
            let key = object.key();
            match manifests.objects.get(&key) {
                Some((_, first)) => Some(format!("{key} is already defined in {first}")),
                None => {
                    let value = (object.clone(), name.to_owned());
                    manifests.objects.insert(key, value);
                    None
                }
            }
        }
        Document::ConfigMap(reference, data) => manifests
            .config_maps
            .insert(reference.clone(), data.clone())
            .map(|_| format!("ConfigMap {}/{} is defined twice", reference.0, reference.1)),
        Document::Secret(reference, secret) => manifests
            .secrets
            .insert(reference.clone(), secret.clone())
            .map(|_| format!("Secret {}/{} is defined twice", reference.0, reference.1)),
        Document::Other(_) => None,
    };
    if let Some(reason) = duplicate {
        tracing::warn!(file = name, reason, "duplicate manifest");
    }
}

/// Parses a file. If it is invalid, logs the reason and returns `None`.
fn parse(path: &Path) -> Option<Vec<Document>> {
    let read = read_bounded(path, FILE_BYTES_MAX).map_err(|error| error.to_string());
    let documents = read.and_then(|text| parser::parse(&text).map_err(|error| error.to_string()));
    match documents {
        Ok(documents) => {
            let mut other_kinds = BTreeSet::new();
            for document in &documents {
                if let Document::Other(kind) = document {
                    other_kinds.insert(kind.as_str());
                }
            }
            for kind in other_kinds {
                tracing::info!(file = %path.display(), kind, "ignoring documents of this kind");
            }
            Some(documents)
        }
        Err(reason) => {
            tracing::warn!(
                file = %path.display(),
                reason,
                "invalid manifest; its objects stay as they were"
            );
            None
        }
    }
}

fn list(
    folder: &Path,
    prefix: &str,
    depth: usize,
    found: &mut BTreeMap<String, Fingerprint>,
) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Skips names that are not UTF-8, and hidden files of this store or of an editor.
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if name.starts_with('.') {
            continue;
        }
        // Follows links, which Kubernetes uses to mount ConfigMaps; skips dangling ones.
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
                return Err(io::Error::other(format!("more than {FILES_MAX} files")));
            }
            let fingerprint = Fingerprint {
                modified: metadata.modified()?,
                bytes: metadata.len(),
                inode: metadata.ino(),
            };
            found.insert(path, fingerprint);
        }
    }
    Ok(())
}

fn is_manifest(name: &str) -> bool {
    [".yaml", ".yml", ".json"]
        .iter()
        .any(|extension| name.ends_with(extension))
}

#[cfg(test)]
mod tests;
