//! The host itself: brings workloads up from their images and takes them down again.

mod refusal;
mod start;

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_sdk::host::{Description, Host, Refusal, Start};
use tokio::runtime::Handle;

use crate::breakage::Breakage;
use crate::config::Limits;
use crate::engine::Engine;
use crate::image::Store;
use crate::ingress::Ingress;
use crate::system::Sampler;
use crate::workload::{Running, Workload};

/// Runs workloads on the engine. A cheap clone.
#[derive(Clone)]
pub struct BerthHost {
    shared: Arc<Shared>,
}

struct Shared {
    parts: Parts,
    identity: Identity,
    running: Running,
    sampler: Sampler,
}

/// What a host is made of.
pub struct Parts {
    /// Compiles and runs components.
    pub engine: Engine,
    /// Pulls images.
    pub images: Store,
    /// Takes HTTP requests in; without one, workloads that serve HTTP are refused.
    pub ingress: Option<Ingress>,
    /// What workloads may use.
    pub limits: Limits,
    /// Where guests run.
    pub guests: Handle,
}

/// What a host says of itself, constant for its life (HOST-BEAT-007).
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The name or address under which peers reach the ingress.
    pub hostname: String,
    /// A DNS-1123 label, unique in the fleet.
    pub friendly_name: String,
    /// For placement.
    pub labels: BTreeMap<String, String>,
    /// The environment it serves, empty for none in particular.
    pub environment: String,
}

impl BerthHost {
    /// A host that runs nothing yet.
    pub fn new(parts: Parts, identity: Identity) -> Self {
        let (running, sampler) = (Running::default(), Sampler::start());
        Self {
            shared: Arc::new(Shared {
                parts,
                identity,
                running,
                sampler,
            }),
        }
    }
}

impl Host for BerthHost {
    type Instance = Workload;

    fn describe(&self) -> Description {
        let Shared {
            parts,
            identity,
            running,
            sampler,
        } = &*self.shared;
        let sample = sampler.latest();
        let ingress = parts.ingress.as_ref();
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
            os_kernel: crate::system::kernel(),
            system_cpu_usage: sample.cpu_usage,
            system_memory_total: sample.memory_total_bytes,
            system_memory_free: sample.memory_free_bytes,
            imports: parts.engine.offers(),
            exports: Vec::new(),
            component_count: running.components(),
        }
    }

    async fn start(&self, start: Start) -> Result<Workload, Refusal> {
        let Shared { parts, running, .. } = &*self.shared;
        start::start(parts, running, start)
            .await
            .map_err(|error| refusal::refuse(&error))
    }

    async fn stop(&self, workload: Workload) {
        workload.end().await;
    }
}
