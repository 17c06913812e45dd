//! Commands, one module each.

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
use crate::discover::Connection;
use crate::failure::{Failure, UNSUCCESSFUL};
use crate::print::{self, Cell};

/// Interval between status requests while waiting for a state.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Runs a command.
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
    // Reports an invalid file before it connects.
    let start = match cli.command {
        Command::Start(args) => Ok(start::prepare(*args)?),
        other => Err(other),
    };
    let connection = match &cli.grpc.grpc_url {
        Some(url) => Connection::Grpc(Channel::open(&cli.grpc.tls.channel_options(url)).await?),
        None => Connection::Bus(Bus::connect(&options).await?),
    };
    match start {
        Ok(start) => start::run(connection, start, output).await,
        Err(Command::Hosts(args)) => hosts::run(connection, args, output).await,
        Err(Command::Stop(args)) => stop::run(connection, args, output).await,
        Err(Command::Status(args)) => status::run(connection, args, output).await,
        Err(Command::Watch(args)) => watch::run(connection, args, output).await,
        Err(Command::Heartbeat(args)) => heartbeat::run(connection, args, output).await,
        Err(Command::Start(_) | Command::Dev(_) | Command::Completions { .. }) => {
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Prints the status of a workload.
fn print_status(host: &HostClient, status: &Status, output: Output) -> Result<(), Failure> {
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

/// Returns 0 for a workload that is starting, running or completed.
fn exit_code(state: WorkloadState) -> ExitCode {
    match state {
        WorkloadState::Starting | WorkloadState::Running | WorkloadState::Completed => {
            ExitCode::SUCCESS
        }
        _ => ExitCode::from(UNSUCCESSFUL),
    }
}
