//! The slices that a Service should have. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::revision::fnv1a;

/// The label of slices that a scheduler of either kind keeps.
pub(super) const MANAGER_LABEL: &str = "wasmcloud.dev/route-manager";
/// The label by which Kubernetes finds the slices of a Service.
pub(super) const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// The name of the port that hosts serve HTTP at, as upstream has it.
const PORT_NAME: &str = "http";

/// How many endpoints go into one slice: what Kubernetes' own controller does, since each change
/// sends the whole slice to every node.
const SLICE_ENDPOINTS: usize = 100;

/// How much of the Service's name goes into that of a slice: nine characters follow, and a label
/// value holds 63.
const NAME_BYTES: usize = 54;

/// A Service that leads to workloads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ServiceFacts {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// Whether its port has no name: then the endpoints' has to have none either.
    pub has_unnamed_port: bool,
}

/// Where a host serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Backend {
    pub address: IpAddr,
    pub port: u16,
}

/// What is to be done, in this order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Names of slices.
    pub delete: Vec<String>,
    /// Slices, whole.
    pub apply: Vec<EndpointSlice>,
}

/// What leads from `existing` to the slices that `service` should have for `backends`.
pub(super) fn plan(
    service: &ServiceFacts,
    backends: &BTreeSet<Backend>,
    existing: &BTreeMap<String, EndpointSlice>,
) -> Plan {
    let desired = desired(service, backends, existing);
    let has = |name: &String| {
        desired
            .iter()
            .find(|slice| slice.metadata.name.as_ref() == Some(name))
    };
    let must_go = |name: &String, old: &EndpointSlice| {
        // The address type of a slice cannot be changed.
        has(name).is_none_or(|new| new.address_type != old.address_type)
    };
    let delete = existing
        .iter()
        .filter(|(name, old)| must_go(name, old))
        .map(|(name, _)| name.clone())
        .collect();
    let is_done = |new: &EndpointSlice| {
        let old = new
            .metadata
            .name
            .as_ref()
            .and_then(|name| existing.get(name));
        old.is_some_and(|old| is_as(old, new))
    };
    let apply = desired
        .iter()
        .filter(|new| !is_done(new))
        .cloned()
        .collect();
    Plan { delete, apply }
}

/// One slice for each address family, port and hundred of endpoints.
fn desired(
    service: &ServiceFacts,
    backends: &BTreeSet<Backend>,
    existing: &BTreeMap<String, EndpointSlice>,
) -> Vec<EndpointSlice> {
    let mut groups: BTreeMap<(bool, u16), Vec<IpAddr>> = BTreeMap::new();
    for backend in backends {
        groups
            .entry((backend.address.is_ipv6(), backend.port))
            .or_default()
            .push(backend.address);
    }
    let first_name = slice_name(&service.name, &service.name);
    let first = first_group(groups.keys().copied(), existing.get(&first_name));
    let mut slices = Vec::new();
    for (group, addresses) in &groups {
        for (index, chunk) in addresses.chunks(SLICE_ENDPOINTS).enumerate() {
            let name = if index == 0 && Some(*group) == first {
                first_name.clone()
            } else {
                let family = if group.0 { 6 } else { 4 };
                slice_name(
                    &service.name,
                    &format!("{}/{family}/{}/{index}", service.name, group.1),
                )
            };
            slices.push(slice(service, name, *group, chunk));
        }
    }
    slices
}

/// The group whose slice has the name that upstream gives to the only one it makes: the one that has
/// it already, or else the lowest port of IPv4.
fn first_group(
    mut groups: impl Iterator<Item = (bool, u16)> + Clone,
    slice: Option<&EndpointSlice>,
) -> Option<(bool, u16)> {
    let held = slice.and_then(|slice| {
        let port = slice
            .ports
            .iter()
            .flatten()
            .find_map(|port| u16::try_from(port.port?).ok())?;
        Some((slice.address_type == "IPv6", port))
    });
    groups
        .clone()
        .find(|group| Some(*group) == held)
        .or_else(|| groups.next())
}

/// The beginning of the Service's name and a hash of what tells its slices apart.
fn slice_name(service: &str, seed: &str) -> String {
    let end = service.len().min(NAME_BYTES);
    format!(
        "{}-{:08x}",
        service.get(..end).unwrap_or(service),
        fnv1a(seed.as_bytes())
    )
}

fn slice(
    service: &ServiceFacts,
    name: String,
    (is_ipv6, port): (bool, u16),
    addresses: &[IpAddr],
) -> EndpointSlice {
    let endpoint = |address: &IpAddr| Endpoint {
        addresses: vec![address.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(true),
            serving: Some(true),
            terminating: None,
        }),
        ..Endpoint::default()
    };
    let named = |name: &str| EndpointPort {
        name: Some(name.to_owned()),
        port: Some(i32::from(port)),
        protocol: Some("TCP".to_owned()),
        app_protocol: None,
    };
    // Kubernetes writes the addresses of upstream's slices in the order of their text.
    let mut endpoints: Vec<Endpoint> = addresses.iter().map(endpoint).collect();
    endpoints.sort_by(|a, b| a.addresses.cmp(&b.addresses));
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(service.namespace.clone()),
            labels: Some(BTreeMap::from([
                (SERVICE_LABEL.to_owned(), service.name.clone()),
                (MANAGER_LABEL.to_owned(), "true".to_owned()),
            ])),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Service".to_owned(),
                name: service.name.clone(),
                uid: service.uid.clone(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        address_type: if is_ipv6 { "IPv6" } else { "IPv4" }.to_owned(),
        ports: Some(
            [PORT_NAME]
                .into_iter()
                .chain(service.has_unnamed_port.then_some(""))
                .map(named)
                .collect(),
        ),
        endpoints: Some(endpoints),
    }
}

/// Whether `old` says all that `new` does and nothing that contradicts it.
fn is_as(old: &EndpointSlice, new: &EndpointSlice) -> bool {
    let labels = |slice: &EndpointSlice| slice.metadata.labels.clone().unwrap_or_default();
    let (old_labels, owners) = (
        labels(old),
        old.metadata.owner_references.as_deref().unwrap_or_default(),
    );
    let sorted = |slice: &EndpointSlice| {
        let mut endpoints = slice.endpoints.clone().unwrap_or_default();
        endpoints.sort_by(|a, b| a.addresses.cmp(&b.addresses));
        endpoints
    };
    labels(new)
        .iter()
        .all(|(key, value)| old_labels.get(key) == Some(value))
        && new
            .metadata
            .owner_references
            .iter()
            .flatten()
            .all(|owner| owners.contains(owner))
        && old.address_type == new.address_type
        && old.ports == new.ports
        && sorted(old) == sorted(new)
}

#[cfg(test)]
mod tests;
