//! A directory of manifests, one JSON file per object; the status of each object is in `.berth/`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::manifest::{self, DesiredWorkload, Manifest};

const MAX_MANIFEST_BYTES: u64 = 16 << 20;

pub struct Directory {
    path: PathBuf,
    _lock: File,
    /// Modification time and size of each file that was read.
    fingerprints: BTreeMap<PathBuf, (SystemTime, u64)>,
    manifests: BTreeMap<PathBuf, Manifest>,
    /// Status files as last written.
    written: BTreeMap<PathBuf, Value>,
}

impl Directory {
    /// Waits until no other process holds the lock of this directory. The lock ends with the
    /// process.
    pub fn lock(path: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(path.join(".berth"))?;
        let lock = File::create(path.join(".berth/lock"))?;
        lock.lock()?;
        match fs::remove_dir_all(path.join(".berth/status")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self {
            path,
            _lock: lock,
            fingerprints: BTreeMap::new(),
            manifests: BTreeMap::new(),
            written: BTreeMap::new(),
        })
    }

    /// Scans the directory and returns all desired workloads by key. Reads only changed files.
    pub fn desired_workloads(&mut self) -> BTreeMap<String, DesiredWorkload> {
        let files = self.files().unwrap_or_else(|error| {
            eprintln!("cannot read directory: {error}");
            self.fingerprints.keys().cloned().collect()
        });
        self.fingerprints.retain(|path, _| files.contains(path));
        self.manifests.retain(|path, _| files.contains(path));
        for path in &files {
            if let Err(reason) = self.read_if_changed(path) {
                eprintln!("invalid manifest {}: {reason}", path.display());
                if let Some(manifest) = self.manifests.get_mut(path) {
                    manifest.refusal = Some(format!("invalid manifest: {reason}"));
                }
            }
        }
        self.write_deployments();
        let manifests = self.manifests.values();
        let replicas = manifests.flat_map(|manifest| &manifest.replicas);
        replicas
            .map(|replica| (replica.key.clone(), replica.clone()))
            .collect()
    }

