//! The actions that the core requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::StoreError;
use crate::api::{
    ArtifactStatus, HostStatus, Key, Object, Workload, WorkloadDeploymentStatus,
    WorkloadReplicaSetStatus, WorkloadStatus,
};

/// ID of a call, unique within one scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// ID of a write, unique within one scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// An action for the runtime. All actions run concurrently: none waits for another.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send a command to a host and report the end with
    /// [`Event::CallFinished`](super::Event::CallFinished) within `timeout`. Never queue a call:
    /// without a connection the call ends as `Disconnected`.
    Call {
        /// ID of the call.
        call_id: CallId,
        /// ID of the host.
        host_id: Arc<str>,
        /// The command.
        command: Command,
        /// Time limit of the whole call.
        timeout: Duration,
    },
    /// Write to the store and report the end with
    /// [`Event::WriteFinished`](super::Event::WriteFinished). Each object has at most one write in
    /// flight.
    Write {
        /// ID of the write.
        write_id: WriteId,
        /// The change.
        write: Write,
    },
    /// Record an event about an object.
    RecordEvent(ObjectEvent),
}

/// A command to a host.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Start a workload.
    Start {
        /// The object, with its references to ConfigMaps and Secrets unresolved.
        workload: Arc<Workload>,
        /// ID of the incarnation. Every start of the same id carries the same content.
        id: Arc<str>,
    },
    /// Stop an incarnation.
    Stop {
        /// ID of the incarnation.
        id: Arc<str>,
    },
    /// Query the state of an incarnation.
    Status {
        /// ID of the incarnation.
        id: Arc<str>,
    },
    /// Request a heartbeat.
    Heartbeat,
}

/// A change of one object. A non-empty `uid` is a precondition: if the object has another uid, the
/// result is `NotFound`.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Create the object without its status. `Exists` if its name is in use.
    Create(Object),
    /// Create the host, or replace its labels and fields; its status is unchanged.
    ApplyHost(Object),
    /// Replace the whole status.
    Status {
        /// Key of the object.
        key: Key,
        /// UID of the object.
        uid: String,
        /// The new status.
        status: Status,
        /// Whether other writes go first.
        is_deferrable: bool,
    },
    /// Patch the metadata.
    Metadata {
        /// Key of the object.
        key: Key,
        /// UID of the object.
        uid: String,
        /// The patch.
        patch: MetadataPatch,
    },
    /// Set `spec.replicas` of a replica set.
    Replicas {
        /// Key of the replica set.
        key: Key,
        /// UID of the replica set.
        uid: String,
        /// The new number of replicas.
        replicas: u32,
    },
    /// Delete the object, with background propagation.
    Delete {
        /// Key of the object.
        key: Key,
        /// UID of the object.
        uid: String,
    },
}

/// A patch of an object's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataPatch {
    /// Finalizer to add, if missing.
    pub add_finalizer: Option<&'static str>,
    /// Finalizer to remove, if present.
    pub remove_finalizer: Option<&'static str>,
    /// Annotations to set, or with `None` to remove.
    pub annotations: BTreeMap<String, Option<String>>,
}

/// The status of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// Status of a host.
    Host(HostStatus),
    /// Status of a workload.
    Workload(WorkloadStatus),
    /// Status of a replica set.
    ReplicaSet(WorkloadReplicaSetStatus),
    /// Status of a deployment.
    Deployment(WorkloadDeploymentStatus),
    /// Status of an artifact.
    Artifact(ArtifactStatus),
}

/// An event about an object, for users: on Kubernetes an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectEvent {
    /// Key of the object.
    pub key: Key,
    /// UID of the object.
    pub uid: String,
    /// Severity of the event.
    pub kind: ObjectEventKind,
    /// Reason in CamelCase.
    pub reason: &'static str,
    /// Human-readable message.
    pub message: String,
}

/// Severity of an event, as on Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectEventKind {
    /// Nothing is wrong.
    Normal,
    /// Something is wrong.
    Warning,
}

impl Status {
    /// Replaces the whole status of an object.
    ///
    /// # Errors
    ///
    /// `Refused` if the object is of another kind.
    pub fn apply_to(self, object: &mut Object) -> Result<(), StoreError> {
        match (object, self) {
            (Object::Host(it), Self::Host(status)) => Arc::make_mut(it).status = Some(status),
            (Object::Workload(it), Self::Workload(status)) => {
                Arc::make_mut(it).status = Some(status);
            }
            (Object::ReplicaSet(it), Self::ReplicaSet(status)) => {
                Arc::make_mut(it).status = Some(status);
            }
            (Object::Deployment(it), Self::Deployment(status)) => {
                Arc::make_mut(it).status = Some(status);
            }
            (Object::Artifact(it), Self::Artifact(status)) => {
                Arc::make_mut(it).status = Some(status);
            }
            (object, _) => {
                let message = format!("cannot set a status of another kind on {}", object.key());
                return Err(StoreError::Refused(message));
            }
        }
        Ok(())
    }
}

impl Write {
    /// Returns the key of the written object.
    pub fn key(&self) -> Key {
        match self {
            Self::Create(object) | Self::ApplyHost(object) => object.key(),
            Self::Status { key, .. }
            | Self::Metadata { key, .. }
            | Self::Replicas { key, .. }
            | Self::Delete { key, .. } => key.clone(),
        }
    }

    /// Returns a write of a status that is not deferrable.
    pub const fn status(key: Key, uid: String, status: Status) -> Self {
        Self::Status {
            key,
            uid,
            status,
            is_deferrable: false,
        }
    }

    /// Returns whether other writes go first.
    pub const fn is_deferrable(&self) -> bool {
        matches!(
            self,
            Self::Status {
                is_deferrable: true,
                ..
            }
        )
    }
}
