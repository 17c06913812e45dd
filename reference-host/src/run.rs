//! Creates a host from its configuration and serves it.

use std::time::Duration;

use berth_sdk::grpc::{Channel, GrpcError, HostEndpoints, Listener};
use berth_sdk::host::{Connection, ServeError, ServeOptions, serve};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::descriptors::{self, DescriptorBudget};
use crate::engine::{Engine, EngineError};
use crate::friendly_name::friendly_name;
use crate::guest_threads::GuestThreads;
use crate::host::{BerthHost, Dependencies, Identity};
use crate::image::{self, Store, StoreError};
use crate::ingress::{Ingress, ServerError};
use crate::{owned_directory, system_info, volumes};

/// Time at the end for responses that tell clients that their workload was stopped.
const LAST_RESPONSES: Duration = Duration::from_millis(250);

/// Reason why a host cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The Wasm engine cannot be created.
    #[error("cannot start the Wasm engine")]
    Engine(#[source] EngineError),
    /// The threads for guests cannot be started.
    #[error("cannot start the threads for guests")]
    Threads(#[source] std::io::Error),
    /// The image store cannot be opened.
    #[error("cannot open the image store")]
    Images(#[source] StoreError),
    /// The ingress cannot listen on its address.
    #[error("cannot start the HTTP ingress")]
    Ingress(#[source] ServerError),
    /// The gRPC listener or the channel to a scheduler cannot be created.
    #[error("cannot set up gRPC")]
    Grpc(#[source] GrpcError),
    /// The SDK cannot serve the host.
    #[error("cannot serve the host")]
    Serve(#[source] ServeError),
    /// `BERTH_BREAKAGE` does not name a fault.
    #[cfg(feature = "fault-injection")]
    #[error("cannot inject fault")]
    Breakage(#[source] crate::fault_injection::UnknownBreakage),
}

/// Runs a host until `shutdown` is cancelled. When it returns, all guests have ended and all routes
/// and directories are removed, unless the grace period of the shutdown was too short.
///
/// Serves commands and heartbeats on the current Tokio runtime. Guests have their own threads.
/// Waits for a broker that is not reachable yet.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    #[cfg(feature = "fault-injection")]
    if let Some(breakage) =
        crate::fault_injection::Breakage::init_from_env().map_err(RunError::Breakage)?
    {
        tracing::warn!(?breakage, "injected fault is active");
    }
    for notice in &config.notices {
        tracing::warn!("{notice}");
    }
    // Outgoing HTTPS of guests needs a crypto provider. If the embedding program has installed one,
    // this call keeps it.
    let _ = rustls::crypto::ring::default_provider().install_default();

    sweep_beside_the_start();
    let budget = descriptors::claim();
    let connection = connection(&config, &budget).await.map_err(RunError::Grpc)?;
    let guests = GuestThreads::start().map_err(RunError::Threads)?;
    let guest_memory_bytes = config.limits.guest_memory_bytes();
    tracing::info!(
        guest_memory_mib = guest_memory_bytes >> 20,
        "memory of guests is limited"
    );
    let engine = Engine::new(guest_memory_bytes).map_err(RunError::Engine)?;
    let images = Store::new(config.images.clone()).map_err(RunError::Images)?;
    let (ingress, server) = match config.http_addr {
        None => (None, None),
        Some(address) => {
            let (ingress, server) =
                Ingress::listen(address, budget.ingress_connections_max, guests.handle())
                    .map_err(RunError::Ingress)?;
            tracing::info!(address = %ingress.local_address(), "HTTP ingress is listening");
            (Some(ingress), Some(server))
        }
    };
    let (limits, cache) = (config.limits.clone(), images.clone());
    let dependencies = Dependencies {
        engine,
        images,
        ingress,
        limits,
        guest_runtime: guests.handle().clone(),
    };
    let host = BerthHost::new(dependencies, identity(&config));
    let options = serve_options(&config);
    tracing::info!(host_id = options.host_id, "starting host");
    let result = serve(connection, options, host, shutdown).await;
    if let Some(server) = server {
        server.close(LAST_RESPONSES).await;
    }
    // Tasks of the runtime still hold the store, and the process does not wait for them.
    cache.close();
    result.map_err(RunError::Serve)
}

/// Removes what killed hosts have left in the directory for temporary files. Runs beside the start,
/// because a guest may have filled its volume with many files, and is not waited for.
fn sweep_beside_the_start() {
    let sweep = || {
        let parent = std::env::temp_dir();
        for prefix in [volumes::TEMPORARY_PREFIX, image::TEMPORARY_PREFIX] {
            owned_directory::sweep(&parent, prefix);
        }
    };
    let thread = std::thread::Builder::new().name("sweep".into());
    if let Err(error) = thread.spawn(sweep) {
        tracing::warn!(%error, "cannot remove the directories of killed hosts");
    }
}

/// Creates the connection to schedulers: over NATS, gRPC, or both.
async fn connection(config: &Config, budget: &DescriptorBudget) -> Result<Connection, GrpcError> {
    let settings = &config.grpc;
    let mut endpoints = HostEndpoints::default();
    if let Some(address) = settings.addr {
        let listener = Listener::bind(address, settings.tls.as_ref()).await?;
        let address = listener.local_addr();
        tracing::info!(%address, tls = settings.tls.is_some(), "gRPC is listening");
        endpoints.listener = Some(listener.with_connections_max(budget.grpc_connections_max));
    }
    for url in &config.grpc_schedulers {
        let channel = Channel::open(&settings.channel_options(url)).await?;
        endpoints.schedulers.push(channel);
    }
    Ok(if settings.no_nats {
        Connection::over_grpc(endpoints)
    } else {
        Connection::from(config.connect.clone()).with_grpc(endpoints)
    })
}

fn identity(config: &Config) -> Identity {
    let identity = &config.identity;
    Identity {
        hostname: identity
            .host_name
            .clone()
            .unwrap_or_else(system_info::hostname),
        friendly_name: friendly_name(identity.host_name.as_deref()),
        labels: identity.labels.clone(),
        environment: identity.environment.clone().unwrap_or_default(),
    }
}

fn serve_options(config: &Config) -> ServeOptions {
    let mut options = ServeOptions::default();
    if let Some(host_id) = &config.identity.host_id {
        options.host_id = host_id.clone();
    }
    options.heartbeat_interval = config.heartbeat_interval;
    options.shutdown_grace = config.shutdown_grace;
    options
}
