//! Kubernetes store. No other module depends on `kube` and `k8s_openapi`.
//!
//! Besides the objects of the core, the store maintains objects that exist only on Kubernetes: the
//! Lease for leader election, the EndpointSlices of Services that route to workloads, and the
//! finalizer of Pods that run hosts.

mod cache;
mod election;
mod error;
mod events;
mod lease;
mod object;
mod pods;
mod release;
mod retry_queue;
mod routes;
mod watch;
mod write;
mod write_priority;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1 as core_v1;
use kube::api::{Api, DynamicObject};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::{Semaphore, mpsc, watch as watch_channel};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::cache::Cache;
use self::events::EventPublisher;
use self::routes::Routes;
use self::write_priority::WritePriority;
use super::problems::ProblemLog;
use super::{Problems, Secret, Store, StoreEvent};
use crate::api::{Kind, Object};
use crate::config::KubeStoreConfig;
use crate::core::{ObjectEvent, StoreError, Write};
use crate::fault_injection::Breakage;

pub use self::lease::LeaseTimings;

/// Field manager of this scheduler.
const FIELD_MANAGER: &str = "berth-scheduler";

/// Timeout of one request, except watches: shorter than the 60 s of the API server, so that a write
/// that hangs is retried before users notice.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Maximum number of writes in flight, of all kinds together: low, because each write uses its own
/// connection, and thousands at once would only wait for each other, and for handshakes, at the API
/// server.
const WRITES_MAX: usize = 32;

/// Maximum number of creates in flight: lower than [`WRITES_MAX`], because work in progress takes
/// priority over new work.
const CREATES_MAX: usize = 16;

/// Maximum number of deferrable writes in flight: very low, because these are writes of counts,
/// which under load change faster than they can be written. They yield to writes of the counted
/// objects.
const DEFERRABLE_WRITES_MAX: usize = 2;

/// The Kubernetes store. Clones share all state.
#[derive(Clone)]
pub struct KubeStore {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    config: KubeStoreConfig,
    cache: Cache,
    write_permits: Semaphore,
    create_permits: Semaphore,
    deferrable_permits: Semaphore,
    write_priority: WritePriority,
    events: EventPublisher,
    routes: Routes,
    leadership: watch_channel::Receiver<bool>,
    problems: Mutex<ProblemLog>,
    published_problems: watch_channel::Receiver<Problems>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

/// Error of [`KubeStore::open`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KubeError {
    /// The kubeconfig file is invalid.
    #[error("invalid kubeconfig")]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    /// Neither the environment nor a service account has a configuration.
    #[error("no kubeconfig and no service account found")]
    NoConfig(#[source] kube::config::InferConfigError),
    /// The client cannot be created from the configuration.
    #[error("cannot create a client for the API server")]
    Client(#[source] kube::Error),
    /// The API server refused to release the Pods of hosts.
    #[error("cannot {action}: {reason}")]
    Release {
        /// Action that failed.
        action: String,
        /// Message of the API server.
        reason: String,
    },
}

impl KubeStore {
    /// Loads the configuration of the cluster and takes part in leader election until
    /// [`close`](Store::close). Does not wait for the API server: the election retries in the
    /// background.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no valid configuration of a cluster.
    pub async fn open(config: KubeStoreConfig) -> Result<Self, KubeError> {
        let client = client(&config).await?;
        Ok(Self::with_client(client, config, LeaseTimings::default()))
    }

    /// Opens the store with an existing client. Must be called in a Tokio runtime.
    #[must_use]
    pub fn with_client(client: Client, mut config: KubeStoreConfig, timings: LeaseTimings) -> Self {
        if Breakage::TouchesEveryNamespace.is_on() {
            config.watch_namespaces.clear();
        }
        let (identity, shutdown, tasks) =
            (identity(), CancellationToken::new(), TaskTracker::new());
        let (election, leadership) =
            election::start(&client, &config, &identity, timings, shutdown.clone());
        let events = EventPublisher::new(client.clone(), identity);
        let (cache, routes) = (Cache::default(), Routes::default());
        let (published, published_problems) = watch_channel::channel(Problems::default());
        let shared = Shared {
            client,
            config,
            cache,
            write_permits: Semaphore::new(WRITES_MAX),
            create_permits: Semaphore::new(CREATES_MAX),
            deferrable_permits: Semaphore::new(DEFERRABLE_WRITES_MAX),
            write_priority: WritePriority::default(),
            events,
            routes,
            leadership,
            problems: Mutex::new(ProblemLog::new(published)),
            published_problems,
            shutdown,
            tasks,
        };
        let store = Self {
            shared: Arc::new(shared),
        };
        // The tasks of the routes and of the Pods end when the election closes its channel.
        store.shared.tasks.spawn(election);
        store.shared.tasks.spawn(routes::run(store.clone()));
        store.shared.tasks.spawn(pods::run(store.clone()));
        store
    }

    fn api(&self, kind: Kind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(
            self.shared.client.clone(),
            namespace,
            &object::resource(kind),
        )
    }

    fn problems(&self) -> MutexGuard<'_, ProblemLog> {
        let problems = self.shared.problems.lock();
        problems.unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self) -> Client {
        self.shared.client.clone()
    }
}

/// Returns a client for the API server of the configuration.
async fn client(config: &KubeStoreConfig) -> Result<Client, KubeError> {
    // kube uses the default provider of the process, and more than one may be linked.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client_config = match &config.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(KubeError::Kubeconfig)?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(file, &options)
                .await
                .map_err(KubeError::Kubeconfig)?
        }
        None => Config::infer().await.map_err(KubeError::NoConfig)?,
    };
    // The store retries by itself: a write that may have taken effect must not simply be
    // repeated.
    client_config.default_retry = false;
    Client::try_from(client_config).map_err(KubeError::Client)
}

/// Returns the identity of this process in the Lease and in Events: the name of its Pod or machine,
/// and a UUID.
fn identity() -> String {
    let name = std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME"));
    format!(
        "{}_{}",
        name.unwrap_or_else(|_| FIELD_MANAGER.to_owned()),
        uuid::Uuid::new_v4()
    )
}

impl Store for KubeStore {
    fn watch(&self) -> mpsc::Receiver<StoreEvent> {
        watch::start(self.clone())
    }

    async fn write(&self, write: Write) -> Result<Object, StoreError> {
        self.execute(write).await
    }

    async fn config_map(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<BTreeMap<String, String>>, StoreError> {
        let maps: Api<core_v1::ConfigMap> = Api::namespaced(self.client(), namespace);
        let found = error::with_timeout(REQUEST_TIMEOUT, maps.get_opt(name)).await;
        Ok(found
            .map_err(StoreError::from)?
            .map(|map| map.data.unwrap_or_default()))
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, StoreError> {
        let secrets: Api<core_v1::Secret> = Api::namespaced(self.client(), namespace);
        let found = error::with_timeout(REQUEST_TIMEOUT, secrets.get_opt(name)).await;
        Ok(found.map_err(StoreError::from)?.map(|secret| Secret {
            kind: secret.type_.unwrap_or_default(),
            data: secret
                .data
                .unwrap_or_default()
                .into_iter()
                .map(|(key, value)| (key, value.0))
                .collect(),
        }))
    }

    async fn record_event(&self, event: ObjectEvent) {
        self.shared.events.publish(event).await;
    }

    fn leadership(&self) -> watch_channel::Receiver<bool> {
        self.shared.leadership.clone()
    }

    fn problems(&self) -> watch_channel::Receiver<Problems> {
        self.shared.published_problems.clone()
    }

    async fn close(&self) {
        self.shared.shutdown.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}
