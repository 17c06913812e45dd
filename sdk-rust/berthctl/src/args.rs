//! Command line arguments.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use berth_sdk::cli::{ConnectArgs, GrpcTlsArgs};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::image_args::ImageArgs;
use crate::manifest::UnknownFields;

const AFTER_HELP: &str = "\
Exit codes:
  0  success
  1  the host refused, the workload is not running, or the scheduler of dev has exited
  2  invalid command line or file
  3  no reply: not connected, no such host, or timeout
  4  invalid reply

Examples:
  berthctl hosts
  berthctl hosts --wait 16s
  berthctl start --image ghcr.io/me/hello:1 --http-host hello.localhost --id hello-1
  berthctl start -f workload.json --host 4bd1c0f2-6d3e-4f7e-9d0c-1a2b3c4d5e6f
  berthctl status hello-1 -o json
  berthctl stop hello-1
  berthctl dev ./manifests --insecure-registry 127.0.0.1:5000
  berthctl status hello-1 --grpc-url http://10.0.0.7:9090
  BERTH_NATS_URL=tls://nats:4222 BERTH_NATS_CREDS=me.creds berthctl watch";

/// List wasmCloud v2 hosts, and start, watch and stop workloads on them
#[derive(Parser)]
#[command(name = "berthctl", version, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,

    #[command(flatten)]
    pub connect: ConnectArgs,

    #[command(flatten)]
    pub grpc: GrpcArgs,

    /// Output format
    #[arg(short, long, value_enum, default_value_t = Output::Table, global = true)]
    pub output: Output,

    /// Log the connection to stderr; repeat to log everything
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
}

/// Flags for one host without NATS.
#[derive(Args)]
#[command(next_help_heading = "gRPC")]
pub struct GrpcArgs {
    /// gRPC URL of one host, such as https://10.0.0.7:9090, instead of NATS
    #[arg(long, value_name = "URL", env = "BERTH_GRPC_URL", global = true)]
    pub grpc_url: Option<String>,

    #[command(flatten)]
    pub tls: GrpcTlsArgs,
}

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Table for humans
    Table,
    /// JSON document; with watch, one per line
    Json,
}

#[derive(Subcommand)]
pub enum Command {
    /// List hosts. Asks for them, and returns 1 s after the last reply
    Hosts(HostsArgs),
    /// Start a workload from a file or an image
    Start(Box<StartArgs>),
    /// Stop a workload and wait until it is gone
    Stop(StopArgs),
    /// Show the state of a workload. Exits with 0 if it is starting, running or completed
    Status(StatusArgs),
    /// Watch hosts join, change, disappear and recover
    Watch(WatchArgs),
    /// Request a heartbeat from a host
    Heartbeat(HeartbeatArgs),
    /// Run a broker, hosts and a scheduler for a directory of manifests
    Dev(DevArgs),
    /// Print a completion script for a shell
    Completions {
        /// Shell to complete in
        shell: Shell,
    },
}

#[derive(Args)]
pub struct HostsArgs {
    /// Time to wait for hosts that do not reply to discovery, such as `wash host`, which sends a
    /// heartbeat every 15 s [default: none, or 16 s while no host is found]
    #[arg(long, visible_alias = "listen", value_name = "SECONDS", value_parser = seconds)]
    pub wait: Option<Duration>,

    /// Stop after this many hosts
    #[arg(long, value_name = "N")]
    pub at_least: Option<usize>,
}

#[derive(Args)]
pub struct StartArgs {
    /// JSON or YAML file with a WorkloadStartRequest or a Workload; - reads stdin
    #[arg(short, long, value_name = "FILE", conflicts_with = "image")]
    #[arg(required_unless_present = "image")]
    pub file: Option<PathBuf>,

    /// Ignore fields of the file that the schema does not have
    #[arg(long, requires = "file")]
    lenient: bool,

    #[command(flatten)]
    pub image_flags: ImageArgs,

    /// ID of the workload [default: the ID in the file, or a random UUID]
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,

    #[command(flatten)]
    pub target: TargetArgs,

    /// Do not wait for the outcome of the start
    #[arg(long)]
    pub no_wait: bool,

    /// Time to wait for the outcome
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    pub timeout: Duration,
}

impl StartArgs {
    /// Returns the treatment of unknown fields in the file.
    pub fn unknown_fields(&self) -> UnknownFields {
        if self.lenient {
            UnknownFields::Ignore
        } else {
            UnknownFields::Refuse
        }
    }
}

#[derive(Args)]
pub struct StopArgs {
    /// ID of the workload
    pub id: String,

    #[command(flatten)]
    pub target: TargetArgs,

    /// Do not wait until the workload is gone
    #[arg(long)]
    pub no_wait: bool,

    /// Time to wait until the workload is gone
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub timeout: Duration,
}

#[derive(Args)]
pub struct StatusArgs {
    /// ID of the workload
    pub id: String,

    #[command(flatten)]
    pub target: TargetArgs,
}

#[derive(Args)]
pub struct WatchArgs {
    /// Exit after this many events
    #[arg(long, value_name = "N")]
    pub count: Option<usize>,
}

#[derive(Args)]
pub struct HeartbeatArgs {
    /// ID of the host
    pub host: String,
}

#[derive(Args)]
pub struct DevArgs {
    /// Directory of manifests; created if it does not exist
    #[arg(default_value = "manifests")]
    pub dir: PathBuf,

    /// Number of hosts
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub hosts: u16,

    /// Listen address of the broker; port 0 picks a free port
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:4222")]
    pub nats_addr: SocketAddr,

    /// HTTP listen address of the first host; the others use the ports after it
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8000")]
    pub http_addr: SocketAddr,

    /// Registry to use over plain HTTP; repeatable
    #[arg(long = "insecure-registry", value_name = "HOST[:PORT]")]
    pub insecure_registries: Vec<String>,
}

/// Flags for the target host.
#[derive(Args)]
pub struct TargetArgs {
    /// ID of the host [default: the first one found for start, otherwise the one with the
    /// workload]
    #[arg(long, value_name = "ID", env = "BERTH_HOST")]
    pub host: Option<String>,

    #[command(flatten)]
    pub listen: ListenArgs,
}

/// Default time to listen for heartbeats: longer than the customary interval of 15 s.
pub const DEFAULT_LISTEN: Duration = Duration::from_secs(16);

/// Flags for the discovery of hosts.
#[derive(Args, Clone, Copy)]
pub struct ListenArgs {
    /// Time to listen for heartbeats
    #[arg(long, value_name = "SECONDS", default_value = "16", value_parser = seconds)]
    pub listen: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .trim_end_matches('s')
        .parse()
        .map_err(|_| "expected a number of seconds")?;
    if !(0.05..=86_400.0).contains(&seconds) {
        return Err("must be between 0.05 and 86400 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_are_seconds() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(seconds("20s"), Ok(Duration::from_secs(20)));
        for invalid in ["", "-1", "NaN", "inf", "1h", "0"] {
            assert!(seconds(invalid).is_err(), "{invalid}");
        }
    }
}
