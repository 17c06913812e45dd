//! Desired EndpointSlices of a Service, without I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::revision::fnv1a;

/// Label of slices that this scheduler or wasmCloud's operator maintains.
pub(super) const MANAGER_LABEL: &str = "wasmcloud.dev/route-manager";
/// Label by which Kubernetes finds the slices of a Service.
pub(super) const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Name of the HTTP port of hosts, the same as in wasmCloud's operator.
const PORT_NAME: &str = "http";

/// Maximum number of endpoints in a slice, the same as in Kubernetes' own controller: each change
/// sends the whole slice to every node.
const SLICE_ENDPOINTS_MAX: usize = 100;

/// Maximum length of the Service name in the name of a slice. With the nine characters that follow,
/// the name of a slice has at most 63 characters, so that it is a valid label value.
const NAME_BYTES_MAX: usize = 54;

/// Properties of a Service that routes to workloads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ServiceFacts {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub ports: Vec<PortFacts>,
}

/// A port of a Service. Traffic reaches the endpoint port with the name of the Service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PortFacts {
    /// Name; empty if the only port has none.
    pub name: String,
    pub is_tcp: bool,
    pub port: i32,
    /// Number of the target port; `None` if the target port has a name.
    pub target: Option<i32>,
    /// Name of the target port; empty if it is a number.
    pub target_name: String,
}

impl PortFacts {
    /// Returns whether the port means the HTTP port of a host: by its name, because its target port
    /// is the HTTP port, or because no other target port is given, which Kubernetes replaces with
    /// the number of the port.
    fn reaches(&self, http_port: u16) -> bool {
        let is_http = self.name == PORT_NAME || self.name.is_empty();
        let is_target = match self.target {
            Some(target) => target == self.port || target == i32::from(http_port),
            None => self.target_name == PORT_NAME,
        };
        self.is_tcp && (is_http || is_target)
    }

    /// Returns why the port gets no traffic on the way to hosts with these HTTP ports.
    fn explain(&self, http_ports: &BTreeSet<u16>) -> Option<String> {
        if http_ports.is_empty() || http_ports.iter().all(|port| self.reaches(*port)) {
            return None;
        }
        let name = &self.name;
        if !self.is_tcp {
            return Some(format!(
                "port {name:?} gets no traffic: hosts serve only TCP"
            ));
        }
        let target = self
            .target
            .map_or_else(|| self.target_name.clone(), |target| target.to_string());
        let ports: Vec<String> = http_ports.iter().map(ToString::to_string).collect();
        Some(format!(
            "port {name:?} gets no traffic: its targetPort {target} is not the HTTP port of the \
             hosts, {}; omit the targetPort, or set it to \"http\"",
            ports.join(", ")
        ))
    }
}

/// Returns why ports of a Service get no traffic, or `None` if all get traffic.
pub(super) fn explain_ports(
    service: &ServiceFacts,
    backends: &BTreeSet<Backend>,
) -> Option<String> {
    let http_ports: BTreeSet<u16> = backends.iter().map(|backend| backend.port).collect();
    let reasons = service.ports.iter();
    let reasons: Vec<String> = reasons
        .filter_map(|port| port.explain(&http_ports))
        .collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// HTTP endpoint of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Backend {
    pub address: IpAddr,
    pub port: u16,
    /// Whether the host will end soon. It gets requests only if no other backend is left.
    pub is_terminating: bool,
}

/// Changes to make, in this order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Names of slices to delete.
    pub delete: Vec<String>,
    /// Slices to apply.
    pub apply: Vec<EndpointSlice>,
}

