//! Endpoints depend on the objects, not on their order.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

fn object(kind: &str, value: Value) -> Object {
    let mut value = value;
    value["apiVersion"] = json!(crate::api::API_VERSION);
    value["kind"] = json!(kind);
    Object::from_value(value).expect("an object")
}

fn host(id: &str, hostname: &str) -> Object {
    object(
        "Host",
        json!({"metadata": {"name": format!("host-{id}"), "namespace": "berth"},
            "hostId": id, "hostname": hostname, "httpPort": 9191}),
    )
}

fn workload(name: &str, host_id: &str, ready: &str) -> Object {
    object(
        "Workload",
        json!({"metadata": {"name": name, "namespace": "demo"}, "spec": {"kubernetes": {"service": {"name": "web"}}},
            "status": {"hostId": host_id, "conditions": [{"type": "Ready", "status": ready}]}}),
    )
}

fn service() -> Service {
    serde_json::from_value(
        json!({"metadata": {"name": "web", "namespace": "demo", "uid": "s"},
        "spec": {"ports": [{"name": "http", "port": 80}]}}),
    )
    .expect("a Service")
}

fn pod(name: &str, address: &str) -> Pod {
    serde_json::from_value(
        json!({"metadata": {"name": name, "namespace": "berth"}, "status": {"podIP": address}}),
    )
    .expect("a Pod")
}

fn key() -> ServiceKey {
    ("demo".to_owned(), "web".to_owned())
}

/// Returns an empty table whose informers are all listed.
fn empty() -> RouteTable {
    let mut table = RouteTable::default();
    for informer in [
        Informer::Objects,
        Informer::Services,
        Informer::Slices,
        Informer::Pods,
    ] {
        table.begin_relist(informer, 1);
        table.mark_listed(informer);
    }
    table
}

fn addresses(table: &RouteTable) -> Vec<String> {
    let plan = table.plan(&key()).expect("a plan");
    let endpoints = plan
        .apply
        .iter()
        .flat_map(|slice| slice.endpoints.iter().flatten());
    endpoints
        .flat_map(|endpoint| endpoint.addresses.clone())
        .collect()
}

#[test]
fn last_object_completes_route_in_any_order() {
    type Arrival = fn(&mut RouteTable) -> Vec<ServiceKey>;
    let arrivals: [Arrival; 3] = [
        |table| table.on_object_applied(&host("h", "10.0.0.1")),
        |table| table.on_object_applied(&workload("a", "h", "True")),
        |table| table.on_service_applied(&service()),
    ];
    for last in 0..arrivals.len() {
        let mut table = empty();
        for (index, arrival) in arrivals.iter().enumerate() {
            if index != last {
                arrival(&mut table);
            }
        }
        assert_eq!(arrivals[last](&mut table), [key()], "{last}");
        assert_eq!(addresses(&table), ["10.0.0.1"], "{last}");
    }
}

#[test]
fn endpoints_are_hosts_with_ready_workloads_without_duplicates() {
    let mut table = empty();
    table.on_service_applied(&service());
    for (id, address) in [("h", "10.0.0.1"), ("i", "10.0.0.2"), ("k", "10.0.0.3")] {
        table.on_object_applied(&host(id, address));
    }
    for (name, id, ready) in [
        ("a", "h", "True"),
        ("b", "h", "True"),
        ("c", "i", "False"),
        ("d", "gone", "True"),
        ("e", "k", "True"),
    ] {
        table.on_object_applied(&workload(name, id, ready));
    }
    assert_eq!(addresses(&table), ["10.0.0.1", "10.0.0.3"]);
    assert_eq!(
        table.on_object_applied(&workload("e", "k", "False")),
        [key(), key()]
    );
    assert_eq!(addresses(&table), ["10.0.0.1"]);
    assert_eq!(table.on_object_applied(&workload("e", "k", "False")), []);
}

#[test]
fn terminating_workload_has_no_endpoint() {
    let mut table = empty();
    table.on_service_applied(&service());
    table.on_object_applied(&host("h", "10.0.0.1"));
    let mut terminating = workload("a", "h", "True");
    table.on_object_applied(&terminating);
    terminating.metadata_mut().deletion_timestamp =
        Some("2026-01-02T03:04:05Z".parse().expect("a time"));
    assert_eq!(table.on_object_applied(&terminating), [key(), key()]);
    assert_eq!(addresses(&table), [""; 0]);
}

#[test]
fn host_without_http_has_no_endpoint() {
    let mut table = empty();
    table.on_service_applied(&service());
    let Object::Host(host) = host("h", "10.0.0.1") else {
        panic!("not a host")
    };
    table.on_object_applied(&Object::Host(Arc::new(Host {
        http_port: 0,
        ..(*host).clone()
    })));
    table.on_object_applied(&workload("a", "h", "True"));
    assert_eq!(addresses(&table), [""; 0]);
}

#[test]
fn resolves_hostname_by_pod() {
    let mut table = empty();
    table.on_service_applied(&service());
    table.on_object_applied(&host("h", "pod-1"));
    table.on_object_applied(&workload("a", "h", "True"));
    assert_eq!(addresses(&table), [""; 0]);
    assert_eq!(table.on_pod_applied(&pod("pod-1", "10.0.0.7")), [key()]);
    assert_eq!(addresses(&table), ["10.0.0.7"]);
    assert_eq!(table.on_pod_removed(&pod("pod-1", "10.0.0.7")), [key()]);
    assert_eq!(addresses(&table), [""; 0]);
}

#[test]
fn plans_nothing_before_all_informers_are_listed() {
    let mut table = RouteTable::default();
    table.begin_relist(Informer::Objects, 1);
    table.begin_relist(Informer::Services, 2);
    table.begin_relist(Informer::Slices, 1);
    table.begin_relist(Informer::Pods, 1);
    table.on_service_applied(&service());
    table.on_object_applied(&workload("a", "h", "True"));
    for informer in [
        Informer::Objects,
        Informer::Services,
        Informer::Slices,
        Informer::Pods,
    ] {
        assert_eq!(table.mark_listed(informer), []);
        assert!(table.plan(&key()).is_none());
    }
    assert_eq!(table.mark_listed(Informer::Services), [key()]);
    assert!(table.plan(&key()).is_some());
    table.begin_relist(Informer::Objects, 1);
    assert!(table.plan(&key()).is_none(), "a new watch starts");
}

#[test]
fn plans_deletion_of_unused_slices() {
    let mut table = empty();
    table.on_service_applied(&service());
    table.on_object_applied(&host("h", "10.0.0.1"));
    table.on_object_applied(&workload("a", "h", "True"));
    let slice = table.plan(&key()).expect("a plan").apply.remove(0);
    assert_eq!(table.on_slice_applied(slice.clone()), [key()]);
    assert_eq!(table.plan(&key()), Some(Plan::default()));
    assert_eq!(table.on_slice_applied(slice.clone()), []);
    table.on_object_removed(&workload("a", "h", "True").key());
    assert_eq!(
        table.plan(&key()).expect("a plan").delete,
        [slice.metadata.name.clone().expect("a name")]
    );
    assert_eq!(table.on_slice_removed(&slice), [key()]);
}
