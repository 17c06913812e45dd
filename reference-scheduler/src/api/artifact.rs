//! A name for an image, so that many deployments follow when it moves.

use serde::{Deserialize, Serialize};

use super::extra::{is_default, null_is_unset};
use super::{Condition, Extra, LocalReference, Metadata};

/// An artifact.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Metadata.
    #[serde(default)]
    pub metadata: Metadata,
    /// What it names.
    pub spec: ArtifactSpec,
    /// What users of the name get.
    #[serde(default, skip_serializing_if = "is_default")]
    pub status: Option<ArtifactStatus>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What an artifact names.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactSpec {
    /// The image.
    pub image: String,
    /// The Secret to pull it with.
    #[serde(default, skip_serializing_if = "is_default")]
    pub image_pull_secret: Option<LocalReference>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What users of an artifact get.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ArtifactStatus {
    /// The generation of the spec that this was made from.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub observed_generation: i64,
    /// The image that stands for it.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub artifact_url: String,
    /// `Sync`, `Published`, `Ready`.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub conditions: Vec<Condition>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}
