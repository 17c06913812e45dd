//! `berthctl start`

use std::process::ExitCode;

use berth_sdk::proto::{Workload, WorkloadState};
use berth_sdk::scheduler::{ClientError, HostClient, Status};
use tokio::time::Instant;

use super::{POLL_INTERVAL, exit_code, print_status};
use crate::args::{Output, StartArgs};
use crate::discover::{self, Connection};
use crate::failure::Failure;
use crate::{manifest, print};

/// A workload to start.
pub struct PreparedStart {
    id: String,
    workload: Workload,
    args: StartArgs,
}

/// Reads the file or the flags.
pub fn prepare(mut args: StartArgs) -> Result<PreparedStart, Failure> {
    let (file_id, workload) = match (&args.file, args.image_flags.take_workload()) {
        (Some(file), _) => manifest::read(file, args.unknown_fields())?,
        (None, Some(workload)) => (None, workload),
        (None, None) => {
            return Err(Failure::Usage(
                "either --file or --image is required".to_owned(),
            ));
        }
    };
    let id = args
        .id
        .clone()
        .or(file_id)
        .unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    Ok(PreparedStart { id, workload, args })
}

pub async fn run(
    connection: Connection,
    start: PreparedStart,
    output: Output,
) -> Result<ExitCode, Failure> {
    let PreparedStart { id, workload, args } = start;
    let host = discover::select_host(connection, &args.target).await?;
    let deadline = Instant::now() + args.timeout;
    let status = match host.start(&id, &workload).await {
        Ok(status) => status,
        // ERROR without a code means that the start failed, not that it was refused: printed like a
        // failure that polling finds.
        Err(ClientError::Refused {
            code: None,
            state,
            message,
        }) => Status {
            workload_id: id,
            state,
            message,
        },
        Err(source) => return Err(discover::host_failure(&host, source)),
    };
    let status = if args.no_wait {
        status
    } else {
        wait_for_outcome(&host, status, deadline, &args).await?
    };
    print_status(&host, &status, output)?;
    Ok(exit_code(status.state))
}

/// Polls until the workload is no longer starting.
async fn wait_for_outcome(
    host: &HostClient,
    mut status: Status,
    deadline: Instant,
    args: &StartArgs,
) -> Result<Status, Failure> {
    if status.state == WorkloadState::Starting {
        print::note(&format!("{} is starting", status.workload_id));
    }
    while status.state == WorkloadState::Starting {
        if Instant::now() >= deadline {
            let (id, state) = (
                status.workload_id,
                print::state_name(status.state).to_owned(),
            );
            return Err(Failure::TimedOut {
                id,
                state,
                after: args.timeout,
            });
        }
        tokio::time::sleep(POLL_INTERVAL).await;
        status = host
            .status(&status.workload_id)
            .await
            .map_err(|source| discover::host_failure(host, source))?;
    }
    Ok(status)
}
