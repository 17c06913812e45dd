//! What routes follow from: Workloads, Hosts, Services, Pods, and the slices that there are. Pure.
//!
//! Every change returns the Services that it concerns.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::ServiceKey;
use super::slices::{self, Backend, Plan, SERVICE_LABEL, ServiceFacts};
use crate::api::{Host, Key, Kind, Object, Workload, is_true, names};
use crate::breakage::Breakage;

/// What is watched apart from each other. Before all of them have told of everything, nothing is
/// decided: a Service would lose the endpoints that were not heard of yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Workloads and Hosts.
    Objects,
    /// Services.
    Services,
    /// Slices.
    Slices,
    /// Pods in which hosts run.
    Pods,
}

/// See the module.
#[derive(Default)]
pub(super) struct Table {
    hosts: HashMap<Key, HostFacts>,
    /// Only those that name a Service.
    workloads: HashMap<Key, WorkloadFacts>,
    services: HashMap<ServiceKey, ServiceFacts>,
    slices: HashMap<ServiceKey, BTreeMap<String, EndpointSlice>>,
    pods: HashMap<ServiceKey, PodFacts>,
    /// The workloads of a Service.
    by_service: HashMap<ServiceKey, BTreeSet<Key>>,
    /// How many lists of each part are still to come; absent before its watch began.
    to_come: BTreeMap<Part, usize>,
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
    /// What it calls itself, beside its name.
    hostname: Option<String>,
    address: Option<IpAddr>,
}

impl Table {
    /// The watches of a part begin anew, so many.
    pub(super) fn forget(&mut self, part: Part, watches: usize) {
        self.to_come.insert(part, watches);
        match part {
            Part::Objects => {
                self.hosts.clear();
                self.workloads.clear();
                self.by_service.clear();
            }
            Part::Services => self.services.clear(),
            Part::Slices => self.slices.clear(),
            Part::Pods => self.pods.clear(),
        }
    }

    /// One watch of a part has told of everything, for the first time or again.
    pub(super) fn listed(&mut self, part: Part) -> Vec<ServiceKey> {
        let was_complete = self.is_complete();
        if let Some(left) = self.to_come.get_mut(&part) {
            *left = left.saturating_sub(1);
        }
        if was_complete || !self.is_complete() {
            return Vec::new();
        }
        let all: BTreeSet<&ServiceKey> = self.by_service.keys().chain(self.slices.keys()).collect();
        all.into_iter().cloned().collect()
    }

    fn is_complete(&self) -> bool {
        [Part::Objects, Part::Services, Part::Slices, Part::Pods]
            .iter()
            .all(|part| self.to_come.get(part) == Some(&0))
    }

    pub(super) fn object_applied(&mut self, object: &Object) -> Vec<ServiceKey> {
        match object {
            Object::Host(host) => self.host_applied(object.key(), host),
            Object::Workload(workload) => self.workload_applied(object.key(), workload),
            _ => Vec::new(),
        }
    }

    pub(super) fn object_removed(&mut self, key: &Key) -> Vec<ServiceKey> {
        match key.kind {
            Kind::Host => self
                .hosts
                .remove(key)
                .map_or_else(Vec::new, |gone| self.on_host(&gone.id)),
            Kind::Workload => self.workload_removed(key).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    fn host_applied(&mut self, key: Key, host: &Host) -> Vec<ServiceKey> {
        let facts = HostFacts {
            id: host.host_id.clone(),
            hostname: host.hostname.clone(),
            port: u16::try_from(host.http_port).unwrap_or(0),
        };
        if self.hosts.get(&key) == Some(&facts) {
            return Vec::new();
        }
        let mut touched = self.on_host(&facts.id);
        if let Some(before) = self.hosts.insert(key, facts) {
            touched.extend(self.on_host(&before.id));
        }
        touched
    }

    fn workload_applied(&mut self, key: Key, workload: &Workload) -> Vec<ServiceKey> {
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
            // Requests end before the workload does.
            is_ready: !metadata.is_deleting()
                && status.is_some_and(|status| is_true(&status.conditions, names::workload::READY)),
        });
        if self.workloads.get(&key) == facts.as_ref() {
            return Vec::new();
        }
        let mut touched: Vec<ServiceKey> = self.workload_removed(&key).into_iter().collect();
        if let Some(facts) = facts {
            touched.push(facts.service.clone());
            self.by_service
                .entry(facts.service.clone())
                .or_default()
                .insert(key.clone());
            self.workloads.insert(key, facts);
        }
        touched
    }

    fn workload_removed(&mut self, key: &Key) -> Option<ServiceKey> {
        let gone = self.workloads.remove(key)?;
        if let Some(others) = self.by_service.get_mut(&gone.service) {
            others.remove(key);
            if others.is_empty() {
                self.by_service.remove(&gone.service);
            }
        }
        Some(gone.service)
    }

