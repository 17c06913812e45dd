//! A Kubernetes API server for tests, with the garbage collector and the CRDs of this repository.
//! The server is stopped after the last test that uses it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use berth_scheduler::api::{GROUP, Kind, VERSION};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersion};
use kube::{Client, Config};
use serde_json::json;

use crate::control_plane::{self, ControlPlane};

/// Deadline for a ready server to establish the CRDs. On an idle machine this takes 1 s.
const CRDS_TIMEOUT: Duration = Duration::from_secs(60);

/// Deadline for the garbage collector to start working. On an idle machine this takes 1 s.
const GARBAGE_TIMEOUT: Duration = Duration::from_secs(180);

const CRDS: [&str; 5] = [
    include_str!("../../../deploy/crds/artifacts.yaml"),
    include_str!("../../../deploy/crds/hosts.yaml"),
    include_str!("../../../deploy/crds/workloaddeployments.yaml"),
    include_str!("../../../deploy/crds/workloadreplicasets.yaml"),
    include_str!("../../../deploy/crds/workloads.yaml"),
];

/// A running server. Tests that run at the same time share one, each in its own namespace.
pub struct ApiServer {
    plane: ControlPlane,
    namespaces: AtomicU32,
}

static SHARED: Mutex<Weak<ApiServer>> = Mutex::new(Weak::new());

impl ApiServer {
    /// Returns the shared server, or starts it.
    ///
    /// # Panics
    ///
    /// Panics if the programs are missing, because a test without them must fail and not be
    /// skipped.
    pub fn shared() -> Arc<Self> {
        control_plane::shared(&SHARED, Self::start)
    }

    fn start() -> Result<Self, String> {
        let mut server = Self {
            plane: ControlPlane::start(programs())?,
            namespaces: AtomicU32::new(0),
        };
        server.block_on(Self::install_crds)?;
        let flags = controller_flags(&server.kubeconfig());
        server.plane.spawn("kube-controller-manager", &flags);
        server.block_on(Self::wait_for_garbage_collector)?;
        Ok(server)
    }

    /// Runs a preparation in a thread with its own runtime, because the caller may be in a runtime.
    fn block_on(
        &self,
        preparation: impl AsyncFn(&Self) -> Result<(), String> + Send,
    ) -> Result<(), String> {
        let ready = std::thread::scope(|scope| {
            let wait = move || runtime().block_on(preparation(self));
            scope
                .spawn(wait)
                .join()
                .unwrap_or_else(|_| Err("the preparation panicked".to_owned()))
        });
        ready.map_err(|reason| format!("{reason}\n{}", self.plane.log_tails()))
    }

    /// Returns the path of a kubeconfig for an administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.plane.kubeconfig()
    }

    /// Returns a client for the runtime of the caller.
    pub async fn client(&self) -> Client {
        client_of(&self.kubeconfig()).await
    }

    /// Returns a client with only the permissions of `user`.
    pub async fn client_as(&self, user: &str) -> Client {
        client_of(&self.kubeconfig_as(user)).await
    }

    /// Creates a namespace.
    pub async fn namespace(&self, client: &Client) -> String {
        let name = format!("test-{}", self.namespaces.fetch_add(1, Ordering::Relaxed));
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.clone());
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .expect("a namespace");
        name
    }

    /// Returns the path of a kubeconfig for `user`, with only the permissions of that user.
    pub fn kubeconfig_as(&self, user: &str) -> PathBuf {
        let text = std::fs::read_to_string(self.kubeconfig()).expect("a kubeconfig");
        let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        config["users"][0]["user"]["as"] = user.into();
        let name = format!("kubeconfig-{}", user.replace(':', "-"));
        let path = self.plane.dir().join(name);
        std::fs::write(&path, config.to_string()).expect("a file");
        path
    }

    /// Runs `kubectl`, which must succeed, and returns its output.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.plane.kubectl_ok(arguments, "")
    }

    /// Runs `helm`, which must succeed, and returns its output.
    pub fn helm(&self, arguments: &[&str]) -> String {
        self.plane.helm(arguments)
    }

    /// Installs the CRDs of this repository and waits until they are established.
    async fn install_crds(&self) -> Result<(), String> {
        let deadline = Instant::now() + CRDS_TIMEOUT;
        let client = self.client().await;
        let mut interval = tokio::time::interval(Duration::from_millis(50));
        loop {
            interval.tick().await;
            match self.try_install_crds(&client).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) if Instant::now() > deadline => return Err(error.to_string()),
                Err(_) => {}
            }
            if Instant::now() > deadline {
                return Err("the CRDs are not established".to_owned());
            }
        }
    }

    async fn try_install_crds(&self, client: &Client) -> Result<bool, kube::Error> {
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        let parameters = PatchParams::apply("test").force();
        let mut is_ready = true;
        for yaml in CRDS {
            let definition: CustomResourceDefinition = serde_saphyr::from_str(yaml).expect("YAML");
            let name = definition.metadata.name.clone().expect("a name");
            let stored = definitions
                .patch(&name, &parameters, &Patch::Apply(&definition))
                .await?;
            let conditions = stored
                .status
                .and_then(|status| status.conditions)
                .unwrap_or_default();
            is_ready &= conditions
                .iter()
                .any(|entry| entry.type_ == "Established" && entry.status == "True");
        }
        // Right after the CRDs are established, the server responds with 429 for a short time.
        for kind in Kind::ALL {
            let version = GroupVersion::gv(GROUP, VERSION);
            let resource =
                ApiResource::from_gvk_with_plural(&version.with_kind(kind.as_str()), kind.plural());
            let objects: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            objects.list(&ListParams::default().limit(1)).await?;
        }
        Ok(is_ready)
    }
}

