//! The whole scheduler with an API server, a broker and fake hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use berth_broker::{Broker, BrokerOptions};
use berth_proto as wire;
use berth_scheduler::api::{WorkloadSpec, names};
use berth_scheduler::revision::revision;
use berth_scheduler::{RunError, args};
use berth_sdk::ConnectOptions;
use berth_sdk::bus::Bus;
use berth_sdk::scheduler::HostClient;
use kube::Client;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api_server::ApiServer;
use crate::fixture::consistently;
use crate::fleet::{FakeHost, Record};
use crate::kube_fixture::eventually;

const API_VERSION: &str = "runtime.wasmcloud.dev/v1alpha1";

/// Time for which nothing may happen: longer than a scheduler takes to probe hosts, to query a
/// status and to reconcile all objects.
const IDLE_PERIOD: Duration = Duration::from_secs(6);

struct Cluster {
    server: Arc<ApiServer>,
    // Keeps the connection open for as long as the namespace is used.
    _client: Client,
    namespace: String,
    broker: Broker,
    record: Record,
}

struct RunningScheduler {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), RunError>>,
}

impl Cluster {
    async fn new() -> Self {
        let server = ApiServer::shared();
        let client = server.client().await;
        let namespace = server.namespace(&client).await;
        let broker = Broker::start(BrokerOptions::default())
            .await
            .expect("a broker");
        grant(&server, &namespace);
        Self {
            server,
            _client: client,
            namespace,
            broker,
            record: Record::default(),
        }
    }

    fn host(&self, id: &str) -> FakeHost {
        FakeHost::start(&self.broker.url(), id, &self.record)
    }

    fn scheduler(&self) -> RunningScheduler {
        let account = format!("system:serviceaccount:{}:berth-scheduler", self.namespace);
        let kubeconfig = self.server.kubeconfig_as(&account);
        let flags = [
            "berth-scheduler",
            "-leader-elect",
            "--nats-url",
            &self.broker.url(),
            "--kubeconfig",
            kubeconfig.to_str().expect("a path"),
            "--namespace",
            &self.namespace,
            "--watch-namespaces",
            &self.namespace,
            "--metrics-bind-address=0",
            "--health-probe-bind-address=0",
        ];
        let config = args::parse(flags).expect("a configuration");
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(berth_scheduler::run(config, shutdown.clone()));
        RunningScheduler { shutdown, task }
    }

    /// Applies an object with its status as `manager`, and returns the stored object.
    fn apply(&self, manager: &str, mut object: Value) -> Value {
        object["metadata"]["namespace"] = json!(self.namespace);
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), object.to_string()).expect("written");
        let path = file.path().to_str().expect("a path");
        let manager = format!("--field-manager={manager}");
        let mut printed =
            self.server
                .kubectl(&["apply", "--server-side", &manager, "-f", path, "-o", "json"]);
        if object.get("status").is_some() {
            let status = [
                "apply",
                "--server-side",
                "--subresource=status",
                &manager,
                "-f",
                path,
                "-o",
                "json",
            ];
            printed = self.server.kubectl(&status);
        }
        serde_json::from_str(&printed).expect("JSON")
    }

    fn get(&self, arguments: &[&str]) -> Value {
        let mut command = vec!["-n", &self.namespace, "get", "-o", "json"];
        command.extend(arguments);
        serde_json::from_str(&self.server.kubectl(&command)).expect("JSON")
    }

    /// Returns name and UID of every object of a kind.
    fn uids(&self, kind: &str) -> BTreeMap<String, String> {
        let list = self.get(&[kind]);
        let items = list["items"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|item| &item["metadata"]);
        items
            .map(|metadata| (text(&metadata["name"]), text(&metadata["uid"])))
            .collect()
    }

    async fn wait_for_running(&self, count: usize) -> BTreeSet<String> {
        eventually(&format!("{count} running ids"), async || {
            Some(self.record.ids()).filter(|ids| ids.len() == count)
        })
        .await
    }
}

/// Grants a scheduler the same permissions as the chart.
fn grant(server: &ApiServer, namespace: &str) {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/chart");
    let watched = format!("scheduler.watchNamespaces={{{namespace}}}");
    let rbac = server.helm(&[
        "template",
        "berth",
        chart,
        "--namespace",
        namespace,
        "--kube-version",
        "1.36.3",
        "--set",
        &watched,
        "--show-only",
        "templates/scheduler/rbac.yaml",
    ]);
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), rbac).expect("written");
    server.kubectl(&["apply", "-f", file.path().to_str().expect("a path")]);
}

