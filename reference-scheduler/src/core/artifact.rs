//! Artifacts: names for images, protected by a finalizer while a deployment uses them.

use std::sync::Arc;

use super::cached_object::CachedObject;
use super::work_queue::WorkItem;
use super::{MetadataPatch, Scheduler, Status, StoreError, Write};
use crate::api::{
    self, Artifact, ArtifactStatus, Condition, ConditionStatus, Key, Kind, Object,
    WorkloadDeployment, names, set_condition,
};
use crate::fault_injection::Breakage;

/// The state of one artifact.
#[derive(Debug)]
pub(super) struct ArtifactRecord {
    pub key: Key,
    pub cached: CachedObject<Artifact>,
}

impl Scheduler {
    /// Returns the image of an artifact that a deployment refers to.
    ///
    /// # Errors
    ///
    /// Returns the reason if the artifact does not exist or is not published.
    pub(super) fn resolve_artifact(
        &self,
        deployment: &WorkloadDeployment,
        name: &str,
    ) -> Result<String, String> {
        let key = Key::new(Kind::Artifact, deployment.metadata.namespace.as_str(), name);
        let record = self
            .artifacts
            .index(&key)
            .and_then(|index| self.artifacts.get(index));
        let object = record.and_then(|record| record.cached.object.as_ref());
        let object = object.ok_or_else(|| format!("artifact {name:?} not found"))?;
        let status = object.status.as_ref();
        let published = status.filter(|status| {
            !status.artifact_url.is_empty()
                && api::is_true(&status.conditions, names::artifact::PUBLISHED)
        });
        let published = published.ok_or_else(|| format!("artifact {name:?} is not published"))?;
        Ok(published.artifact_url.clone())
    }

    pub(super) fn on_artifact_applied(&mut self, object: Arc<Artifact>) {
        let key = Object::Artifact(object.clone()).key();
        let artifact_index = self.artifacts.index(&key).unwrap_or_else(|| {
            let record = ArtifactRecord {
                key: key.clone(),
                cached: CachedObject::default(),
            };
            self.artifacts.insert(key.clone(), record)
        });
        let Some(record) = self.artifacts.get_mut(artifact_index) else {
            return;
        };
        if record.cached.accept(object, |artifact| &artifact.metadata) {
            self.queue.enqueue(WorkItem::Artifact(artifact_index));
            self.enqueue_deployments_of(&key);
        }
    }

    pub(super) fn on_artifact_removed(&mut self, key: &Key, uid: &str) {
        if let Some(artifact_index) = self.artifacts.index(key) {
            let record = self.artifacts.get(artifact_index);
            let object = record.and_then(|record| record.cached.object.as_ref());
            // A late event for a deleted artifact must not remove its successor.
            if object.is_some_and(|object| !uid.is_empty() && object.metadata.uid != uid) {
                return;
            }
            self.artifacts.remove(key);
            self.queue
                .reschedule(WorkItem::Artifact(artifact_index), None);
            self.enqueue_deployments_of(key);
        }
    }

    fn enqueue_deployments_of(&mut self, artifact: &Key) {
        for (deployment_index, deployment) in self.deployments.iter() {
            if deployment.key.namespace == artifact.namespace {
                self.queue.enqueue(WorkItem::Deployment(deployment_index));
            }
        }
    }

    /// Enqueues the artifacts of a namespace, because the deletion of an artifact may have waited
    /// for a deployment.
    pub(super) fn enqueue_artifacts(&mut self, namespace: &str) {
        for (artifact_index, artifact) in self.artifacts.iter() {
            if &*artifact.key.namespace == namespace {
                self.queue.enqueue(WorkItem::Artifact(artifact_index));
            }
        }
    }

    pub(super) fn reconcile_artifact(&mut self, artifact_index: u32) {
        let item = WorkItem::Artifact(artifact_index);
        let Some(record) = self.artifacts.get(artifact_index) else {
            return;
        };
        if !record.cached.can_write(self.now) {
            return self
                .queue
                .reschedule(item, record.cached.next_write_at(self.now));
        }
        let Some(object) = record.cached.object.clone() else {
            return;
        };
        let (key, uid) = (record.key.clone(), object.metadata.uid.clone());
        let finalizer = if Breakage::OwnFinalizers.is_on() {
            "berth.dev/artifact"
        } else {
            names::ARTIFACT_FINALIZER
        };
        let finalized = object.metadata.has_finalizer(finalizer);
        let mut patch = MetadataPatch::default();
        if object.metadata.is_deleting() {
            if finalized && !self.is_in_use(&key) {
                patch.remove_finalizer = Some(finalizer);
                self.write(item, Write::Metadata { key, uid, patch });
            }
        } else if !finalized {
            patch.add_finalizer = Some(finalizer);
            self.write(item, Write::Metadata { key, uid, patch });
        } else if let Some(status) = self.desired_artifact_status(&object) {
            let status = Status::Artifact(status);
            self.write(item, Write::status(key, uid, status));
        }
    }

    fn is_in_use(&self, artifact: &Key) -> bool {
        let mut deployments = self.deployments.iter();
        !Breakage::ArtifactDeletedInUse.is_on()
            && deployments.any(|(_, deployment)| deployment.uses_artifact(artifact))
    }

    fn desired_artifact_status(&self, object: &Artifact) -> Option<ArtifactStatus> {
        let before = object.status.clone().unwrap_or_default();
        let mut status = before.clone();
        let generation = object.metadata.generation;
        status.observed_generation = generation;
        status.artifact_url.clone_from(&object.spec.image);
        let (condition_status, reason, message) = if object.spec.image.is_empty() {
            (ConditionStatus::False, "Invalid", "image is empty")
        } else {
            (ConditionStatus::True, "Available", "")
        };
        let condition_types = [
            names::artifact::SYNC,
            names::artifact::PUBLISHED,
            names::artifact::READY,
        ];
        for condition_type in condition_types {
            let mut condition = Condition::new(condition_type, condition_status, reason, message);
            condition.observed_generation = generation;
            set_condition(&mut status.conditions, condition, self.timestamp());
        }
        (status != before).then_some(status)
    }

    pub(super) fn on_artifact_written(
        &mut self,
        artifact_index: u32,
        result: Result<Arc<Artifact>, StoreError>,
    ) {
        let (now, retry) = (self.now, self.options.timings.write_retry);
        let Some(record) = self.artifacts.get_mut(artifact_index) else {
            return;
        };
        record.cached.end_write(now, retry, result.as_ref().err());
        let key = record.key.clone();
        let object = record.cached.object.as_ref();
        let uid = object.map_or_else(String::new, |object| object.metadata.uid.clone());
        match result {
            Ok(object) => self.on_artifact_applied(object),
            Err(StoreError::NotFound) => self.on_artifact_removed(&key, &uid),
            Err(_) => {}
        }
        self.queue.enqueue(WorkItem::Artifact(artifact_index));
    }
}
