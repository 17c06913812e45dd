//! A replica set and the way from one revision of it to the next.

use serde::{Deserialize, Serialize};

use super::extra::{is_default, null_is_unset};
use super::replica_set::wanted;
use super::{
    Condition, Extra, KubernetesSpec, LocalReference, Metadata, ReplicaCounts, WorkloadTemplate,
};

/// A deployment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadDeployment {
    /// Metadata.
    #[serde(default)]
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: WorkloadDeploymentSpec,
    /// What there is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub status: Option<WorkloadDeploymentStatus>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What is wanted of a deployment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadDeploymentSpec {
    /// How many; unset is one. [`replicas`](Self::replicas) reads it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub replicas: Option<i32>,
    /// Of what.
    pub template: WorkloadTemplate,
    /// How one revision follows another; [`deploy_policy`](Self::deploy_policy) reads it.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub deploy_policy: String,
    /// Artifacts that images of the template refer to as `artifact://<name>`.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub artifacts: Vec<DeploymentArtifact>,
    /// Takes the place of `template.spec.kubernetes`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kubernetes: Option<KubernetesSpec>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

impl WorkloadDeploymentSpec {
    /// How many workloads are wanted: one when nothing is said, none for a negative number.
    #[must_use]
    pub fn replicas(&self) -> u32 {
        wanted(self.replicas)
    }

    /// How one revision follows another; anything but `Recreate` is a rolling update, as upstream
    /// has it.
    #[must_use]
    pub fn deploy_policy(&self) -> DeployPolicy {
        match self.deploy_policy.as_str() {
            "Recreate" => DeployPolicy::Recreate,
            _ => DeployPolicy::RollingUpdate,
        }
    }
}

/// How one revision of a deployment follows another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeployPolicy {
    /// In batches, keeping the wanted number ready.
    #[default]
    RollingUpdate,
    /// The old ones are gone before the new ones come.
    Recreate,
}

/// An artifact under the name that the deployment's template knows it by.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentArtifact {
    /// The name in `artifact://<name>`.
    pub name: String,
    /// The Artifact object, of the same namespace.
    pub artifact_from: LocalReference,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What there is of a deployment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadDeploymentStatus {
    /// The replica set of the wanted revision.
    #[serde(skip_serializing_if = "is_default")]
    pub current_replica_set: Option<LocalReference>,
    /// The last good replica set of another revision, while a rollout goes on.
    #[serde(skip_serializing_if = "is_default")]
    pub previous_replica_set: Option<LocalReference>,
    /// Counts over all replica sets.
    #[serde(skip_serializing_if = "is_default")]
    pub replicas: Option<ReplicaCounts>,
    /// `replicas.current` once more, for the scale subresource.
    #[serde(deserialize_with = "null_is_unset")]
    pub current_replicas: i32,
    /// The label selector of what is scaled, for the scale subresource.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub selector: String,
    /// `Artifact`, `Sync`, `Deploy`, `Scale`, `Ready`.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub conditions: Vec<Condition>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}
