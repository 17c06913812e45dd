//! The template of a deployment with its artifacts resolved, and the replica set that is created
//! from it.

use crate::api::{
    Kind, Metadata, OwnerReference, WorkloadDeployment, WorkloadReplicaSet, WorkloadReplicaSetSpec,
    WorkloadTemplate, names,
};
use crate::core::Scheduler;
use crate::core::replica_set::{SET_NAME_BYTES_MAX, child_name, deployment_label, name_suffix};

/// Prefix of an image that refers to an artifact.
const ARTIFACT_SCHEME: &str = "artifact://";

/// Prefix of the annotations that are reserved for the scheduler and its stores.
const RESERVED_ANNOTATION_PREFIX: &str = "berth.dev/";

impl Scheduler {
    /// Returns the template with the image of each artifact that it refers to.
    ///
    /// # Errors
    ///
    /// Returns a description of the first artifact that is missing or not published.
    pub(super) fn resolve_template(
        &self,
        object: &WorkloadDeployment,
    ) -> Result<WorkloadTemplate, String> {
        let mut template = object.spec.template.clone();
        if object.spec.kubernetes.is_some() {
            template.spec.kubernetes.clone_from(&object.spec.kubernetes);
        }
        // A declared artifact must exist even if no image refers to it.
        for artifact in &object.spec.artifacts {
            self.resolve_artifact(object, &artifact.artifact_from.name)?;
        }
        let service = template
            .spec
            .service
            .iter_mut()
            .map(|service| &mut service.image);
        let components = template.spec.components.iter_mut();
        for image in components
            .map(|component| &mut component.image)
            .chain(service)
        {
            if let Some(name) = image.strip_prefix(ARTIFACT_SCHEME) {
                let artifact = object
                    .spec
                    .artifacts
                    .iter()
                    .find(|artifact| artifact.name == name);
                let artifact =
                    artifact.ok_or_else(|| format!("artifact {name:?} is not declared"))?;
                *image = self.resolve_artifact(object, &artifact.artifact_from.name)?;
            }
        }
        Ok(template)
    }

    /// Returns a replica set with an unused name for this revision of a deployment.
    pub(super) fn new_set(
        &self,
        object: &WorkloadDeployment,
        template: WorkloadTemplate,
        revision: &str,
        replicas: u32,
    ) -> WorkloadReplicaSet {
        let (namespace, name) = (&object.metadata.namespace, &object.metadata.name);
        let mut attempt = 0;
        let name = loop {
            let suffix = name_suffix(&[&object.metadata.uid, revision], attempt);
            let name = child_name(name, &suffix, SET_NAME_BYTES_MAX);
            let key =
                crate::api::Key::new(Kind::WorkloadReplicaSet, namespace.as_str(), name.as_str());
            if self.sets.index(&key).is_none() {
                break name;
            }
            attempt += 1;
        };
        let mut metadata = Metadata::named(namespace.as_str(), name);
        metadata.labels.clone_from(&object.metadata.labels);
        let (name, label) = deployment_label(&object.metadata.name);
        let is_shortened = label != object.metadata.name;
        metadata.labels.insert(name, label);
        let annotations = object.metadata.annotations.iter();
        // Reserved annotations describe the deployment itself, for example the location of its
        // manifest.
        let annotations =
            annotations.filter(|(name, _)| !name.starts_with(RESERVED_ANNOTATION_PREFIX));
        metadata.annotations = annotations
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if is_shortened {
            let name = names::DEPLOYMENT_ANNOTATION.to_owned();
            let whole_name = object.metadata.name.clone();
            metadata.annotations.insert(name, whole_name);
        }
        let owner = OwnerReference::controller(Kind::WorkloadDeployment, &object.metadata);
        metadata.owner_references = vec![owner];
        WorkloadReplicaSet {
            metadata,
            spec: WorkloadReplicaSetSpec {
                replicas: i32::try_from(replicas).ok(),
                template,
                ..WorkloadReplicaSetSpec::default()
            },
            ..WorkloadReplicaSet::default()
        }
    }
}
