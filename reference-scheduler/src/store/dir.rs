//! Directory store: desired state is read from manifests in a directory, and status is written to
//! its subdirectory `.berth/`.
//!
//! The files of `.berth/` are read-only for users. Deleting a manifest deletes its object; a file
//! that cannot be read changes nothing. An object whose manifest was deleted remains, marked as
//! deleted and with a visible status, until all its dependents are gone. The store does not enforce
//! ownership in any other way: the core deletes objects whose owner no longer exists.

mod event_log;
mod identities;
mod located;
mod manifest;
mod name;
mod notice;
mod objects;
mod parser;
mod restore;
mod scanner;
mod schema;
mod status_files;
mod walk;
mod worker;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tokio::sync::{mpsc, oneshot, watch};

pub use self::status_files::StatusFilesError;
use self::worker::{Request, Worker};
use super::{Problems, Secret, Store, StoreEvent};
use crate::api::Object;
use crate::core::{ObjectEvent, StoreError, Write};

/// Capacity of the queue of requests to the worker; callers wait while it is full.
const REQUESTS_MAX: usize = 1024;
/// Capacity of the queue of events to the core; the worker waits while it is full.
const EVENTS_MAX: usize = 1024;

/// A directory of manifests. Cheap to clone; the directory is unlocked when the last clone is
/// dropped.
#[derive(Clone, Debug)]
pub struct DirStore {
    requests: mpsc::Sender<Request>,
    leadership: watch::Receiver<bool>,
    problems: watch::Receiver<Problems>,
}

/// Error of [`DirStore::open`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirError {
    /// The path does not exist or is not a directory.
    #[error("{path} is not a directory")]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The directory of the status files cannot be created.
    #[error("cannot create the directory of the status files")]
    StatusFiles(#[source] StatusFilesError),
    /// The worker thread cannot be started.
    #[error("cannot start the worker thread")]
    Thread(#[source] std::io::Error),
}

impl DirStore {
    /// Opens an existing directory. If several processes open the same directory, the first process
    /// is the leader. When it ends, even if it is killed, another process takes over.
    pub fn open(path: &Path) -> Result<Self, DirError> {
        if !path.is_dir() {
            return Err(DirError::NotADirectory {
                path: path.to_owned(),
            });
        }
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let (is_leader, leadership) = watch::channel(false);
        let (published, problems) = watch::channel(Problems::default());
        Worker::spawn(path, inbox, is_leader, published)?;
        Ok(Self {
            requests,
            leadership,
            problems,
        })
    }

    /// Sends a request to the worker and waits for the response.
    async fn request<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, StoreError> {
        let (sender, response) = oneshot::channel();
        let sent = self.requests.send(request(sender)).await;
        sent.map_err(|_| worker_stopped())?;
        response.await.map_err(|_| worker_stopped())
    }
}

impl Store for DirStore {
    fn watch(&self) -> mpsc::Receiver<StoreEvent> {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        // The queue of the worker may be full.
        let requests = self.requests.clone();
        tokio::spawn(async move { requests.send(Request::Watch(sender)).await });
        events
    }

    async fn write(&self, write: Write) -> Result<Object, StoreError> {
        self.request(|sender| Request::Write(Box::new(write), sender))
            .await?
    }

    async fn config_map(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<BTreeMap<String, String>>, StoreError> {
        let reference = (namespace.to_owned(), name.to_owned());
        self.request(|sender| Request::ConfigMap(reference, sender))
            .await
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, StoreError> {
        let reference = (namespace.to_owned(), name.to_owned());
        self.request(|sender| Request::Secret(reference, sender))
            .await
    }

    async fn record_event(&self, event: ObjectEvent) {
        // If the worker has stopped, the process is about to end.
        let _ = self.requests.send(Request::RecordEvent(event)).await;
    }

    fn leadership(&self) -> watch::Receiver<bool> {
        self.leadership.clone()
    }

    fn problems(&self) -> watch::Receiver<Problems> {
        self.problems.clone()
    }

    async fn close(&self) {
        // If the worker has stopped, the process is about to end.
        let _ = self.requests.send(Request::Close).await;
    }
}

fn worker_stopped() -> StoreError {
    StoreError::Unavailable("the worker of the directory has stopped".to_owned())
}

#[cfg(test)]
mod tests;
