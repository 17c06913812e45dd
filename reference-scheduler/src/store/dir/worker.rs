//! The thread that owns a directory: scans it, stores the objects and serves requests one by one.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::DirError;
use super::event_log::RecentEvents;
use super::identities::Identities;
use super::manifest::{self, Manifests};
use super::objects::{Change, Objects, WriteContext};
use super::parser::Reference;
use super::restore;
use super::scanner::Scanner;
use super::status_files::{Loaded, Lock, StatusFiles, StatusFilesError};
use crate::api::{Object, Timestamp};
use crate::core::{ObjectEvent, ObjectEventKind, StoreError, Write};
use crate::store::problems::ProblemLog;
use crate::store::{Problems, Secret, StoreEvent};

/// Interval between scans: short, because a change takes effect only after two scans in a row find
/// the same file, and because a scan of a thousand files takes only a few milliseconds.
const SCAN_INTERVAL: Duration = Duration::from_millis(150);

/// Subject of a problem of writing status files.
const STATUS_FILES: &str = "status files";
/// Subject of a problem of writing events.
const EVENT_LOG: &str = "events.log";

/// Size of the stack of the thread: enough to parse a document with the deepest nesting that is
/// accepted, in a build without optimizations.
const STACK_BYTES: usize = 16 << 20;

/// A request to the worker, with the sender for its response.
#[derive(Debug)]
pub(super) enum Request {
    Watch(mpsc::Sender<StoreEvent>),
    Write(Box<Write>, oneshot::Sender<Result<Object, StoreError>>),
    ConfigMap(Reference, oneshot::Sender<Option<BTreeMap<String, String>>>),
    Secret(Reference, oneshot::Sender<Option<Secret>>),
    RecordEvent(ObjectEvent),
    Close,
}

/// Owns the directory. Runs in its own thread because it blocks on file operations.
#[derive(Debug)]
pub(super) struct Worker {
    files: StatusFiles,
    identities: Identities,
    scanner: Scanner,
    objects: Objects,
    manifests: Manifests,
    problems: ProblemLog,
    recent_events: RecentEvents,
    watchers: Vec<mpsc::Sender<StoreEvent>>,
    /// Whether to reconcile even if no file changes, because an object was removed that may have a
    /// manifest again, or a manifest could not be applied.
    reconcile_pending: bool,
    _lock: Lock,
}

impl Worker {
    pub(super) fn spawn(
        root: &Path,
        inbox: mpsc::Receiver<Request>,
        is_leader: watch::Sender<bool>,
        problems: watch::Sender<Problems>,
    ) -> Result<(), DirError> {
        let files = StatusFiles::create(root).map_err(DirError::StatusFiles)?;
        let scanner = Scanner::new(root);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(DirError::Thread)?;
        let problems = ProblemLog::new(problems);
        let work = move || {
            let run = run(files, scanner, problems, inbox, &is_leader);
            if let Err(error) = runtime.block_on(run) {
                let error = berth_sdk::cli::error_chain(&error);
                tracing::error!(%error, "the worker of the directory has failed");
            }
        };
        let thread = thread::Builder::new()
            .name("directory".to_owned())
            .stack_size(STACK_BYTES);
        thread.spawn(work).map_err(DirError::Thread)?;
        Ok(())
    }

