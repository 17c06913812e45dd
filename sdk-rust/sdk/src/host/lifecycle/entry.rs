//! What is known of one id.

use berth_proto::WorkloadState;

use super::{RequestId, RunId};
use crate::host::Report;

/// One id and the run that holds it.
#[derive(Debug)]
pub(super) struct Entry {
    pub run: RunId,
    pub phase: Phase,
}

/// Where a run stands. Each run goes down this list and never up.
#[derive(Debug)]
pub(super) enum Phase {
    /// The host is bringing it up; `waiting` is the start that has no answer yet.
    Starting {
        waiting: Option<RequestId>,
        message: String,
        report: Option<Report>,
    },
    /// The host has an instance; STARTING (between two runs of a service) or RUNNING.
    Up {
        state: WorkloadState,
        message: String,
    },
    /// Over by itself: COMPLETED or ERROR. `in_host` until the host has let go of it.
    Ended {
        state: WorkloadState,
        message: String,
        guest_ran: bool,
        in_host: bool,
    },
    /// A stop was acknowledged; the id is free when the host has let go of it.
    Stopping,
}

impl Entry {
    pub fn starting(run: RunId, request: RequestId) -> Self {
        let message = "starting".to_owned();
        Self {
            run,
            phase: Phase::Starting {
                waiting: Some(request),
                message,
                report: None,
            },
        }
    }

    pub fn state(&self) -> WorkloadState {
        match &self.phase {
            Phase::Starting { .. } => WorkloadState::Starting,
            Phase::Up { state, .. } | Phase::Ended { state, .. } => *state,
            Phase::Stopping => WorkloadState::Stopping,
        }
    }

    pub fn message(&self) -> &str {
        match &self.phase {
            Phase::Starting { message, .. }
            | Phase::Up { message, .. }
            | Phase::Ended { message, .. } => message,
            Phase::Stopping => "stopping",
        }
    }

    /// An id in ERROR of which no guest code ever ran.
    pub fn may_start_again(&self) -> bool {
        matches!(
            self.phase,
            Phase::Ended {
                state: WorkloadState::Error,
                guest_ran: false,
                ..
            }
        )
    }

    pub fn is_active(&self) -> bool {
        !matches!(self.phase, Phase::Ended { .. })
    }
}
