//! `berthctl status`

use std::process::ExitCode;

use super::{exit_code, print_status};
use crate::args::{Output, StatusArgs};
use crate::discover::{self, Connection};
use crate::failure::Failure;

pub async fn run(
    connection: Connection,
    args: StatusArgs,
    output: Output,
) -> Result<ExitCode, Failure> {
    let (host, status) = discover::host_of(connection, &args.id, &args.target).await?;
    print_status(&host, &status, output)?;
    Ok(exit_code(status.state))
}
