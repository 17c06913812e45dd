//! The Kubernetes store with parts that it cannot read, and Services without traffic.

use berth_scheduler::core::Write;
use berth_scheduler::store::kube::{KubeStore, LeaseTimings};
use berth_scheduler::store::{Store, StoreEvent};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, PostParams};
use serde_json::json;

use crate::kube_fixture::{KubeFixture, TIMEOUT, config, eventually, next_event_of};

/// Permits everything in one namespace to a user.
fn permit(fixture: &KubeFixture, user: &str, namespace: &str) {
    let binding = [
        "create",
        "rolebinding",
        "limited",
        "--clusterrole=cluster-admin",
    ];
    let subject = format!("--user={user}");
    let arguments = ["-n", namespace].into_iter().chain(binding);
    let arguments: Vec<&str> = arguments.chain([subject.as_str()]).collect();
    fixture.server.kubectl(&arguments);
}

#[tokio::test]
async fn namespace_that_cannot_be_listed_holds_back_only_itself() {
    let fixture = KubeFixture::new().await;
    let (a, b) = (
        fixture.namespace.clone(),
        fixture.server.namespace(&fixture.client).await,
    );
    fixture.create(fixture.workload("in-a")).await;
    let mut in_b = fixture.workload("in-b");
    in_b.metadata_mut().namespace.clone_from(&b);
    fixture.create(in_b).await;
    let user = format!("limited-{a}");
    let permit = |namespace: &str| permit(&fixture, &user, namespace);
    permit(&a);
    let client = fixture.server.client_as(&user).await;
    let mut limited = config(&a, false);
    limited.watch_namespaces.push(b.clone());
    let store = KubeStore::with_client(client, limited, LeaseTimings::default());
    let mut events = store.watch();
    let mut before_sync = Vec::new();
    let synced = async {
        loop {
            match events.recv().await.expect("the watch is open") {
                StoreEvent::Applied(object) => before_sync.push(object.metadata().name.clone()),
                StoreEvent::Synced => return,
                StoreEvent::Removed { .. } => {}
            }
        }
    };
    let synced = tokio::time::timeout(TIMEOUT, synced).await;
    synced.expect("synced without the other namespace");
    assert_eq!(before_sync, ["in-a"]);
    let problems = store.problems();
    let of_b = |kind: &str| {
        let problems = problems.borrow().clone();
        assert!(!problems.is_unusable);
        let subject = format!("{kind} in namespace {b}: ");
        let found = problems
            .list
            .into_iter()
            .find(|it| it.starts_with(&subject));
        found.map(|problem| problem.contains("forbidden"))
    };
    for kind in ["workloads", "workloaddeployments", "services"] {
        eventually(kind, async || (of_b(kind) == Some(true)).then_some(())).await;
    }

    permit(&b);
    assert!(matches!(
        next_event_of(&mut events, "in-b").await,
        StoreEvent::Applied(_)
    ));
    // The Service of the workloads does not exist.
    let is_of_namespace = |problem: &String| problem.contains("in namespace");
    let all_solved = async || {
        let left = problems
            .borrow()
            .list
            .iter()
            .filter(|it| is_of_namespace(it))
            .count();
        (left == 0).then_some(())
    };
    eventually("the end of the problems", all_solved).await;
    store.close().await;
}

#[tokio::test]
async fn port_without_traffic_is_explained() {
    let fixture = KubeFixture::new().await;
    let _events = fixture.store.watch();
    fixture
        .write(Write::ApplyHost(fixture.host("one", "10.1.0.1")))
        .await;
    let workload = fixture.create(fixture.workload("a")).await;
    fixture.assign_ready(&workload, "id-of-one").await;
    let events = fixture.api::<Event>();
    let event_about = async |kind: &str| {
        let all = events.list(&ListParams::default()).await.ok()?.items;
        let mut found = all.into_iter().filter(|event| {
            let about = event.regarding.as_ref().and_then(|it| it.kind.as_deref());
            about == Some(kind) && event.reason.as_deref() == Some("NoTraffic")
        });
        found.next()?.note
    };
    let missing = eventually("an Event", async || event_about("Workload").await).await;
    assert!(missing.ends_with("web does not exist"), "{missing}");

    let ports = json!([{"name": "web", "port": 80},
        {"name": "metrics", "port": 81, "targetPort": "metrics"}]);
    let service = json!({"metadata": {"name": "web"}, "spec": {"ports": ports}});
    let service: Service = serde_json::from_value(service).expect("a Service");
    let services = fixture.api::<Service>();
    let created = services.create(&PostParams::default(), &service).await;
    created.expect("created");
    let note = eventually("an Event", async || event_about("Service").await).await;
    assert!(
        note.contains("\"metrics\"") && note.contains("9191"),
        "{note}"
    );
    let slices = fixture.api::<EndpointSlice>();
    let names = eventually("a slice", async || {
        let slice = slices
            .list(&ListParams::default())
            .await
            .ok()?
            .items
            .pop()?;
        let ports = slice.ports?.into_iter().filter_map(|port| port.name);
        Some(ports.collect::<Vec<String>>())
    })
    .await;
    assert_eq!(names, ["http", "web"]);
}
