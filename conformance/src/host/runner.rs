//! Runner: runs most checks concurrently on the shared host, and some on a host of their own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::check::{Check, CheckBody};
use super::context::CheckContext;
use super::eligibility::{Eligibility, TargetFacts, check_eligibility};
use super::monitors::MonitorVerdict;
use super::shared_host::SharedHost;
use super::target::{LaunchError, Launcher, RunningHost};
use super::{excerpt, monitor_outcome, monitors};
use crate::check::conclusion;
use crate::check::executor::{ExecutorOptions, Observer, run_all, run_body};
use crate::check::isolation::HostIsolation;
use crate::check::meta::CheckMeta;
use crate::check::outcome::{Blocked, Outcome, Status, error_chain};
use crate::testbed::fixture::Fixture;

/// Grace period between the stop signal and the kill, for a host that was launched for one check.
const OWN_HOST_GRACE: Duration = Duration::from_millis(500);
/// Grace period of the shared host at the end of the run.
const SHARED_HOST_GRACE: Duration = Duration::from_secs(10);
/// Timeout of a stop in the clean-up. A workload that remains ends with its host.
const CLEAN_UP_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of concurrent stops in the clean-up of a check. Other checks share the host.
const CLEAN_UP_STOPS_MAX: usize = 32;

/// Runs the checks on `host`, which passed the preflight, and on further hosts.
///
/// Returns one outcome per check, in their order, and one per monitor. Cancel safe: dropping the
/// future kills every host that it launched.
#[expect(
    clippy::too_many_arguments,
    reason = "the suite is the only caller, and the arguments have nothing in common"
)]
pub async fn run(
    checks: &[&'static Check],
    facts: &TargetFacts,
    fixture: Arc<Fixture>,
    launcher: Launcher,
    host: RunningHost,
    options: &ExecutorOptions,
    observer: &dyn Observer,
    stop: &CancellationToken,
) -> Vec<Outcome> {
    let runner = Runner {
        shared: SharedHost::new(launcher.clone(), host),
        own_hosts: Semaphore::new(options.own_targets.max(1)),
        fixture,
        launcher,
        facts,
        observer,
        wire: options.wire,
        isolated: options.isolated,
        verdicts: Mutex::default(),
        active: Mutex::default(),
    };
    let launched = runner.launcher.target.launch().is_some();
    let check = |index: usize| checks.get(index).copied();
    let exclusive = |index: usize| {
        let is_quiet = check(index).is_some_and(|check| check.host == HostIsolation::Quiet);
        !launched && (options.isolated || is_quiet)
    };
    let metas: Vec<&'static CheckMeta> = checks.iter().map(|check| &check.meta).collect();
    let runner = &runner;
    let once = |index: usize| async move {
        match check(index) {
            Some(check) => runner.once(check).await,
            None => Outcome::new("", &[], Status::Error),
        }
    };
    let mut outcomes = run_all(&metas, options, stop, exclusive, once).await;
    outcomes.extend(runner.finish().await);
    outcomes
}

struct Runner<'r> {
    fixture: Arc<Fixture>,
    launcher: Launcher,
    shared: SharedHost,
    own_hosts: Semaphore,
    facts: &'r TargetFacts,
    observer: &'r dyn Observer,
    /// Whether to record the traffic of passing checks as well.
    wire: bool,
    verdicts: Mutex<Vec<MonitorVerdict>>,
    /// Checks that are running; an interrupted run stops their workloads.
    active: Mutex<Vec<Arc<CheckContext>>>,
    /// Whether checks must not share a host.
    isolated: bool,
}

