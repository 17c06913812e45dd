//! The API that the body of a scenario uses: its own fleet, the intake, the journal, and claims.

mod observe;
mod outage;

pub use self::observe::{RunningWorkload, describe, host_names, workload_ids};
pub use self::outage::HostOutage;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::environment::Environment;
use super::excerpt::Submission;
use super::journal::Journal;
use super::manifest::{Key, Manifest, NAMESPACE};
use super::simulated_host::{HostConfig, SimulatedHost};
use super::target::RunningScheduler;
use super::timings::Timings;
use crate::check::check_run::CheckRun;
use crate::check::claim::Claim;
use crate::check::isolation::SchedulerIsolation;
use crate::check::meta::CheckMeta;
use crate::check::outcome::Blocked;
use crate::check::wait::{ProbeError, Waited};
use crate::spec::requirements::{Requirement, SCHED_REG_001};
use crate::testbed::tap::{Direction, Mark};
use crate::wire::nats::heartbeat_subject;

/// Maximum wait for the delivery of commands that a killed scheduler has sent.
const DELIVERED_WITHIN: Duration = Duration::from_secs(2);
/// Maximum number of recorded operations at the intake. A scenario has fewer than a hundred.
const MAX_SUBMISSIONS: usize = 1_000;

/// Context of one run of one scenario.
///
/// Its host group, names and images are unique, so that scenarios can share a scheduler.
#[derive(Debug)]
pub struct ScenarioContext {
    isolation: SchedulerIsolation,
    /// Hosts of the scenario. Dropped before the environment, which contains their broker.
    hosts: Mutex<Vec<SimulatedHost>>,
    environment: Arc<Environment>,
    /// Prefix of all names in this scenario, and name of its host group.
    name_prefix: String,
    check_run: CheckRun,
    journal: Journal,
    objects: Mutex<Vec<Key>>,
    /// Operations at the intake, for the report of a failure.
    submissions: Mutex<Vec<Submission>>,
    /// Position in the record of the tap at the start of the scenario.
    mark: Mark,
    /// Time at which the newest host started.
    last_host_started_at: Mutex<Option<Instant>>,
}

impl ScenarioContext {
    /// Returns the context for one run of a scenario.
    pub fn new(
        meta: &'static CheckMeta,
        isolation: SchedulerIsolation,
        environment: Arc<Environment>,
    ) -> ScenarioContext {
        ScenarioContext {
            isolation,
            name_prefix: environment.new_name_prefix(),
            check_run: CheckRun::new(meta, environment.patience.clone()),
            mark: environment.scheduler.bus.tap().mark(),
            environment,
            journal: Journal::default(),
            hosts: Mutex::default(),
            objects: Mutex::default(),
            submissions: Mutex::default(),
            last_host_started_at: Mutex::default(),
        }
    }

    /// Host group of this scenario.
    pub fn group(&self) -> &str {
        &self.name_prefix
    }

    /// Returns the name of an object, such as the deployment `app`, in this scenario.
    pub fn name(&self, app: &str) -> String {
        format!("{}-{app}", self.name_prefix)
    }

    /// Returns the image of a revision of `app`, which identifies its workloads in commands.
    pub fn image(&self, app: &str, revision: u32) -> String {
        format!("{}{revision}", self.image_prefix(app))
    }

    fn image_prefix(&self, app: &str) -> String {
        format!("registry.invalid/{}/{app}:", self.name_prefix)
    }

    /// Returns the configuration of a host in this scenario's group.
    pub fn host_config(&self, name: &str) -> HostConfig {
        HostConfig {
            heartbeat_interval: self.timings().heartbeat_interval(),
            ..HostConfig::new(name, self.group())
        }
    }

    /// Starts a host.
    ///
    /// # Errors
    /// The broker does not respond.
    pub async fn start_host(&self, config: HostConfig) -> Result<SimulatedHost, Blocked> {
        let host = self.environment.start_host(config, self.journal.clone());
        let host = host.await;
        let host =
            host.map_err(|error| Blocked::harness_error("cannot start a simulated host", &error))?;
        self.lock_hosts().push(host.clone());
        *self.lock_last_host_started_at() = Some(Instant::now());
        Ok(host)
    }

