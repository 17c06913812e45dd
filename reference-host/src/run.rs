//! Puts a host together from its configuration and serves it.

use berth_sdk::grpc::{Channel, GrpcError, HostSide, Listener};
use berth_sdk::host::{Connection, ServeError, ServeOptions, serve};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::engine::{Engine, EngineError};
use crate::friendly_name::friendly_name;
use crate::guest_runtime::GuestRuntime;
use crate::host::{BerthHost, Identity, Parts};
use crate::image::{Store, StoreError};
use crate::ingress::{Ingress, ServerError};
use crate::system;

/// Why a host cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The engine cannot be had.
    #[error("the Wasm engine does not start")]
    Engine(#[source] EngineError),
    /// The threads for guests cannot be had.
    #[error("there are no threads for guests")]
    Threads(#[source] std::io::Error),
    /// The image store cannot be opened.
    #[error("the image store does not open")]
    Images(#[source] StoreError),
    /// The ingress cannot listen.
    #[error("the HTTP ingress does not start")]
    Ingress(#[source] ServerError),
    /// gRPC cannot be served, or a scheduler not be reached over it.
    #[error("gRPC cannot be used")]
    Grpc(#[source] GrpcError),
    /// The SDK refuses to serve it.
    #[error("the host cannot be served")]
    Serve(#[source] ServeError),
    /// `BERTH_BREAKAGE` names no fault.
    #[cfg(feature = "breakage")]
    #[error("the fault that was asked for cannot be made")]
    Breakage(#[source] crate::breakage::UnknownBreakage),
}

/// Runs a host until `shutdown` is cancelled. Guests, routes and directories are gone when it
/// returns, except for what the shutdown's grace period did not suffice for.
///
/// Commands and heartbeats are served on the current Tokio runtime; guests get threads of their own.
/// A broker that is not there yet is waited for.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    #[cfg(feature = "breakage")]
    if let Some(breakage) = crate::breakage::Breakage::choose().map_err(RunError::Breakage)? {
        tracing::warn!(?breakage, "this host is broken on purpose");
    }
    for notice in &config.notices {
        tracing::warn!("{notice}");
    }
    // Guests' own HTTPS needs a provider of cryptography; one that an embedder installed stays.
    let _ = rustls::crypto::ring::default_provider().install_default();

    let connection = connection(&config).await.map_err(RunError::Grpc)?;
    let guests = GuestRuntime::start().map_err(RunError::Threads)?;
    let engine = Engine::new().map_err(RunError::Engine)?;
    let images = Store::new(config.images.clone()).map_err(RunError::Images)?;
    let (ingress, _server) = match config.http_addr {
        None => (None, None),
        Some(address) => {
            let (ingress, server) =
                Ingress::listen(address, guests.handle()).map_err(RunError::Ingress)?;
            tracing::info!(address = %ingress.local_address(), "HTTP ingress");
            (Some(ingress), Some(server))
        }
    };
    let (limits, cache) = (config.limits.clone(), images.clone());
    let parts = Parts {
        engine,
        images,
        ingress,
        limits,
        guests: guests.handle().clone(),
    };
    let host = BerthHost::new(parts, identity(&config));
    let options = serve_options(&config);
    tracing::info!(host_id = options.host_id, "host");
    let served = serve(connection, options, host, shutdown).await;
    // Tasks of the runtime still hold the store, and the process does not wait for them.
    cache.close();
    served.map_err(RunError::Serve)
}

/// The ways in: the bus, gRPC, or both.
async fn connection(config: &Config) -> Result<Connection, GrpcError> {
    let settings = &config.grpc;
    let mut side = HostSide::default();
    if let Some(address) = settings.addr {
        let listener = Listener::bind(address, settings.tls.as_ref()).await?;
        tracing::info!(address = %listener.local_addr(), tls = settings.tls.is_some(), "gRPC");
        side.listener = Some(listener);
    }
    for url in &config.grpc_schedulers {
        let channel = Channel::open(&settings.channel(url)).await?;
        side.schedulers.push(channel);
    }
    Ok(if settings.no_nats {
        Connection::over_grpc(side)
    } else {
        Connection::from(config.connect.clone()).and_grpc(side)
    })
}

fn identity(config: &Config) -> Identity {
    let identity = &config.identity;
    Identity {
        hostname: identity.host_name.clone().unwrap_or_else(system::hostname),
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