/// Returns the changes from `existing` to the desired slices of `service` for `backends`.
pub(super) fn plan(
    service: &ServiceFacts,
    backends: &BTreeSet<Backend>,
    existing: &BTreeMap<String, EndpointSlice>,
) -> Plan {
    let desired = desired(service, backends, existing);
    let desired_slice = |name: &String| {
        desired
            .iter()
            .find(|slice| slice.metadata.name.as_ref() == Some(name))
    };
    let must_delete = |name: &String, old: &EndpointSlice| {
        // The address type of a slice is immutable.
        desired_slice(name).is_none_or(|new| new.address_type != old.address_type)
    };
    let delete = existing
        .iter()
        .filter(|(name, old)| must_delete(name, old))
        .map(|(name, _)| name.clone())
        .collect();
    let is_applied = |new: &EndpointSlice| {
        let old = new
            .metadata
            .name
            .as_ref()
            .and_then(|name| existing.get(name));
        old.is_some_and(|old| matches_desired(old, new))
    };
    let apply = desired
        .iter()
        .filter(|new| !is_applied(new))
        .cloned()
        .collect();
    Plan { delete, apply }
}

/// Returns the desired slices: one per address family, port and hundred endpoints.
fn desired(
    service: &ServiceFacts,
    backends: &BTreeSet<Backend>,
    existing: &BTreeMap<String, EndpointSlice>,
) -> Vec<EndpointSlice> {
    let mut groups: BTreeMap<(bool, u16), Vec<Backend>> = BTreeMap::new();
    for backend in backends {
        groups
            .entry((backend.address.is_ipv6(), backend.port))
            .or_default()
            .push(*backend);
    }
    let operator_slice_name = slice_name(&service.name, &service.name);
    let operator_group =
        operator_slice_group(groups.keys().copied(), existing.get(&operator_slice_name));
    let mut slices = Vec::new();
    for (group, backends) in &groups {
        for (index, chunk) in backends.chunks(SLICE_ENDPOINTS_MAX).enumerate() {
            let name = if index == 0 && Some(*group) == operator_group {
                operator_slice_name.clone()
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

/// Returns the group whose first slice gets the name that wasmCloud's operator gives to the single
/// slice of a Service: the group of `slice`, the existing slice of this name, if that group
/// still has backends; else the lowest port of IPv4, or of IPv6 without IPv4 backends.
fn operator_slice_group(
    mut groups: impl Iterator<Item = (bool, u16)> + Clone,
    slice: Option<&EndpointSlice>,
) -> Option<(bool, u16)> {
    let current = slice.and_then(|slice| {
        let port = slice
            .ports
            .iter()
            .flatten()
            .find_map(|port| u16::try_from(port.port?).ok())?;
        Some((slice.address_type == "IPv6", port))
    });
    groups
        .clone()
        .find(|group| Some(*group) == current)
        .or_else(|| groups.next())
}

/// Returns the name of a slice: the beginning of the Service name and a hash of `seed`.
fn slice_name(service: &str, seed: &str) -> String {
    let end = service.len().min(NAME_BYTES_MAX);
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
    backends: &[Backend],
) -> EndpointSlice {
    let endpoint = |backend: &Backend| Endpoint {
        addresses: vec![backend.address.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(!backend.is_terminating),
            serving: Some(true),
            terminating: backend.is_terminating.then_some(true),
        }),
        ..Endpoint::default()
    };
    let named = |name: &str| EndpointPort {
        name: Some(name.to_owned()),
        port: Some(i32::from(port)),
        protocol: Some("TCP".to_owned()),
        app_protocol: None,
    };
    let routed = service.ports.iter().filter(|facts| facts.reaches(port));
    let mut names: Vec<&str> = routed.map(|facts| facts.name.as_str()).collect();
    // The first port always has this name, as in the slices of wasmCloud's operator.
    names.retain(|name| *name != PORT_NAME);
    names.sort_unstable();
    names.insert(0, PORT_NAME);
    // Sorted as text, as in the slices of wasmCloud's operator.
    let mut endpoints: Vec<Endpoint> = backends.iter().map(endpoint).collect();
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
        ports: Some(names.into_iter().map(named).collect()),
        endpoints: Some(endpoints),
    }
}

/// Returns whether `old` has the desired state: the endpoints and ports of `new`, and at least its
/// labels and owners.
fn matches_desired(old: &EndpointSlice, new: &EndpointSlice) -> bool {
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
