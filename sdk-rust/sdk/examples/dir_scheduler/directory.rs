//! A directory of manifests, a JSON file for each thing that is wanted; what became of it is in `.berth/`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::manifest::{self, Manifest, Submitted};

const MAX_MANIFEST_BYTES: u64 = 16 << 20;

pub struct Directory {
    path: PathBuf,
    _lock: File,
    /// Files that have been read, by what shows that they changed.
    seen: BTreeMap<PathBuf, (SystemTime, u64)>,
    submitted: BTreeMap<PathBuf, Submitted>,
    told: BTreeMap<PathBuf, Value>,
}

impl Directory {
    /// Waits until no other process acts on this directory. The lock goes with this process.
    pub fn own(path: PathBuf) -> io::Result<Self> {
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
            seen: BTreeMap::new(),
            submitted: BTreeMap::new(),
            told: BTreeMap::new(),
        })
    }

    /// Every workload that is wanted now, by its key; files that have not changed are not read again.
    pub fn manifests(&mut self) -> BTreeMap<String, Manifest> {
        let there = self.files().unwrap_or_else(|error| {
            eprintln!("the directory cannot be read: {error}");
            self.seen.keys().cloned().collect()
        });
        self.seen.retain(|path, _| there.contains(path));
        self.submitted.retain(|path, _| there.contains(path));
        for path in &there {
            if let Err(why) = self.look(path) {
                eprintln!("{} is no manifest: {why}", path.display());
            }
        }
        self.tell_of_deployments();
        let wanted = self.submitted.values().flat_map(|known| &known.replicas);
        wanted.map(|one| (one.key.clone(), one.clone())).collect()
    }

    fn files(&self) -> io::Result<BTreeSet<PathBuf>> {
        let paths = fs::read_dir(&self.path)?.map(|entry| Ok(entry?.path()));
        let paths: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
        let is_manifest = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "json");
        Ok(paths.into_iter().filter(is_manifest).collect())
    }

    fn look(&mut self, path: &Path) -> Result<(), String> {
        let failed = |error: io::Error| error.to_string();
        let metadata = path.metadata().map_err(failed)?;
        let mark = (metadata.modified().map_err(failed)?, metadata.len());
        if self.seen.get(path) == Some(&mark) {
            return Ok(());
        }
        self.seen.insert(path.to_path_buf(), mark);
        if metadata.len() > MAX_MANIFEST_BYTES {
            return Err(format!("it has {} bytes", metadata.len()));
        }
        let mut submitted = manifest::read(&fs::read(path).map_err(failed)?)?;
        let refused = submitted
            .replicas
            .iter()
            .find_map(|one| one.refused.clone());
        if let (Some(refused), Some(before)) = (refused, self.submitted.get(path)) {
            // What is refused changes nothing of what was wanted before.
            submitted = before.clone();
            for one in &mut submitted.replicas {
                one.refused = Some(refused.clone());
            }
        }
        self.submitted.insert(path.to_path_buf(), submitted);
        Ok(())
    }

    /// Shows how a workload fares.
    pub fn tell(&mut self, manifest: &Manifest, status: Value) {
        let mut shown = manifest.shown.clone();
        put_status(&mut shown, status);
        self.write(shown);
        self.tell_of_deployments();
    }

    /// Shows that it is over.
    pub fn gone(&mut self, key: &str) {
        let (namespace, name) = key.split_once('/').unwrap_or(("default", key));
        let path = self.shown(namespace, "Workload", name);
        self.told.remove(&path);
        remove(&path);
        self.tell_of_deployments();
    }

    /// Shows each deployment as the sum of its replicas, until the last of them is over.
    fn tell_of_deployments(&mut self) {
        let mut kept = BTreeSet::new();
        for deployment in self.submitted.clone().into_values() {
            if manifest::text_at(&deployment.shown, "/kind") == "Workload" {
                continue;
            }
            let mut shown = deployment.shown.clone();
            put_status(&mut shown, self.sum(&deployment));
            kept.insert(self.path_of(&shown));
            self.write(shown);
        }
        let told: Vec<PathBuf> = self.told.keys().cloned().collect();
        for path in &told {
            let is_workload = path.parent().is_some_and(|kind| kind.ends_with("workload"));
            let replica = format!("{}-", path.with_extension("").display());
            let replica = replica.replace("/workloaddeployment/", "/workload/");
            let mut others = told.iter().map(|other| other.display().to_string());
            if !is_workload
                && !kept.contains(path)
                && !others.any(|other| other.starts_with(&replica))
            {
                self.told.remove(path);
                remove(path);
            }
        }
    }

    fn sum(&self, deployment: &Submitted) -> Value {
        let replicas = deployment.replicas.iter();
        let told = replicas.filter_map(|one| self.told.get(&self.path_of(&one.shown)));
        let conditions: Vec<Value> = told
            .filter_map(|told| told.pointer("/status/conditions/0").cloned())
            .collect();
        let is_ready = |one: &&Value| manifest::text_at(one, "/status") == "True";
        let (expected, ready) = (
            deployment.replicas.len(),
            conditions.iter().filter(is_ready).count(),
        );
        let why = conditions.iter().find(|one| !is_ready(one));
        let message = match why {
            Some(why) => manifest::text_at(why, "/message"),
            None if ready == expected => "all replicas are ready".to_owned(),
            None => "not all have begun".to_owned(),
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

    fn write(&mut self, shown: Value) {
        let path = self.path_of(&shown);
        if self.told.get(&path) != Some(&shown) {
            report(put(&path, &shown, false));
            self.told.insert(path, shown);
        }
    }

    fn path_of(&self, shown: &Value) -> PathBuf {
        let kind = manifest::text_at(shown, "/kind");
        let name = manifest::text_at(shown, "/metadata/name");
        self.shown(&manifest::namespace(shown), &kind, &name)
    }

    fn shown(&self, namespace: &str, kind: &str, name: &str) -> PathBuf {
        let kind = kind.to_lowercase();
        let status = self.path.join(".berth/status");
        status
            .join(namespace)
            .join(kind)
            .join(format!("{name}.json"))
    }

    /// Keeps what must not be forgotten when this process ends: which ids may run where.
    pub fn remember(&self, ids: &Value) {
        report(put(&self.path.join(".berth/ids.json"), ids, true));
    }

    pub fn remembered(&self) -> io::Result<Value> {
        match fs::read(self.path.join(".berth/ids.json")) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(json!({})),
            Err(error) => Err(error),
        }
    }
}

/// The condition that people and tools look at.
pub fn condition(ready: bool, reason: &str, message: &str) -> Value {
    let status = if ready { "True" } else { "False" };
    json!({ "type": "Ready", "status": status, "reason": reason, "message": message })
}

fn put_status(shown: &mut Value, status: Value) {
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("status".to_owned(), status);
    }
}

/// A reader finds the old file or the new one, and nothing in between; if durable, after a power cut too.
fn put(path: &Path, content: &Value, durable: bool) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let part = path.with_extension("part");
    let mut file = File::create(&part)?;
    file.write_all(format!("{content:#}").as_bytes())?;
    if durable {
        file.sync_all()?;
    }
    fs::rename(part, path)
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => report(Err(error)),
        _ => {}
    }
}

fn report(written: io::Result<()>) {
    if let Err(error) = written {
        eprintln!("the directory cannot be written: {error}");
    }
}