    async fn serve(mut self, mut inbox: mpsc::Receiver<Request>) {
        let mut scans = tokio::time::interval(SCAN_INTERVAL);
        scans.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                request = inbox.recv() => match request {
                    None | Some(Request::Close) => return,
                    Some(request) => self.handle(request).await,
                },
                _ = scans.tick() => self.scan().await,
            }
        }
    }

    async fn handle(&mut self, request: Request) {
        // The caller may have stopped waiting for the response.
        match request {
            Request::Watch(events) => self.add_watcher(events).await,
            Request::Write(write, response) => {
                let result = self.write(*write).await;
                let _ = response.send(result);
            }
            Request::ConfigMap(reference, response) => {
                let found = self.manifests.config_maps.get(&reference);
                let _ = response.send(found.map(|(_, data)| data.clone()));
            }
            Request::Secret(reference, response) => {
                let found = self.manifests.secrets.get(&reference);
                let _ = response.send(found.map(|(_, secret)| secret.clone()));
            }
            Request::RecordEvent(event) => self.record_event(&event),
            Request::Close => {}
        }
    }

    async fn write(&mut self, write: Write) -> Result<Object, StoreError> {
        let write = match write {
            Write::Create(object) => Write::Create(manifest::without_origin(object)),
            write => write,
        };
        let change = self.objects.write(write, write_context())?;
        self.commit(change).await
    }

    /// Writes a change to disk, applies it in memory, and sends it to the watchers, in this order.
    async fn commit(&mut self, change: Change) -> Result<Object, StoreError> {
        if matches!(change, Change::Unchanged(_)) {
            return Ok(change.object().clone());
        }
        if let Err(reason) = self.store(&change) {
            self.problems.add(STATUS_FILES, &reason);
            return Err(StoreError::Unavailable(reason));
        }
        self.problems.remove(STATUS_FILES);
        self.objects.commit(&change);
        let event = match &change {
            Change::Put(object) => StoreEvent::Applied(object.clone()),
            Change::Remove(object) | Change::Unchanged(object) => {
                self.reconcile_pending = true;
                StoreEvent::Removed {
                    key: object.key(),
                    uid: object.metadata().uid.clone(),
                }
            }
        };
        self.broadcast(event).await;
        Ok(change.object().clone())
    }

    fn store(&mut self, change: &Change) -> Result<(), String> {
        let recorded = match change {
            Change::Put(object) => self.identities.record(object),
            Change::Remove(_) | Change::Unchanged(_) => Ok(()),
        };
        recorded.map_err(|error| format!("cannot record an identity: {error}"))?;
        let stored = match change {
            Change::Put(object) => self.files.put(object),
            Change::Remove(object) => self.files.remove(&object.key()),
            Change::Unchanged(_) => Ok(()),
        };
        stored.map_err(|error| berth_sdk::cli::error_chain(&error))?;
        if let Change::Remove(object) = change {
            let forgotten = self.identities.forget(&object.key());
            forgotten.map_err(|error| format!("cannot record a removal: {error}"))?;
        }
        Ok(())
    }

    async fn scan(&mut self) {
        if self.scanner.scan() || self.reconcile_pending {
            let ignored = std::mem::take(&mut self.manifests.ignored);
            self.manifests = self.scanner.manifests();
            for (file, kinds) in &self.manifests.ignored {
                if ignored.get(file) != Some(kinds) {
                    tracing::info!(file, kinds, "ignoring documents of other kinds");
                }
            }
            self.reconcile().await;
        }
        self.cascade_deletions().await;
    }

    /// Continues foreground deletions, including deletions that an earlier process began.
    async fn cascade_deletions(&mut self) {
        loop {
            let steps = self.objects.cascade_steps();
            if steps.is_empty() {
                return;
            }
            for (key, step) in steps {
                let change = self.objects.cascade(&key, step, write_context().now);
                let Some(change) = change else {
                    continue;
                };
                if let Err(error) = self.commit(change).await {
                    tracing::warn!(%key, %error, "cannot continue a deletion");
                    return;
                }
            }
        }
    }

    /// Deletes the objects whose manifests are gone, and applies all manifests after that.
    async fn reconcile(&mut self) {
        self.reconcile_pending = false;
        let mut problems = self.manifests.problems.clone();
        for key in manifest::without_manifest(&self.objects, &self.manifests) {
            let Some(object) = self.objects.get(&key) else {
                continue;
            };
            tracing::info!(%key, "deleting an object without a manifest");
            let change = self
                .objects
                .delete_in_foreground(object, write_context().now);
            self.reconcile_one(&key.to_string(), Ok(change), &mut problems)
                .await;
        }
        let now = write_context().now;
        for change in manifest::explain_unread(&self.objects, &self.manifests, now) {
            let key = change.object().key().to_string();
            self.reconcile_one(&key, Ok(change), &mut problems).await;
        }
        let manifests = std::mem::take(&mut self.manifests.objects);
        for (key, manifest) in &manifests {
            let unread_files = &self.manifests.unread_files;
            let change = manifest::apply(&self.objects, manifest, unread_files, write_context());
            let subject = format!("{key}, {}", manifest.origin);
            self.reconcile_one(&subject, change, &mut problems).await;
        }
        self.manifests.objects = manifests;
        let is_unusable = self.scanner.is_root_missing();
        // A reader of the problem finds its Event.
        for (path, reason) in self.problems.new_of_manifests(&problems) {
            let line = format!("{} Warning {path} Manifest: {reason}", write_context().now);
            self.append_event(&line);
        }
        self.problems.replace(problems, is_unusable);
    }

    async fn reconcile_one(
        &mut self,
        subject: &str,
        change: Result<Change, StoreError>,
        problems: &mut BTreeMap<String, String>,
    ) {
        let result = match change {
            Ok(change) => self.commit(change).await.map(|_| ()),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            problems.insert(subject.to_owned(), format!("not applied: {error}"));
            self.reconcile_pending |= matches!(error, StoreError::Unavailable(_));
        }
    }

    async fn add_watcher(&mut self, events: mpsc::Sender<StoreEvent>) {
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

    async fn broadcast(&mut self, event: StoreEvent) {
        let mut any_closed = false;
        for watcher in &self.watchers {
            any_closed |= watcher.send(event.clone()).await.is_err();
        }
        if any_closed {
            self.watchers.retain(|watcher| !watcher.is_closed());
        }
    }

    fn record_event(&mut self, event: &ObjectEvent) {
        let Some(count) = self.recent_events.count(event, Instant::now()) else {
            return;
        };
        let repeats = match count {
            1 => String::new(),
            count => format!(" ({count} times)"),
        };
        let kind = match event.kind {
            ObjectEventKind::Normal => "Normal",
            ObjectEventKind::Warning => "Warning",
        };
        let line = format!(
            "{} {kind} {} {}: {}{repeats}",
            write_context().now,
            event.key,
            event.reason,
            event.message
        );
        self.append_event(&line);
    }

    fn append_event(&mut self, line: &str) {
        match self.files.append_event(&line.replace('\n', " ")) {
            Ok(()) => self.problems.remove(EVENT_LOG),
            Err(error) => {
                let reason = berth_sdk::cli::error_chain(&error);
                self.problems.add(EVENT_LOG, &reason);
            }
        }
    }
}

