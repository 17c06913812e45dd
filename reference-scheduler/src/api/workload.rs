//! Workloads: each runs on at most one host at a time.

use serde::{Deserialize, Serialize};

use super::extra::{is_default, null_is_unset};
use super::{Condition, Extra, Metadata, WorkloadSpec};

/// A unit of components, and optionally a service, that runs on one host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Metadata of the object. The ids of its incarnations begin with its UID.
    #[serde(default)]
    pub metadata: Metadata,
    /// Desired state.
    #[serde(default, deserialize_with = "null_is_unset")]
    pub spec: WorkloadSpec,
    /// Observed state.
    #[serde(default, skip_serializing_if = "is_default")]
    pub status: Option<WorkloadStatus>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Observed state of a workload.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadStatus {
    /// ID of the assigned host.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub host_id: String,
    /// Environment of the assigned host.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub environment: String,
    /// ID of the current incarnation.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub workload_id: String,
    /// Conditions `Config`, `HostSelection`, `Placement`, `Sync` and `Ready`.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub conditions: Vec<Condition>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}
