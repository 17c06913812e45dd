//! Measures a burst: a hundred deployments of ten replicas each, created concurrently on fifty
//! simulated hosts, through the API server in `KUBECONFIG`. Prints one line of JSON. Run it with
//! `cargo xtask bench scheduler`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement may panic"
)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::TcpListener;
use std::pin::pin;
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::DynamicResourceScope;
use kube::core::{ApiResource, GroupVersionKind, Object};
use kube::runtime::watcher::{self, watcher};
use kube::{Client, Config, Resource};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

const HOSTS: usize = 50;
const DEPLOYMENTS: usize = 100;
const REPLICAS: usize = 10;
const WORKLOADS: usize = DEPLOYMENTS * REPLICAS;
/// Maximum number of requests in flight of one client: of the minimal client in its concurrent run,
/// and of the client that creates the deployments.
const IN_FLIGHT: usize = 16;
/// Time limit of each watch.
const WATCH_TIMEOUT: Duration = Duration::from_secs(300);
const GROUP: &str = "runtime.wasmcloud.dev";

#[tokio::main]
async fn main() {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [scheduler, conformance, nats_server] = arguments.as_slice() else {
        eprintln!("usage: KUBECONFIG=FILE burst BERTH_SCHEDULER BERTH_CONFORMANCE NATS_SERVER");
        std::process::exit(2);
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::try_from(Config::infer().await.expect("a kubeconfig")).expect("a client");
    let cluster = Cluster { client };
    let sequential = cluster.create_all("sequential", 1).await;
    let concurrent = cluster.create_all("concurrent", IN_FLIGHT).await;
    cluster.create_namespace("burst").await;
    let port = free_port();
    let url = format!("nats://127.0.0.1:{port}");
    let _broker = spawn(
        nats_server,
        &["-a", "127.0.0.1", "-p", &port, "-l", "/dev/null"],
    );
    let hosts = HOSTS.to_string();
    let fleet = ["fleet", "--quiet", "--nats-url", &url, "--hosts", &hosts];
    let _fleet = spawn(conformance, &fleet);
    let mut flags = vec![
        "--store",
        "kube",
        "--nats-url",
        &url,
        "--namespace",
        "burst",
    ];
    flags.extend(["--watch-namespaces", "burst", "--leader-elect=false"]);
    flags.extend(["--log-level", "warn"]);
    flags.extend(["--metrics-bind-address=0", "--health-probe-bind-address=0"]);
    let _scheduler = spawn(scheduler, &flags);
    let registered = |observed: &Observed| observed.len() == HOSTS;
    cluster.watch("burst", "Host", registered).await;

    let before = cluster.requests().await;
    let started_at = Instant::now();
    let all_ready = |observed: &Observed| {
        observed.len() == WORKLOADS && observed.values().all(Status::is_ready)
    };
    let (observed, ()) = tokio::join!(
        cluster.watch("burst", "Workload", all_ready),
        cluster.create("burst", (0..DEPLOYMENTS).map(deployment), IN_FLIGHT),
    );
    let ready = started_at.elapsed();
    let requests = cluster.requests().await.since(&before);
    let writes = requests.writes() - DEPLOYMENTS as u64;
    let mut per_host: BTreeMap<&str, usize> = BTreeMap::new();
    for status in observed.values() {
        *per_host.entry(&status.host_id).or_default() += 1;
    }
    let used_hosts = per_host.len();
    let min = per_host.values().min().filter(|_| used_hosts == HOSTS);
    let line = json!({
        "sequential_ms": sequential.as_millis() as u64,
        "concurrent_ms": concurrent.as_millis() as u64,
        "ready_ms": ready.as_millis() as u64,
        "writes_per_workload": writes as f64 / WORKLOADS as f64,
        "conflicts": requests.conflicts(),
        "max_per_host": per_host.values().max().unwrap_or(&0),
        "min_per_host": min.unwrap_or(&0),
    });
    for (request, count) in &requests.0 {
        eprintln!("{count:>6}  {request:?}");
    }
    println!("{line}");
}

/// The objects of a watch, by name.
type Observed = BTreeMap<String, Status>;

/// The fields of a status that the measurement needs. Decoding more would distort the measurement.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    host_id: String,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Deserialize)]
struct Condition {
    r#type: String,
    status: String,
}

impl Status {
    fn is_ready(&self) -> bool {
        let mut conditions = self.conditions.iter();
        let ready = conditions.find(|condition| condition.r#type == "Ready");
        ready.is_some_and(|ready| ready.status == "True")
    }
}

/// An object with its metadata and these fields only.
type Watched = Object<Option<IgnoredAny>, Status>;

struct Cluster {
    client: Client,
}

impl Cluster {
    async fn create_namespace(&self, name: &str) {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.to_owned());
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let parameters = PostParams::default();
        let created = namespaces.create(&parameters, &namespace).await;
        created.expect("a namespace");
    }

    fn api<K>(&self, namespace: &str, kind: &str) -> Api<K>
    where
        K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
    {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1alpha1", kind));
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }

    /// Measures a minimal client: creates the objects that the user and the scheduler create in the
    /// burst, and no other objects.
    async fn create_all(&self, namespace: &str, in_flight: usize) -> Duration {
        self.create_namespace(namespace).await;
        let spec = json!({"components": [{"name": "main", "image": "registry.example/a:1"}]});
        let deployments = (0..DEPLOYMENTS).map(deployment);
        let sets = (0..DEPLOYMENTS).map(|number| {
            let spec = json!({"replicas": 0, "template": {"spec": spec.clone()}});
            object("WorkloadReplicaSet", &format!("set-{number}"), spec)
        });
        let workloads = (0..WORKLOADS)
            .map(|number| object("Workload", &format!("workload-{number}"), spec.clone()));
        let started_at = Instant::now();
        let objects = deployments.chain(sets).chain(workloads);
        self.create(namespace, objects, in_flight).await;
        started_at.elapsed()
    }

    async fn create(
        &self,
        namespace: &str,
        objects: impl Iterator<Item = Value>,
        in_flight: usize,
    ) {
        let create = |object: Value| async move {
            let api: Api<DynamicObject> =
                self.api(namespace, object["kind"].as_str().expect("a kind"));
            let object: DynamicObject = serde_json::from_value(object).expect("an object");
            api.create(&PostParams::default(), &object).await.map(drop)
        };
        let creations = stream::iter(objects)
            .map(create)
            .buffer_unordered(in_flight);
        creations.try_collect::<()>().await.expect("created");
    }

    /// Watches objects until they satisfy a condition, and returns them.
    async fn watch(
        &self,
        namespace: &str,
        kind: &str,
        is_done: impl Fn(&Observed) -> bool,
    ) -> Observed {
        let mut events = pin!(watcher(
            self.api::<Watched>(namespace, kind),
            watcher::Config::default()
        ));
        let mut observed = Observed::new();
        let watch = async {
            while !is_done(&observed) {
                match events.next().await.expect("a watch does not end") {
                    Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                        let name = object.metadata.name.unwrap_or_default();
                        observed.insert(name, object.status.unwrap_or_default());
                    }
                    Ok(watcher::Event::Delete(object)) => {
                        observed.remove(&object.metadata.name.unwrap_or_default());
                    }
                    Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
                    Err(error) => eprintln!("watch of {kind} restarted: {error}"),
                }
            }
        };
        let result = tokio::time::timeout(WATCH_TIMEOUT, watch).await;
        assert!(
            result.is_ok(),
            "{kind}: timed out with {} objects",
            observed.len()
        );
        observed
    }

    /// Returns the API server's own counts of requests for these kinds.
    async fn requests(&self) -> Requests {
        let request = hyper::Request::get("/metrics")
            .body(Vec::new())
            .expect("a request");
        let text = self.client.request_text(request).await.expect("metrics");
        Requests::of(&text)
    }
}

