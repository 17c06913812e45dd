//! How a scheduler is given its work and asked how it goes.

mod dir;
mod exec;
mod kube;

pub use self::dir::DirIntake;
pub use self::exec::{ExecIntake, ExecPlan};
pub use self::kube::KubeIntake;

use serde_json::Value;

use super::manifest::{Key, Manifest};

/// Objects looked at in one scenario at most: a child object for each replica, and some more.
const MAX_OBJECTS: usize = 2_000;

/// An open intake. Clones are the same one.
#[derive(Clone, Debug)]
pub enum Intake {
    /// Manifests in a directory.
    Dir(DirIntake),
    /// A command of the scheduler's own.
    Exec(ExecIntake),
    /// Custom resources.
    Kube(KubeIntake),
}

/// The intake does not take something, or does not tell.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// A file cannot be used.
    #[error("{what} {path}")]
    File {
        /// What could not be done.
        what: &'static str,
        /// With which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The command cannot be run.
    #[error("the intake's command `{0}` cannot be run")]
    Command(String, #[source] std::io::Error),
    /// The command says no.
    #[error("the intake refuses {key}: {text}")]
    Refused {
        /// What.
        key: Key,
        /// What it says.
        text: String,
    },
    /// The file does not lead to an API server.
    #[error("{path} does not say how to reach an API server")]
    Kubeconfig {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: ::kube::config::KubeconfigError,
    },
    /// The API server is not there.
    #[error("the API server {what}")]
    Cluster {
        /// What is wrong with it.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<::kube::Error>,
    },
}

impl IntakeError {
    fn cluster(what: &'static str, source: ::kube::Error) -> IntakeError {
        let source = Box::new(source);
        IntakeError::Cluster { what, source }
    }
}

impl Intake {
    /// Gives an object to the scheduler, or gives it anew.
    ///
    /// # Errors
    /// The intake refuses it, or does not work.
    pub async fn apply(&self, manifest: &Manifest) -> Result<(), IntakeError> {
        match self {
            Intake::Dir(dir) => dir.apply(manifest),
            Intake::Exec(exec) => exec.apply(manifest).await,
            Intake::Kube(kube) => kube.apply(manifest).await,
        }
    }

    /// Takes an object away from the scheduler.
    ///
    /// # Errors
    /// The intake does not work.
    pub async fn delete(&self, key: &Key) -> Result<(), IntakeError> {
        match self {
            Intake::Dir(dir) => dir.delete(key),
            Intake::Exec(exec) => exec.delete(key).await,
            Intake::Kube(kube) => kube.remove(key, false).await,
        }
    }

    /// The object with its status, as the scheduler tells it; `None` while it tells nothing.
    ///
    /// # Errors
    /// The intake does not work.
    pub async fn observe(&self, key: &Key) -> Result<Option<Value>, IntakeError> {
        match self {
            Intake::Dir(dir) => Ok(dir.observe(key)),
            Intake::Exec(exec) => exec.observe(key).await,
            Intake::Kube(kube) => kube.observe(key).await,
        }
    }

    /// The objects of the namespace whose names begin so: an object and what was made for it.
    ///
    /// # Errors
    /// The intake does not work.
    pub async fn family(&self, key: &Key) -> Result<Vec<Value>, IntakeError> {
        match self {
            Intake::Dir(dir) => Ok(dir.family(key)),
            Intake::Exec(exec) => Ok(exec.observe(key).await?.into_iter().collect()),
            Intake::Kube(kube) => kube.family(key).await,
        }
    }

    /// What the scheduler calls a namespace of a manifest.
    pub fn namespace(&self, called: &str) -> String {
        match self {
            Intake::Dir(_) | Intake::Exec(_) => called.to_owned(),
            Intake::Kube(kube) => kube.namespace(called),
        }
    }

    /// Takes away what it has made, once the scheduler is gone.
    pub async fn close(&self) {
        if let Intake::Kube(kube) = self {
            kube.close().await;
        }
    }
}
