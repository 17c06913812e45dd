//! `berth-host`: reads the command line, sets logging and signals up, and runs the host.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use berth_host::config::Config;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let config = berth_host::args::parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    if let Err(message) = start_log(&config) {
        eprintln!("berth-host: {message}");
        return ExitCode::from(2);
    }
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("berth-host: {}", berth_host::cause::chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let shutdown = CancellationToken::new();
    let result = runtime.block_on(async {
        berth_host::shutdown::on_signal(shutdown.clone())?;
        berth_host::run(config, shutdown).await.map_err(Into::into)
    });
    // Whatever still runs on a blocking thread, such as a compilation, need not be waited for.
    runtime.shutdown_background();
    result
}

fn start_log(config: &Config) -> Result<(), String> {
    let filter = EnvFilter::try_new(&config.log.filter)
        .map_err(|error| format!("the log filter {:?} is wrong: {error}", config.log.filter))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    if config.log.json { log.json().init() } else { log.init() }
    Ok(())
}
