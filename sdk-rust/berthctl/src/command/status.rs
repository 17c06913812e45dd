//! `berthctl status`

use std::process::ExitCode;

use berth_sdk::bus::Bus;

use super::{exit_code, show};
use crate::args::{Output, StatusArgs};
use crate::discover;
use crate::failure::Failure;

pub async fn run(bus: Bus, args: StatusArgs, output: Output) -> Result<ExitCode, Failure> {
    let (host, status) = discover::host_of(bus, &args.id, &args.target).await?;
    show(&host, &status, output)?;
    Ok(exit_code(status.state))
}
