//! `berth-scheduler`: parses the command line and runs the scheduler.

use std::process::ExitCode;

use berth_sdk::cli::run_program;

fn main() -> ExitCode {
    let config =
        berth_scheduler::args::parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let log = config.log.clone();
    run_program("berth-scheduler", &log, |shutdown| {
        berth_scheduler::run(config, shutdown)
    })
}
