//! A host on a free port, and a registry beside it that serves the roles.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use crate::guest;
use crate::registry::{Artifact, Registry};
use crate::role::Role;
use berth_host::config::Limits;
use berth_host::engine::Engine;
use berth_host::guest_runtime::GuestRuntime;
use berth_host::host::{BerthHost, Identity, Parts};
use berth_host::image::{Store, StoreOptions};
use berth_host::ingress::{Ingress, Server};
use berth_sdk::host::{Host, Refusal, Report, ReportedState, Reporter, Reports, Start};
use berth_sdk::proto::{
    Component, LocalResources, Service, WitInterface, WitWorld, Workload as Spec,
};

use crate::http::Answer;

/// Patience of a test: far more than anything takes that works.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Stage {
    pub host: BerthHost,
    pub registry: Registry,
    pub address: SocketAddr,
    _server: Server,
    _guests: GuestRuntime,
}

pub type Instance = <BerthHost as Host>::Instance;

impl Stage {
    pub async fn set() -> Self {
        let registry = Registry::start().await.unwrap();
        let options = StoreOptions {
            insecure_registries: [registry.authority().to_owned()].into(),
            ..StoreOptions::default()
        };
        let images = Store::new(options).unwrap();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let guests = GuestRuntime::start().unwrap();
        let (ingress, server) = Ingress::listen(loopback, guests.handle()).unwrap();
        let address = ingress.local_address();
        let (engine, limits) = (Engine::new().unwrap(), Limits::default());
        let handle = guests.handle().clone();
        let parts = Parts {
            engine,
            images,
            ingress: Some(ingress),
            limits,
            guests: handle,
        };
        let host = BerthHost::new(parts, Identity::default());
        Self {
            host,
            registry,
            address,
            _server: server,
            _guests: guests,
        }
    }

    /// The reference of a role's image, pushed.
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

    /// A workload of one component that serves HTTP under `host`.
    pub fn http(&self, role: Role, host: &str, resources: LocalResources) -> Spec {
        workload(
            vec![self.component(role, resources)],
            vec![http_interface(host, "")],
        )
    }

    pub async fn start(&self, spec: Spec) -> Result<Instance, Refusal> {
        self.start_reported(spec)
            .await
            .map(|(instance, _)| instance)
    }

    pub async fn start_reported(&self, spec: Spec) -> Result<(Instance, Reports), Refusal> {
        let (reporter, reports) = Reporter::channel();
        let start = self.host.start(Start::new("id", spec, reporter));
        Ok((within(start).await?, reports))
    }

    pub async fn refusal(&self, spec: Spec) -> String {
        match self.start(spec).await {
            Ok(_) => panic!("the workload was started"),
            Err(refusal) => {
                assert!(!refusal.guest_ran());
                refusal.message().to_owned()
            }
        }
    }

    pub async fn get(&self, host: &str, path: &str) -> Answer {
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

pub fn http_interface(host: &str, aliases: &str) -> WitInterface {
    let mut http = interface("wasi:http/incoming-handler");
    http.config.insert("host".into(), host.into());
    if !aliases.is_empty() {
        http.config.insert("host-aliases".into(), aliases.into());
    }
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

pub fn environment(value: &str) -> LocalResources {
    let environment = [("BEACON".to_owned(), value.to_owned())].into();
    LocalResources {
        environment,
        ..Default::default()
    }
}

/// Waits until the workload reports this state.
pub async fn reported(reports: &mut Reports, state: ReportedState) -> Report {
    within(async {
        loop {
            let report = reports.next().await.expect("reports end");
            if report.state == state {
                return report;
            }
        }
    })
    .await
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("in time")
}
