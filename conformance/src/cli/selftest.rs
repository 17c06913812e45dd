//! `selftest`: the kill matrix.

use std::path::PathBuf;

use clap::Args;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::run_args::stop_on_signal;
use super::{TROUBLE, USAGE, complain_of, say};
use crate::check::side::Side;
use crate::models::selftest;
use crate::models::selftest::{Options, Trial, trials};
use crate::testbed::broker::BrokerChoice;

/// Flags of `selftest`.
#[derive(Debug, Args)]
pub struct SelftestArgs {
    /// A `berth-host` built with `--features fault-injection`; without it only the model host is tried
    #[arg(long, value_name = "PROGRAM")]
    breakage_host: Option<PathBuf>,
    /// A `berth-scheduler` built with `--features fault-injection`, to be tried in the cluster that KUBECONFIG leads to
    #[arg(long, value_name = "PROGRAM")]
    breakage_scheduler: Option<PathBuf>,
    /// Only the trials of one side: `host` or `scheduler`
    #[arg(long, value_name = "SIDE", value_parser = side)]
    side: Option<Side>,
    /// Only trials whose name or requirement contains this; repeatable
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Try what takes minutes as well
    #[arg(long)]
    slow: bool,
    /// `embedded`, `nats-server` or `nats://HOST:PORT`
    #[arg(long, default_value = "embedded")]
    broker: String,
    /// How many trials of one fault run at once
    #[arg(long, default_value_t = selftest::JOBS)]
    jobs: usize,
    /// Print the matrix as JSON at the end
    #[arg(long)]
    json: bool,
    /// Only what is wrong, and how many were right
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
}

/// Runs `selftest`: 0 when every fault was killed by its own check and everything right passed, 1 when not, 3 when a
/// signal ended it first.
pub async fn run(arguments: SelftestArgs) -> u8 {
    let broker = match arguments.broker.parse::<BrokerChoice>() {
        Ok(broker) => broker,
        Err(error) => return complain_of(&error.to_string(), USAGE),
    };
    if let Some(unmatched) = arguments.only.iter().find(|text| matches_nothing(text)) {
        return complain_of(&format!("`{unmatched}` is part of no trial's name"), USAGE);
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            return complain_of(&format!("the suite cannot find itself: {error}"), TROUBLE);
        }
    };
    let stop = CancellationToken::new();
    let _interrupt = AbortOnDropHandle::new(tokio::spawn(stop_on_signal(stop.clone())));
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
            say(&format!("{cell}\n"));
        }
    })
    .await;
    if json {
        say(&format!("{:#}\n", matrix.json()));
    } else {
        say(&summary(&matrix));
    }
    if stop.is_cancelled() {
        return complain_of("it was interrupted", TROUBLE);
    }
    u8::from(!matrix.is_right())
}

fn side(text: &str) -> Result<Side, String> {
    let found = Side::ALL.into_iter().find(|side| side.name() == text);
    found.ok_or_else(|| "`host` or `scheduler`".to_owned())
}

fn matches_nothing(text: &String) -> bool {
    !trials()
        .iter()
        .any(|trial| trial.is_selected(std::slice::from_ref(text)))
}

fn summary(matrix: &selftest::Matrix) -> String {
    let mut text = String::from("\n");
    for cell in matrix.cells.iter().filter(|cell| !cell.is_right()) {
        text.push_str(&format!("{cell}\n"));
    }
    if !matrix.left_out.is_empty() {
        let names: Vec<String> = matrix.left_out.iter().map(Trial::name).collect();
        text.push_str(&format!(
            "not tried ({}): {}\n",
            names.len(),
            names.join(", ")
        ));
    }
    let (right, wrong) = matrix.counts();
    text.push_str(&format!("{right} passed, {wrong} failed\n"));
    text
}
