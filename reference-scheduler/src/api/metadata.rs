//! What every object carries beside its own fields.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::extra::{is_default, null_is_unset};
use super::{Extra, Kind, Timestamp};

/// The metadata of an object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Unique among the objects of its kind and namespace at one time.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub name: String,
    /// The namespace.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub namespace: String,
    /// Unique over all objects and all time; given by the store.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub uid: String,
    /// Changes with every write; given by the store; opaque.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub resource_version: String,
    /// Grows with every change of what is wanted, not with changes of the status.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub generation: i64,
    /// Labels.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub annotations: BTreeMap<String, String>,
    /// The object stays, deleted, until this list is empty.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub finalizers: Vec<String>,
    /// Whom it goes with.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub owner_references: Vec<OwnerReference>,
    /// When it was created.
    #[serde(skip_serializing_if = "is_default")]
    pub creation_timestamp: Option<Timestamp>,
    /// When its deletion was asked for; set means that it is on its way out.
    #[serde(skip_serializing_if = "is_default")]
    pub deletion_timestamp: Option<Timestamp>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Metadata {
    /// Metadata of a new object.
    pub fn named(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            ..Self::default()
        }
    }

    /// Whether its deletion was asked for.
    #[must_use]
    pub const fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    /// The owner that controls it, if there is one.
    #[must_use]
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|owner| owner.controller)
    }

    /// Whether `finalizer` holds it.
    #[must_use]
    pub fn has_finalizer(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|held| held == finalizer)
    }
}

/// A reference to an owner.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// Group and version of the owner.
    pub api_version: String,
    /// Kind of the owner.
    pub kind: String,
    /// Name of the owner.
    pub name: String,
    /// Uid of the owner; an owner of the same name and another uid is a stranger.
    pub uid: String,
    /// Whether this owner controls the object; at most one does.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub controller: bool,
    /// Whether the owner's foreground deletion waits for this object.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub block_owner_deletion: bool,
}

impl OwnerReference {
    /// The reference to the owner of `kind` that controls an object.
    #[must_use]
    pub fn controller(kind: Kind, owner: &Metadata) -> Self {
        Self {
            api_version: super::API_VERSION.to_owned(),
            kind: kind.as_str().to_owned(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
            controller: true,
            block_owner_deletion: true,
        }
    }
}
