//! Replica sets: a number of identical workloads.

use serde::{Deserialize, Serialize};

use super::extra::{is_default, null_is_unset};
use super::{Condition, Extra, Metadata, WorkloadTemplate};

/// A number of identical workloads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadReplicaSet {
    /// Metadata of the object.
    #[serde(default)]
    pub metadata: Metadata,
    /// Desired state.
    pub spec: WorkloadReplicaSetSpec,
    /// Observed state.
    #[serde(default, skip_serializing_if = "is_default")]
    pub status: Option<WorkloadReplicaSetStatus>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Desired state of a replica set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadReplicaSetSpec {
    /// Number of replicas, 1 if unset. Use [`replicas`](Self::replicas).
    #[serde(default, skip_serializing_if = "is_default")]
    pub replicas: Option<i32>,
    /// Template of the workloads.
    pub template: WorkloadTemplate,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

impl WorkloadReplicaSetSpec {
    /// Returns the desired number of replicas: 1 if unset, 0 if negative.
    #[must_use]
    pub fn replicas(&self) -> u32 {
        desired_replicas(self.replicas)
    }
}

/// Returns the desired number of replicas for a `replicas` field.
pub(super) fn desired_replicas(replicas: Option<i32>) -> u32 {
    u32::try_from(replicas.unwrap_or(1)).unwrap_or(0)
}

/// Observed state of a replica set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadReplicaSetStatus {
    /// Counts of replicas.
    #[serde(skip_serializing_if = "is_default")]
    pub replicas: Option<ReplicaCounts>,
    /// Conditions `ScaleUp`, `ScaleDown` and `Ready`.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub conditions: Vec<Condition>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Counts of replicas. Zeros are written too, so that a merge patch resets old values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplicaCounts {
    /// Desired replicas.
    #[serde(deserialize_with = "null_is_unset")]
    pub expected: i32,
    /// Existing replicas.
    #[serde(deserialize_with = "null_is_unset")]
    pub current: i32,
    /// Ready replicas.
    #[serde(deserialize_with = "null_is_unset")]
    pub ready: i32,
    /// Existing replicas that are not ready.
    #[serde(deserialize_with = "null_is_unset")]
    pub unavailable: i32,
}