/// Number of requests by verb, resource, subresource and code.
struct Requests(BTreeMap<[String; 4], u64>);

impl Requests {
    fn of(metrics: &str) -> Requests {
        let group = format!("group=\"{GROUP}\"");
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with("apiserver_request_total{") && line.contains(&group));
        let mut counts = BTreeMap::new();
        for line in lines {
            let label = |name: &str| {
                let value = line.split_once(&format!("{name}=\"")).map(|(_, rest)| rest);
                let value = value.and_then(|rest| rest.split_once('"'));
                value.map_or_else(String::new, |(value, _)| value.to_owned())
            };
            let key = ["verb", ",resource", "subresource", "code"].map(label);
            let count = line
                .rsplit(' ')
                .next()
                .and_then(|count| count.parse::<f64>().ok());
            *counts.entry(key).or_default() += count.unwrap_or_default() as u64;
        }
        Requests(counts)
    }

    fn since(mut self, before: &Requests) -> Requests {
        for (key, count) in &mut self.0 {
            *count -= before.0.get(key).copied().unwrap_or_default();
        }
        self.0.retain(|_, count| *count > 0);
        self
    }

    fn writes(&self) -> u64 {
        let is_write = |key: &[String; 4]| !["GET", "LIST", "WATCH"].contains(&key[0].as_str());
        let writes = self.0.iter().filter(|(key, _)| is_write(key));
        writes.map(|(_, count)| count).sum()
    }

    fn conflicts(&self) -> u64 {
        let conflicts = self.0.iter().filter(|(key, _)| key[3] == "409");
        conflicts.map(|(_, count)| count).sum()
    }
}

fn deployment(number: usize) -> Value {
    let image = format!("registry.example/{number}:1");
    let template = json!({"spec": {"components": [{"name": "main", "image": image}]}});
    let spec = json!({"replicas": REPLICAS, "template": template});
    object("WorkloadDeployment", &format!("burst-{number}"), spec)
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1alpha1"),
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    })
}

fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener
        .local_addr()
        .expect("an address")
        .port()
        .to_string()
}

/// Spawns a program that is killed when this one ends.
fn spawn(program: &OsString, arguments: &[&str]) -> Child {
    let mut command = Command::new(program);
    command.args(arguments).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let child = command.spawn();
    child.unwrap_or_else(|error| panic!("cannot run {}: {error}", program.display()))
}
