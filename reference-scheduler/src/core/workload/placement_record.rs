//! Where the store has recorded the assignment of a workload: in its status, or from its creation
//! until its first status in an annotation, which saves one write per replica. Times are durations
//! since an arbitrary start.

use std::time::Duration;

use super::{Assignment, Phase, Workload};
use crate::api::{self, names};
use crate::core::Scheduler;
use crate::core::placement::filter::{self, FilterReason};

/// Time for the host to reply to the first start before the status is written.
const FIRST_STATUS_DELAY: Duration = Duration::from_millis(500);

/// Where the assignment of a workload is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlacementRecord {
    /// In the status, or about to be written there.
    Status,
    /// In the annotation with which this scheduler created the object, at this time.
    Annotation(Duration),
    /// In an annotation of unknown origin, because every user may annotate. The host is polled
    /// first, and the workload is started there only if placement could choose the host.
    Unverified,
}

/// Returns the host and the id that an object records.
pub(super) fn recorded_assignment(object: &api::Workload) -> Option<(&str, &str)> {
    let status = object.status.as_ref();
    match status.filter(|status| !status.host_id.is_empty()) {
        Some(status) => Some((&status.host_id, &status.workload_id)),
        None => Some((created_on_host(object)?, &object.metadata.uid)),
    }
}

/// Returns the host that was assigned at creation, if no later assignment is recorded.
pub(super) fn created_on_host(object: &api::Workload) -> Option<&str> {
    // Another scheduler may write a host without an id.
    let has_assignment =
        |status: &api::WorkloadStatus| !status.host_id.is_empty() || !status.workload_id.is_empty();
    if object.status.as_ref().is_some_and(has_assignment) {
        return None;
    }
    let annotations = &object.metadata.annotations;
    annotations
        .get(names::PLACED_ON_ANNOTATION)
        .map(String::as_str)
        .filter(|host| !host.is_empty())
}

impl Workload {
    /// Returns whether the assignment comes from an annotation of unknown origin, and the host has
    /// not yet replied whether it has the id.
    pub fn awaits_host_confirmation(&self) -> bool {
        let assignment = self.assignment.as_ref();
        assignment.is_some_and(|assignment| assignment.record == PlacementRecord::Unverified)
    }

    /// Returns the time until which the first status waits for the reply of the host.
    pub fn status_held_until(&self) -> Option<Duration> {
        let is_starting = matches!(self.phase, Phase::Unrecorded | Phase::Starting);
        match self.assignment.as_ref()?.record {
            PlacementRecord::Annotation(at) if is_starting && self.config_error.is_none() => {
                Some(at + FIRST_STATUS_DELAY)
            }
            _ => None,
        }
    }
}

impl Scheduler {
    /// Confirms the creation of a workload that was placed before. Returns whether the object
    /// records the same host: an earlier attempt to create it may have recorded another host.
    pub(super) fn confirm_creation(&mut self, workload_index: u32, object: &api::Workload) -> bool {
        let now = self.now;
        let Some(record) = self.workloads.get_mut(workload_index) else {
            return false;
        };
        let id = record.next_id();
        let Some(assignment) = &mut record.assignment else {
            return false;
        };
        let host = self.fleet.get(assignment.host);
        if host.map(|host| &*host.id) == created_on_host(object) {
            *assignment = Assignment {
                id,
                generation: object.metadata.generation,
                content: record.cached.object.clone(),
                record: PlacementRecord::Annotation(now),
                ..assignment.clone()
            };
            return true;
        }
        self.remove_from_counts(workload_index);
        if let Some(record) = self.workloads.get_mut(workload_index) {
            (record.assignment, record.phase) = (None, Phase::Waiting);
        }
        false
    }

    /// Verifies the assignment of a workload that its host does not have: if placement could choose
    /// the host, the workload is started there; otherwise it is marked as gone.
    pub(super) fn verify_assignment(&mut self, workload_index: u32) {
        let (now, interval) = (self.now, self.options.timings.starting_interval);
        self.remove_from_counts(workload_index);
        let reason = self.workloads.get(workload_index).and_then(|record| {
            let assignment = record.assignment.as_ref()?;
            match self.fleet.get(assignment.host) {
                Some(host) => filter::rejection_reason(&record.constraints, host, now),
                None => Some(FilterReason::Lost),
            }
        });
        self.add_to_counts(workload_index);
        let Some(record) = self.workloads.get_mut(workload_index) else {
            return;
        };
        match reason {
            None => {
                if let Some(assignment) = &mut record.assignment {
                    assignment.record = PlacementRecord::Annotation(now);
                }
                record.dispatch = super::Dispatch::default();
                self.on_workload_changed(workload_index);
            }
            // Decided after the next heartbeat.
            Some(FilterReason::NoHeartbeat | FilterReason::Suspect) => {
                record.dispatch.poll_at(now + interval);
                self.on_workload_changed(workload_index);
            }
            Some(_) => self.mark_gone(workload_index),
        }
    }

    /// Returns whether the store has recorded the assignment.
    pub(super) fn is_recorded(&self, workload_index: u32) -> bool {
        let Some(record) = self.workloads.get(workload_index) else {
            return false;
        };
        let object = record.cached.object.as_deref();
        let recorded = object.and_then(recorded_assignment);
        let (Some((host_id, id)), Some(assignment)) = (recorded, &record.assignment) else {
            return false;
        };
        let host = self.fleet.get(assignment.host);
        host.is_some_and(|host| *host.id == *host_id) && *assignment.id == *id
    }
}
