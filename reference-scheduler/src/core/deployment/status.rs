//! The status of a deployment. Times are durations since an arbitrary start.

use std::sync::Arc;
use std::time::Duration;

use super::{Deployment, STUCK_REASON};
use crate::api::{
    Condition, ConditionStatus, LocalReference, ReplicaCounts, WorkloadDeployment,
    WorkloadDeploymentStatus, names, set_condition,
};
use crate::core::replica_set::{REFUSED_REASON, label_value};
use crate::core::work_queue::{DEBOUNCE, WorkItem};
use crate::core::{Scheduler, Status, StoreError, Write};

/// Reason of a condition that is true.
const AVAILABLE_REASON: &str = "Available";

/// Reason of a condition that is not true yet, because reconciliation continues.
const NOT_RECONCILED_REASON: &str = "Reconcile";

/// The observed state of a rollout, for the status of the deployment.
#[derive(Debug, Default)]
pub(super) struct RolloutStatus {
    pub invalid_reason: Option<&'static str>,
    pub missing_artifact: Option<String>,
    /// Name of the current replica set.
    pub current: Option<String>,
    /// Name of the last good replica set, during a rollout.
    pub previous: Option<String>,
    /// Whether the replica set of the current revision exists or is being created.
    pub current_set_exists: bool,
    /// Reason why the store refuses to create the current replica set or its workloads.
    pub create_refusal: Option<String>,
    /// Reason why a replica of the current set fits no host.
    pub unschedulable_reason: Option<String>,
    /// Whether no old replica set remains.
    pub is_settled: bool,
    /// Whether no old replica set remains and all replicas are ready.
    pub is_complete: bool,
    pub counts: ReplicaCounts,
}

impl Scheduler {
    /// Observes the sets after they were resized.
    pub(super) fn observe_rollout(
        &self,
        observed: &mut RolloutStatus,
        object: &WorkloadDeployment,
        sets: &[u32],
        revision: &str,
        last_good: Option<u32>,
    ) {
        self.count_sets(observed, object, sets);
        let name = |set: u32| self.sets.get(set).map(|set| set.key.name.to_string());
        let mut of_revision = sets.iter().copied().filter(|set| {
            self.sets
                .get(*set)
                .is_some_and(|set| set.revision == revision)
        });
        let current = of_revision.next();
        let before = object
            .status
            .as_ref()
            .and_then(|status| status.current_replica_set.as_ref());
        let record = current.and_then(|set| self.sets.get(set));
        observed.unschedulable_reason = record.and_then(|set| self.unschedulable_member(&set.uid));
        observed.create_refusal = record.and_then(|set| set.create_refusal.clone());
        observed.current_set_exists = record
            .is_some_and(|set| set.cached.object.is_some() || observed.create_refusal.is_none());
        // During a recreate rollout no new set exists while the old set stops; the status still
        // names the old set.
        observed.current = current
            .and_then(name)
            .or_else(|| before.map(|before| before.name.clone()));
        observed.previous = last_good
            .filter(|last_good| sets.contains(last_good))
            .and_then(name);
        observed.previous = observed.previous.take().filter(|_| current.is_some());
        observed.is_settled = sets.len() <= 1;
        let replicas = i32::try_from(object.spec.replicas()).unwrap_or(i32::MAX);
        let counts = current
            .and_then(|set| self.sets.get(set))
            .map(|set| set.counts);
        let is_ready = counts.is_some_and(|counts| {
            counts.expected == replicas && counts.ready >= replicas && counts.current == replicas
        });
        observed.is_complete = observed.is_settled && is_ready;
    }

    /// Returns why a member of a set fits no host.
    fn unschedulable_member(&self, set_uid: &str) -> Option<String> {
        let mut members = self.members.get(set_uid)?.iter();
        members.find_map(|member| {
            let reason = self.workloads.get(*member)?.unschedulable_reason()?;
            Some(reason.to_owned())
        })
    }

    /// Counts the replicas of all sets.
    pub(super) fn count_sets(
        &self,
        observed: &mut RolloutStatus,
        object: &WorkloadDeployment,
        sets: &[u32],
    ) {
        let counts = &mut observed.counts;
        for set in sets.iter().filter_map(|set| self.sets.get(*set)) {
            counts.current += set.counts.current;
            counts.ready += set.counts.ready;
        }
        counts.expected = i32::try_from(object.spec.replicas()).unwrap_or(i32::MAX);
        counts.unavailable = counts.current - counts.ready;
    }

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

/// Appends a reason, if there is one.
pub(super) fn with_reason(message: &str, reason: &Option<String>) -> String {
    match reason {
        Some(reason) => format!("{message}: {reason}"),
        None => message.to_owned(),
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
        let message = with_reason("the rollout is stuck", &observed.unschedulable_reason);
        (STUCK_REASON, message)
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
