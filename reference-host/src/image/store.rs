//! The image store: answers "give me this image" from the cache or from its registry.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::cache::{Cache, Cached};
use super::credentials::Credentials;
use super::digest::Digest;
use super::docker_config;
use super::error::{PullCause, PullError};
use super::flight::{Flights, Outcome};
use super::options::StoreOptions;
use super::reference::ImageReference;
use super::registry::{ClientError, Insecure, Registries, Resolved};
use super::temporary::TemporaryFolder;

/// Pulls under way or queued; each is a workload that somebody started within one pull timeout.
const FLIGHTS_MAX: usize = 1024;

/// What a pull was doing when its deadline passed, whether it did so itself or with others.
const RESOLVING: &str = "asking what the reference stands for";
const DOWNLOADING: &str = "downloading the layer";

/// Why a [`Store`] cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The cache folder cannot be used.
    #[error("cannot use {} as the image cache, check --oci-cache-dir", path.display())]
    Cache {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The HTTP clients cannot be made, for instance because of a bad CA file.
    #[error("cannot set up the access to registries")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// When to ask the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// At every pull (HOST-IMG-011). Layers that are in the cache are not downloaded again.
    Always,
    /// Only when the cache does not have the image (HOST-IMG-012). Also what UNSPECIFIED means.
    #[default]
    IfNotPresent,
    /// Never (HOST-IMG-013).
    Never,
}

/// What to pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    /// The reference as the workload gives it.
    pub reference: String,
    /// When to ask the registry.
    pub policy: PullPolicy,
    /// The workload's pull secret; `None`: the host's own credentials for the registry, else anonymous.
    pub credentials: Option<Credentials>,
}

/// An image that was pulled and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// The digest of `bytes`. Computed by this host, so it may serve as the key of a compile cache.
    pub digest: Digest,
    /// The digest of the manifest: what a reference by digest names.
    pub manifest_digest: Digest,
    /// The content of the one Wasm layer.
    pub bytes: Bytes,
}

/// The images of a host. Cheap to clone; the clones share everything.
///
/// # Guarantees
///
/// - Pulls of one image with the same credentials that overlap share their requests (HOST-IMG-010).
/// - A pull runs in a task of its own, is bounded by one deadline, and is not ended when its callers go away:
///   what it brought is in the cache for the next one.
/// - Content is verified against its digest when it arrives and each time it is read from the cache.
///
/// # Who may have a cached image
///
/// With [`PullPolicy::IfNotPresent`] and [`PullPolicy::Never`] the cache serves every workload of the host,
/// also what was pulled with another workload's secret, as a Kubernetes node does unless told otherwise. Whoever
/// must keep tenants apart sets [`PullPolicy::Always`], which makes the registry decide at each start, or gives
/// each tenant hosts of its own.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

/// Who asks for what: pulls that agree in all of it may share their requests.
#[derive(Clone, PartialEq, Eq, Hash)]
struct ResolveKey {
    reference: ImageReference,
    credentials: Option<Credentials>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct LayerKey {
    authority: String,
    repository: String,
    digest: Digest,
    credentials: Option<Credentials>,
}

struct Shared {
    cache: Cache,
    cache_dir: PathBuf,
    registries: Registries,
    pull_timeout: Duration,
    docker_config: Option<PathBuf>,
    slots: Semaphore,
    slots_each: usize,
    by_registry: Mutex<HashMap<String, Weak<Semaphore>>>,
    /// Apart from the layers, so that a pull which begins while an older one downloads still asks the registry
    /// what the reference means now, and yet shares the download.
    resolving: Flights<ResolveKey, Resolved>,
    downloading: Flights<LayerKey, Bytes>,
    /// Removes the cache with the store, when it is a temporary one.
    temporary: Mutex<Option<TemporaryFolder>>,
}

impl Store {
    /// Opens the cache and prepares the access to registries. Contacts nobody. Blocks on the disk.
    pub fn new(options: StoreOptions) -> Result<Self, StoreError> {
        let cache_error = |path: PathBuf| |source| StoreError::Cache { path, source };
        let (folder, temporary) = match options.cache_dir {
            Some(folder) => (folder, None),
            None => {
                let parent = std::env::temp_dir();
                let made = TemporaryFolder::make(&parent).map_err(cache_error(parent))?;
                (made.path().to_owned(), Some(made))
            }
        };
        let cache =
            Cache::open(&folder, options.cache_bytes_max).map_err(cache_error(folder.clone()))?;
        let insecure = match options.allow_all_insecure {
            true => Insecure::All,
            false => Insecure::Only(
                options
                    .insecure_registries
                    .iter()
                    .map(|name| name.to_ascii_lowercase())
                    .collect(),
            ),
        };
        let registries = Registries::new(
            insecure,
            &options.registry_ca_paths,
            options.image_bytes_max,
        )
        .map_err(|error: ClientError| StoreError::Client(Box::new(error)))?;
        let slots = options
            .concurrent_pulls_max
            .clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self {
            shared: Arc::new(Shared {
                cache,
                cache_dir: folder,
                registries,
                pull_timeout: options.pull_timeout,
                docker_config: options.docker_config,
                slots: Semaphore::new(slots),
                slots_each: slots.div_ceil(2),
                by_registry: Mutex::default(),
                resolving: Flights::new(FLIGHTS_MAX),
                downloading: Flights::new(FLIGHTS_MAX),
                temporary: Mutex::new(temporary),
            }),
        })
    }

