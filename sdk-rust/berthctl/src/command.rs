//! The commands, one module each.

mod dev;
mod heartbeat;
mod hosts;
mod start;
mod status;
mod stop;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use berth_sdk::bus::Bus;
use berth_sdk::grpc::Channel;
use berth_sdk::proto::WorkloadState;
use berth_sdk::scheduler::{HostClient, Status};
use clap::CommandFactory;
use serde_json::json;

use crate::args::{Cli, Command, Output};
use crate::discover::Reach;
use crate::failure::{Failure, NO};
use crate::print::{self, Cell};

/// How often a state is asked for while waiting for the next one.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Runs the command of the command line.
pub async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let output = cli.output;
    if let Command::Completions { shell } = cli.command {
        clap_complete::generate(
            shell,
            &mut Cli::command(),
            "berthctl",
            &mut std::io::stdout(),
        );
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::Dev(args) = cli.command {
        return dev::run(args).await;
    }
    let options = cli
        .connect
        .into_options(Some("berthctl".to_owned()))
        .map_err(Failure::Usage)?;
    // What is wrong with a file is said before a connection is made.
    let start = match cli.command {
        Command::Start(args) => Ok(start::prepare(args)?),
        other => Err(other),
    };
    let reach = match &cli.grpc.grpc_url {
        Some(url) => Reach::Grpc(Channel::open(&cli.grpc.tls.channel(url)).await?),
        None => Reach::Bus(Bus::connect(&options).await?),
    };
    match start {
        Ok(start) => start::run(reach, start, output).await,
        Err(Command::Hosts(args)) => hosts::run(reach, args, output).await,
        Err(Command::Stop(args)) => stop::run(reach, args, output).await,
        Err(Command::Status(args)) => status::run(reach, args, output).await,
        Err(Command::Watch(args)) => watch::run(reach, args, output).await,
        Err(Command::Heartbeat(args)) => heartbeat::run(reach, args, output).await,
        Err(Command::Start(_) | Command::Dev(_) | Command::Completions { .. }) => {
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Prints the state of a workload.
fn show(host: &HostClient, status: &Status, output: Output) -> Result<(), Failure> {
    match output {
        Output::Json => print::json(&json!({
            "hostId": host.host_id(),
            "workloadId": status.workload_id,
            "workloadState": status.state.as_str_name(),
            "message": status.message,
        }))?,
        Output::Table => {
            let row = vec![
                Cell::from(status.workload_id.as_str()),
                Cell::state(status.state),
                Cell::from(host.host_id()),
                Cell::from(status.message.as_str()),
            ];
            print::table(&["WORKLOAD", "STATE", "HOST", "MESSAGE"], &[row])?;
        }
    }
    Ok(())
}

/// 0 for what is alive or ended well.
fn exit_code(state: WorkloadState) -> ExitCode {
    match state {
        WorkloadState::Starting | WorkloadState::Running | WorkloadState::Completed => {
            ExitCode::SUCCESS
        }
        _ => ExitCode::from(NO),
    }
}
