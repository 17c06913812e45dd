//! Runs the selected checks: many at once on the shared host, some on hosts of their own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::check::{Body, Check};
use super::context::CheckContext;
use super::eligibility::{Facts, Gate, gate};
use super::monitors::MonitorVerdict;
use super::shared_host::SharedHost;
use super::target::{LaunchError, Launcher, RunningHost};
use super::{excerpt, monitor_outcome, monitors};
use crate::check::conclusion;
use crate::check::executor::{ExecutorOptions, Observer, run_all, run_body};
use crate::check::isolation::HostIsolation;
use crate::check::meta::CheckMeta;
use crate::check::outcome::{Blocked, Outcome, Status, chain};
use crate::testbed::fixture::Fixture;

/// How long a host of a check's own may take to end politely before it is killed.
const OWN_HOST_GRACE: Duration = Duration::from_millis(500);
/// How long the shared host may take to end at the end of the run.
const SHARED_HOST_GRACE: Duration = Duration::from_secs(10);
/// How long a clean-up stop may take; what is left dies with the host.
const CLEAN_UP_WITHIN: Duration = Duration::from_secs(5);

/// Runs the checks: one outcome for each, in their order, and one for each monitor. `host` is up already: the doctor has spoken to it.
///
/// Cancel safe: dropping it kills every host that it launched.
#[expect(
    clippy::too_many_arguments,
    reason = "the suite is the one caller, and each is a thing of its own"
)]
pub async fn run(
    checks: &[&'static Check],
    facts: &Facts,
    fixture: Arc<Fixture>,
    launcher: Launcher,
    host: RunningHost,
    options: &ExecutorOptions,
    observer: &dyn Observer,
    stop: &CancellationToken,
) -> Vec<Outcome> {
    let runner = Runner {
        shared: SharedHost::new(launcher.clone(), host),
        own_hosts: Semaphore::new(options.own_hosts.max(1)),
        fixture,
        launcher,
        facts,
        observer,
        verdicts: Mutex::default(),
        active: Mutex::default(),
    };
    let launched = runner.launcher.target.launch().is_some();
    let check = |index: usize| checks.get(index).copied();
    let alone = |index: usize| {
        !launched && check(index).is_some_and(|check| check.host == HostIsolation::Quiet)
    };
    let cases: Vec<&'static CheckMeta> = checks.iter().map(|check| &check.meta).collect();
    let runner = &runner;
    let once = |index: usize| async move {
        match check(index) {
            Some(check) => runner.once(check).await,
            None => Outcome::of("", &[], Status::Error),
        }
    };
    let mut outcomes = run_all(&cases, options, stop, alone, once).await;
    outcomes.extend(runner.finish().await);
    outcomes
}

struct Runner<'r> {
    fixture: Arc<Fixture>,
    launcher: Launcher,
    shared: SharedHost,
    own_hosts: Semaphore,
    facts: &'r Facts,
    observer: &'r dyn Observer,
    verdicts: Mutex<Vec<MonitorVerdict>>,
    /// What runs at the moment: an interrupted run cleans up after it.
    active: Mutex<Vec<Arc<CheckContext>>>,
}

