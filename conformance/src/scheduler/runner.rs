//! Runs the selected scenarios: many at once on the shared scheduler, some with one of their own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::context::ScenarioContext;
use super::environment::{Environment, EnvironmentConfig};
use super::journal::{Entry, EventKind};
use super::monitors;
use super::scenario::{Need, Scenario};
use super::target::{IntakePlan, Target};
use crate::check::conclusion::log_end;
use crate::check::executor::{ExecutorOptions, Observer, run_all, run_body};
use crate::check::isolation::SchedulerIsolation;
use crate::check::meta::CheckMeta;
use crate::check::outcome::{Blocked, Outcome, Status, WireLine, chain};
use crate::spec::requirements::Requirement;
use crate::wire::response::shortened;

/// How long a scheduler of a scenario's own may take to end politely before it is killed.
const OWN_GRACE: Duration = Duration::from_millis(500);
/// How long the shared one may take at the end of the run.
const SHARED_GRACE: Duration = Duration::from_secs(5);
/// Events of hosts shown of a failure.
const WIRE_LINES: usize = 14;
/// Characters shown of a payload.
const PAYLOAD_CHARS: usize = 160;

/// When a run ends before its end.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'r> {
    /// Somebody says so.
    pub stop: &'r CancellationToken,
    /// This is seen broken: whoever asks for nothing else need not wait for the rest.
    pub broken: Option<&'static Requirement>,
}

/// Runs the scenarios: one outcome for each, in their order, and one for each monitor. `shared` is up already.
///
/// Cancel safe: dropping it kills every scheduler that it launched.
pub async fn run(
    scenarios: &[&'static Scenario],
    props: EnvironmentConfig,
    shared: Environment,
    options: &ExecutorOptions,
    observer: &dyn Observer,
    ends: Ends<'_>,
) -> Vec<Outcome> {
    let runner = Runner {
        own: Semaphore::new(options.own_hosts.max(1)),
        shared: Arc::new(shared),
        props,
        observer,
        ends,
        watch: Mutex::new(monitors::Watch::default()),
    };
    let scenario = |index: usize| scenarios.get(index).copied();
    let cases: Vec<&'static CheckMeta> = scenarios.iter().map(|scenario| &scenario.meta).collect();
    let runner = &runner;
    let once = |index: usize| async move {
        match scenario(index) {
            Some(scenario) => runner.once(scenario).await,
            None => Outcome::of("", &[], Status::Error),
        }
    };
    let mut outcomes = run_all(&cases, options, ends.stop, |_| false, once).await;
    outcomes.extend(runner.finish().await);
    outcomes
}

struct Runner<'r> {
    props: EnvironmentConfig,
    shared: Arc<Environment>,
    own: Semaphore,
    observer: &'r dyn Observer,
    ends: Ends<'r>,
    watch: Mutex<monitors::Watch>,
}

