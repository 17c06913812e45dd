//! Runs the suite against both reference programs, over each transport and store. Several runs
//! proceed concurrently: they mostly wait, and each has its own broker, hosts and ports.

use std::process::Command;

use super::Counters;
use super::step::{Context, StepError, run_command, suite, suite_on_kube};
use crate::{cargo, conformance};

mod over_grpc;

/// One run of the suite, passed or failed.
type Run = fn(&Context) -> Result<Counters, StepError>;

/// Runs of one lane are sequential; the lanes are concurrent. The slow checks, outages of minutes,
/// run once for each side, because their results do not depend on the broker or the intake.
const LANES: [&[Run]; 3] = [
    &[host_on_embedded],
    &[scheduler_with_directory],
    &[host_on_nats_server, over_grpc::run, scheduler_on_kube],
];

/// Runs all lanes to their end.
pub(super) fn run(context: &mut Context) -> Result<Counters, StepError> {
    let context = &*context;
    let results: Vec<Result<Counters, StepError>> = std::thread::scope(|scope| {
        let lanes: Vec<_> = LANES
            .into_iter()
            .map(|lane| scope.spawn(move || run_lane(lane, context)))
            .collect();
        lanes
            .into_iter()
            .map(|lane| lane.join().unwrap_or(Ok(Counters::FAILED)))
            .collect()
    });
    results
        .into_iter()
        .try_fold(Counters::default(), |sum, counters| Ok(sum + counters?))
}

fn run_lane(lane: &[Run], context: &Context) -> Result<Counters, StepError> {
    lane.iter()
        .try_fold(Counters::default(), |sum, run| Ok(sum + run(context)?))
}

fn host_on_embedded(context: &Context) -> Result<Counters, StepError> {
    host(context, "embedded", &["--slow"])
}

fn host_on_nats_server(context: &Context) -> Result<Counters, StepError> {
    host(context, "nats-server", &[])
}

fn host(context: &Context, broker: &str, arguments: &[&str]) -> Result<Counters, StepError> {
    let mut command = suite(context, "host");
    command.args(["--broker", broker]).args(arguments);
    run_with_reports(&mut command, context, broker)
}

fn scheduler_with_directory(context: &Context) -> Result<Counters, StepError> {
    let mut command = suite(context, "scheduler");
    command.arg("--slow");
    scheduler(&mut command, context, "scheduler-dir")
}

fn scheduler_on_kube(context: &Context) -> Result<Counters, StepError> {
    let mut command = suite_on_kube(context, "scheduler");
    command.args(["--kubeconfig", "{kubeconfig}"]);
    scheduler(&mut command, context, "scheduler-kube")
}

fn scheduler(
    command: &mut Command,
    context: &Context,
    report: &str,
) -> Result<Counters, StepError> {
    let program = cargo::program(&context.root, "debug", "berth-scheduler");
    run_with_reports(command.env("BERTH_SCHEDULER", program), context, report)
}

/// Runs the suite, and writes its reports. Prints only failures.
fn run_with_reports(
    command: &mut Command,
    context: &Context,
    report: &str,
) -> Result<Counters, StepError> {
    let reports = conformance::report_flags(&context.root, report).map_err(StepError::Reports)?;
    run_command(command.arg("--quiet").args(reports))
}
