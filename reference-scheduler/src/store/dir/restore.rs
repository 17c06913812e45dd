//! Objects whose status file is lost, made again from their identity, without I/O.

use std::sync::Arc;

use super::identities::Identity;
use crate::api::{
    Condition, ConditionStatus, Key, Kind, Metadata, Object, Timestamp, Workload,
    WorkloadReplicaSet, WorkloadReplicaSetSpec, WorkloadStatus, WorkloadTemplate, names,
};
use crate::core::deployment_label;

/// Reason and message of the condition of a restored workload.
const LOST: (&str, &str) = (
    "Restored",
    "the status file was lost; the workload is stopped",
);

/// Returns the object, or `None` if a manifest, a heartbeat or its owner creates it again.
pub(super) fn restored(
    key: &Key,
    identity: &Identity,
    others: &[Object],
    now: Timestamp,
) -> Option<Object> {
    match key.kind {
        Kind::Workload => workload_to_stop(key, identity, now),
        Kind::WorkloadReplicaSet => set_of_workloads(key, identity, others, now),
        Kind::Host | Kind::WorkloadDeployment | Kind::Artifact => None,
    }
}

fn metadata(key: &Key, identity: &Identity, now: Timestamp) -> Metadata {
    Metadata {
        uid: identity.uid.clone(),
        generation: 1,
        creation_timestamp: Some(now),
        owner_references: identity.owner.clone().into_iter().collect(),
        ..Metadata::named(&*key.namespace, &*key.name)
    }
}

/// Returns a workload that is being deleted, so that it is stopped on its host. Its content is
/// lost, and its id must not be started again with another content.
fn workload_to_stop(key: &Key, identity: &Identity, now: Timestamp) -> Option<Object> {
    if identity.host_id.is_empty() {
        return None;
    }
    let condition = |name| {
        let mut condition = Condition::new(name, ConditionStatus::True, LOST.0, LOST.1);
        condition.last_transition_time = Some(now);
        condition
    };
    let accepted = [names::workload::PLACEMENT, names::workload::SYNC].map(condition);
    let workload = Workload {
        metadata: Metadata {
            deletion_timestamp: Some(now),
            finalizers: vec![names::WORKLOAD_FINALIZER.to_owned()],
            ..metadata(key, identity, now)
        },
        status: Some(WorkloadStatus {
            host_id: identity.host_id.clone(),
            workload_id: identity.workload_id.clone(),
            conditions: accepted.into(),
            ..WorkloadStatus::default()
        }),
        ..Workload::default()
    };
    Some(Object::Workload(Arc::new(workload)))
}

/// Returns a replica set with the template of its workloads, so that they go on running.
fn set_of_workloads(
    key: &Key,
    identity: &Identity,
    others: &[Object],
    now: Timestamp,
) -> Option<Object> {
    let members = others.iter().filter_map(|object| match object {
        Object::Workload(workload) => {
            let owner = workload.metadata.controller()?;
            (owner.uid == identity.uid && !workload.metadata.is_deleting()).then_some(workload)
        }
        _ => None,
    });
    let members: Vec<&Arc<Workload>> = members.collect();
    let member = members.first()?;
    let mut template = WorkloadTemplate {
        annotations: member.metadata.annotations.clone(),
        labels: member.metadata.labels.clone(),
        spec: member.spec.clone(),
        ..WorkloadTemplate::default()
    };
    for generated in [names::REVISION_ANNOTATION, names::PLACED_ON_ANNOTATION] {
        template.annotations.remove(generated);
    }
    let mut metadata = metadata(key, identity, now);
    if let Some(owner) = &identity.owner {
        let (name, value) = deployment_label(&owner.name);
        metadata.labels.insert(name, value);
    }
    let set = WorkloadReplicaSet {
        metadata,
        spec: WorkloadReplicaSetSpec {
            replicas: i32::try_from(members.len()).ok(),
            template,
            ..WorkloadReplicaSetSpec::default()
        },
        ..WorkloadReplicaSet::default()
    };
    Some(Object::ReplicaSet(Arc::new(set)))
}
