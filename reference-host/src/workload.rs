//! A started workload: its HTTP endpoint, its service, and its directories.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fault_injection::Breakage;
use crate::http_endpoint::HttpEndpoint;
use crate::service::Service;
use crate::volumes::Volumes;

/// A started workload. Dropping it stops it too, without waiting until everything has ended.
pub struct Workload {
    endpoint: Arc<HttpEndpoint>,
    service: Option<AbortOnDrop>,
    stopping: CancellationToken,
    volumes: Volumes,
    _slot: Slot,
}

/// The workload slots of a host, and the number of components that run. Clones are cheap and share
/// the counts.
#[derive(Clone, Debug, Default)]
pub struct WorkloadSlots(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    workloads: AtomicUsize,
    components: AtomicU64,
}

/// The slot of one workload, held from the beginning of its start.
pub struct Slot {
    counts: Arc<Counts>,
    components: u64,
}

struct AbortOnDrop(JoinHandle<()>);

impl Workload {
    /// Opens the endpoint and starts the service.
    pub fn start(
        endpoint: Arc<HttpEndpoint>,
        service: Option<Service>,
        volumes: Volumes,
        slot: Slot,
        guest_runtime: &Handle,
    ) -> Self {
        open(&endpoint);
        let stopping = service
            .as_ref()
            .map_or_else(CancellationToken::new, |service| service.stopping.clone());
        let service = service.map(|service| AbortOnDrop(guest_runtime.spawn(service.run())));
        Self {
            endpoint,
            service,
            stopping,
            volumes,
            _slot: slot,
        }
    }

    /// Refuses further requests and gives those in flight the time `drain`, then ends all guests,
    /// then removes the route and the directories. The service runs until the requests are done,
    /// because they may need it.
    pub async fn stop(self, drain: Duration) {
        let Self {
            endpoint,
            service,
            stopping,
            volumes,
            _slot,
        } = self;
        stopping.cancel();
        if Breakage::RoutesOutliveStop.is_on() {
            endpoint.leak();
        }
        endpoint.suspend(drain).await;
        if let Some(mut service) = service.filter(|_| !Breakage::NoEpochInterruption.is_on()) {
            service.0.abort();
            // The result is ignored: the service was cancelled, or it ended by itself just before.
            let _ = (&mut service.0).await;
        }
        endpoint.close(Duration::ZERO).await;
        // Removing directories may block. A failure needs no handling.
        let _ = tokio::task::spawn_blocking(move || drop(volumes)).await;
    }
}

fn open(endpoint: &Arc<HttpEndpoint>) {
    if !Breakage::LateRoutes.is_on() {
        return endpoint.open();
    }
    let endpoint = endpoint.clone();
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        endpoint.open();
    });
}

impl WorkloadSlots {
    /// Returns the number of components that run now.
    pub fn component_count(&self) -> u64 {
        self.0.components.load(Ordering::Relaxed)
    }

    /// Reserves a slot for one more workload, unless `workloads_max` slots are taken.
    pub fn reserve_slot(&self, workloads_max: usize) -> Option<Slot> {
        let slot = Slot {
            counts: self.0.clone(),
            components: 0,
        };
        let before = self.0.workloads.fetch_add(1, Ordering::Relaxed);
        (before < workloads_max).then_some(slot)
    }
}

impl Slot {
    /// Adds to the number of components that run in this slot.
    #[must_use]
    pub fn with_components(mut self, components: u64) -> Self {
        self.counts
            .components
            .fetch_add(components, Ordering::Relaxed);
        self.components += components;
        self
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.counts
            .components
            .fetch_sub(self.components, Ordering::Relaxed);
        self.counts.workloads.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if !Breakage::NoEpochInterruption.is_on() {
            self.0.abort();
        }
    }
}
