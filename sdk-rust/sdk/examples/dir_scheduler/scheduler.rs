//! Keeps every desired workload running, one incarnation after another.

mod incarnation;

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
use crate::manifest::{self, DesiredWorkload};
use crate::placement::place;

/// Interval between scans of the directory.
const SCAN_INTERVAL: Duration = Duration::from_millis(200);

/// Delay before another attempt to start or stop an ID, or to learn its state.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Interval between status requests for an ID that is stopping: short, because a stop takes only
/// moments.
const STOPPING_POLL: Duration = Duration::from_millis(300);

/// Timeout of a start.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Running time after which a failure resets the backoff.
const HEALTHY: Duration = Duration::from_secs(60);

/// Time after the start of this process; a host that has sent no heartbeat by then counts as lost.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(40);

/// An incarnation of a workload: an ID that was started on a host, or is about to be.
#[derive(Clone)]
struct Incarnation {
    workload: String,
    host: String,
    /// Message with which the workload completed, after which it is never started again.
    completed: Option<String>,
}

/// Reason an incarnation ended.
enum Outcome {
    Completed(String),
    /// The incarnation failed, or cannot be started.
    Failed(String),
    /// The start reached no host.
    NoResponders,
    HostLost,
}

#[derive(Default)]
struct State {
    desired: BTreeMap<String, DesiredWorkload>,
    /// Incarnations by ID: every ID that may be running. Saved to the directory.
    incarnations: BTreeMap<String, Incarnation>,
    /// IDs whose start has not been sent yet.
    unsent: BTreeSet<String>,
    /// IDs that are being stopped.
    stopping: BTreeSet<String>,
    /// Workloads that have a task.
    active: BTreeSet<String>,
    /// Number of times that each host was lost.
    losses: BTreeMap<String, u64>,
}

pub struct Scheduler {
    fleet: Fleet,
    /// Locked after `state`, never before it.
    directory: Mutex<Directory>,
    state: Mutex<State>,
    changes: watch::Sender<()>,
    started_at: Instant,
}

impl Scheduler {
    /// Loads the incarnations that an earlier process has saved.
    pub fn new(fleet: Fleet, directory: Directory) -> io::Result<Arc<Self>> {
        let saved = directory.saved_ids()?;
        let incarnations = saved.as_object().into_iter().flatten().map(|(id, saved)| {
            let completed = saved.get("completed").and_then(Value::as_str);
            let incarnation = Incarnation {
                workload: manifest::text_at(saved, "/workload"),
                host: manifest::text_at(saved, "/host"),
                completed: completed.map(str::to_owned),
            };
            (id.clone(), incarnation)
        });
        let state = State {
            incarnations: incarnations.collect(),
            ..State::default()
        };
        Ok(Arc::new(Self {
            fleet,
            directory: Mutex::new(directory),
            state: Mutex::new(state),
            changes: watch::Sender::new(()),
            started_at: Instant::now(),
        }))
    }

