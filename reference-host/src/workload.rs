//! A workload that was started: what serves its requests, its service, its directories.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    _counted: Counted,
}

/// Counts the components of running workloads.
#[derive(Clone, Debug, Default)]
pub struct ComponentCount(Arc<AtomicU64>);

struct Counted {
    count: ComponentCount,
    components: u64,
}

struct AbortOnDrop(JoinHandle<()>);

impl Workload {
    /// Makes the routes live and lets the service run.
    pub fn begin(
        components: Arc<Components>,
        service: Option<Service>,
        volumes: Volumes,
        count: &ComponentCount,
        component_count: usize,
    ) -> Self {
        bring_up(&components);
        let service = service.map(|service| AbortOnDrop(tokio::spawn(service.run())));
        let counted = count.add(component_count as u64);
        Self { components, service, volumes, _counted: counted }
    }

    /// Ends the routes, then all guests, then the directories. When it returns, nothing is left.
    pub async fn end(self) {
        let Self { components, service, volumes, _counted } = self;
        if let Some(mut service) = service {
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

impl ComponentCount {
    /// How many components run now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, components: u64) -> Counted {
        self.0.fetch_add(components, Ordering::Relaxed);
        Counted { count: self.clone(), components }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.count.0.fetch_sub(self.components, Ordering::Relaxed);
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
