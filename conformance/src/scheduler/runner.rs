//! Runs the selected scenarios: most of them concurrently on the shared scheduler, some on their
//! own scheduler.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::context::ScenarioContext;
use super::environment::{Environment, EnvironmentConfig};
use super::excerpt::{lines, shorten};
use super::monitors::Monitors;
use super::scenario::{CHILDREN, Need, Scenario};
use super::target::{IntakeConfig, Target};
use crate::check::conclusion::log_tail;
use crate::check::executor::{ExecutorOptions, Observer, run_all, run_body};
use crate::check::isolation::SchedulerIsolation;
use crate::check::meta::CheckMeta;
use crate::check::outcome::{Blocked, Outcome, Status, error_chain};
use crate::spec::requirements::Requirement;

/// Time for which the runner waits for the exit of a scenario's own scheduler before it kills that
/// scheduler.
const OWN_GRACE: Duration = Duration::from_millis(500);
/// Time for which the runner waits for the exit of the shared scheduler, at the end of the run,
/// before it kills that scheduler.
const SHARED_GRACE: Duration = Duration::from_secs(5);
/// Maximum number of lines in the traffic of a passing scenario.
const MAX_WIRE_LINES: usize = 200;

/// Conditions that end a run early.
#[derive(Clone, Copy, Debug)]
pub struct StopConditions<'r> {
    /// Cancellation by the user.
    pub cancelled: &'r CancellationToken,
    /// Ends the run as soon as this requirement is violated.
    pub until_violated: Option<&'static Requirement>,
}

/// Runs each scenario in the `shared` environment, which has already been started, or in its own.
/// Returns one outcome per scenario, in the order of `scenarios`, and one per monitor.
///
/// Cancel safe: dropping the future kills every scheduler that it has launched.
pub async fn run(
    scenarios: &[&'static Scenario],
    config: EnvironmentConfig,
    shared: Environment,
    options: &ExecutorOptions,
    observer: &dyn Observer,
    stop: StopConditions<'_>,
) -> Vec<Outcome> {
    let runner = Runner {
        own_schedulers: Semaphore::new(options.own_targets.max(1)),
        shared: Arc::new(shared),
        config,
        observer,
        wire: options.wire,
        stop,
        monitors: Mutex::new(Monitors::default()),
    };
    let scenario = |index: usize| scenarios.get(index).copied();
    let metas: Vec<&'static CheckMeta> = scenarios.iter().map(|scenario| &scenario.meta).collect();
    let runner = &runner;
    let run_one = |index: usize| async move {
        match scenario(index) {
            Some(scenario) => runner.run_scenario(scenario).await,
            None => Outcome::new("", &[], Status::Error),
        }
    };
    let mut outcomes = run_all(&metas, options, stop.cancelled, |_| false, run_one).await;
    outcomes.extend(runner.finish().await);
    outcomes
}

struct Runner<'r> {
    config: EnvironmentConfig,
    shared: Arc<Environment>,
    own_schedulers: Semaphore,
    observer: &'r dyn Observer,
    /// Whether to record the traffic of passing scenarios as well.
    wire: bool,
    stop: StopConditions<'r>,
    monitors: Mutex<Monitors>,
}

