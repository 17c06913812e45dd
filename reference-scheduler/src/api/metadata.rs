//! Metadata of objects.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::extra::{is_default, null_is_unset};
use super::{Extra, Kind, Timestamp};

/// Metadata of an object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Name, unique at any time among the objects of its kind and namespace.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub name: String,
    /// Namespace.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub namespace: String,
    /// Globally unique ID; set by the store.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub uid: String,
    /// Opaque version that changes with every write; set by the store.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub resource_version: String,
    /// Increases with every change of the desired state, not of the status.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub generation: i64,
    /// Labels.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub annotations: BTreeMap<String, String>,
    /// Finalizers: a deleted object remains until the list is empty.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub finalizers: Vec<String>,
    /// Owners, with which the object is deleted.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub owner_references: Vec<OwnerReference>,
    /// Time of creation.
    #[serde(skip_serializing_if = "is_default")]
    pub creation_timestamp: Option<Timestamp>,
    /// Time of the deletion request; set while the object is being deleted.
    #[serde(skip_serializing_if = "is_default")]
    pub deletion_timestamp: Option<Timestamp>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Metadata {
    /// Returns metadata with a namespace and a name.
    pub fn named(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            ..Self::default()
        }
    }

    /// Returns whether the object is being deleted.
    #[must_use]
    pub const fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    /// Returns the owner that controls the object, if any.
    #[must_use]
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|owner| owner.controller)
    }

    /// Returns whether the object has a finalizer.
    #[must_use]
    pub fn has_finalizer(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|existing| existing == finalizer)
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
    /// UID of the owner.
    pub uid: String,
    /// Whether this owner controls the object; at most one owner does.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub controller: bool,
    /// Whether foreground deletion of the owner waits for this object.
    #[serde(deserialize_with = "null_is_unset", skip_serializing_if = "is_default")]
    pub block_owner_deletion: bool,
}

impl OwnerReference {
    /// Returns a reference to an owner of `kind` that controls an object.
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
