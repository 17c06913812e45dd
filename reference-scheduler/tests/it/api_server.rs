//! A real Kubernetes API server for tests: etcd, kube-apiserver and kube-controller-manager as child
//! processes on random ports of the loopback, in a temporary directory, gone with the last test that
//! uses them.

use std::fmt::Write as _;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use berth_scheduler::api::{GROUP, Kind, VERSION};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersion};
use kube::{Client, Config};

/// How long the processes may take to be ready. On a machine with nothing else to do it is 4 s.
const START_PATIENCE: Duration = Duration::from_secs(180);

/// How often a start is tried: another process may have taken a port that was free a moment ago.
const START_TRIES: usize = 3;

const DEFINITIONS: [&str; 5] = [
    include_str!("../../../deploy/crds/artifacts.yaml"),
    include_str!("../../../deploy/crds/hosts.yaml"),
    include_str!("../../../deploy/crds/workloaddeployments.yaml"),
    include_str!("../../../deploy/crds/workloadreplicasets.yaml"),
    include_str!("../../../deploy/crds/workloads.yaml"),
];

/// The running server. Tests that run at the same time share one, each in namespaces of its own.
pub struct ApiServer {
    programs: PathBuf,
    dir: tempfile::TempDir,
    // In the order in which they are killed.
    children: Vec<Child>,
    namespaces: AtomicU32,
}

static SHARED: Mutex<Weak<ApiServer>> = Mutex::new(Weak::new());

impl ApiServer {
    /// The server that is there, or a new one.
    ///
    /// # Panics
    /// When the programs are not there: such a test is never skipped.
    pub fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let mut reasons = String::new();
        for _ in 0..START_TRIES {
            match Self::start() {
                Ok(server) => {
                    let server = Arc::new(server);
                    *shared = Arc::downgrade(&server);
                    return server;
                }
                Err(reason) => writeln!(reasons, "{reason}").expect("a string"),
            }
        }
        panic!("there is no API server:\n{reasons}");
    }

    fn start() -> Result<Self, String> {
        let programs = programs();
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut server = Self {
            programs,
            dir,
            children: Vec::new(),
            namespaces: AtomicU32::new(0),
        };
        let [client_port, peer_port, api_port] = free_ports();
        server.write_credentials(api_port);
        server.spawn(
            "etcd",
            &etcd_flags(server.dir.path(), client_port, peer_port),
        );
        server.spawn(
            "kube-apiserver",
            &api_server_flags(server.dir.path(), client_port, api_port),
        );
        // A thread with a runtime of its own: whoever calls may already be in one.
        let ready = std::thread::scope(|scope| {
            let prepare = || runtime().block_on(server.prepare());
            scope
                .spawn(prepare)
                .join()
                .unwrap_or_else(|_| Err("the preparation panicked".to_owned()))
        });
        ready.map_err(|reason| format!("{reason}\n{}", server.last_words()))?;
        let kubeconfig = server.kubeconfig();
        server.spawn("kube-controller-manager", &controller_flags(&kubeconfig));
        Ok(server)
    }

    /// A file with everything to reach it as an administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
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
        let path = self
            .dir
            .path()
            .join(format!("kubeconfig-{}", user.replace(':', "-")));
        std::fs::write(&path, config.to_string()).expect("a file");
        path
    }

    /// What `kubectl` prints; it has to succeed.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(self.programs.join("kubectl"));
        command
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(arguments);
        self.printed(command)
    }

    /// What `helm` prints; it has to succeed.
    pub fn helm(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(self.programs.join("helm"));
        command.args(arguments);
        self.printed(command)
    }

    fn printed(&self, mut command: Command) -> String {
        let output = command
            .env("HOME", self.dir.path())
            .output()
            .expect("it runs");
        assert!(
            output.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until the server answers, and makes the definitions of ours known to it.
    async fn prepare(&self) -> Result<(), String> {
        let deadline = Instant::now() + START_PATIENCE;
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

    fn spawn(&mut self, name: &str, flags: &[String]) {
        let log = |kind: &str| {
            File::create(self.dir.path().join(format!("{name}.{kind}"))).expect("a log")
        };
        let mut command = Command::new(self.programs.join(name));
        command
            .args(flags)
            .stdin(Stdio::null())
            .stdout(log("out"))
            .stderr(log("err"));
        command.current_dir(self.dir.path()).env_clear();
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        self.children.insert(0, child);
    }

    /// A certificate for the server, keys to sign tokens with, a token of an administrator.
    fn write_credentials(&self, port: u16) {
        let serving =
            rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let signing = rcgen::KeyPair::generate().expect("a key");
        let token = uuid::Uuid::new_v4();
        let kubeconfig = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{port}"),
                "certificate-authority": self.dir.path().join("serving.crt"),
            }}],
            "users": [{"name": "admin", "user": {"token": token.to_string()}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        });
        for (file, text) in [
            ("serving.crt", serving.cert.pem()),
            ("serving.key", serving.signing_key.serialize_pem()),
            ("signing.key", signing.serialize_pem()),
            ("signing.pub", signing.public_key_pem()),
            (
                "tokens.csv",
                format!("{token},admin,admin,system:masters\n"),
            ),
            ("kubeconfig", kubeconfig.to_string()),
        ] {
            std::fs::write(self.dir.path().join(file), text).expect("a file");
        }
    }

    /// The ends of the logs, for whoever has to find out.
    fn last_words(&self) -> String {
        let mut words = String::new();
        for name in ["etcd", "kube-apiserver"] {
            let log = std::fs::read_to_string(self.dir.path().join(format!("{name}.err")))
                .unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(8).collect();
            words.extend(lines.iter().rev().map(|line| format!("{name}: {line}\n")));
        }
        words
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
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

fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}

fn etcd_flags(dir: &Path, client_port: u16, peer_port: u16) -> Vec<String> {
    vec![
        format!("--data-dir={}", dir.join("etcd").display()),
        format!("--listen-client-urls=http://127.0.0.1:{client_port}"),
        format!("--advertise-client-urls=http://127.0.0.1:{client_port}"),
        format!("--listen-peer-urls=http://127.0.0.1:{peer_port}"),
        format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer_port}"),
        format!("--initial-cluster=default=http://127.0.0.1:{peer_port}"),
        // Nothing here has to outlive the test.
        "--unsafe-no-fsync".to_owned(),
    ]
}

fn api_server_flags(dir: &Path, etcd_port: u16, port: u16) -> Vec<String> {
    let file = |name: &str| dir.join(name).display().to_string();
    vec![
        format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        format!("--secure-port={port}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--cert-dir={}", file("certs")),
        format!("--tls-cert-file={}", file("serving.crt")),
        format!("--tls-private-key-file={}", file("serving.key")),
        format!("--token-auth-file={}", file("tokens.csv")),
        "--authorization-mode=RBAC".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-signing-key-file={}", file("signing.key")),
        format!("--service-account-key-file={}", file("signing.pub")),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        // As strict as clusters come: an owner reference that blocks deletion takes a permission.
        "--enable-admission-plugins=OwnerReferencesPermissionEnforcement".to_owned(),
        // There is no controller here that would make the accounts that Pods need.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
    ]
}

fn controller_flags(kubeconfig: &Path) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        "--controllers=garbage-collector-controller,namespace-controller".to_owned(),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
    ]
}
