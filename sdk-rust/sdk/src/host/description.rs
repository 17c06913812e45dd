//! What a host says of itself in a heartbeat.

use std::collections::BTreeMap;

use berth_proto::WitInterface;

/// Everything of a heartbeat that the SDK cannot know; the SDK adds `id`, `started_at` and
/// `workload_count`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// The name or address under which peers reach the host's ingress, without the port.
    pub hostname: String,
    /// A DNS-1123 name, unique in the fleet; it becomes the name of a Kubernetes object.
    pub friendly_name: String,
    /// The version of the host program.
    pub version: String,
    /// Labels for placement; `hostgroup` is the one that deployed schedulers look at.
    pub labels: BTreeMap<String, String>,
    /// The environment that the host serves, empty when it serves none in particular.
    pub environment: String,
    /// The bound port of the HTTP ingress; 0 means that there is none.
    pub http_port: u32,
    /// The processor architecture, for example `x86_64`.
    pub os_arch: String,
    /// The operating system, for example `linux`.
    pub os_name: String,
    /// The kernel's release.
    pub os_kernel: String,
    /// Load of all processors together in percent, 0 to 100.
    pub system_cpu_usage: f32,
    /// Memory of the machine in bytes.
    pub system_memory_total: u64,
    /// Free memory of the machine in bytes.
    pub system_memory_free: u64,
    /// Interfaces that workloads may import from this host.
    pub imports: Vec<WitInterface>,
    /// Interfaces that this host calls on workloads.
    pub exports: Vec<WitInterface>,
    /// Components of running workloads, services not counted.
    pub component_count: u64,
}