impl Runner<'_> {
    async fn once(&self, scenario: &'static Scenario) -> Outcome {
        let outcome = match gate(scenario, &self.props.target) {
            Some(reason) => {
                Outcome::of(scenario.id, scenario.covers, Status::NotTestable).because(reason)
            }
            None if scenario.isolation != SchedulerIsolation::Shared => {
                self.on_its_own(scenario).await
            }
            None => self.on_stage(scenario, self.shared.clone()).await,
        };
        let outcome = Outcome {
            source: format!("{}:{}", scenario.file, scenario.line),
            ..outcome
        };
        self.observer.ended(&outcome);
        let broken = self.ends.broken.is_some_and(|requirement| {
            let mut seen = outcome.violations.iter();
            scenario.covers.contains(&requirement)
                && seen.any(|seen| seen.requirement == requirement && seen.stalled.is_none())
        });
        if broken {
            // This outcome is returned within the same step, so that it is not among those that are given up.
            self.ends.stop.cancel();
        }
        outcome
    }

    async fn on_its_own(&self, scenario: &'static Scenario) -> Outcome {
        let Ok(_permit) = self.own.acquire().await else {
            return Outcome::of(scenario.id, scenario.covers, Status::Error)
                .because("the run is over");
        };
        let mut props = self.props.clone();
        let target = match scenario.isolation {
            SchedulerIsolation::Isolated => self.props.target.isolated(),
            SchedulerIsolation::Elected => self.props.target.elected(),
            SchedulerIsolation::Own | SchedulerIsolation::Shared => None,
        };
        if let Some(target) = target {
            props.target = Arc::new(target);
        }
        let stage = match props.stage(true, false).await {
            Ok(stage) => Arc::new(stage),
            Err(failed) => {
                let blocked = Blocked::Harness(format!("no scheduler: {}", chain(&failed)));
                return Outcome::of(scenario.id, scenario.covers, Status::Error)
                    .because(blocked.to_string());
            }
        };
        let outcome = self.on_stage(scenario, stage.clone()).await;
        self.watched(&stage, false);
        stage.end(OWN_GRACE).await;
        outcome
    }

    async fn on_stage(&self, scenario: &'static Scenario, stage: Arc<Environment>) -> Outcome {
        self.observer.began(&scenario.meta);
        let cx = Arc::new(ScenarioContext::new(
            &scenario.meta,
            scenario.isolation,
            stage.clone(),
        ));
        let body = {
            let (cx, run, broken) = (cx.clone(), scenario.run, self.ends.broken);
            async move {
                let check_run: &crate::check::check_run::CheckRun = (*cx).as_ref();
                match broken.filter(|requirement| scenario.covers.contains(requirement)) {
                    None => run(&cx).await,
                    Some(requirement) => tokio::select! {
                        flow = run(&cx) => flow,
                        () = check_run.evidence().until_broken(requirement) => Ok(()),
                    },
                }
            }
        };
        let check_run: &crate::check::check_run::CheckRun = (*cx).as_ref();
        let evidence = || check_run.evidence().clone();
        let mut outcome = run_body(&scenario.meta, body, evidence, || check_run.stalled()).await;
        if !outcome.violations.is_empty() || outcome.status != Status::Pass {
            outcome.wire = excerpt(&cx.journal().entries(), cx.began());
            outcome.log = stage.live.log().map(|log| log_end(&log));
        }
        cx.clean_up().await;
        outcome
    }

    fn watched(&self, stage: &Environment, shared: bool) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.look_at(stage, shared);
    }

    async fn finish(&self) -> Vec<Outcome> {
        self.watched(&self.shared, true);
        self.shared.end(SHARED_GRACE).await;
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.outcomes()
    }
}

/// Why this target cannot be asked, when it cannot. Pure.
fn gate(scenario: &Scenario, target: &Target) -> Option<String> {
    let launched = target.launch().is_some();
    let feature = |name: &str| target.features.get(name).copied();
    if scenario.isolation == SchedulerIsolation::Isolated && target.isolated().is_none() {
        return Some("needs `launch.isolated` in target.toml".to_owned());
    }
    if matches!(
        scenario.isolation,
        SchedulerIsolation::Own | SchedulerIsolation::Elected
    ) && !launched
    {
        return Some("needs a scheduler of its own, and this one cannot be launched".to_owned());
    }
    for need in scenario.needs {
        let missing = match need {
            Need::Tap | Need::Process => !launched,
            Need::Family => feature("family") == Some(false),
            Need::Kubernetes => !matches!(target.intake, IntakePlan::Kube(_)),
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

/// The last things that happened on the hosts, as lines of the wire.
fn excerpt(entries: &[Entry], began: Instant) -> Vec<WireLine> {
    let lines: Vec<WireLine> = entries
        .iter()
        .filter_map(|entry| line(entry, began))
        .collect();
    let skip = lines.len().saturating_sub(WIRE_LINES);
    lines.into_iter().skip(skip).collect()
}

fn line(entry: &Entry, began: Instant) -> Option<WireLine> {
    let (way, what, payload) = match &entry.what {
        EventKind::ReceivedCommand(came) if came.command == "workload.status" => return None,
        EventKind::ReceivedCommand(came) => (
            "sched → host",
            format!("{} {}", entry.host, came.command),
            String::from_utf8_lossy(&came.payload).into_owned(),
        ),
        EventKind::Answered(_, payload) => (
            "host → sched",
            format!("{} reply", entry.host),
            String::from_utf8_lossy(payload).into_owned(),
        ),
        EventKind::Up => (
            "host ⇄ bus",
            format!("{} connected", entry.host),
            entry.host_id.clone(),
        ),
        EventKind::Down => ("host ⇄ bus", format!("{} gone", entry.host), String::new()),
        EventKind::Frozen => (
            "host ⇄ bus",
            format!("{} frozen", entry.host),
            String::new(),
        ),
        EventKind::Thawed => (
            "host ⇄ bus",
            format!("{} thawed", entry.host),
            String::new(),
        ),
        EventKind::Ran(_) | EventKind::Ended(_) => return None,
    };
    Some(WireLine {
        at_ms: entry.at.saturating_duration_since(began).as_secs_f64() * 1000.0,
        way,
        what,
        payload: shortened(&payload, PAYLOAD_CHARS),
        culprit_frame: false,
    })
}
