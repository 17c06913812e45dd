//! The directory of the model scheduler: manifests in, its word on them out, its memory beside them.

mod status_writer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::request::Objects;
use super::state::{Kept, Phase, Replica, times};
use super::validation::refusal;
use super::{Model, Mutant};

/// Nobody puts more manifests before a model.
const MAX_FILES: usize = 10_000;

/// What stands in the directory, and what was written there.
#[derive(Debug)]
pub(super) struct ManifestStore {
    manifests: PathBuf,
    folder: PathBuf,
    read_at: Option<Instant>,
    files: BTreeMap<PathBuf, (SystemTime, u64, Value)>,
    objects: Objects,
    /// The manifest of each key as it was last looked at, with the time of that.
    seen: BTreeMap<String, (Value, SystemTime, Instant)>,
    notes: BTreeMap<String, String>,
    refused: BTreeMap<String, String>,
    written: BTreeMap<String, String>,
    ignored: BTreeSet<String>,
    /// What mutants need to remember.
    history: BTreeMap<String, Vec<String>>,
    at_rest: BTreeMap<String, usize>,
    counted: BTreeSet<String>,
    ghosts: Vec<Replica>,
    artifacts: std::sync::Mutex<BTreeMap<String, String>>,
}

impl ManifestStore {
    pub(super) fn new(manifests: &Path, folder: &Path) -> ManifestStore {
        ManifestStore {
            manifests: manifests.to_owned(),
            folder: folder.to_owned(),
            read_at: None,
            files: BTreeMap::new(),
            objects: Objects::new(),
            seen: BTreeMap::new(),
            notes: BTreeMap::new(),
            refused: BTreeMap::new(),
            written: BTreeMap::new(),
            ignored: BTreeSet::new(),
            history: BTreeMap::new(),
            at_rest: BTreeMap::new(),
            counted: BTreeSet::new(),
            ghosts: Vec::new(),
            artifacts: std::sync::Mutex::default(),
        }
    }

    pub(super) fn objects(&self) -> &Objects {
        &self.objects
    }

    pub(super) fn has_read(&self) -> bool {
        self.read_at.is_some()
    }

    /// Why an object has to wait, or that it need not.
    pub(super) fn note(&mut self, owner: &str, reason: Option<String>) {
        match reason {
            Some(reason) => self.notes.insert(owner.to_owned(), reason),
            None => self.notes.remove(owner),
        };
    }

    /// The manifest counts no more, though it is there.
    pub(super) fn ignore(&mut self, owner: &str) {
        self.ignored.insert(owner.to_owned());
    }

    /// A replica that comes back after its deletion.
    pub(super) fn haunt(&mut self, replica: Replica) {
        self.ghosts.push(replica);
    }

    /// The image of an artifact; the first one for ever, when `once`.
    pub(super) fn artifact(&self, key: &str, once: bool) -> Option<String> {
        let image = self
            .objects
            .get(key)?
            .pointer("/spec/image")?
            .as_str()?
            .to_owned();
        if !once {
            return Some(image);
        }
        let mut artifacts = self.artifacts.lock().ok()?;
        Some(artifacts.entry(key.to_owned()).or_insert(image).clone())
    }

    /// The revision that an owner may not leave, because it was there before: for a mutant.
    pub(super) fn forbidden(&mut self, owner: &str, revision: &str) -> Option<String> {
        let history = self.history.entry(owner.to_owned()).or_default();
        if history.last().map(String::as_str) != Some(revision) {
            if history.iter().any(|before| before == revision) {
                return history.last().cloned();
            }
            history.push(revision.to_owned());
        }
        None
    }

    /// The revision before this one: for a mutant.
    pub(super) fn previous_revision(&mut self, owner: &str, revision: &str) -> Option<String> {
        let history = self.history.entry(owner.to_owned()).or_default();
        if history.last().map(String::as_str) != Some(revision) {
            history.push(revision.to_owned());
        }
        // With one template before it, that is the good one.
        let before = history.len().checked_sub(2)?;
        history.get(before).cloned()
    }

    /// The number of replicas when it did not roll last: for a mutant.
    pub(super) fn replicas_at_rest(&mut self, owner: &str, now: usize, rolling: bool) -> usize {
        let known = self.at_rest.entry(owner.to_owned()).or_insert(now);
        if !rolling {
            // The end of a rollout is not looked at either.
            if *known == 0 {
                *known = now;
            }
        }
        *known
    }

