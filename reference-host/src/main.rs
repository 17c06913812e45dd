//! `berth-host`: parses the command line and runs the host.

use std::process::ExitCode;

use berth_sdk::cli::run_program;

fn main() -> ExitCode {
    let config = berth_host::args::parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let log = config.log.clone();
    run_program("berth-host", &log, |shutdown| {
        berth_host::run(config, shutdown)
    })
}
