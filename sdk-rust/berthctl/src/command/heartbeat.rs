//! `berthctl heartbeat`

use std::process::ExitCode;

use crate::args::{HeartbeatArgs, Output};
use crate::discover::{self, Connection};
use crate::failure::Failure;
use crate::print;

pub async fn run(
    connection: Connection,
    args: HeartbeatArgs,
    output: Output,
) -> Result<ExitCode, Failure> {
    let client = discover::client(connection, &args.host)?;
    let heartbeat = client
        .heartbeat()
        .await
        .map_err(|source| discover::host_failure(&client, source))?;
    match output {
        Output::Json => print::json(&heartbeat)?,
        Output::Table => super::hosts::print_hosts(&[heartbeat], output)?,
    }
    Ok(ExitCode::SUCCESS)
}
