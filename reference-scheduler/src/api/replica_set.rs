//! A number of equal workloads.

use serde::{Deserialize, Serialize};

use super::extra::{is_default, null_is_unset};
use super::{Condition, Extra, Metadata, WorkloadTemplate};

/// A replica set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadReplicaSet {
    /// Metadata.
    #[serde(default)]
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: WorkloadReplicaSetSpec,
    /// What there is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub status: Option<WorkloadReplicaSetStatus>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What is wanted of a replica set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadReplicaSetSpec {
    /// How many; unset is one. [`replicas`](Self::replicas) reads it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub replicas: Option<i32>,
    /// Of what.
    pub template: WorkloadTemplate,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

impl WorkloadReplicaSetSpec {
    /// How many workloads are wanted: one when nothing is said, none for a negative number.
    #[must_use]
    pub fn replicas(&self) -> u32 {
        wanted(self.replicas)
    }
}

/// What a `replicas` field asks for.
pub(super) fn wanted(replicas: Option<i32>) -> u32 {
    u32::try_from(replicas.unwrap_or(1)).unwrap_or(0)
}

/// What there is of a replica set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadReplicaSetStatus {
    /// Counts.
    #[serde(skip_serializing_if = "is_default")]
    pub replicas: Option<ReplicaCounts>,
    /// `ScaleUp`, `ScaleDown`, `Ready`.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub conditions: Vec<Condition>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// How many replicas there are in each respect. Zeros are written, so that a merge patch clears
/// what was there before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplicaCounts {
    /// Wanted.
    #[serde(deserialize_with = "null_is_unset")]
    pub expected: i32,
    /// There.
    #[serde(deserialize_with = "null_is_unset")]
    pub current: i32,
    /// Serving.
    #[serde(deserialize_with = "null_is_unset")]
    pub ready: i32,
    /// There and not serving.
    #[serde(deserialize_with = "null_is_unset")]
    pub unavailable: i32,
}