    fn files(&self) -> io::Result<BTreeSet<PathBuf>> {
        let paths = fs::read_dir(&self.path)?.map(|entry| Ok(entry?.path()));
        let paths: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
        let is_manifest = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "json");
        Ok(paths.into_iter().filter(is_manifest).collect())
    }

    fn read_if_changed(&mut self, path: &Path) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        let metadata = path.metadata().map_err(text)?;
        let fingerprint = (metadata.modified().map_err(text)?, metadata.len());
        if self.fingerprints.get(path) == Some(&fingerprint) {
            return Ok(());
        }
        self.fingerprints.insert(path.to_path_buf(), fingerprint);
        if metadata.len() > MAX_MANIFEST_BYTES {
            return Err(format!("the file has {} bytes", metadata.len()));
        }
        let mut manifest = manifest::parse(&fs::read(path).map_err(text)?)?;
        let refusal = manifest
            .replicas
            .iter()
            .find_map(|replica| replica.refusal.clone());
        if let (Some(refusal), Some(before)) = (refusal, self.manifests.get(path)) {
            // An invalid update leaves the desired state unchanged.
            manifest = before.clone();
            for replica in &mut manifest.replicas {
                replica.refusal = Some(refusal.clone());
            }
            manifest.refusal = Some(refusal);
        }
        self.manifests.insert(path.to_path_buf(), manifest);
        Ok(())
    }

    pub fn write_status(&mut self, workload: &DesiredWorkload, status: Value) {
        let mut object = workload.object.clone();
        set_status(&mut object, status);
        self.write(object);
        self.write_deployments();
    }

    pub fn remove_status(&mut self, key: &str) {
        let (namespace, name) = key.split_once('/').unwrap_or(("default", key));
        let path = self.status_path(namespace, "Workload", name);
        self.written.remove(&path);
        remove(&path);
        self.write_deployments();
    }

    /// Writes the status of each deployment, aggregated from its replicas. The status of a deleted
    /// deployment stays until the status of its last replica is removed.
    fn write_deployments(&mut self) {
        let mut current = BTreeSet::new();
        for deployment in self.manifests.clone().into_values() {
            if manifest::text_at(&deployment.object, "/kind") == "Workload" {
                continue;
            }
            let mut object = deployment.object.clone();
            set_status(&mut object, self.aggregate(&deployment));
            current.insert(self.path_of(&object));
            self.write(object);
        }
        let written: Vec<PathBuf> = self.written.keys().cloned().collect();
        for path in &written {
            let is_workload = path.parent().is_some_and(|kind| kind.ends_with("workload"));
            let replica = format!("{}-", path.with_extension("").display());
            let replica = replica.replace("/workloaddeployment/", "/workload/");
            let mut others = written.iter().map(|other| other.display().to_string());
            if !is_workload
                && !current.contains(path)
                && !others.any(|other| other.starts_with(&replica))
            {
                self.written.remove(path);
                remove(path);
            }
        }
    }

    fn aggregate(&self, deployment: &Manifest) -> Value {
        let replicas = deployment.replicas.iter();
        let written = replicas.filter_map(|one| self.written.get(&self.path_of(&one.object)));
        let conditions: Vec<Value> = written
            .filter_map(|object| object.pointer("/status/conditions/0").cloned())
            .collect();
        let is_ready = |one: &&Value| manifest::text_at(one, "/status") == "True";
        let (expected, ready) = (
            deployment.replicas.len(),
            conditions.iter().filter(is_ready).count(),
        );
        let not_ready = conditions.iter().find(|one| !is_ready(one));
        let message = match not_ready {
            Some(condition) => manifest::text_at(condition, "/message"),
            None if ready == expected => "all replicas are ready".to_owned(),
            None => "not all replicas have started".to_owned(),
        };
        let message = match &deployment.refusal {
            Some(refusal) => format!("{message}; {refusal}"),
            None => message,
        };
        json!({
            "replicas": {
                "expected": expected,
                "current": conditions.len(),
                "ready": ready,
                "unavailable": expected - ready,
            },
            "conditions": [condition(ready == expected, "Replicas", &message)],
        })
    }

    fn write(&mut self, object: Value) {
        let path = self.path_of(&object);
        if self.written.get(&path) != Some(&object) {
            log_failure(write_atomically(&path, &object, Durability::ProcessCrash));
            self.written.insert(path, object);
        }
    }

    fn path_of(&self, object: &Value) -> PathBuf {
        let kind = manifest::text_at(object, "/kind");
        let name = manifest::text_at(object, "/metadata/name");
        self.status_path(&manifest::namespace(object), &kind, &name)
    }

    fn status_path(&self, namespace: &str, kind: &str, name: &str) -> PathBuf {
        let kind = kind.to_lowercase();
        let status = self.path.join(".berth/status");
        status
            .join(namespace)
            .join(kind)
            .join(format!("{name}.json"))
    }

    /// Saves the IDs that may be running, with their hosts, for the next process.
    pub fn save_ids(&self, ids: &Value) {
        log_failure(write_atomically(
            &self.path.join(".berth/ids.json"),
            ids,
            Durability::PowerFailure,
        ));
    }

    pub fn saved_ids(&self) -> io::Result<Value> {
        match fs::read(self.path.join(".berth/ids.json")) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(json!({})),
            Err(error) => Err(error),
        }
    }
}

/// Returns the `Ready` condition, which users and tools check.
pub fn condition(ready: bool, reason: &str, message: &str) -> Value {
    let status = if ready { "True" } else { "False" };
    json!({ "type": "Ready", "status": status, "reason": reason, "message": message })
}

fn set_status(object: &mut Value, status: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert("status".to_owned(), status);
    }
}

/// The worst event that a write must survive.
#[derive(PartialEq)]
enum Durability {
    ProcessCrash,
    PowerFailure,
}

/// Replaces a file atomically.
fn write_atomically(path: &Path, content: &Value, durability: Durability) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let part = path.with_extension("part");
    let mut file = File::create(&part)?;
    file.write_all(format!("{content:#}").as_bytes())?;
    if durability == Durability::PowerFailure {
        file.sync_all()?;
    }
    fs::rename(part, path)
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => log_failure(Err(error)),
        _ => {}
    }
}

fn log_failure(result: io::Result<()>) {
    if let Err(error) = result {
        eprintln!("cannot write to directory: {error}");
    }
}
