//! `berthctl stop`

use std::process::ExitCode;

use berth_sdk::proto::WorkloadState;
use tokio::time::Instant;

use super::{POLL_INTERVAL, show};
use crate::args::{Output, StopArgs};
use crate::discover::Reach;
use crate::failure::{Failure, NO};
use crate::{discover, print};

/// Stops, and waits for the proof: NOT_FOUND. Each stop that finds the workload still there is sent anew,
/// so that none is lost.
pub async fn run(reach: Reach, args: StopArgs, output: Output) -> Result<ExitCode, Failure> {
    let host = match discover::named(&reach, &args.target)? {
        Some(named) => named,
        None => discover::host_of(reach, &args.id, &args.target).await?.0,
    };
    let until = Instant::now() + args.timeout;
    let mut status = host
        .stop(&args.id)
        .await
        .map_err(|source| discover::failed(&host, source))?;
    let was_there = status.state != WorkloadState::NotFound;
    while !args.no_wait && status.state != WorkloadState::NotFound {
        if Instant::now() >= until {
            let (id, state) = (args.id, print::state_name(status.state).to_owned());
            return Err(Failure::StillAtIt {
                id,
                state,
                after: args.timeout,
            });
        }
        tokio::time::sleep(POLL_INTERVAL).await;
        status = host
            .status(&args.id)
            .await
            .map_err(|source| discover::failed(&host, source))?;
        if !matches!(
            status.state,
            WorkloadState::NotFound | WorkloadState::Stopping
        ) {
            status = host
                .stop(&args.id)
                .await
                .map_err(|source| discover::failed(&host, source))?;
        }
    }
    show(&host, &status, output)?;
    Ok(if was_there {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NO)
    })
}
