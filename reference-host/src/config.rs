//! The configuration of a host, with the reason for each default and limit.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use berth_sdk::ConnectOptions;
use berth_sdk::cli::GrpcSettings;
pub use berth_sdk::cli::Log;

use crate::image::StoreOptions;
use crate::system_info;

/// Default heartbeat interval, the same as in `wash host`.
pub const DEFAULT_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// Minimum heartbeat interval. Schedulers treat faster heartbeats as a burst (HOST-BEAT-004).
pub const HEARTBEAT_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Maximum heartbeat interval. With slower heartbeats, schedulers consider the host lost.
pub const HEARTBEAT_INTERVAL_MAX: Duration = Duration::from_secs(30);

/// Default time limit of the shutdown, well below the 30 s that Kubernetes allows a Pod.
pub const DEFAULT_SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// Maximum of the shutdown's time limit: nobody waits longer for a process to end.
pub const SHUTDOWN_GRACE_MAX: Duration = Duration::from_secs(300);

/// Default memory limit of an instance: generous, because most deployed workloads cannot set a
/// limit.
pub const DEFAULT_MEMORY_BYTES: u64 = 512 * MIB;
/// Maximum memory limit of an instance, because a 32-bit guest cannot address more.
pub const MEMORY_BYTES_MAX: u64 = 4096 * MIB;
/// Default limit of workloads on the host at a time. Each needs an id, a few tasks and a compiled
/// component, together a few megabytes.
pub const DEFAULT_WORKLOADS_MAX: usize = 1024;

/// Default host group. Schedulers place workloads without a host selector on the hosts of this
/// group.
pub const DEFAULT_HOST_GROUP: &str = "default";
/// Label with the host group.
pub const HOST_GROUP_LABEL: &str = "hostgroup";
/// Prefix of the labels that announce extensions. Only the host itself may set them (HOST-EXT).
pub const RESERVED_LABEL_PREFIX: &str = "berth.dev/";

const MIB: u64 = 1 << 20;

/// Everything that an operator can configure. Created by [`args::parse`](crate::args::parse), or
/// from [`Default`] by programs that embed the host.
///
/// `Debug` hides secrets.
#[derive(Debug, Clone)]
pub struct Config {
    /// Connection to NATS.
    pub connect: ConnectOptions,
    /// gRPC listener, and whether NATS is used at all.
    pub grpc: GrpcSettings,
    /// URLs of schedulers that receive heartbeats over gRPC.
    pub grpc_schedulers: Vec<String>,
    /// Identity of the host.
    pub identity: IdentityConfig,
    /// Listen address of the HTTP ingress. `None` means no ingress, and workloads that need one are
    /// refused.
    pub http_addr: Option<SocketAddr>,
    /// Heartbeat interval.
    pub heartbeat_interval: Duration,
    /// Time limit of the shutdown.
    pub shutdown_grace: Duration,
    /// Options of the image store.
    pub images: StoreOptions,
    /// Limits of workloads.
    pub limits: Limits,
    /// Level and format of the log.
    pub log: Log,
    /// Warnings to log at startup: options that are dangerous or have no effect.
    pub notices: Vec<String>,
}

/// The configured identity of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityConfig {
    /// Host ID, one subject token. `None` means a random one, new for each process.
    pub host_id: Option<String>,
    /// Name or address under which clients reach the ingress. `None` means the machine's host name.
    pub host_name: Option<String>,
    /// Environment, by which schedulers isolate tenants.
    pub environment: Option<String>,
    /// Labels that workloads select hosts by, the host group included.
    pub labels: BTreeMap<String, String>,
}

/// Limits of workloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Memory limit of an instance whose workload sets none.
    pub memory_default_bytes: u64,
    /// Limit of workloads; a start beyond it is refused.
    pub workloads_max: usize,
    /// Directories that `hostPath` volumes may mount, with everything below them. Empty permits
    /// all but the directories of the system.
    pub allowed_host_paths: Arc<[PathBuf]>,
    /// Limit of the memory of all guests together. `None` means three quarters of the memory that
    /// the process may use; the rest is for the host and its buffers.
    pub guest_memory_bytes: Option<u64>,
}

impl Limits {
    /// Returns the limit of the memory of all guests together. Reads the memory of the machine.
    pub fn guest_memory_bytes(&self) -> u64 {
        self.guest_memory_bytes
            .unwrap_or_else(|| system_info::usable_memory_bytes() / 4 * 3)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connect: ConnectOptions::default(),
            grpc: GrpcSettings::default(),
            grpc_schedulers: Vec::new(),
            identity: IdentityConfig::default(),
            http_addr: None,
            heartbeat_interval: DEFAULT_HEARTBEAT_INTERVAL,
            shutdown_grace: DEFAULT_SHUTDOWN_GRACE,
            images: StoreOptions::default(),
            limits: Limits::default(),
            log: Log::default(),
            notices: Vec::new(),
        }
    }
}

impl Default for IdentityConfig {
    fn default() -> Self {
        let labels = BTreeMap::from([(HOST_GROUP_LABEL.to_owned(), DEFAULT_HOST_GROUP.to_owned())]);
        Self {
            host_id: None,
            host_name: None,
            environment: None,
            labels,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_default_bytes: DEFAULT_MEMORY_BYTES,
            workloads_max: DEFAULT_WORKLOADS_MAX,
            allowed_host_paths: Arc::default(),
            guest_memory_bytes: None,
        }
    }
}
