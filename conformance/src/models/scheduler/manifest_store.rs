//! The directory of the model scheduler: manifests, their statuses, and the persisted state.

mod status_writer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::incarnation::pending_stop_of;
use super::request::Objects;
use super::state::{PersistedState, Phase, Replica, durations};
use super::validation::rejection_reason;
use super::{Model, Mutant};

/// Maximum number of directory entries that one scan reads.
const FILES_MAX: usize = 10_000;
/// File of the persisted state, in the state directory.
const STATE_FILE: &str = ".state";

/// A manifest as it was most recently read.
#[derive(Debug)]
struct ReadManifest {
    object: Value,
    modified_at: SystemTime,
    /// Time at which the scheduler first read this content.
    changed_at: Instant,
}

/// Store of manifests and statuses in a directory.
#[derive(Debug)]
pub(super) struct ManifestStore {
    manifest_dir: PathBuf,
    state_dir: PathBuf,
    scanned_at: Option<Instant>,
    /// Files by path: modification time, size and most recent valid content.
    files: BTreeMap<PathBuf, (SystemTime, u64, Value)>,
    objects: Objects,
    /// Manifests by key of the object.
    last_read: BTreeMap<String, ReadManifest>,
    /// Reasons why objects wait, by key.
    waiting_reasons: BTreeMap<String, String>,
    /// Reasons why manifests are invalid, by key of the object.
    rejected: BTreeMap<String, String>,
    /// Contents of the status files, by key of the object.
    written: BTreeMap<String, String>,
    /// Keys of objects whose manifests are ignored.
    ignored: BTreeSet<String>,
    // Only mutants use the fields below.
    revision_history: BTreeMap<String, Vec<String>>,
    settled_replicas: BTreeMap<String, usize>,
    mutant_marks: BTreeSet<String>,
    resurrected: Vec<Replica>,
    artifacts: std::sync::Mutex<BTreeMap<String, String>>,
}

impl ManifestStore {
    pub(super) fn new(manifest_dir: &Path, state_dir: &Path) -> ManifestStore {
        ManifestStore {
            manifest_dir: manifest_dir.to_owned(),
            state_dir: state_dir.to_owned(),
            scanned_at: None,
            files: BTreeMap::new(),
            objects: Objects::new(),
            last_read: BTreeMap::new(),
            waiting_reasons: BTreeMap::new(),
            rejected: BTreeMap::new(),
            written: BTreeMap::new(),
            ignored: BTreeSet::new(),
            revision_history: BTreeMap::new(),
            settled_replicas: BTreeMap::new(),
            mutant_marks: BTreeSet::new(),
            resurrected: Vec::new(),
            artifacts: std::sync::Mutex::default(),
        }
    }

    pub(super) fn objects(&self) -> &Objects {
        &self.objects
    }

    pub(super) fn has_scanned(&self) -> bool {
        self.scanned_at.is_some()
    }

    /// Sets or clears the reason why an object waits.
    pub(super) fn set_waiting_reason(&mut self, owner: &str, reason: Option<String>) {
        match reason {
            Some(reason) => self.waiting_reasons.insert(owner.to_owned(), reason),
            None => self.waiting_reasons.remove(owner),
        };
    }

    /// Ignores the manifest of an object from now on.
    pub(super) fn ignore(&mut self, owner: &str) {
        self.ignored.insert(owner.to_owned());
    }

    /// Schedules another start of a deleted replica.
    pub(super) fn resurrect(&mut self, replica: Replica) {
        self.resurrected.push(replica);
    }

    /// Returns the image of an Artifact: the current one, or with `keep_first` the first one.
    pub(super) fn artifact(&self, key: &str, keep_first: bool) -> Option<String> {
        let image = self
            .objects
            .get(key)?
            .pointer("/spec/image")?
            .as_str()?
            .to_owned();
        if !keep_first {
            return Some(image);
        }
        let mut artifacts = self.artifacts.lock().ok()?;
        Some(artifacts.entry(key.to_owned()).or_insert(image).clone())
    }

