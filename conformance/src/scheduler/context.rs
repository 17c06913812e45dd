//! What the body of a scenario works with: a fleet of its own, the intake, the journal, and its claims.

mod observe;
mod outage;

pub use self::observe::{Placed, hosts_of, ids_of, shown};
pub use self::outage::Absence;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::environment::Environment;
use super::journal::Journal;
use super::manifest::{Key, Manifest, NAMESPACE};
use super::simulated_host::{HostPlan, SimulatedHost};
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

/// The hands and eyes of one run of one scenario.
///
/// Its host group, its names and its images are its own, so that scenarios share a scheduler without meeting.
#[derive(Debug)]
pub struct ScenarioContext {
    isolation: SchedulerIsolation,
    /// Before the stage, so that they are dropped before its broker.
    hosts: Mutex<Vec<SimulatedHost>>,
    stage: Arc<Environment>,
    tag: String,
    check_run: CheckRun,
    journal: Journal,
    objects: Mutex<Vec<Key>>,
    /// Where the record of the tap stood when it began.
    mark: Mark,
    /// When its youngest host came.
    last_host_at: Mutex<Option<Instant>>,
}

impl ScenarioContext {
    /// The context of one run of a scenario.
    pub fn new(
        meta: &'static CheckMeta,
        isolation: SchedulerIsolation,
        stage: Arc<Environment>,
    ) -> ScenarioContext {
        ScenarioContext {
            isolation,
            tag: stage.next_tag(),
            check_run: CheckRun::new(meta, stage.patience.clone()),
            mark: stage.live.bus.tap().mark(),
            stage,
            journal: Journal::default(),
            hosts: Mutex::default(),
            objects: Mutex::default(),
            last_host_at: Mutex::default(),
        }
    }

    /// The host group of this scenario.
    pub fn group(&self) -> &str {
        &self.tag
    }

    /// The name of an object of this scenario.
    pub fn name(&self, app: &str) -> String {
        format!("{}-{app}", self.tag)
    }

    /// The image of an app, by which its workloads are known on the wire.
    pub fn image(&self, app: &str, revision: u32) -> String {
        format!("{}{revision}", self.image_of(app))
    }

    fn image_of(&self, app: &str) -> String {
        format!("registry.invalid/{}/{app}:", self.tag)
    }

    /// A host of this scenario's group that is not up yet.
    pub fn plan(&self, name: &str) -> HostPlan {
        HostPlan {
            beat_every: self.stage.timings.beat_every(),
            ..HostPlan::new(name, &self.tag)
        }
    }

