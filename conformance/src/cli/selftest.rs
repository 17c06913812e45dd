//! `selftest`: the kill matrix.

use std::path::PathBuf;

use clap::Args;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::run_args::stop_on_signal;
use super::{EXIT_ERROR, EXIT_USAGE, fail_with, print};
use crate::check::side::Side;
use crate::models::selftest;
use crate::models::selftest::{Options, Trial, trials};
use crate::testbed::broker::BrokerChoice;

/// Flags of `selftest`.
#[derive(Debug, Args)]
pub struct SelftestArgs {
    /// Program `berth-host`, built with `--features fault-injection` [default: only the model host]
    #[arg(long, value_name = "PROGRAM")]
    breakage_host: Option<PathBuf>,
    /// Program `berth-scheduler`, built with `--features fault-injection`, to run in the cluster of
    /// KUBECONFIG [default: only the model scheduler]
    #[arg(long, value_name = "PROGRAM")]
    breakage_scheduler: Option<PathBuf>,
    /// Run only the trials of one side: `host` or `scheduler`
    #[arg(long, value_name = "SIDE", value_parser = side)]
    side: Option<Side>,
    /// Run only trials whose name or requirement contains this text; repeatable
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Include trials that take minutes
    #[arg(long)]
    slow: bool,
    /// Broker: `embedded`, `nats-server` or `nats://HOST:PORT`
    #[arg(long, default_value = "embedded")]
    broker: String,
    /// Maximum number of concurrent trials with faults
    #[arg(long, default_value_t = selftest::JOBS)]
    jobs: usize,
    /// Print the matrix as JSON at the end
    #[arg(long)]
    json: bool,
    /// Print only failed trials and the totals
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
}

/// Runs `selftest`.
///
/// Returns 0 if the right check detected every fault and every target without a fault passed, 1 if
/// not, and 3 if a signal interrupted the run.
pub async fn run(arguments: SelftestArgs) -> u8 {
    let broker = match arguments.broker.parse::<BrokerChoice>() {
        Ok(broker) => broker,
        Err(error) => return fail_with(&error.to_string(), EXIT_USAGE),
    };
    if let Some(unmatched) = arguments.only.iter().find(|text| matches_nothing(text)) {
        return fail_with(
            &format!("`{unmatched}` matches no trial and no requirement of a trial"),
            EXIT_USAGE,
        );
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            return fail_with(
                &format!("cannot find the path of this program: {error}"),
                EXIT_ERROR,
            );
        }
    };
    let stop = CancellationToken::new();
    let _signals = AbortOnDropHandle::new(tokio::spawn(stop_on_signal(stop.clone())));
    let options = Options {
        program,
        breakage_host: arguments.breakage_host,
        breakage_scheduler: arguments.breakage_scheduler,
        side: arguments.side,
        only: arguments.only,
        slow: arguments.slow,
        broker,
        jobs: arguments.jobs,
        stop: stop.clone(),
    };
    let (json, quiet) = (arguments.json, arguments.quiet);
    let matrix = selftest::run(&options, |cell| {
        if !json && !quiet {
            print(&format!("{cell}\n"));
        }
    })
    .await;
    if json {
        print(&format!("{:#}\n", matrix.json()));
    } else {
        print(&summary(&matrix));
    }
    if stop.is_cancelled() {
        return fail_with("the self-test was interrupted", EXIT_ERROR);
    }
    u8::from(!matrix.is_expected())
}

fn side(text: &str) -> Result<Side, String> {
    let found = Side::ALL.into_iter().find(|side| side.name() == text);
    found.ok_or_else(|| "expected `host` or `scheduler`".to_owned())
}

fn matches_nothing(text: &String) -> bool {
    !trials()
        .iter()
        .any(|trial| trial.is_selected(std::slice::from_ref(text)))
}

fn summary(matrix: &selftest::Matrix) -> String {
    let mut text = String::from("\n");
    for cell in matrix.cells.iter().filter(|cell| !cell.is_expected()) {
        text.push_str(&format!("{cell}\n"));
    }
    if !matrix.not_run.is_empty() {
        let names: Vec<String> = matrix.not_run.iter().map(Trial::name).collect();
        text.push_str(&format!(
            "not run ({}): {}\n",
            names.len(),
            names.join(", ")
        ));
    }
    let (passed, failed) = matrix.counts();
    text.push_str(&format!("{passed} passed, {failed} failed\n"));
    text
}
