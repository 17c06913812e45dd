//! The scheduling constraints of a workload: workloads with equal constraints fit the same hosts.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{HostInterface, Workload};

/// `wasi` packages that every host offers. Serving `wasi:http` is checked separately.
const BASELINE: [&str; 6] = ["cli", "clocks", "random", "io", "filesystem", "sockets"];

/// Interfaces of `wasi:http` that a host's ingress calls, in either version of WASI.
const HTTP_HANDLERS: [&str; 2] = ["incoming-handler", "handler"];

/// The requirements of a workload for its host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::core) struct SchedulingConstraints {
    pub selector: BTreeMap<String, String>,
    pub environment: Environment,
    /// The pinned host.
    pub host_id: Option<String>,
    /// Whether the workload needs an ingress.
    pub serves_http: bool,
    /// The interfaces that the host has to offer.
    pub interfaces: BTreeSet<DeclaredInterfaces>,
}

/// The interfaces of one package that a workload declares in one entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::core) struct DeclaredInterfaces {
    /// Namespace and name: `wasi:keyvalue`.
    pub package: String,
    /// An empty version matches any.
    pub version: String,
    pub names: BTreeSet<String>,
}

/// The environments in which a workload may run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::core) enum Environment {
    Any,
    Only(String),
    /// The requested environment, which the workload must not use.
    Denied(String),
}

impl SchedulingConstraints {
    pub fn of(workload: &Workload, allow_shared_hosts: bool) -> Self {
        let spec = &workload.spec;
        let namespace = &workload.metadata.namespace;
        let environment = match (spec.environment.as_str(), allow_shared_hosts) {
            ("", true) => Environment::Any,
            ("", false) => Environment::Only(namespace.clone()),
            (requested, false) if requested != namespace => {
                Environment::Denied(requested.to_owned())
            }
            (requested, _) => Environment::Only(requested.to_owned()),
        };
        let interfaces = spec
            .host_interfaces
            .iter()
            .filter(|requested| !is_baseline(requested));
        let interfaces = interfaces.map(|requested| DeclaredInterfaces {
            package: format!("{}:{}", requested.namespace, requested.package),
            version: requested.version.clone(),
            names: requested.interfaces.iter().cloned().collect(),
        });
        Self {
            selector: spec.host_selector.clone(),
            environment,
            host_id: Some(spec.host_id.clone()).filter(|id| !id.is_empty()),
            serves_http: spec.host_interfaces.iter().any(is_http_handler),
            interfaces: interfaces.collect(),
        }
    }
}

fn is_baseline(requested: &HostInterface) -> bool {
    let package = requested.package.as_str();
    requested.namespace == "wasi" && (package == "http" || BASELINE.contains(&package))
}

fn is_http_handler(requested: &HostInterface) -> bool {
    let handles = |name: &String| HTTP_HANDLERS.contains(&name.as_str());
    requested.namespace == "wasi"
        && requested.package == "http"
        && requested.interfaces.iter().any(handles)
}
