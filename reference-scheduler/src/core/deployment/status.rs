//! The status of a deployment. Times are durations since an arbitrary start.

use std::sync::Arc;
use std::time::Duration;

use super::{Deployment, RolloutStatus, STUCK_REASON};
use crate::api::{
    Condition, ConditionStatus, LocalReference, WorkloadDeployment, WorkloadDeploymentStatus,
    names, set_condition,
};
use crate::core::replica_set::{REFUSED_REASON, label_value};
use crate::core::work_queue::{DEBOUNCE, WorkItem};
use crate::core::{Scheduler, Status, StoreError, Write};

/// Reason of a condition that is true.
const AVAILABLE_REASON: &str = "Available";

/// Reason of a condition that is not true yet, because reconciliation continues.
const NOT_RECONCILED_REASON: &str = "Reconcile";

impl Scheduler {
    /// Writes the status if it has changed, or returns when to check again.
    pub(super) fn write_deployment_status(
        &mut self,
        deployment_index: u32,
        object: &WorkloadDeployment,
        observed: &RolloutStatus,
    ) -> Option<Duration> {
        let now = self.now;
        let record = self.deployments.get(deployment_index)?;
        if !record.cached.can_write(now) {
            return record.cached.next_write_at(now);
        }
        let before = object.status.clone().unwrap_or_default();
        let status = self.desired_deployment_status(record, object, observed)?;
        // The names of the sets are written at once, because the next scheduler relies on them.
        // Counts change in bursts, so other writes are rate-limited until the rollout is complete.
        let names_changed = before.current_replica_set != status.current_replica_set
            || before.previous_replica_set != status.previous_replica_set;
        let due = record.status_written_at + self.options.timings.counts_write_interval;
        if now < due && !observed.is_complete && !names_changed {
            return Some(due);
        }
        let (key, uid) = (record.key.clone(), record.uid.to_string());
        if let Some(record) = self.deployments.get_mut(deployment_index) {
            record.status_written_at = now;
        }
        let status = Status::Deployment(status);
        self.write(
            WorkItem::Deployment(deployment_index),
            Write::Status {
                key,
                uid,
                status,
                is_deferrable: !names_changed,
            },
        );
        None
    }

    fn desired_deployment_status(
        &self,
        record: &Deployment,
        object: &WorkloadDeployment,
        observed: &RolloutStatus,
    ) -> Option<WorkloadDeploymentStatus> {
        let before = object.status.clone().unwrap_or_default();
        let mut status = before.clone();
        let reference = |name: &Option<String>| {
            name.as_ref().map(|name| LocalReference {
                name: name.clone(),
                ..LocalReference::default()
            })
        };
        status.current_replica_set = reference(&observed.current);
        status.previous_replica_set = reference(&observed.previous);
        status.replicas = Some(observed.counts);
        status.current_replicas = observed.counts.current;
        status.selector = format!(
            "{}={}",
            names::DEPLOYMENT_LABEL,
            label_value(&object.metadata.name)
        );
        for mut condition in conditions(record, observed) {
            condition.observed_generation = object.metadata.generation;
            set_condition(&mut status.conditions, condition, self.timestamp());
        }
        (status != before).then_some(status)
    }

    pub(in crate::core) fn on_deployment_status_written(
        &mut self,
        deployment_index: u32,
        result: Result<Arc<WorkloadDeployment>, StoreError>,
    ) {
        let (now, retry) = (self.now, self.options.timings.write_retry);
        let Some(record) = self.deployments.get_mut(deployment_index) else {
            return;
        };
        record.cached.end_write(now, retry, result.as_ref().err());
        let (key, uid) = (record.key.clone(), record.uid.to_string());
        match result {
            Ok(object) => self.on_deployment_applied(object),
            Err(StoreError::NotFound) => self.on_deployment_removed(&key, &uid),
            Err(_) => {}
        }
        self.queue
            .enqueue_at(WorkItem::Deployment(deployment_index), now + DEBOUNCE);
    }
}

fn conditions(record: &Deployment, observed: &RolloutStatus) -> Vec<Condition> {
    use ConditionStatus::{False, True};
    if let Some(invalid) = observed.invalid_reason {
        let condition = |name| Condition::new(name, False, "Invalid", invalid);
        return vec![
            condition(names::deployment::SYNC),
            condition(names::deployment::READY),
        ];
    }
    let condition = |name, is_true: bool, (reason, message): (&str, String)| {
        if is_true {
            Condition::new(name, True, AVAILABLE_REASON, "")
        } else {
            Condition::new(name, False, reason, message)
        }
    };
    let missing = observed.missing_artifact.clone();
    // A refused creation explains the conditions that it makes false.
    let unless_refused = |message: &str| match &observed.create_refusal {
        Some(refusal) => (REFUSED_REASON, format!("{message}: {refusal}")),
        None => (NOT_RECONCILED_REASON, message.to_owned()),
    };
    let no_set = unless_refused("the current revision has no replica set");
    let not_deployed = if record.is_stuck {
        (STUCK_REASON, "the rollout is stuck".to_owned())
    } else {
        no_set.clone()
    };
    let old_sets = (NOT_RECONCILED_REASON, "old replica sets remain".to_owned());
    let counts = observed.counts;
    let ready = format!("{} of {} are ready", counts.ready, counts.expected);
    let (set_exists, is_missing) = (observed.current_set_exists, missing.is_some());
    let artifact = ("Missing", missing.unwrap_or_default());
    vec![
        condition(names::deployment::ARTIFACT, !is_missing, artifact),
        condition(names::deployment::SYNC, set_exists, no_set),
        condition(
            names::deployment::DEPLOY,
            set_exists && !record.is_stuck,
            not_deployed,
        ),
        condition(names::deployment::SCALE, observed.is_settled, old_sets),
        condition(
            names::deployment::READY,
            observed.is_complete,
            unless_refused(&ready),
        ),
    ]
}