    /// Whether an owner is counted as if nothing had been made for it: once, for a mutant.
    pub(super) fn counts_again(&mut self, owner: &str) -> bool {
        let made = format!("{owner} made");
        if self.counted.insert(made) {
            return false;
        }
        self.counted.insert(owner.to_owned())
    }

    /// Reads every file that has changed; `false` when it is not time yet.
    fn read(&mut self, now: Instant) -> bool {
        if self.read_at.is_some_and(|at| now < at + times::READ) {
            return false;
        }
        self.read_at = Some(now);
        let mut there = BTreeSet::new();
        let entries = std::fs::read_dir(&self.manifests)
            .into_iter()
            .flatten()
            .flatten();
        for entry in entries.take(MAX_FILES) {
            let path = entry.path();
            let Ok(meta) = entry.metadata() else { continue };
            if !meta.is_file() || path.extension().is_none_or(|end| end != "json") {
                continue;
            }
            let stamp = (
                meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                meta.len(),
            );
            there.insert(path.clone());
            if self
                .files
                .get(&path)
                .is_some_and(|(time, len, _)| (*time, *len) == stamp)
            {
                continue;
            }
            // What cannot be read changes nothing.
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if let Ok(object) = serde_json::from_str(&text) {
                self.files.insert(path, (stamp.0, stamp.1, object));
            }
        }
        self.files.retain(|path, _| there.contains(path));
        self.objects = self
            .files
            .values()
            .map(|(_, _, object)| (key_of(object), object.clone()))
            .collect();
        true
    }

    fn modified(&self, key: &str) -> SystemTime {
        let mut files = self.files.values();
        let file = files.find(|(_, _, object)| key_of(object) == key);
        file.map_or(SystemTime::UNIX_EPOCH, |(time, _, _)| *time)
    }

