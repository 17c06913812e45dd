//! Templates of the workloads of a replica set.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::extra::{is_default, null_is_unset};
use super::{Extra, WorkloadSpec};

/// Template of the workloads of a replica set. The revision depends only on `spec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadTemplate {
    /// Annotations of the workloads.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Labels of the workloads.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub labels: BTreeMap<String, String>,
    /// Desired state of the workloads.
    pub spec: WorkloadSpec,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}
