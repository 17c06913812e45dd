//! A log of the identities of all objects, as a second record besides the status files: with it, a
//! workload whose status file is corrupt is stopped on its host, and an owner keeps its dependents.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::status_files::sync;
use crate::api::{Key, Object, OwnerReference, names};

/// Name of the log, below the directory of the status files. It is not a valid namespace.
const LOG_FILE: &str = ".identities";
/// Maximum size of the log that is read: far more than the identities of all objects.
const LOG_BYTES_MAX: u64 = 64 << 20;
/// Number of appended lines after which the log is rewritten, unless there are more objects:
/// some megabytes, and rarely reached.
const APPENDED_MAX: usize = 10_000;

/// Data of a workload that must survive the loss of its status file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Identity {
    pub uid: String,
    /// Host on which the workload may run; empty if none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host_id: String,
    /// ID under which it may run there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub workload_id: String,
    /// The owner that controls the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerReference>,
}

/// A line of the log. Later lines replace earlier ones of the same object.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    kind: String,
    namespace: String,
    name: String,
    /// `None` if the object was removed.
    identity: Option<Identity>,
}

/// The log.
#[derive(Debug)]
pub(super) struct Identities {
    path: PathBuf,
    known: BTreeMap<Key, Identity>,
    /// Number of lines that were appended since the log was written as a whole.
    appended: usize,
}

impl Identities {
    /// Reads the log of an earlier process. Lines that are torn or damaged are skipped: they are
    /// needed only if the status file of their object is lost, too.
    pub(super) fn read(directory: &Path) -> Self {
        let path = directory.join(LOG_FILE);
        let is_readable = fs::metadata(&path).is_ok_and(|it| it.len() <= LOG_BYTES_MAX);
        let bytes = if is_readable {
            fs::read(&path).unwrap_or_default()
        } else {
            Vec::new()
        };
        let mut known = BTreeMap::new();
        for line in bytes.split(|byte| *byte == b'\n') {
            let Ok(line) = serde_json::from_slice::<Line>(line) else {
                continue;
            };
            let Ok(kind) = line.kind.parse() else {
                continue;
            };
            let key = Key::new(kind, line.namespace, line.name);
            match line.identity {
                Some(identity) => known.insert(key, identity),
                None => known.remove(&key),
            };
        }
        Self {
            path,
            known,
            appended: 0,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Identity)> {
        self.known.iter()
    }

    /// Replaces the log with the identities of these objects.
    pub(super) fn replace<'a>(
        &mut self,
        objects: impl Iterator<Item = &'a Object>,
    ) -> io::Result<()> {
        self.known = objects
            .map(|object| (object.key(), identity(object)))
            .collect();
        self.write_all()
    }

