//! Intakes: interfaces through which the suite submits objects to a scheduler and reads their
//! status.

mod dir;
mod exec;
mod kube;

pub use self::dir::DirIntake;
pub use self::exec::{ExecConfig, ExecIntake};
pub use self::kube::KubeIntake;

use serde_json::Value;

use super::manifest::{Key, Manifest};

/// Maximum number of objects in one list that an intake reads. A scenario has one child object per
/// replica, and a few more.
const MAX_OBJECTS: usize = 2_000;

/// Open intake. Clones share it.
#[derive(Clone, Debug)]
pub enum Intake {
    /// Manifests in a directory.
    Dir(DirIntake),
    /// Commands of the scheduler.
    Exec(ExecIntake),
    /// Custom resources.
    Kube(KubeIntake),
}

/// Failure of an intake.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// A file operation failed.
    #[error("cannot {operation} {path}")]
    File {
        /// Operation that failed: `write` or `remove`.
        operation: &'static str,
        /// Path of the file.
        path: String,
        /// Cause of the failure.
        #[source]
        source: std::io::Error,
    },
    /// The command cannot be run.
    #[error("cannot run the intake command `{0}`")]
    Command(String, #[source] std::io::Error),
    /// The intake refuses an object.
    #[error("the intake refuses {key}: {text}")]
    Refused {
        /// Object that is refused.
        key: Key,
        /// Text of the refusal.
        text: String,
    },
    /// The kubeconfig file is invalid.
    #[error("cannot read the kubeconfig file {path}")]
    Kubeconfig {
        /// Path of the file.
        path: String,
        /// Cause of the failure.
        #[source]
        source: ::kube::config::KubeconfigError,
    },
    /// The API server cannot be used.
    #[error("{message}")]
    Cluster {
        /// Description of the failure.
        message: &'static str,
        /// Cause of the failure.
        #[source]
        source: Box<::kube::Error>,
    },
}

impl IntakeError {
    fn cluster(message: &'static str, source: ::kube::Error) -> IntakeError {
        let source = Box::new(source);
        IntakeError::Cluster { message, source }
    }
}

impl Intake {
    /// Creates or replaces an object.
    ///
    /// # Errors
    /// The intake refuses the object, or fails.
    pub async fn apply(&self, manifest: &Manifest) -> Result<(), IntakeError> {
        match self {
            Intake::Dir(dir) => dir.apply(manifest),
            Intake::Exec(exec) => exec.apply(manifest).await,
            Intake::Kube(kube) => kube.apply(manifest).await,
        }
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// The intake fails.
    pub async fn delete(&self, key: &Key) -> Result<(), IntakeError> {
        match self {
            Intake::Dir(dir) => dir.delete(key),
            Intake::Exec(exec) => exec.delete(key).await,
            Intake::Kube(kube) => kube.delete(key).await,
        }
    }

    /// Returns the object with its status, as the scheduler reports it, or `None` if the scheduler
    /// does not report the object.
    ///
    /// # Errors
    /// The intake fails.
    pub async fn observe(&self, key: &Key) -> Result<Option<Value>, IntakeError> {
        match self {
            Intake::Dir(dir) => Ok(dir.observe(key)),
            Intake::Exec(exec) => exec.observe(key).await,
            Intake::Kube(kube) => kube.observe(key).await,
        }
    }

    /// Returns the objects of the namespace whose names begin with that of `key`: the object, and
    /// the objects that the scheduler has created for it.
    ///
    /// # Errors
    /// The intake fails.
    pub async fn object_and_children(&self, key: &Key) -> Result<Vec<Value>, IntakeError> {
        match self {
            Intake::Dir(dir) => Ok(dir.object_and_children(key)),
            Intake::Exec(exec) => Ok(exec.observe(key).await?.into_iter().collect()),
            Intake::Kube(kube) => kube.object_and_children(key).await,
        }
    }

    /// Returns the directory of the manifests, if they are files.
    pub fn directory(&self) -> Option<&DirIntake> {
        match self {
            Intake::Dir(dir) => Some(dir),
            Intake::Exec(_) | Intake::Kube(_) => None,
        }
    }

    /// Returns the scheduler's name for the namespace `name` of a manifest.
    pub fn namespace(&self, name: &str) -> String {
        match self {
            Intake::Dir(_) | Intake::Exec(_) => name.to_owned(),
            Intake::Kube(kube) => kube.namespace(name),
        }
    }

    /// Deletes the namespaces that the intake has created. The scheduler must have ended.
    pub async fn close(&self) {
        if let Intake::Kube(kube) = self {
            kube.close().await;
        }
    }
}
