//! What the store is told of a deployment, and what it answers.

use std::sync::Arc;
use std::time::Duration;

use super::{Deployment, Findings, STUCK};
use crate::api::{
    Condition, ConditionStatus, LocalReference, WorkloadDeployment, WorkloadDeploymentStatus,
    names, set_condition,
};
use crate::core::agenda::Item;
use crate::core::replica_set::DEBOUNCE;
use crate::core::{Scheduler, Status, Write, WriteError};

impl Scheduler {
    pub(super) fn write_deployment(
        &mut self,
        number: u32,
        object: &WorkloadDeployment,
        findings: &Findings,
    ) -> Option<Duration> {
        let now = self.now;
        let record = self.deployments.get(number)?;
        if !record.kept.is_free(now) {
            return record.kept.free_at(now);
        }
        let before = object.status.clone().unwrap_or_default();
        let status = self.wanted_deployment_status(record, object, findings)?;
        // Names are what a successor goes by; counts can wait, but for the last word.
        let named = before.current_replica_set != status.current_replica_set
            || before.previous_replica_set != status.previous_replica_set;
        let due = record.counted_at + self.options.timings.count_interval;
        if now < due && !findings.is_complete && !named {
            return Some(due);
        }
        let (key, uid) = (record.key.clone(), record.uid.to_string());
        if let Some(record) = self.deployments.get_mut(number) {
            record.counted_at = now;
        }
        let status = Status::Deployment(status);
        self.write(
            Item::Deployment(number),
            Write::Status {
                key,
                uid,
                status,
                can_wait: !named,
            },
        );
        None
    }

    fn wanted_deployment_status(
        &self,
        record: &Deployment,
        object: &WorkloadDeployment,
        findings: &Findings,
    ) -> Option<WorkloadDeploymentStatus> {
        let before = object.status.clone().unwrap_or_default();
        let mut status = before.clone();
        let reference = |name: &Option<String>| {
            name.as_ref().map(|name| LocalReference {
                name: name.clone(),
                ..LocalReference::default()
            })
        };
        status.current_replica_set = reference(&findings.current);
        status.previous_replica_set = reference(&findings.previous);
        status.replicas = Some(findings.counts);
        status.current_replicas = findings.counts.current;
        status.selector = format!("{}={}", names::DEPLOYMENT_LABEL, object.metadata.name);
        for mut condition in conditions(record, findings) {
            condition.observed_generation = object.metadata.generation;
            set_condition(&mut status.conditions, condition, self.timestamp());
        }
        (status != before).then_some(status)
    }

    pub(in crate::core) fn deployment_written(
        &mut self,
        number: u32,
        result: Result<Arc<WorkloadDeployment>, WriteError>,
    ) {
        let (now, retry) = (self.now, self.options.timings.write_retry);
        let Some(record) = self.deployments.get_mut(number) else {
            return;
        };
        record.kept.end(now, retry, result.as_ref().err());
        let (key, uid) = (record.key.clone(), record.uid.to_string());
        match result {
            Ok(object) => self.apply_deployment(object),
            Err(WriteError::NotFound) => self.deployment_removed(&key, &uid),
            Err(_) => {}
        }
        self.agenda
            .look_by(Item::Deployment(number), now + DEBOUNCE);
    }
}

fn conditions(record: &Deployment, findings: &Findings) -> Vec<Condition> {
    use ConditionStatus::{False, True};
    if let Some(invalid) = findings.invalid {
        let of = |name| Condition::new(name, False, "Invalid", invalid);
        return vec![of(names::deployment::SYNC), of(names::deployment::READY)];
    }
    let judge = |name, holds: bool, reason: &str, message: String| match holds {
        true => Condition::new(name, True, "Available", ""),
        false => Condition::new(name, False, reason, message),
    };
    let missing = findings.missing_artifact.clone();
    let counts = findings.counts;
    let ready = format!("{} of {} are ready", counts.ready, counts.expected);
    let (deploying, why) = match record.is_stuck {
        true => (STUCK, "the rollout stands still".to_owned()),
        false => ("Reconcile", "the old ones are stopping".to_owned()),
    };
    vec![
        judge(
            names::deployment::ARTIFACT,
            missing.is_none(),
            "Missing",
            missing.clone().unwrap_or_default(),
        ),
        judge(
            names::deployment::SYNC,
            findings.is_current,
            "Reconcile",
            "another revision runs".to_owned(),
        ),
        judge(
            names::deployment::DEPLOY,
            findings.is_current && !record.is_stuck,
            deploying,
            why,
        ),
        judge(
            names::deployment::SCALE,
            findings.is_settled,
            "Reconcile",
            "old replica sets remain".to_owned(),
        ),
        judge(
            names::deployment::READY,
            findings.is_complete,
            "Reconcile",
            ready,
        ),
    ]
}
