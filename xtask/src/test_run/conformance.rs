//! The suite judges both references, every way there is to them. Runs go on beside each other: nearly all of their
//! time is waiting, and each has its own broker, hosts and ports.

use std::process::Command;

use super::{Setting, StepError, Tally, steps};
use crate::{cargo, conformance};

mod over_grpc;

/// One run: whether the verdict is good.
type Run = fn(&Setting) -> Result<Tally, StepError>;

/// What is in one lane runs one after the other. The slow checks, minutes of an outage each, run once a side: they are the
/// same with every broker and every intake.
const LANES: [&[Run]; 3] = [
    &[host_on_embedded],
    &[scheduler_with_directory],
    &[host_on_nats_server, over_grpc::judge, scheduler_on_kube],
];

/// Runs all lanes to their ends.
pub(super) fn judge(setting: &mut Setting) -> Result<Tally, StepError> {
    let setting = &*setting;
    let results: Vec<Result<Tally, StepError>> = std::thread::scope(|scope| {
        let lanes: Vec<_> = LANES
            .into_iter()
            .map(|lane| scope.spawn(move || in_order(lane, setting)))
            .collect();
        lanes
            .into_iter()
            .map(|lane| lane.join().unwrap_or(Ok(Tally::FAILED)))
            .collect()
    });
    results
        .into_iter()
        .try_fold(Tally::default(), |sum, tally| Ok(sum + tally?))
}

fn in_order(lane: &[Run], setting: &Setting) -> Result<Tally, StepError> {
    lane.iter()
        .try_fold(Tally::default(), |sum, run| Ok(sum + run(setting)?))
}

fn host_on_embedded(setting: &Setting) -> Result<Tally, StepError> {
    host(setting, "embedded", &["--slow"])
}

fn host_on_nats_server(setting: &Setting) -> Result<Tally, StepError> {
    host(setting, "nats-server", &[])
}

fn host(setting: &Setting, broker: &str, arguments: &[&str]) -> Result<Tally, StepError> {
    let mut command = steps::suite(setting, "host");
    command.args(["--broker", broker]).args(arguments);
    verdict(&mut command, setting, broker)
}

fn scheduler_with_directory(setting: &Setting) -> Result<Tally, StepError> {
    let mut command = steps::suite(setting, "scheduler");
    command.arg("--slow");
    scheduler(&mut command, setting, "scheduler-dir")
}

fn scheduler_on_kube(setting: &Setting) -> Result<Tally, StepError> {
    let mut command = steps::suite_on_kube(setting, "scheduler");
    command.args(["--kubeconfig", "{kubeconfig}"]);
    scheduler(&mut command, setting, "scheduler-kube")
}

fn scheduler(command: &mut Command, setting: &Setting, report: &str) -> Result<Tally, StepError> {
    let program = cargo::built(&setting.root, "debug", "berth-scheduler");
    verdict(command.env("BERTH_SCHEDULER", program), setting, report)
}

/// Leaves the reports of a run, and prints of it what keeps its verdict from being good.
fn verdict(command: &mut Command, setting: &Setting, report: &str) -> Result<Tally, StepError> {
    let reports = conformance::report_flags(&setting.root, report).map_err(StepError::Reports)?;
    steps::step(command.arg("--quiet").args(reports))
}
