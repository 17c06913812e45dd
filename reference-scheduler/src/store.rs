//! Stores of desired state and status: a directory of manifests, or Kubernetes.

pub mod dir;
pub mod kube;
mod problems;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;

use tokio::sync::{mpsc, watch};

use crate::api::{Key, Object};
use crate::core::{Event, ObjectEvent, StoreError, Write};

/// Stores objects, watches them and executes the writes of the core.
///
/// All methods may be called concurrently; no call waits for another call.
pub trait Store: Send + Sync + 'static {
    /// Starts a watch.
    ///
    /// The watch sends every existing object first, [`StoreEvent::Synced`] next, and after that
    /// changes. After a failure, the store restarts the watch by itself and also reports the
    /// objects that were removed in the meantime. The channel is bounded: the store waits while the
    /// core is busy. The watch ends when the receiver is dropped.
    fn watch(&self) -> mpsc::Receiver<StoreEvent>;

    /// Executes a write and returns the stored object, or after a deletion its final state. Retries
    /// only requests that certainly had no effect.
    ///
    /// Cancel safety: if the future is dropped, the write may or may not take effect.
    fn write(&self, write: Write) -> impl Future<Output = Result<Object, StoreError>> + Send;

    /// Reads the data of a ConfigMap; `None` if the ConfigMap does not exist.
    fn config_map(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<BTreeMap<String, String>>, StoreError>> + Send;

    /// Reads a Secret; `None` if the Secret does not exist.
    fn secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<Secret>, StoreError>> + Send;

    /// Records an event about an object, on Kubernetes as an Event. Best effort: failures are only
    /// logged.
    fn record_event(&self, event: ObjectEvent) -> impl Future<Output = ()> + Send;

    /// Returns whether this process is the leader; always `true` without leader election.
    ///
    /// The runtime drops its core when it loses leadership, and starts a new core and a new watch
    /// when it regains leadership. If the store fails, it logs the reason and closes the channel.
    fn leadership(&self) -> watch::Receiver<bool>;

    /// Returns the current problems of the store, for the readiness endpoint and metrics.
    fn problems(&self) -> watch::Receiver<Problems>;

    /// Releases leadership, so that the next leader need not wait for the Lease to expire. The
    /// store writes nothing afterwards.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// Objects that a store cannot read or write. All others are scheduled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    /// Descriptions, each beginning with the namespace, directory, file or object.
    pub list: Vec<String>,
    /// Whether no object can be read at all.
    pub is_unusable: bool,
}

/// Event of a [`Store::watch`].
#[derive(Clone, Debug, PartialEq)]
pub enum StoreEvent {
    /// An object exists or has changed. An object that is being deleted has a deletion timestamp.
    Applied(Object),
    /// An object was removed, after its last finalizer.
    Removed {
        /// Key of the object.
        key: Key,
        /// UID of the object; empty if unknown.
        uid: String,
    },
    /// Every object that existed at the start of the watch has been sent.
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

/// A Secret. `Debug` prints no values.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Type, such as `kubernetes.io/dockerconfigjson`; empty means `Opaque`.
    pub kind: String,
    /// Values, decoded from Base64.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_secret_hides_values() {
        let secret = Secret {
            kind: String::new(),
            data: BTreeMap::from([("password".to_owned(), b"hunter2".to_vec())]),
        };
        let printed = format!("{secret:?}");
        assert!(printed.contains("password") && !printed.contains("hunter2"));
        assert!(!printed.contains("104, 117"), "{printed}");
    }
}
