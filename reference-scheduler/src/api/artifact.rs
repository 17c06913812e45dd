//! Artifacts: names for images, so that many deployments can follow a change of image.

use serde::{Deserialize, Serialize};

use super::extra::{is_default, null_is_unset};
use super::{Condition, Extra, LocalReference, Metadata};

/// A name for an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Metadata of the object.
    #[serde(default)]
    pub metadata: Metadata,
    /// Desired state.
    pub spec: ArtifactSpec,
    /// Observed state.
    #[serde(default, skip_serializing_if = "is_default")]
    pub status: Option<ArtifactStatus>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Desired state of an artifact.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactSpec {
    /// Image reference.
    pub image: String,
    /// Secret with credentials for the image.
    #[serde(default, skip_serializing_if = "is_default")]
    pub image_pull_secret: Option<LocalReference>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Observed state of an artifact.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ArtifactStatus {
    /// Generation of the spec that this status reflects.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub observed_generation: i64,
    /// Image reference of the spec, which deployments use once `Published` is true. Not a URL: the
    /// CRD defines the name of the field.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub artifact_url: String,
    /// Conditions `Sync`, `Published` and `Ready`.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub conditions: Vec<Condition>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}