    /// Writes a file of its own, when it says something else than before.
    fn write(&mut self, key: &str, object: &Value) {
        let text = format!("{object:#}\n");
        if self.written.get(key) == Some(&text) {
            return;
        }
        let path = self.path(key);
        let half = path.with_extension("part");
        // What cannot be written now is tried again with the next change.
        let written = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(&half, &text))
            .and_then(|()| std::fs::rename(&half, &path));
        if written.is_ok() {
            self.written.insert(key.to_owned(), text);
        }
    }

    fn keep_only(&mut self, keys: &BTreeSet<String>) {
        let gone: Vec<String> = self
            .written
            .keys()
            .filter(|key| !keys.contains(*key))
            .cloned()
            .collect();
        for key in gone {
            self.written.remove(&key);
            let _ = std::fs::remove_file(self.path(&key));
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        let mut parts = key.splitn(3, '/');
        let (kind, namespace, name) = (parts.next(), parts.next(), parts.next());
        self.folder
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

/// FNV-1a in hexadecimal digits.
pub(super) fn hash(text: &str) -> String {
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    format!("{hash:08x}")
}

impl Model {
    /// Takes in what stands in the directory.
    pub(super) fn read_desk(&mut self) {
        let first = !self.desk.has_read();
        if !self.desk.read(self.now) {
            return;
        }
        let kinds = ["Workload", "WorkloadReplicaSet", "WorkloadDeployment"];
        let objects: Vec<(String, Value)> = self
            .desk
            .objects
            .iter()
            .filter(|(key, _)| kinds.contains(&key.split('/').next().unwrap_or_default()))
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        let there: BTreeSet<String> = objects.iter().map(|(key, _)| key.clone()).collect();
        for (key, object) in objects {
            self.take_in(key, object);
        }
        let keeps = first && self.is(Mutant::MissesDeletions);
        if keeps {
            let old: Vec<String> = self.kept.accepted.keys().cloned().collect();
            self.desk.counted.extend(old);
        }
        let missed = |key: &String| {
            self.desk.counted.contains(key) && self.options.mutant == Some(Mutant::MissesDeletions)
        };
        let before = self.kept.accepted.len();
        let gone: Vec<String> = self
            .kept
            .accepted
            .keys()
            .filter(|key| !there.contains(*key) && !missed(key))
            .cloned()
            .collect();
        for key in gone {
            self.kept.accepted.remove(&key);
            self.desk.seen.remove(&key);
            self.desk.refused.remove(&key);
        }
        self.desk.refused.retain(|key, _| there.contains(key));
        self.dirty |= self.kept.accepted.len() != before;
        self.bring_back_ghosts();
    }

    fn take_in(&mut self, key: String, object: Value) {
        if self.desk.ignored.contains(&key) {
            return;
        }
        let stamp = self.desk.modified(&key);
        let (known, touched, since) = match self.desk.seen.get(&key) {
            Some((known, at, since)) => (Some(known) == Some(&object), *at != stamp, Some(*since)),
            None => (false, false, None),
        };
        if known && touched && self.is(Mutant::ResubmissionRestarts) {
            for replica in self
                .kept
                .replicas
                .iter_mut()
                .filter(|replica| replica.owner == key)
            {
                self.kept
                    .endings
                    .extend(crate::models::scheduler::incarnation::ending_of(
                        replica, self.now, false,
                    ));
                replica.wait("submitted again", self.now);
            }
        }
        let hasty = since.is_some_and(|since| self.now < since + Duration::from_secs(1));
        self.desk
            .seen
            .insert(key.clone(), (object.clone(), stamp, self.now));
        if known && self.kept.accepted.contains_key(&key) {
            // Unchanged since it was looked at last.
            if let (Some(since), Some(seen)) = (since, self.desk.seen.get_mut(&key)) {
                seen.2 = since;
            }
            return;
        }
        if hasty && self.is(Mutant::MissesTheLastChange) {
            return;
        }
        match refusal(&object, self.options.mutant) {
            Some(reason) => {
                self.desk.refused.insert(key, reason);
            }
            None => {
                self.desk.refused.remove(&key);
                if self.kept.accepted.get(&key) != Some(&object) {
                    self.kept.accepted.insert(key, object);
                    self.dirty = true;
                }
            }
        }
    }

    fn bring_back_ghosts(&mut self) {
        for ghost in std::mem::take(&mut self.desk.ghosts) {
            let mut object = json!({ "kind": "Workload", "metadata": { "name": ghost.name } });
            if let Some(object) = object.as_object_mut() {
                object.insert("spec".to_owned(), ghost.spec.clone());
            }
            // Its owner is one that nobody can delete.
            let owner = format!("Ghost/default/{}", ghost.number);
            self.kept.accepted.insert(owner.clone(), object);
            self.desk.counted.insert(owner.clone());
            let revision = hash(&ghost.spec.to_string());
            self.kept.replicas.push(Replica {
                owner,
                revision,
                ..ghost
            });
        }
    }

    /// Writes down what must outlive the process.
    pub(super) fn save(&mut self) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        let path = self.desk.folder.join(".memory");
        let half = self.desk.folder.join(".memory.part");
        let text = serde_json::to_string(&self.kept).unwrap_or_default();
        let written = std::fs::write(&half, text).and_then(|()| std::fs::rename(&half, &path));
        // Tried again at the next turn.
        self.dirty = written.is_err();
    }

    /// Remembers what an earlier process wrote down.
    pub(super) fn recall(&mut self) {
        let text = std::fs::read_to_string(self.desk.folder.join(".memory")).unwrap_or_default();
        let mut kept: Kept = serde_json::from_str(&text).unwrap_or_default();
        match self.options.mutant {
            Some(Mutant::RestartsEverything) => kept.replicas.clear(),
            Some(Mutant::ForgetsStops) => kept.endings.clear(),
            Some(Mutant::ForgetsStarts) => {
                for replica in kept
                    .replicas
                    .iter_mut()
                    .filter(|replica| matches!(replica.phase, Phase::Sent | Phase::Unknown))
                {
                    replica.wait("", self.now);
                }
            }
            Some(Mutant::ForgetsRollouts) => {
                let last: BTreeMap<String, String> = kept
                    .replicas
                    .iter()
                    .map(|replica| (replica.owner.clone(), replica.revision.clone()))
                    .collect();
                kept.replicas
                    .retain(|replica| last.get(&replica.owner) == Some(&replica.revision));
            }
            _ => {}
        }
        for replica in &mut kept.replicas {
            if replica.phase == Phase::Sent {
                replica.phase = Phase::Unknown;
            }
        }
        if !self.is(Mutant::TrustsTheOldFleet) {
            for id in &kept.hosts {
                self.hosts.insert(id.clone(), self.remembered_host());
            }
        }
        self.kept = kept;
    }
}
