//! Artifacts: names for images, held as long as a deployment uses them.

use std::sync::Arc;

use super::agenda::Item;
use super::kept::Kept;
use super::{MetadataPatch, Scheduler, Status, Write, WriteError};
use crate::api::{
    self, Artifact, ArtifactStatus, Condition, ConditionStatus, Key, Kind, Object,
    WorkloadDeployment, names, set_condition,
};
use crate::breakage::Breakage;

/// What is known of one artifact.
#[derive(Debug)]
pub(super) struct ArtifactRecord {
    pub key: Key,
    pub kept: Kept<Artifact>,
}

impl Scheduler {
    /// The image behind an artifact that a deployment refers to, or what is missing.
    pub(super) fn artifact_url(
        &self,
        user: &WorkloadDeployment,
        name: &str,
    ) -> Result<String, String> {
        let key = Key::new(Kind::Artifact, user.metadata.namespace.as_str(), name);
        let record = self
            .artifacts
            .number(&key)
            .and_then(|number| self.artifacts.get(number));
        let object = record.and_then(|record| record.kept.object.as_ref());
        let object = object.ok_or_else(|| format!("there is no artifact {name:?}"))?;
        let status = object.status.as_ref();
        let published = status.filter(|status| {
            !status.artifact_url.is_empty()
                && api::is_true(&status.conditions, names::artifact::PUBLISHED)
        });
        let published =
            published.ok_or_else(|| format!("artifact {name:?} is not published yet"))?;
        Ok(published.artifact_url.clone())
    }

    pub(super) fn apply_artifact(&mut self, object: Arc<Artifact>) {
        let key = Object::Artifact(object.clone()).key();
        let number = self.artifacts.number(&key).unwrap_or_else(|| {
            let record = ArtifactRecord {
                key: key.clone(),
                kept: Kept::default(),
            };
            self.artifacts.insert(key.clone(), record)
        });
        let Some(record) = self.artifacts.get_mut(number) else {
            return;
        };
        if record.kept.accept(object, |artifact| &artifact.metadata) {
            self.agenda.look_at(Item::Artifact(number));
            self.users_changed(&key);
        }
    }

    pub(super) fn artifact_removed(&mut self, key: &Key) {
        if let Some(number) = self.artifacts.number(key) {
            self.artifacts.remove(key);
            self.agenda.look_again(Item::Artifact(number), None);
            self.users_changed(key);
        }
    }

    fn users_changed(&mut self, artifact: &Key) {
        for (number, deployment) in self.deployments.iter() {
            if deployment.key.namespace == artifact.namespace {
                self.agenda.look_at(Item::Deployment(number));
            }
        }
    }

    /// A deployment is gone: an artifact that is to be deleted may have been held by it.
    pub(super) fn look_at_artifacts(&mut self, namespace: &str) {
        for (number, artifact) in self.artifacts.iter() {
            if &*artifact.key.namespace == namespace {
                self.agenda.look_at(Item::Artifact(number));
            }
        }
    }

    pub(super) fn look_at_artifact(&mut self, number: u32) {
        let item = Item::Artifact(number);
        let Some(record) = self.artifacts.get(number) else {
            return;
        };
        if !record.kept.is_free(self.now) {
            return self.agenda.look_again(item, record.kept.free_at(self.now));
        }
        let Some(object) = record.kept.object.clone() else {
            return;
        };
        let (key, uid) = (record.key.clone(), object.metadata.uid.clone());
        let finalizer = match Breakage::FinalizersOfItsOwn.is_on() {
            true => "berth.dev/artifact",
            false => names::ARTIFACT_FINALIZER,
        };
        let finalized = object.metadata.has_finalizer(finalizer);
        let mut patch = MetadataPatch::default();
        if object.metadata.is_deleting() {
            if finalized && !self.is_used(&key) {
                patch.remove_finalizer = Some(finalizer);
                self.write(item, Write::Metadata { key, uid, patch });
            }
        } else if !finalized {
            patch.add_finalizer = Some(finalizer);
            self.write(item, Write::Metadata { key, uid, patch });
        } else if let Some(status) = self.wanted_artifact_status(&object) {
            let status = Status::Artifact(status);
            self.write(item, Write::status(key, uid, status));
        }
    }

    fn is_used(&self, artifact: &Key) -> bool {
        let mut deployments = self.deployments.iter();
        !Breakage::ArtifactDeletedInUse.is_on()
            && deployments.any(|(_, deployment)| deployment.uses(artifact))
    }

    fn wanted_artifact_status(&self, object: &Artifact) -> Option<ArtifactStatus> {
        let before = object.status.clone().unwrap_or_default();
        let mut status = before.clone();
        let generation = object.metadata.generation;
        status.observed_generation = generation;
        status.artifact_url.clone_from(&object.spec.image);
        let (holds, reason, message) = match object.spec.image.is_empty() {
            false => (ConditionStatus::True, "Available", ""),
            true => (ConditionStatus::False, "Invalid", "image is empty"),
        };
        let aspects = [
            names::artifact::SYNC,
            names::artifact::PUBLISHED,
            names::artifact::READY,
        ];
        for aspect in aspects {
            let mut condition = Condition::new(aspect, holds, reason, message);
            condition.observed_generation = generation;
            set_condition(&mut status.conditions, condition, self.timestamp());
        }
        (status != before).then_some(status)
    }

    pub(super) fn artifact_written(
        &mut self,
        number: u32,
        result: Result<Arc<Artifact>, WriteError>,
    ) {
        let (now, retry) = (self.now, self.options.timings.write_retry);
        let Some(record) = self.artifacts.get_mut(number) else {
            return;
        };
        record.kept.end(now, retry, result.as_ref().err());
        let key = record.key.clone();
        match result {
            Ok(object) => self.apply_artifact(object),
            Err(WriteError::NotFound) => self.artifact_removed(&key),
            Err(_) => {}
        }
        self.agenda.look_at(Item::Artifact(number));
    }
}
