//! The host: starts workloads from their images and stops them.

mod plan;
mod prepared;
mod route;
mod start;
mod start_failure;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use berth_sdk::host::{Description, Host, StartError, StartRequest};
use tokio::runtime::Handle;

use crate::config::Limits;
use crate::engine::Engine;
use crate::fault_injection::Breakage;
use crate::http_endpoint::DRAIN_TIME;
use crate::image::Store;
use crate::ingress::Ingress;
use crate::system_info::Sampler;
use crate::workload::{Workload, WorkloadSlots};

/// Runs workloads on the engine. Clones are cheap.
#[derive(Clone)]
pub struct BerthHost {
    shared: Arc<Shared>,
}

struct Shared {
    dependencies: Dependencies,
    identity: Identity,
    /// Limits the number of workloads, and counts the components that run.
    slots: WorkloadSlots,
    sampler: Sampler,
    /// Set at shutdown, when the requests in flight have had their time.
    shutting_down: AtomicBool,
}

/// Dependencies of a host.
pub struct Dependencies {
    /// Compiles and runs components.
    pub engine: Engine,
    /// Pulls images.
    pub images: Store,
    /// Accepts HTTP requests. Without an ingress, workloads that serve HTTP are refused.
    pub ingress: Option<Ingress>,
    /// Limits of workloads.
    pub limits: Limits,
    /// Tokio runtime on which guests and the ingress run.
    pub guest_runtime: Handle,
}

/// The identity of a host in its heartbeats, constant while the process runs (HOST-BEAT-007).
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Name or address under which HTTP clients reach the ingress.
    pub hostname: String,
    /// DNS-1123 label, unique in the fleet.
    pub friendly_name: String,
    /// Labels for placement.
    pub labels: BTreeMap<String, String>,
    /// Environment of the host, or empty.
    pub environment: String,
}

impl BerthHost {
    /// Creates a host without workloads.
    pub fn new(dependencies: Dependencies, identity: Identity) -> Self {
        let (slots, sampler) = (WorkloadSlots::default(), Sampler::start());
        Self {
            shared: Arc::new(Shared {
                dependencies,
                identity,
                slots,
                sampler,
                shutting_down: AtomicBool::new(false),
            }),
        }
    }
}

impl Host for BerthHost {
    type Instance = Workload;

    fn describe(&self) -> Description {
        let Shared {
            dependencies,
            identity,
            slots,
            sampler,
            ..
        } = &*self.shared;
        let sample = sampler.latest();
        let ingress = dependencies.ingress.as_ref();
        let mut http_port = ingress.map_or(0, |ingress| u32::from(ingress.local_address().port()));
        if Breakage::WrongHttpPort.is_on() {
            http_port ^= 1;
        }
        Description {
            hostname: identity.hostname.clone(),
            friendly_name: identity.friendly_name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            labels: identity.labels.clone(),
            environment: identity.environment.clone(),
            http_port,
            os_arch: std::env::consts::ARCH.into(),
            os_name: std::env::consts::OS.into(),
            os_kernel: crate::system_info::kernel(),
            system_cpu_usage: sample.cpu_usage,
            system_memory_total: sample.memory_total_bytes,
            system_memory_free: sample.memory_free_bytes,
            imports: dependencies.engine.offered_interfaces(),
            exports: Vec::new(),
            component_count: slots.component_count(),
        }
    }

    async fn start(&self, request: StartRequest) -> Result<Workload, StartError> {
        let Shared {
            dependencies,
            slots,
            ..
        } = &*self.shared;
        start::start(dependencies, slots, request)
            .await
            .map_err(|failure| failure.to_start_error())
    }

    async fn stop(&self, workload: Workload) {
        let drain = if self.shared.shutting_down.load(Ordering::Relaxed) {
            Duration::ZERO
        } else {
            DRAIN_TIME
        };
        workload.stop(drain).await;
    }

    async fn drain(&self) {
        self.shared.shutting_down.store(true, Ordering::Relaxed);
        if let Some(ingress) = &self.shared.dependencies.ingress {
            ingress.drain().await;
        }
    }
}