    /// Records a new revision of an owner. If the owner returns to an earlier revision instead,
    /// returns the most recent one.
    pub(super) fn record_unless_rollback(&mut self, owner: &str, revision: &str) -> Option<String> {
        let history = self.revision_history.entry(owner.to_owned()).or_default();
        if history.last().map(String::as_str) != Some(revision) {
            if history.iter().any(|earlier| earlier == revision) {
                return history.last().cloned();
            }
            history.push(revision.to_owned());
        }
        None
    }

    /// Records the revision of an owner, and returns the revision before it.
    pub(super) fn record_revision(&mut self, owner: &str, revision: &str) -> Option<String> {
        let history = self.revision_history.entry(owner.to_owned()).or_default();
        if history.last().map(String::as_str) != Some(revision) {
            history.push(revision.to_owned());
        }
        // With one earlier template, that template is the last good one.
        let previous = history.len().checked_sub(2)?;
        history.get(previous).cloned()
    }

    /// Records the size of a set before its first rollout, and returns it.
    pub(super) fn record_initial_size(
        &mut self,
        owner: &str,
        replicas: usize,
        is_rolling: bool,
    ) -> usize {
        let settled = self
            .settled_replicas
            .entry(owner.to_owned())
            .or_insert(replicas);
        if !is_rolling && *settled == 0 {
            *settled = replicas;
        }
        *settled
    }

    /// Records that the replicas of an owner are counted. Returns `true` in the second call: that
    /// count must be stale, as if no replica existed.
    pub(super) fn take_stale_count(&mut self, owner: &str) -> bool {
        let first_call = format!("{owner} first");
        if self.mutant_marks.insert(first_call) {
            return false;
        }
        self.mutant_marks.insert(owner.to_owned())
    }

    /// Reads the files that have changed; returns `false` if the next scan is not due.
    fn scan(&mut self, now: Instant) -> bool {
        let is_due = |at: Instant| now >= at + durations::SCAN_INTERVAL;
        if !self.scanned_at.is_none_or(is_due) {
            return false;
        }
        self.scanned_at = Some(now);
        let mut found = BTreeSet::new();
        let entries = std::fs::read_dir(&self.manifest_dir)
            .into_iter()
            .flatten()
            .flatten();
        for entry in entries.take(FILES_MAX) {
            let path = entry.path();
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let is_json = path
                .extension()
                .is_some_and(|extension| extension == "json");
            if !metadata.is_file() || !is_json {
                continue;
            }
            let stamp = (
                metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                metadata.len(),
            );
            found.insert(path.clone());
            if self
                .files
                .get(&path)
                .is_some_and(|(time, len, _)| (*time, *len) == stamp)
            {
                continue;
            }
            // A file that cannot be read or parsed keeps its most recent valid content.
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if let Ok(object) = serde_json::from_str(&text) {
                self.files.insert(path, (stamp.0, stamp.1, object));
            }
        }
        self.files.retain(|path, _| found.contains(path));
        self.objects = self
            .files
            .values()
            .map(|(_, _, object)| (key_of(object), object.clone()))
            .collect();
        true
    }

    fn modified_at(&self, key: &str) -> SystemTime {
        let mut files = self.files.values();
        let file = files.find(|(_, _, object)| key_of(object) == key);
        file.map_or(SystemTime::UNIX_EPOCH, |(time, _, _)| *time)
    }

    /// Writes the status file of an object if its content has changed.
    fn write(&mut self, key: &str, object: &Value) {
        let text = format!("{object:#}\n");
        if self.written.get(key) == Some(&text) {
            return;
        }
        let path = self.status_path(key);
        let temporary = path.with_extension("part");
        // After an error, the next change of the status tries again.
        let written = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(&temporary, &text))
            .and_then(|()| std::fs::rename(&temporary, &path));
        if written.is_ok() {
            self.written.insert(key.to_owned(), text);
        }
    }

    fn remove_all_except(&mut self, keys: &BTreeSet<String>) {
        let obsolete: Vec<String> = self
            .written
            .keys()
            .filter(|key| !keys.contains(*key))
            .cloned()
            .collect();
        for key in obsolete {
            self.written.remove(&key);
            let _ = std::fs::remove_file(self.status_path(&key));
        }
    }

    fn status_path(&self, key: &str) -> PathBuf {
        let mut parts = key.splitn(3, '/');
        let (kind, namespace, name) = (parts.next(), parts.next(), parts.next());
        self.state_dir
            .join(namespace.unwrap_or_default())
            .join(kind.unwrap_or_default())
            .join(format!("{}.json", name.unwrap_or_default()))
    }
}

