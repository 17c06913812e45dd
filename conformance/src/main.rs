//! The command `berth-conformance`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    berth_conformance::cli::run(std::env::args_os()).await
}
