//! EndpointSlices, which route a Service to the hosts that run its workloads.
//!
//! Maintained while this process is the leader. Level-triggered: changes of Workloads, Hosts,
//! Services, Pods and the slices themselves enqueue the affected Services, in any order, and an
//! edited slice is repaired.

mod explanations;
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

use self::explanations::Explanations;
use self::slices::Plan;
use self::table::{Informer, RouteTable};
use super::error::ApiError;
use super::retry_queue::RetryQueue;
use super::watch::Scope;
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
    explanations: Explanations,
    queue: RetryQueue<ServiceKey>,
}

impl Routes {
    /// Forgets all Workloads and Hosts before a new watch lists them again.
    pub(super) fn begin_relist_of_objects(&self, scopes: Vec<Scope>) {
        let mut table = self.table();
        table.begin_relist(Informer::Hosts, vec![None]);
        table.begin_relist(Informer::Objects, scopes);
    }

    /// Records that all Hosts are listed.
    pub(super) fn on_hosts_listed(&self) {
        let affected = self.table().mark_listed(Informer::Hosts, &None);
        self.enqueue(affected);
    }

    /// Records that the Workloads of a namespace are listed.
    pub(super) fn on_objects_listed(&self, scope: &Scope) {
        let affected = self.table().mark_listed(Informer::Objects, scope);
        self.enqueue(affected);
    }

    /// Applies an event of the watch of the kinds of [`crate::api`].
    pub(super) fn observe(&self, event: &StoreEvent) {
        let affected = match event {
            StoreEvent::Applied(object) => self.table().on_object_applied(object),
            StoreEvent::Removed { key, .. } => self.table().on_object_removed(key),
            StoreEvent::Synced => Vec::new(),
        };
        self.enqueue(affected);
    }

    /// Forgets all Pods before new watches list them again.
    pub(super) fn begin_relist_of_pods(&self, scopes: Vec<Scope>) {
        self.table().begin_relist(Informer::Pods, scopes);
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

    /// Records that the Pods of a namespace are listed.
    pub(super) fn on_pods_listed(&self, scope: &Scope) {
        let affected = self.table().mark_listed(Informer::Pods, scope);
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
    let scopes = scopes(store);
    let all = watcher::Config::default();
    let mut events = select_all(streams::<Service>(store, &scopes, all));
    routes.table().begin_relist(Informer::Services, scopes);
    while let Some((scope, event)) = events.next().await {
        report(store, "services", &scope, &event);
        let affected = match event {
            Ok(Event::Apply(service) | Event::InitApply(service)) => {
                routes.table().on_service_applied(&service)
            }
            Ok(Event::Delete(service)) => routes.table().on_service_removed(&service),
            Ok(Event::InitDone) => routes.table().mark_listed(Informer::Services, &scope),
            Ok(Event::Init) | Err(_) => Vec::new(),
        };
        routes.enqueue(affected);
    }
}

async fn watch_slices(store: &KubeStore) {
    let routes = &store.shared.routes;
    let scopes = scopes(store);
    let ours = watcher::Config::default().labels(&format!("{}=true", slices::MANAGER_LABEL));
    let mut events = select_all(streams::<EndpointSlice>(store, &scopes, ours));
    routes.table().begin_relist(Informer::Slices, scopes);
    while let Some((scope, event)) = events.next().await {
        report(store, "endpointslices", &scope, &event);
        let affected = match event {
            Ok(Event::Apply(slice) | Event::InitApply(slice)) => {
                routes.table().on_slice_applied(slice)
            }
            Ok(Event::Delete(slice)) => routes.table().on_slice_removed(&slice),
            Ok(Event::InitDone) => routes.table().mark_listed(Informer::Slices, &scope),
            Ok(Event::Init) | Err(_) => Vec::new(),
        };
        if !Breakage::NoEndpointRepair.is_on() {
            routes.enqueue(affected);
        }
    }
}

/// Reports a namespace that cannot be watched, and its recovery.
pub(super) fn report<T>(
    store: &KubeStore,
    resource: &str,
    scope: &Scope,
    event: &watcher::Result<Event<T>>,
) {
    let subject = match scope {
        Some(namespace) => format!("{resource} in namespace {namespace}"),
        None => format!("{resource} in all namespaces"),
    };
    match event {
        // The watcher retries by itself, with backoff.
        Err(error) => {
            let reason = berth_sdk::cli::error_chain(error);
            store.problems().add(&subject, &reason);
        }
        // The start of another list does not prove that the list succeeds.
        Ok(Event::Init) => {}
        Ok(_) => store.problems().remove(&subject),
    }
}

/// Returns the namespaces of workloads, or `None` for all.
fn scopes(store: &KubeStore) -> Vec<Scope> {
    let namespaces = &store.shared.config.watch_namespaces;
    if namespaces.is_empty() {
        return vec![None];
    }
    namespaces.iter().cloned().map(Some).collect()
}

/// An event of a watch, with the namespace of the watch.
type ScopedEvent<K> = (Scope, watcher::Result<Event<K>>);

/// Returns a watch for each namespace.
fn streams<K>(
    store: &KubeStore,
    scopes: &[Scope],
    config: watcher::Config,
) -> Vec<BoxStream<'static, ScopedEvent<K>>>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Resource + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
{
    let stream = |scope: &Scope| {
        let api: Api<K> = match scope {
            Some(namespace) => Api::namespaced(store.client(), namespace),
            None => Api::all(store.client()),
        };
        let scope = scope.clone();
        watcher(api, config.clone())
            .default_backoff()
            .map(move |event| (scope.clone(), event))
            .boxed()
    };
    scopes.iter().map(stream).collect()
}

/// Creates, updates and deletes the slices of a Service as needed.
async fn reconcile(store: &KubeStore, service: ServiceKey) -> Result<(), ApiError> {
    if Breakage::EndpointAfterStop.is_on() {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    }
    explanations::schedule(store, &service);
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