fn key_of(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let namespace = text("/metadata/namespace").unwrap_or("default");
    format!(
        "{}/{namespace}/{}",
        text("/kind").unwrap_or_default(),
        text("/metadata/name").unwrap_or_default()
    )
}

/// Returns the revision of a spec, in which a field that is set to its default counts as unset.
pub(super) fn revision_of(spec: &Value) -> String {
    hash(&without_defaults(spec).to_string())
}

fn without_defaults(value: &Value) -> Value {
    let is_default = |value: &&Value| {
        let is_empty_list = value.as_array().is_some_and(Vec::is_empty);
        value.is_null() || is_empty_list || value.as_i64() == Some(0)
    };
    match value {
        Value::Object(members) => members
            .iter()
            .filter(|(_, value)| !is_default(value))
            .map(|(name, value)| (name.clone(), without_defaults(value)))
            .collect(),
        Value::Array(items) => items.iter().map(without_defaults).collect(),
        other => other.clone(),
    }
}

/// Returns the FNV-1a hash of a text, in hexadecimal digits.
pub(super) fn hash(text: &str) -> String {
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    format!("{hash:08x}")
}

impl Model {
    /// Scans the manifests, accepts changed objects and removes deleted ones.
    pub(super) fn read_manifests(&mut self) {
        let is_first_scan = !self.store.has_scanned();
        if !self.store.scan(self.now) {
            return;
        }
        let kinds = ["Workload", "WorkloadReplicaSet", "WorkloadDeployment"];
        let objects: Vec<(String, Value)> = self
            .store
            .objects
            .iter()
            .filter(|(key, _)| kinds.contains(&key.split('/').next().unwrap_or_default()))
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        let existing: BTreeSet<String> = objects.iter().map(|(key, _)| key.clone()).collect();
        for (key, object) in objects {
            self.accept_manifest(key, object);
        }
        if is_first_scan && self.is(Mutant::MissesDeletions) {
            let old: Vec<String> = self.persisted.accepted.keys().cloned().collect();
            self.store.mutant_marks.extend(old);
        }
        let misses_deletion = |key: &String| {
            self.store.mutant_marks.contains(key) && self.is(Mutant::MissesDeletions)
        };
        let count = self.persisted.accepted.len();
        let deleted: Vec<String> = self
            .persisted
            .accepted
            .keys()
            .filter(|key| !existing.contains(*key) && !misses_deletion(key))
            .cloned()
            .collect();
        for key in deleted {
            self.persisted.accepted.remove(&key);
            self.store.last_read.remove(&key);
            self.store.rejected.remove(&key);
        }
        self.store.rejected.retain(|key, _| existing.contains(key));
        self.dirty |= self.persisted.accepted.len() != count;
        self.restart_resurrected();
    }

    fn accept_manifest(&mut self, key: String, object: Value) {
        if self.store.ignored.contains(&key) {
            return;
        }
        let modified_at = self.store.modified_at(&key);
        let last_read = self.store.last_read.get(&key);
        let is_unchanged = last_read.is_some_and(|last| last.object == object);
        let is_resubmitted = last_read.is_some_and(|last| last.modified_at != modified_at);
        let changed_at = last_read.map(|last| last.changed_at);
        if is_unchanged && is_resubmitted && self.is(Mutant::ResubmissionRestarts) {
            for replica in self
                .persisted
                .replicas
                .iter_mut()
                .filter(|replica| replica.owner == key)
            {
                let stop = pending_stop_of(replica, self.now);
                self.persisted.pending_stops.extend(stop);
                replica.reset("submitted again", self.now);
            }
        }
        let keeps_time = is_unchanged && self.persisted.accepted.contains_key(&key);
        let read = ReadManifest {
            object: object.clone(),
            modified_at,
            changed_at: changed_at.filter(|_| keeps_time).unwrap_or(self.now),
        };
        self.store.last_read.insert(key.clone(), read);
        if keeps_time {
            return;
        }
        let is_rapid = changed_at.is_some_and(|at| self.now < at + Duration::from_secs(1));
        if is_rapid && self.is(Mutant::MissesRapidChange) {
            return;
        }
        match rejection_reason(&object, self.options.mutant) {
            Some(reason) => {
                if self.is(Mutant::RefusalDeletesObject) {
                    self.dirty |= self.persisted.accepted.remove(&key).is_some();
                }
                self.store.rejected.insert(key, reason);
            }
            None => {
                self.store.rejected.remove(&key);
                if self.persisted.accepted.get(&key) != Some(&object) {
                    self.persisted.accepted.insert(key, object);
                    self.dirty = true;
                }
            }
        }
    }

