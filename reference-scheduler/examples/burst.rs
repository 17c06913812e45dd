//! Measures a burst: a hundred deployments of ten replicas, created at once on fifty simulated hosts, through the API server
//! that `KUBECONFIG` leads to. Prints one line of JSON. Best run by `cargo xtask bench scheduler`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "it serves a measurement, which may fail and say where"
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
/// Requests at once, of a bare client in a hurry and of whoever creates the deployments.
const IN_FLIGHT: usize = 16;
/// How long anything may take here at all.
const PATIENCE: Duration = Duration::from_secs(300);
const GROUP: &str = "runtime.wasmcloud.dev";

#[tokio::main]
async fn main() {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [scheduler, conformance, nats_server] = words.as_slice() else {
        eprintln!("usage: KUBECONFIG=FILE burst BERTH_SCHEDULER BERTH_CONFORMANCE NATS_SERVER");
        std::process::exit(2);
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::try_from(Config::infer().await.expect("a kubeconfig")).expect("a client");
    let cluster = Cluster { client };
    let one_by_one = cluster.bare("one-by-one", 1).await;
    let together = cluster.bare("together", IN_FLIGHT).await;
    cluster.namespace("burst").await;
    let port = free_port();
    let url = format!("nats://127.0.0.1:{port}");
    let _broker = run(
        nats_server,
        &["-a", "127.0.0.1", "-p", &port, "-l", "/dev/null"],
    );
    let hosts = HOSTS.to_string();
    let fleet = ["fleet", "--quiet", "--nats-url", &url, "--hosts", &hosts];
    let _fleet = run(conformance, &fleet);
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
    let _scheduler = run(scheduler, &flags);
    let registered = |seen: &Seen| seen.len() == HOSTS;
    cluster.watch("burst", "Host", registered).await;

    let before = cluster.requests().await;
    let began = Instant::now();
    let all_ready = |seen: &Seen| seen.len() == WORKLOADS && seen.values().all(Status::is_ready);
    let (seen, ()) = tokio::join!(
        cluster.watch("burst", "Workload", all_ready),
        cluster.create("burst", (0..DEPLOYMENTS).map(deployment), IN_FLIGHT),
    );
    let ready = began.elapsed();
    let requests = cluster.requests().await.since(&before);
    let writes = requests.writes() - DEPLOYMENTS as u64;
    let mut per_host: BTreeMap<&str, usize> = BTreeMap::new();
    for status in seen.values() {
        *per_host.entry(&status.host_id).or_default() += 1;
    }
    let most = per_host.values().max().copied().unwrap_or_default();
    let least = match per_host.len() == HOSTS {
        true => per_host.values().min().copied().unwrap_or_default(),
        false => 0,
    };
    let line = json!({
        "one_by_one_ms": one_by_one.as_millis() as u64,
        "together_ms": together.as_millis() as u64,
        "ready_ms": ready.as_millis() as u64,
        "writes_per_workload": writes as f64 / WORKLOADS as f64,
        "conflicts": requests.conflicts(),
        "most_on_a_host": most,
        "least_on_a_host": least,
    });
    for (what, count) in &requests.0 {
        eprintln!("{count:>6}  {what:?}");
    }
    println!("{line}");
}

/// What a watch has seen, by name.
type Seen = BTreeMap<String, Status>;

/// Of a status, what is asked for here. Reading more would take its time from what is measured.
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
        let ready = self.conditions.iter().find(|one| one.r#type == "Ready");
        ready.is_some_and(|ready| ready.status == "True")
    }
}

/// An object with nothing but its metadata and that.
type Watched = Object<Option<IgnoredAny>, Status>;

struct Cluster {
    client: Client,
}

impl Cluster {
    async fn namespace(&self, name: &str) {
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

    /// Writes as many objects as are written in the burst, those of the user and those that the scheduler has to make of
    /// them, and nothing else.
    async fn bare(&self, namespace: &str, at_once: usize) -> Duration {
        self.namespace(namespace).await;
        let spec = json!({"components": [{"name": "main", "image": "registry.example/a:1"}]});
        let deployments = (0..DEPLOYMENTS).map(deployment);
        let sets = (0..DEPLOYMENTS).map(|number| {
            let spec = json!({"replicas": 0, "template": {"spec": spec.clone()}});
            object("WorkloadReplicaSet", &format!("set-{number}"), spec)
        });
        let workloads = (0..WORKLOADS)
            .map(|number| object("Workload", &format!("workload-{number}"), spec.clone()));
        let began = Instant::now();
        let objects = deployments.chain(sets).chain(workloads);
        self.create(namespace, objects, at_once).await;
        began.elapsed()
    }

    async fn create(&self, namespace: &str, objects: impl Iterator<Item = Value>, at_once: usize) {
        let create = |object: Value| async move {
            let api: Api<DynamicObject> =
                self.api(namespace, object["kind"].as_str().expect("a kind"));
            let object: DynamicObject = serde_json::from_value(object).expect("an object");
            api.create(&PostParams::default(), &object).await.map(drop)
        };
        let creations = stream::iter(objects).map(create).buffer_unordered(at_once);
        creations.try_collect::<()>().await.expect("created");
    }

    /// Watches until what is there is as it should be, and returns it.
    async fn watch(&self, namespace: &str, kind: &str, holds: impl Fn(&Seen) -> bool) -> Seen {
        let mut events = pin!(watcher(
            self.api::<Watched>(namespace, kind),
            watcher::Config::default()
        ));
        let mut seen = Seen::new();
        let watch = async {
            while !holds(&seen) {
                match events.next().await.expect("a watch does not end") {
                    Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                        let name = object.metadata.name.unwrap_or_default();
                        seen.insert(name, object.status.unwrap_or_default());
                    }
                    Ok(watcher::Event::Delete(object)) => {
                        seen.remove(&object.metadata.name.unwrap_or_default());
                    }
                    Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
                    Err(error) => eprintln!("the watch of {kind} begins anew: {error}"),
                }
            }
        };
        let ended = tokio::time::timeout(PATIENCE, watch).await;
        assert!(ended.is_ok(), "{kind}: {} of them are there", seen.len());
        seen
    }

    /// The API server's own count of the requests for our kinds.
    async fn requests(&self) -> Requests {
        let request = hyper::Request::get("/metrics")
            .body(Vec::new())
            .expect("a request");
        let text = self.client.request_text(request).await.expect("metrics");
        Requests::of(&text)
    }
}

/// How many, by verb, resource, subresource and code.
struct Requests(BTreeMap<[String; 4], u64>);

impl Requests {
    fn of(metrics: &str) -> Requests {
        let ours = format!("group=\"{GROUP}\"");
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with("apiserver_request_total{") && line.contains(&ours));
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

/// A program that ends with this one.
fn run(program: &OsString, arguments: &[&str]) -> Child {
    let mut command = Command::new(program);
    command.args(arguments).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let child = command.spawn();
    child.unwrap_or_else(|error| panic!("{} cannot be run: {error}", program.display()))
}
