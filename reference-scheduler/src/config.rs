//! The configuration of a scheduler, with its defaults and limits.

use std::net::SocketAddr;
use std::path::PathBuf;

use berth_sdk::ConnectOptions;
use berth_sdk::cli::GrpcServe;
pub use berth_sdk::cli::Log;

use crate::core::Options;

/// Where upstream's operator has its metrics, and its chart looks for them.
pub const METRICS_PORT: u16 = 8081;
/// Where upstream's operator has its probes, and its chart sends them.
pub const HEALTH_PORT: u16 = 8082;

/// Everything that can be said about a scheduler. Made by [`args::parse`](crate::args::parse), or by hand by whoever
/// embeds it. `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct Config {
    /// How to reach the bus.
    pub connect: ConnectOptions,
    /// Where heartbeats come in over gRPC, and whether the bus is used at all.
    pub grpc: GrpcServe,
    /// Where desired state and status are.
    pub store: StoreChoice,
    /// What the core goes by.
    pub options: Options,
    /// Where `/metrics` is; `None`: nowhere.
    pub metrics_addr: Option<SocketAddr>,
    /// Where `/healthz` and `/readyz` are; `None`: nowhere.
    pub health_addr: Option<SocketAddr>,
    /// What is logged, and how.
    pub log: Log,
    /// What the operator should be told at start, as warnings.
    pub notices: Vec<String>,
}

/// Where desired state and status are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreChoice {
    /// A directory of manifests.
    Dir(PathBuf),
    /// Kubernetes.
    Kube(KubeChoice),
}

/// How Kubernetes is used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KubeChoice {
    /// Instead of what the environment or the Pod has.
    pub kubeconfig: Option<PathBuf>,
    /// The namespace of Host objects and of the Lease.
    pub namespace: String,
    /// The namespaces of workloads; empty: all.
    pub watch_namespaces: Vec<String>,
    /// Further namespaces of the Pods of hosts.
    pub host_namespaces: Vec<String>,
    /// Whether several schedulers agree by a Lease on who acts.
    pub leader_elect: bool,
    /// Whether the status of Artifacts is left to somebody else.
    pub disable_artifact_controller: bool,
}