/// Waits for the lock, loads the stored objects, and serves requests until every sender is dropped.
async fn run(
    files: StatusFiles,
    mut scanner: Scanner,
    mut problems: ProblemLog,
    inbox: mpsc::Receiver<Request>,
    is_leader: &watch::Sender<bool>,
) -> Result<(), StatusFilesError> {
    let Some(lock) = acquire_lock(&files, is_leader).await? else {
        return Ok(());
    };
    let mut loaded = files.load()?;
    for (path, reason) in &loaded.problems {
        problems.add(path, reason);
    }
    let mut identities = Identities::read(files.directory());
    let mut objects = restore_lost(&files, &identities, &mut loaded);
    for object in loaded.objects {
        objects.load(object);
    }
    if let Err(error) = identities.replace(objects.all()) {
        problems.add(STATUS_FILES, &format!("cannot record identities: {error}"));
    }
    // The manifests take effect with the second scan.
    scanner.scan();
    tokio::time::sleep(SCAN_INTERVAL).await;
    let mut worker = Worker {
        files,
        identities,
        scanner,
        objects,
        manifests: Manifests::default(),
        problems,
        recent_events: RecentEvents::default(),
        watchers: Vec::new(),
        reconcile_pending: true,
        _lock: lock,
    };
    worker.scan().await;
    is_leader.send_replace(true);
    worker.serve(inbox).await;
    Ok(())
}

/// Adds the objects to `loaded` whose status file is lost and that are made from their identity.
/// Returns objects with the reserved UIDs of those that are created again.
fn restore_lost(files: &StatusFiles, identities: &Identities, loaded: &mut Loaded) -> Objects {
    let mut objects = Objects::default();
    let lost = std::mem::take(&mut loaded.lost);
    for (key, identity) in identities.iter() {
        if !lost.contains(&files.path(key)) {
            continue;
        }
        let now = write_context().now;
        match restore::restored(key, identity, &loaded.objects, now) {
            Some(object) => {
                // If the file cannot be written now, the next write of the object does it.
                let _ = files.put(&object);
                loaded.objects.push(object);
            }
            None => objects.reserve_uid(key.clone(), identity.uid.clone()),
        }
    }
    objects
}

/// Waits for the lock, or returns `None` if the store is dropped in the meantime.
async fn acquire_lock(
    files: &StatusFiles,
    is_leader: &watch::Sender<bool>,
) -> Result<Option<Lock>, StatusFilesError> {
    let mut has_waited = false;
    loop {
        if let Some(lock) = files.try_lock()? {
            return Ok(Some(lock));
        }
        if is_leader.is_closed() {
            return Ok(None);
        }
        if !has_waited {
            tracing::info!("waiting for the lock, which another scheduler holds");
            has_waited = true;
        }
        tokio::time::sleep(SCAN_INTERVAL).await;
    }
}

fn write_context() -> WriteContext {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    WriteContext {
        now: Timestamp::from_unix(since_epoch.unwrap_or_default()),
        uid: uuid::Uuid::new_v4().to_string(),
    }
}
