//! The kinds of `runtime.wasmcloud.dev/v1alpha1`, as plain data.
//!
//! They have the same fields as the CRDs of wasmCloud's operator. Unknown fields are accepted, and
//! preserved when an object is written back as a whole ([`Extra`]).

mod artifact;
mod condition;
mod deployment;
mod extra;
mod host;
mod metadata;
pub mod names;
mod replica_set;
mod spec;
mod template;
mod timestamp;
mod workload;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde_json::Value;

pub use artifact::{Artifact, ArtifactSpec, ArtifactStatus};
pub use condition::{Condition, ConditionStatus, condition, is_true, set_condition};
pub use deployment::{
    DeployPolicy, DeploymentArtifact, WorkloadDeployment, WorkloadDeploymentSpec,
    WorkloadDeploymentStatus,
};
pub use extra::Extra;
pub use host::{Host, HostStatus};
pub use metadata::{Metadata, OwnerReference};
pub use replica_set::{
    ReplicaCounts, WorkloadReplicaSet, WorkloadReplicaSetSpec, WorkloadReplicaSetStatus,
};
pub use spec::{
    ConfigLayer, EphemeralVolume, HostInterface, HostPathVolume, KubernetesService, KubernetesSpec,
    LocalReference, LocalResources, Volume, VolumeMount, WorkloadComponent, WorkloadService,
    WorkloadSpec,
};
pub use template::WorkloadTemplate;
pub use timestamp::{Timestamp, TimestampError};
pub use workload::{Workload, WorkloadStatus};

/// API group of the kinds.
pub const GROUP: &str = "runtime.wasmcloud.dev";
/// Version of the group.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` of every object.
pub const API_VERSION: &str = "runtime.wasmcloud.dev/v1alpha1";

/// Kind of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A host, created from its heartbeats.
    Host,
    /// One incarnation of a workload.
    Workload,
    /// A number of identical workloads.
    WorkloadReplicaSet,
    /// A replica set with rollouts from one revision to the next.
    WorkloadDeployment,
    /// A name for an image.
    Artifact,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 5] = [
        Self::Host,
        Self::Workload,
        Self::WorkloadReplicaSet,
        Self::WorkloadDeployment,
        Self::Artifact,
    ];

    /// Returns the name of the kind, as in the field `kind`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "Host",
            Self::Workload => "Workload",
            Self::WorkloadReplicaSet => "WorkloadReplicaSet",
            Self::WorkloadDeployment => "WorkloadDeployment",
            Self::Artifact => "Artifact",
        }
    }

    /// Returns the name of the resource in a URL path, such as `workloads`.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Host => "hosts",
            Self::Workload => "workloads",
            Self::WorkloadReplicaSet => "workloadreplicasets",
            Self::WorkloadDeployment => "workloaddeployments",
            Self::Artifact => "artifacts",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = ObjectError;

    fn from_str(text: &str) -> Result<Self, ObjectError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| ObjectError::UnknownKind(text.to_owned()))
    }
}