impl RunningScheduler {
    async fn stop(self) {
        self.shutdown.cancel();
        self.task
            .await
            .expect("no panic")
            .expect("a graceful shutdown");
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn conditions(names: &[&str]) -> Value {
    let entry = |name: &&str| json!({"type": name, "status": "True", "reason": "Available", "lastTransitionTime": "2026-01-02T03:04:05Z"});
    names.iter().map(entry).collect()
}

fn owner(kind: &str, object: &Value) -> Value {
    json!([{"apiVersion": API_VERSION, "kind": kind, "name": object["metadata"]["name"], "uid": object["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true}])
}

/// Creates a deployment of two workloads in the state that wasmCloud's operator leaves: every
/// object, finalizer, annotation, condition and status. Returns pairs of host and id.
fn create_state_of_operator(cluster: &Cluster, hosts: &[&str]) -> Vec<(String, String)> {
    let template = json!({"hostSelector": {"hostgroup": "default"},
        "components": [{"name": "hello", "image": "registry.example/hello:1"}]});
    let spec: WorkloadSpec = serde_json::from_value(template.clone()).expect("a spec");
    let counts = json!({"expected": 2, "current": 2, "ready": 2});
    for host in hosts {
        cluster.apply("host-status-updater", json!({
            "apiVersion": API_VERSION, "kind": "Host", "hostId": host, "hostname": "127.0.0.1",
            "metadata": {"name": host, "labels": {"hostgroup": "default"}, "finalizers": [names::HOST_FINALIZER]},
            "status": {"version": "unknown", "osArch": "unknown", "osName": "unknown", "osKernel": "unknown",
                "systemCPUUsage": "0", "systemMemoryTotal": 0, "systemMemoryFree": 0,
                "lastSeen": "2026-01-02T03:04:05Z", "conditions": conditions(&["Reporting", "Ready"])},
        }));
    }
    let deployment = cluster.apply(
        "kubectl",
        json!({
            "apiVersion": API_VERSION, "kind": "WorkloadDeployment", "metadata": {"name": "hello"},
            "spec": {"replicas": 2, "template": {"spec": template}},
        }),
    );
    let set = cluster.apply("manager", json!({
        "apiVersion": API_VERSION, "kind": "WorkloadReplicaSet",
        "metadata": {"name": "hello-7xk2p", "labels": {names::DEPLOYMENT_LABEL: "hello"},
            "ownerReferences": owner("WorkloadDeployment", &deployment)},
        "spec": {"replicas": 2, "template": {"spec": template}},
        "status": {"replicas": counts, "conditions": conditions(&["ScaleUp", "ScaleDown", "Ready"])},
    }));
    cluster.apply("manager", json!({
        "apiVersion": API_VERSION, "kind": "WorkloadDeployment", "metadata": {"name": "hello"},
        "spec": {"template": {"spec": {}}},
        "status": {"currentReplicaSet": {"name": "hello-7xk2p"}, "replicas": counts, "currentReplicas": 2,
            "selector": format!("{}=hello", names::DEPLOYMENT_LABEL),
            "conditions": conditions(&["Artifact", "Sync", "Deploy", "Scale", "Ready"])},
    }));
    let mut placed = Vec::new();
    for (name, host) in ["hello-7xk2p-4f9vz", "hello-7xk2p-q8d5l"]
        .into_iter()
        .zip(hosts)
    {
        let mut workload = json!({
            "apiVersion": API_VERSION, "kind": "Workload",
            "metadata": {"name": name, "annotations": {names::REVISION_ANNOTATION: revision(&spec)},
                "finalizers": [names::WORKLOAD_FINALIZER], "ownerReferences": owner("WorkloadReplicaSet", &set)},
            "spec": template,
        });
        let uid = text(&cluster.apply("manager", workload.clone())["metadata"]["uid"]);
        workload["status"] = json!({"hostId": host, "workloadId": uid,
            "conditions": conditions(&["Config", "HostSelection", "Placement", "Sync", "Ready"])});
        cluster.apply("manager", workload);
        placed.push(((*host).to_owned(), uid));
    }
    placed
}

#[tokio::test(flavor = "multi_thread")]
async fn deployments_run_whatever_the_length_of_their_names() {
    let cluster = Cluster::new().await;
    let _host = cluster.host("calm-fox");
    let scheduler = cluster.scheduler();
    let long = |last: &str| format!("{}{last}", "a".repeat(252));
    let names = [
        "a.b.c".to_owned(),
        "a".repeat(57),
        "a".repeat(64),
        "a".repeat(242),
        long("b"),
        long("c"),
    ];
    for name in &names {
        let component = json!({"name": "hello", "image": "registry.example/hello:1"});
        let template = json!({"spec": {"components": [component]}});
        cluster.apply(
            "kubectl",
            json!({"apiVersion": API_VERSION, "kind": "WorkloadDeployment",
                "metadata": {"name": name}, "spec": {"template": template}}),
        );
    }
    cluster.wait_for_running(names.len()).await;
    let sets = cluster.get(&["workloadreplicasets"]);
    let labels = sets["items"].as_array().expect("a list").iter();
    let labels = labels.map(|set| text(&set["metadata"]["labels"][names::DEPLOYMENT_LABEL]));
    assert_eq!(labels.collect::<BTreeSet<_>>().len(), names.len());
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn adopts_state_of_operator_without_start_or_stop() {
    let cluster = Cluster::new().await;
    let _hosts = [cluster.host("calm-fox"), cluster.host("swift-owl")];
    let placed = create_state_of_operator(&cluster, &["calm-fox", "swift-owl"]);
    let bus = Bus::connect(&ConnectOptions::to(cluster.broker.url()))
        .await
        .expect("a connection to the bus");
    for (host, id) in &placed {
        let client = HostClient::new(bus.clone(), host.as_str()).expect("a client");
        eventually("the host", async || {
            client.start(id, &wire::Workload::default()).await.ok()
        })
        .await;
    }
    // The operator was killed and has not released the Lease.
    cluster.apply("manager", json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "d34db3ef.wasmcloud.dev"},
        "spec": {"holderIdentity": "operator_1", "leaseDurationSeconds": 2, "leaseTransitions": 3,
            "acquireTime": "2026-01-02T03:04:05.000000Z", "renewTime": "2026-01-02T03:04:05.000000Z"},
    }));
    let before: Vec<_> = ["host", "workload", "workloadreplicaset"]
        .map(|kind| cluster.uids(kind))
        .into();

    let scheduler = cluster.scheduler();
    eventually("the versions of the hosts", async || {
        let hosts = cluster.get(&["host"]);
        let versions = hosts["items"]
            .as_array()?
            .iter()
            .map(|host| text(&host["status"]["version"]));
        versions
            .collect::<Vec<_>>()
            .iter()
            .all(|version| version == "0")
            .then_some(())
    })
    .await;
    let commands = || (cluster.record.starts().len(), cluster.record.stops().len());
    consistently(
        IDLE_PERIOD,
        || commands() == (2, 0),
        || format!("{:?}", (cluster.record.starts(), cluster.record.stops())),
    )
    .await;
    let after: Vec<_> = ["host", "workload", "workloadreplicaset"]
        .map(|kind| cluster.uids(kind))
        .into();
    assert_eq!(after, before);

    // The scheduler adds one replica and keeps the existing replicas.
    cluster.server.kubectl(&[
        "-n",
        &cluster.namespace,
        "scale",
        "workloaddeployment",
        "hello",
        "--replicas=3",
    ]);
    let ids = cluster.wait_for_running(3).await;
    assert!(placed.iter().all(|(_, id)| ids.contains(id)));
    assert_eq!(commands(), (3, 0));
    scheduler.stop().await;
    assert_eq!(commands(), (3, 0), "workloads outlive the scheduler");
}

#[tokio::test(flavor = "multi_thread")]
async fn deployment_is_ready_moves_after_host_failure_and_is_deleted() {
    let cluster = Cluster::new().await;
    let (calm_fox, _swift_owl) = (cluster.host("calm-fox"), cluster.host("swift-owl"));
    let scheduler = cluster.scheduler();
    cluster.apply(
        "kubectl",
        json!({
            "apiVersion": API_VERSION, "kind": "WorkloadDeployment", "metadata": {"name": "hello"},
            "spec": {"replicas": 4, "template": {"spec": {
                "components": [{"name": "hello", "image": "registry.example/hello:1"}]}}},
        }),
    );
    let wait_until_ready = || {
        let wait = "--for=condition=Ready";
        cluster.server.kubectl(&[
            "-n",
            &cluster.namespace,
            "wait",
            "workloaddeployment",
            "hello",
            wait,
            "--timeout=180s",
        ])
    };
    cluster.wait_for_running(4).await;
    wait_until_ready();
    assert_eq!(
        (
            cluster.record.count("calm-fox"),
            cluster.record.count("swift-owl")
        ),
        (2, 2)
    );
    let table = cluster
        .server
        .kubectl(&["-n", &cluster.namespace, "get", "workloaddeployment"]);
    let row: Vec<&str> = table
        .lines()
        .nth(1)
        .expect("a row")
        .split_whitespace()
        .collect();
    assert_eq!(row[..5], ["hello", "4", "4", "4", "True"], "{table}");

    calm_fox.kill().await;
    eventually("all replicas on the other host", async || {
        (cluster.record.count("swift-owl") == 4).then_some(())
    })
    .await;
    wait_until_ready();

    cluster.server.kubectl(&[
        "-n",
        &cluster.namespace,
        "delete",
        "workloaddeployment",
        "hello",
        "--cascade=foreground",
        "--timeout=180s",
    ]);
    cluster.wait_for_running(0).await;
    assert!(cluster.uids("workload").is_empty());
    scheduler.stop().await;
}
