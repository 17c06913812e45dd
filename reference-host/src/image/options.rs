//! Options of the image store: cache location, limits, and access to registries.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use super::docker_config;

/// Default deadline of a pull, the same as in `wash host`.
pub const DEFAULT_PULL_TIMEOUT: Duration = Duration::from_secs(30);
/// Upper limit of the pull timeout. One hour is enough even for the slowest link.
pub const PULL_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// Longest pull timeout with which a start from a registry that hangs still fails within the 60 s
/// of HOST-IMG-007.
pub const PULL_TIMEOUT_CONFORMANT_MAX: Duration = Duration::from_secs(55);
/// Default size limit of an image. Components that embed a language runtime are about 30 MB,
/// roughly a tenth of this limit.
pub const DEFAULT_IMAGE_BYTES_MAX: u64 = 256 * MIB;
/// Default size of the image cache: room for about a hundred components, and less than the size of
/// most disks.
pub const DEFAULT_IMAGE_CACHE_BYTES_MAX: u64 = 2048 * MIB;
/// Default limit of concurrent pulls in the whole host: more downloads do not make one network link
/// faster.
pub const DEFAULT_CONCURRENT_PULLS_MAX: usize = 16;

const MIB: u64 = 1 << 20;

/// Options of a [`Store`](super::Store). [`Default`] returns the documented defaults of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Cache directory, kept across restarts; `None` means a temporary directory, removed with the
    /// store.
    pub cache_dir: Option<PathBuf>,
    /// Size limit of the cached layers; the least recently used are evicted first.
    pub cache_bytes_max: u64,
    /// Deadline for a whole pull, time in the queue included (HOST-IMG-007).
    pub pull_timeout: Duration,
    /// Size limit of a layer (HOST-IMG-008).
    pub image_bytes_max: u64,
    /// Limit of concurrent pulls in the whole host; further ones wait. One registry gets at most
    /// half of them, so that a registry that hangs does not block the others.
    pub concurrent_pulls_max: usize,
    /// Registries (`HOST` or `HOST:PORT`) that are reached over plain HTTP.
    pub insecure_registries: HashSet<String>,
    /// Whether every registry is reached over plain HTTP.
    pub allow_all_insecure: bool,
    /// PEM files of CA certificates to trust in addition to the system's.
    pub registry_ca_paths: Vec<PathBuf>,
    /// Docker config file with the host's own credentials.
    pub docker_config: Option<PathBuf>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            cache_dir: None,
            cache_bytes_max: DEFAULT_IMAGE_CACHE_BYTES_MAX,
            pull_timeout: DEFAULT_PULL_TIMEOUT,
            image_bytes_max: DEFAULT_IMAGE_BYTES_MAX,
            concurrent_pulls_max: DEFAULT_CONCURRENT_PULLS_MAX,
            insecure_registries: HashSet::new(),
            allow_all_insecure: false,
            registry_ca_paths: Vec::new(),
            docker_config: None,
        }
    }
}

impl StoreOptions {
    /// Returns the path of this process's Docker config file: `$DOCKER_CONFIG/config.json`, else
    /// `~/.docker/config.json`.
    pub fn docker_config_from_env() -> Option<PathBuf> {
        let variable = |name| {
            std::env::var_os(name)
                .filter(|it| !it.is_empty())
                .map(PathBuf::from)
        };
        docker_config::path(variable("DOCKER_CONFIG"), variable("HOME"))
    }
}
