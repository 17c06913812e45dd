//! State from which routes are derived: Workloads, Hosts, Services, Pods and existing slices,
//! without I/O.
//!
//! Every method that changes the state returns the affected Services.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::ServiceKey;
use super::slices::{self, Backend, Plan, PortFacts, SERVICE_LABEL, ServiceFacts};
use crate::api::{Host, Key, Kind, Object, Workload, is_true, names};
use crate::fault_injection::Breakage;
use crate::store::kube::watch::Scope;

/// Independent watches, each of one or several namespaces. No slice is changed before everything is
/// listed that it depends on, because a Service would lose the endpoints that are not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Informer {
    /// Hosts.
    Hosts,
    /// Workloads.
    Objects,
    /// Services.
    Services,
    /// EndpointSlices.
    Slices,
    /// Pods that run hosts.
    Pods,
}

/// The table; see the module.
#[derive(Default)]
pub(super) struct RouteTable {
    hosts: HashMap<Key, HostFacts>,
    /// Workloads with a Service.
    workloads: HashMap<Key, WorkloadFacts>,
    services: HashMap<ServiceKey, ServiceFacts>,
    slices: HashMap<ServiceKey, BTreeMap<String, EndpointSlice>>,
    pods: HashMap<ServiceKey, PodFacts>,
    /// Workloads by Service.
    by_service: HashMap<ServiceKey, BTreeSet<Key>>,
    /// Whether the watches of each informer have listed all objects. The entry is missing before
    /// the watches start.
    listed: BTreeMap<Informer, BTreeMap<Scope, bool>>,
}

#[derive(Debug, PartialEq, Eq)]
struct HostFacts {
    id: String,
    hostname: String,
    port: u16,
}

#[derive(Debug, PartialEq, Eq)]
struct WorkloadFacts {
    service: ServiceKey,
    host_id: String,
    is_ready: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct PodFacts {
    /// Hostname, if it differs from the name of the Pod.
    hostname: Option<String>,
    address: Option<IpAddr>,
    /// All addresses, of both families; empty once the Pod has finished.
    addresses: BTreeSet<IpAddr>,
    /// Whether the Pod is being deleted: its host gets no more requests while others are left.
    is_terminating: bool,
}

/// Reason why a Service or a part of it gets no traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Explanation {
    pub subject: Subject,
    pub message: String,
}

/// The object of an Event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    /// A workload that names the Service.
    Workload(Key),
    /// The Service, with its UID.
    Service(String),
}

impl RouteTable {
    /// Forgets the objects of an informer before new watches list them again.
    pub(super) fn begin_relist(&mut self, informer: Informer, scopes: Vec<Scope>) {
        let unlisted = scopes.into_iter().map(|scope| (scope, false));
        self.listed.insert(informer, unlisted.collect());
        match informer {
            Informer::Hosts => self.hosts.clear(),
            Informer::Objects => {
                self.workloads.clear();
                self.by_service.clear();
            }
            Informer::Services => self.services.clear(),
            Informer::Slices => self.slices.clear(),
            Informer::Pods => self.pods.clear(),
        }
    }

    /// Records that one watch of an informer has listed all objects, for the first time or again.
    pub(super) fn mark_listed(&mut self, informer: Informer, scope: &Scope) -> Vec<ServiceKey> {
        let watches = self.listed.get_mut(&informer);
        let Some(is_listed) = watches.and_then(|watches| watches.get_mut(scope)) else {
            return Vec::new();
        };
        if std::mem::replace(is_listed, true) {
            return Vec::new();
        }
        let all: BTreeSet<&ServiceKey> = self.by_service.keys().chain(self.slices.keys()).collect();
        let complete = all.into_iter().filter(|key| self.is_complete(&key.0));
        complete.cloned().collect()
    }

    /// Returns whether the Workloads, Services and slices of a namespace are listed.
    fn is_complete(&self, namespace: &str) -> bool {
        let is_listed = |informer: &Informer| {
            let watches = self.listed.get(informer);
            watches.is_some_and(|watches| {
                let covering = [None, Some(namespace.to_owned())];
                covering
                    .iter()
                    .any(|scope| watches.get(scope) == Some(&true))
            })
        };
        [Informer::Objects, Informer::Services, Informer::Slices]
            .iter()
            .all(is_listed)
    }

