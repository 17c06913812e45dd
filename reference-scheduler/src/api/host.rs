//! Hosts. The scheduler creates them from heartbeats; they have no `spec`.

use serde::{Deserialize, Serialize};

use super::extra::{is_default, null_is_unset};
use super::{Condition, Extra, Metadata, Timestamp};

/// A host, with the name `friendlyName` and the labels of its heartbeat.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    /// Metadata of the object.
    #[serde(default)]
    pub metadata: Metadata,
    /// ID of the host; each process has its own.
    pub host_id: String,
    /// Hostname or IP address; on Kubernetes the IP address of its Pod.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub hostname: String,
    /// HTTP port; 0 for none.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub http_port: u32,
    /// Environment; by convention a namespace.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub environment: String,
    /// Observed state.
    #[serde(default, skip_serializing_if = "is_default")]
    pub status: Option<HostStatus>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Observed state of a host. The CRD requires the first seven fields, so they are always written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostStatus {
    /// Version of the host.
    #[serde(deserialize_with = "null_is_unset")]
    pub version: String,
    /// Processor architecture.
    #[serde(deserialize_with = "null_is_unset")]
    pub os_arch: String,
    /// Operating system.
    #[serde(deserialize_with = "null_is_unset")]
    pub os_name: String,
    /// Kernel version.
    #[serde(deserialize_with = "null_is_unset")]
    pub os_kernel: String,
    /// CPU usage of the machine in percent, as text.
    #[serde(rename = "systemCPUUsage", deserialize_with = "null_is_unset")]
    pub system_cpu_usage: String,
    /// Total memory of the machine, in bytes.
    #[serde(deserialize_with = "null_is_unset")]
    pub system_memory_total: i64,
    /// Free memory of the machine, in bytes.
    #[serde(deserialize_with = "null_is_unset")]
    pub system_memory_free: i64,
    /// Number of running components.
    #[serde(deserialize_with = "null_is_unset")]
    pub component_count: i64,
    /// Number of running workloads.
    #[serde(deserialize_with = "null_is_unset")]
    pub workload_count: i64,
    /// Time of the most recent heartbeat or reply.
    #[serde(skip_serializing_if = "is_default")]
    pub last_seen: Option<Timestamp>,
    /// Conditions `Reporting` and `Ready`.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub conditions: Vec<Condition>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}
