//! Builds a scheduler from its configuration and runs it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config::{Config, StoreConfig};
use crate::health::{Endpoints, HealthProbe, Serves};
use crate::metrics::Metrics;
use crate::runtime::{self, Dependencies, RuntimeError};
use crate::store::Store;
use crate::store::dir::{DirError, DirStore};
use crate::store::kube::{KubeError, KubeStore};
use crate::transport::{HostTransport, TransportError};

/// Error of [`run`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The transport to the hosts cannot be set up.
    #[error("cannot set up the host transport")]
    Transport(#[source] TransportError),
    /// The directory store cannot be opened.
    #[error("cannot open directory store")]
    Dir(#[source] DirError),
    /// No valid configuration of a Kubernetes cluster was found.
    #[error("cannot connect to Kubernetes")]
    Kube(#[source] KubeError),
    /// An HTTP endpoint cannot listen.
    #[error("cannot listen on {address}")]
    Listen {
        /// Address of the endpoint.
        address: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The scheduler stopped before `shutdown` was cancelled.
    #[error("the scheduler stopped")]
    Runtime(#[source] RuntimeError),
    /// `BERTH_BREAKAGE` is not the name of a fault.
    #[cfg(feature = "fault-injection")]
    #[error("cannot inject fault")]
    Breakage(#[source] crate::fault_injection::UnknownBreakage),
}

/// Runs a scheduler until `shutdown` is cancelled. Workloads keep running after it returns.
///
/// If NATS is not reachable yet, the scheduler keeps trying to connect.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    #[cfg(feature = "fault-injection")]
    if let Some(breakage) =
        crate::fault_injection::Breakage::init_from_env().map_err(RunError::Breakage)?
    {
        tracing::warn!(?breakage, "injecting a fault");
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    if let (true, StoreConfig::Kube(kube)) = (config.release_pods, &config.store) {
        let released = KubeStore::release_pods(kube)
            .await
            .map_err(RunError::Kube)?;
        tracing::info!(released, "released the Pods of hosts");
        return Ok(());
    }
    let health = Arc::new(HealthProbe::default());
    let metrics = Arc::new(Metrics::default());
    let endpoints = Endpoints {
        health: health.clone(),
        metrics: metrics.clone(),
    };
    listen(&config, &endpoints).await?;
    let transport = HostTransport::open(&config)
        .await
        .map_err(RunError::Transport)?;
    match &config.store {
        StoreConfig::Dir(path) => {
            tracing::info!(path = %path.display(), "using the directory store");
            let store = DirStore::open(path).map_err(RunError::Dir)?;
            run_with(store, transport, config, health, metrics, shutdown).await
        }
        StoreConfig::Kube(kube) => {
            tracing::info!(namespace = kube.namespace, "using the Kubernetes store");
            let store = KubeStore::open(kube.clone()).await;
            let store = store.map_err(RunError::Kube)?;
            run_with(store, transport, config, health, metrics, shutdown).await
        }
    }
}

async fn run_with<S: Store>(
    store: S,
    transport: HostTransport,
    config: Config,
    health: Arc<HealthProbe>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let dependencies = Dependencies {
        store: Arc::new(store),
        transport,
        options: config.options,
        metrics,
        health,
    };
    runtime::run(dependencies, shutdown)
        .await
        .map_err(RunError::Runtime)
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
        let address = local.map_err(|source| RunError::Listen { address, source })?;
        tracing::info!(%address, ?serves, "listening");
    }
    Ok(())
}
