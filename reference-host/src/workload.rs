//! A workload that was started: what serves its requests, its service, its directories.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::breakage::Breakage;
use crate::components::Components;
use crate::service::Service;
use crate::volumes::Volumes;

/// A started workload. Dropping it ends it too, only without waiting for the end.
pub struct Workload {
    components: Arc<Components>,
    service: Option<AbortOnDrop>,
    volumes: Volumes,
    _place: Place,
}

/// Counts what runs on the host. A cheap clone.
#[derive(Clone, Debug, Default)]
pub struct Running(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    workloads: AtomicUsize,
    components: AtomicU64,
}

/// A workload's place among those that run, from the beginning of its start.
pub struct Place {
    running: Running,
    components: u64,
}

struct AbortOnDrop(JoinHandle<()>);

impl Workload {
    /// Makes the routes live and lets the service run.
    pub fn begin(
        components: Arc<Components>,
        service: Option<Service>,
        volumes: Volumes,
        place: Place,
        guests: &Handle,
    ) -> Self {
        bring_up(&components);
        let service = service.map(|service| AbortOnDrop(guests.spawn(service.run())));
        Self {
            components,
            service,
            volumes,
            _place: place,
        }
    }

    /// Ends the routes, then all guests, then the directories. When it returns, nothing is left.
    pub async fn end(self) {
        let Self {
            components,
            service,
            volumes,
            _place,
        } = self;
        if let Some(mut service) = service.filter(|_| !Breakage::NoEpochs.is_on()) {
            service.0.abort();
            // Cancelled is what it should be; it may also have ended by itself just before.
            let _ = (&mut service.0).await;
        }
        if Breakage::RoutesOutliveStop.is_on() {
            components.leak();
        }
        components.take_down().await;
        // Removing directories may take its time, and a failure leaves nothing to be done.
        let _ = tokio::task::spawn_blocking(move || drop(volumes)).await;
    }
}

fn bring_up(components: &Arc<Components>) {
    if !Breakage::LateRoutes.is_on() {
        return components.bring_up();
    }
    let components = components.clone();
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        components.bring_up();
    });
}

impl Running {
    /// How many components run now.
    pub fn components(&self) -> u64 {
        self.0.components.load(Ordering::Relaxed)
    }

    /// A place for one more workload, if there are not yet as many as there may be.
    pub fn take_place(&self, workloads_max: usize) -> Option<Place> {
        let place = Place {
            running: self.clone(),
            components: 0,
        };
        let before = self.0.workloads.fetch_add(1, Ordering::Relaxed);
        (before < workloads_max).then_some(place)
    }
}

impl Place {
    /// The same place for a workload of so many components.
    #[must_use]
    pub fn with_components(mut self, components: u64) -> Self {
        self.running
            .0
            .components
            .fetch_add(components, Ordering::Relaxed);
        self.components += components;
        self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.running
            .0
            .components
            .fetch_sub(self.components, Ordering::Relaxed);
        self.running.0.workloads.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if !Breakage::NoEpochs.is_on() {
            self.0.abort();
        }
    }
}
