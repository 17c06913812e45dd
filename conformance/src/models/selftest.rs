//! The self test: every fault must be found by the check of the requirement that it breaks, and
//! everything that is right must pass. What comes of it is the kill matrix.

mod matrix;
mod trial;

pub use self::matrix::{Cell, Finding, Matrix};
use self::trial::Lane;
pub use self::trial::{Trial, trials};

use std::path::PathBuf;
use std::time::Instant;

use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

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
use crate::scheduler::target::KubePlan;
use crate::spec::requirements::{Profile, Requirement};
use crate::spec::roles::Role;
use crate::testbed::broker::BrokerChoice;
use crate::testbed::registry::Artifact;

/// Trials of one fault at once: they run the few checks of one requirement, and nearly all of their time is waiting.
pub const JOBS: usize = 16;
/// Of these, those in a cluster at once: an API server is more to do than everything else together.
const IN_CLUSTER: usize = 6;
/// Whole suites of hosts at once, beside those.
const WHOLE_HOSTS: usize = 3;
/// A scheduler that is right goes through all scenarios, dozens at once: one at a time keeps the machine quick enough
/// for what has to happen within a second.
const WHOLE_SCHEDULERS: usize = 1;
/// What runs for a requirement that only monitors judge: a little of everything that hosts write.
const TRAFFIC: [&str; 4] = [
    "wire/commands",
    "json/envelope",
    "beat/subject",
    "beat/on-request",
];
/// The same for schedulers.
const SCHEDULER_TRAFFIC: [&str; 2] = ["wire/traffic", "stop/deleted"];
/// The profiles that the model host claims.
pub const MODEL_PROFILES: [Profile; 4] = [
    Profile::Core,
    Profile::Services,
    Profile::Images,
    Profile::Resilience,
];

/// How to run the self test.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program whose `model-host` subcommand is the model host: the suite itself.
    pub program: PathBuf,
    /// A `berth-host` that was built with its breakages; without it they are not tried.
    pub breakage_host: Option<PathBuf>,
    /// A `berth-scheduler` that was built with its breakages; they are tried in the cluster that `KUBECONFIG` leads to.
    pub breakage_scheduler: Option<PathBuf>,
    /// Only the trials of one side.
    pub side: Option<Side>,
    /// Only trials whose name contains one of these; all when empty.
    pub only: Vec<String>,
    /// Tries what takes minutes as well.
    pub slow: bool,
    /// Which broker to use.
    pub broker: BrokerChoice,
    /// How many trials of one fault run at once.
    pub jobs: usize,
    /// Ends the trials that run, and begins no other.
    pub stop: CancellationToken,
}

/// Tries everything and tells `observe` of each result as it comes. When it is stopped, what was not judged yet is
/// among what was left out.
///
/// Cancel safe: dropping it ends every host and every scheduler that was launched.
pub async fn run(options: &Options, observe: impl Fn(&Cell)) -> Matrix {
    let (mut tried, mut left_out): (Vec<Trial>, Vec<Trial>) = trials()
        .into_iter()
        .filter(|trial| options.side.is_none_or(|side| side == trial.side()))
        .filter(|trial| trial.is_selected(&options.only))
        .partition(|trial| trial.can_run(options));
    // The end of all is the end of the longest: those begin first.
    tried.sort_by_key(|trial| !trial.is_slow());
    let lane = |lane: Lane, at_once: usize| {
        let trials = tried.iter().filter(|trial| trial.lane() == lane).cloned();
        stream::iter(trials.collect::<Vec<_>>())
            .map(|trial| attempt(trial, options))
            .buffer_unordered(at_once.max(1))
    };
    let in_cluster = lane(Lane::Cluster, IN_CLUSTER).chain(lane(Lane::ClusterAlone, 1));
    let mut attempts = stream::select_all([
        lane(Lane::Fault, options.jobs).boxed_local(),
        in_cluster.boxed_local(),
        lane(Lane::WholeHost, WHOLE_HOSTS).boxed_local(),
        lane(Lane::WholeScheduler, WHOLE_SCHEDULERS).boxed_local(),
    ]);
    let mut cells = Vec::new();
    while let Some(attempt) = attempts.next().await {
        match attempt {
            Ok(cell) => {
                observe(&cell);
                cells.push(cell);
            }
            Err(interrupted) => left_out.push(interrupted),
        }
    }
    cells.sort_by_key(|cell| cell.trial.place());
    left_out.sort_by_key(Trial::place);
    Matrix { cells, left_out }
}

/// What came of it, or the trial itself when it was interrupted.
async fn attempt(trial: Trial, options: &Options) -> Result<Cell, Trial> {
    if options.stop.is_cancelled() {
        return Err(trial);
    }
    let began = Instant::now();
    let report = match trial.side() {
        Side::Scheduler => scheduler_suite(&trial, options).run().await,
        Side::Host => suite(&trial, options).run().await,
    };
    if options.stop.is_cancelled() {
        return Err(trial);
    }
    let finding = match trial.breaks() {
        None => Finding::of_sound(&report, trial.side()),
        Some(requirement) => Finding::of_broken(&report, requirement),
    };
    Ok(Cell {
        trial,
        finding,
        took: began.elapsed(),
    })
}

