//! The dir intake: manifests are files in a directory, and the scheduler writes status files into
//! another one.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{IntakeError, MAX_OBJECTS};
use crate::scheduler::manifest::{Key, Manifest};

/// Maximum size of a status file: the maximum size of an object in Kubernetes.
const MAX_BYTES: u64 = 4 << 20;
/// Maximum depth of directories below the status directory. A layout with directories for
/// namespace, kind and name needs 3.
const MAX_DEPTH: usize = 4;

/// A directory of manifests.
#[derive(Clone, Debug)]
pub struct DirIntake {
    manifests: PathBuf,
    status: PathBuf,
}

impl DirIntake {
    /// Returns the intake for a directory of manifests and a directory of status files.
    pub fn new(manifests: &Path, status: &Path) -> DirIntake {
        DirIntake {
            manifests: manifests.to_owned(),
            status: status.to_owned(),
        }
    }

    pub(super) fn apply(&self, manifest: &Manifest) -> Result<(), IntakeError> {
        // JSON is YAML.
        self.write(&manifest.key(), &format!("{:#}\n", manifest.json()))
    }

    /// Replaces the text of the file of an object.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, key: &Key, text: &str) -> Result<(), IntakeError> {
        let path = self.path(key);
        let partial = path.with_extension("json.part");
        let failed = |path: &Path| {
            let path = path.display().to_string();
            move |source| IntakeError::File {
                operation: "write",
                path,
                source,
            }
        };
        // The rename is atomic, so a reader finds the old file or the new one.
        std::fs::write(&partial, text).map_err(failed(&partial))?;
        std::fs::rename(&partial, &path).map_err(failed(&path))
    }

    pub(super) fn delete(&self, key: &Key) -> Result<(), IntakeError> {
        let path = self.path(key);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(IntakeError::File {
                    operation: "remove",
                    path: path.display().to_string(),
                    source,
                })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn observe(&self, key: &Key) -> Option<Value> {
        let objects = self.objects(|stem| stem == key.name);
        objects.into_iter().find(|object| Key::of(object) == *key)
    }

    pub(super) fn object_and_children(&self, key: &Key) -> Vec<Value> {
        let mut objects = self.objects(|stem| stem.starts_with(&key.name));
        objects.retain(|object| Key::of(object).namespace == key.namespace);
        objects
    }

    fn path(&self, key: &Key) -> PathBuf {
        let Key {
            kind,
            namespace,
            name,
        } = key;
        self.manifests
            .join(format!("{namespace}.{}.{name}.json", kind.to_lowercase()))
    }

    /// Reads every file below the status directory whose stem `matches` selects, in any layout.
    fn objects(&self, matches: impl Fn(&str) -> bool) -> Vec<Value> {
        let mut directories = vec![(self.status.clone(), 0)];
        let mut objects = Vec::new();
        while let Some((directory, depth)) = directories.pop() {
            // A missing directory contains no objects.
            for entry in std::fs::read_dir(&directory)
                .into_iter()
                .flatten()
                .flatten()
            {
                let path = entry.path();
                let hidden = entry.file_name().to_string_lossy().starts_with('.');
                if hidden || objects.len() >= MAX_OBJECTS {
                    continue;
                }
                if path.is_dir() && depth < MAX_DEPTH {
                    directories.push((path, depth + 1));
                } else if path
                    .file_stem()
                    .is_some_and(|stem| matches(&stem.to_string_lossy()))
                {
                    objects.extend(read(&path));
                }
            }
        }
        objects
    }
}

/// Reads an object. Returns `None` if the file is too large or invalid, for example because it is
/// being replaced.
fn read(path: &Path) -> Option<Value> {
    if std::fs::metadata(path).ok()?.len() > MAX_BYTES {
        return None;
    }
    let text = std::fs::read_to_string(path).ok()?;
    match path.extension()?.to_str()? {
        "json" => serde_json::from_str(&text).ok(),
        "yaml" | "yml" => serde_saphyr::from_str(&text).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_objects_in_any_layout() {
        let dir = tempfile::tempdir().unwrap();
        let status = dir.path().join(".berth");
        let intake = DirIntake::new(dir.path(), &status);
        let manifest = Manifest::deployment("a", "g", "i", 1);
        intake.apply(&manifest).unwrap();
        assert!(intake.observe(&manifest.key()).is_none());
        std::fs::create_dir_all(status.join("default/workloads")).unwrap();
        std::fs::write(status.join("a.json"), manifest.json().to_string()).unwrap();
        let child = "kind: Workload\nmetadata:\n  name: a-x\n  namespace: default\n";
        std::fs::write(status.join("default/workloads/a-x.yaml"), child).unwrap();
        assert_eq!(
            intake.observe(&manifest.key()),
            Some(manifest.json().clone())
        );
        assert_eq!(intake.object_and_children(&manifest.key()).len(), 2);
        intake.delete(&manifest.key()).unwrap();
        intake.delete(&manifest.key()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
