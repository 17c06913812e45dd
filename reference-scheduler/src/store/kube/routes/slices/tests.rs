//! Slices for every mixture of backends, and what changes them.

use super::*;

fn service() -> ServiceFacts {
    ServiceFacts {
        namespace: "demo".to_owned(),
        name: "web".to_owned(),
        uid: "service-uid".to_owned(),
        has_unnamed_port: false,
    }
}

fn backends(all: &[(&str, u16)]) -> BTreeSet<Backend> {
    let backend = |&(address, port): &(&str, u16)| Backend {
        address: address.parse().expect("an address"),
        port,
    };
    all.iter().map(backend).collect()
}

/// What is there after `plan` was carried out.
fn carried_out(
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
fn one_slice_as_upstream_makes_it() {
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
fn nothing_is_written_when_nothing_is_to_be_changed() {
    let wanted = backends(&[("10.0.0.1", 80), ("fd00::1", 80), ("10.0.0.2", 81)]);
    let there = carried_out(
        &plan(&service(), &wanted, &BTreeMap::new()),
        BTreeMap::new(),
    );
    assert_eq!(
        summary(&there),
        [
            "IPv4 http:80 10.0.0.1",
            "IPv4 http:81 10.0.0.2",
            "IPv6 http:80 fd00::1"
        ]
    );
    assert_eq!(plan(&service(), &wanted, &there), Plan::default());
}

#[test]
fn what_was_edited_is_repaired() {
    let wanted = backends(&[("10.0.0.1", 80)]);
    let there = carried_out(
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
        let mut edited = there.clone();
        edited.values_mut().for_each(edit);
        let plan = plan(&service(), &wanted, &edited);
        assert_eq!(plan.apply.len(), 1);
        assert_eq!(carried_out(&plan, edited), there);
    }
}

#[test]
fn the_last_backend_takes_all_slices_with_it() {
    let wanted = backends(&[("10.0.0.1", 80), ("10.0.0.2", 81)]);
    let there = carried_out(
        &plan(&service(), &wanted, &BTreeMap::new()),
        BTreeMap::new(),
    );
    let plan = plan(&service(), &BTreeSet::new(), &there);
    assert_eq!((plan.delete.len(), plan.apply.len()), (2, 0));
}

#[test]
fn the_first_slice_keeps_its_port() {
    let there = carried_out(
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
        &there,
    );
    assert_eq!((plan.delete.len(), plan.apply.len()), (0, 1));
    let mut all = there;
    all.extend(carried_out(&plan, BTreeMap::new()));
    assert_eq!(
        summary(&all),
        ["IPv4 http:80 10.0.0.2", "IPv4 http:9191 10.0.0.1"]
    );
}

#[test]
fn the_address_type_is_changed_by_replacing() {
    let there = carried_out(
        &plan(&service(), &backends(&[("10.0.0.1", 80)]), &BTreeMap::new()),
        BTreeMap::new(),
    );
    let wanted = backends(&[("fd00::1", 80)]);
    let plan = plan(&service(), &wanted, &there);
    assert_eq!(plan.delete.len(), 1);
    assert_eq!(
        summary(&carried_out(&plan, there)),
        ["IPv6 http:80 fd00::1"]
    );
}

#[test]
fn many_endpoints_go_into_several_slices_under_names_that_stay() {
    let many: BTreeSet<Backend> = (0..250_u8)
        .map(|last| Backend {
            address: IpAddr::from([10, 0, 0, last]),
            port: 80,
        })
        .collect();
    let there = carried_out(&plan(&service(), &many, &BTreeMap::new()), BTreeMap::new());
    assert_eq!(there.len(), 3);
    assert_eq!(plan(&service(), &many, &there), Plan::default());
}

#[test]
fn a_port_without_a_name_is_served_too() {
    let service = ServiceFacts {
        has_unnamed_port: true,
        ..service()
    };
    let there = carried_out(
        &plan(&service, &backends(&[("10.0.0.1", 80)]), &BTreeMap::new()),
        BTreeMap::new(),
    );
    assert_eq!(summary(&there), ["IPv4 http:80,:80 10.0.0.1"]);
}

#[test]
fn a_long_name_is_cut() {
    let name = slice_name(&"a".repeat(63), "seed");
    assert_eq!(name.len(), 63);
}
