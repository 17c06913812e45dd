//! A real Kubernetes API server for tests, with the garbage collector and the definitions of ours, gone with the last
//! test that uses it.

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

/// How long it may take until a server that is ready knows our definitions. On a machine with nothing else to do it
/// is a second.
const DEFINITIONS_PATIENCE: Duration = Duration::from_secs(60);

/// How long the garbage collector may take to begin. On a machine with nothing else to do it is a second.
const GARBAGE_PATIENCE: Duration = Duration::from_secs(180);

const DEFINITIONS: [&str; 5] = [
    include_str!("../../../deploy/crds/artifacts.yaml"),
    include_str!("../../../deploy/crds/hosts.yaml"),
    include_str!("../../../deploy/crds/workloaddeployments.yaml"),
    include_str!("../../../deploy/crds/workloadreplicasets.yaml"),
    include_str!("../../../deploy/crds/workloads.yaml"),
];

/// The running server. Tests that run at the same time share one, each in namespaces of its own.
pub struct ApiServer {
    plane: ControlPlane,
    namespaces: AtomicU32,
}

static SHARED: Mutex<Weak<ApiServer>> = Mutex::new(Weak::new());

impl ApiServer {
    /// The server that is there, or a new one.
    ///
    /// # Panics
    /// When the programs are not there: such a test is never skipped.
    pub fn shared() -> Arc<Self> {
        control_plane::shared(&SHARED, Self::start)
    }

    fn start() -> Result<Self, String> {
        let mut server = Self {
            plane: ControlPlane::start(programs())?,
            namespaces: AtomicU32::new(0),
        };
        server.wait_for(Self::prepare)?;
        let flags = controller_flags(&server.kubeconfig());
        server.plane.spawn("kube-controller-manager", &flags);
        server.wait_for(Self::collect_garbage)?;
        Ok(server)
    }

    /// In a thread with a runtime of its own: whoever calls may already be in one.
    fn wait_for(
        &self,
        what: impl AsyncFn(&Self) -> Result<(), String> + Send,
    ) -> Result<(), String> {
        let ready = std::thread::scope(|scope| {
            let wait = move || runtime().block_on(what(self));
            scope
                .spawn(wait)
                .join()
                .unwrap_or_else(|_| Err("the preparation panicked".to_owned()))
        });
        ready.map_err(|reason| format!("{reason}\n{}", self.plane.last_words()))
    }

    /// A file with everything to reach it as an administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.plane.kubeconfig()
    }

    /// A client for it, for the runtime of the caller.
    pub async fn client(&self) -> Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let file = Kubeconfig::read_from(self.kubeconfig()).expect("a kubeconfig");
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(file, &options)
            .await
            .expect("a configuration");
        Client::try_from(config).expect("a client")
    }

    /// A new namespace that nobody else uses.
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

    /// A file to reach it as `user`, with the rights of that user and no others.
    pub fn kubeconfig_as(&self, user: &str) -> PathBuf {
        let text = std::fs::read_to_string(self.kubeconfig()).expect("a kubeconfig");
        let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        config["users"][0]["user"]["as"] = user.into();
        let name = format!("kubeconfig-{}", user.replace(':', "-"));
        let path = self.plane.dir().join(name);
        std::fs::write(&path, config.to_string()).expect("a file");
        path
    }

    /// What `kubectl` prints; it has to succeed.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.plane.must(arguments, "")
    }

    /// What `helm` prints; it has to succeed.
    pub fn helm(&self, arguments: &[&str]) -> String {
        self.plane.helm(arguments)
    }

    /// Makes the definitions of ours known to the server.
    async fn prepare(&self) -> Result<(), String> {
        let deadline = Instant::now() + DEFINITIONS_PATIENCE;
        let client = self.client().await;
        let mut pause = tokio::time::interval(Duration::from_millis(50));
        loop {
            pause.tick().await;
            match self.try_prepare(&client).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) if Instant::now() > deadline => return Err(error.to_string()),
                Err(_) => {}
            }
            if Instant::now() > deadline {
                return Err("the definitions are not established".to_owned());
            }
        }
    }

    async fn try_prepare(&self, client: &Client) -> Result<bool, kube::Error> {
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        let parameters = PatchParams::apply("test").force();
        let mut is_ready = true;
        for yaml in DEFINITIONS {
            let definition: CustomResourceDefinition = serde_saphyr::from_str(yaml).expect("YAML");
            let name = definition.metadata.name.clone().expect("a name");
            let there = definitions
                .patch(&name, &parameters, &Patch::Apply(&definition))
                .await?;
            let conditions = there
                .status
                .and_then(|status| status.conditions)
                .unwrap_or_default();
            is_ready &= conditions
                .iter()
                .any(|entry| entry.type_ == "Established" && entry.status == "True");
        }
        // Just after that, the server answers 429 for a moment.
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

/// The kinds of ours that have owners.
const GARBAGE: [&str; 3] = ["WorkloadReplicaSet", "Workload", "Artifact"];

impl ApiServer {
    /// Waits until what has lost its owner is taken away. On a busy machine the garbage collector needs a minute or two for
    /// its first look at all kinds, and until then whoever relies on it seems to do nothing.
    async fn collect_garbage(&self) -> Result<(), String> {
        let client = self.client().await;
        let text = |error: kube::Error| error.to_string();
        let owner = garbage(&client, "WorkloadDeployment", None)
            .await
            .map_err(text)?;
        for kind in GARBAGE {
            garbage(&client, kind, owner.metadata.uid.as_deref())
                .await
                .map_err(text)?;
        }
        let (name, background) = ("garbage", DeleteParams::background());
        let owners = objects(&client, "WorkloadDeployment");
        owners.delete(name, &background).await.map_err(text)?;
        let deadline = Instant::now() + GARBAGE_PATIENCE;
        let mut pause = tokio::time::interval(Duration::from_millis(100));
        for kind in GARBAGE {
            while objects(&client, kind)
                .get_opt(name)
                .await
                .map_err(text)?
                .is_some()
            {
                if Instant::now() > deadline {
                    return Err(format!("the garbage collector leaves a {kind} behind"));
                }
                pause.tick().await;
            }
        }
        Ok(())
    }
}

async fn garbage(
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

/// Those in the namespace that is always there.
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

/// The folder with the programs: the one that `KUBEBUILDER_ASSETS` names, as `cargo xtask test` sets
/// it, or the one that it has built earlier.
fn programs() -> PathBuf {
    let named = std::env::var_os("KUBEBUILDER_ASSETS")
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
    named.filter(|dir| is_complete(dir)).or_else(built).unwrap_or_else(|| {
        panic!("no kube-apiserver: run `cargo xtask test`, which builds one, or set KUBEBUILDER_ASSETS")
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
