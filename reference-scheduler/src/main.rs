//! `berth-scheduler`: reads the command line, sets logging and signals up, and runs the scheduler.

use std::process::ExitCode;

use berth_scheduler::config::Config;
use tokio_util::sync::CancellationToken;

/// The exit code for a command line that makes no sense, as clap has it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let config =
        berth_scheduler::args::parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    if let Err(error) = config.log.start() {
        eprintln!("berth-scheduler: {}", berth_sdk::cli::chain(&error));
        return ExitCode::from(USAGE);
    }
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("berth-scheduler: {}", berth_sdk::cli::chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let shutdown = CancellationToken::new();
    let result = runtime.block_on(async {
        berth_sdk::cli::on_signal(shutdown.clone())?;
        berth_scheduler::run(config, shutdown)
            .await
            .map_err(Into::into)
    });
    // A lookup of a name on a blocking thread need not be waited for.
    runtime.shutdown_background();
    result
}
