//! Why a command failed, in words for people and in an exit code for scripts.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use berth_broker::BrokerError;
use berth_sdk::bus::ConnectError;
use berth_sdk::grpc::GrpcError;
use berth_sdk::scheduler::{ClientError, FleetError};

use crate::print::plain;

/// The host said no, the workload is not running, or the scheduler of `dev` has ended.
pub const NO: u8 = 1;
/// The command line or the file is wrong.
pub const USAGE: u8 = 2;
/// No answer.
pub const SILENCE: u8 = 3;
/// An answer that is none.
pub const NONSENSE: u8 = 4;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line or the file is wrong.
    #[error("{0}")]
    Usage(String),
    /// There is no connection.
    #[error("no connection to the bus")]
    Connect(#[from] ConnectError),
    /// The directory of manifests cannot be made.
    #[error("the directory {} cannot be made", .0.display())]
    Directory(PathBuf, #[source] std::io::Error),
    /// The broker of `dev` does not start.
    #[error("the broker cannot listen on {0}")]
    Broker(SocketAddr, #[source] BrokerError),
    /// A program of `dev` does not start.
    #[error("{0} cannot be run")]
    Program(&'static str, #[source] std::io::Error),
    /// A program of `dev` that must run has ended.
    #[error("{0}")]
    Ended(String),
    /// There is no way to the host over gRPC.
    #[error("gRPC cannot be used")]
    Grpc(#[from] GrpcError),
    /// Hosts cannot be listened for.
    #[error("cannot look for hosts")]
    Fleet(#[from] FleetError),
    /// Standard output is gone, or cannot be written.
    #[error("cannot write the output")]
    Output(#[from] std::io::Error),
    /// No host was heard of.
    #[error("no host was heard of within {} s", .0.as_secs_f64())]
    NoHosts(Duration),
    /// No host that was heard of knows the workload.
    #[error("none of the {hosts} hosts heard of knows workload {id:?}")]
    NotFound { id: String, hosts: usize },
    /// A host did not do what it was asked.
    #[error("host {host}")]
    Host { host: String, source: ClientError },
    /// It takes longer than we wait.
    #[error("workload {id:?} is still {state} after {} s", .after.as_secs_f64())]
    StillAtIt {
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
                | ConnectError::Address(_)
                | ConnectError::HalfAPair
                | ConnectError::File { .. }
                | ConnectError::Credentials(_),
            ) => USAGE,
            Self::Connect(_) | Self::Fleet(_) | Self::NoHosts(_) | Self::Output(_) => SILENCE,
            Self::Directory(..) | Self::Broker(..) | Self::Program(..) => USAGE,
            Self::NotFound { .. } | Self::StillAtIt { .. } | Self::Ended(_) => NO,
            Self::Host { source, .. } => match source {
                ClientError::Refused { .. } => NO,
                ClientError::HostId(_)
                | ClientError::TooLarge
                | ClientError::Request(_)
                | ClientError::NotOverGrpc(_) => USAGE,
                ClientError::Malformed { .. } => NONSENSE,
                _ => SILENCE,
            },
        })
    }

    /// The failure, its causes, and what to try.
    pub fn print(&self) {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let said = error.to_string();
            // Some libraries repeat their cause in their own words.
            if !text.ends_with(&said) {
                text = format!("{text}: {said}");
            }
            cause = error.source();
        }
        eprintln!("error: {}", plain(&text));
        if let Some(hint) = self.hint() {
            eprintln!("hint: {hint}");
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Connect(ConnectError::Unreachable { .. }) => {
                Some("is it running? --nats-url or BERTH_NATS_URL say where")
            }
            Self::Broker(..) => Some("--nats-addr chooses another address; port 0 is any free one"),
            Self::Program(..) => {
                Some("it is looked for beside berthctl and on the PATH; `cargo build` makes it")
            }
            Self::NoHosts(_) => Some("hosts beat every 15 s; is one connected to this broker?"),
            Self::NotFound { .. } => {
                Some("hosts are heard of every 15 s; --listen longer, or name one with --host")
            }
            Self::StillAtIt { .. } => Some("it goes on; ask `berthctl status`"),
            Self::Host {
                source: ClientError::NoResponders,
                ..
            } => Some("is it running? `berthctl hosts` lists those on the bus"),
            Self::Host {
                source: ClientError::Timeout { .. },
                ..
            } => Some(
                "it is there and silent. A `wash host` says nothing while it pulls an image, and \
                 nothing to what it cannot read; the command may still be carried out",
            ),
            _ => None,
        }
    }
}
