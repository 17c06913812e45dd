//! Why a workload is not started, as the scheduler reads it.

use std::sync::Arc;

use berth_sdk::cli::chain;
use berth_sdk::host::Refusal;

use crate::egress::MalformedEntries;
use crate::engine::{CompileError, PrepareError};
use crate::image::PullCause;
use crate::ingress::BadHost;
use crate::volumes::VolumeError;

/// Which part of a workload is meant, with its image: as people know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// `component 'name'`, `component 2` or `service`.
    pub what: String,
    /// The image as the workload names it.
    pub image: String,
}

/// Why a workload is not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A part of the workload cannot be run (HOST-START-018).
    #[error("{} (image '{}')", .part.what, .part.image.escape_debug())]
    Part {
        /// Which.
        part: Part,
        /// Why.
        #[source]
        source: PartError,
    },
    /// HOST-RES-011
    #[error("the volumes of the workload cannot be had")]
    Volumes(#[source] VolumeError),
    /// HOST-HTTP-007
    #[error("the workload cannot be routed to")]
    Host(#[source] BadHost),
    /// The host runs as many workloads as it may.
    #[error("this host already runs {0} workloads and takes no more")]
    Full(usize),
    /// The host has no ingress.
    #[error("the workload serves wasi:http, and this host has no HTTP ingress")]
    NoIngress,
    /// A fault on purpose.
    #[error("a declared interface is not imported")]
    Unused,
    /// A background task of the host failed.
    #[error("the host failed")]
    Internal,
}

/// Why a part of a workload cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// HOST-RES-007
    #[error("{}", all(.0))]
    Egress(Vec<MalformedEntries>),
    /// HOST-RES-012
    #[error(transparent)]
    Volumes(#[from] VolumeError),
    /// The image cannot be had.
    #[error("cannot pull the image")]
    Pull(#[source] Arc<PullCause>),
    /// The image is not a component that this host can run.
    #[error("the image {0}")]
    Compile(CompileError),
    /// Its imports or exports do not fit.
    #[error("it {0}")]
    Prepare(PrepareError),
}

/// What the SDK is told: the error with all its causes, in one line. No guest code has run.
pub fn refuse(error: &StartError) -> Refusal {
    Refusal::new(chain(error))
}

fn all(errors: &[MalformedEntries]) -> String {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}
