//! A host on a free port, with a registry that serves the images of the roles.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use berth_conformance::spec::roles::Role;
use berth_conformance::testbed::guest;
use berth_conformance::testbed::registry::{Artifact, Registry};
use berth_host::config::Limits;
use berth_host::engine::Engine;
use berth_host::guest_threads::GuestThreads;
use berth_host::host::{BerthHost, Dependencies, Identity};
use berth_host::image::{Store, StoreOptions};
use berth_host::ingress::{Ingress, Server};
use berth_sdk::host::{
    Host, ReportedState, StartError, StartRequest, StatusReport, StatusReporter, StatusReports,
};
use berth_sdk::proto::{
    Component, LocalResources, Service, WitInterface, WitWorld, Workload as Spec,
};

use crate::http::HttpResponse;

/// Time limit of each step, far above the time that a working host needs.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(20);

/// Address for beacons, on which nothing listens. Guests continue if their beacon fails.
pub const UNREACHABLE_BEACON: &str = "127.0.0.1:1/x";

/// `maxRestarts` of a service that is never restarted.
pub const NO_RESTARTS: u64 = 0;

pub struct Fixture {
    pub host: BerthHost,
    pub registry: Registry,
    pub address: SocketAddr,
    _server: Server,
    _guests: GuestThreads,
}

pub type Instance = <BerthHost as Host>::Instance;

impl Fixture {
    pub async fn new() -> Self {
        Self::with_limits(4096, Limits::default()).await
    }

    /// Returns a fixture whose ingress has this limit of connections.
    pub async fn with_connections_max(connections_max: usize) -> Self {
        Self::with_limits(connections_max, Limits::default()).await
    }

    /// Returns a fixture whose guests together have at most this memory.
    pub async fn with_guest_memory_mib(mib: u64) -> Self {
        let limits = Limits {
            guest_memory_bytes: Some(mib << 20),
            ..Limits::default()
        };
        Self::with_limits(4096, limits).await
    }

    async fn with_limits(connections_max: usize, limits: Limits) -> Self {
        let registry = Registry::start().await.unwrap();
        let options = StoreOptions {
            insecure_registries: [registry.authority().to_owned()].into(),
            ..StoreOptions::default()
        };
        let images = Store::new(options).unwrap();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let guests = GuestThreads::start().unwrap();
        let (ingress, server) =
            Ingress::listen(loopback, connections_max, guests.handle()).unwrap();
        let address = ingress.local_address();
        let engine = Engine::new(limits.guest_memory_bytes()).unwrap();
        let guest_runtime = guests.handle().clone();
        let dependencies = Dependencies {
            engine,
            images,
            ingress: Some(ingress),
            limits,
            guest_runtime,
        };
        let host = BerthHost::new(dependencies, Identity::default());
        Self {
            host,
            registry,
            address,
            _server: server,
            _guests: guests,
        }
    }

    /// Pushes the image of a role and returns its reference.
    pub fn image(&self, role: Role) -> String {
        let artifact = Artifact::wasm(guest::image(role).unwrap());
        self.registry.push(role.name(), "1", artifact).reference
    }

    pub fn component(&self, role: Role, resources: LocalResources) -> Component {
        Component {
            name: role.name().into(),
            image: self.image(role),
            local_resources: Some(resources),
            ..Default::default()
        }
    }

    pub fn service(&self, role: Role, max_restarts: u64, resources: LocalResources) -> Service {
        Service {
            image: self.image(role),
            max_restarts,
            local_resources: Some(resources),
            ..Default::default()
        }
    }

    /// Returns a workload with one component that serves HTTP under the host name `host`.
    pub fn http_workload(&self, role: Role, host: &str, resources: LocalResources) -> Spec {
        workload(
            vec![self.component(role, resources)],
            vec![http_interface(host)],
        )
    }

    pub async fn start(&self, spec: Spec) -> Result<Instance, StartError> {
        self.start_with_reports(spec)
            .await
            .map(|(instance, _)| instance)
    }

    pub async fn start_with_reports(
        &self,
        spec: Spec,
    ) -> Result<(Instance, StatusReports), StartError> {
        let (reporter, reports) = StatusReporter::channel();
        let start = self.host.start(StartRequest::new("id", spec, reporter));
        Ok((within(start).await?, reports))
    }

    /// Starts a workload whose start must fail, and returns the message of the error. The error
    /// must be retryable, because no guest code has run.
    pub async fn start_error(&self, spec: Spec) -> String {
        match self.start(spec).await {
            Ok(_) => panic!("the workload was started"),
            Err(error) => {
                assert!(error.is_retryable());
                error.message().to_owned()
            }
        }
    }

    pub async fn get(&self, host: &str, path: &str) -> HttpResponse {
        within(crate::http::get(self.address, host, path)).await
    }
}

pub fn workload(components: Vec<Component>, host_interfaces: Vec<WitInterface>) -> Spec {
    Spec {
        namespace: "test".into(),
        name: "test".into(),
        wit_world: Some(WitWorld {
            components,
            host_interfaces,
        }),
        ..Default::default()
    }
}

/// Returns a declaration of the HTTP handler under the host name `host`.
pub fn http_interface(host: &str) -> WitInterface {
    let mut http = interface("wasi:http/incoming-handler");
    http.config.insert("host".into(), host.into());
    http
}

pub fn http_interface_with_aliases(host: &str, aliases: &str) -> WitInterface {
    let mut http = http_interface(host);
    http.config.insert("host-aliases".into(), aliases.into());
    http
}

pub fn interface(name: &str) -> WitInterface {
    let (package, interface) = name.split_once('/').unwrap();
    let (namespace, package) = package.split_once(':').unwrap();
    WitInterface {
        namespace: namespace.into(),
        package: package.into(),
        interfaces: vec![interface.into()],
        ..Default::default()
    }
}

/// Returns resources whose environment has only the variable `BEACON`. Roles that send beacons, or
/// connect to an address, read the address from this variable.
pub fn resources_with_beacon(beacon: &str) -> LocalResources {
    let environment = [("BEACON".to_owned(), beacon.to_owned())].into();
    LocalResources {
        environment,
        ..Default::default()
    }
}

/// Waits until the workload reports `state`.
pub async fn wait_for_report(reports: &mut StatusReports, state: ReportedState) -> StatusReport {
    within(async {
        loop {
            let report = reports
                .next()
                .await
                .expect("the workload reports the state before its reports end");
            if report.state == state {
                return report;
            }
        }
    })
    .await
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(STEP_TIMEOUT, future)
        .await
        .expect("the step finishes in time")
}