async fn client_of(kubeconfig: &Path) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let file = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(file, &options)
        .await
        .expect("a configuration");
    Client::try_from(config).expect("a client")
}

/// The kinds of this repository that have owners.
const OWNED_KINDS: [&str; 3] = ["WorkloadReplicaSet", "Workload", "Artifact"];

impl ApiServer {
    /// Waits until the garbage collector deletes objects without an owner. On a busy machine its
    /// first scan of all kinds takes a minute or two, during which tests that depend on it would
    /// fail.
    async fn wait_for_garbage_collector(&self) -> Result<(), String> {
        let client = self.client().await;
        let text = |error: kube::Error| error.to_string();
        let owner = create_garbage(&client, "WorkloadDeployment", None)
            .await
            .map_err(text)?;
        for kind in OWNED_KINDS {
            create_garbage(&client, kind, owner.metadata.uid.as_deref())
                .await
                .map_err(text)?;
        }
        let (name, background) = ("garbage", DeleteParams::background());
        let owners = objects(&client, "WorkloadDeployment");
        owners.delete(name, &background).await.map_err(text)?;
        let deadline = Instant::now() + GARBAGE_TIMEOUT;
        let mut interval = tokio::time::interval(Duration::from_millis(100));
        for kind in OWNED_KINDS {
            while objects(&client, kind)
                .get_opt(name)
                .await
                .map_err(text)?
                .is_some()
            {
                if Instant::now() > deadline {
                    return Err(format!("the garbage collector does not delete a {kind}"));
                }
                interval.tick().await;
            }
        }
        Ok(())
    }
}

/// Creates an object for the garbage collector to delete, or its owner.
async fn create_garbage(
    client: &Client,
    kind: &str,
    owner: Option<&str>,
) -> Result<DynamicObject, kube::Error> {
    let version = format!("{GROUP}/{VERSION}");
    let owner = owner.map(|uid| {
        json!([{"apiVersion": version, "kind": "WorkloadDeployment", "name": "garbage", "uid": uid}])
    });
    let workload = json!({"components": [{"name": "main", "image": "registry.example/a:1"}]});
    let spec = match kind {
        "Artifact" => json!({"image": "registry.example/a:1"}),
        "Workload" => workload,
        _ => json!({"replicas": 0, "template": {"spec": workload}}),
    };
    let object = json!({
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": "garbage", "ownerReferences": owner},
        "spec": spec,
    });
    let object: DynamicObject = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
    objects(client, kind)
        .create(&PostParams::default(), &object)
        .await
}

/// Returns the API of a kind in the namespace `default`.
fn objects(client: &Client, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersion::gv(GROUP, VERSION).with_kind(kind));
    Api::namespaced_with(client.clone(), "default", &resource)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Returns the directory with the programs: `KUBEBUILDER_ASSETS`, which `cargo xtask test` sets, or
/// a directory that an earlier `cargo xtask test` has built.
fn programs() -> PathBuf {
    let from_env = std::env::var_os("KUBEBUILDER_ASSETS")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from);
    let is_complete = |dir: &Path| {
        [
            "etcd",
            "kube-apiserver",
            "kube-controller-manager",
            "kubectl",
            "helm",
        ]
        .iter()
        .all(|name| dir.join(name).is_file())
    };
    let built = || {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache =
            cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
        let entries = std::fs::read_dir(cache.join("berth")).ok()?;
        let mut dirs: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        dirs.sort();
        dirs.into_iter().find(|dir| is_complete(dir))
    };
    from_env.filter(|dir| is_complete(dir)).or_else(built).unwrap_or_else(|| {
        panic!("kube-apiserver not found: run `cargo xtask test`, which builds it, or set KUBEBUILDER_ASSETS")
    })
}

fn controller_flags(kubeconfig: &Path) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        "--controllers=garbage-collector-controller,namespace-controller".to_owned(),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
    ]
}
