//! Benchmarks: HTTP throughput of the reference host, reactions of the reference scheduler.

use std::io;
use std::path::PathBuf;

use crate::kube_api::KubeApiError;
use crate::nats_server::NatsServerError;

pub mod host;
pub mod scheduler;
pub mod simulator;

/// Reason why a measurement failed.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The cache directory is unknown.
    #[error("cannot locate the cache directory for wasmtime-cli")]
    Cache(#[from] crate::cache::NoCacheDir),
    /// cargo cannot be run.
    #[error("cannot run cargo")]
    Cargo(#[source] io::Error),
    /// The build of `wasmtime serve` failed.
    #[error("cannot build wasmtime-cli {release}; see the output of cargo")]
    Wasmtime {
        /// Release of wasmtime-cli.
        release: &'static str,
    },
    /// The build of the programs to measure failed.
    #[error("cannot build the programs to measure; see the output of cargo")]
    Build,
    /// nats-server is not available.
    #[error("cannot provide nats-server")]
    NatsServer(#[from] NatsServerError),
    /// The API server is not available.
    #[error("cannot provide a Kubernetes API server")]
    KubeApi(#[from] KubeApiError),
    /// A measurement did not finish.
    #[error("{measurement} was not measured; its output: {output}")]
    Measurement {
        /// Name of the measurement.
        measurement: &'static str,
        /// Output of its program.
        output: String,
    },
    /// A program cannot be run.
    #[error("cannot run {}", program.display())]
    Program {
        /// Path of the program.
        program: PathBuf,
        /// I/O error.
        source: io::Error,
    },
    /// A file cannot be accessed.
    #[error("cannot access {}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// I/O error.
        source: io::Error,
    },
    /// The initial state of a measurement was not reached.
    #[error("{condition}: not reached within {seconds} s; last log line of the scheduler: {log}")]
    Preparation {
        /// The expected state.
        condition: String,
        /// The timeout.
        seconds: u64,
        /// Last line of the scheduler's log.
        log: String,
    },
}