    /// Removes the cache, if it is a temporary one. For the end of a process, which does not wait until every clone
    /// of the store is dropped. A pull after this is an error.
    pub fn close(&self) {
        let mut temporary = self
            .shared
            .temporary
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        drop(temporary.take());
    }

    /// The folder that images are kept in.
    pub fn cache_dir(&self) -> &Path {
        &self.shared.cache_dir
    }

    /// Gives the image that `request` names, within the pull timeout.
    ///
    /// # Errors
    ///
    /// Each way to fail is a [`PullCause`] of its own.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped the pull goes on, and the next one finds the image in the cache.
    pub async fn pull(&self, request: PullRequest) -> Result<Arc<Artifact>, PullError> {
        let named = |cause| PullError::new(&request.reference, cause);
        let reference: ImageReference = request
            .reference
            .parse()
            .map_err(|error| named(Arc::new(PullCause::Reference(error))))?;
        if request.policy != PullPolicy::Always
            && let Some(found) = self.shared.clone().cached(reference.clone()).await
        {
            return Ok(found);
        }
        if request.policy == PullPolicy::Never {
            return Err(named(Arc::new(PullCause::NotCached)));
        }
        let shared = self.shared.clone();
        let pull = tokio::spawn(shared.fetch(reference, request.credentials));
        let aborted = |_| Err(Arc::new(PullCause::Aborted));
        pull.await.unwrap_or_else(aborted).map_err(named)
    }
}

impl Shared {
    async fn cached(self: Arc<Self>, reference: ImageReference) -> Option<Arc<Artifact>> {
        let found = self.on_disk(move |cache| cache.find(&reference)).await??;
        let Cached {
            manifest,
            layer,
            bytes,
        } = found;
        Some(Arc::new(Artifact {
            digest: layer,
            manifest_digest: manifest,
            bytes,
        }))
    }

    /// A pull: what the reference means, then the layer, then the note in the cache.
    async fn fetch(
        self: Arc<Self>,
        reference: ImageReference,
        secret: Option<Credentials>,
    ) -> Outcome<Arc<Artifact>> {
        let deadline = Instant::now() + self.pull_timeout;
        let credentials = self.credentials(&reference, secret).await;
        let resolved = self
            .clone()
            .resolve(reference.clone(), credentials.clone(), deadline)
            .await?;
        let (digest, manifest_digest) = (resolved.layer.digest.clone(), resolved.manifest.clone());
        let bytes = self
            .clone()
            .download(&reference, resolved, credentials, deadline)
            .await?;
        let (manifest, layer) = (manifest_digest.clone(), digest.clone());
        let noted = self.on_disk(move |cache| {
            cache.note(&reference, &manifest, &layer)?;
            cache.note(&reference.at(&manifest), &manifest, &layer)
        });
        // The image is here and sound: a cache that cannot note it costs the next start a pull, no more.
        if let Some(Err(error)) = noted.await {
            tracing::warn!(%error, "cannot note a pulled image in the cache");
        }
        Ok(Arc::new(Artifact {
            digest,
            manifest_digest,
            bytes,
        }))
    }

    async fn resolve(
        self: Arc<Self>,
        reference: ImageReference,
        credentials: Option<Credentials>,
        deadline: Instant,
    ) -> Outcome<Resolved> {
        let key = ResolveKey {
            reference: reference.clone(),
            credentials: credentials.clone(),
        };
        let (shared, registry) = (self.clone(), reference.registry().to_owned());
        let work = async move {
            let name = reference.registry().to_owned();
            let resolve = async {
                let _turn = shared.turn(reference.authority()).await;
                shared
                    .registries
                    .resolve(&reference, credentials)
                    .await
                    .map_err(Arc::new)
            };
            shared.by(deadline, &name, RESOLVING, resolve).await
        };
        self.by(
            deadline,
            &registry,
            RESOLVING,
            self.resolving.join(key, work),
        )
        .await
    }

