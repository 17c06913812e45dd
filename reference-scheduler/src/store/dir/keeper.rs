//! The thread that owns a directory: looks at it, keeps the objects, answers requests one after another.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::DirError;
use super::document::Reference;
use super::files::{Files, FilesError, Lock};
use super::look::Looks;
use super::manifest::{self, Wanted};
use super::objects::{Change, Objects, Stamp};
use crate::api::{Object, Timestamp};
use crate::core::{Note, NoteKind, Write, WriteError};
use crate::store::{Secret, StoreEvent};

/// Between two looks at the directory. A change counts when it is at rest for one of them, so it is noticed within
/// two: well within a second. A look at a thousand files takes some milliseconds.
const LOOK_INTERVAL: Duration = Duration::from_millis(150);

/// What the store asks of its keeper.
#[derive(Debug)]
pub(super) enum Request {
    Watch(mpsc::Sender<StoreEvent>),
    Write(Box<Write>, oneshot::Sender<Result<Object, WriteError>>),
    ConfigMap(Reference, oneshot::Sender<Option<BTreeMap<String, String>>>),
    Secret(Reference, oneshot::Sender<Option<Secret>>),
    Note(Note),
    Close,
}

/// Owns the directory. It has a thread of its own since it blocks on files.
#[derive(Debug)]
pub(super) struct Keeper {
    files: Files,
    looks: Looks,
    objects: Objects,
    wanted: Wanted,
    watchers: Vec<mpsc::Sender<StoreEvent>>,
    /// Whether an object went whose manifest may be there again, or a manifest could not be applied.
    look_again: bool,
    _lock: Lock,
}

impl Keeper {
    pub(super) fn start(
        root: &Path,
        inbox: mpsc::Receiver<Request>,
        lead: watch::Sender<bool>,
    ) -> Result<(), DirError> {
        let files = Files::below(root).map_err(DirError::Files)?;
        let looks = Looks::at(root);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(DirError::Thread)?;
        let keep = move || {
            if let Err(error) = runtime.block_on(keep(files, looks, inbox, &lead)) {
                tracing::error!(error = %berth_sdk::cli::chain(&error), "the directory is no longer kept");
            }
        };
        let thread = thread::Builder::new().name("directory".to_owned());
        thread.spawn(keep).map_err(DirError::Thread)?;
        Ok(())
    }

