//! `berthctl start`

use std::process::ExitCode;

use berth_sdk::proto::{Workload, WorkloadState};
use berth_sdk::scheduler::{ClientError, HostClient, Status};
use tokio::time::Instant;

use super::{POLL_INTERVAL, exit_code, show};
use crate::args::{Output, StartArgs};
use crate::discover::Reach;
use crate::failure::Failure;
use crate::{discover, manifest, print};

/// What is to be started.
pub struct Start {
    id: String,
    workload: Workload,
    args: StartArgs,
}

/// Reads file and flags.
pub fn prepare(mut args: StartArgs) -> Result<Start, Failure> {
    let (in_file, workload) = match (&args.file, args.quick.take_workload()) {
        (Some(file), _) => manifest::read(file)?,
        (None, Some(workload)) => (None, workload),
        (None, None) => return Err(Failure::Usage("name a file or an image".to_owned())),
    };
    let id = args
        .id
        .clone()
        .or(in_file)
        .unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    Ok(Start { id, workload, args })
}

pub async fn run(reach: Reach, start: Start, output: Output) -> Result<ExitCode, Failure> {
    let Start { id, workload, args } = start;
    let host = discover::any_host(reach, &args.target).await?;
    let until = Instant::now() + args.timeout;
    let status = match host.start(&id, &workload).await {
        Ok(status) => status,
        // A workload that could not be started is shown like one that failed later.
        Err(ClientError::Refused {
            code: None,
            state,
            message,
        }) => Status {
            workload_id: id,
            state,
            message,
        },
        Err(source) => return Err(discover::failed(&host, source)),
    };
    let status = if args.no_wait {
        status
    } else {
        outcome(&host, status, until, &args).await?
    };
    show(&host, &status, output)?;
    Ok(exit_code(status.state))
}

/// Asks until the workload is no longer starting.
async fn outcome(
    host: &HostClient,
    mut status: Status,
    until: Instant,
    args: &StartArgs,
) -> Result<Status, Failure> {
    if status.state == WorkloadState::Starting {
        print::remark(&format!("{} is starting", status.workload_id));
    }
    while status.state == WorkloadState::Starting {
        if Instant::now() >= until {
            let (id, state) = (
                status.workload_id,
                print::state_name(status.state).to_owned(),
            );
            return Err(Failure::StillAtIt {
                id,
                state,
                after: args.timeout,
            });
        }
        tokio::time::sleep(POLL_INTERVAL).await;
        status = host
            .status(&status.workload_id)
            .await
            .map_err(|source| discover::failed(host, source))?;
    }
    Ok(status)
}
