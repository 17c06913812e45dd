//! The repositories: content, behavior and request logs.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::artifact::{Content, Image};
use super::behavior::RepositoryBehavior;
use super::request_log::LoggedRequest;

/// Maximum number of log entries per repository, in case a host retries without pause.
const MAX_LOG_ENTRIES: usize = 20_000;
/// Maximum number of repositories per registry, including requested ones without content. A suite
/// uses a few hundred.
const MAX_REPOSITORIES: usize = 10_000;

/// All repositories of a registry, shared by its listeners.
#[derive(Debug, Default)]
pub(super) struct Repositories {
    by_name: Mutex<HashMap<String, Repository>>,
    /// Notified on every request.
    pub arrival: Notify,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Repository {
    pub behavior: RepositoryBehavior,
    tags: HashMap<String, String>,
    manifests: HashMap<String, Bytes>,
    blobs: HashMap<String, Bytes>,
    /// Requests that arrived at the registry itself.
    log: Vec<LoggedRequest>,
    /// Requests that arrived at the target of a redirect.
    redirect_target_log: Vec<LoggedRequest>,
    /// Bytes of all bodies that were sent.
    sent_bytes: u64,
}

impl Repository {
    /// Returns the manifest with a tag or digest.
    pub fn manifest(&self, reference: &str) -> Option<Content> {
        let digest = self.tags.get(reference).map_or(reference, String::as_str);
        let bytes = self.manifests.get(digest)?.clone();
        Some(Content {
            digest: digest.to_owned(),
            bytes,
        })
    }

    /// Returns the layer or config with a digest.
    pub fn blob(&self, digest: &str) -> Option<Content> {
        let bytes = self.blobs.get(digest)?.clone();
        Some(Content {
            digest: digest.to_owned(),
            bytes,
        })
    }
}

impl Repositories {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Repository>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores an image under a tag.
    pub fn put(&self, repository: &str, tag: &str, image: Image) {
        let mut repositories = self.lock();
        let repository = repositories.entry(repository.to_owned()).or_default();
        repository
            .tags
            .insert(tag.to_owned(), image.manifest.digest.clone());
        repository
            .manifests
            .insert(image.manifest.digest, image.manifest.bytes);
        for blob in [image.config, image.layer] {
            repository.blobs.insert(blob.digest, blob.bytes);
        }
    }

    /// Moves a tag. Returns false if the repository has no manifest with the digest.
    pub fn move_tag(&self, repository: &str, tag: &str, digest: &str) -> bool {
        let mut repositories = self.lock();
        match repositories.get_mut(repository) {
            Some(repository) if repository.manifests.contains_key(digest) => {
                repository.tags.insert(tag.to_owned(), digest.to_owned());
                true
            }
            _ => false,
        }
    }

    pub fn set_behavior(&self, repository: &str, behavior: RepositoryBehavior) {
        self.lock()
            .entry(repository.to_owned())
            .or_default()
            .behavior = behavior;
    }

    /// Returns a cheap copy of a repository without its logs; the copy shares the bytes.
    pub fn snapshot(&self, repository: &str) -> Repository {
        let repositories = self.lock();
        let Some(found) = repositories.get(repository) else {
            return Repository::default();
        };
        Repository {
            behavior: found.behavior.clone(),
            tags: found.tags.clone(),
            manifests: found.manifests.clone(),
            blobs: found.blobs.clone(),
            log: Vec::new(),
            redirect_target_log: Vec::new(),
            sent_bytes: 0,
        }
    }

    /// Records a request that arrived at the registry itself.
    pub fn record(&self, repository: &str, request: LoggedRequest) {
        self.append(repository, request, |repository| &mut repository.log);
    }

    /// Records a request that arrived at the target of a redirect.
    pub fn record_at_redirect_target(&self, repository: &str, request: LoggedRequest) {
        self.append(repository, request, |repository| {
            &mut repository.redirect_target_log
        });
    }

    fn append(
        &self,
        repository: &str,
        request: LoggedRequest,
        log: impl Fn(&mut Repository) -> &mut Vec<LoggedRequest>,
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

    /// Counts bytes of bodies that were sent.
    pub fn count_sent(&self, repository: &str, bytes: u64) {
        if let Some(found) = self.lock().get_mut(repository) {
            found.sent_bytes = found.sent_bytes.saturating_add(bytes);
        }
    }

    pub fn sent_bytes(&self, repository: &str) -> u64 {
        self.lock()
            .get(repository)
            .map_or(0, |found| found.sent_bytes)
    }

    /// Returns the number of requests for all repositories that arrived at the registry itself.
    pub fn request_count(&self) -> usize {
        self.lock().values().map(|found| found.log.len()).sum()
    }

    pub fn log(&self, repository: &str) -> Vec<LoggedRequest> {
        self.lock()
            .get(repository)
            .map(|found| found.log.clone())
            .unwrap_or_default()
    }

    pub fn redirect_target_log(&self, repository: &str) -> Vec<LoggedRequest> {
        self.lock()
            .get(repository)
            .map(|found| found.redirect_target_log.clone())
            .unwrap_or_default()
    }
}