    /// Starts `N` hosts with the names `a`, `b`, `c` and so on.
    ///
    /// # Errors
    /// The broker does not respond.
    pub async fn start_hosts<const N: usize>(&self) -> Result<[SimulatedHost; N], Blocked> {
        let mut hosts = Vec::with_capacity(N);
        for letter in ('a'..='z').take(N) {
            let config = self.host_config(&letter.to_string());
            hosts.push(self.start_host(config).await?);
        }
        hosts
            .try_into()
            .map_err(|_| Blocked::Harness("a scenario has at most 26 hosts".to_owned()))
    }

    /// Returns the time until `register` has passed for the newest host. The deadline of a start
    /// begins only then, because the scheduler need not use the host earlier.
    pub fn remaining_registration(&self) -> Duration {
        let register = self.timings().register;
        let age = self.lock_last_host_started_at().map(|at| at.elapsed());
        age.map_or(Duration::ZERO, |age| register.saturating_sub(age))
    }

    /// Waits until the scheduler must use every host of this scenario: the heartbeat of each has
    /// arrived, and `register` has passed. A claim about the choice among hosts requires this.
    ///
    /// # Errors
    /// A heartbeat does not arrive because the scheduler has no subscription.
    pub async fn wait_until_registered(&self) -> Result<(), Blocked> {
        let subjects: Vec<String> = self
            .lock_hosts()
            .iter()
            .map(|host| heartbeat_subject(&host.id()))
            .collect();
        // Only a scheduler that the suite launches connects through the tap.
        let is_tapped = self.scheduler().process().is_some();
        let within = self.timings().heartbeat_interval() + self.timings().reconnect;
        let description = "the heartbeats have arrived";
        let all_arrived = self.eventually(within, description, || {
            let frames = self.scheduler().bus.tap().frames_since(self.mark);
            let arrived = |subject: &&String| {
                let mut frames = frames.iter();
                frames.any(|frame| frame.direction == Direction::ToTarget && frame.is_on(subject))
            };
            let mut subjects = subjects.iter();
            let missing = subjects.find(|subject| is_tapped && !arrived(subject));
            std::future::ready(missing.map_or(Ok(()), |subject| Err(format!("none on {subject}"))))
        });
        all_arrived.await.or_blocked(self, SCHED_REG_001)?;
        self.wait(self.timings().register).await;
        Ok(())
    }

    fn lock_last_host_started_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.last_host_started_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the scheduler's name for the namespace that manifests call `default`.
    pub fn namespace(&self) -> String {
        self.scheduler().intake.namespace(NAMESPACE)
    }

    /// Returns the manifest of a deployment of `app`.
    pub fn deployment(&self, app: &str, replicas: i64) -> Manifest {
        Manifest::deployment(&self.name(app), self.group(), &self.image(app, 1), replicas)
    }

    /// Returns the manifest of a single workload of `app`.
    pub fn workload(&self, app: &str) -> Manifest {
        Manifest::workload(&self.name(app), self.group(), &self.image(app, 1))
    }

    /// Creates or replaces an object.
    ///
    /// # Errors
    /// The intake refuses the object.
    pub async fn submit(&self, manifest: &Manifest) -> Result<(), Blocked> {
        self.try_submit(manifest)
            .await
            .map_err(|text| Blocked::harness("cannot submit the object", text))
    }

    /// Creates or replaces an object that the intake may refuse.
    ///
    /// # Errors
    /// The intake refuses the object; the error is the text of the refusal.
    pub async fn try_submit(&self, manifest: &Manifest) -> Result<(), String> {
        self.delete_at_clean_up(manifest.key());
        self.record(manifest.key(), Some(manifest.json().clone()));
        let applied = self.scheduler().intake.apply(manifest).await;
        applied.map_err(|error| crate::check::outcome::error_chain(&error))
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// The intake fails.
    pub async fn delete(&self, manifest: &Manifest) -> Result<(), Blocked> {
        self.record(manifest.key(), None);
        let deleted = self.scheduler().intake.delete(&manifest.key()).await;
        deleted.map_err(|error| Blocked::harness_error("cannot delete the object", &error))
    }

    /// Events of the hosts of this scenario.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Maximum times of the target, such as `act`; docs/spec/scheduler.md names them.
    pub fn timings(&self) -> &Timings {
        &self.environment.timings
    }

    /// Scheduler and its bus. A scenario that disconnects or kills either must declare `isolation:
    /// Own`.
    pub fn scheduler(&self) -> &RunningScheduler {
        &self.environment.scheduler
    }

    /// Kills the process of the scheduler, and waits until the hosts have received every command
    /// that it had sent. Otherwise the next process could see a host reply NOT_FOUND for an id
    /// whose start arrives later.
    pub async fn kill_scheduler(&self) {
        self.scheduler().kill().await;
        let delivered = self.eventually(DELIVERED_WITHIN, "all commands are delivered", || {
            let undelivered = self.undelivered_ids();
            std::future::ready(if undelivered.is_empty() {
                Ok(())
            } else {
                Err(format!("{undelivered:?} are not"))
            })
        });
        // A command to a host that is disconnected is never delivered.
        let _ = delivered.await;
    }

    /// Launches the scheduler again.
    ///
    /// # Errors
    /// The command cannot be executed.
    pub fn launch_scheduler(&self) -> Result<(), Blocked> {
        let launched = self.scheduler().launch();
        launched.map_err(|error| Blocked::harness_error("cannot launch the scheduler", &error))
    }

    /// Registers a value that must not appear in any output.
    pub fn add_secret(&self, value: &str) {
        self.environment.secrets.add(value);
    }

    /// Begins a claim about a requirement that the scenario covers.
    #[track_caller]
    pub fn claim(&self, requirement: Requirement) -> Claim<'_> {
        self.check_run.claim(requirement)
    }

