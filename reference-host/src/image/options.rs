//! How the image store works: where it keeps what, and what it accepts.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use super::docker_config;
use crate::config::{CONCURRENT_PULLS_MAX, IMAGE_BYTES_MAX, IMAGE_CACHE_BYTES_MAX, PULL_TIMEOUT};

/// How a [`Store`](super::Store) works. [`Default`] holds the documented defaults of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Where images are kept over restarts; `None`: in a temporary folder that goes with the store.
    pub cache_dir: Option<PathBuf>,
    /// How many bytes of layers are kept; those used longest ago go first.
    pub cache_bytes_max: u64,
    /// The deadline over everything that one pull does, waiting for its turn included (HOST-IMG-007).
    pub pull_timeout: Duration,
    /// The largest layer that is accepted (HOST-IMG-008).
    pub image_bytes_max: u64,
    /// How many requests to registries run at once. One registry gets at most half of them, so that one that
    /// hangs does not hold up the others.
    pub concurrent_pulls_max: usize,
    /// The registries (`HOST` or `HOST:PORT`) that are reached over plain HTTP.
    pub insecure_registries: HashSet<String>,
    /// Reach every registry over plain HTTP.
    pub allow_all_insecure: bool,
    /// PEM files of CA certificates to trust besides the system's.
    pub registry_ca_paths: Vec<PathBuf>,
    /// The Docker config file with the host's own credentials.
    pub docker_config: Option<PathBuf>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            cache_dir: None,
            cache_bytes_max: IMAGE_CACHE_BYTES_MAX,
            pull_timeout: PULL_TIMEOUT,
            image_bytes_max: IMAGE_BYTES_MAX,
            concurrent_pulls_max: CONCURRENT_PULLS_MAX,
            insecure_registries: HashSet::new(),
            allow_all_insecure: false,
            registry_ca_paths: Vec::new(),
            docker_config: None,
        }
    }
}

impl StoreOptions {
    /// Where this process's own Docker config file is: `$DOCKER_CONFIG/config.json`, else
    /// `~/.docker/config.json`.
    pub fn docker_config_of_environment() -> Option<PathBuf> {
        let variable = |name| {
            std::env::var_os(name)
                .filter(|it| !it.is_empty())
                .map(PathBuf::from)
        };
        docker_config::path(variable("DOCKER_CONFIG"), variable("HOME"))
    }
}
