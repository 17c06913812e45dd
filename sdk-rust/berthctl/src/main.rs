//! `berthctl`: talk to wasmCloud v2 hosts from a shell.

mod args;
mod command;
mod discover;
mod failure;
mod manifest;
mod print;
mod quick;

use std::process::ExitCode;

use clap::Parser;

use self::args::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(cli.verbose);
    match command::run(cli).await {
        Ok(code) => code,
        Err(failure) => {
            failure.print();
            failure.exit_code()
        }
    }
}

/// What goes on in the connection is told only on request: failures are told anyway, and better.
fn log_to_stderr(verbose: u8) {
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