    async fn serve(mut self, mut inbox: mpsc::Receiver<Request>) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                request = inbox.recv() => match request {
                    None | Some(Request::Close) => return,
                    Some(request) => self.answer(request).await,
                },
                _ = looks.tick() => self.look().await,
            }
        }
    }

    async fn answer(&mut self, request: Request) {
        // Whoever asked may have gone: its answer then goes nowhere.
        match request {
            Request::Watch(events) => self.tell_all(events).await,
            Request::Write(write, answer) => {
                let result = self.write(*write).await;
                let _ = answer.send(result);
            }
            Request::ConfigMap(reference, answer) => {
                let _ = answer.send(self.wanted.config_maps.get(&reference).cloned());
            }
            Request::Secret(reference, answer) => {
                let _ = answer.send(self.wanted.secrets.get(&reference).cloned());
            }
            Request::Note(note) => self.note(&note),
            Request::Close => {}
        }
    }

    async fn write(&mut self, write: Write) -> Result<Object, WriteError> {
        let write = match write {
            Write::Create(object) => Write::Create(manifest::without_origin(object)),
            write => write,
        };
        let change = self.objects.write(write, stamp())?;
        self.carry_out(change).await
    }

    /// On disk first, then in memory, then told.
    async fn carry_out(&mut self, change: Change) -> Result<Object, WriteError> {
        let kept = match &change {
            Change::Put(object) => self.files.put(object),
            Change::Remove(object) => self.files.remove(&object.key()),
            Change::Nothing(_) => return Ok(change.object().clone()),
        };
        kept.map_err(|error| WriteError::Unavailable(error.to_string()))?;
        self.objects.commit(&change);
        let event = match &change {
            Change::Put(object) => StoreEvent::Applied(object.clone()),
            Change::Remove(object) | Change::Nothing(object) => {
                self.look_again = true;
                StoreEvent::Removed {
                    key: object.key(),
                    uid: object.metadata().uid.clone(),
                }
            }
        };
        self.tell(event).await;
        Ok(change.object().clone())
    }

    async fn look(&mut self) {
        match self.looks.look() {
            Ok(false) if !self.look_again => {}
            Ok(_) => {
                self.wanted = self.looks.wanted();
                self.follow_manifests().await;
            }
            Err(error) => {
                tracing::warn!(%error, "the directory cannot be looked at; nothing changes");
            }
        }
        self.follow_deletions().await;
    }

    /// Goes on with deletions that take along what belongs to their objects, also those of an earlier process.
    async fn follow_deletions(&mut self) {
        loop {
            let falling = self.objects.falling();
            if falling.is_empty() {
                return;
            }
            for (key, fall) in falling {
                let Some(change) = self.objects.fall(&key, fall, stamp().now) else {
                    continue;
                };
                if let Err(error) = self.carry_out(change).await {
                    tracing::warn!(%key, %error, "a deletion cannot go on");
                    return;
                }
            }
        }
    }

    /// Deletes what is no longer wanted, then makes what is.
    async fn follow_manifests(&mut self) {
        self.look_again = false;
        for key in manifest::unwanted(&self.objects, &self.wanted) {
            let Some(object) = self.objects.get(&key) else {
                continue;
            };
            tracing::info!(%key, "the manifest is gone");
            let change = self.objects.delete_with_all(object, stamp().now);
            self.follow_one(&key.to_string(), Ok(change)).await;
        }
        let wanted: Vec<(Object, String)> = self.wanted.objects.values().cloned().collect();
        for (object, origin) in wanted {
            let change = manifest::apply(&self.objects, &object, &origin, stamp());
            self.follow_one(&object.key().to_string(), change).await;
        }
    }

    async fn follow_one(&mut self, key: &str, change: Result<Change, WriteError>) {
        let done = match change {
            Ok(change) => self.carry_out(change).await.map(|_| ()),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::warn!(key, %error, "a manifest cannot be followed");
            self.look_again |= matches!(error, WriteError::Unavailable(_));
        }
    }

    async fn tell_all(&mut self, events: mpsc::Sender<StoreEvent>) {
        for object in self.objects.all() {
            if events
                .send(StoreEvent::Applied(object.clone()))
                .await
                .is_err()
            {
                return;
            }
        }
        if events.send(StoreEvent::Synced).await.is_ok() {
            self.watchers.push(events);
        }
    }

    async fn tell(&mut self, event: StoreEvent) {
        let mut gone = false;
        for watcher in &self.watchers {
            gone |= watcher.send(event.clone()).await.is_err();
        }
        if gone {
            self.watchers.retain(|watcher| !watcher.is_closed());
        }
    }

    fn note(&self, note: &Note) {
        let kind = match note.kind {
            NoteKind::Normal => "Normal",
            NoteKind::Warning => "Warning",
        };
        let line = format!(
            "{} {kind} {} {}: {}",
            stamp().now,
            note.key,
            note.reason,
            note.message.replace('\n', " ")
        );
        if let Err(error) = self.files.note(&line) {
            tracing::warn!(%error, "the record of events cannot be written");
        }
    }
}

/// Waits for its turn, takes in what was kept, and serves until nobody is left to ask.
async fn keep(
    files: Files,
    mut looks: Looks,
    inbox: mpsc::Receiver<Request>,
    lead: &watch::Sender<bool>,
) -> Result<(), FilesError> {
    let Some(lock) = locked(&files, lead).await? else {
        return Ok(());
    };
    let mut objects = Objects::default();
    for object in files.load()? {
        objects.load(object);
    }
    // Files count from the second look on.
    let _ = looks.look();
    tokio::time::sleep(LOOK_INTERVAL).await;
    let mut keeper = Keeper {
        files,
        looks,
        objects,
        wanted: Wanted::default(),
        watchers: Vec::new(),
        look_again: true,
        _lock: lock,
    };
    keeper.look().await;
    lead.send_replace(true);
    keeper.serve(inbox).await;
    Ok(())
}

/// The lock, when it is our turn; `None` when nobody waits for it any more.
async fn locked(files: &Files, lead: &watch::Sender<bool>) -> Result<Option<Lock>, FilesError> {
    let mut waited = false;
    loop {
        if let Some(lock) = files.try_lock()? {
            return Ok(Some(lock));
        }
        if lead.is_closed() {
            return Ok(None);
        }
        if !waited {
            tracing::info!("another scheduler has the directory; waiting for its end");
            waited = true;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

fn stamp() -> Stamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    Stamp {
        now: Timestamp::from_unix(since_epoch.unwrap_or_default()),
        uid: uuid::Uuid::new_v4().to_string(),
    }
}