impl Runner<'_> {
    async fn run_scenario(&self, scenario: &'static Scenario) -> Outcome {
        let outcome = match not_testable_reason(scenario, &self.config.target) {
            Some(reason) => {
                Outcome::new(scenario.id, scenario.covers, Status::NotTestable).with_reason(reason)
            }
            None if scenario.isolation != SchedulerIsolation::Shared => {
                self.run_on_own_scheduler(scenario).await
            }
            None => self.run_in(scenario, self.shared.clone()).await,
        };
        let outcome = Outcome {
            source: format!("{}:{}", scenario.file, scenario.line),
            ..outcome
        };
        self.observer.check_finished(&outcome);
        let violated = self.stop.until_violated.is_some_and(|requirement| {
            let mut violations = outcome.violations.iter();
            scenario.covers.contains(&requirement)
                && violations.any(|violation| {
                    violation.requirement == requirement && violation.stalled.is_none()
                })
        });
        if violated {
            // The cancellation does not discard this outcome, because no await follows before the
            // return.
            self.stop.cancelled.cancel();
        }
        outcome
    }

    async fn run_on_own_scheduler(&self, scenario: &'static Scenario) -> Outcome {
        let Ok(_permit) = self.own_schedulers.acquire().await else {
            return Outcome::new(scenario.id, scenario.covers, Status::Error)
                .with_reason("the run is over");
        };
        let mut config = self.config.clone();
        let target = match scenario.isolation {
            SchedulerIsolation::Isolated => self.config.target.with_isolation(),
            SchedulerIsolation::Elected => self.config.target.with_leader_election(),
            SchedulerIsolation::Own | SchedulerIsolation::Shared => None,
        };
        if let Some(target) = target {
            config.target = Arc::new(target);
        }
        let environment = match config.start_own().await {
            Ok(environment) => Arc::new(environment),
            Err(error) => {
                let blocked =
                    Blocked::Harness(format!("cannot start a scheduler: {}", error_chain(&error)));
                return Outcome::new(scenario.id, scenario.covers, Status::Error)
                    .with_reason(blocked.to_string());
            }
        };
        let outcome = self.run_in(scenario, environment.clone()).await;
        self.lock_monitors().judge_traffic(&environment);
        environment.shut_down(OWN_GRACE).await;
        outcome
    }

    async fn run_in(&self, scenario: &'static Scenario, environment: Arc<Environment>) -> Outcome {
        self.observer.check_started(&scenario.meta);
        let cx = Arc::new(ScenarioContext::new(
            &scenario.meta,
            scenario.isolation,
            environment.clone(),
        ));
        let body = {
            let (cx, run, until_violated) = (cx.clone(), scenario.run, self.stop.until_violated);
            async move {
                let check_run: &crate::check::check_run::CheckRun = (*cx).as_ref();
                match until_violated.filter(|requirement| scenario.covers.contains(requirement)) {
                    None => run(&cx).await,
                    Some(requirement) => tokio::select! {
                        flow = run(&cx) => flow,
                        () = check_run.evidence().wait_until_violated(requirement) => Ok(()),
                    },
                }
            }
        };
        let check_run: &crate::check::check_run::CheckRun = (*cx).as_ref();
        let evidence = || check_run.evidence().clone();
        let mut outcome = run_body(&scenario.meta, body, evidence, || check_run.stalled()).await;
        let entries = cx.journal().entries();
        let lines = lines(&entries, &cx.submissions(), cx.started_at());
        if !outcome.violations.is_empty() || outcome.status != Status::Pass {
            outcome.wire = shorten(lines);
            outcome.log = environment.scheduler.log().map(|log| log_tail(&log));
        } else if self.wire {
            outcome.wire = lines.into_iter().take(MAX_WIRE_LINES).collect();
        }
        cx.clean_up().await;
        outcome
    }

    async fn finish(&self) -> Vec<Outcome> {
        {
            let mut monitors = self.lock_monitors();
            monitors.judge_traffic(&self.shared);
            monitors.judge_process(&self.shared);
        }
        self.shared.shut_down(SHARED_GRACE).await;
        self.lock_monitors().outcomes()
    }

    fn lock_monitors(&self) -> MutexGuard<'_, Monitors> {
        self.monitors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the reason why the scenario cannot judge this target, if any. Pure.
fn not_testable_reason(scenario: &Scenario, target: &Target) -> Option<String> {
    let launched = target.launch().is_some();
    let feature = |name: &str| target.features.get(name).copied();
    if scenario.isolation == SchedulerIsolation::Isolated && target.with_isolation().is_none() {
        return Some("needs `launch.isolation_args` in target.toml".to_owned());
    }
    if matches!(
        scenario.isolation,
        SchedulerIsolation::Own | SchedulerIsolation::Elected
    ) && !launched
    {
        return Some("needs its own scheduler, but the target cannot be launched".to_owned());
    }
    for need in scenario.needs {
        let missing = match need {
            Need::Tap | Need::Process => !launched,
            Need::Children => feature(CHILDREN) == Some(false),
            Need::Kubernetes => !matches!(target.intake, IntakeConfig::Kube(_)),
            Need::Directory => !matches!(target.intake, IntakeConfig::Dir { .. }),
        };
        if missing {
            return Some(format!("needs {}", format!("{need:?}").to_lowercase()));
        }
    }
    let absent = scenario
        .feature
        .filter(|name| feature(name) == Some(false))?;
    Some(format!("`{absent}` is declared absent"))
}