    fn are_all_listed(&self, informer: Informer) -> bool {
        let watches = self.listed.get(&informer);
        watches.is_some_and(|watches| watches.values().all(|is_listed| *is_listed))
    }

    pub(super) fn on_object_applied(&mut self, object: &Object) -> Vec<ServiceKey> {
        match object {
            Object::Host(host) => self.on_host_applied(object.key(), host),
            Object::Workload(workload) => self.on_workload_applied(object.key(), workload),
            _ => Vec::new(),
        }
    }

    pub(super) fn on_object_removed(&mut self, key: &Key) -> Vec<ServiceKey> {
        match key.kind {
            Kind::Host => self
                .hosts
                .remove(key)
                .map_or_else(Vec::new, |removed| self.services_on_host(&removed.id)),
            Kind::Workload => self.on_workload_removed(key).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    fn on_host_applied(&mut self, key: Key, host: &Host) -> Vec<ServiceKey> {
        let facts = HostFacts {
            id: host.host_id.clone(),
            hostname: host.hostname.clone(),
            port: u16::try_from(host.http_port).unwrap_or(0),
        };
        if self.hosts.get(&key) == Some(&facts) {
            return Vec::new();
        }
        let mut affected = self.services_on_host(&facts.id);
        if let Some(old) = self.hosts.insert(key, facts) {
            affected.extend(self.services_on_host(&old.id));
        }
        affected
    }

    fn on_workload_applied(&mut self, key: Key, workload: &Workload) -> Vec<ServiceKey> {
        let metadata = &workload.metadata;
        let service = workload
            .spec
            .kubernetes
            .as_ref()
            .and_then(|kubernetes| kubernetes.service.as_ref());
        let status = workload.status.as_ref();
        let facts = service.map(|service| WorkloadFacts {
            service: (metadata.namespace.clone(), service.name.clone()),
            host_id: status
                .map(|status| status.host_id.clone())
                .unwrap_or_default(),
            // Routes are removed before the workload stops.
            is_ready: !metadata.is_deleting()
                && status.is_some_and(|status| is_true(&status.conditions, names::workload::READY)),
        });
        if self.workloads.get(&key) == facts.as_ref() {
            return Vec::new();
        }
        let mut affected: Vec<ServiceKey> = self.on_workload_removed(&key).into_iter().collect();
        if let Some(facts) = facts {
            affected.push(facts.service.clone());
            self.by_service
                .entry(facts.service.clone())
                .or_default()
                .insert(key.clone());
            self.workloads.insert(key, facts);
        }
        affected
    }

    fn on_workload_removed(&mut self, key: &Key) -> Option<ServiceKey> {
        let removed = self.workloads.remove(key)?;
        if let Some(others) = self.by_service.get_mut(&removed.service) {
            others.remove(key);
            if others.is_empty() {
                self.by_service.remove(&removed.service);
            }
        }
        Some(removed.service)
    }

    pub(super) fn on_service_applied(&mut self, service: &Service) -> Vec<ServiceKey> {
        let key = key_of(&service.metadata);
        let ports = service
            .spec
            .iter()
            .flat_map(|spec| spec.ports.iter().flatten());
        let ports = ports.map(port_facts);
        let facts = ServiceFacts {
            namespace: key.0.clone(),
            name: key.1.clone(),
            uid: service.metadata.uid.clone().unwrap_or_default(),
            ports: ports.collect(),
        };
        if self.services.get(&key) == Some(&facts) {
            return Vec::new();
        }
        self.services.insert(key.clone(), facts);
        self.only_if_relevant(key)
    }

    pub(super) fn on_service_removed(&mut self, service: &Service) -> Vec<ServiceKey> {
        let key = key_of(&service.metadata);
        self.services.remove(&key);
        self.only_if_relevant(key)
    }

    pub(super) fn on_slice_applied(&mut self, slice: EndpointSlice) -> Vec<ServiceKey> {
        let Some(service) = service_of(&slice) else {
            return Vec::new();
        };
        let name = slice.metadata.name.clone().unwrap_or_default();
        let old = self
            .slices
            .entry(service.clone())
            .or_default()
            .insert(name, slice.clone());
        if old.is_some_and(|old| old == slice) {
            Vec::new()
        } else {
            vec![service]
        }
    }

    pub(super) fn on_slice_removed(&mut self, slice: &EndpointSlice) -> Vec<ServiceKey> {
        let Some(service) = service_of(slice) else {
            return Vec::new();
        };
        if let Some(slices) = self.slices.get_mut(&service) {
            slices.remove(slice.metadata.name.as_deref().unwrap_or_default());
            if slices.is_empty() {
                self.slices.remove(&service);
            }
        }
        vec![service]
    }

    pub(super) fn on_pod_applied(&mut self, pod: &Pod) -> Vec<ServiceKey> {
        let key = key_of(&pod.metadata);
        let facts = pod_facts(pod);
        if self.pods.get(&key) == Some(&facts) {
            return Vec::new();
        }
        let mut affected = self.services_on_pod(&key.1, &facts);
        if let Some(old) = self.pods.insert(key.clone(), facts) {
            affected.extend(self.services_on_pod(&key.1, &old));
        }
        affected
    }

    pub(super) fn on_pod_removed(&mut self, pod: &Pod) -> Vec<ServiceKey> {
        let key = key_of(&pod.metadata);
        let removed = self.pods.remove(&key);
        removed.map_or_else(Vec::new, |removed| self.services_on_pod(&key.1, &removed))
    }

    /// Returns the changes of the slices of a Service, or `None` while its state is unknown.
    pub(super) fn plan(&self, key: &ServiceKey) -> Option<Plan> {
        if !self.is_complete(&key.0) {
            return None;
        }
        // The Service owns its slices, so they are deleted with it.
        let service = self.services.get(key)?;
        let none = BTreeMap::new();
        Some(slices::plan(
            service,
            &self.backends(key)?,
            self.slices.get(key).unwrap_or(&none),
        ))
    }

    /// Returns why a Service, or a host behind it, gets no traffic.
    pub(super) fn explain(&self, key: &ServiceKey) -> Option<Explanation> {
        if !self.is_complete(&key.0) {
            return None;
        }
        let mut workloads = self.by_service.get(key)?.iter();
        let Some(service) = self.services.get(key) else {
            let workload = workloads.next()?.clone();
            return Some(Explanation {
                subject: Subject::Workload(workload),
                message: format!("Service {}/{} does not exist", key.0, key.1),
            });
        };
        let backends = self.backends(key)?;
        let reasons = slices::explain_ports(service, &backends).into_iter();
        let reasons: Vec<String> = reasons.chain(self.explain_hosts(key)).collect();
        (!reasons.is_empty()).then(|| Explanation {
            subject: Subject::Service(service.uid.clone()),
            message: reasons.join("; "),
        })
    }

    /// Returns why hosts with ready workloads of a Service have no endpoint.
    fn explain_hosts(&self, service: &ServiceKey) -> Option<String> {
        let ids = self.ready_host_ids(service);
        let hosts = self.hosts.values();
        let unresolved = hosts.filter(|host| {
            ids.contains(host.id.as_str()) && self.address(&host.hostname).is_none()
        });
        let mut names: Vec<&str> = unresolved.map(|host| host.hostname.as_str()).collect();
        names.sort_unstable();
        (!names.is_empty()).then(|| {
            format!(
                "hosts get no traffic whose name is neither an address nor a Pod: {}",
                names.join(", ")
            )
        })
    }

    fn ready_host_ids(&self, service: &ServiceKey) -> BTreeSet<&str> {
        let workloads = self.by_service.get(service).into_iter().flatten();
        let ready = workloads
            .filter_map(|key| self.workloads.get(key))
            .filter(|facts| facts.is_ready);
        ready.map(|facts| facts.host_id.as_str()).collect()
    }

    /// Returns the backends of a Service, or `None` while the host of a ready workload or its
    /// address may still be listed.
    fn backends(&self, service: &ServiceKey) -> Option<BTreeSet<Backend>> {
        let ids = self.ready_host_ids(service);
        let known: BTreeSet<&str> = self.hosts.values().map(|host| host.id.as_str()).collect();
        if !ids.is_subset(&known) && !self.are_all_listed(Informer::Hosts) {
            return None;
        }
        let hosts = self.hosts.values().filter(|host| {
            let is_used = ids.contains(host.id.as_str());
            host.port != 0 && (is_used || Breakage::EndpointsOfAllHosts.is_on())
        });
        let mut backends = BTreeSet::new();
        for host in hosts {
            let Some(address) = self.address(&host.hostname) else {
                if self.are_all_listed(Informer::Pods) {
                    continue;
                }
                return None;
            };
            if Breakage::EndpointsOfAllHosts.is_on() && address.is_loopback() {
                continue;
            }
            backends.insert(Backend {
                address,
                port: host.port,
                is_terminating: self.is_terminating(address),
            });
        }
        Some(backends)
    }

    /// Returns the address of a host; if its hostname is the name of a Pod, the address of the Pod.
    fn address(&self, hostname: &str) -> Option<IpAddr> {
        hostname.parse().ok().or_else(|| {
            let mut pods = self.pods.iter();
            pods.find_map(|((_, name), pod)| {
                (name == hostname || pod.hostname.as_deref() == Some(hostname))
                    .then_some(pod.address)
                    .flatten()
            })
        })
    }

    /// Returns whether every Pod with this address is being deleted. Several Pods have the same
    /// address in the network of a node, or after an address was assigned again.
    fn is_terminating(&self, address: IpAddr) -> bool {
        let pods = self.pods.values();
        let mut pods = pods
            .filter(|pod| pod.addresses.contains(&address))
            .peekable();
        pods.peek().is_some() && pods.all(|pod| pod.is_terminating)
    }

    /// Returns the Services with workloads on a host.
    fn services_on_host(&self, id: &str) -> Vec<ServiceKey> {
        let on_host = self.workloads.values().filter(|facts| facts.host_id == id);
        on_host.map(|facts| facts.service.clone()).collect()
    }

    /// Returns the Services with workloads on a host whose hostname or address is that of a Pod.
    fn services_on_pod(&self, name: &str, pod: &PodFacts) -> Vec<ServiceKey> {
        let hosts = self.hosts.values().filter(|host| {
            let address = host.hostname.parse::<IpAddr>();
            host.hostname == name
                || pod.hostname.as_ref() == Some(&host.hostname)
                || address.is_ok_and(|address| pod.addresses.contains(&address))
        });
        hosts
            .flat_map(|host| self.services_on_host(&host.id))
            .collect()
    }

    /// Returns the Service if workloads refer to it or this scheduler maintains slices of it.
    fn only_if_relevant(&self, key: ServiceKey) -> Vec<ServiceKey> {
        let is_relevant = self.by_service.contains_key(&key) || self.slices.contains_key(&key);
        is_relevant.then_some(key).into_iter().collect()
    }
}

fn pod_facts(pod: &Pod) -> PodFacts {
    let status = pod.status.as_ref();
    let parse = |address: &String| address.parse::<IpAddr>().ok();
    let address = status
        .and_then(|status| status.pod_ip.as_ref())
        .and_then(parse);
    let phase = status.and_then(|status| status.phase.as_deref());
    let is_finished = matches!(phase, Some("Succeeded" | "Failed"));
    let others = status
        .into_iter()
        .flat_map(|status| status.pod_ips.iter().flatten());
    let addresses = others.filter_map(|other| parse(&other.ip)).chain(address);
    PodFacts {
        hostname: pod.spec.as_ref().and_then(|spec| spec.hostname.clone()),
        address,
        addresses: addresses.filter(|_| !is_finished).collect(),
        is_terminating: pod.metadata.deletion_timestamp.is_some(),
    }
}

fn port_facts(port: &ServicePort) -> PortFacts {
    let (target, target_name) = match &port.target_port {
        Some(IntOrString::Int(number)) => (Some(*number), String::new()),
        Some(IntOrString::String(name)) => (None, name.clone()),
        None => (Some(port.port), String::new()),
    };
    PortFacts {
        name: port.name.clone().unwrap_or_default(),
        is_tcp: port.protocol.as_deref().unwrap_or("TCP") == "TCP",
        port: port.port,
        target,
        target_name,
    }
}

fn key_of(metadata: &ObjectMeta) -> ServiceKey {
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

fn service_of(slice: &EndpointSlice) -> Option<ServiceKey> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_LABEL)?;
    Some((
        slice.metadata.namespace.clone().unwrap_or_default(),
        name.clone(),
    ))
}

#[cfg(test)]
mod tests;
