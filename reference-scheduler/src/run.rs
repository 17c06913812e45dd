//! Puts a scheduler together from its configuration and runs it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config::{Config, StoreChoice};
use crate::health::{Endpoints, Pulse, Serves};
use crate::metrics::Metrics;
use crate::shell::{self, Parts, ShellError};
use crate::store::Store;
use crate::store::dir::{DirError, DirStore};
use crate::store::kube::{KubeError, KubeStore};
use crate::ways::{Ways, WaysError};

/// Why a scheduler cannot be run, or ended by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The ways to the hosts cannot be had.
    #[error("hosts cannot be reached")]
    Ways(#[source] WaysError),
    /// The directory cannot be used.
    #[error("there is no store")]
    Dir(#[source] DirError),
    /// Kubernetes cannot be used.
    #[error("there is no store")]
    Kube(#[source] KubeError),
    /// An endpoint cannot listen.
    #[error("cannot listen at {address}")]
    Endpoint {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The loop ended by itself.
    #[error("the scheduler ended")]
    Shell(#[source] ShellError),
    /// `BERTH_BREAKAGE` names no fault.
    #[cfg(feature = "breakage")]
    #[error("the fault that was asked for cannot be made")]
    Breakage(#[source] crate::breakage::UnknownBreakage),
}

/// Runs a scheduler until `shutdown` is cancelled. Workloads go on running when it ends.
///
/// A broker that is not there yet is waited for.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    #[cfg(feature = "breakage")]
    if let Some(breakage) = crate::breakage::Breakage::choose().map_err(RunError::Breakage)? {
        tracing::warn!(?breakage, "this scheduler is broken on purpose");
    }
    for notice in &config.notices {
        tracing::warn!("{notice}");
    }
    let pulse = Arc::new(Pulse::default());
    let metrics = Arc::new(Metrics::default());
    let endpoints = Endpoints {
        pulse: pulse.clone(),
        metrics: metrics.clone(),
    };
    listen(&config, &endpoints).await?;
    let ways = Ways::open(&config).await.map_err(RunError::Ways)?;
    match &config.store {
        StoreChoice::Dir(path) => {
            tracing::info!(path = %path.display(), "a directory of manifests is the store");
            let store = DirStore::open(path).map_err(RunError::Dir)?;
            schedule(store, ways, config, pulse, metrics, shutdown).await
        }
        StoreChoice::Kube(choice) => {
            tracing::info!(namespace = choice.namespace, "Kubernetes is the store");
            let store = KubeStore::open(choice.clone()).await;
            let store = store.map_err(RunError::Kube)?;
            schedule(store, ways, config, pulse, metrics, shutdown).await
        }
    }
}

async fn schedule<S: Store>(
    store: S,
    ways: Ways,
    config: Config,
    pulse: Arc<Pulse>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let parts = Parts {
        store: Arc::new(store),
        ways,
        options: config.options,
        metrics,
        pulse,
    };
    shell::run(parts, shutdown).await.map_err(RunError::Shell)
}

async fn listen(config: &Config, endpoints: &Endpoints) -> Result<(), RunError> {
    let wanted = match (config.metrics_addr, config.health_addr) {
        (Some(metrics), Some(health)) if metrics == health => vec![(metrics, Serves::Both)],
        (metrics, health) => {
            let metrics = metrics.map(|address| (address, Serves::Metrics));
            let health = health.map(|address| (address, Serves::Probes));
            metrics.into_iter().chain(health).collect()
        }
    };
    for (address, serves) in wanted {
        let local = endpoints.clone().listen(address, serves).await;
        let address = local.map_err(|source| RunError::Endpoint { address, source })?;
        tracing::info!(%address, ?serves, "endpoint");
    }
    Ok(())
}