    /// Starts deleted replicas again, for `Mutant::RestartsDeleted`.
    fn restart_resurrected(&mut self) {
        for replica in std::mem::take(&mut self.store.resurrected) {
            let mut object = json!({ "kind": "Workload", "metadata": { "name": replica.name } });
            if let Some(object) = object.as_object_mut() {
                object.insert("spec".to_owned(), replica.spec.clone());
            }
            // No manifest has this key, so the owner is never deleted.
            let owner = format!("Resurrected/default/{}", replica.number);
            self.persisted.accepted.insert(owner.clone(), object);
            self.store.mutant_marks.insert(owner.clone());
            let revision = revision_of(&replica.spec);
            self.persisted.replicas.push(Replica {
                owner,
                revision,
                ..replica
            });
        }
    }

    /// Writes the persisted state to disk if it has changed.
    pub(super) fn save_state(&mut self) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        let path = self.store.state_dir.join(STATE_FILE);
        let temporary = path.with_extension("part");
        let text = serde_json::to_string(&self.persisted).unwrap_or_default();
        let written =
            std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, &path));
        // After an error, the next tick tries again.
        self.dirty = written.is_err();
    }

    /// Loads the state that an earlier process has persisted.
    pub(super) fn load_state(&mut self) {
        let path = self.store.state_dir.join(STATE_FILE);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut persisted: PersistedState = serde_json::from_str(&text).unwrap_or_default();
        match self.options.mutant {
            Some(Mutant::RestartsEverything) => persisted.replicas.clear(),
            Some(Mutant::ForgetsStops) => persisted.pending_stops.clear(),
            Some(Mutant::ForgetsAcceptedObjects) => persisted.accepted.clear(),
            Some(Mutant::ForgetsStarts) => {
                for replica in persisted
                    .replicas
                    .iter_mut()
                    .filter(|replica| matches!(replica.phase, Phase::Sent | Phase::Unknown))
                {
                    replica.reset("", self.now);
                }
            }
            Some(Mutant::ForgetsRollouts) => {
                let kept_revisions: BTreeMap<String, String> = persisted
                    .replicas
                    .iter()
                    .map(|replica| (replica.owner.clone(), replica.revision.clone()))
                    .collect();
                persisted.replicas.retain(|replica| {
                    kept_revisions.get(&replica.owner) == Some(&replica.revision)
                });
            }
            _ => {}
        }
        for replica in &mut persisted.replicas {
            if replica.phase == Phase::Sent {
                replica.phase = Phase::Unknown;
            }
        }
        if !self.is(Mutant::TrustsPersistedFleet) {
            for id in &persisted.hosts {
                self.hosts.insert(id.clone(), self.persisted_host());
            }
        }
        self.persisted = persisted;
        self.restore_fences();
    }

    /// Delays the replacements of replicas that ran on hosts that an earlier process had lost.
    fn restore_fences(&mut self) {
        let stops = self.persisted.pending_stops.iter();
        let of_lost_hosts: BTreeSet<u64> = stops
            .filter(|stop| stop.on_lost_host)
            .map(|stop| stop.replica)
            .collect();
        let until = self.now + durations::FENCE;
        for index in 0..self.persisted.replicas.len() {
            let replica = self.persisted.replicas.get(index);
            let is_fenced = replica.is_some_and(|replica| {
                replica.phase == Phase::Waiting
                    && of_lost_hosts.contains(&replica.number)
                    && self.is_recreate(&replica.owner)
            });
            if let (true, Some(replica)) = (is_fenced, self.persisted.replicas.get_mut(index)) {
                replica.not_before = until;
            }
        }
    }
}
