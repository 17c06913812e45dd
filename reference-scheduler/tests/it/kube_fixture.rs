//! Test fixture: a Kubernetes store in its own namespace of an API server.

use std::sync::Arc;
use std::time::Duration;

use berth_scheduler::api::{
    Artifact, ArtifactSpec, Condition, ConditionStatus, Host, Metadata, Object, Workload,
    WorkloadStatus,
};
use berth_scheduler::config::KubeStoreConfig;
use berth_scheduler::core::{Status, Write};
use berth_scheduler::store::kube::{KubeStore, LeaseTimings};
use berth_scheduler::store::{Store, StoreEvent};
use kube::Client;
use kube::api::Api;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::api_server::ApiServer;

/// Deadline of a test step: on a busy machine the garbage collector needs a minute to start
/// working.
pub const TIMEOUT: Duration = Duration::from_secs(180);

pub struct KubeFixture {
    pub server: Arc<ApiServer>,
    pub client: Client,
    pub namespace: String,
    pub store: KubeStore,
}

impl KubeFixture {
    pub async fn new() -> Self {
        let server = ApiServer::shared();
        let client = server.client().await;
        let namespace = server.namespace(&client).await;
        let leader_elect = false;
        let store = KubeStore::with_client(
            client.clone(),
            config(&namespace, leader_elect),
            LeaseTimings::default(),
        );
        Self {
            server,
            client,
            namespace,
            store,
        }
    }

    pub fn artifact(&self, name: &str) -> Object {
        let spec = ArtifactSpec {
            image: "registry.example/a:1".to_owned(),
            ..ArtifactSpec::default()
        };
        let metadata = Metadata::named(self.namespace.as_str(), name);
        Object::Artifact(Arc::new(Artifact {
            metadata,
            spec,
            ..Artifact::default()
        }))
    }

    pub fn workload(&self, name: &str) -> Object {
        let mut workload = Workload {
            metadata: Metadata::named(self.namespace.as_str(), name),
            ..Workload::default()
        };
        workload.spec.kubernetes =
            Some(serde_json::from_value(json!({"service": {"name": "web"}})).expect("a Service"));
        Object::Workload(Arc::new(workload))
    }

    pub fn host(&self, name: &str, hostname: &str) -> Object {
        let host = Host {
            metadata: Metadata::named(self.namespace.as_str(), name),
            host_id: format!("id-of-{name}"),
            hostname: hostname.to_owned(),
            http_port: 9191,
            environment: "demo".to_owned(),
            ..Host::default()
        };
        Object::Host(Arc::new(host))
    }

    pub async fn write(&self, write: Write) -> Object {
        self.store.write(write).await.expect("the write succeeds")
    }

    pub async fn create(&self, object: Object) -> Object {
        self.write(Write::Create(object)).await
    }

    pub async fn raw(&self, kind: &str, name: &str) -> Value {
        let text = self
            .server
            .kubectl(&["-n", &self.namespace, "get", kind, name, "-o", "json"]);
        serde_json::from_str(&text).expect("JSON")
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Writes a status that assigns a workload to a host and reports it as ready.
    pub async fn assign_ready(&self, object: &Object, host_id: &str) {
        self.assign(object, host_id, ConditionStatus::True).await;
    }

    /// Writes a status that assigns a workload to a host and reports it as not ready.
    pub async fn assign_unready(&self, object: &Object, host_id: &str) {
        self.assign(object, host_id, ConditionStatus::False).await;
    }

    async fn assign(&self, object: &Object, host_id: &str, ready: ConditionStatus) {
        let mut ready = Condition::new("Ready", ready, "Test", "");
        ready.last_transition_time = Some("2026-01-02T03:04:05Z".parse().expect("a time"));
        let status = WorkloadStatus {
            host_id: host_id.to_owned(),
            conditions: vec![ready],
            ..WorkloadStatus::default()
        };
        self.write(Write::status(
            object.key(),
            uid(object),
            Status::Workload(status),
        ))
        .await;
    }
}

pub fn config(namespace: &str, leader_elect: bool) -> KubeStoreConfig {
    KubeStoreConfig {
        namespace: namespace.to_owned(),
        watch_namespaces: vec![namespace.to_owned()],
        leader_elect,
        ..KubeStoreConfig::default()
    }
}

pub fn uid(object: &Object) -> String {
    object.metadata().uid.clone()
}

/// Waits for the next event of an object with this name.
pub async fn next_event_of(events: &mut mpsc::Receiver<StoreEvent>, name: &str) -> StoreEvent {
    let wanted = async {
        loop {
            let event = events.recv().await.expect("the watch is open");
            let is_wanted = match &event {
                StoreEvent::Applied(object) => object.metadata().name == name,
                StoreEvent::Removed { key, .. } => &*key.name == name,
                StoreEvent::Synced => false,
            };
            if is_wanted {
                return event;
            }
        }
    };
    tokio::time::timeout(TIMEOUT, wanted)
        .await
        .unwrap_or_else(|_| panic!("timed out waiting for an event of {name}"))
}

/// Polls `find` until it returns a value; panics with `description` at the deadline.
pub async fn eventually<T>(description: &str, find: impl AsyncFn() -> Option<T>) -> T {
    let wait = async {
        let mut interval = tokio::time::interval(Duration::from_millis(50));
        loop {
            interval.tick().await;
            if let Some(value) = find().await {
                return value;
            }
        }
    };
    tokio::time::timeout(TIMEOUT, wait)
        .await
        .unwrap_or_else(|_| panic!("timed out waiting for {description}"))
}
