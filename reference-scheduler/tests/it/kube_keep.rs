//! What only Kubernetes has: the Lease, Pods, EndpointSlices, owners; against a real API server.

use std::sync::Arc;
use std::time::Duration;

use berth_scheduler::api::{Key, Kind, Metadata, Object, OwnerReference, WorkloadReplicaSet};
use berth_scheduler::core::{Write, WriteError};
use berth_scheduler::store::kube::{KubeStore, LeaseTimings};
use berth_scheduler::store::{Store, StoreEvent};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::kube_bench::{Bench, PATIENCE, choice, eventually, next_of, uid};

#[tokio::test]
async fn one_acts_and_the_other_takes_over_at_once_when_it_closes() {
    let bench = Bench::new().await;
    let store = || {
        KubeStore::with_client(
            bench.client.clone(),
            choice(&bench.namespace, true),
            LeaseTimings {
                retry: Duration::from_millis(200),
                ..LeaseTimings::default()
            },
        )
    };
    let acts = |store: &KubeStore| {
        let mut leading = store.leadership();
        async move {
            let led = tokio::time::timeout(PATIENCE, leading.wait_for(|leads| *leads)).await;
            led.expect("in time").expect("an election");
        }
    };
    let first = store();
    acts(&first).await;
    let second = store();
    let lease = bench.raw("lease", "d34db3ef.wasmcloud.dev").await;
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 15);
    assert!(!*second.leadership().borrow());
    let mut of_first = first.leadership();
    first.close().await;
    assert!(!*of_first.borrow_and_update());
    assert!(of_first.changed().await.is_err(), "its channel has ended");
    // Well under the 15 s of the Lease.
    tokio::time::timeout(Duration::from_secs(8), acts(&second))
        .await
        .expect("at once");
    let lease = bench.raw("lease", "d34db3ef.wasmcloud.dev").await;
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
    // A remark on the Lease is nobody's claim to it; another holder is.
    let change = |patch: &str| {
        let lease = [
            "lease",
            "d34db3ef.wasmcloud.dev",
            "--type=merge",
            "-p",
            patch,
        ];
        let patch = ["-n", &bench.namespace, "patch"].into_iter().chain(lease);
        bench.server.kubectl(&patch.collect::<Vec<_>>());
    };
    let mut leading = second.leadership();
    leading.borrow_and_update();
    change(r#"{"metadata":{"annotations":{"remark":"1"}}}"#);
    assert!(!leading.has_changed().expect("an election"));
    change(r#"{"spec":{"holderIdentity":"thief"}}"#);
    let lost = tokio::time::timeout(PATIENCE, leading.wait_for(|leads| !*leads)).await;
    lost.expect("in time").expect("an election");
    second.close().await;
}

#[tokio::test]
async fn a_deleted_pod_takes_its_host_along_and_does_not_hang() {
    let bench = Bench::new().await;
    let host = bench
        .write(Write::ApplyHost(bench.host("calm-fox", "10.9.8.7")))
        .await;
    bench
        .write(Write::ApplyHost(bench.host("other", "10.9.8.6")))
        .await;
    let pods = bench.api::<Pod>();
    let pod = json!({"metadata": {"name": "p", "labels": {"wasmcloud.com/hostgroup": "default"}},
        "spec": {"containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": 0}});
    let pod: Pod = serde_json::from_value(pod).expect("a Pod");
    pods.create(&PostParams::default(), &pod)
        .await
        .expect("created");
    eventually("the finalizer", async || {
        let pod = pods.get("p").await.ok()?;
        pod.metadata
            .finalizers?
            .iter()
            .any(|name| name == "runtime.wasmcloud.dev/pod-host-finalizer")
            .then_some(())
    })
    .await;
    let status = json!({"status": {"podIP": "10.9.8.7", "podIPs": [{"ip": "10.9.8.7"}], "phase": "Running"}});
    pods.patch_status("p", &PatchParams::default(), &Patch::Merge(&status))
        .await
        .expect("a status");
    let mut events = bench.store.watch();
    next_of(&mut events, "calm-fox").await;
    pods.delete("p", &DeleteParams::default())
        .await
        .expect("deleted");
    let gone = next_of(&mut events, "calm-fox").await;
    assert_eq!(
        gone,
        StoreEvent::Removed {
            key: host.key(),
            uid: uid(&host)
        }
    );
    eventually("the end of the Pod", async || {
        pods.get_opt("p").await.ok()?.is_none().then_some(())
    })
    .await;
    assert_eq!(bench.raw("host", "other").await["hostname"], "10.9.8.6");
}

/// Waits until the slices of the Service `web` have these addresses, and no others.
async fn leads_to(slices: &Api<EndpointSlice>, expected: &[&str]) -> Vec<EndpointSlice> {
    eventually(&format!("the route to {expected:?}"), async || {
        let selector = ListParams::default()
            .labels("kubernetes.io/service-name=web,wasmcloud.dev/route-manager=true");
        let items = slices.list(&selector).await.ok()?.items;
        let endpoints = items
            .iter()
            .flat_map(|slice| slice.endpoints.iter().flatten());
        let mut addresses: Vec<String> = endpoints
            .flat_map(|endpoint| endpoint.addresses.clone())
            .collect();
        addresses.sort();
        (addresses == expected).then_some(items)
    })
    .await
}

#[tokio::test]
async fn a_service_leads_to_the_hosts_of_its_ready_workloads() {
    let bench = Bench::new().await;
    let _events = bench.store.watch();
    for (name, address) in [("one", "10.1.0.1"), ("two", "10.1.0.2")] {
        bench
            .write(Write::ApplyHost(bench.host(name, address)))
            .await;
    }
    let workload = bench.create(bench.workload("a")).await;
    bench.place(&workload, "id-of-one", true).await;
    let other = bench.create(bench.workload("b")).await;
    bench.place(&other, "id-of-two", false).await;
    // The Service comes last.
    let service =
        json!({"metadata": {"name": "web"}, "spec": {"ports": [{"name": "http", "port": 80}]}});
    let service: Service = serde_json::from_value(service).expect("a Service");
    let service = bench
        .api::<Service>()
        .create(&PostParams::default(), &service)
        .await
        .expect("created");
    let slices = bench.api::<EndpointSlice>();
    let leads_to = async |expected: &[&str]| leads_to(&slices, expected).await;
    let slice = leads_to(&["10.1.0.1"]).await.remove(0);
    let owner = &slice.metadata.owner_references.as_ref().expect("an owner")[0];
    assert_eq!(
        (&owner.uid, owner.controller),
        (&service.metadata.uid.expect("a uid"), Some(true))
    );
    let port = &slice.ports.as_ref().expect("a port")[0];
    assert_eq!(
        (port.name.as_deref(), port.port),
        (Some("http"), Some(9191))
    );

    bench.place(&other, "id-of-two", true).await;
    leads_to(&["10.1.0.1", "10.1.0.2"]).await;
    // Somebody edits it, and somebody deletes it.
    let name = slice.metadata.name.clone().expect("a name");
    let edit = json!({"endpoints": [{"addresses": ["10.66.66.66"]}]});
    slices
        .patch(&name, &PatchParams::default(), &Patch::Merge(&edit))
        .await
        .expect("edited");
    leads_to(&["10.1.0.1", "10.1.0.2"]).await;
    slices
        .delete(&name, &DeleteParams::default())
        .await
        .expect("deleted");
    leads_to(&["10.1.0.1", "10.1.0.2"]).await;
    // A host moves, a workload leaves, and so does the last one.
    bench
        .write(Write::ApplyHost(bench.host("two", "10.1.0.3")))
        .await;
    leads_to(&["10.1.0.1", "10.1.0.3"]).await;
    bench
        .write(Write::Delete {
            key: workload.key(),
            uid: uid(&workload),
        })
        .await;
    leads_to(&["10.1.0.3"]).await;
    bench.place(&other, "id-of-two", false).await;
    leads_to(&[]).await;
}

#[tokio::test]
async fn what_lost_its_owner_goes_in_the_foreground_too() {
    let bench = Bench::new().await;
    let template = json!({"spec": {"components": []}});
    let set = json!({"replicas": 1, "template": template});
    let set = WorkloadReplicaSet {
        metadata: Metadata::named(bench.namespace.as_str(), "set"),
        spec: serde_json::from_value(set).expect("a spec"),
        ..WorkloadReplicaSet::default()
    };
    let set = bench.create(Object::ReplicaSet(Arc::new(set))).await;
    let mut workload = bench.workload("replica");
    workload.metadata_mut().owner_references = vec![OwnerReference::controller(
        Kind::WorkloadReplicaSet,
        set.metadata(),
    )];
    bench.create(workload).await;
    let mut events = bench.store.watch();
    next_of(&mut events, "replica").await;
    bench.server.kubectl(&[
        "-n",
        &bench.namespace,
        "delete",
        "workloadreplicaset",
        "set",
        "--cascade=foreground",
        "--wait=false",
    ]);
    loop {
        if let StoreEvent::Removed { .. } = next_of(&mut events, "replica").await {
            break;
        }
    }
    eventually("the end of the set", async || {
        let gone = bench.store.write(Write::Delete {
            key: Key::new(Kind::WorkloadReplicaSet, bench.namespace.as_str(), "set"),
            uid: String::new(),
        });
        (gone.await == Err(WriteError::NotFound)).then_some(())
    })
    .await;
}