    /// Brings up a host.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn host(&self, plan: HostPlan) -> Result<SimulatedHost, Blocked> {
        let host = self.stage.bring_up(plan, self.journal.clone()).await;
        let host = host.map_err(|cause| Blocked::chain("a simulated host", &cause))?;
        self.lock_hosts().push(host.clone());
        *self.last_host_at() = Some(Instant::now());
        Ok(host)
    }

    /// Brings up that many hosts: `a`, `b`, `c` …
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn hosts<const N: usize>(&self) -> Result<[SimulatedHost; N], Blocked> {
        let mut hosts = Vec::with_capacity(N);
        for letter in ('a'..='z').take(N) {
            hosts.push(self.host(self.plan(&letter.to_string())).await?);
        }
        hosts
            .try_into()
            .map_err(|_| Blocked::Harness("no scenario has more than 26 hosts".to_owned()))
    }

    /// What is left of `register` for the youngest host: no deadline for a start runs before.
    pub fn registering(&self) -> Duration {
        let register = self.timings().register;
        let age = self.last_host_at().map(|at| at.elapsed());
        age.map_or(Duration::ZERO, |age| register.saturating_sub(age))
    }

    /// Waits until the scheduler must be using every host of this scenario: its heartbeat has arrived, and `register`
    /// has passed. For claims about the choice among hosts.
    ///
    /// # Errors
    /// A heartbeat does not arrive, because nobody asks for it.
    pub async fn all_registered(&self) -> Result<(), Blocked> {
        let subjects: Vec<String> = self
            .lock_hosts()
            .iter()
            .map(|host| heartbeat_subject(&host.id()))
            .collect();
        let launched = self.stage.live.process().is_some();
        let within = self.timings().beat_every() + self.timings().reconnect;
        let arrived = self.eventually(within, "the heartbeats have arrived", || {
            let frames = self.live().bus.tap().frames_since(self.mark);
            let came = |subject: &&String| {
                let mut frames = frames.iter();
                frames.any(|frame| frame.way == Direction::ToTarget && frame.is_on(subject))
            };
            let missing = subjects.iter().find(|subject| launched && !came(subject));
            std::future::ready(missing.map_or(Ok(()), |subject| Err(format!("none on {subject}"))))
        });
        arrived.await.or_blocked(self, SCHED_REG_001)?;
        self.pass(self.timings().register).await;
        Ok(())
    }

    fn last_host_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.last_host_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What the scheduler calls the namespace that manifests call `default`.
    pub fn namespace(&self) -> String {
        self.stage.live.intake.namespace(NAMESPACE)
    }

    /// A deployment of an app, not submitted yet.
    pub fn deployment(&self, app: &str, replicas: i64) -> Manifest {
        Manifest::deployment(&self.name(app), &self.tag, &self.image(app, 1), replicas)
    }

    /// A workload of its own, not submitted yet.
    pub fn workload(&self, app: &str) -> Manifest {
        Manifest::workload(&self.name(app), &self.tag, &self.image(app, 1))
    }

    /// Gives an object to the scheduler, or gives it anew.
    ///
    /// # Errors
    /// The intake does not take it.
    pub async fn submit(&self, manifest: &Manifest) -> Result<(), Blocked> {
        self.try_submit(manifest)
            .await
            .map_err(|text| Blocked::harness("the intake", text))
    }

    /// [`ScenarioContext::submit`] of something that may be refused.
    ///
    /// # Errors
    /// What the intake says.
    pub async fn try_submit(&self, manifest: &Manifest) -> Result<(), String> {
        self.remember(manifest.key());
        let applied = self.stage.live.intake.apply(manifest).await;
        applied.map_err(|cause| crate::check::outcome::chain(&cause))
    }

    /// Takes an object away from the scheduler.
    ///
    /// # Errors
    /// The intake does not work.
    pub async fn withdraw(&self, manifest: &Manifest) -> Result<(), Blocked> {
        let deleted = self.stage.live.intake.delete(&manifest.key()).await;
        deleted.map_err(|cause| Blocked::chain("the intake", &cause))
    }

    /// What the hosts of this scenario saw and did.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The times that the target is judged by.
    pub fn timings(&self) -> &Timings {
        &self.stage.timings
    }

    /// The scheduler and its bus. Whoever harms them has them for himself: `place: Own`.
    pub fn live(&self) -> &RunningScheduler {
        &self.stage.live
    }

    /// Declares a value that must never be shown.
    pub fn secret(&self, value: &str) {
        self.stage.secrets.add(value);
    }

    /// Begins a claim about a requirement that the scenario covers.
    #[track_caller]
    pub fn claim(&self, requirement: Requirement) -> Claim<'_> {
        self.check_run.claim(requirement)
    }

    /// [`CheckRun::eventually`].
    pub async fn eventually<T, F, Fut>(&self, within: Duration, what: &str, probe: F) -> Waited<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, String>>,
    {
        self.check_run.eventually(within, what, probe).await
    }

    /// [`CheckRun::look`].
    pub(crate) async fn look<T, F, Fut>(&self, limit: Duration, what: &str, probe: F) -> Waited<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, ProbeError>>,
    {
        self.check_run.look(limit, what, probe).await
    }

    /// [`CheckRun::consistently`].
    pub async fn consistently<T, F, Fut>(&self, window: Duration, what: &str, probe: F) -> Waited<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, String>>,
    {
        self.check_run.consistently(window, what, probe).await
    }

    /// The thing (`Some`) must not be seen during the whole window.
    pub async fn never<F>(&self, window: Duration, what: &str, probe: F) -> Waited<()>
    where
        F: Fn() -> Option<String>,
    {
        self.check_run
            .never(window, what, || std::future::ready(probe()))
            .await
    }

    /// Lets time pass in which nothing is judged.
    pub async fn pass(&self, time: Duration) {
        let _ = self
            .consistently(time, "time passes", || std::future::ready(Ok(())))
            .await;
    }

    /// What is added to every deadline.
    pub fn patience(&self) -> Duration {
        self.check_run.patience()
    }

    /// When the body began.
    pub fn began(&self) -> Instant {
        self.check_run.began()
    }

    /// Takes back all that the scenario gave to the scheduler, and its hosts off the stage.
    pub async fn clean_up(&self) {
        let objects = std::mem::take(&mut *self.lock_objects());
        for key in objects {
            // What cannot be taken back stays without hosts.
            let _ = self.stage.live.intake.delete(&key).await;
        }
        let hosts = std::mem::take(&mut *self.lock_hosts());
        self.stage.retire(hosts);
    }

    /// Clean-up takes it away.
    fn remember(&self, key: Key) {
        let mut objects = self.lock_objects();
        if !objects.contains(&key) {
            objects.push(key);
        }
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

/// A condition of an object's status.
pub fn condition<'v>(object: &'v Value, kind: &str) -> Option<&'v Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions
        .iter()
        .find(|condition| condition.get("type").and_then(Value::as_str) == Some(kind))
}
