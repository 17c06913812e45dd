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

const INFORMERS: [Informer; 5] = [
    Informer::Hosts,
    Informer::Objects,
    Informer::Services,
    Informer::Slices,
    Informer::Pods,
];

/// Returns an empty table whose informers are all listed.
fn empty() -> RouteTable {
    let mut table = RouteTable::default();
    for informer in INFORMERS {
        table.begin_relist(informer, vec![None]);
        table.mark_listed(informer, &None);
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
fn host_in_terminating_pod_is_not_ready_and_still_serves() {
    let mut table = empty();
    table.on_service_applied(&service());
    for (id, address) in [("h", "10.0.0.7"), ("i", "pod-2")] {
        table.on_object_applied(&host(id, address));
        table.on_object_applied(&workload(id, id, "True"));
    }
    let mut pods = [("pod-1", "10.0.0.7"), ("pod-2", "10.0.0.8")].map(|(name, ip)| pod(name, ip));
    for pod in &pods {
        assert_eq!(table.on_pod_applied(pod), [key()]);
    }
    let conditions = |table: &RouteTable| {
        let slices = table.plan(&key()).expect("a plan").apply.into_iter();
        let endpoints = slices.flat_map(|slice| slice.endpoints.unwrap_or_default());
        let conditions = endpoints.filter_map(|endpoint| endpoint.conditions);
        conditions
            .map(|it| (it.ready, it.serving, it.terminating))
            .collect::<Vec<_>>()
    };
    let (ready, terminating) = (
        (Some(true), Some(true), None),
        (Some(false), Some(true), Some(true)),
    );
    assert_eq!(conditions(&table), [ready, ready]);
    for (pod, expected) in pods
        .iter_mut()
        .zip([[terminating, ready], [terminating; 2]])
    {
        let deletion = json!("2026-01-02T03:04:05Z");
        pod.metadata.deletion_timestamp = serde_json::from_value(deletion).expect("a time");
        assert!(!table.on_pod_applied(pod).is_empty());
        assert_eq!(conditions(&table), expected);
    }
    // Another Pod gets the address.
    assert_eq!(table.on_pod_applied(&pod("pod-3", "10.0.0.7")), [key()]);
    assert_eq!(conditions(&table), [ready, terminating]);
}

#[test]
fn plans_nothing_before_everything_is_listed_that_a_service_depends_on() {
    for last in INFORMERS {
        let mut table = RouteTable::default();
        for informer in INFORMERS {
            table.begin_relist(informer, vec![None]);
        }
        table.on_service_applied(&service());
        table.on_object_applied(&workload("a", "h", "True"));
        if last != Informer::Hosts {
            table.on_object_applied(&host("h", "pod-1"));
        }
        for informer in INFORMERS.into_iter().filter(|it| *it != last) {
            table.mark_listed(informer, &None);
            assert!(table.plan(&key()).is_none(), "{last:?}");
        }
        assert_eq!(table.mark_listed(last, &None), [key()]);
        assert!(table.plan(&key()).is_some(), "{last:?}");
        table.begin_relist(Informer::Objects, vec![None]);
        assert!(table.plan(&key()).is_none(), "a new watch starts");
    }
}

#[test]
fn namespace_that_is_not_listed_affects_only_its_services() {
    let mut table = RouteTable::default();
    let (demo, other) = (Some("demo".to_owned()), Some("other".to_owned()));
    for informer in INFORMERS {
        let scopes = match informer {
            Informer::Hosts | Informer::Pods => vec![Some("berth".to_owned()), None],
            _ => vec![demo.clone(), other.clone()],
        };
        table.begin_relist(informer, scopes);
        table.mark_listed(informer, &demo);
        table.mark_listed(informer, &None);
    }
    table.on_service_applied(&service());
    table.on_object_applied(&host("h", "10.0.0.1"));
    table.on_object_applied(&workload("a", "h", "True"));
    assert_eq!(addresses(&table), ["10.0.0.1"]);
    let mut elsewhere = service();
    elsewhere.metadata.namespace = other;
    table.on_service_applied(&elsewhere);
    let elsewhere = ("other".to_owned(), "web".to_owned());
    assert!(table.plan(&elsewhere).is_none());
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

#[test]
fn explains_missing_service_and_unresolved_hosts() {
    let mut table = empty();
    table.on_object_applied(&workload("b", "h", "True"));
    table.on_object_applied(&workload("a", "i", "True"));
    table.on_object_applied(&host("h", "node-7.example"));
    table.on_object_applied(&host("i", "fd00::5"));
    table.on_object_applied(&host("k", "unused.example"));
    let missing = table.explain(&key()).expect("an explanation");
    assert_eq!(
        missing.subject,
        Subject::Workload(workload("a", "i", "True").key())
    );
    assert_eq!(missing.message, "Service demo/web does not exist");
    table.on_service_applied(&service());
    let unresolved = table.explain(&key()).expect("an explanation");
    assert_eq!(unresolved.subject, Subject::Service("s".to_owned()));
    assert!(
        unresolved.message.ends_with("a Pod: node-7.example"),
        "{unresolved:?}"
    );
    assert_eq!(addresses(&table), ["fd00::5"]);
    table.on_object_applied(&host("h", "10.0.0.5"));
    assert_eq!(table.explain(&key()), None);
    let plan = table.plan(&key()).expect("a plan");
    let types: Vec<&str> = plan
        .apply
        .iter()
        .map(|slice| slice.address_type.as_str())
        .collect();
    assert_eq!(types, ["IPv4", "IPv6"]);
}
