//! Scans the directory for files that are new, changed or removed, and stable since the previous
//! scan.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use super::manifest::{Manifest, Manifests};
use super::notice::Notice;
use super::parser::{self, Content, Document};
use super::status_files::read_bounded;
use super::walk::{Fingerprint, Listing};

/// Maximum size of a manifest, the same as that of a request to the API server.
const FILE_BYTES_MAX: u64 = 3 << 20;

/// The files of a directory as of the most recent scans.
///
/// A change of a file takes effect when two scans in a row find the same fingerprint: editors write
/// in several steps, between which a file can be empty or missing.
#[derive(Debug)]
pub(super) struct Scanner {
    root: PathBuf,
    files: BTreeMap<String, File>,
    /// Entries of the most recent scan that could not be followed, by path, with the reason.
    problems: BTreeMap<String, String>,
    is_root_missing: bool,
}

#[derive(Debug, Default)]
struct File {
    /// Fingerprint in the most recent scan; `None` if the file was missing.
    scanned: Option<Fingerprint>,
    /// Fingerprint when the file was most recently read.
    read: Option<Fingerprint>,
    /// Hash of the content that was most recently parsed.
    parsed: Option<u64>,
    /// Documents of the latest valid content; `None` before the first.
    documents: Option<Vec<Document>>,
    /// Reason why the file cannot be read.
    unreadable: Option<String>,
    /// Reason why the content is invalid.
    invalid: Option<String>,
}

impl Scanner {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            files: BTreeMap::new(),
            problems: BTreeMap::new(),
            is_root_missing: false,
        }
    }

    /// Scans the directory and returns whether a change takes effect. Files whose existence is
    /// unknown stay as they were: a directory that is temporarily missing must not delete anything.
    pub(super) fn scan(&mut self) -> bool {
        let listing = Listing::of(&self.root);
        let mut changed = self.problems != listing.problems;
        self.is_root_missing = listing.is_root_missing();
        self.files.retain(|name, file| {
            if listing.files.contains_key(name) || listing.may_contain(name) {
                return true;
            }
            let existed = file.scanned.take().is_some();
            changed |= !existed;
            existed
        });
        for (name, fingerprint) in listing.files {
            let path = self.root.join(&name);
            let file = self.files.entry(name).or_default();
            let is_stable = file.scanned.replace(fingerprint) == Some(fingerprint);
            if is_stable && file.read != Some(fingerprint) {
                changed |= file.update(&path, fingerprint);
            }
        }
        self.problems = listing.problems;
        changed
    }

    /// Returns whether the directory itself cannot be listed.
    pub(super) fn is_root_missing(&self) -> bool {
        self.is_root_missing
    }

    /// Returns the content of all files. Of several definitions of one object, the first in the
    /// order of the paths and documents counts.
    pub(super) fn manifests(&self) -> Manifests {
        let mut manifests = Manifests {
            problems: self.problems.clone(),
            ..Manifests::default()
        };
        for (name, file) in &self.files {
            let problem = file.unreadable.as_ref().or(file.invalid.as_ref());
            if let Some(problem) = problem {
                let reason = format!("{problem}; its objects stay as they were");
                manifests.problems.insert(name.clone(), reason);
            }
            match &file.documents {
                Some(documents) => {
                    let mut other_kinds = BTreeSet::new();
                    for document in documents {
                        add(&mut manifests, name, document, problem, &mut other_kinds);
                    }
                    if !other_kinds.is_empty() {
                        let kinds: Vec<&str> = other_kinds.into_iter().collect();
                        manifests.ignored.insert(name.clone(), kinds.join(", "));
                    }
                }
                None => {
                    // A file whose content is not stable yet has no problem.
                    let problem = problem.map_or("not read yet", String::as_str);
                    let unread = (name.clone(), problem.to_owned());
                    manifests.unread_files.extend([unread]);
                }
            }
        }
        manifests
    }
}

impl File {
    /// Reads the file and returns whether its documents or its problem have changed.
    fn update(&mut self, path: &Path, fingerprint: Fingerprint) -> bool {
        let before = (self.unreadable.clone(), self.invalid.clone());
        let read = read_bounded(path, FILE_BYTES_MAX, fingerprint.bytes);
        let text = match read {
            Ok(text) => text,
            Err(error) => {
                // Read again at the next scan: the reason need not be visible in the fingerprint.
                self.unreadable = Some(format!("cannot read the file: {error}"));
                return before.0 != self.unreadable;
            }
        };
        (self.unreadable, self.read) = (None, Some(fingerprint));
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        if self.parsed.replace(hasher.finish()) == Some(hasher.finish()) {
            return before.0.is_some();
        }
        match parser::parse(&text) {
            Ok(documents) => (self.documents, self.invalid) = (Some(documents), None),
            Err(error) => self.invalid = Some(error.to_string()),
        }
        true
    }
}

fn add<'a>(
    manifests: &mut Manifests,
    name: &str,
    document: &'a Document,
    problem: Option<&String>,
    other_kinds: &mut BTreeSet<&'a str>,
) {
    let origin = format!("{name}, {}", document.at);
    let (subject, first) = match &document.content {
        Content::Object(object) => {
            let key = object.key();
            let first = manifests.objects.get(&key).map(|it| it.origin.clone());
            if first.is_none() {
                let notice = notice(name, document, problem);
                let manifest = Manifest {
                    object: object.clone(),
                    file: name.to_owned(),
                    origin: origin.clone(),
                    notice,
                    is_refused: document.negative_numbers.is_some(),
                };
                manifests.objects.insert(key.clone(), manifest);
            }
            (key.to_string(), first)
        }
        Content::ConfigMap((namespace, map), data) => {
            let reference = (namespace.clone(), map.clone());
            let entry = manifests.config_maps.entry(reference);
            let (first, _) = entry.or_insert_with(|| (origin.clone(), data.clone()));
            let first = Some(first.clone()).filter(|first| *first != origin);
            (format!("ConfigMap {namespace}/{map}"), first)
        }
        Content::Secret((namespace, secret_name), secret) => {
            let reference = (namespace.clone(), secret_name.clone());
            let entry = manifests.secrets.entry(reference);
            let (first, _) = entry.or_insert_with(|| (origin.clone(), secret.clone()));
            let first = Some(first.clone()).filter(|first| *first != origin);
            (format!("Secret {namespace}/{secret_name}"), first)
        }
        Content::Other(kind) => {
            other_kinds.insert(kind);
            return;
        }
    };
    let negative = document.negative_numbers.as_ref();
    let finding = negative.or(document.unknown_fields.as_ref());
    if let Some(first) = first {
        let reason = format!("{subject} is passed over: {first} defines it already");
        manifests.problems.insert(origin, reason);
    } else if let Some(finding) = finding {
        let reason = format!("{subject}: {finding}");
        manifests.problems.insert(origin, reason);
    }
}

/// Returns what the status of the object tells about its manifest.
fn notice(file: &str, document: &Document, problem: Option<&String>) -> Option<Notice> {
    let problem = problem.or(document.negative_numbers.as_ref());
    match (problem, &document.unknown_fields) {
        (Some(problem), _) => Some(Notice::invalid(file, problem)),
        (None, Some(unknown)) => Some(Notice {
            reason: "UnknownFields",
            message: format!("{file}: {unknown}"),
        }),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests;
