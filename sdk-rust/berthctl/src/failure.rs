//! Failures of commands, as messages for users and exit codes for scripts.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use berth_broker::BrokerError;
use berth_sdk::bus::ConnectError;
use berth_sdk::grpc::GrpcError;
use berth_sdk::scheduler::{ClientError, FleetError};

use crate::print::sanitize;

/// Exit code if the host refused, the workload is not running, or the scheduler of `dev` has
/// exited.
pub const UNSUCCESSFUL: u8 = 1;
/// Exit code if the command line or the file is invalid.
pub const USAGE: u8 = 2;
/// Exit code if there was no reply.
pub const NO_REPLY: u8 = 3;
/// Exit code if the reply was invalid.
pub const INVALID_REPLY: u8 = 4;

/// Reason a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line or the file is invalid.
    #[error("{0}")]
    Usage(String),
    /// The connection to the bus failed.
    #[error("cannot connect to the bus")]
    Connect(#[from] ConnectError),
    /// The directory of manifests cannot be created.
    #[error("cannot create directory {}", .0.display())]
    CreateDirectory(PathBuf, #[source] std::io::Error),
    /// The broker of `dev` cannot start.
    #[error("cannot start the broker on {0}")]
    StartBroker(SocketAddr, #[source] BrokerError),
    /// A program of `dev` cannot start.
    #[error("cannot run {0}")]
    RunProgram(&'static str, #[source] std::io::Error),
    /// A program that `dev` needs has exited.
    #[error("{0}")]
    ProgramExited(String),
    /// The gRPC settings are invalid.
    #[error("invalid gRPC settings")]
    Grpc(#[from] GrpcError),
    /// The subscription to heartbeats failed.
    #[error("cannot discover hosts")]
    Fleet(#[from] FleetError),
    /// Standard output cannot be written.
    #[error("cannot write output")]
    Output(#[from] std::io::Error),
    /// No heartbeat arrived.
    #[error("no hosts found within {} s", .0.as_secs_f64())]
    NoHosts(Duration),
    /// None of the discovered hosts has the workload.
    #[error("none of the {hosts} hosts has workload {id:?}")]
    NotFound { id: String, hosts: usize },
    /// A command to a host failed.
    #[error("host {host}")]
    Host { host: String, source: ClientError },
    /// The workload did not reach its final state in time.
    #[error("workload {id:?} is still {state} after {} s", .after.as_secs_f64())]
    TimedOut {
        id: String,
        state: String,
        after: Duration,
    },
}

impl Failure {
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) | Self::Grpc(_) => USAGE,
            Self::Connect(
                ConnectError::NoServer
                | ConnectError::InvalidAddress(_)
                | ConnectError::Tls(_)
                | ConnectError::File { .. }
                | ConnectError::InvalidCredentials(..)
                | ConnectError::AmbiguousUserinfo,
            ) => USAGE,
            Self::Connect(_) | Self::Fleet(_) | Self::NoHosts(_) | Self::Output(_) => NO_REPLY,
            Self::CreateDirectory(..) | Self::StartBroker(..) | Self::RunProgram(..) => USAGE,
            Self::NotFound { .. } | Self::TimedOut { .. } | Self::ProgramExited(_) => UNSUCCESSFUL,
            Self::Host { source, .. } => match source {
                ClientError::Refused { .. } => UNSUCCESSFUL,
                ClientError::InvalidHostId(_)
                | ClientError::RequestTooLarge
                | ClientError::Encode(_)
                | ClientError::UnsupportedOverGrpc(_) => USAGE,
                ClientError::InvalidResponse { .. } => INVALID_REPLY,
                _ => NO_REPLY,
            },
        })
    }

    /// Prints the failure, its causes and a hint.
    pub fn print(&self) {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let message = error.to_string();
            // Some libraries repeat the message of the cause in their own.
            if !text.ends_with(&message) {
                text = format!("{text}: {message}");
            }
            cause = error.source();
        }
        eprintln!("error: {}", sanitize(&text));
        if let Some(hint) = self.hint() {
            eprintln!("hint: {hint}");
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Connect(ConnectError::Unreachable { .. }) => {
                Some("check that the broker is running, and --nats-url or BERTH_NATS_URL")
            }
            Self::StartBroker(..) => {
                Some("choose another address with --nats-addr; port 0 picks a free port")
            }
            Self::RunProgram(..) => Some(
                "the program must be in the directory of berthctl or on the PATH; `cargo build` \
                 builds it",
            ),
            Self::NoHosts(_) => {
                Some("hosts send heartbeats every 15 s; check that one is connected to this broker")
            }
            Self::NotFound { .. } => {
                Some("hosts send heartbeats every 15 s; increase --listen, or set --host")
            }
            Self::TimedOut { .. } => {
                Some("the operation continues; check it with `berthctl status`")
            }
            Self::Host {
                source: ClientError::NoResponders,
                ..
            } => {
                Some("check that the host is running; `berthctl hosts` lists the hosts on the bus")
            }
            Self::Host {
                source: ClientError::Timeout { .. },
                ..
            } => Some(
                "the host is connected but does not reply. A `wash host` does not reply while it \
                 pulls an image, nor to requests that it cannot decode; the command may still be \
                 executed",
            ),
            _ => None,
        }
    }
}
