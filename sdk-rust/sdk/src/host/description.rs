//! The description of a host in its heartbeats.

use std::collections::BTreeMap;

use berth_proto::WitInterface;

/// Fields of a heartbeat that the SDK cannot know. The SDK adds `id`, `started_at` and
/// `workload_count`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// Host name or address of the ingress, without the port.
    pub hostname: String,
    /// DNS-1123 name, unique in the fleet; it becomes the name of a Kubernetes object.
    pub friendly_name: String,
    /// Version of the host program.
    pub version: String,
    /// Labels for placement; the wasmCloud operator matches `hostgroup`.
    pub labels: BTreeMap<String, String>,
    /// Environment that the host serves; empty if it serves no particular one.
    pub environment: String,
    /// Port of the HTTP ingress; 0 if there is none.
    pub http_port: u32,
    /// Processor architecture, such as `x86_64`.
    pub os_arch: String,
    /// Operating system, such as `linux`.
    pub os_name: String,
    /// Kernel release.
    pub os_kernel: String,
    /// CPU usage across all processors in percent, 0 to 100.
    pub system_cpu_usage: f32,
    /// Total memory in bytes.
    pub system_memory_total: u64,
    /// Free memory in bytes.
    pub system_memory_free: u64,
    /// Interfaces that workloads may import from this host.
    pub imports: Vec<WitInterface>,
    /// Interfaces that this host calls on workloads.
    pub exports: Vec<WitInterface>,
    /// Number of components in running workloads, not counting services.
    pub component_count: u64,
}
