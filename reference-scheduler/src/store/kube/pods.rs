//! Pods in which hosts run: held by a finalizer, so that the host of a deleted Pod is known to go
//! before it goes.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use futures_util::stream::select_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::json;

use super::error::Failure;
use super::queue::Queue;
use super::write::patiently;
use super::{FIELD_MANAGER, KubeStore, election, object};
use crate::api::{Kind, Object};
use crate::breakage::Breakage;

/// The label of Pods in which hosts run; its value does not matter.
const LABEL: &str = "wasmcloud.com/hostgroup";
/// What holds them.
const FINALIZER: &str = "runtime.wasmcloud.dev/pod-host-finalizer";

/// What a Pod asks for.
#[derive(Debug, PartialEq, Eq)]
enum Duty {
    /// Nothing.
    Nothing,
    /// To be held.
    Hold,
    /// To be let go, after the hosts at these addresses.
    LetGo(Vec<String>),
}

/// Looks after the Pods while this process acts.
pub(super) async fn keep(store: KubeStore) {
    let leading = store.shared.leading.clone();
    election::while_leading(leading, || run(&store)).await;
}

async fn run(store: &KubeStore) {
    let queue = Queue::default();
    tokio::join!(watch(store, &queue), queue.work(|pod| settle(store, pod)));
}

/// Namespace and name.
type PodKey = (String, String);

async fn watch(store: &KubeStore, queue: &Queue<PodKey>) {
    let choice = &store.shared.choice;
    let namespaces: BTreeSet<&String> = choice
        .host_namespaces
        .iter()
        .chain([&choice.namespace])
        .collect();
    store.shared.routes.forget_pods(namespaces.len());
    let streams = namespaces.into_iter().map(|namespace| {
        let pods: Api<Pod> = Api::namespaced(store.client(), namespace);
        watcher(pods, watcher::Config::default().labels(LABEL))
            .default_backoff()
            .boxed()
    });
    let mut events = select_all(streams);
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                if duty(&pod) != Duty::Nothing {
                    queue.add(key(&pod));
                }
                store.shared.routes.pod_applied(&pod);
            }
            Ok(Event::Delete(pod)) => store.shared.routes.pod_removed(&pod),
            Ok(Event::InitDone) => store.shared.routes.pods_listed(),
            Ok(Event::Init) => {}
            Err(error) => tracing::warn!(%error, "watching Pods failed"),
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

fn duty(pod: &Pod) -> Duty {
    let metadata = &pod.metadata;
    let is_held = metadata
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == FINALIZER);
    let status = pod.status.as_ref();
    let is_over = status
        .and_then(|status| status.phase.as_deref())
        .is_some_and(|phase| phase == "Succeeded" || phase == "Failed");
    match (metadata.deletion_timestamp.is_some(), is_held) {
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
            Duty::LetGo(
                all.into_iter()
                    .filter(|address| !address.is_empty())
                    .collect(),
            )
        }
        (false, false) if !is_over => Duty::Hold,
        _ => Duty::Nothing,
    }
}

/// Does what the Pod asks for in its present state.
async fn settle(store: &KubeStore, (namespace, name): PodKey) -> Result<(), Failure> {
    let pods: Api<Pod> = Api::namespaced(store.client(), &namespace);
    let Some(pod) = patiently(|| pods.get_opt(&name)).await? else {
        return Ok(());
    };
    let mut finalizers = pod.metadata.finalizers.clone().unwrap_or_default();
    match duty(&pod) {
        Duty::Nothing => return Ok(()),
        Duty::Hold => finalizers.push(FINALIZER.to_owned()),
        Duty::LetGo(_) if Breakage::PodsHang.is_on() => return Ok(()),
        Duty::LetGo(addresses) => {
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
    match patiently(|| pods.patch(&name, &parameters, &patch)).await {
        Err(failure) if !failure.is_missing() => Err(failure),
        _ => Ok(()),
    }
}

/// Deletes the Host objects of what ran at `addresses`. Asks the server: what a watch has told of
/// may lack a host that came just before its Pod was deleted.
async fn delete_hosts(store: &KubeStore, addresses: &[String]) -> Result<(), Failure> {
    if addresses.is_empty() {
        return Ok(());
    }
    let hosts = store.api(Kind::Host, &store.shared.choice.namespace);
    let all = ListParams::default();
    for raw in patiently(|| hosts.list(&all)).await?.items {
        let Ok(Object::Host(host)) = object::decode(Kind::Host, raw) else {
            continue;
        };
        if !addresses.contains(&host.hostname) || host.metadata.is_deleting() {
            continue;
        }
        tracing::info!(host = host.metadata.name, "the Pod of the host is deleted");
        let uid = Some(host.metadata.uid.clone());
        let parameters = DeleteParams::background().preconditions(Preconditions {
            uid,
            resource_version: None,
        });
        match patiently(|| hosts.delete(&host.metadata.name, &parameters)).await {
            // Gone, or replaced by another one.
            Err(failure) if !failure.is_missing() && !failure.is_conflict() => return Err(failure),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(metadata: serde_json::Value, status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": metadata, "status": status})).expect("a Pod")
    }

    #[test]
    fn a_pod_is_held_while_it_lives_and_let_go_when_it_is_deleted() {
        let running = json!({"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]});
        let deleted = "2026-01-02T03:04:05Z";
        assert_eq!(duty(&pod(json!({}), running.clone())), Duty::Hold);
        assert_eq!(
            duty(&pod(json!({"finalizers": [FINALIZER]}), running.clone())),
            Duty::Nothing
        );
        let held = json!({"finalizers": ["other", FINALIZER], "deletionTimestamp": deleted});
        let addresses = vec!["10.0.0.1".to_owned(), "fd00::1".to_owned()];
        assert_eq!(duty(&pod(held.clone(), running)), Duty::LetGo(addresses));
        assert_eq!(
            duty(&pod(held, json!({"phase": "Pending"}))),
            Duty::LetGo(Vec::new())
        );
        assert_eq!(
            duty(&pod(json!({"deletionTimestamp": deleted}), json!({}))),
            Duty::Nothing
        );
        assert_eq!(
            duty(&pod(json!({}), json!({"phase": "Failed"}))),
            Duty::Nothing
        );
    }
}
