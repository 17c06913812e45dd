//! What the workloads of a replica set are made from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::extra::{is_default, null_is_unset};
use super::{Extra, WorkloadSpec};

/// The template of a replica set's workloads. Only `spec` counts towards the revision.
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
    /// What is to run.
    pub spec: WorkloadSpec,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}
