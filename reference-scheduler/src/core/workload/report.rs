//! What the status of a Workload object says.

use std::borrow::Cow;

use super::{Phase, Workload, status_of};
use crate::api::{Condition, ConditionStatus, WorkloadStatus, names, set_condition};
use crate::breakage::Breakage;
use crate::core::Scheduler;
use crate::core::fleet::Host;

/// Reason of `Ready` when a workload has done its work, by which it is known after a restart, too.
pub(super) const COMPLETED: &str = "Completed";

/// Reason of `Sync` when a workload does not run and will not by itself.
pub(super) const FAILED: &str = "Failed";

/// Longest message that is kept of what a host says, in bytes: an object is not a log.
const MAX_MESSAGE_BYTES: usize = 1024;

impl Scheduler {
    /// The status as it should be, if it is not so.
    pub(super) fn wanted_workload_status(&self, number: u32) -> Option<WorkloadStatus> {
        let record = self.workloads.get(number)?;
        let object = record.kept.object.as_ref()?;
        let mut status = status_of(object);
        let before = (
            status.host_id.clone(),
            status.workload_id.clone(),
            status.environment.clone(),
        );
        let place = record.place.as_ref();
        let host = place.and_then(|place| self.fleet.get(place.host));
        // A host is forgotten here before it is in the object.
        if let Some(host) = host {
            status.host_id = host.id.to_string();
            let environment = host
                .report
                .as_ref()
                .map(|report| report.environment.clone());
            status.environment = environment.unwrap_or(status.environment);
        } else if place.is_none() {
            (status.host_id, status.environment) = (String::new(), String::new());
        }
        // The last id stays to be seen until there is another, so that none is used twice.
        if let Some(place) = place {
            status.workload_id = place.id.to_string();
        }
        let after = (
            status.host_id.clone(),
            status.workload_id.clone(),
            status.environment.clone(),
        );
        let mut changed = before != after;
        let generation = object.metadata.generation;
        for mut condition in record.conditions(host) {
            condition.observed_generation = match (condition.name.as_str(), place) {
                (names::workload::PLACEMENT, Some(place)) => place.generation,
                _ => generation,
            };
            if Breakage::WritesAtRest.is_on() && condition.name == names::workload::READY {
                condition.message = format!("looked at {:?}", self.now);
            }
            changed |= set_condition(&mut status.conditions, condition, self.timestamp());
        }
        changed.then_some(status)
    }
}

impl Workload {
    pub fn is_ready(&self, host: Option<&Host>) -> bool {
        let runs = matches!(self.phase, Phase::Running | Phase::Completed);
        let there = self.phase == Phase::Completed || host.is_some_and(|host| !host.is_lost());
        runs && there && self.is_wanted()
    }

    fn conditions(&self, host: Option<&Host>) -> [Condition; 5] {
        use ConditionStatus::{False, True, Unknown};
        let of = |name, (status, reason, message): (ConditionStatus, &str, &str)| {
            Condition::new(name, status, reason, message)
        };
        let good = (True, "Available", "");
        let config = match &self.config_error {
            Some(error) => (False, "Missing", error.as_str()),
            None => good,
        };
        let selection = match (&self.refused, &self.place) {
            (_, Some(_)) => good,
            (Some((_, reason)), None) => (False, "Unschedulable", &**reason),
            (None, None) => (Unknown, "Waiting", ""),
        };
        let message = shortened(&self.message);
        let completed = completed(message);
        let lost = host.is_none_or(Host::is_lost) && self.phase != Phase::Completed;
        let taken = self.place.as_ref().is_some_and(|place| place.was_taken);
        let (placement, sync) = match self.phase {
            Phase::Waiting => ((False, "Waiting", ""), (Unknown, "Waiting", "")),
            Phase::Bound | Phase::Starting => {
                ((Unknown, "Starting", ""), (Unknown, "Starting", ""))
            }
            _ if lost => (good, (Unknown, "HostLost", "its host is lost")),
            Phase::Accepted => (good, (False, "Starting", message)),
            Phase::Running => (good, good),
            Phase::Completed => (good, (True, COMPLETED, &*completed)),
            Phase::Failed { .. } if taken => (good, (False, FAILED, message)),
            Phase::Failed { .. } => ((False, FAILED, message), (False, FAILED, message)),
            Phase::Leaving => (good, (False, "Stopping", message)),
        };
        let ready = match (selection.0, config.0, sync.0) {
            (True, _, True) => (True, sync.1, sync.2),
            (True, False, _) => (False, config.1, config.2),
            (True, ..) => (False, sync.1, sync.2),
            _ => (False, selection.1, selection.2),
        };
        [
            of(names::workload::CONFIG, config),
            of(names::workload::HOST_SELECTION, selection),
            of(names::workload::PLACEMENT, placement),
            of(names::workload::SYNC, sync),
            of(names::workload::READY, ready),
        ]
    }
}

/// The message by which people and other programs see that it has completed (SCHED-STATUS-006).
fn completed(message: &str) -> Cow<'_, str> {
    const WORD: &str = "completed";
    let says = message.get(..WORD.len());
    if says.is_some_and(|word| word.eq_ignore_ascii_case(WORD)) {
        return message.into();
    }
    match message {
        "" => WORD.into(),
        message => format!("{WORD}: {message}").into(),
    }
}

fn shortened(message: &str) -> &str {
    message
        .get(..message.floor_char_boundary(MAX_MESSAGE_BYTES))
        .unwrap_or(message)
}

#[cfg(test)]
mod tests {
    use super::completed;

    #[test]
    fn what_has_completed_says_so_once() {
        assert_eq!(completed(""), "completed");
        assert_eq!(completed("exit 0"), "completed: exit 0");
        assert_eq!(completed("Completed at noon"), "Completed at noon");
        // As it is read back after a restart.
        assert_eq!(completed("completed: exit 0"), "completed: exit 0");
    }
}
