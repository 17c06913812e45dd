//! Slices for combinations of backends, and their changes.

use super::*;

enum Target {
    Default,
    Number(i32),
    Name(&'static str),
}

fn port(name: &str, port: i32, target: Target) -> PortFacts {
    let (target, target_name) = match target {
        Target::Default => (Some(port), ""),
        Target::Number(number) => (Some(number), ""),
        Target::Name(name) => (None, name),
    };
    PortFacts {
        name: name.to_owned(),
        is_tcp: true,
        port,
        target,
        target_name: target_name.to_owned(),
    }
}

#[test]
fn ports_reach_hosts_under_their_own_names_or_are_explained() {
    let udp = PortFacts {
        is_tcp: false,
        ..port("dns", 53, Target::Default)
    };
    let service = ServiceFacts {
        ports: vec![
            port("web", 80, Target::Default),
            port("named", 81, Target::Name("http")),
            port("by-number", 82, Target::Number(9191)),
            port("other-number", 83, Target::Number(9999)),
            port("metrics", 84, Target::Name("metrics")),
            udp,
        ],
        ..service()
    };
    let backends = backends(&[("10.0.0.9", 9191)]);
    let plan = plan(&service, &backends, &BTreeMap::new());
    let ports = plan.apply[0].ports.iter().flatten();
    let names: Vec<&str> = ports.map(|port| port.name.as_deref().unwrap()).collect();
    assert_eq!(names, ["http", "by-number", "named", "web"]);
    let reasons = explain_ports(&service, &backends).expect("reasons");
    for part in [
        "port \"other-number\"",
        "9999",
        "port \"metrics\"",
        "9191",
        "\"dns\" gets no traffic: hosts",
    ] {
        assert!(reasons.contains(part), "{reasons}");
    }
    assert!(!reasons.contains("\"web\""), "{reasons}");
    assert_eq!(explain_ports(&service, &BTreeSet::new()), None);
}

fn service() -> ServiceFacts {
    ServiceFacts {
        namespace: "demo".to_owned(),
        name: "web".to_owned(),
        uid: "service-uid".to_owned(),
        ports: vec![port("http", 80, Target::Default)],
    }
}

fn backends(all: &[(&str, u16)]) -> BTreeSet<Backend> {
    let backend = |&(address, port): &(&str, u16)| Backend {
        address: address.parse().expect("an address"),
        port,
        is_terminating: false,
    };
    all.iter().map(backend).collect()
}

/// Returns the slices after `plan` was executed.
fn execute(
    plan: &Plan,
    mut existing: BTreeMap<String, EndpointSlice>,
) -> BTreeMap<String, EndpointSlice> {
    existing.retain(|name, _| !plan.delete.contains(name));
    for slice in &plan.apply {
        existing.insert(slice.metadata.name.clone().expect("a name"), slice.clone());
    }
    existing
}

fn summary(slices: &BTreeMap<String, EndpointSlice>) -> Vec<String> {
    let line = |slice: &EndpointSlice| {
        let addresses = slice
            .endpoints
            .iter()
            .flatten()
            .flat_map(|endpoint| endpoint.addresses.clone());
        let ports = slice.ports.iter().flatten().map(|port| {
            format!(
                "{}:{}",
                port.name.clone().unwrap_or_default(),
                port.port.unwrap_or_default()
            )
        });
        let (addresses, ports): (Vec<_>, Vec<_>) = (addresses.collect(), ports.collect());
        format!(
            "{} {} {}",
            slice.address_type,
            ports.join(","),
            addresses.join(",")
        )
    };
    let mut lines: Vec<String> = slices.values().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn single_slice_is_the_same_as_in_operator() {
    let plan = plan(
        &service(),
        &backends(&[("10.0.0.10", 9191), ("10.0.0.9", 9191)]),
        &BTreeMap::new(),
    );
    let slice = serde_json::to_value(&plan.apply[0]).expect("JSON");
    assert_eq!(plan.apply.len(), 1);
    assert_eq!(
        slice,
        serde_json::json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": format!("web-{:08x}", fnv1a(b"web")), "namespace": "demo",
                "labels": {"kubernetes.io/service-name": "web", "wasmcloud.dev/route-manager": "true"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "web", "uid": "service-uid",
                    "controller": true, "blockOwnerDeletion": true}],
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 9191, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": ["10.0.0.10"], "conditions": {"ready": true, "serving": true}},
                {"addresses": ["10.0.0.9"], "conditions": {"ready": true, "serving": true}},
            ],
        })
    );
}

