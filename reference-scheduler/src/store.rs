//! The port to where desired state and status are kept: a directory of manifests, or Kubernetes.

pub mod dir;
pub mod kube;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;

use tokio::sync::{mpsc, watch};

use crate::api::{Key, Object};
use crate::core::{Event, Note, Write, WriteError};

/// Keeps objects, tells of their changes, and writes what the core decided.
///
/// All methods may be called at once; nothing that one call waits for delays another.
pub trait Store: Send + Sync + 'static {
    /// Begins to watch. First comes every object that there is, then [`StoreEvent::Synced`], then what changes.
    /// The store watches again by itself after a failure, and then tells of the objects that went meanwhile too.
    /// The channel is bounded: a store waits while the core is behind. It ends when the receiver is dropped.
    fn watch(&self) -> mpsc::Receiver<StoreEvent>;

    /// Writes, and returns the object as it is now kept; the last state of it for a deletion. Tries again by itself
    /// only what cannot have been carried out.
    ///
    /// Cancel safety: a dropped write may have been carried out or not.
    fn write(&self, write: Write) -> impl Future<Output = Result<Object, WriteError>> + Send;

    /// The data of a ConfigMap; `None` when there is none of this name.
    fn config_map(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<BTreeMap<String, String>>, ReadError>> + Send;

    /// A Secret; `None` when there is none of this name.
    fn secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<Secret>, ReadError>> + Send;

    /// Takes note of something for people; a Kubernetes Event. Best effort: one that cannot be written is logged.
    fn note(&self, note: Note) -> impl Future<Output = ()> + Send;

    /// Whether this process is the one that acts. The shell drops its core when it is no longer, and begins with
    /// a new one and a new watch when it is again. Already `true` where there is no election. The end of this
    /// channel is the end of the store, which has then said why in the log.
    fn leadership(&self) -> watch::Receiver<bool>;

    /// Gives up leadership in order, so that another process need not wait for a lease to run out. Nothing is
    /// written after it.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// What a store tells.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreEvent {
    /// An object is there, new or changed; one that is being deleted has a deletion timestamp.
    Applied(Object),
    /// An object is gone, its finalizers done.
    Removed {
        /// Which.
        key: Key,
        /// Its uid; empty where it is not known.
        uid: String,
    },
    /// Everything that was there at the beginning has been told.
    Synced,
}

impl From<StoreEvent> for Event {
    fn from(event: StoreEvent) -> Self {
        match event {
            StoreEvent::Applied(object) => Self::Applied(object),
            StoreEvent::Removed { key, uid } => Self::Removed { key, uid },
            StoreEvent::Synced => Self::Synced,
        }
    }
}

/// A Secret, as a manifest or the API server has it. Its values have no printable form.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// `Opaque`, `kubernetes.io/dockerconfigjson` and so on; empty stands for `Opaque`.
    pub kind: String,
    /// The values, no longer in Base64.
    pub data: BTreeMap<String, Vec<u8>>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("kind", &self.kind)
            .field("keys", &self.data.keys())
            .finish_non_exhaustive()
    }
}

/// Why a reference cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// We may not.
    #[error("the store refuses: {0}")]
    Refused(String),
    /// The store cannot be reached, or is too busy.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print_its_values() {
        let secret = Secret {
            kind: String::new(),
            data: BTreeMap::from([("password".to_owned(), b"hunter2".to_vec())]),
        };
        let printed = format!("{secret:?}");
        assert!(printed.contains("password") && !printed.contains("hunter2"));
        assert!(!printed.contains("104, 117"), "{printed}");
    }
}