/// Key of an object in its store, unique at any time. After a deletion, a new object may have the
/// same key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The kind.
    pub kind: Kind,
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl Key {
    /// Returns the key of the object `namespace`/`name` of a kind.
    pub fn new(kind: Kind, namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// An object of any kind. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// A host.
    Host(Arc<Host>),
    /// A workload.
    Workload(Arc<Workload>),
    /// A replica set.
    ReplicaSet(Arc<WorkloadReplicaSet>),
    /// A deployment.
    Deployment(Arc<WorkloadDeployment>),
    /// An artifact.
    Artifact(Arc<Artifact>),
}

impl Object {
    /// Converts the JSON of a manifest or of the API to an object.
    ///
    /// # Errors
    ///
    /// Returns an error if `apiVersion` is not [`API_VERSION`], `kind` is not a [`Kind`], a field
    /// has the wrong type, or a required field is missing.
    pub fn from_value(mut value: Value) -> Result<Self, ObjectError> {
        let fields = value.as_object_mut().ok_or(ObjectError::NotAnObject)?;
        let mut take_string = |name: &'static str| match fields.remove(name) {
            Some(Value::String(text)) => Ok(text),
            _ => Err(ObjectError::Untyped(name)),
        };
        let (version, kind) = (take_string("apiVersion")?, take_string("kind")?);
        if version != API_VERSION {
            return Err(ObjectError::UnknownVersion(version));
        }
        Self::from_fields(kind.parse()?, value)
    }

    /// Converts JSON, with or without `apiVersion` and `kind`, to an object of a known kind.
    ///
    /// # Errors
    ///
    /// Returns an error if a field has the wrong type or a required field is missing.
    pub fn from_fields(kind: Kind, mut value: Value) -> Result<Self, ObjectError> {
        if let Some(fields) = value.as_object_mut() {
            fields.remove("apiVersion");
            fields.remove("kind");
        }
        let object = match kind {
            Kind::Host => serde_json::from_value(value).map(|host| Self::Host(Arc::new(host))),
            Kind::Workload => {
                serde_json::from_value(value).map(|workload| Self::Workload(Arc::new(workload)))
            }
            Kind::WorkloadReplicaSet => {
                serde_json::from_value(value).map(|set| Self::ReplicaSet(Arc::new(set)))
            }
            Kind::WorkloadDeployment => serde_json::from_value(value)
                .map(|deployment| Self::Deployment(Arc::new(deployment))),
            Kind::Artifact => {
                serde_json::from_value(value).map(|artifact| Self::Artifact(Arc::new(artifact)))
            }
        };
        object.map_err(|source| ObjectError::Field { kind, source })
    }

    /// Converts the whole object to JSON, beginning with `apiVersion` and `kind`.
    ///
    /// # Errors
    ///
    /// Never fails for the objects of this module; the signature of serde requires a result.
    pub fn to_value(&self) -> Result<Value, serde_json::Error> {
        let body = match self {
            Self::Host(host) => serde_json::to_value(host.as_ref()),
            Self::Workload(workload) => serde_json::to_value(workload.as_ref()),
            Self::ReplicaSet(set) => serde_json::to_value(set.as_ref()),
            Self::Deployment(deployment) => serde_json::to_value(deployment.as_ref()),
            Self::Artifact(artifact) => serde_json::to_value(artifact.as_ref()),
        }?;
        let mut object = serde_json::Map::new();
        object.insert("apiVersion".to_owned(), Value::from(API_VERSION));
        object.insert("kind".to_owned(), Value::from(self.kind().as_str()));
        if let Value::Object(fields) = body {
            object.extend(fields);
        }
        Ok(Value::Object(object))
    }

    /// Returns the kind of the object.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Host(_) => Kind::Host,
            Self::Workload(_) => Kind::Workload,
            Self::ReplicaSet(_) => Kind::WorkloadReplicaSet,
            Self::Deployment(_) => Kind::WorkloadDeployment,
            Self::Artifact(_) => Kind::Artifact,
        }
    }

    /// Returns the metadata of the object.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        match self {
            Self::Host(host) => &host.metadata,
            Self::Workload(workload) => &workload.metadata,
            Self::ReplicaSet(set) => &set.metadata,
            Self::Deployment(deployment) => &deployment.metadata,
            Self::Artifact(artifact) => &artifact.metadata,
        }
    }

    /// Returns the metadata of the object for changes. Copies a shared object.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        match self {
            Self::Host(host) => &mut Arc::make_mut(host).metadata,
            Self::Workload(workload) => &mut Arc::make_mut(workload).metadata,
            Self::ReplicaSet(set) => &mut Arc::make_mut(set).metadata,
            Self::Deployment(deployment) => &mut Arc::make_mut(deployment).metadata,
            Self::Artifact(artifact) => &mut Arc::make_mut(artifact).metadata,
        }
    }

    /// Returns the key of the object.
    #[must_use]
    pub fn key(&self) -> Key {
        let metadata = self.metadata();
        Key::new(
            self.kind(),
            metadata.namespace.as_str(),
            metadata.name.as_str(),
        )
    }
}

/// Error of converting JSON to an object.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The value is not a JSON object.
    #[error("expected a JSON or YAML object")]
    NotAnObject,
    /// `apiVersion` or `kind` is missing or not a string.
    #[error("`{0}` is missing or not a string")]
    Untyped(&'static str),
    /// The group or version is unknown.
    #[error("apiVersion {0:?} is not {API_VERSION}")]
    UnknownVersion(String),
    /// The kind is unknown.
    #[error("kind {0:?} is not a kind of {GROUP}")]
    UnknownKind(String),
    /// A field is missing or has the wrong type.
    #[error("invalid {kind}")]
    Field {
        /// Kind of the object.
        kind: Kind,
        /// The invalid field.
        #[source]
        source: serde_json::Error,
    },
}

#[cfg(test)]
mod tests;
