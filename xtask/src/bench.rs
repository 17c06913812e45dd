//! Measures what is promised of speed: the reference host's HTTP, the reference scheduler's reactions.

use std::io;
use std::path::PathBuf;

use crate::kube_api::KubeApiError;
use crate::nats_server::NatsServerError;

pub mod host;
pub mod scheduler;
pub mod simulator;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// There is no place to keep the peer.
    #[error("there is no place to keep wasmtime-cli")]
    Cache(#[from] crate::cache::NoHome),
    /// cargo cannot be run.
    #[error("cargo cannot be run")]
    Cargo(#[source] io::Error),
    /// The peer was not built; cargo has said why.
    #[error("wasmtime-cli {release} cannot be built; cargo has said why")]
    Peer {
        /// Which.
        release: &'static str,
    },
    /// What is measured was not built; cargo has said why.
    #[error("what is to be measured cannot be built; cargo has said why")]
    Build,
    /// There is no broker.
    #[error("there is no nats-server")]
    NatsServer(#[from] NatsServerError),
    /// There is no API server.
    #[error("there is no Kubernetes API server")]
    KubeApi(#[from] KubeApiError),
    /// A measurement did not come to an end.
    #[error("{what} was not measured; what it said: {said}")]
    Measurement {
        /// Which.
        what: &'static str,
        /// Its output.
        said: String,
    },
    /// A program cannot be run.
    #[error("{} cannot be run", program.display())]
    Program {
        /// Which.
        program: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file cannot be used.
    #[error("{} cannot be used", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the file system says.
        source: io::Error,
    },
    /// There was nothing to measure yet.
    #[error("{what} did not come about within {seconds} s; the scheduler's last words: {log}")]
    Preparation {
        /// What was waited for.
        what: String,
        /// For how long.
        seconds: u64,
        /// The end of its log.
        log: String,
    },
}
