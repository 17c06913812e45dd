//! `berthctl stop`

use std::process::ExitCode;

use berth_sdk::proto::WorkloadState;
use tokio::time::Instant;

use super::{POLL_INTERVAL, print_status};
use crate::args::{Output, StopArgs};
use crate::discover::{self, Connection};
use crate::failure::{Failure, UNSUCCESSFUL};
use crate::print;

/// Stops a workload and waits for NOT_FOUND. Repeats the stop if the host reports a state other
/// than STOPPING.
pub async fn run(
    connection: Connection,
    args: StopArgs,
    output: Output,
) -> Result<ExitCode, Failure> {
    let host = match discover::given_host(&connection, &args.target)? {
        Some(host) => host,
        None => {
            discover::host_of(connection, &args.id, &args.target)
                .await?
                .0
        }
    };
    let deadline = Instant::now() + args.timeout;
    let mut status = host
        .stop(&args.id)
        .await
        .map_err(|source| discover::host_failure(&host, source))?;
    let existed = status.state != WorkloadState::NotFound;
    while !args.no_wait && status.state != WorkloadState::NotFound {
        if Instant::now() >= deadline {
            let (id, state) = (args.id, print::state_name(status.state).to_owned());
            return Err(Failure::TimedOut {
                id,
                state,
                after: args.timeout,
            });
        }
        tokio::time::sleep(POLL_INTERVAL).await;
        status = host
            .status(&args.id)
            .await
            .map_err(|source| discover::host_failure(&host, source))?;
        if !matches!(
            status.state,
            WorkloadState::NotFound | WorkloadState::Stopping
        ) {
            status = host
                .stop(&args.id)
                .await
                .map_err(|source| discover::host_failure(&host, source))?;
        }
    }
    print_status(&host, &status, output)?;
    Ok(if existed {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(UNSUCCESSFUL)
    })
}
