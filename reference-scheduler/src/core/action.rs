//! What the core wants done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::WriteError;
use crate::api::{
    ArtifactStatus, HostStatus, Key, Object, Workload, WorkloadDeploymentStatus,
    WorkloadReplicaSetStatus, WorkloadStatus,
};

/// Tells calls apart; never used twice by one scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Tells writes apart; never used twice by one scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// What is to be done. All of it at once: no action waits for the end of another.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send a command to a host and tell the end with [`Event::Answered`](super::Event::Answered),
    /// at `timeout` at the latest. Sent now or never: a call that cannot go out ends as `Disconnected`.
    Call {
        /// To be told with the answer.
        call_id: CallId,
        /// The host.
        host_id: Arc<str>,
        /// What it is told.
        command: Command,
        /// How long to wait for the answer.
        timeout: Duration,
    },
    /// Write to the store and tell the end with [`Event::Written`](super::Event::Written).
    /// There is at most one write at a time for each object.
    Write {
        /// To be told with the result.
        write_id: WriteId,
        /// What is written.
        write: Write,
    },
    /// Tell people.
    Note(Note),
}

/// What a host is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Start a workload.
    Start {
        /// The object: everything but what its references hold.
        workload: Arc<Workload>,
        /// Under this id. A later start of the same id has to carry the same content.
        id: Arc<str>,
    },
    /// Stop an id.
    Stop {
        /// The id.
        id: Arc<str>,
    },
    /// Ask for the state of an id.
    Status {
        /// The id.
        id: Arc<str>,
    },
}

/// A change of one object. A `uid` that is not empty is a precondition: of another one, the result is
/// `NotFound`.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Create this object; its status is not written with it. `Exists` when there is one of its name.
    Create(Object),
    /// Create this host, or make these its labels and fields; its status is left alone.
    ApplyHost(Object),
    /// Make this its status, as a whole.
    Status {
        /// The object.
        key: Key,
        /// Its uid.
        uid: String,
        /// All of its status.
        status: Status,
        /// Whether it may be held back for a moment in favour of what has to be written at once.
        can_wait: bool,
    },
    /// Change its metadata.
    Metadata {
        /// The object.
        key: Key,
        /// Its uid.
        uid: String,
        /// What becomes of it.
        patch: MetadataPatch,
    },
    /// Make this the `spec.replicas` of a replica set.
    Replicas {
        /// The replica set.
        key: Key,
        /// Its uid.
        uid: String,
        /// How many.
        replicas: u32,
    },
    /// Delete it, in the background.
    Delete {
        /// The object.
        key: Key,
        /// Its uid.
        uid: String,
    },
}

/// A change of metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataPatch {
    /// A finalizer to add; nothing happens when it is there.
    pub add_finalizer: Option<&'static str>,
    /// A finalizer to take away; nothing happens when it is not there.
    pub remove_finalizer: Option<&'static str>,
    /// Annotations to set, or with `None` to take away.
    pub annotations: BTreeMap<String, Option<String>>,
}

/// The status of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// Of a host.
    Host(HostStatus),
    /// Of a workload.
    Workload(WorkloadStatus),
    /// Of a replica set.
    ReplicaSet(WorkloadReplicaSetStatus),
    /// Of a deployment.
    Deployment(WorkloadDeploymentStatus),
    /// Of an artifact.
    Artifact(ArtifactStatus),
}

/// Something that people should hear of: on Kubernetes an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it is about.
    pub key: Key,
    /// Its uid.
    pub uid: String,
    /// Whether it is a warning.
    pub kind: NoteKind,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// The sentence.
    pub message: String,
}

/// Whether something is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteKind {
    /// It is.
    Normal,
    /// It is not.
    Warning,
}

impl Status {
    /// Makes it the whole status of an object.
    ///
    /// # Errors
    ///
    /// `Refused` when the object is of another kind.
    pub fn enter(self, object: &mut Object) -> Result<(), WriteError> {
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
                let message = format!("{} gets a status of another kind", object.key());
                return Err(WriteError::Refused(message));
            }
        }
        Ok(())
    }
}

impl Write {
    /// The object that is written.
    pub fn key(&self) -> Key {
        match self {
            Self::Create(object) | Self::ApplyHost(object) => object.key(),
            Self::Status { key, .. }
            | Self::Metadata { key, .. }
            | Self::Replicas { key, .. }
            | Self::Delete { key, .. } => key.clone(),
        }
    }

    /// Makes this the status of an object, at once.
    pub const fn status(key: Key, uid: String, status: Status) -> Self {
        Self::Status {
            key,
            uid,
            status,
            can_wait: false,
        }
    }

    /// Whether it may be held back for a moment in favour of those that may not.
    pub const fn can_wait(&self) -> bool {
        matches!(self, Self::Status { can_wait: true, .. })
    }
}
