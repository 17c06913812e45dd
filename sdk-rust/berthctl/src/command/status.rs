//! `berthctl status`

use std::process::ExitCode;

use super::{exit_code, show};
use crate::args::{Output, StatusArgs};
use crate::discover;
use crate::discover::Reach;
use crate::failure::Failure;

pub async fn run(reach: Reach, args: StatusArgs, output: Output) -> Result<ExitCode, Failure> {
    let (host, status) = discover::host_of(reach, &args.id, &args.target).await?;
    show(&host, &status, output)?;
    Ok(exit_code(status.state))
}