    /// Runs until the connection is closed for good.
    pub async fn run(self: Arc<Self>, mut events: FleetEvents) {
        let mut scans = tokio::time::interval(SCAN_INTERVAL);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(FleetEvent::Lost { host_id, .. }) => {
                        *self.state().losses.entry(host_id).or_default() += 1;
                        self.notify();
                    }
                    Some(_) => self.notify(),
                    None => return,
                },
                _ = scans.tick() => self.scan(),
            }
        }
    }

    fn scan(self: &Arc<Self>) {
        let desired = self.directory().desired_workloads();
        let mut state = self.state();
        let has_changed = state.desired != desired;
        let existing = state.incarnations.values().map(|one| one.workload.clone());
        let keys: BTreeSet<String> = existing.chain(desired.keys().cloned()).collect();
        state.desired = desired;
        for key in keys {
            if state.active.insert(key.clone()) {
                tokio::spawn(self.clone().reconcile(key));
            }
        }
        drop(state);
        if has_changed {
            self.notify();
        }
    }

    /// The task of one workload, until its manifest is deleted and its last incarnation is gone.
    async fn reconcile(self: Arc<Self>, key: String) {
        while let Some(desired) = self.desired(&key) {
            let is_outdated = |state: &State| {
                let current = state.desired.get(&key);
                !current.is_some_and(|current| current.is_same_workload(&desired))
            };
            tokio::select! {
                () = self.wait_until(is_outdated) => {}
                never = self.keep_running(&desired) => match never {},
            }
            self.stop_all(&key).await;
        }
        self.stop_all(&key).await;
        self.directory().remove_status(&key);
        self.state().active.remove(&key);
    }

    /// Runs one incarnation after another.
    async fn keep_running(self: &Arc<Self>, desired: &DesiredWorkload) -> Infallible {
        if let Some(reason) = &desired.refusal {
            return self.finish(desired, "Refused", reason, "").await;
        }
        let (mut failures, mut avoid) = (0, String::new());
        let mut adopted = self.adopted(&desired.key);
        loop {
            let may_have_run = adopted.is_some();
            let id = match adopted.take() {
                Some(id) => id,
                None => self.place(desired, &avoid).await,
            };
            let Some(incarnation) = self.incarnation(&id) else {
                continue;
            };
            let Incarnation {
                host, completed, ..
            } = incarnation;
            let started_at = Instant::now();
            let outcome = match completed {
                Some(message) => Outcome::Completed(message),
                None => {
                    self.run_incarnation(desired, &id, &host, may_have_run)
                        .await
                }
            };
            let message = match outcome {
                Outcome::Completed(message) => {
                    // The workload never runs again, whatever happens to the host.
                    self.complete(&id, &message);
                    return self.finish(desired, "Completed", &message, &id).await;
                }
                Outcome::Failed(message) => {
                    // The incarnation may have run, so its ID is not used again.
                    self.stop(&id);
                    self.stop_all(&desired.key).await;
                    let was_healthy = started_at.elapsed() > HEALTHY;
                    failures = if was_healthy { 0 } else { failures + 1 };
                    avoid = host;
                    message
                }
                Outcome::NoResponders => {
                    self.forget(&id);
                    failures += 1;
                    let message = format!("no responders for host {host}");
                    avoid = host;
                    message
                }
                Outcome::HostLost => {
                    // The incarnation is stopped as soon as the host recovers.
                    self.stop(&id);
                    format!("host {host} is lost")
                }
            };
            self.write_status(desired, "Ended", &message, "");
            sleep(backoff(failures)).await;
        }
    }

    /// Waits for a feasible host, and saves the ID that is about to be started there.
    async fn place(&self, desired: &DesiredWorkload, avoid: &str) -> String {
        let mut changes = self.changes.subscribe();
        loop {
            let reason = match self.try_place(desired, avoid) {
                Ok(id) => return id,
                Err(reason) => reason,
            };
            self.write_status(desired, "Waiting", &reason, "");
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn try_place(&self, desired: &DesiredWorkload, avoid: &str) -> Result<String, String> {
        let hosts = self.fleet.hosts();
        let mut state = self.state();
        let mut placed = BTreeMap::new();
        for (id, incarnation) in &state.incarnations {
            if !state.stopping.contains(id) {
                *placed.entry(incarnation.host.clone()).or_default() += 1;
            }
        }
        let host = place(&desired.constraints, &hosts, &placed, avoid)?;
        let id = uuid::Uuid::new_v4().to_string();
        let incarnation = Incarnation {
            workload: desired.key.clone(),
            host,
            completed: None,
        };
        state.incarnations.insert(id.clone(), incarnation);
        state.unsent.insert(id.clone());
        self.save(&state);
        Ok(id)
    }

    /// Stops an ID in the background.
    fn stop(self: &Arc<Self>, id: &str) {
        let mut state = self.state();
        if state.incarnations.contains_key(id) && state.stopping.insert(id.to_owned()) {
            tokio::spawn(self.clone().repeat_stop(id.to_owned()));
        }
    }

    /// Repeats the stop of an ID until its host reports NOT_FOUND. If the host is lost, waits until
    /// it recovers.
    async fn repeat_stop(self: Arc<Self>, id: String) {
        let Some(Incarnation { host, .. }) = self.incarnation(&id) else {
            return;
        };
        let Ok(client) = self.client(&host) else {
            return self.forget(&id);
        };
        let mut state = None;
        // An ID whose start was never sent needs no stop.
        while !self.state().unsent.contains(&id) {
            if !self.is_lost(&host) {
                // After STOPPING a status request suffices, until the host reports another state.
                let reply = match state {
                    Some(WorkloadState::Stopping) => client.status(&id).await,
                    _ => client.stop(&id).await,
                };
                state = reply.ok().map(|status| status.state);
                if state == Some(WorkloadState::NotFound) {
                    break;
                }
            }
            let is_stopping = state == Some(WorkloadState::Stopping);
            sleep(if is_stopping {
                STOPPING_POLL
            } else {
                RETRY_DELAY
            })
            .await;
        }
        self.forget(&id);
    }

    /// Stops all incarnations of a workload, and waits for the hosts that are not lost.
    async fn stop_all(self: &Arc<Self>, key: &str) {
        loop {
            let incarnations = self.state().incarnations.clone();
            let mut is_done = true;
            for (id, incarnation) in incarnations.iter().filter(|(_, one)| one.workload == key) {
                self.stop(id);
                is_done &= self.is_lost(&incarnation.host);
            }
            if is_done {
                return;
            }
            sleep(SCAN_INTERVAL).await;
        }
    }

    /// Returns an ID of the workload from an earlier process that is not being stopped.
    fn adopted(&self, key: &str) -> Option<String> {
        let state = self.state();
        let mut incarnations = state.incarnations.iter();
        incarnations
            .find(|(id, one)| one.workload == key && !state.stopping.contains(*id))
            .map(|(id, _)| id.clone())
    }

    fn client(&self, host: &str) -> Result<HostClient, ClientError> {
        let timeouts = Timeouts {
            start: START_TIMEOUT,
            stop: Duration::from_secs(5),
            ..Timeouts::default()
        };
        Ok(self.fleet.client(host)?.with_timeouts(timeouts))
    }

    fn is_lost(&self, host: &str) -> bool {
        match self.fleet.host(host) {
            Some(host) => host.health == Health::Lost,
            None => self.started_at.elapsed() > DISCOVERY_TIMEOUT,
        }
    }

    fn complete(&self, id: &str, message: &str) {
        let mut state = self.state();
        if let Some(incarnation) = state.incarnations.get_mut(id) {
            incarnation.completed = Some(message.to_owned());
        }
        self.save(&state);
    }

    fn forget(&self, id: &str) {
        let mut state = self.state();
        state.incarnations.remove(id);
        state.unsent.remove(id);
        state.stopping.remove(id);
        self.save(&state);
    }

    fn save(&self, state: &State) {
        let ids = state.incarnations.iter().map(|(id, one)| {
            let saved =
                json!({ "workload": one.workload, "host": one.host, "completed": one.completed });
            (id.clone(), saved)
        });
        self.directory().save_ids(&Value::Object(ids.collect()));
    }

    fn write_status(&self, desired: &DesiredWorkload, reason: &str, message: &str, id: &str) {
        let host = self.incarnation(id).map(|one| one.host).unwrap_or_default();
        let current = self.desired(&desired.key);
        let mut message = message.to_owned();
        // An invalid new manifest leaves the workload as it is; the status names the error.
        if let Some(refusal) = current
            .as_ref()
            .and_then(|current| current.refusal.as_ref())
            && *refusal != message
        {
            message = format!("{message}; {refusal}");
        }
        let is_ready = matches!(reason, "Running" | "Completed");
        let conditions = [condition(is_ready, reason, &message)];
        let status = json!({ "workloadId": id, "hostId": host, "conditions": conditions });
        let desired = current.as_ref().unwrap_or(desired);
        self.directory().write_status(desired, status);
    }

    /// Writes a final status, and waits until the task is cancelled because the manifest changed.
    async fn finish(
        &self,
        desired: &DesiredWorkload,
        reason: &str,
        message: &str,
        id: &str,
    ) -> Infallible {
        self.write_status(desired, reason, message, id);
        std::future::pending().await
    }

    async fn wait_until(&self, condition: impl Fn(&State) -> bool) {
        let mut changes = self.changes.subscribe();
        while !condition(&self.state()) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn notify(&self) {
        self.changes.send_replace(());
    }

    fn desired(&self, key: &str) -> Option<DesiredWorkload> {
        self.state().desired.get(key).cloned()
    }

    fn incarnation(&self, id: &str) -> Option<Incarnation> {
        self.state().incarnations.get(id).cloned()
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

/// Returns the delay after this many failures: none after the first, then 1 s, doubling up to a
/// minute, with jitter.
fn backoff(failures: u32) -> Duration {
    let Some(doublings) = failures.checked_sub(2) else {
        return Duration::ZERO;
    };
    let step_s = 2_f64.powi(i32::try_from(doublings.min(6)).unwrap_or(6));
    Duration::from_secs_f64(step_s.min(60.0) * (0.75 + 0.25 * rand::random::<f64>()))
}
