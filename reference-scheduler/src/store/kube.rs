//! Kubernetes as the store. The only place that knows of `kube` and `k8s_openapi`.
//!
//! Beside what the core asks for, it keeps what only Kubernetes has: the Lease that says which of
//! several schedulers acts, the EndpointSlices of Services that lead to workloads, and the finalizer
//! of Pods in which hosts run.

mod election;
mod error;
mod known;
mod lease;
mod notes;
mod object;
mod pods;
mod precedence;
mod queue;
mod routes;
mod watch;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1 as core_v1;
use kube::api::{Api, DynamicObject};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::{Semaphore, mpsc, watch as signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::known::Known;
use self::notes::Notes;
use self::precedence::Precedence;
use self::routes::Routes;
use super::{ReadError, Secret, Store, StoreEvent};
use crate::api::{Kind, Object};
use crate::breakage::Breakage;
use crate::config::KubeChoice;
use crate::core::{Note, Write, WriteError};

pub use self::lease::LeaseTimings;

/// The name under which this scheduler's fields are kept apart from those of others.
const FIELD_MANAGER: &str = "berth-scheduler";

/// How long the API server may take over one request that is no watch. Its own limit is 60 s; with
/// less, an object whose write hangs is tried again before people notice.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// How many writes are under way together. Each has a connection of its own for as long as it takes;
/// thousands at once would only wait for each other, and for the handshakes, at the API server.
const WRITES_TOGETHER: usize = 32;

/// How many of them create: what is there already is brought to an end before more is begun.
const CREATIONS_TOGETHER: usize = 16;

/// How many of them write counts, which under load change faster than they can be written: they give way to what is
/// counted.
const COUNTS_TOGETHER: usize = 2;

/// A store on Kubernetes. Clones share everything.
#[derive(Clone)]
pub struct KubeStore {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    choice: KubeChoice,
    known: Known,
    writing: Semaphore,
    creating: Semaphore,
    counting: Semaphore,
    precedence: Precedence,
    notes: Notes,
    routes: Routes,
    leading: signal::Receiver<bool>,
    end: CancellationToken,
    tasks: TaskTracker,
}

/// Why Kubernetes cannot be used as the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KubeError {
    /// The file does not say how to reach a cluster.
    #[error("the kubeconfig cannot be used")]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    /// Neither the environment nor the Pod says how.
    #[error("nothing says how to reach the API server")]
    NoConfig(#[source] kube::config::InferConfigError),
    /// There is no client for what they say.
    #[error("there is no client for the API server")]
    Client(#[source] kube::Error),
}

impl KubeStore {
    /// Finds the cluster and begins to stand for election. An API server that is not there yet is
    /// waited for. Goes on until [`close`](Store::close).
    ///
    /// # Errors
    /// When nothing says how to reach an API server.
    pub async fn open(choice: KubeChoice) -> Result<Self, KubeError> {
        // Both crypto providers of rustls may be linked in; kube asks for the process's default.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = match &choice.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path).map_err(KubeError::Kubeconfig)?;
                let options = KubeConfigOptions::default();
                Config::from_custom_kubeconfig(file, &options)
                    .await
                    .map_err(KubeError::Kubeconfig)?
            }
            None => Config::infer().await.map_err(KubeError::NoConfig)?,
        };
        // Retrying is done here: a write that may have been carried out must not be repeated blindly.
        config.default_retry = false;
        let client = Client::try_from(config).map_err(KubeError::Client)?;
        Ok(Self::with_client(client, choice, LeaseTimings::default()))
    }

    /// The same with a client that is there already. Must be called in a runtime.
    #[must_use]
    pub fn with_client(client: Client, mut choice: KubeChoice, timings: LeaseTimings) -> Self {
        if Breakage::TouchesEveryNamespace.is_on() {
            choice.watch_namespaces.clear();
        }
        let (identity, end, tasks) = (identity(), CancellationToken::new(), TaskTracker::new());
        let (election, leading) =
            election::stand(&client, &choice, &identity, timings, end.clone());
        let notes = Notes::new(client.clone(), identity);
        let (known, routes) = (Known::default(), Routes::default());
        let shared = Shared {
            client,
            choice,
            known,
            writing: Semaphore::new(WRITES_TOGETHER),
            creating: Semaphore::new(CREATIONS_TOGETHER),
            counting: Semaphore::new(COUNTS_TOGETHER),
            precedence: Precedence::default(),
            notes,
            routes,
            leading,
            end,
            tasks,
        };
        let store = Self {
            shared: Arc::new(shared),
        };
        // The other two end with the channel of the election.
        store.shared.tasks.spawn(election);
        store.shared.tasks.spawn(routes::keep(store.clone()));
        store.shared.tasks.spawn(pods::keep(store.clone()));
        store
    }

    fn api(&self, kind: Kind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(
            self.shared.client.clone(),
            namespace,
            &object::resource(kind),
        )
    }

    fn client(&self) -> Client {
        self.shared.client.clone()
    }
}

/// Names this process in the Lease and in Events: its Pod, or its machine, and something that no
/// other process has.
fn identity() -> String {
    let place = std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME"));
    format!(
        "{}_{}",
        place.unwrap_or_else(|_| FIELD_MANAGER.to_owned()),
        uuid::Uuid::new_v4()
    )
}

impl Store for KubeStore {
    fn watch(&self) -> mpsc::Receiver<StoreEvent> {
        watch::start(self.clone())
    }

    async fn write(&self, write: Write) -> Result<Object, WriteError> {
        self.carry_out(write).await
    }

    async fn config_map(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<BTreeMap<String, String>>, ReadError> {
        let maps: Api<core_v1::ConfigMap> = Api::namespaced(self.client(), namespace);
        let found = error::within(REQUEST_TIMEOUT, maps.get_opt(name)).await;
        Ok(found
            .map_err(|failure| failure.into_read())?
            .map(|map| map.data.unwrap_or_default()))
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, ReadError> {
        let secrets: Api<core_v1::Secret> = Api::namespaced(self.client(), namespace);
        let found = error::within(REQUEST_TIMEOUT, secrets.get_opt(name)).await;
        Ok(found
            .map_err(|failure| failure.into_read())?
            .map(|secret| Secret {
                kind: secret.type_.unwrap_or_default(),
                data: secret
                    .data
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(key, value)| (key, value.0))
                    .collect(),
            }))
    }

    async fn note(&self, note: Note) {
        self.shared.notes.publish(note).await;
    }

    fn leadership(&self) -> signal::Receiver<bool> {
        self.shared.leading.clone()
    }

    async fn close(&self) {
        self.shared.end.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}
