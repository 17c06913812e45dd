//! The configuration of a host, and every default and limit of it with its reason.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use berth_sdk::ConnectOptions;
use berth_sdk::cli::GrpcServe;
pub use berth_sdk::cli::Log;

use crate::image::StoreOptions;

/// Between two heartbeats; what deployed schedulers are tuned to.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// Faster than this looks like a burst to schedulers (HOST-BEAT-004).
pub const HEARTBEAT_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Slower than this and schedulers take the host for lost.
pub const HEARTBEAT_INTERVAL_MAX: Duration = Duration::from_secs(30);

/// How long the shutdown may take; well inside the 30 s that Kubernetes gives a Pod.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// Nobody waits longer for a process to end.
pub const SHUTDOWN_GRACE_MAX: Duration = Duration::from_secs(300);

/// The deadline over one pull, as `wash host` has it.
pub const PULL_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest that can be asked for: no link is that slow.
pub const PULL_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// Beyond this, a start from a registry that hangs is no longer ERROR within the 60 s of HOST-IMG-007.
pub const PULL_TIMEOUT_CONFORMANT_MAX: Duration = Duration::from_secs(55);
/// Components with a whole language runtime inside have some 30 MB; this leaves an order of magnitude.
pub const IMAGE_BYTES_MAX: u64 = 256 * MIB;
/// Room for some hundred components; a disk is seldom smaller.
pub const IMAGE_CACHE_BYTES_MAX: u64 = 2048 * MIB;
/// More downloads at once do not make one network link faster.
pub const CONCURRENT_PULLS_MAX: usize = 16;

/// The memory of an instance that asks for no limit of its own. Most workloads in the field cannot ask, so it is
/// generous.
pub const MEMORY_DEFAULT_BYTES: u64 = 512 * MIB;
/// What a 32-bit guest can address.
pub const MEMORY_BYTES_MAX: u64 = 4096 * MIB;
/// Workloads at once. Each takes an id, a few tasks and a compiled component, some megabytes in all.
pub const WORKLOADS_MAX: usize = 1024;

/// The host group that workloads without a selector are placed in.
pub const HOST_GROUP: &str = "default";
/// The label that carries the host group.
pub const HOST_GROUP_LABEL: &str = "hostgroup";
/// Labels below this name announce abilities and are the host's own (HOST-EXT).
pub const RESERVED_LABELS: &str = "berth.dev/";

const MIB: u64 = 1 << 20;

/// Everything that an operator can say about a host. Made by [`args::parse`](crate::args::parse), or by hand
/// from [`Default`] by whoever embeds the host.
///
/// `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct Config {
    /// How to reach the bus.
    pub connect: ConnectOptions,
    /// Where commands come in over gRPC, and whether the bus is used at all.
    pub grpc: GrpcServe,
    /// The URLs of schedulers that heartbeats go to over gRPC.
    pub grpc_schedulers: Vec<String>,
    /// Who this host is.
    pub identity: Identity,
    /// Where HTTP for workloads is served; `None`: not at all, and workloads that need it are refused.
    pub http_addr: Option<SocketAddr>,
    /// Between two heartbeats.
    pub heartbeat_interval: Duration,
    /// How long the shutdown may take.
    pub shutdown_grace: Duration,
    /// Where images come from and how they are kept.
    pub images: StoreOptions,
    /// What workloads may use.
    pub limits: Limits,
    /// What is logged, and how.
    pub log: Log,
    /// What the operator should be told at start, as warnings: options that are dangerous or without effect.
    pub notices: Vec<String>,
}

/// Who a host is, as its heartbeats say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// One subject token; `None`: a random one, new for each process.
    pub host_id: Option<String>,
    /// The name or address under which others reach the host's HTTP port; `None`: the machine's name.
    pub host_name: Option<String>,
    /// The environment, by which schedulers keep tenants apart.
    pub environment: Option<String>,
    /// Labels that workloads select hosts by; the host group is one of them.
    pub labels: BTreeMap<String, String>,
}

/// What workloads may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The memory of an instance whose workload sets no limit.
    pub memory_default_bytes: u64,
    /// Workloads at once; a start beyond it is refused.
    pub workloads_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connect: ConnectOptions::default(),
            grpc: GrpcServe::default(),
            grpc_schedulers: Vec::new(),
            identity: Identity::default(),
            http_addr: None,
            heartbeat_interval: HEARTBEAT_INTERVAL,
            shutdown_grace: SHUTDOWN_GRACE,
            images: StoreOptions::default(),
            limits: Limits::default(),
            log: Log::default(),
            notices: Vec::new(),
        }
    }
}

impl Default for Identity {
    fn default() -> Self {
        let labels = BTreeMap::from([(HOST_GROUP_LABEL.to_owned(), HOST_GROUP.to_owned())]);
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
            memory_default_bytes: MEMORY_DEFAULT_BYTES,
            workloads_max: WORKLOADS_MAX,
        }
    }
}
