//! The entry of one workload ID.

use berth_proto::WorkloadState;

use super::{RequestId, RunId};
use crate::host::StatusReport;

/// A workload ID with its current run.
#[derive(Debug)]
pub(super) struct Entry {
    pub run: RunId,
    pub phase: Phase,
}

/// Phase of a run. A run only moves down this list.
#[derive(Debug)]
pub(super) enum Phase {
    /// The host is starting the workload; `unanswered` is the start request that has no reply yet.
    Starting {
        unanswered: Option<RequestId>,
        message: String,
        report: Option<StatusReport>,
    },
    /// The host has started the workload: RUNNING, or STARTING while a service waits for its
    /// restart.
    Started {
        state: WorkloadState,
        message: String,
    },
    /// The run ended by itself: COMPLETED or ERROR. `in_host` until the host has released the run.
    Ended {
        state: WorkloadState,
        message: String,
        guest_ran: bool,
        in_host: bool,
    },
    /// A stop was acknowledged; the ID is free as soon as the host has released the run.
    Stopping,
}

impl Entry {
    pub fn starting(run: RunId, request: RequestId) -> Self {
        let message = "starting".to_owned();
        Self {
            run,
            phase: Phase::Starting {
                unanswered: Some(request),
                message,
                report: None,
            },
        }
    }

    pub fn state(&self) -> WorkloadState {
        match &self.phase {
            Phase::Starting { .. } => WorkloadState::Starting,
            Phase::Started { state, .. } | Phase::Ended { state, .. } => *state,
            Phase::Stopping => WorkloadState::Stopping,
        }
    }

    pub fn message(&self) -> &str {
        match &self.phase {
            Phase::Starting { message, .. }
            | Phase::Started { message, .. }
            | Phase::Ended { message, .. } => message,
            Phase::Stopping => "stopping",
        }
    }

    /// Returns whether the ID is in ERROR and no guest code has run.
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
