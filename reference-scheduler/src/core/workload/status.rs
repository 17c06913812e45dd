//! The status of a Workload object.

use std::borrow::Cow;

use super::{Phase, Workload, status_of};
use crate::api::{Condition, ConditionStatus, WorkloadStatus, names, set_condition};
use crate::core::Scheduler;
use crate::core::fleet::Host;
use crate::fault_injection::Breakage;

/// Reason of `Ready` for a completed workload, which identifies it after a scheduler restart.
pub(super) const COMPLETED_REASON: &str = "Completed";

/// Reason of `Sync` for a workload that does not run and that the host does not restart.
pub(super) const FAILED_REASON: &str = "Failed";

/// Maximum length in bytes of a host's message in the status: an object is not a log.
const MAX_MESSAGE_BYTES: usize = 1024;

impl Scheduler {
    /// Returns the desired status, if it differs from the current one.
    pub(super) fn desired_workload_status(&self, workload_index: u32) -> Option<WorkloadStatus> {
        let record = self.workloads.get(workload_index)?;
        let object = record.cached.object.as_ref()?;
        let mut status = status_of(object);
        let before = (
            status.host_id.clone(),
            status.workload_id.clone(),
            status.environment.clone(),
        );
        let assignment = record.assignment.as_ref();
        let host = assignment.and_then(|assignment| self.fleet.get(assignment.host));
        // The status still names the host after the core has forgotten it.
        if let Some(host) = host {
            status.host_id = host.id.to_string();
            let environment = host
                .last_heartbeat
                .as_ref()
                .map(|heartbeat| heartbeat.environment.clone());
            status.environment = environment.unwrap_or(status.environment);
        } else if assignment.is_none() {
            (status.host_id, status.environment) = (String::new(), String::new());
        }
        // The previous id stays in the status until the next one is assigned, so that no id is
        // reused.
        if let Some(assignment) = assignment {
            status.workload_id = assignment.id.to_string();
        }
        let after = (
            status.host_id.clone(),
            status.workload_id.clone(),
            status.environment.clone(),
        );
        let mut changed = before != after;
        let generation = object.metadata.generation;
        for mut condition in record.conditions(host) {
            condition.observed_generation = match (condition.name.as_str(), assignment) {
                (names::workload::PLACEMENT, Some(assignment)) => assignment.generation,
                _ => generation,
            };
            if Breakage::WritesWhenIdle.is_on() && condition.name == names::workload::READY {
                condition.message = format!("checked at {:?}", self.now);
            }
            changed |= set_condition(&mut status.conditions, condition, self.timestamp());
        }
        changed.then_some(status)
    }
}

impl Workload {
    pub fn is_ready(&self, host: Option<&Host>) -> bool {
        let is_running = matches!(self.phase, Phase::Running | Phase::Completed);
        let has_host = self.phase == Phase::Completed || host.is_some_and(|host| !host.is_lost());
        is_running && has_host && self.is_wanted()
    }

    fn conditions(&self, host: Option<&Host>) -> [Condition; 5] {
        use ConditionStatus::{False, True, Unknown};
        let condition = |name, (status, reason, message): (ConditionStatus, &str, &str)| {
            Condition::new(name, status, reason, message)
        };
        let available = (True, "Available", "");
        let config = match &self.config_error {
            Some(error) => (False, "Missing", error.as_str()),
            None => available,
        };
        let selection = match (&self.unschedulable, &self.assignment) {
            (_, Some(_)) => available,
            (Some((_, reason)), None) => (False, "Unschedulable", &**reason),
            (None, None) => (Unknown, "Waiting", ""),
        };
        let message = truncated(&self.message);
        let completed = completed_message(message);
        let lost = host.is_none_or(Host::is_lost) && self.phase != Phase::Completed;
        let was_accepted = self
            .assignment
            .as_ref()
            .is_some_and(|assignment| assignment.was_accepted);
        let (placement, sync) = match self.phase {
            Phase::Waiting => ((False, "Waiting", ""), (Unknown, "Waiting", "")),
            Phase::Unrecorded | Phase::Starting => {
                ((Unknown, "Starting", ""), (Unknown, "Starting", ""))
            }
            _ if lost => (available, (Unknown, "HostLost", "the host is lost")),
            Phase::Accepted => (available, (False, "Starting", message)),
            Phase::Running => (available, available),
            Phase::Completed => (available, (True, COMPLETED_REASON, &*completed)),
            Phase::Failed { .. } if was_accepted => (available, (False, FAILED_REASON, message)),
            Phase::Failed { .. } => (
                (False, FAILED_REASON, message),
                (False, FAILED_REASON, message),
            ),
            Phase::Terminating => (available, (False, "Stopping", message)),
        };
        let ready = match (selection.0, config.0, sync.0) {
            (True, _, True) => (True, sync.1, sync.2),
            (True, False, _) => (False, config.1, config.2),
            (True, ..) => (False, sync.1, sync.2),
            _ => (False, selection.1, selection.2),
        };
        [
            condition(names::workload::CONFIG, config),
            condition(names::workload::HOST_SELECTION, selection),
            condition(names::workload::PLACEMENT, placement),
            condition(names::workload::SYNC, sync),
            condition(names::workload::READY, ready),
        ]
    }
}

/// Returns the message of a completed workload, which starts with `completed` for other programs
/// (SCHED-STATUS-006).
fn completed_message(message: &str) -> Cow<'_, str> {
    const PREFIX: &str = "completed";
    let start = message.get(..PREFIX.len());
    if start.is_some_and(|start| start.eq_ignore_ascii_case(PREFIX)) {
        return message.into();
    }
    match message {
        "" => PREFIX.into(),
        message => format!("{PREFIX}: {message}").into(),
    }
}

fn truncated(message: &str) -> &str {
    message
        .get(..message.floor_char_boundary(MAX_MESSAGE_BYTES))
        .unwrap_or(message)
}

#[cfg(test)]
mod tests {
    use super::completed_message;

    #[test]
    fn adds_completed_prefix_once() {
        assert_eq!(completed_message(""), "completed");
        assert_eq!(completed_message("exit 0"), "completed: exit 0");
        assert_eq!(completed_message("Completed at noon"), "Completed at noon");
        // The message that a restarted scheduler reads from the status.
        assert_eq!(completed_message("completed: exit 0"), "completed: exit 0");
    }
}
