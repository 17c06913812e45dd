//! Tests with an API server: leadership by a Lease, Hosts of deleted Pods, EndpointSlices of
//! Services, and garbage collection by owner.

use std::sync::Arc;
use std::time::Duration;

use berth_scheduler::api::{Kind, Metadata, Object, OwnerReference, WorkloadReplicaSet};
use berth_scheduler::core::Write;
use berth_scheduler::store::kube::{KubeStore, LeaseTimings};
use berth_scheduler::store::{Store, StoreEvent};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::kube_fixture::{KubeFixture, TIMEOUT, config, eventually, next_event_of, uid};

#[tokio::test]
async fn standby_takes_over_at_once_when_leader_closes() {
    let fixture = KubeFixture::new().await;
    let leader_elect = true;
    let store = || {
        KubeStore::with_client(
            fixture.client.clone(),
            config(&fixture.namespace, leader_elect),
            LeaseTimings {
                retry: Duration::from_millis(200),
                ..LeaseTimings::default()
            },
        )
    };
    let wait_for_leadership = |store: &KubeStore| {
        let mut leadership = store.leadership();
        async move {
            let elected = leadership.wait_for(|is_leader| *is_leader);
            let elected = tokio::time::timeout(TIMEOUT, elected).await;
            elected.expect("elected in time").expect("an open channel");
        }
    };
    let first = store();
    wait_for_leadership(&first).await;
    let second = store();
    let lease = fixture.raw("lease", "d34db3ef.wasmcloud.dev").await;
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 15);
    assert!(!*second.leadership().borrow());
    let mut first_leadership = first.leadership();
    first.close().await;
    assert!(!*first_leadership.borrow_and_update());
    assert!(
        first_leadership.changed().await.is_err(),
        "the channel is closed"
    );
    // Much sooner than the 15 s of the Lease.
    tokio::time::timeout(Duration::from_secs(8), wait_for_leadership(&second))
        .await
        .expect("standby is the leader before the Lease expires");
    let lease = fixture.raw("lease", "d34db3ef.wasmcloud.dev").await;
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
    // An annotation on the Lease does not end the leadership; a new holder does.
    let patch_lease = |patch: &str| {
        let lease = [
            "lease",
            "d34db3ef.wasmcloud.dev",
            "--type=merge",
            "-p",
            patch,
        ];
        let patch = ["-n", &fixture.namespace, "patch"].into_iter().chain(lease);
        fixture.server.kubectl(&patch.collect::<Vec<_>>());
    };
    let mut leadership = second.leadership();
    leadership.borrow_and_update();
    patch_lease(r#"{"metadata":{"annotations":{"note":"1"}}}"#);
    assert!(!leadership.has_changed().expect("an open channel"));
    patch_lease(r#"{"spec":{"holderIdentity":"other"}}"#);
    let lost = leadership.wait_for(|is_leader| !*is_leader);
    let lost = tokio::time::timeout(TIMEOUT, lost).await;
    lost.expect("leadership lost in time")
        .expect("an open channel");
    second.close().await;
}

#[tokio::test]
async fn deletes_host_of_deleted_pod_and_releases_pod() {
    let fixture = KubeFixture::new().await;
    let host = fixture
        .write(Write::ApplyHost(fixture.host("calm-fox", "10.9.8.7")))
        .await;
    fixture
        .write(Write::ApplyHost(fixture.host("other", "10.9.8.6")))
        .await;
    let pods = fixture.api::<Pod>();
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
    let mut events = fixture.store.watch();
    next_event_of(&mut events, "calm-fox").await;
    pods.delete("p", &DeleteParams::default())
        .await
        .expect("deleted");
    let removed = next_event_of(&mut events, "calm-fox").await;
    assert_eq!(
        removed,
        StoreEvent::Removed {
            key: host.key(),
            uid: uid(&host)
        }
    );
    eventually("removal of the Pod", async || {
        pods.get_opt("p").await.ok()?.is_none().then_some(())
    })
    .await;
    assert_eq!(fixture.raw("host", "other").await["hostname"], "10.9.8.6");
}

#[tokio::test]
async fn release_before_uninstallation_removes_finalizers_for_good() {
    let fixture = KubeFixture::new().await;
    let leader_elect = true;
    let config = config(&fixture.namespace, leader_elect);
    let timings = LeaseTimings {
        retry: Duration::from_millis(200),
        ..LeaseTimings::default()
    };
    fixture.store.close().await;
    let store = KubeStore::with_client(fixture.client.clone(), config.clone(), timings);
    let pods = fixture.api::<Pod>();
    let finalizers = async |name: &str| {
        let pod = pods.get(name).await.ok()?;
        Some(pod.metadata.finalizers.unwrap_or_default())
    };
    for name in ["p", "q"] {
        let pod = json!({"metadata": {"name": name, "labels": {"wasmcloud.com/hostgroup": "default"},
            "finalizers": ["example.com/other"]}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let pod: Pod = serde_json::from_value(pod).expect("a Pod");
        let created = pods.create(&PostParams::default(), &pod).await;
        created.expect("created");
        eventually("the finalizer", async || {
            (finalizers(name).await?.len() == 2).then_some(())
        })
        .await;
    }
    let released = KubeStore::release_pods_with(&fixture.client, &config).await;
    assert_eq!(released.expect("released"), 2);
    assert!(
        !*store.leadership().borrow(),
        "the leader has lost the Lease"
    );
    // A change of a Pod would make a leader add the finalizer again.
    let change = json!({"metadata": {"annotations": {"changed": "yes"}}});
    let patch = Patch::Merge(&change);
    let patched = pods.patch("p", &PatchParams::default(), &patch).await;
    patched.expect("patched");
    store.close().await;
    for name in ["p", "q"] {
        assert_eq!(
            finalizers(name).await.expect("a Pod"),
            ["example.com/other"]
        );
        let none = json!({"metadata": {"finalizers": null}});
        pods.patch(name, &PatchParams::default(), &Patch::Merge(&none))
            .await
            .expect("patched");
    }
}

/// Waits until the slices of the Service `web` have exactly these addresses.
async fn wait_for_route(slices: &Api<EndpointSlice>, expected: &[&str]) -> Vec<EndpointSlice> {
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
async fn service_routes_to_hosts_of_ready_workloads() {
    let fixture = KubeFixture::new().await;
    let _events = fixture.store.watch();
    for (name, address) in [("one", "10.1.0.1"), ("two", "10.1.0.2")] {
        fixture
            .write(Write::ApplyHost(fixture.host(name, address)))
            .await;
    }
    let workload = fixture.create(fixture.workload("a")).await;
    fixture.assign_ready(&workload, "id-of-one").await;
    let other = fixture.create(fixture.workload("b")).await;
    fixture.assign_unready(&other, "id-of-two").await;
    // The Service is created last.
    let service =
        json!({"metadata": {"name": "web"}, "spec": {"ports": [{"name": "http", "port": 80}]}});
    let service: Service = serde_json::from_value(service).expect("a Service");
    let service = fixture
        .api::<Service>()
        .create(&PostParams::default(), &service)
        .await
        .expect("created");
    let slices = fixture.api::<EndpointSlice>();
    let wait_for_route = async |expected: &[&str]| wait_for_route(&slices, expected).await;
    let slice = wait_for_route(&["10.1.0.1"]).await.remove(0);
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

    fixture.assign_ready(&other, "id-of-two").await;
    wait_for_route(&["10.1.0.1", "10.1.0.2"]).await;
    // The slice is edited, and deleted after that.
    let name = slice.metadata.name.clone().expect("a name");
    let edit = json!({"endpoints": [{"addresses": ["10.66.66.66"]}]});
    slices
        .patch(&name, &PatchParams::default(), &Patch::Merge(&edit))
        .await
        .expect("edited");
    wait_for_route(&["10.1.0.1", "10.1.0.2"]).await;
    slices
        .delete(&name, &DeleteParams::default())
        .await
        .expect("deleted");
    wait_for_route(&["10.1.0.1", "10.1.0.2"]).await;
    // A host changes its address, a workload is deleted, and the last workload is no longer ready.
    fixture
        .write(Write::ApplyHost(fixture.host("two", "10.1.0.3")))
        .await;
    wait_for_route(&["10.1.0.1", "10.1.0.3"]).await;
    fixture
        .write(Write::Delete {
            key: workload.key(),
            uid: uid(&workload),
        })
        .await;
    wait_for_route(&["10.1.0.3"]).await;
    fixture.assign_unready(&other, "id-of-two").await;
    wait_for_route(&[]).await;
}

#[tokio::test]
async fn garbage_collector_deletes_dependents_in_foreground() {
    let fixture = KubeFixture::new().await;
    let template = json!({"spec": {"components": []}});
    let set = json!({"replicas": 1, "template": template});
    let set = WorkloadReplicaSet {
        metadata: Metadata::named(fixture.namespace.as_str(), "set"),
        spec: serde_json::from_value(set).expect("a spec"),
        ..WorkloadReplicaSet::default()
    };
    let set = fixture.create(Object::ReplicaSet(Arc::new(set))).await;
    let mut workload = fixture.workload("replica");
    workload.metadata_mut().owner_references = vec![OwnerReference::controller(
        Kind::WorkloadReplicaSet,
        set.metadata(),
    )];
    fixture.create(workload).await;
    let mut events = fixture.store.watch();
    next_event_of(&mut events, "replica").await;
    fixture.server.kubectl(&[
        "-n",
        &fixture.namespace,
        "delete",
        "workloadreplicaset",
        "set",
        "--cascade=foreground",
        "--wait=false",
    ]);
    loop {
        if let StoreEvent::Removed { .. } = next_event_of(&mut events, "replica").await {
            break;
        }
    }
    // Only the garbage collector deletes the set: its foreground deletion ends after its replica.
    eventually("removal of the set", async || {
        let sets = fixture.server.kubectl(&[
            "-n",
            &fixture.namespace,
            "get",
            "workloadreplicasets",
            "-o",
            "name",
        ]);
        sets.trim().is_empty().then_some(())
    })
    .await;
}
