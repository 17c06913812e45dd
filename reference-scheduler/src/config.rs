//! Configuration of a scheduler, with its defaults.

use std::net::SocketAddr;
use std::path::PathBuf;

use berth_sdk::ConnectOptions;
use berth_sdk::cli::GrpcSettings;
pub use berth_sdk::cli::Log;

use crate::core::Options;

/// Default port of `/metrics`, the same as in wasmCloud's operator and its chart.
pub const METRICS_PORT: u16 = 8081;
/// Default port of `/healthz` and `/readyz`, the same as in wasmCloud's operator and its chart.
pub const HEALTH_PORT: u16 = 8082;

/// Configuration of a scheduler, as [`args::parse`](crate::args::parse) returns it. Programs that
/// embed the scheduler build it themselves. `Debug` prints no secrets.
#[derive(Debug, Clone)]
pub struct Config {
    /// Connection to NATS.
    pub connect: ConnectOptions,
    /// gRPC server for heartbeats, and whether NATS is used at all.
    pub grpc: GrpcSettings,
    /// Store of desired state and status.
    pub store: StoreConfig,
    /// Whether to only release the Pods of hosts before an uninstallation.
    pub release_pods: bool,
    /// Options of the core.
    pub options: Options,
    /// Address of `/metrics`; `None` turns the endpoint off.
    pub metrics_addr: Option<SocketAddr>,
    /// Address of `/healthz` and `/readyz`; `None` turns the endpoints off.
    pub health_addr: Option<SocketAddr>,
    /// Log filter and format.
    pub log: Log,
    /// Warnings about the configuration, logged at startup.
    pub warnings: Vec<String>,
}

/// Store of desired state and status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreConfig {
    /// A directory of manifests.
    Dir(PathBuf),
    /// Kubernetes.
    Kube(KubeStoreConfig),
}

/// Configuration of the Kubernetes store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KubeStoreConfig {
    /// Path of the kubeconfig; `None` uses the environment or the service account of the Pod.
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of Host objects and of the Lease.
    pub namespace: String,
    /// Namespaces of workloads; empty for all namespaces.
    pub watch_namespaces: Vec<String>,
    /// Additional namespaces with Pods that run hosts.
    pub host_namespaces: Vec<String>,
    /// Whether schedulers elect a leader with a Lease.
    pub leader_elect: bool,
    /// Whether another controller writes the status of Artifacts.
    pub disable_artifact_controller: bool,
}
