//! The image store: returns images from the cache or pulls them from their registry.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::cache::{Cache, CachedImage};
use super::credentials::Credentials;
use super::deadline::Deadline;
use super::digest::Digest;
use super::docker_config::DockerConfig;
use super::error::{PullCause, PullError};
use super::options::StoreOptions;
use super::reference::{ImageReference, canonical_registry};
use super::registry::{ClientError, Insecure, Registries, Resolved};
use super::single_flight::{SharedResult, SingleFlight};
use crate::owned_directory::OwnedDirectory;

/// Limit of pulls in progress or queued. Each of them ends after the pull timeout, so the limit is
/// reached only if more than 1024 images are requested within that time.
const PULLS_MAX: usize = 1024;

/// Prefix of the names of temporary caches, in the directory for temporary files.
pub const TEMPORARY_PREFIX: &str = "berth-host-images-";

/// Operations for timeout messages. A pull performs them, or waits for another pull that does.
const RESOLVING: &str = "resolving the reference";
const DOWNLOADING: &str = "downloading the layer";

/// Reason why a [`Store`] cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The cache directory is not usable.
    #[error("cannot use {} as the image cache; check --oci-cache-dir", path.display())]
    Cache {
        /// Path of the directory.
        path: PathBuf,
        /// I/O error.
        #[source]
        source: io::Error,
    },
    /// The HTTP clients cannot be created, for instance because of an invalid CA file.
    #[error("cannot create the HTTP clients for registries")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// When a pull contacts the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// At every pull (HOST-IMG-011). Cached layers are not downloaded again.
    Always,
    /// Only if the image is not in the cache (HOST-IMG-012).
    IfNotPresent,
    /// Never (HOST-IMG-013).
    Never,
    /// The default of Kubernetes: [`Always`](Self::Always) for the tag `latest`, which is meant to
    /// move, else [`IfNotPresent`](Self::IfNotPresent).
    #[default]
    Unset,
}

impl PullPolicy {
    fn for_reference(self, reference: &ImageReference) -> Self {
        match self {
            Self::Unset if reference.version() == LATEST => Self::Always,
            Self::Unset => Self::IfNotPresent,
            policy => policy,
        }
    }
}

/// The tag of a reference without tag and digest.
const LATEST: &str = "latest";

/// A request to pull an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    /// The reference as written in the workload.
    pub reference: String,
    /// When to contact the registry.
    pub policy: PullPolicy,
    /// The workload's pull secret. `None` means the host's own credentials for the registry, else
    /// an anonymous pull.
    pub credentials: Option<Credentials>,
}

/// An image that was pulled and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Digest of `bytes`. This host computed it, so it is a safe key for a compilation cache.
    pub digest: Digest,
    /// Digest of the manifest, as used in references by digest.
    pub manifest_digest: Digest,
    /// Content of the Wasm layer.
    pub bytes: Bytes,
}

/// The images of a host. Clones are cheap and share the cache and the clients.
///
/// # Guarantees
///
/// - Concurrent pulls of one image with the same credentials share their requests (HOST-IMG-010).
/// - Each pull has one deadline. Requests that pulls share run in their own task, until the latest
///   of these deadlines. They continue when their callers go away, so the next pull finds the
///   image in the cache.
/// - Content is verified against its digest when it arrives and each time it is read from the
///   cache.
///
/// # Access to cached images
///
/// With [`PullPolicy::IfNotPresent`] and [`PullPolicy::Never`] the cache serves every workload of
/// the host, even images that were pulled with another workload's secret. The default of a
/// Kubernetes node is the same. To isolate tenants, use [`PullPolicy::Always`], which makes the
/// registry decide at each start, or run separate hosts for each tenant.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

/// Key of a resolution: pulls with equal keys may share their requests.
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
    docker_config: Option<Arc<DockerConfig>>,
    permits: Semaphore,
    permits_per_registry: usize,
    registry_permits: Mutex<HashMap<String, Weak<Semaphore>>>,
    /// Separate from `downloads`, so that a pull that begins during the download of an older one
    /// still resolves the reference, and yet shares the download.
    resolutions: SingleFlight<ResolveKey, Resolved>,
    downloads: SingleFlight<LayerKey, Bytes>,
    /// Removes the cache with the store if the cache is temporary.
    temporary: Mutex<Option<OwnedDirectory>>,
}

