//! The self test: the check of each requirement must find the fault that breaks it, and all
//! conforming targets must pass. Its result is the kill matrix.

mod matrix;
mod trial;

use std::path::PathBuf;
use std::time::Instant;

use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

pub use self::matrix::{Cell, Finding, Matrix};
use self::trial::TrialGroup;
pub use self::trial::{Trial, trials};
use super::host::script;
use crate::check::outcome::Status;
use crate::check::pattern::Pattern;
use crate::check::side::Side;
use crate::host::checks;
use crate::host::suite::Suite;
use crate::host::target::{Access, Launch, Target, default};
use crate::report::Report;
use crate::report::run::RunnableSuite as _;
use crate::scheduler;
use crate::scheduler::target::KubernetesConfig;
use crate::spec::requirements::{Profile, Requirement};
use crate::spec::roles::Role;
use crate::testbed::broker::BrokerChoice;
use crate::testbed::registry::Artifact;

/// Default of [`Options::jobs`]. Large, because each trial runs few checks and mostly waits.
pub const JOBS: usize = 16;
/// Maximum number of concurrent trials in the cluster. Small, because the API server limits the
/// throughput.
const CLUSTER_JOBS: usize = 6;
/// Maximum number of concurrent trials with all checks on a host.
const WHOLE_HOST_JOBS: usize = 3;
/// Maximum number of concurrent trials with all checks on a scheduler. A trial runs dozens of
/// concurrent scenarios, and a second trial would delay events that must happen within a second.
const WHOLE_SCHEDULER_JOBS: usize = 1;
/// Checks of hosts that run for a requirement that only monitors judge. Together they make a host
/// send all kinds of messages.
const HOST_TRAFFIC_CHECKS: [&str; 4] = [
    "wire/commands",
    "json/envelope",
    "heartbeat/subject",
    "heartbeat/on-request",
];
/// Checks of schedulers that run for a requirement that only monitors judge.
const SCHEDULER_TRAFFIC_CHECKS: [&str; 2] = ["wire/traffic", "stop/deleted"];
/// The profiles that the model host claims.
pub const MODEL_PROFILES: [Profile; 4] = [
    Profile::Core,
    Profile::Services,
    Profile::Images,
    Profile::Resilience,
];

/// Options of the self test.
#[derive(Clone, Debug)]
pub struct Options {
    /// Program with the subcommands `model-host` and `model-scheduler`: the suite itself.
    pub program: PathBuf,
    /// A `berth-host` with fault injection; without it, host breakages are not run.
    pub breakage_host: Option<PathBuf>,
    /// A `berth-scheduler` with fault injection, which runs in the cluster of `KUBECONFIG`; without
    /// it, scheduler breakages are not run.
    pub breakage_scheduler: Option<PathBuf>,
    /// Restricts the self test to the trials of one side.
    pub side: Option<Side>,
    /// Restricts the self test to trials whose name or requirement contains one of these texts.
    pub only: Vec<String>,
    /// Whether to run trials that take minutes.
    pub slow: bool,
    /// Broker to use.
    pub broker: BrokerChoice,
    /// Maximum number of concurrent trials of one fault each, outside the cluster.
    pub jobs: usize,
    /// Ends the running trials, and starts no more trials.
    pub stop: CancellationToken,
}

/// Runs the trials and passes each result to `observe`. After a stop, unfinished trials are listed
/// in [`Matrix::not_run`].
///
/// Cancel safe: if the future is dropped, every launched host and scheduler ends.
pub async fn run(options: &Options, observe: impl Fn(&Cell)) -> Matrix {
    let (mut selected, mut not_run): (Vec<Trial>, Vec<Trial>) = trials()
        .into_iter()
        .filter(|trial| options.side.is_none_or(|side| side == trial.side()))
        .filter(|trial| trial.is_selected(&options.only))
        .partition(|trial| trial.can_run(options));
    // The longest trials determine the total time, so they start first.
    selected.sort_by_key(|trial| !trial.is_slow());
    let trials_of = |group: TrialGroup, jobs: usize| {
        let trials = selected.iter().filter(|trial| trial.group() == group);
        stream::iter(trials.cloned().collect::<Vec<_>>())
            .map(|trial| attempt(trial, options))
            .buffer_unordered(jobs.max(1))
    };
    let in_cluster =
        trials_of(TrialGroup::Cluster, CLUSTER_JOBS).chain(trials_of(TrialGroup::ClusterAlone, 1));
    let mut attempts = stream::select_all([
        trials_of(TrialGroup::Fault, options.jobs).boxed_local(),
        in_cluster.boxed_local(),
        trials_of(TrialGroup::WholeHost, WHOLE_HOST_JOBS).boxed_local(),
        trials_of(TrialGroup::WholeScheduler, WHOLE_SCHEDULER_JOBS).boxed_local(),
    ]);
    let mut cells = Vec::new();
    while let Some(attempt) = attempts.next().await {
        match attempt {
            Ok(cell) => {
                observe(&cell);
                cells.push(cell);
            }
            Err(interrupted) => not_run.push(interrupted),
        }
    }
    cells.sort_by_key(|cell| cell.trial.row());
    not_run.sort_by_key(Trial::row);
    Matrix { cells, not_run }
}

