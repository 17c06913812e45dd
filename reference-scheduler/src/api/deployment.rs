//! Deployments: replica sets with rollouts from one revision to the next.

use serde::{Deserialize, Serialize};

use super::extra::{is_default, null_is_unset};
use super::replica_set::desired_replicas;
use super::{
    Condition, Extra, KubernetesSpec, LocalReference, Metadata, ReplicaCounts, WorkloadTemplate,
};

/// A replica set with rollouts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadDeployment {
    /// Metadata of the object.
    #[serde(default)]
    pub metadata: Metadata,
    /// Desired state.
    pub spec: WorkloadDeploymentSpec,
    /// Observed state.
    #[serde(default, skip_serializing_if = "is_default")]
    pub status: Option<WorkloadDeploymentStatus>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Desired state of a deployment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadDeploymentSpec {
    /// Number of replicas, 1 if unset. Use [`replicas`](Self::replicas).
    #[serde(default, skip_serializing_if = "is_default")]
    pub replicas: Option<i32>,
    /// Template of the workloads.
    pub template: WorkloadTemplate,
    /// Rollout policy. Use [`deploy_policy`](Self::deploy_policy).
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub deploy_policy: String,
    /// Artifacts to which images of the template refer as `artifact://<name>`.
    #[serde(
        default,
        deserialize_with = "null_is_unset",
        skip_serializing_if = "is_default"
    )]
    pub artifacts: Vec<DeploymentArtifact>,
    /// Kubernetes Service that routes to the workloads. Overrides `template.spec.kubernetes`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kubernetes: Option<KubernetesSpec>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

impl WorkloadDeploymentSpec {
    /// Returns the desired number of replicas: 1 if unset, 0 if negative.
    #[must_use]
    pub fn replicas(&self) -> u32 {
        desired_replicas(self.replicas)
    }

    /// Returns the rollout policy, or `None` for an unknown one.
    #[must_use]
    pub fn deploy_policy(&self) -> Option<DeployPolicy> {
        match self.deploy_policy.as_str() {
            "" | "RollingUpdate" => Some(DeployPolicy::RollingUpdate),
            "Recreate" => Some(DeployPolicy::Recreate),
            _ => None,
        }
    }
}

/// Rollout policy of a deployment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeployPolicy {
    /// Replaces replicas in batches and keeps the desired number ready.
    #[default]
    RollingUpdate,
    /// Stops all old replicas before it starts new ones.
    Recreate,
}

/// An artifact, with its name in the template of the deployment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentArtifact {
    /// Name in `artifact://<name>`.
    pub name: String,
    /// Artifact object in the same namespace.
    pub artifact_from: LocalReference,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Observed state of a deployment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadDeploymentStatus {
    /// Replica set of the desired revision.
    #[serde(skip_serializing_if = "is_default")]
    pub current_replica_set: Option<LocalReference>,
    /// Replica set of the last good revision, during a rollout.
    #[serde(skip_serializing_if = "is_default")]
    pub previous_replica_set: Option<LocalReference>,
    /// Counts of all replica sets together.
    #[serde(skip_serializing_if = "is_default")]
    pub replicas: Option<ReplicaCounts>,
    /// The same as `replicas.current`, for the scale subresource.
    #[serde(deserialize_with = "null_is_unset")]
    pub current_replicas: i32,
    /// Label selector of the replicas, for the scale subresource.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub selector: String,
    /// Conditions `Artifact`, `Sync`, `Deploy`, `Scale` and `Ready`.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub conditions: Vec<Condition>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}