impl Store {
    /// Opens the cache and creates the HTTP clients. Does blocking I/O, but no network I/O.
    pub fn new(options: StoreOptions) -> Result<Self, StoreError> {
        let cache_error = |path: PathBuf| |source| StoreError::Cache { path, source };
        let (directory, temporary) = match options.cache_dir {
            Some(directory) => (directory, None),
            None => {
                let parent = std::env::temp_dir();
                let temporary = OwnedDirectory::create(&parent, TEMPORARY_PREFIX)
                    .map_err(cache_error(parent))?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let cache = Cache::open(&directory, options.cache_bytes_max)
            .map_err(cache_error(directory.clone()))?;
        let insecure = if options.allow_all_insecure {
            Insecure::All
        } else {
            let names = options.insecure_registries.iter();
            Insecure::Only(names.map(|name| canonical_registry(name)).collect())
        };
        let registries = Registries::new(
            insecure,
            &options.registry_ca_paths,
            options.image_bytes_max,
        )
        .map_err(|error: ClientError| StoreError::Client(Box::new(error)))?;
        let docker_config = options.docker_config.map(DockerConfig::new).map(Arc::new);
        if let Some(docker_config) = &docker_config {
            docker_config.log_helpers();
        }
        let permits = options
            .concurrent_pulls_max
            .clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self {
            shared: Arc::new(Shared {
                cache,
                cache_dir: directory,
                registries,
                pull_timeout: options.pull_timeout,
                docker_config,
                permits: Semaphore::new(permits),
                permits_per_registry: permits.div_ceil(2),
                registry_permits: Mutex::default(),
                resolutions: SingleFlight::new(PULLS_MAX),
                downloads: SingleFlight::new(PULLS_MAX),
                temporary: Mutex::new(temporary),
            }),
        })
    }

    /// Removes the cache if it is temporary, even while clones of the store exist. Later pulls
    /// fail. For use at the end of the process.
    pub fn close(&self) {
        let mut temporary = self
            .shared
            .temporary
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        drop(temporary.take());
    }

    /// Returns the cache directory.
    pub fn cache_dir(&self) -> &Path {
        &self.shared.cache_dir
    }

    /// Returns the image that `request` names, within the pull timeout.
    ///
    /// # Errors
    ///
    /// [`PullCause`] lists the possible failures.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the pull continues and the next one finds the image in the cache.
    pub async fn pull(&self, request: PullRequest) -> Result<Arc<Artifact>, PullError> {
        let pull_error = |cause| PullError::new(&request.reference, cause);
        let reference: ImageReference = request
            .reference
            .parse()
            .map_err(|error| pull_error(Arc::new(PullCause::Reference(error))))?;
        let policy = request.policy.for_reference(&reference);
        if policy != PullPolicy::Always
            && let Some(artifact) = self.shared.clone().cached(reference.clone()).await
        {
            return Ok(artifact);
        }
        if policy == PullPolicy::Never {
            return Err(pull_error(Arc::new(PullCause::NotCached)));
        }
        let shared = self.shared.clone();
        let pull = tokio::spawn(shared.fetch(reference, request.credentials));
        let aborted = |_| Err(Arc::new(PullCause::Aborted));
        pull.await.unwrap_or_else(aborted).map_err(pull_error)
    }
}

impl Shared {
    async fn cached(self: Arc<Self>, reference: ImageReference) -> Option<Arc<Artifact>> {
        let image = self.on_disk(move |cache| cache.get(&reference)).await??;
        let CachedImage {
            manifest,
            layer,
            bytes,
        } = image;
        Some(Arc::new(Artifact {
            digest: layer,
            manifest_digest: manifest,
            bytes,
        }))
    }