    async fn download(
        self: Arc<Self>,
        reference: &ImageReference,
        resolved: Resolved,
        credentials: Option<Credentials>,
        deadline: Instant,
    ) -> Outcome<Bytes> {
        let key = LayerKey {
            authority: reference.authority().to_owned(),
            repository: reference.repository().to_owned(),
            digest: resolved.layer.digest.clone(),
            credentials: credentials.clone(),
        };
        let (shared, reference) = (self.clone(), reference.clone());
        let registry = reference.registry().to_owned();
        let work = async move {
            let name = reference.registry().to_owned();
            let download = async {
                // Looked up inside the flight: one that landed a moment ago has kept the layer by now.
                let digest = resolved.layer.digest.clone();
                let kept = shared.on_disk(move |cache| cache.layer(&digest)).await;
                if let Some(bytes) = kept.flatten() {
                    return Ok(bytes);
                }
                let _turn = shared.turn(reference.authority()).await;
                shared
                    .clone()
                    .download_layer(reference, resolved, credentials)
                    .await
            };
            shared.by(deadline, &name, DOWNLOADING, download).await
        };
        self.by(
            deadline,
            &registry,
            DOWNLOADING,
            self.downloading.join(key, work),
        )
        .await
    }

    async fn download_layer(
        self: Arc<Self>,
        reference: ImageReference,
        resolved: Resolved,
        credentials: Option<Credentials>,
    ) -> Outcome<Bytes> {
        let disk = |error| Arc::new(PullCause::Cache(error));
        let aborted = || Arc::new(PullCause::Aborted);
        let incoming = self
            .on_disk(Cache::incoming)
            .await
            .ok_or_else(aborted)?
            .map_err(disk)?;
        let file = incoming.reopen().map_err(disk)?;
        let mut file = tokio::fs::File::from_std(file);
        let download = self
            .registries
            .download(&reference, &resolved, credentials, &mut file);
        download.await.map_err(Arc::new)?;
        drop(file);
        let kept = self.on_disk(move |cache| {
            let bytes = Bytes::from(std::fs::read(incoming.path())?);
            if let Err(error) = cache.keep(&resolved.layer.digest, incoming) {
                tracing::warn!(%error, "cannot keep a pulled image in the cache");
            }
            Ok(bytes)
        });
        kept.await.ok_or_else(aborted)?.map_err(disk)
    }

    /// The pull secret, else the host's own credentials; an empty secret means anonymous.
    async fn credentials(
        &self,
        reference: &ImageReference,
        secret: Option<Credentials>,
    ) -> Option<Credentials> {
        match (secret, &self.docker_config) {
            (Some(secret), _) => Some(secret).filter(|secret| !secret.is_empty()),
            (None, Some(path)) => docker_config::credentials(path, reference.registry()).await,
            (None, None) => None,
        }
    }

    /// Waits for a turn at `authority`: first among the pulls from there, then among all.
    async fn turn(&self, authority: &str) -> Turn<'_> {
        let registry = {
            let mut known = self
                .by_registry
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            known.retain(|_, slots| slots.strong_count() > 0);
            let slots = known.get(authority).and_then(Weak::upgrade);
            let slots = slots.unwrap_or_else(|| Arc::new(Semaphore::new(self.slots_each)));
            known.insert(authority.to_owned(), Arc::downgrade(&slots));
            slots
        };
        // Neither semaphore is ever closed, so `ok` drops no error that could occur.
        let _registry = registry.acquire_owned().await.ok();
        Turn {
            _registry,
            _host: self.slots.acquire().await.ok(),
        }
    }

    async fn by<T>(
        &self,
        deadline: Instant,
        registry: &str,
        doing: &'static str,
        work: impl Future<Output = Outcome<T>>,
    ) -> Outcome<T> {
        timeout_at(deadline, work).await.unwrap_or_else(|_| {
            let (registry, after) = (registry.to_owned(), self.pull_timeout);
            Err(Arc::new(PullCause::Timeout {
                registry,
                after,
                doing,
            }))
        })
    }

    /// Runs `work` where it may block; `None` when the runtime is shutting down.
    async fn on_disk<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Cache) -> T + Send + 'static,
    ) -> Option<T> {
        let shared = self.clone();
        tokio::task::spawn_blocking(move || work(&shared.cache))
            .await
            .ok()
    }
}

/// The right to talk to a registry, while it is held.
struct Turn<'a> {
    _registry: Option<tokio::sync::OwnedSemaphorePermit>,
    _host: Option<SemaphorePermit<'a>>,
}
