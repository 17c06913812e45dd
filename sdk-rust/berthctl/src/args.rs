//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use berth_sdk::cli::{ConnectArgs, GrpcTlsArgs};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::quick::QuickArgs;

const AFTER_HELP: &str = "\
Exit codes:
  0  it is so, or it was done
  1  the host said no, the workload is not running, or the scheduler of dev has ended
  2  the command line or the file is wrong
  3  no answer: no connection, no host under this id, or silence
  4  an answer that is none

Examples:
  berthctl hosts
  berthctl start --image ghcr.io/me/hello:1 --http-host hello.localhost --id hello-1
  berthctl start -f workload.json --host 4bd1c0f2-6d3e-4f7e-9d0c-1a2b3c4d5e6f
  berthctl status hello-1 -o json
  berthctl stop hello-1
  berthctl dev ./manifests --insecure-registry 127.0.0.1:5000
  berthctl status hello-1 --grpc-url http://10.0.0.7:9090
  BERTH_NATS_URL=tls://nats:4222 BERTH_NATS_CREDS=me.creds berthctl watch";

/// Talk to wasmCloud v2 hosts: list them, start workloads on them, watch and stop them
#[derive(Parser)]
#[command(name = "berthctl", version, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,

    #[command(flatten)]
    pub connect: ConnectArgs,

    #[command(flatten)]
    pub grpc: GrpcArgs,

    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table, global = true)]
    pub output: Output,

    /// Tell of the connection on stderr; twice, of everything
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
}

/// How to reach one host without NATS.
#[derive(Args)]
#[command(next_help_heading = "gRPC")]
pub struct GrpcArgs {
    /// Reach one host by gRPC, like https://10.0.0.7:9090; there is no list of hosts then
    #[arg(long, value_name = "URL", env = "BERTH_GRPC_URL", global = true)]
    pub grpc_url: Option<String>,

    #[command(flatten)]
    pub tls: GrpcTlsArgs,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For programs: one JSON document, or one for each line with watch
    Json,
}

#[derive(Subcommand)]
pub enum Command {
    /// List the hosts that are heard of. They beat every 15 s, so that takes a while
    Hosts(HostsArgs),
    /// Start a workload, from a file or from an image
    Start(StartArgs),
    /// Stop a workload and wait until it is gone
    Stop(StopArgs),
    /// Ask for the state of a workload. 0 when it is starting, running or completed
    Status(StatusArgs),
    /// Follow hosts as they join, change, vanish and return
    Watch(WatchArgs),
    /// Ask a host for its heartbeat
    Heartbeat(HeartbeatArgs),
    /// Run a broker, hosts and a scheduler over a directory of manifests, to see it live
    Dev(DevArgs),
    /// Print a script that completes these commands in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Args)]
pub struct HostsArgs {
    #[command(flatten)]
    pub listen: ListenArgs,

    /// Stop listening when this many hosts were heard of
    #[arg(long, value_name = "N")]
    pub at_least: Option<usize>,
}

#[derive(Args)]
pub struct StartArgs {
    /// JSON of a WorkloadStartRequest or of a Workload; - reads stdin
    #[arg(short, long, value_name = "FILE", conflicts_with = "image")]
    #[arg(required_unless_present = "image")]
    pub file: Option<PathBuf>,

    #[command(flatten)]
    pub quick: QuickArgs,

    /// The id [default: that of the file, or else a new one]
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,

    #[command(flatten)]
    pub target: TargetArgs,

    /// Return with the host's first answer, which may be STARTING
    #[arg(long)]
    pub no_wait: bool,

    /// How long to wait for the outcome
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    pub timeout: Duration,
}

#[derive(Args)]
pub struct StopArgs {
    /// The id of the workload
    pub id: String,

    #[command(flatten)]
    pub target: TargetArgs,

    /// Return when the host has acknowledged
    #[arg(long)]
    pub no_wait: bool,

    /// How long to wait for the end
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub timeout: Duration,
}

#[derive(Args)]
pub struct StatusArgs {
    /// The id of the workload
    pub id: String,

    #[command(flatten)]
    pub target: TargetArgs,
}

#[derive(Args)]
pub struct WatchArgs {
    /// Stop after this many events
    #[arg(long, value_name = "N")]
    pub count: Option<usize>,
}

#[derive(Args)]
pub struct HeartbeatArgs {
    /// The id of the host
    pub host: String,
}

#[derive(Args)]
pub struct DevArgs {
    /// The directory of manifests; it is made when it is not there
    #[arg(default_value = "manifests")]
    pub dir: PathBuf,

    /// How many hosts
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub hosts: u16,

    /// Where the broker listens; port 0 is any free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:4222")]
    pub nats_addr: SocketAddr,

    /// Where the first host answers HTTP; the others have the ports after it
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8000")]
    pub http_addr: SocketAddr,

    /// A registry that the hosts may reach over plain HTTP; repeat for more
    #[arg(long = "insecure-registry", value_name = "HOST[:PORT]")]
    pub insecure_registries: Vec<String>,
}

/// Which host is meant.
#[derive(Args)]
pub struct TargetArgs {
    /// The id of the host [default: start takes the first that is heard of, the others look for
    /// the one that knows the workload]
    #[arg(long, value_name = "ID", env = "BERTH_HOST")]
    pub host: Option<String>,

    #[command(flatten)]
    pub listen: ListenArgs,
}

/// How long to look for hosts.
#[derive(Args, Clone, Copy)]
pub struct ListenArgs {
    /// How long to listen for heartbeats
    #[arg(long, value_name = "SECONDS", default_value = "16", value_parser = seconds)]
    pub listen: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .trim_end_matches('s')
        .parse()
        .map_err(|_| "not a number of seconds")?;
    if !(0.05..=86_400.0).contains(&seconds) {
        return Err("not between 0.05 and 86400 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_are_seconds() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(seconds("20s"), Ok(Duration::from_secs(20)));
        for bad in ["", "-1", "NaN", "inf", "1h", "0"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
