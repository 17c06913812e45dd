//! What a workload asks of its host, and nothing else of it: equal shapes fit the same hosts.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{HostInterface, Workload};

/// Packages of `wasi` that every host has. Serving `wasi:http` is another matter.
const BASELINE: [&str; 6] = ["cli", "clocks", "random", "io", "filesystem", "sockets"];

/// Interfaces of `wasi:http` that a host with an ingress calls, in either version of WASI.
const HTTP_HANDLERS: [&str; 2] = ["incoming-handler", "handler"];

/// What a workload asks of its host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::core) struct Shape {
    pub selector: BTreeMap<String, String>,
    pub environment: Environment,
    /// The only host that it may have.
    pub host_id: Option<String>,
    /// Whether it needs an ingress.
    pub serves_http: bool,
    /// Packages that it needs, with the version or nothing.
    pub packages: BTreeSet<(String, String)>,
}

/// Which environments will do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::core) enum Environment {
    Any,
    Only(String),
    /// Asked for one that it may not have.
    Denied(String),
}

impl Shape {
    pub fn of(workload: &Workload, allow_shared_hosts: bool) -> Self {
        let spec = &workload.spec;
        let namespace = &workload.metadata.namespace;
        let environment = match (spec.environment.as_str(), allow_shared_hosts) {
            ("", true) => Environment::Any,
            ("", false) => Environment::Only(namespace.clone()),
            (asked, false) if asked != namespace => Environment::Denied(asked.to_owned()),
            (asked, _) => Environment::Only(asked.to_owned()),
        };
        let packages = spec
            .host_interfaces
            .iter()
            .filter(|asked| !is_baseline(asked));
        let packages = packages.map(|asked| {
            let package = format!("{}:{}", asked.namespace, asked.package);
            (package, asked.version.clone())
        });
        Self {
            selector: spec.host_selector.clone(),
            environment,
            host_id: Some(spec.host_id.clone()).filter(|id| !id.is_empty()),
            serves_http: spec.host_interfaces.iter().any(is_http_handler),
            packages: packages.collect(),
        }
    }
}

fn is_baseline(asked: &HostInterface) -> bool {
    let package = asked.package.as_str();
    asked.namespace == "wasi" && (package == "http" || BASELINE.contains(&package))
}

fn is_http_handler(asked: &HostInterface) -> bool {
    let handles = |name: &String| HTTP_HANDLERS.contains(&name.as_str());
    asked.namespace == "wasi" && asked.package == "http" && asked.interfaces.iter().any(handles)
}