impl Runner<'_> {
    async fn once(&self, check: &'static Check) -> Outcome {
        let outcome = match gate(check, self.facts) {
            Gate::NotTestable(reason) => {
                Outcome::of(check.id, check.covers, Status::NotTestable).because(reason)
            }
            Gate::Run => self.on_a_host(check, check.run).await,
            Gate::Refusal(refused, feature) => {
                conclusion::refused(self.on_a_host(check, refused).await, feature)
            }
        };
        let outcome = Outcome {
            source: format!("{}:{}", check.file, check.line),
            ..outcome
        };
        self.observer.ended(&outcome);
        outcome
    }

    async fn on_a_host(&self, check: &'static Check, body: Body) -> Outcome {
        let own = match check.host {
            HostIsolation::Shared => false,
            HostIsolation::Own | HostIsolation::Quiet => self.launcher.target.launch().is_some(),
        };
        if !own {
            return match self.shared.get().await {
                Ok(host) => self.judge_on(check, body, host).await,
                Err(failed) => no_host(check, &failed),
            };
        }
        let Ok(_permit) = self.own_hosts.acquire().await else {
            return Outcome::of(check.id, check.covers, Status::Error).because("the run is over");
        };
        let host = match self
            .launcher
            .bring_up(check.host == HostIsolation::Own)
            .await
        {
            Ok(host) => Arc::new(host),
            Err(failed) => return no_host(check, &failed),
        };
        let outcome = self.judge_on(check, body, host.clone()).await;
        self.note(host.watch.verdicts(Instant::now()));
        host.end(OWN_HOST_GRACE).await;
        outcome
    }

    async fn judge_on(&self, check: &'static Check, body: Body, host: Arc<RunningHost>) -> Outcome {
        self.observer.began(&check.meta);
        let cx = Arc::new(CheckContext::new(
            &check.meta,
            check.host,
            check.roles,
            self.fixture.clone(),
            host.clone(),
            self.launcher.clone(),
        ));
        self.active().push(cx.clone());
        let outcome = self.judge_body(check, &cx, body).await;
        if check.host == HostIsolation::Shared || host.process.is_none() {
            self.clean_up(&cx).await;
        }
        self.active().retain(|active| !Arc::ptr_eq(active, &cx));
        outcome
    }

    async fn judge_body(
        &self,
        check: &'static Check,
        cx: &Arc<CheckContext>,
        body: Body,
    ) -> Outcome {
        let began = cx.began();
        let task = {
            let cx = cx.clone();
            async move { body(&cx).await }
        };
        let evidence = || cx.evidence().clone();
        let stalled = || self.fixture.clock.stalled_since(began);
        let mut outcome = run_body(&check.meta, task, evidence, stalled).await;
        if !outcome.violations.is_empty() || outcome.status != Status::Pass {
            let culprit_frame = outcome
                .violations
                .first()
                .and_then(|violation| violation.culprit_frame.clone());
            outcome.wire = excerpt::excerpt(&cx.frames(), culprit_frame.as_deref(), cx.began());
            outcome.log = cx
                .host()
                .process
                .as_ref()
                .map(|process| conclusion::log_end(&process.log()));
        }
        outcome
    }

    fn active(&self) -> MutexGuard<'_, Vec<Arc<CheckContext>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the ids of one check and no others.
    async fn clean_up(&self, cx: &CheckContext) {
        let stops = cx.evidence().ids().into_iter().map(|id| async move {
            let payload = serde_json::json!({ "workloadId": id }).to_string();
            let headers = crate::wire::response::Headers::none();
            if let Ok(mut replies) = cx.request("workload.stop", payload, headers).await {
                // Whatever it says: nothing is claimed here.
                replies.next(CLEAN_UP_WITHIN).await;
            }
        });
        futures_util::future::join_all(stops).await;
    }

    fn note(&self, verdicts: Vec<MonitorVerdict>) {
        let mut known = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        monitors::merge(&mut known, verdicts);
    }

    async fn finish(&self) -> Vec<Outcome> {
        // Of an interrupted run on a host that goes on running; launched ones end anyway.
        let interrupted = std::mem::take(&mut *self.active());
        let left = interrupted.iter().filter(|cx| cx.host().process.is_none());
        futures_util::future::join_all(left.map(|cx| self.clean_up(cx))).await;
        let (hosts, deaths) = self.shared.take_all().await;
        for host in &hosts {
            self.note(host.watch.verdicts(Instant::now()));
        }
        let began = hosts
            .first()
            .map(|host| host.trace.clone())
            .unwrap_or_default();
        for host in &hosts {
            host.end(SHARED_HOST_GRACE).await;
        }
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let verdicts = std::mem::take(&mut *verdicts);
        let mut outcomes: Vec<Outcome> = verdicts
            .into_iter()
            .map(|verdict| monitor_outcome::outcome(verdict, &began))
            .collect();
        outcomes.push(monitor_outcome::alive(&deaths));
        outcomes
    }
}

fn no_host(check: &'static Check, failed: &LaunchError) -> Outcome {
    let blocked = Blocked::Harness(format!("no host for this check: {}", chain(failed)));
    Outcome::of(check.id, check.covers, Status::Error).because(blocked.to_string())
}
