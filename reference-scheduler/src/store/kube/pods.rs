//! Pods that run hosts. A finalizer delays the removal of such a Pod until its Host object is
//! deleted.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::StreamExt as _;
use futures_util::stream::select_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::json;

use super::error::ApiError;
use super::retry_queue::RetryQueue;
use super::write::retry_throttled;
use super::{FIELD_MANAGER, KubeStore, election, object, routes};
use crate::api::{Kind, Object};
use crate::fault_injection::Breakage;

/// Label of Pods that run hosts, with any value.
pub(super) const HOST_POD_LABEL: &str = "wasmcloud.com/hostgroup";
/// Finalizer of these Pods.
const FINALIZER: &str = "runtime.wasmcloud.dev/pod-host-finalizer";

/// Action that a Pod requires.
#[derive(Debug, PartialEq, Eq)]
enum PodAction {
    /// Nothing.
    None,
    /// Add the finalizer.
    AddFinalizer,
    /// Delete the hosts at these addresses, and remove the finalizer after that.
    RemoveFinalizer(Vec<String>),
}

/// Maintains the Pods whenever this process is the leader.
pub(super) async fn run(store: KubeStore) {
    let leadership = store.shared.leadership.clone();
    election::run_while_leader(leadership, || run_term(&store)).await;
}

async fn run_term(store: &KubeStore) {
    let queue = RetryQueue::default();
    tokio::join!(watch(store, &queue), queue.run(|pod| reconcile(store, pod)));
}

/// Namespace and name of a Pod.
type PodKey = (String, String);

async fn watch(store: &KubeStore, queue: &RetryQueue<PodKey>) {
    let config = &store.shared.config;
    let namespaces: BTreeSet<&String> = config
        .host_namespaces
        .iter()
        .chain([&config.namespace])
        .collect();
    let scopes = namespaces.iter().copied().cloned().map(Some);
    store.shared.routes.begin_relist_of_pods(scopes.collect());
    let streams = namespaces.into_iter().map(|namespace| {
        let pods: Api<Pod> = Api::namespaced(store.client(), namespace);
        let scope = Some(namespace.clone());
        watcher(pods, watcher::Config::default().labels(HOST_POD_LABEL))
            .default_backoff()
            .map(move |event| (scope.clone(), event))
            .boxed()
    });
    let mut events = select_all(streams);
    while let Some((scope, event)) = events.next().await {
        routes::report(store, "pods", &scope, &event);
        match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                if action_for(&pod) != PodAction::None {
                    queue.enqueue(key(&pod));
                }
                store.shared.routes.on_pod_applied(&pod);
            }
            Ok(Event::Delete(pod)) => store.shared.routes.on_pod_removed(&pod),
            Ok(Event::InitDone) => store.shared.routes.on_pods_listed(&scope),
            Ok(Event::Init) | Err(_) => {}
        }
    }
}

fn key(pod: &Pod) -> PodKey {
    let metadata = &pod.metadata;
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

fn action_for(pod: &Pod) -> PodAction {
    let metadata = &pod.metadata;
    let has_finalizer = metadata
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == FINALIZER);
    let status = pod.status.as_ref();
    let is_finished = status
        .and_then(|status| status.phase.as_deref())
        .is_some_and(|phase| phase == "Succeeded" || phase == "Failed");
    match (metadata.deletion_timestamp.is_some(), has_finalizer) {
        (true, true) => {
            let addresses = status
                .and_then(|status| status.pod_ips.as_ref())
                .into_iter()
                .flatten();
            let address = status.and_then(|status| status.pod_ip.clone());
            let all: BTreeSet<String> = addresses
                .map(|address| address.ip.clone())
                .chain(address)
                .collect();
            PodAction::RemoveFinalizer(
                all.into_iter()
                    .filter(|address| !address.is_empty())
                    .collect(),
            )
        }
        (false, false) if !is_finished => PodAction::AddFinalizer,
        _ => PodAction::None,
    }
}

