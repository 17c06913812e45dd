//! A directory of manifests as the store: what people put there is wanted, what the scheduler makes of it stands in
//! `.berth/` below it.
//!
//! The files of `.berth/` are for reading. A manifest that goes takes its object with it, a file that cannot be
//! read changes nothing. An object whose manifest went stays, marked as deleted, until all that belongs to it is gone,
//! so that what is stopped last is shown last. Beyond that owners are not watched over: the core deletes what has
//! lost its own.

mod document;
mod files;
mod keeper;
mod look;
mod manifest;
mod name;
mod objects;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tokio::sync::{mpsc, oneshot, watch};

pub use self::files::FilesError;
use self::keeper::{Keeper, Request};
use super::{ReadError, Secret, Store, StoreEvent};
use crate::api::Object;
use crate::core::{Note, Write, WriteError};

/// Requests that wait for the keeper; a caller waits when there are more.
const REQUESTS_MAX: usize = 1024;
/// Events that the core may be behind; the keeper waits when there are more.
const EVENTS_MAX: usize = 1024;

/// A directory of manifests; a cheap clone. The directory is let go of when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct DirStore {
    requests: mpsc::Sender<Request>,
    leadership: watch::Receiver<bool>,
}

/// Why a directory cannot be the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirError {
    /// There is no such directory.
    #[error("{path} is not a directory")]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The folder of the scheduler's own cannot be used.
    #[error("the directory cannot be used")]
    Files(#[source] FilesError),
    /// The thread that keeps it cannot be had.
    #[error("there is no thread to keep the directory")]
    Thread(#[source] std::io::Error),
}

impl DirStore {
    /// Opens a directory, which has to be there. Of several processes with one directory the first one acts; when it
    /// ends, however it ends, another takes over.
    pub fn open(path: &Path) -> Result<Self, DirError> {
        if !path.is_dir() {
            return Err(DirError::NotADirectory {
                path: path.to_owned(),
            });
        }
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let (lead, leadership) = watch::channel(false);
        Keeper::start(path, inbox, lead)?;
        Ok(Self {
            requests,
            leadership,
        })
    }

    async fn ask<A>(&self, request: impl FnOnce(oneshot::Sender<A>) -> Request) -> Option<A> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.ok()?;
        answered.await.ok()
    }
}

impl Store for DirStore {
    fn watch(&self) -> mpsc::Receiver<StoreEvent> {
        let (events, watched) = mpsc::channel(EVENTS_MAX);
        // The keeper's inbox may be full at this moment.
        let requests = self.requests.clone();
        tokio::spawn(async move { requests.send(Request::Watch(events)).await });
        watched
    }

    async fn write(&self, write: Write) -> Result<Object, WriteError> {
        let answer = self.ask(|answer| Request::Write(Box::new(write), answer));
        let gone = || WriteError::Unavailable("the directory is no longer kept".to_owned());
        answer.await.ok_or_else(gone)?
    }

    async fn config_map(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<BTreeMap<String, String>>, ReadError> {
        let reference = (namespace.to_owned(), name.to_owned());
        let answer = self.ask(|answer| Request::ConfigMap(reference, answer));
        answer.await.ok_or_else(no_longer_kept)
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, ReadError> {
        let reference = (namespace.to_owned(), name.to_owned());
        let answer = self.ask(|answer| Request::Secret(reference, answer));
        answer.await.ok_or_else(no_longer_kept)
    }

    async fn note(&self, note: Note) {
        // The keeper is gone only when the process ends.
        let _ = self.requests.send(Request::Note(note)).await;
    }

    fn leadership(&self) -> watch::Receiver<bool> {
        self.leadership.clone()
    }

    async fn close(&self) {
        // The keeper is gone only when the process ends.
        let _ = self.requests.send(Request::Close).await;
    }
}

fn no_longer_kept() -> ReadError {
    ReadError::Unavailable("the directory is no longer kept".to_owned())
}

#[cfg(test)]
mod tests;