/// Runs a trial; returns the trial itself if it was interrupted.
async fn attempt(trial: Trial, options: &Options) -> Result<Cell, Trial> {
    if options.stop.is_cancelled() {
        return Err(trial);
    }
    let started_at = Instant::now();
    let report = match trial.side() {
        Side::Scheduler => scheduler_suite(&trial, options).run().await,
        Side::Host => host_suite(&trial, options).run().await,
    };
    if options.stop.is_cancelled() {
        return Err(trial);
    }
    let finding = match trial.breaks() {
        None => Finding::of_conforming(&report, trial.side()),
        Some(requirement) => Finding::of_faulty(&report, requirement),
    };
    Ok(Cell {
        trial,
        finding,
        duration: started_at.elapsed(),
    })
}

fn host_suite(trial: &Trial, options: &Options) -> Suite {
    let target = match trial {
        Trial::HostBreakage { name, .. } => breakage_host(name, options),
        _ => model_host(trial, options),
    };
    let mut builder = Suite::builder()
        .target(target)
        .broker(options.broker.clone())
        .seed(1);
    builder = builder.slow(trial.is_slow());
    if let Some(requirement) = trial.breaks() {
        for pattern in patterns(requirement) {
            builder = builder.only(pattern);
        }
    }
    let mut suite = builder.build();
    suite.options_mut().stop = options.stop.child_token();
    suite
}

fn scheduler_suite(trial: &Trial, options: &Options) -> scheduler::Suite {
    let arguments = match trial {
        Trial::SchedulerMutant { mutant, .. } => vec!["--mutant", mutant.name()],
        Trial::SchedulerVariant(variant) => vec!["--variant", variant.name()],
        _ => Vec::new(),
    };
    let target = match trial {
        Trial::SchedulerBreakage { name, .. } => breakage_scheduler(name, options),
        _ => crate::models::scheduler::target(&trial.name(), &options.program, &arguments),
    };
    let mut suite = scheduler::Suite::new(target);
    suite.options.broker = options.broker.clone();
    suite.options.seed = 1;
    suite.options.slow = trial.is_slow();
    suite.options.stop = options.stop.child_token();
    suite.until_violated = trial.breaks();
    // Some faults make even the preflight fail; the checks must find these faults.
    suite.preflight = trial.breaks().is_none();
    if let Some(requirement) = trial.breaks() {
        let is_covered = scheduler::catalog()
            .checks
            .iter()
            .any(|check| check.covers.contains(&requirement));
        let patterns = if is_covered {
            vec![requirement.id]
        } else {
            SCHEDULER_TRAFFIC_CHECKS.to_vec()
        };
        suite.options.run = patterns
            .into_iter()
            .map(|pattern| Pattern(pattern.to_owned()))
            .collect();
    }
    suite
}