/// Performs the action that the current state of the Pod requires.
async fn reconcile(store: &KubeStore, (namespace, name): PodKey) -> Result<(), ApiError> {
    let pods: Api<Pod> = Api::namespaced(store.client(), &namespace);
    let Some(pod) = retry_throttled(|| pods.get_opt(&name)).await? else {
        return Ok(());
    };
    let mut finalizers = pod.metadata.finalizers.clone().unwrap_or_default();
    match action_for(&pod) {
        PodAction::None => return Ok(()),
        PodAction::AddFinalizer => finalizers.push(FINALIZER.to_owned()),
        PodAction::RemoveFinalizer(_) if Breakage::PodsHang.is_on() => return Ok(()),
        PodAction::RemoveFinalizer(addresses) => {
            if !Breakage::IgnoresPods.is_on() {
                delete_hosts(store, &addresses).await?;
            }
            finalizers.retain(|finalizer| finalizer != FINALIZER);
        }
    }
    let body = json!({ "metadata": { "finalizers": finalizers, "resourceVersion": pod.metadata.resource_version } });
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(&body);
    match retry_throttled(|| pods.patch(&name, &parameters, &patch)).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Removes the finalizer of a Pod, whatever its state, and returns whether it had one.
pub(super) async fn remove_finalizer(pods: &Api<Pod>, pod: Pod) -> Result<bool, ApiError> {
    let name = pod.metadata.name.unwrap_or_default();
    let has_finalizer = |pod: &Pod| {
        let mut finalizers = pod.metadata.finalizers.iter().flatten();
        finalizers.any(|finalizer| finalizer == FINALIZER)
    };
    let mut was_removed = false;
    // The Pod may change in the meantime, for example because its status is reported.
    while let Some(pod) = retry_throttled(|| pods.get_opt(&name)).await?
        && has_finalizer(&pod)
    {
        let mut finalizers = pod.metadata.finalizers.unwrap_or_default();
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        let version = pod.metadata.resource_version;
        let metadata = json!({ "finalizers": finalizers, "resourceVersion": version });
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let parameters = PatchParams::default();
        match retry_throttled(|| pods.patch(&name, &parameters, &patch)).await {
            Ok(_) => was_removed = true,
            Err(error) if error.is_conflict() || error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(was_removed)
}

/// Deletes the Host objects with these addresses. Lists them from the API server: the cache may
/// lack a host that was created just before its Pod was deleted.
async fn delete_hosts(store: &KubeStore, addresses: &[String]) -> Result<(), ApiError> {
    if addresses.is_empty() {
        return Ok(());
    }
    let hosts = store.api(Kind::Host, &store.shared.config.namespace);
    let all = ListParams::default();
    for raw in retry_throttled(|| hosts.list(&all)).await?.items {
        let Ok(Object::Host(host)) = object::decode(Kind::Host, raw) else {
            continue;
        };
        let mut addresses = addresses.iter();
        let is_of_pod = addresses.any(|address| is_same_address(address, &host.hostname));
        if !is_of_pod || host.metadata.is_deleting() {
            continue;
        }
        tracing::info!(
            host = host.metadata.name,
            "deleting the Host of a deleted Pod"
        );
        let uid = Some(host.metadata.uid.clone());
        let parameters = DeleteParams::background().preconditions(Preconditions {
            uid,
            resource_version: None,
        });
        match retry_throttled(|| hosts.delete(&host.metadata.name, &parameters)).await {
            // The Host is already deleted, or another object has replaced it.
            Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Returns whether two texts are the same IP address, which may be written in several ways.
fn is_same_address(a: &str, b: &str) -> bool {
    let parse = |text: &str| text.parse::<IpAddr>().ok();
    a == b || parse(a).is_some_and(|address| Some(address) == parse(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_addresses_and_not_texts() {
        assert!(is_same_address("FD00:0:0::5", "fd00::5"));
        assert!(is_same_address("10.0.0.5", "10.0.0.5") && is_same_address("name", "name"));
        assert!(!is_same_address("10.0.0.5", "10.0.0.6") && !is_same_address("a", "b"));
    }

    fn pod(metadata: serde_json::Value, status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": metadata, "status": status})).expect("a Pod")
    }

    #[test]
    fn adds_finalizer_to_live_pod_and_removes_it_from_deleted_pod() {
        let running = json!({"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]});
        let deleted = "2026-01-02T03:04:05Z";
        assert_eq!(
            action_for(&pod(json!({}), running.clone())),
            PodAction::AddFinalizer
        );
        assert_eq!(
            action_for(&pod(json!({"finalizers": [FINALIZER]}), running.clone())),
            PodAction::None
        );
        let deleting = json!({"finalizers": ["other", FINALIZER], "deletionTimestamp": deleted});
        let addresses = vec!["10.0.0.1".to_owned(), "fd00::1".to_owned()];
        assert_eq!(
            action_for(&pod(deleting.clone(), running)),
            PodAction::RemoveFinalizer(addresses)
        );
        assert_eq!(
            action_for(&pod(deleting, json!({"phase": "Pending"}))),
            PodAction::RemoveFinalizer(Vec::new())
        );
        assert_eq!(
            action_for(&pod(json!({"deletionTimestamp": deleted}), json!({}))),
            PodAction::None
        );
        assert_eq!(
            action_for(&pod(json!({}), json!({"phase": "Failed"}))),
            PodAction::None
        );
    }
}