impl Runner<'_> {
    async fn once(&self, check: &'static Check) -> Outcome {
        let outcome = match check_eligibility(check, self.facts) {
            Eligibility::NotTestable(reason) => {
                self.observer.check_started(&check.meta);
                Outcome::new(check.id, check.covers, Status::NotTestable).with_reason(reason)
            }
            Eligibility::Run => self.run_on_host(check, check.run).await,
            Eligibility::Refusal(refused, feature) => {
                conclusion::refused(self.run_on_host(check, refused).await, feature)
            }
        };
        let outcome = Outcome {
            source: format!("{}:{}", check.file, check.line),
            ..outcome
        };
        self.observer.check_finished(&outcome);
        outcome
    }

    async fn run_on_host(&self, check: &'static Check, body: CheckBody) -> Outcome {
        let may_share = check.host == HostIsolation::Shared && !self.isolated;
        let own = !may_share && self.launcher.target.launch().is_some();
        if !own {
            return match self.shared.get().await {
                Ok(host) => self.judge_on(check, body, host).await,
                Err(error) => no_host(check, &error),
            };
        }
        let Ok(_permit) = self.own_hosts.acquire().await else {
            return Outcome::new(check.id, check.covers, Status::Error)
                .with_reason("the run has ended");
        };
        let host = match self
            .launcher
            .bring_up(check.host == HostIsolation::Own)
            .await
        {
            Ok(host) => Arc::new(host),
            Err(error) => return no_host(check, &error),
        };
        let outcome = self.judge_on(check, body, host.clone()).await;
        self.add_verdicts(host.monitors.verdicts(Instant::now()));
        host.stop(OWN_HOST_GRACE).await;
        outcome
    }

    async fn judge_on(
        &self,
        check: &'static Check,
        body: CheckBody,
        host: Arc<RunningHost>,
    ) -> Outcome {
        self.observer.check_started(&check.meta);
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
        body: CheckBody,
    ) -> Outcome {
        let started_at = cx.started_at();
        let task = {
            let cx = cx.clone();
            async move { body(&cx).await }
        };
        let evidence = || cx.evidence().clone();
        let stalled = || self.fixture.clock.stalled_since(started_at);
        let mut outcome = run_body(&check.meta, task, evidence, stalled).await;
        if !outcome.violations.is_empty() || outcome.status != Status::Pass {
            let culprit_frame = outcome
                .violations
                .first()
                .and_then(|violation| violation.culprit_frame.clone());
            outcome.wire =
                excerpt::excerpt(&cx.frames(), culprit_frame.as_deref(), cx.started_at());
            outcome.log = cx
                .host()
                .process
                .as_ref()
                .map(|process| conclusion::log_tail(&process.log()));
        } else if self.wire {
            outcome.wire = excerpt::all(&cx.frames(), cx.started_at());
        }
        outcome
    }

    fn active(&self) -> MutexGuard<'_, Vec<Arc<CheckContext>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the ids of one check.
    async fn clean_up(&self, cx: &CheckContext) {
        let stops = cx.evidence().ids().into_iter().map(|id| async move {
            let payload = serde_json::json!({ "workloadId": id }).to_string();
            let headers = crate::wire::response::Headers::none();
            if let Ok(mut replies) = cx.request("workload.stop", payload, headers).await {
                // The clean-up judges nothing, so the response is ignored.
                replies.next(CLEAN_UP_TIMEOUT).await;
            }
        });
        let stops = stream::iter(stops).buffer_unordered(CLEAN_UP_STOPS_MAX);
        stops.for_each(|()| async {}).await;
    }

    fn add_verdicts(&self, verdicts: Vec<MonitorVerdict>) {
        let mut merged = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        monitors::merge(&mut merged, verdicts);
    }

    async fn finish(&self) -> Vec<Outcome> {
        // After an interrupted run, workloads must be stopped on a host that was already running.
        // On launched hosts, they end with the host.
        let interrupted = std::mem::take(&mut *self.active());
        let contexts = interrupted.iter().filter(|cx| cx.host().process.is_none());
        futures_util::future::join_all(contexts.map(|cx| self.clean_up(cx))).await;
        let (hosts, unexpected_exits) = self.shared.take_all().await;
        for host in &hosts {
            self.add_verdicts(host.monitors.verdicts(Instant::now()));
        }
        let trace = hosts
            .first()
            .map(|host| host.trace.clone())
            .unwrap_or_default();
        for host in &hosts {
            host.stop(SHARED_HOST_GRACE).await;
        }
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let verdicts = std::mem::take(&mut *verdicts);
        let mut outcomes: Vec<Outcome> = verdicts
            .into_iter()
            .map(|verdict| monitor_outcome::outcome(verdict, &trace))
            .collect();
        outcomes.push(monitor_outcome::alive(&unexpected_exits));
        outcomes
    }
}

fn no_host(check: &'static Check, error: &LaunchError) -> Outcome {
    let blocked = Blocked::Harness(format!(
        "cannot start a host for this check: {}",
        error_chain(error)
    ));
    Outcome::new(check.id, check.covers, Status::Error).with_reason(blocked.to_string())
}
