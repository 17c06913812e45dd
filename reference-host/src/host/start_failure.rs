//! Reason why a workload cannot be started, as reported to the scheduler.

use std::sync::Arc;

use berth_sdk::cli::error_chain;
use berth_sdk::host::StartError;

use crate::declarations::{DeclarationError, NoHostName};
use crate::egress::MalformedEntries;
use crate::engine::{CompileError, LinkError};
use crate::image::PullCause;
use crate::volumes::VolumeError;

/// A component or service of a workload, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Text for messages: `component NAME`, `component 2` or `the service`.
    pub label: String,
    /// Image as written in the workload.
    pub image: String,
}

/// Reason why a workload cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartFailure {
    /// A component or the service cannot be started (HOST-START-018).
    #[error("cannot start {} (image `{}`)", .part.label, .part.image.escape_debug())]
    Part {
        /// The component or service.
        part: Part,
        /// Reason of the failure.
        #[source]
        source: Box<PartError>,
    },
    /// A volume is invalid or cannot be created (HOST-RES-011).
    #[error("cannot prepare the volumes of the workload")]
    Volumes(#[source] VolumeError),
    /// A declaration in `hostInterfaces` is invalid.
    #[error("invalid workload: {0}")]
    Declaration(DeclarationError),
    /// The declaration of `wasi:http` has no host name (HOST-HTTP-007).
    #[error("cannot route requests to the workload")]
    NoHostName(#[source] NoHostName),
    /// Several components export an HTTP handler, so that requests have no single destination.
    #[error("{} all export an HTTP handler; requests can go to one only", .0.join(" and "))]
    SeveralHandlers(Vec<String>),
    /// Several reasons, each in full.
    #[error("{}", several(.0))]
    Several(Vec<StartFailure>),
    /// The host is at its limit of workloads.
    #[error("the host already runs {0} workloads, its maximum")]
    Full(usize),
    /// The host has no ingress.
    #[error("the workload serves wasi:http, but this host has no HTTP ingress")]
    NoIngress,
    /// Injected fault: a component does not import a declared interface.
    #[error("a declared interface is not imported")]
    UnusedInterface,
    /// A background task of the host failed.
    #[error("an internal task of the host failed")]
    Internal,
}

/// Reason why a component or service cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// An allow-list has malformed entries (HOST-RES-007).
    #[error("{}", joined(.0))]
    Egress(Vec<MalformedEntries>),
    /// A mount is invalid (HOST-RES-012).
    #[error(transparent)]
    Volumes(#[from] VolumeError),
    /// The image cannot be pulled.
    #[error("cannot pull the image")]
    Pull(#[source] Arc<PullCause>),
    /// The image is not a component that this host can compile.
    #[error(transparent)]
    Compile(CompileError),
    /// The imports or exports of the component do not fit.
    #[error(transparent)]
    Link(LinkError),
}

impl StartFailure {
    /// Creates the failure of one component or of the service.
    pub fn of_part(part: Part, source: PartError) -> Self {
        let source = Box::new(source);
        Self::Part { part, source }
    }

    /// Returns the error for the scheduler: the message with all its causes in one line. It is
    /// retryable, because no guest code has run.
    pub fn to_start_error(&self) -> StartError {
        StartError::new(error_chain(self))
    }
}

impl From<Vec<StartFailure>> for StartFailure {
    /// Returns the only reason, or all of them.
    fn from(mut failures: Vec<StartFailure>) -> Self {
        match failures.pop() {
            None => Self::Internal,
            Some(only) if failures.is_empty() => only,
            Some(last) => {
                failures.push(last);
                Self::Several(failures)
            }
        }
    }
}

fn several(failures: &[StartFailure]) -> String {
    let mut messages: Vec<String> = Vec::new();
    for failure in failures {
        let message = error_chain(failure);
        if !messages.contains(&message) {
            messages.push(message);
        }
    }
    messages.join("; ")
}

fn joined(errors: &[MalformedEntries]) -> String {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}
