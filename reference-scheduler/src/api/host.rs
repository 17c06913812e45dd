//! A host as its heartbeats show it. Made by the scheduler, never by people; there is no `spec`.

use serde::{Deserialize, Serialize};

use super::extra::{is_default, null_is_unset};
use super::{Condition, Extra, Metadata, Timestamp};

/// A host; named after the heartbeat's `friendlyName`, labelled with its labels.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    /// Metadata.
    #[serde(default)]
    pub metadata: Metadata,
    /// The id by which it is addressed; another one means another process.
    pub host_id: String,
    /// Where it is reached; on Kubernetes the IP of its Pod.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub hostname: String,
    /// The port on which it serves HTTP; 0 for none.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub http_port: u32,
    /// The environment it serves; by convention a namespace.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub environment: String,
    /// What it reports, and what is made of that.
    #[serde(default, skip_serializing_if = "is_default")]
    pub status: Option<HostStatus>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a host reports. The CRD requires the first seven fields, so they are always written.
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
    /// Use of the machine's processors in percent, as text.
    #[serde(rename = "systemCPUUsage", deserialize_with = "null_is_unset")]
    pub system_cpu_usage: String,
    /// Memory of the machine, in bytes.
    #[serde(deserialize_with = "null_is_unset")]
    pub system_memory_total: i64,
    /// Free memory of the machine, in bytes.
    #[serde(deserialize_with = "null_is_unset")]
    pub system_memory_free: i64,
    /// Components that run.
    #[serde(deserialize_with = "null_is_unset")]
    pub component_count: i64,
    /// Workloads that run.
    #[serde(deserialize_with = "null_is_unset")]
    pub workload_count: i64,
    /// When it last gave a sign of life.
    #[serde(skip_serializing_if = "is_default")]
    pub last_seen: Option<Timestamp>,
    /// `Reporting` and `Ready`.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub conditions: Vec<Condition>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}
