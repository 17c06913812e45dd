//! Keeps every wanted workload running, one incarnation after the other.

mod life;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_sdk::proto::WorkloadState;
use berth_sdk::scheduler::{
    ClientError, Fleet, FleetEvent, FleetEvents, Health, HostClient, Timeouts,
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::directory::{Directory, condition};
use crate::manifest::{self, Manifest};
use crate::placement::place;

/// How often the directory is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Between two questions about an id that is starting, or of which nothing is known, and between two stops.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Between two questions about an id that is stopping: the end takes moments.
const ENDING: Duration = Duration::from_millis(300);

/// By when a host must have answered a start.
const START: Duration = Duration::from_secs(60);

/// A workload that ran this long and ends is started anew at once.
const HEALTHY: Duration = Duration::from_secs(60);

/// A host that was not heard of for so long after our own start is lost.
const UNKNOWN: Duration = Duration::from_secs(40);

/// One life of a workload: an id that was started on a host, or is about to be.
#[derive(Clone)]
struct Incarnation {
    of: String,
    host: String,
    /// What was said when it completed: it is never started again.
    completed: Option<String>,
}

/// Why an incarnation is over.
enum Ended {
    Completed(String),
    /// It ended, or cannot be started.
    Over(String),
    /// The start reached nobody.
    NobodyListened,
    HostIsAway,
}

#[derive(Default)]
struct State {
    wanted: BTreeMap<String, Manifest>,
    /// Every id that may run. It is written down.
    ids: BTreeMap<String, Incarnation>,
    /// Those of them whose start has not left yet.
    unsent: BTreeSet<String>,
    /// Those that are being stopped.
    ending: BTreeSet<String>,
    /// The workloads that have a task.
    kept: BTreeSet<String>,
    /// How often each host was lost.
    losses: BTreeMap<String, u64>,
}

pub struct Scheduler {
    fleet: Fleet,
    /// Taken while the state is held, never the other way round.
    directory: Mutex<Directory>,
    state: Mutex<State>,
    news: watch::Sender<()>,
    began: Instant,
}

impl Scheduler {
    /// Finds what an earlier process has started in what it wrote down.
    pub fn new(fleet: Fleet, directory: Directory) -> io::Result<Arc<Self>> {
        let remembered = directory.remembered()?;
        let ids = remembered.as_object().into_iter().flatten();
        let ids = ids.map(|(id, at)| {
            let completed = at.get("completed").and_then(Value::as_str);
            let incarnation = Incarnation {
                of: manifest::text_at(at, "/for"),
                host: manifest::text_at(at, "/host"),
                completed: completed.map(str::to_owned),
            };
            (id.clone(), incarnation)
        });
        let state = State {
            ids: ids.collect(),
            ..State::default()
        };
        Ok(Arc::new(Self {
            fleet,
            directory: Mutex::new(directory),
            state: Mutex::new(state),
            news: watch::Sender::new(()),
            began: Instant::now(),
        }))
    }

    /// Runs for as long as the connection may come back.
    pub async fn run(self: Arc<Self>, mut events: FleetEvents) {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(FleetEvent::Lost { host_id, .. }) => {
                        *self.state().losses.entry(host_id).or_default() += 1;
                        self.tell();
                    }
                    Some(_) => self.tell(),
                    None => return,
                },
                _ = looks.tick() => self.look(),
            }
        }
    }

    fn look(self: &Arc<Self>) {
        let wanted = self.directory().manifests();
        let mut state = self.state();
        let is_news = state.wanted != wanted;
        let running = state.ids.values().map(|at| at.of.clone());
        let keys: BTreeSet<String> = running.chain(wanted.keys().cloned()).collect();
        state.wanted = wanted;
        for key in keys {
            if state.kept.insert(key.clone()) {
                tokio::spawn(self.clone().keep(key));
            }
        }
        drop(state);
        if is_news {
            self.tell();
        }
    }

    /// One workload, from the first sight of its manifest until it is deleted and gone.
    async fn keep(self: Arc<Self>, key: String) {
        while let Some(manifest) = self.wanted(&key) {
            let is_another = |state: &State| {
                let now = state.wanted.get(&key);
                !now.is_some_and(|now| now.asks_for_the_same(&manifest))
            };
            tokio::select! {
                () = self.until(is_another) => {}
                never = self.live(&manifest) => match never {},
            }
            self.end_all(&key).await;
        }
        self.end_all(&key).await;
        self.directory().gone(&key);
        self.state().kept.remove(&key);
    }

    /// One incarnation after the other.
    async fn live(self: &Arc<Self>, manifest: &Manifest) -> Infallible {
        if let Some(why) = &manifest.refused {
            return self.for_good(manifest, "Refused", why, "").await;
        }
        let (mut failures, mut avoid) = (0, String::new());
        let mut adopted = self.adopted(&manifest.key);
        loop {
            let begun = adopted.is_some();
            let id = match adopted.take() {
                Some(id) => id,
                None => self.place(manifest, &avoid).await,
            };
            let Some(at) = self.incarnation(&id) else {
                continue;
            };
            let began = Instant::now();
            let ended = match at.completed {
                Some(message) => Ended::Completed(message),
                None => self.life(manifest, &id, &at.host, begun).await,
            };
            let message = match ended {
                Ended::Completed(message) => {
                    // It is not run again, whatever becomes of its host.
                    self.complete(&id, &message);
                    return self.for_good(manifest, "Completed", &message, &id).await;
                }
                Ended::Over(message) => {
                    // It may have run: the id is used up.
                    self.end_soon(&id);
                    self.end_all(&manifest.key).await;
                    let was_healthy = began.elapsed() > HEALTHY;
                    failures = if was_healthy { 0 } else { failures + 1 };
                    avoid = at.host;
                    message
                }
                Ended::NobodyListened => {
                    self.forget(&id);
                    failures += 1;
                    let message = format!("nobody listens on host {}", at.host);
                    avoid = at.host;
                    message
                }
                Ended::HostIsAway => {
                    // It is stopped as soon as the host returns.
                    self.end_soon(&id);
                    format!("host {} was lost", at.host)
                }
            };
            self.show(manifest, "Ended", &message, "");
            sleep(backoff(failures)).await;
        }
    }

    /// Waits for a host that fits, and writes down what is about to be started there.
    async fn place(&self, manifest: &Manifest, avoid: &str) -> String {
        let mut news = self.news.subscribe();
        loop {
            let reason = match self.try_to_place(manifest, avoid) {
                Ok(id) => return id,
                Err(reason) => reason,
            };
            self.show(manifest, "Waiting", &reason, "");
            if news.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn try_to_place(&self, manifest: &Manifest, avoid: &str) -> Result<String, String> {
        let hosts = self.fleet.hosts();
        let mut state = self.state();
        let mut placed = BTreeMap::new();
        for (_, at) in state
            .ids
            .iter()
            .filter(|(id, _)| !state.ending.contains(*id))
        {
            *placed.entry(at.host.clone()).or_default() += 1;
        }
        let host = place(&manifest.conditions, &hosts, &placed, avoid)?;
        let id = uuid::Uuid::new_v4().to_string();
        let incarnation = Incarnation {
            of: manifest.key.clone(),
            host,
            completed: None,
        };
        state.ids.insert(id.clone(), incarnation);
        state.unsent.insert(id.clone());
        self.remember(&state);
        Ok(id)
    }

    fn end_soon(self: &Arc<Self>, id: &str) {
        let mut state = self.state();
        if state.ids.contains_key(id) && state.ending.insert(id.to_owned()) {
            tokio::spawn(self.clone().end(id.to_owned()));
        }
    }

    /// Stops an id until its host says that it is not there, however long that host is away.
    async fn end(self: Arc<Self>, id: String) {
        let Some(Incarnation { host, .. }) = self.incarnation(&id) else {
            return;
        };
        let Ok(client) = self.client(&host) else {
            return self.forget(&id);
        };
        let mut said = None;
        while !self.state().unsent.contains(&id) {
            if !self.is_away(&host) {
                // STOPPING acknowledges: from then on it is enough to ask, unless the host says something else.
                let answer = match said {
                    Some(WorkloadState::Stopping) => client.status(&id).await,
                    _ => client.stop(&id).await,
                };
                said = answer.ok().map(|status| status.state);
                if said == Some(WorkloadState::NotFound) {
                    break;
                }
            }
            let is_ending = said == Some(WorkloadState::Stopping);
            sleep(if is_ending { ENDING } else { ASK_AGAIN }).await;
        }
        self.forget(&id);
    }

    /// Stops what a workload has; waits for hosts that are there, and for no others.
    async fn end_all(self: &Arc<Self>, key: &str) {
        loop {
            let ids = self.state().ids.clone();
            let mine = ids.iter().filter(|(_, at)| at.of == key);
            let mut is_over = true;
            for (id, at) in mine {
                self.end_soon(id);
                is_over &= self.is_away(&at.host);
            }
            if is_over {
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// An id that an earlier process of this scheduler has started, and that nobody is stopping.
    fn adopted(&self, key: &str) -> Option<String> {
        let state = self.state();
        let mut ids = state.ids.iter();
        ids.find(|(id, at)| at.of == key && !state.ending.contains(*id))
            .map(|(id, _)| id.clone())
    }

    fn client(&self, host: &str) -> Result<HostClient, ClientError> {
        let timeouts = Timeouts {
            start: START,
            stop: Duration::from_secs(5),
            ..Timeouts::default()
        };
        Ok(self.fleet.client(host)?.with_timeouts(timeouts))
    }

    fn is_away(&self, host: &str) -> bool {
        match self.fleet.host(host) {
            Some(host) => host.health == Health::Lost,
            None => self.began.elapsed() > UNKNOWN,
        }
    }

    fn complete(&self, id: &str, message: &str) {
        let mut state = self.state();
        if let Some(at) = state.ids.get_mut(id) {
            at.completed = Some(message.to_owned());
        }
        self.remember(&state);
    }

    fn forget(&self, id: &str) {
        let mut state = self.state();
        state.ids.remove(id);
        state.unsent.remove(id);
        state.ending.remove(id);
        self.remember(&state);
    }

    fn remember(&self, state: &State) {
        let ids = state.ids.iter().map(|(id, at)| {
            let at = json!({ "for": at.of, "host": at.host, "completed": at.completed });
            (id.clone(), at)
        });
        self.directory().remember(&Value::Object(ids.collect()));
    }

    fn show(&self, manifest: &Manifest, reason: &str, message: &str, id: &str) {
        let host = self.incarnation(id).map(|at| at.host).unwrap_or_default();
        let now = self.wanted(&manifest.key);
        let mut message = message.to_owned();
        if let Some(refused) = now.as_ref().and_then(|now| now.refused.as_ref())
            && *refused != message
        {
            message = format!("{message}; {refused}");
        }
        let is_ready = matches!(reason, "Running" | "Completed");
        let conditions = [condition(is_ready, reason, &message)];
        let status = json!({ "workloadId": id, "hostId": host, "conditions": conditions });
        let shown = now.as_ref().unwrap_or(manifest);
        self.directory().tell(shown, status);
    }

    /// Nothing more happens to it, until another manifest takes its place.
    async fn for_good(&self, manifest: &Manifest, reason: &str, why: &str, id: &str) -> Infallible {
        self.show(manifest, reason, why, id);
        std::future::pending().await
    }

    /// Waits until it is so.
    async fn until(&self, is_so: impl Fn(&State) -> bool) {
        let mut news = self.news.subscribe();
        while !is_so(&self.state()) {
            if news.changed().await.is_err() {
                return;
            }
        }
    }

    fn tell(&self) {
        self.news.send_replace(());
    }

    fn wanted(&self, key: &str) -> Option<Manifest> {
        self.state().wanted.get(key).cloned()
    }

    fn incarnation(&self, id: &str) -> Option<Incarnation> {
        self.state().ids.get(id).cloned()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directory(&self) -> MutexGuard<'_, Directory> {
        self.directory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// At once after the first, then from 1 s by doubling to a minute, with jitter.
fn backoff(failures: u32) -> Duration {
    let Some(doublings) = failures.checked_sub(2) else {
        return Duration::ZERO;
    };
    let step_s = 2_f64.powi(i32::try_from(doublings.min(6)).unwrap_or(6));
    Duration::from_secs_f64(step_s.min(60.0) * (0.75 + 0.25 * rand::random::<f64>()))
}
