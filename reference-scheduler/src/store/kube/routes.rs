//! EndpointSlices: how a Service leads to the hosts that run its workloads.
//!
//! Kept while this process acts. Follows Workloads, Hosts, Services, Pods and the slices themselves,
//! so that it does not matter which of them came last, and an edited slice is repaired.

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
use self::table::{Part, Table};
use super::error::Failure;
use super::queue::Queue;
use super::write::patiently;
use super::{FIELD_MANAGER, KubeStore, election};
use crate::breakage::Breakage;
use crate::store::StoreEvent;

/// Namespace and name of a Service.
type ServiceKey = (String, String);

/// What is known about routes, and which Services have to be looked at.
#[derive(Default)]
pub(super) struct Routes {
    table: Mutex<Table>,
    due: Queue<ServiceKey>,
}

impl Routes {
    /// A new watch of the five kinds begins.
    pub(super) fn forget_objects(&self) {
        self.table().forget(Part::Objects, 1);
    }

    /// Takes in what that watch tells.
    pub(super) fn observe(&self, event: &StoreEvent) {
        let touched = match event {
            StoreEvent::Applied(object) => self.table().object_applied(object),
            StoreEvent::Removed { key, .. } => self.table().object_removed(key),
            StoreEvent::Synced => self.table().listed(Part::Objects),
        };
        self.touch(touched);
    }

    /// New watches of Pods begin, so many.
    pub(super) fn forget_pods(&self, watches: usize) {
        self.table().forget(Part::Pods, watches);
    }

    /// A Pod in which a host runs is there.
    pub(super) fn pod_applied(&self, pod: &Pod) {
        let touched = self.table().pod_applied(pod);
        self.touch(touched);
    }

    /// And is gone.
    pub(super) fn pod_removed(&self, pod: &Pod) {
        let touched = self.table().pod_removed(pod);
        self.touch(touched);
    }

    /// One of the watches has told of all Pods.
    pub(super) fn pods_listed(&self) {
        let touched = self.table().listed(Part::Pods);
        self.touch(touched);
    }

    fn touch(&self, services: Vec<ServiceKey>) {
        services
            .into_iter()
            .for_each(|service| self.due.add(service));
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the slices while this process acts.
pub(super) async fn keep(store: KubeStore) {
    let leading = store.shared.leading.clone();
    election::while_leading(leading, || run(&store)).await;
}

async fn run(store: &KubeStore) {
    let routes = &store.shared.routes;
    tokio::join!(
        watch_services(store),
        watch_slices(store),
        routes.due.work(|service| settle(store, service)),
    );
}

async fn watch_services(store: &KubeStore) {
    let routes = &store.shared.routes;
    let mut events = select_all(streams::<Service>(store, watcher::Config::default()));
    routes.table().forget(Part::Services, events.len());
    while let Some(event) = events.next().await {
        let touched = match event {
            Ok(Event::Apply(service) | Event::InitApply(service)) => {
                routes.table().service_applied(&service)
            }
            Ok(Event::Delete(service)) => routes.table().service_removed(&service),
            Ok(Event::InitDone) => routes.table().listed(Part::Services),
            Ok(Event::Init) => Vec::new(),
            Err(error) => {
                tracing::warn!(%error, "watching Services failed");
                Vec::new()
            }
        };
        routes.touch(touched);
    }
}

async fn watch_slices(store: &KubeStore) {
    let routes = &store.shared.routes;
    let ours = watcher::Config::default().labels(&format!("{}=true", slices::MANAGER_LABEL));
    let mut events = select_all(streams::<EndpointSlice>(store, ours));
    routes.table().forget(Part::Slices, events.len());
    while let Some(event) = events.next().await {
        let touched = match event {
            Ok(Event::Apply(slice) | Event::InitApply(slice)) => {
                routes.table().slice_applied(slice)
            }
            Ok(Event::Delete(slice)) => routes.table().slice_removed(&slice),
            Ok(Event::InitDone) => routes.table().listed(Part::Slices),
            Ok(Event::Init) => Vec::new(),
            Err(error) => {
                tracing::warn!(%error, "watching EndpointSlices failed");
                Vec::new()
            }
        };
        if !Breakage::EndpointsOnce.is_on() {
            routes.touch(touched);
        }
    }
}

/// A watch for each namespace of workloads, or one for all.
fn streams<K>(
    store: &KubeStore,
    config: watcher::Config,
) -> Vec<BoxStream<'static, watcher::Result<Event<K>>>>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Resource + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
{
    let namespaces = &store.shared.choice.watch_namespaces;
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

/// Makes the slices of a Service what they should be.
async fn settle(store: &KubeStore, service: ServiceKey) -> Result<(), Failure> {
    if Breakage::EndpointAfterStop.is_on() {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    }
    let Some(Plan { delete, apply }) = store.shared.routes.table().plan(&service) else {
        return Ok(());
    };
    let slices: Api<EndpointSlice> = Api::namespaced(store.client(), &service.0);
    let deletion = DeleteParams::default();
    for name in delete {
        match patiently(|| slices.delete(&name, &deletion)).await {
            Err(failure) if !failure.is_missing() => return Err(failure),
            _ => {}
        }
    }
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    for slice in apply {
        let name = slice.metadata.name.clone().unwrap_or_default();
        let patch = Patch::Apply(&slice);
        patiently(|| slices.patch(&name, &parameters, &patch)).await?;
    }
    Ok(())
}
