//! The repositories: what each holds, how it behaves, and what was asked of it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::artifact::{Content, Image};
use super::behavior::Behaviour;
use super::request_log::Request;

/// Of one repository: a host that retries without pause is seen, not stored without end.
const MAX_LOG_ENTRIES: usize = 20_000;
/// Repositories that were only asked for count too; a suite uses a few hundred.
const MAX_REPOSITORIES: usize = 10_000;

/// All repositories of one registry, shared by its listeners.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    repositories: Mutex<HashMap<String, Repository>>,
    /// Told of every request.
    pub arrival: Notify,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Repository {
    pub behaviour: Behaviour,
    tags: HashMap<String, String>,
    manifests: HashMap<String, Bytes>,
    blobs: HashMap<String, Bytes>,
    log: Vec<Request>,
    elsewhere: Vec<Request>,
}

impl Repository {
    /// The manifest under a tag or digest.
    pub fn manifest(&self, reference: &str) -> Option<Content> {
        let digest = self.tags.get(reference).map_or(reference, String::as_str);
        let bytes = self.manifests.get(digest)?.clone();
        Some(Content {
            digest: digest.to_owned(),
            bytes,
        })
    }

    /// The layer or config of that digest.
    pub fn blob(&self, digest: &str) -> Option<Content> {
        let bytes = self.blobs.get(digest)?.clone();
        Some(Content {
            digest: digest.to_owned(),
            bytes,
        })
    }
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Repository>> {
        self.repositories
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub fn put(&self, repository: &str, tag: &str, image: Image) {
        let mut repositories = self.lock();
        let repository = repositories.entry(repository.to_owned()).or_default();
        repository
            .tags
            .insert(tag.to_owned(), image.manifest.digest.clone());
        repository
            .manifests
            .insert(image.manifest.digest, image.manifest.bytes);
        // The decoy is there too, so that a lie about the manifest can be followed to its end.
        let decoy = Image::decoy();
        for blob in [image.config, image.layer, decoy.config, decoy.layer] {
            repository.blobs.insert(blob.digest, blob.bytes);
        }
    }

    /// Whether the repository has a manifest of that digest; else nothing is moved.
    pub fn tag(&self, repository: &str, tag: &str, digest: &str) -> bool {
        let mut repositories = self.lock();
        match repositories.get_mut(repository) {
            Some(repository) if repository.manifests.contains_key(digest) => {
                repository.tags.insert(tag.to_owned(), digest.to_owned());
                true
            }
            _ => false,
        }
    }

    pub fn behave(&self, repository: &str, behaviour: Behaviour) {
        self.lock()
            .entry(repository.to_owned())
            .or_default()
            .behaviour = behaviour;
    }

    /// A repository as it is now (contents are shared, not copied), without its logs.
    pub fn look(&self, repository: &str) -> Repository {
        let repositories = self.lock();
        let Some(found) = repositories.get(repository) else {
            return Repository::default();
        };
        Repository {
            behaviour: found.behaviour.clone(),
            tags: found.tags.clone(),
            manifests: found.manifests.clone(),
            blobs: found.blobs.clone(),
            log: Vec::new(),
            elsewhere: Vec::new(),
        }
    }

    pub fn record(&self, repository: &str, request: Request) {
        self.append(repository, request, |repository| &mut repository.log);
    }

    pub fn record_elsewhere(&self, repository: &str, request: Request) {
        self.append(repository, request, |repository| &mut repository.elsewhere);
    }

    fn append(
        &self,
        repository: &str,
        request: Request,
        log: impl Fn(&mut Repository) -> &mut Vec<Request>,
    ) {
        let mut repositories = self.lock();
        if repositories.len() < MAX_REPOSITORIES || repositories.contains_key(repository) {
            let log = log(repositories.entry(repository.to_owned()).or_default());
            if log.len() < MAX_LOG_ENTRIES {
                log.push(request);
            }
        }
        drop(repositories);
        self.arrival.notify_waiters();
    }

    pub fn log(&self, repository: &str) -> Vec<Request> {
        self.lock()
            .get(repository)
            .map(|found| found.log.clone())
            .unwrap_or_default()
    }

    pub fn elsewhere_log(&self, repository: &str) -> Vec<Request> {
        self.lock()
            .get(repository)
            .map(|found| found.elsewhere.clone())
            .unwrap_or_default()
    }
}