    /// Pulls an image: resolves the reference, downloads the layer, and records both in the cache.
    async fn fetch(
        self: Arc<Self>,
        reference: ImageReference,
        secret: Option<Credentials>,
    ) -> SharedResult<Arc<Artifact>> {
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
        let recorded = self.on_disk(move |cache| {
            cache.insert_reference(&reference, &manifest, &layer)?;
            cache.insert_reference(&reference.with_digest(&manifest), &manifest, &layer)
        });
        // Not an error: the image is complete, and the next start only has to pull it again.
        if let Some(Err(error)) = recorded.await {
            tracing::warn!(%error, "cannot record pulled image in the cache");
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
    ) -> SharedResult<Resolved> {
        let key = ResolveKey {
            reference: reference.clone(),
            credentials: credentials.clone(),
        };
        let registry = reference.registry().to_owned();
        let join = || {
            let (shared, reference, credentials) =
                (self.clone(), reference.clone(), credentials.clone());
            self.resolutions
                .join(key.clone(), deadline, async move |deadline: Deadline| {
                    let resolve = async {
                        let _permit = shared.acquire_permit(reference.authority()).await;
                        let resolved =
                            shared
                                .registries
                                .resolve(&reference, credentials, &deadline);
                        resolved.await.map_err(Arc::new)
                    };
                    let done = deadline.bound(resolve).await;
                    done.unwrap_or_else(|| Err(shared.timeout(reference.registry(), RESOLVING)))
                })
        };
        self.within(deadline, &registry, RESOLVING, join).await
    }

    async fn download(
        self: Arc<Self>,
        reference: &ImageReference,
        resolved: Resolved,
        credentials: Option<Credentials>,
        deadline: Instant,
    ) -> SharedResult<Bytes> {
        let key = LayerKey {
            authority: reference.authority().to_owned(),
            repository: reference.repository().to_owned(),
            digest: resolved.layer.digest.clone(),
            credentials: credentials.clone(),
        };
        let join = || {
            let (shared, reference) = (self.clone(), reference.clone());
            let (resolved, credentials) = (resolved.clone(), credentials.clone());
            self.downloads
                .join(key.clone(), deadline, async move |deadline: Deadline| {
                    let download = shared.clone().cached_or_downloaded(
                        &reference,
                        resolved,
                        credentials,
                        &deadline,
                    );
                    let done = deadline.bound(download).await;
                    done.unwrap_or_else(|| Err(shared.timeout(reference.registry(), DOWNLOADING)))
                })
        };
        self.within(deadline, reference.registry(), DOWNLOADING, join)
            .await
    }

    async fn cached_or_downloaded(
        self: Arc<Self>,
        reference: &ImageReference,
        resolved: Resolved,
        credentials: Option<Credentials>,
        deadline: &Deadline,
    ) -> SharedResult<Bytes> {
        // Checked inside the shared call, because an earlier call may have cached the layer after
        // the reference was resolved.
        let digest = resolved.layer.digest.clone();
        let cached = self.on_disk(move |cache| cache.get_layer(&digest)).await;
        if let Some(bytes) = cached.flatten() {
            return Ok(bytes);
        }
        let _permit = self.acquire_permit(reference.authority()).await;
        self.clone()
            .download_layer(reference, resolved, credentials, deadline)
            .await
    }

    async fn download_layer(
        self: Arc<Self>,
        reference: &ImageReference,
        resolved: Resolved,
        credentials: Option<Credentials>,
        deadline: &Deadline,
    ) -> SharedResult<Bytes> {
        let disk_error = |error| Arc::new(PullCause::Cache(error));
        let aborted = || Arc::new(PullCause::Aborted);
        let incoming = self
            .on_disk(Cache::create_incoming)
            .await
            .ok_or_else(aborted)?
            .map_err(disk_error)?;
        let file = incoming.reopen().map_err(disk_error)?;
        let mut file = tokio::fs::File::from_std(file);
        let download =
            self.registries
                .download(reference, &resolved, credentials, deadline, &mut file);
        download.await.map_err(Arc::new)?;
        drop(file);
        let cached = self.on_disk(move |cache| {
            let bytes = Bytes::from(std::fs::read(incoming.path())?);
            if let Err(error) = cache.insert_layer(&resolved.layer.digest, incoming) {
                tracing::warn!(%error, "cannot store pulled image in the cache");
            }
            Ok(bytes)
        });
        cached.await.ok_or_else(aborted)?.map_err(disk_error)
    }

    /// Returns the pull secret, else the host's own credentials. An empty secret means anonymous.
    async fn credentials(
        &self,
        reference: &ImageReference,
        secret: Option<Credentials>,
    ) -> Option<Credentials> {
        match (secret, &self.docker_config) {
            (Some(secret), _) => Some(secret).filter(|secret| !secret.is_empty()),
            (None, Some(config)) => {
                let (config, image) = (config.clone(), reference.to_string().parse().ok()?);
                let found = tokio::task::spawn_blocking(move || config.credentials(&image));
                found.await.ok().flatten()
            }
            (None, None) => None,
        }
    }

    /// Waits for permission to send requests to the registry at `authority`: first for one of the
    /// registry's own permits, then for one of all registries.
    async fn acquire_permit(&self, authority: &str) -> RequestPermit<'_> {
        let registry = {
            let mut by_registry = self
                .registry_permits
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            by_registry.retain(|_, permits| permits.strong_count() > 0);
            let permits = by_registry.get(authority).and_then(Weak::upgrade);
            let permits =
                permits.unwrap_or_else(|| Arc::new(Semaphore::new(self.permits_per_registry)));
            by_registry.insert(authority.to_owned(), Arc::downgrade(&permits));
            permits
        };
        // Neither semaphore is ever closed, so `ok` discards no error that could occur.
        let _registry = registry.acquire_owned().await.ok();
        RequestPermit {
            _registry,
            _global: self.permits.acquire().await.ok(),
        }
    }

    /// Awaits the shared call that `join` joins or starts, at most until `deadline`. If the call
    /// ends at the earlier deadline of another caller just before it is extended, joins again.
    async fn within<T>(
        &self,
        deadline: Instant,
        registry: &str,
        operation: &'static str,
        join: impl Fn() -> BoxFuture<'static, SharedResult<T>>,
    ) -> SharedResult<T> {
        let joined = async {
            loop {
                match join().await {
                    Err(cause)
                        if matches!(*cause, PullCause::Timeout { .. })
                            && Instant::now() < deadline => {}
                    result => return result,
                }
            }
        };
        let result = timeout_at(deadline, joined).await;
        result.unwrap_or_else(|_| Err(self.timeout(registry, operation)))
    }

    /// Returns a timeout that names the registry and the operation.
    fn timeout(&self, registry: &str, operation: &'static str) -> Arc<PullCause> {
        Arc::new(PullCause::Timeout {
            registry: registry.to_owned(),
            after: self.pull_timeout,
            operation,
        })
    }

    /// Runs `work` on a blocking thread. Returns `None` if the runtime is shutting down.
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

/// Permission for requests to one registry, until it is dropped.
struct RequestPermit<'a> {
    _registry: Option<tokio::sync::OwnedSemaphorePermit>,
    _global: Option<SemaphorePermit<'a>>,
}