    pub(super) fn service_applied(&mut self, service: &Service) -> Vec<ServiceKey> {
        let key = key_of(&service.metadata);
        let ports = service
            .spec
            .iter()
            .flat_map(|spec| spec.ports.iter().flatten());
        let facts = ServiceFacts {
            namespace: key.0.clone(),
            name: key.1.clone(),
            uid: service.metadata.uid.clone().unwrap_or_default(),
            has_unnamed_port: ports
                .into_iter()
                .any(|port| port.name.as_ref().is_none_or(String::is_empty)),
        };
        if self.services.get(&key) == Some(&facts) {
            return Vec::new();
        }
        self.services.insert(key.clone(), facts);
        self.if_ours(key)
    }

    pub(super) fn service_removed(&mut self, service: &Service) -> Vec<ServiceKey> {
        let key = key_of(&service.metadata);
        self.services.remove(&key);
        self.if_ours(key)
    }

    pub(super) fn slice_applied(&mut self, slice: EndpointSlice) -> Vec<ServiceKey> {
        let Some(service) = service_of(&slice) else {
            return Vec::new();
        };
        let name = slice.metadata.name.clone().unwrap_or_default();
        let before = self
            .slices
            .entry(service.clone())
            .or_default()
            .insert(name, slice.clone());
        // Its metadata changes with every write; what it says is what matters, and its labels.
        if before.is_some_and(|before| before == slice) {
            Vec::new()
        } else {
            vec![service]
        }
    }

    pub(super) fn slice_removed(&mut self, slice: &EndpointSlice) -> Vec<ServiceKey> {
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

    pub(super) fn pod_applied(&mut self, pod: &Pod) -> Vec<ServiceKey> {
        let key = key_of(&pod.metadata);
        let address = pod
            .status
            .as_ref()
            .and_then(|status| status.pod_ip.as_ref());
        let facts = PodFacts {
            hostname: pod.spec.as_ref().and_then(|spec| spec.hostname.clone()),
            address: address.and_then(|address| address.parse().ok()),
        };
        if self.pods.get(&key) == Some(&facts) {
            return Vec::new();
        }
        let mut touched = self.on_pod(&key.1, facts.hostname.as_deref());
        if let Some(before) = self.pods.insert(key.clone(), facts) {
            touched.extend(self.on_pod(&key.1, before.hostname.as_deref()));
        }
        touched
    }

    pub(super) fn pod_removed(&mut self, pod: &Pod) -> Vec<ServiceKey> {
        let key = key_of(&pod.metadata);
        let gone = self.pods.remove(&key);
        gone.map_or_else(Vec::new, |gone| {
            self.on_pod(&key.1, gone.hostname.as_deref())
        })
    }

    /// What leads to the slices that a Service should have; `None` while that is not known.
    pub(super) fn plan(&self, key: &ServiceKey) -> Option<Plan> {
        if !self.is_complete() {
            return None;
        }
        // A Service that is gone takes its slices along: they are owned by it.
        let service = self.services.get(key)?;
        let none = BTreeMap::new();
        Some(slices::plan(
            service,
            &self.backends(key),
            self.slices.get(key).unwrap_or(&none),
        ))
    }

    fn backends(&self, service: &ServiceKey) -> BTreeSet<Backend> {
        let workloads = self.by_service.get(service).into_iter().flatten();
        let ready = workloads
            .filter_map(|key| self.workloads.get(key))
            .filter(|facts| facts.is_ready);
        let ids: BTreeSet<&str> = ready.map(|facts| facts.host_id.as_str()).collect();
        let hosts = self.hosts.values().filter(|host| {
            let there = ids.contains(host.id.as_str());
            host.port != 0 && (there || Breakage::EndpointsOfAllHosts.is_on())
        });
        hosts
            .filter_map(|host| {
                let address = self.address(&host.hostname)?;
                if Breakage::EndpointsOfAllHosts.is_on() && address.is_loopback() {
                    return None;
                }
                Some(Backend {
                    address,
                    port: host.port,
                })
            })
            .collect()
    }

    /// The address of a host, by way of its Pod when it goes by a name.
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

    /// The Services with workloads on a host.
    fn on_host(&self, id: &str) -> Vec<ServiceKey> {
        let here = self.workloads.values().filter(|facts| facts.host_id == id);
        here.map(|facts| facts.service.clone()).collect()
    }

    /// The Services with workloads on a host that goes by the name of a Pod.
    fn on_pod(&self, name: &str, hostname: Option<&str>) -> Vec<ServiceKey> {
        let hosts = self
            .hosts
            .values()
            .filter(|host| host.hostname == name || hostname == Some(&host.hostname));
        hosts.flat_map(|host| self.on_host(&host.id)).collect()
    }

    /// A Service concerns us when workloads name it, or slices of ours are there.
    fn if_ours(&self, key: ServiceKey) -> Vec<ServiceKey> {
        let is_ours = self.by_service.contains_key(&key) || self.slices.contains_key(&key);
        is_ours.then_some(key).into_iter().collect()
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
