//! One incarnation of a workload: one id, on at most one host.

use serde::{Deserialize, Serialize};

use super::extra::{is_default, null_is_unset};
use super::{Condition, Extra, Metadata, WorkloadSpec};

/// A workload.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Metadata; the uid is the id on the wire, or its stem.
    #[serde(default)]
    pub metadata: Metadata,
    /// What is to run.
    #[serde(default, deserialize_with = "null_is_unset")]
    pub spec: WorkloadSpec,
    /// What became of it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub status: Option<WorkloadStatus>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What became of a workload.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadStatus {
    /// The chosen host.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub host_id: String,
    /// The environment of the chosen host.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub environment: String,
    /// The id under which the host knows it.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub workload_id: String,
    /// `Config`, `HostSelection`, `Placement`, `Sync`, `Ready`.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub conditions: Vec<Condition>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}