/// Returns the checks that cover a requirement, or ordinary traffic if only monitors judge it.
fn patterns(requirement: &'static Requirement) -> Vec<&'static str> {
    if checks::all().any(|check| check.covers.contains(&requirement)) {
        vec![requirement.id]
    } else {
        HOST_TRAFFIC_CHECKS.to_vec()
    }
}

fn model_host(trial: &Trial, options: &Options) -> Target {
    let mut command = vec![options.program.display().to_string()];
    let arguments = [
        "model-host",
        "--nats-url",
        "{nats_url}",
        "--host-id",
        "{host_id}",
        "--suite-pid",
    ];
    command.extend(arguments.map(str::to_owned));
    command.push(std::process::id().to_string());
    match trial {
        Trial::HostMutant { mutant, .. } => {
            command.extend(["--mutant".into(), mutant.name().into()]);
        }
        Trial::HostVariant(variant) => {
            command.extend(["--variant".into(), variant.name().into()]);
        }
        _ => {}
    }
    let images = Role::ALL.iter().filter_map(|role| {
        let bytes = script::artifact(*role)?;
        Some((
            *role,
            Artifact::wasm(bytes).with_layer_media_type(script::MEDIA_TYPE),
        ))
    });
    Target {
        profiles: MODEL_PROFILES.to_vec(),
        images: images.collect(),
        only_own_images: true,
        ..Target::new(trial.name(), Access::Launch(Launch::new(command)))
    }
}

fn breakage_scheduler(name: &str, options: &Options) -> scheduler::target::Target {
    let program = options.breakage_scheduler.clone().unwrap_or_default();
    let config = KubernetesConfig::default();
    let mut target = scheduler::target::default::kubernetes_target(&program, config);
    if let scheduler::target::Access::Launch(launch) = &mut target.access {
        let name = name.to_owned();
        launch.env.insert("BERTH_BREAKAGE".to_owned(), name);
    }
    target.name = format!("breakage:{name}");
    target
}

fn breakage_host(name: &str, options: &Options) -> Target {
    let program = options.breakage_host.clone().unwrap_or_default();
    let mut launch = Launch::new(default::launch_command(&program));
    launch
        .env
        .insert("BERTH_BREAKAGE".to_owned(), name.to_owned());
    Target::new(format!("breakage:{name}"), Access::Launch(launch))
}

impl Finding {
    /// Returns the finding for a conforming target.
    fn of_conforming(report: &Report, side: Side) -> Finding {
        if let Some(error) = &report.error {
            return Finding::NoVerdict(error.clone());
        }
        let false_positives: Vec<String> = report
            .checks
            .iter()
            .filter(|check| {
                match check.status {
                    Status::Fail | Status::Error | Status::Inconclusive => true,
                    // The model scheduler also meets every SHOULD, in every variant.
                    Status::Warn => side == Side::Scheduler,
                    // Blocked by a violation of another requirement.
                    Status::NotTestable => !check.violations.is_empty(),
                    _ => false,
                }
            })
            .map(|check| match check.violations.first() {
                Some(found) => format!("{}: {} ({})", check.id, found.requirement, found.actual),
                None => format!("{}: {}", check.id, check.reason.clone().unwrap_or_default()),
            })
            .collect();
        match (report.exit_code, false_positives.is_empty()) {
            (0, true) => Finding::Passed,
            (_, false) => Finding::FalsePositive(false_positives),
            (code, true) => Finding::NoVerdict(format!("exit code {code}: {}", report.verdict)),
        }
    }

    /// Returns the finding for a target that breaks `requirement`. A check that covers the
    /// requirement must report the violation.
    fn of_faulty(report: &Report, requirement: &'static Requirement) -> Finding {
        let violation = report.checks.iter().find_map(|check| {
            // A violation of a SHOULD is a warning.
            let has_failed = matches!(check.status, Status::Fail | Status::Warn);
            let covers = check.covers.contains(&requirement.id);
            let mut violations = check.violations.iter();
            let found = violations.find(|found| found.requirement == requirement.id)?;
            (has_failed && covers).then_some((check, found))
        });
        if let Some((check, found)) = violation {
            return Finding::Killed {
                check: check.id.clone(),
                description: found.description.clone(),
                actual: found.actual.clone(),
            };
        }
        if let Some(error) = &report.error {
            return Finding::NoVerdict(error.clone());
        }
        let result = report
            .requirements
            .iter()
            .find(|item| item.id == requirement.id);
        let status = result.map_or(Status::NotRun, |item| item.status);
        let reasons: Vec<String> = report
            .checks
            .iter()
            .filter(|check| {
                check.covers.contains(&requirement.id) && check.status != Status::NotRun
            })
            .map(|check| match check.violations.first() {
                Some(found) => format!(
                    "{} reported {}: {}",
                    check.id, found.requirement, found.actual
                ),
                None => format!("{}: {}", check.id, check.reason.clone().unwrap_or_default()),
            })
            .collect();
        Finding::Survived { status, reasons }
    }
}