    /// Calls [`CheckRun::eventually`].
    pub async fn eventually<T, F, Fut>(
        &self,
        within: Duration,
        description: &str,
        probe: F,
    ) -> Waited<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, String>>,
    {
        self.check_run.eventually(within, description, probe).await
    }

    /// Calls [`CheckRun::poll`].
    pub(crate) async fn poll<T, F, Fut>(
        &self,
        limit: Duration,
        description: &str,
        probe: F,
    ) -> Waited<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, ProbeError>>,
    {
        self.check_run.poll(limit, description, probe).await
    }

    /// Calls [`CheckRun::consistently`].
    pub async fn consistently<T, F, Fut>(
        &self,
        window: Duration,
        description: &str,
        probe: F,
    ) -> Waited<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, String>>,
    {
        self.check_run
            .consistently(window, description, probe)
            .await
    }

    /// Polls `probe`, which must return `None` during the whole window.
    pub async fn never<F>(&self, window: Duration, description: &str, probe: F) -> Waited<()>
    where
        F: Fn() -> Option<String>,
    {
        self.check_run
            .never(window, description, || std::future::ready(probe()))
            .await
    }

    /// Waits for `time` to pass, without a claim.
    pub async fn wait(&self, time: Duration) {
        let _ = self
            .consistently(time, "time passes", || std::future::ready(Ok(())))
            .await;
    }

    /// Additional time that every wait allows.
    pub fn patience(&self) -> Duration {
        self.check_run.patience()
    }

    /// Time at which the body of the scenario started.
    pub fn started_at(&self) -> Instant {
        self.check_run.started_at()
    }

    /// Deletes the objects of the scenario and retires its hosts.
    pub async fn clean_up(&self) {
        let objects = std::mem::take(&mut *self.lock_objects());
        for key in objects {
            // An object that cannot be deleted remains, but no host matches it.
            let _ = self.scheduler().intake.delete(&key).await;
        }
        let hosts = std::mem::take(&mut *self.lock_hosts());
        self.environment.retire(hosts);
    }

    /// Registers an object for deletion in [`ScenarioContext::clean_up`].
    fn delete_at_clean_up(&self, key: Key) {
        let mut objects = self.lock_objects();
        if !objects.contains(&key) {
            objects.push(key);
        }
    }

    fn record(&self, key: Key, object: Option<Value>) {
        let at = Instant::now();
        let mut submissions = self.lock_submissions();
        if submissions.len() < MAX_SUBMISSIONS {
            submissions.push(Submission { at, key, object });
        }
    }

    /// Returns the operations of the scenario at the intake.
    pub fn submissions(&self) -> Vec<Submission> {
        self.lock_submissions().clone()
    }

    fn lock_submissions(&self) -> MutexGuard<'_, Vec<Submission>> {
        self.submissions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_hosts(&self) -> MutexGuard<'_, Vec<SimulatedHost>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_objects(&self) -> MutexGuard<'_, Vec<Key>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<CheckRun> for ScenarioContext {
    fn as_ref(&self) -> &CheckRun {
        &self.check_run
    }
}

/// Returns a condition in the status of an object.
pub fn condition<'v>(object: &'v Value, kind: &str) -> Option<&'v Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions
        .iter()
        .find(|condition| condition.get("type").and_then(Value::as_str) == Some(kind))
}