    fn write_all(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        for (key, identity) in &self.known {
            write_line(&mut text, key, Some(identity))?;
        }
        let temporary = self.path.with_extension("new");
        let mut file = fs::File::create(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        self.path.parent().map_or(Ok(()), sync)?;
        self.appended = 0;
        Ok(())
    }

    /// Records the identity of an object, if it has changed, before its status file is written.
    pub(super) fn record(&mut self, object: &Object) -> io::Result<()> {
        let (key, identity) = (object.key(), identity(object));
        if self.known.get(&key) == Some(&identity) {
            return Ok(());
        }
        self.append(&key, Some(&identity))?;
        self.known.insert(key, identity);
        self.shorten()
    }

    /// Records that an object was removed.
    pub(super) fn forget(&mut self, key: &Key) -> io::Result<()> {
        if self.known.remove(key).is_some() {
            self.append(key, None)?;
        }
        self.shorten()
    }

    /// Rewrites the log once most of its lines are out of date, which bounds its size.
    fn shorten(&mut self) -> io::Result<()> {
        if self.appended > self.known.len().max(APPENDED_MAX) {
            self.write_all()?;
        }
        Ok(())
    }

    fn append(&mut self, key: &Key, identity: Option<&Identity>) -> io::Result<()> {
        // A line that was cut off ends here.
        let mut text = vec![b'\n'];
        write_line(&mut text, key, identity)?;
        let mut options = fs::OpenOptions::new();
        let mut file = options.create(true).append(true).open(&self.path)?;
        file.write_all(&text)?;
        self.appended += 1;
        file.sync_data()
    }
}

fn write_line(text: &mut Vec<u8>, key: &Key, identity: Option<&Identity>) -> io::Result<()> {
    let line = Line {
        kind: key.kind.as_str().to_owned(),
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        identity: identity.cloned(),
    };
    serde_json::to_writer(&mut *text, &line)?;
    text.push(b'\n');
    Ok(())
}

fn identity(object: &Object) -> Identity {
    let metadata = object.metadata();
    let mut identity = Identity {
        uid: metadata.uid.clone(),
        owner: metadata.controller().cloned(),
        ..Identity::default()
    };
    if let Object::Workload(workload) = object {
        let status = workload.status.as_ref();
        let assigned = status.filter(|status| !status.host_id.is_empty());
        match (
            assigned,
            metadata.annotations.get(names::PLACED_ON_ANNOTATION),
        ) {
            (Some(status), _) => {
                identity.host_id.clone_from(&status.host_id);
                identity.workload_id.clone_from(&status.workload_id);
            }
            (None, Some(host)) if status.is_none() => {
                identity.host_id.clone_from(host);
                identity.workload_id.clone_from(&metadata.uid);
            }
            _ => {}
        }
    }
    identity
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::Kind;

    fn workload(name: &str, host: &str) -> Object {
        let value = json!({"metadata": {"namespace": "default", "name": name, "uid": format!("uid-{name}")},
            "status": {"hostId": host, "workloadId": format!("uid-{name}-1")}});
        Object::from_fields(Kind::Workload, value).unwrap()
    }

    fn hosts(identities: &Identities) -> Vec<(String, String)> {
        let hosts = identities.iter().map(|(key, identity)| {
            assert!(identity.workload_id.starts_with(&identity.uid));
            (key.name.to_string(), identity.host_id.clone())
        });
        hosts.collect()
    }

    #[test]
    fn log_is_rewritten_when_most_lines_are_out_of_date() {
        let folder = tempfile::tempdir().unwrap();
        let mut identities = Identities::read(folder.path());
        identities.record(&workload("a", "one")).unwrap();
        // As after many changes, without their cost.
        identities.appended = APPENDED_MAX - 1;
        let lines = || {
            let log = fs::read_to_string(folder.path().join(LOG_FILE)).unwrap();
            log.lines().filter(|line| !line.is_empty()).count()
        };
        let mut counts = Vec::new();
        for host in ["two", "three", "four"] {
            identities.record(&workload("a", host)).unwrap();
            counts.push(lines());
        }
        identities.forget(&workload("a", "").key()).unwrap();
        assert_eq!((counts, lines()), (vec![2, 1, 2], 3));
        identities.record(&workload("b", "one")).unwrap();
        let expected = [("b".to_owned(), "one".to_owned())];
        assert_eq!(hosts(&Identities::read(folder.path())), expected);
    }

    #[test]
    fn latest_identity_is_restored_in_spite_of_damaged_lines() {
        let folder = tempfile::tempdir().unwrap();
        let mut identities = Identities::read(folder.path());
        identities.record(&workload("a", "one")).unwrap();
        identities.record(&workload("b", "one")).unwrap();
        identities.record(&workload("a", "two")).unwrap();
        identities.forget(&workload("b", "").key()).unwrap();
        let expected = [("a".to_owned(), "two".to_owned())];
        assert_eq!(hosts(&Identities::read(folder.path())), expected);

        let path = folder.path().join(LOG_FILE);
        let log = fs::read(&path).unwrap();
        let torn = [
            &[0; 100],
            b"\n{\"kind\"" as &[u8],
            b"\n",
            &log,
            b"{\"kind\":\"Work",
        ]
        .concat();
        fs::write(&path, torn).unwrap();
        let mut identities = Identities::read(folder.path());
        assert_eq!(hosts(&identities), expected);
        identities.record(&workload("c", "one")).unwrap();
        assert_eq!(hosts(&Identities::read(folder.path())).len(), 2);
        identities.replace([workload("d", "one")].iter()).unwrap();
        let before = fs::metadata(&path).unwrap().len();
        identities.record(&workload("d", "one")).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().len(),
            before,
            "nothing has changed"
        );
        assert_eq!(hosts(&Identities::read(folder.path())).len(), 1);
    }
}