#[test]
fn plan_is_empty_without_changes() {
    let wanted = backends(&[("10.0.0.1", 80), ("fd00::1", 80), ("10.0.0.2", 81)]);
    let existing = execute(
        &plan(&service(), &wanted, &BTreeMap::new()),
        BTreeMap::new(),
    );
    assert_eq!(
        summary(&existing),
        [
            "IPv4 http:80 10.0.0.1",
            "IPv4 http:81 10.0.0.2",
            "IPv6 http:80 fd00::1"
        ]
    );
    assert_eq!(plan(&service(), &wanted, &existing), Plan::default());
}

#[test]
fn repairs_edited_slices() {
    let wanted = backends(&[("10.0.0.1", 80)]);
    let existing = execute(
        &plan(&service(), &wanted, &BTreeMap::new()),
        BTreeMap::new(),
    );
    type Edit = fn(&mut EndpointSlice);
    let edits: [Edit; 4] = [
        |slice| slice.endpoints = None,
        |slice| {
            slice
                .ports
                .iter_mut()
                .flatten()
                .for_each(|port| port.port = Some(1))
        },
        |slice| slice.metadata.owner_references = None,
        |slice| slice.metadata.labels = Some(BTreeMap::new()),
    ];
    for edit in edits {
        let mut edited = existing.clone();
        edited.values_mut().for_each(edit);
        let plan = plan(&service(), &wanted, &edited);
        assert_eq!(plan.apply.len(), 1);
        assert_eq!(execute(&plan, edited), existing);
    }
}

#[test]
fn deletes_all_slices_with_last_backend() {
    let wanted = backends(&[("10.0.0.1", 80), ("10.0.0.2", 81)]);
    let existing = execute(
        &plan(&service(), &wanted, &BTreeMap::new()),
        BTreeMap::new(),
    );
    let plan = plan(&service(), &BTreeSet::new(), &existing);
    assert_eq!((plan.delete.len(), plan.apply.len()), (2, 0));
}

#[test]
fn first_slice_keeps_its_port() {
    let existing = execute(
        &plan(
            &service(),
            &backends(&[("10.0.0.1", 9191)]),
            &BTreeMap::new(),
        ),
        BTreeMap::new(),
    );
    let plan = plan(
        &service(),
        &backends(&[("10.0.0.1", 9191), ("10.0.0.2", 80)]),
        &existing,
    );
    assert_eq!((plan.delete.len(), plan.apply.len()), (0, 1));
    let mut all = existing;
    all.extend(execute(&plan, BTreeMap::new()));
    assert_eq!(
        summary(&all),
        ["IPv4 http:80 10.0.0.2", "IPv4 http:9191 10.0.0.1"]
    );
}

#[test]
fn replaces_slice_to_change_address_type() {
    let existing = execute(
        &plan(&service(), &backends(&[("10.0.0.1", 80)]), &BTreeMap::new()),
        BTreeMap::new(),
    );
    let wanted = backends(&[("fd00::1", 80)]);
    let plan = plan(&service(), &wanted, &existing);
    assert_eq!(plan.delete.len(), 1);
    assert_eq!(summary(&execute(&plan, existing)), ["IPv6 http:80 fd00::1"]);
}

#[test]
fn splits_many_endpoints_into_slices_with_stable_names() {
    let many: BTreeSet<Backend> = (0..250_u8)
        .map(|last| Backend {
            address: IpAddr::from([10, 0, 0, last]),
            port: 80,
            is_terminating: false,
        })
        .collect();
    let existing = execute(&plan(&service(), &many, &BTreeMap::new()), BTreeMap::new());
    assert_eq!(existing.len(), 3);
    assert_eq!(plan(&service(), &many, &existing), Plan::default());
}

#[test]
fn supports_unnamed_port() {
    let service = ServiceFacts {
        ports: vec![port("", 80, Target::Default)],
        ..service()
    };
    let existing = execute(
        &plan(&service, &backends(&[("10.0.0.1", 80)]), &BTreeMap::new()),
        BTreeMap::new(),
    );
    assert_eq!(summary(&existing), ["IPv4 http:80,:80 10.0.0.1"]);
}

#[test]
fn truncates_long_names() {
    let name = slice_name(&"a".repeat(63), "seed");
    assert_eq!(name.len(), 63);
}
