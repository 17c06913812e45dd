//! EndpointSlices, which route a Service to the hosts that run its workloads.
//!
//! Maintained while this process is the leader. Level-triggered: changes of Workloads, Hosts,
//! Services, Pods and the slices themselves enqueue the affected Services, in any order, and an
//! edited slice is repaired.

mod slices;
mod table;

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, select_all};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::{NamespaceResourceScope, Resource};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};

use self::slices::Plan;
use self::table::{Informer, RouteTable};
use super::error::ApiError;
use super::retry_queue::RetryQueue;
use super::write::retry_throttled;
use super::{FIELD_MANAGER, KubeStore, election};
use crate::fault_injection::Breakage;
use crate::store::StoreEvent;

/// Namespace and name of a Service.
type ServiceKey = (String, String);

/// State of the routes, and the queue of Services to reconcile.
#[derive(Default)]
pub(super) struct Routes {
    table: Mutex<RouteTable>,
    queue: RetryQueue<ServiceKey>,
}

impl Routes {
    /// Forgets all Workloads and Hosts before a new watch lists them again.
    pub(super) fn begin_relist_of_objects(&self) {
        let watches = 1;
        self.table().begin_relist(Informer::Objects, watches);
    }

    /// Applies an event of the watch of the kinds of [`crate::api`].
    pub(super) fn observe(&self, event: &StoreEvent) {
        let affected = match event {
            StoreEvent::Applied(object) => self.table().on_object_applied(object),
            StoreEvent::Removed { key, .. } => self.table().on_object_removed(key),
            StoreEvent::Synced => self.table().mark_listed(Informer::Objects),
        };
        self.enqueue(affected);
    }

    /// Forgets all Pods before `watches` new watches list them again.
    pub(super) fn begin_relist_of_pods(&self, watches: usize) {
        self.table().begin_relist(Informer::Pods, watches);
    }

    /// Adds or updates a Pod that runs a host.
    pub(super) fn on_pod_applied(&self, pod: &Pod) {
        let affected = self.table().on_pod_applied(pod);
        self.enqueue(affected);
    }

    /// Removes a Pod.
    pub(super) fn on_pod_removed(&self, pod: &Pod) {
        let affected = self.table().on_pod_removed(pod);
        self.enqueue(affected);
    }

    /// Records that one watch has listed all its Pods.
    pub(super) fn on_pods_listed(&self) {
        let affected = self.table().mark_listed(Informer::Pods);
        self.enqueue(affected);
    }

    fn enqueue(&self, services: Vec<ServiceKey>) {
        services
            .into_iter()
            .for_each(|service| self.queue.enqueue(service));
    }

    fn table(&self) -> MutexGuard<'_, RouteTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Maintains the slices whenever this process is the leader.
pub(super) async fn run(store: KubeStore) {
    let leadership = store.shared.leadership.clone();
    election::run_while_leader(leadership, || run_term(&store)).await;
}

async fn run_term(store: &KubeStore) {
    let routes = &store.shared.routes;
    tokio::join!(
        watch_services(store),
        watch_slices(store),
        routes.queue.run(|service| reconcile(store, service)),
    );
}

async fn watch_services(store: &KubeStore) {
    let routes = &store.shared.routes;
    let mut events = select_all(streams::<Service>(store, watcher::Config::default()));
    routes
        .table()
        .begin_relist(Informer::Services, events.len());
    while let Some(event) = events.next().await {
        let affected = match event {
            Ok(Event::Apply(service) | Event::InitApply(service)) => {
                routes.table().on_service_applied(&service)
            }
            Ok(Event::Delete(service)) => routes.table().on_service_removed(&service),
            Ok(Event::InitDone) => routes.table().mark_listed(Informer::Services),
            Ok(Event::Init) => Vec::new(),
            Err(error) => {
                tracing::warn!(%error, "cannot watch Services");
                Vec::new()
            }
        };
        routes.enqueue(affected);
    }
}

async fn watch_slices(store: &KubeStore) {
    let routes = &store.shared.routes;
    let ours = watcher::Config::default().labels(&format!("{}=true", slices::MANAGER_LABEL));
    let mut events = select_all(streams::<EndpointSlice>(store, ours));
    routes.table().begin_relist(Informer::Slices, events.len());
    while let Some(event) = events.next().await {
        let affected = match event {
            Ok(Event::Apply(slice) | Event::InitApply(slice)) => {
                routes.table().on_slice_applied(slice)
            }
            Ok(Event::Delete(slice)) => routes.table().on_slice_removed(&slice),
            Ok(Event::InitDone) => routes.table().mark_listed(Informer::Slices),
            Ok(Event::Init) => Vec::new(),
            Err(error) => {
                tracing::warn!(%error, "cannot watch EndpointSlices");
                Vec::new()
            }
        };
        if !Breakage::NoEndpointRepair.is_on() {
            routes.enqueue(affected);
        }
    }
}

/// Returns a watch for each namespace of workloads, or one for all namespaces.
fn streams<K>(
    store: &KubeStore,
    config: watcher::Config,
) -> Vec<BoxStream<'static, watcher::Result<Event<K>>>>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Resource + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
{
    let namespaces = &store.shared.config.watch_namespaces;
    let apis: Vec<Api<K>> = if namespaces.is_empty() {
        vec![Api::all(store.client())]
    } else {
        namespaces
            .iter()
            .map(|namespace| Api::namespaced(store.client(), namespace))
            .collect()
    };
    apis.into_iter()
        .map(|api| watcher(api, config.clone()).default_backoff().boxed())
        .collect()
}

/// Creates, updates and deletes the slices of a Service as needed.
async fn reconcile(store: &KubeStore, service: ServiceKey) -> Result<(), ApiError> {
    if Breakage::EndpointAfterStop.is_on() {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    }
    let Some(Plan { delete, apply }) = store.shared.routes.table().plan(&service) else {
        return Ok(());
    };
    let slices: Api<EndpointSlice> = Api::namespaced(store.client(), &service.0);
    let deletion = DeleteParams::default();
    for name in delete {
        match retry_throttled(|| slices.delete(&name, &deletion)).await {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    for slice in apply {
        let name = slice.metadata.name.clone().unwrap_or_default();
        let patch = Patch::Apply(&slice);
        retry_throttled(|| slices.patch(&name, &parameters, &patch)).await?;
    }
    Ok(())
}
