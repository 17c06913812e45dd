//! `berthctl`: a command line client for wasmCloud v2 hosts.

mod args;
mod command;
mod discover;
mod failure;
mod field_names;
mod image_args;
mod interface_name;
mod manifest;
mod print;

use std::process::ExitCode;

use clap::Parser;

use self::args::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    init_log(cli.verbose);
    match command::run(cli).await {
        Ok(code) => code,
        Err(failure) => {
            failure.print();
            failure.exit_code()
        }
    }
}

/// Initializes the log, but only on request: failures are reported anyway.
fn init_log(verbose: u8) {
    let filter = match verbose {
        0 => return,
        1 => "berth_sdk=debug,async_nats=info",
        _ => "debug",
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}
