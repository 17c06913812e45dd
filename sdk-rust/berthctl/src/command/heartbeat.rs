//! `berthctl heartbeat`

use std::process::ExitCode;

use crate::args::{HeartbeatArgs, Output};
use crate::discover::Reach;
use crate::failure::Failure;
use crate::{discover, print};

pub async fn run(reach: Reach, args: HeartbeatArgs, output: Output) -> Result<ExitCode, Failure> {
    let client = discover::client(reach, &args.host)?;
    let heartbeat = client
        .heartbeat()
        .await
        .map_err(|source| discover::failed(&client, source))?;
    match output {
        Output::Json => print::json(&heartbeat)?,
        Output::Table => super::hosts::show(&[heartbeat], output)?,
    }
    Ok(ExitCode::SUCCESS)
}