fn suite(trial: &Trial, options: &Options) -> Suite {
    let target = match trial {
        Trial::Breakage { name, .. } => broken_host(name, options),
        _ => model(trial, options),
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
        Trial::SchedulerBreakage { name, .. } => broken_scheduler(name, options),
        _ => crate::models::scheduler::target(&trial.name(), &options.program, &arguments),
    };
    let mut suite = scheduler::Suite::new(target);
    suite.options.broker = options.broker.clone();
    suite.options.seed = 1;
    suite.options.slow = trial.is_slow();
    suite.options.stop = options.stop.child_token();
    suite.until_broken = trial.breaks();
    // Some faults keep even a canary from running: that is for the checks to find.
    suite.examined = trial.breaks().is_none();
    if let Some(requirement) = trial.breaks() {
        let covered = scheduler::catalog()
            .checks
            .iter()
            .any(|check| check.covers.contains(&requirement));
        let patterns = if covered {
            vec![requirement.id]
        } else {
            SCHEDULER_TRAFFIC.to_vec()
        };
        suite.options.run = patterns
            .into_iter()
            .map(|pattern| Pattern(pattern.to_owned()))
            .collect();
    }
    suite
}

/// The checks that cover a requirement, or ordinary traffic when only monitors do.
fn patterns(requirement: &'static Requirement) -> Vec<&'static str> {
    match checks::all().any(|check| check.covers.contains(&requirement)) {
        true => vec![requirement.id],
        false => TRAFFIC.to_vec(),
    }
}

fn model(trial: &Trial, options: &Options) -> Target {
    let mut command = vec![options.program.display().to_string()];
    let words = [
        "model-host",
        "--nats-url",
        "{nats_url}",
        "--host-id",
        "{host_id}",
        "--suite",
    ];
    command.extend(words.map(str::to_owned));
    command.push(std::process::id().to_string());
    match trial {
        Trial::Mutant { mutant, .. } => command.extend(["--mutant".into(), mutant.name().into()]),
        Trial::Variant(variant) => command.extend(["--variant".into(), variant.name().into()]),
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

fn broken_scheduler(name: &str, options: &Options) -> scheduler::target::Target {
    let program = options.breakage_scheduler.clone().unwrap_or_default();
    let mut target = scheduler::target::default::kube_target_of(&program, KubePlan::default());
    if let scheduler::target::Access::Launch(launch) = &mut target.access {
        let name = name.to_owned();
        launch.env.insert("BERTH_BREAKAGE".to_owned(), name);
    }
    target.name = format!("breakage:{name}");
    target
}

fn broken_host(name: &str, options: &Options) -> Target {
    let program = options.breakage_host.clone().unwrap_or_default();
    let mut launch = Launch::new(default::command_of(&program));
    launch
        .env
        .insert("BERTH_BREAKAGE".to_owned(), name.to_owned());
    Target::new(format!("breakage:{name}"), Access::Launch(launch))
}

impl Finding {
    /// What was found of a peer that is right.
    fn of_sound(report: &Report, side: Side) -> Finding {
        if let Some(trouble) = &report.trouble {
            return Finding::Trouble(trouble.clone());
        }
        let complaints: Vec<String> = report
            .checks
            .iter()
            .filter(|check| {
                match check.status {
                    Status::Fail | Status::Error | Status::Inconclusive => true,
                    // The model scheduler does what schedulers should, in every variant.
                    Status::Warn => side == Side::Scheduler,
                    _ => false,
                }
            })
            .map(|check| match check.violations.first() {
                Some(found) => format!("{}: {} ({})", check.id, found.requirement, found.actual),
                None => format!("{}: {}", check.id, check.reason.clone().unwrap_or_default()),
            })
            .collect();
        match (report.exit_code, complaints.is_empty()) {
            (0, true) => Finding::Passed,
            (_, false) => Finding::Blamed(complaints),
            (code, true) => Finding::Trouble(format!("exit code {code}: {}", report.verdict)),
        }
    }

    /// What was found of a host that breaks a requirement: it must fail for that, and by a check of it.
    fn of_broken(report: &Report, requirement: &'static Requirement) -> Finding {
        let mut killers = Vec::new();
        for check in &report.checks {
            let own = check.violations.iter().find(|found| {
                found.requirement == requirement.id && check.covers.contains(&requirement.id)
            });
            // A SHOULD that is broken is warned of.
            if let (Status::Fail | Status::Warn, Some(found)) = (check.status, own) {
                killers.push((check.id.clone(), found.what.clone(), found.actual.clone()));
            }
        }
        if let Some((check, what, actual)) = killers.into_iter().next() {
            return Finding::Killed {
                check,
                what,
                actual,
            };
        }
        if let Some(trouble) = &report.trouble {
            return Finding::Trouble(trouble.clone());
        }
        let standing = report
            .requirements
            .iter()
            .find(|item| item.id == requirement.id);
        let status = standing.map_or(Status::NotRun, |item| item.status);
        let reasons: Vec<String> = report
            .checks
            .iter()
            .filter(|check| {
                check.covers.contains(&requirement.id) && check.status != Status::NotRun
            })
            .map(|check| match check.violations.first() {
                Some(found) => format!(
                    "{} blamed {}: {}",
                    check.id, found.requirement, found.actual
                ),
                None => format!("{} {}", check.id, check.reason.clone().unwrap_or_default()),
            })
            .collect();
        Finding::Survived { status, reasons }
    }
}
