//! The template of a deployment with its artifacts in place, and the replica set that is made from it.

use crate::api::{
    Kind, Metadata, OwnerReference, WorkloadDeployment, WorkloadReplicaSet, WorkloadReplicaSetSpec,
    WorkloadTemplate, names,
};
use crate::core::Scheduler;
use crate::core::replica_set::suffix;

/// What an image begins with that is the name of an artifact.
const ARTIFACT_SCHEME: &str = "artifact://";

/// What the names of annotations begin with that the scheduler and its stores keep for themselves.
const OWN_ANNOTATIONS: &str = "berth.dev/";

impl Scheduler {
    /// The template as it is to run.
    ///
    /// # Errors
    ///
    /// What is missing, for people.
    pub(super) fn resolve_template(
        &self,
        object: &WorkloadDeployment,
    ) -> Result<WorkloadTemplate, String> {
        let mut template = object.spec.template.clone();
        if object.spec.kubernetes.is_some() {
            template.spec.kubernetes.clone_from(&object.spec.kubernetes);
        }
        for artifact in &object.spec.artifacts {
            self.artifact_url(object, &artifact.artifact_from.name)?;
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
                let known = object
                    .spec
                    .artifacts
                    .iter()
                    .find(|known| known.name == name);
                let known = known.ok_or_else(|| format!("artifact {name:?} is not declared"))?;
                *image = self.artifact_url(object, &known.artifact_from.name)?;
            }
        }
        Ok(template)
    }

    pub(super) fn new_set(
        &self,
        object: &WorkloadDeployment,
        template: WorkloadTemplate,
        revision: &str,
        replicas: u32,
    ) -> WorkloadReplicaSet {
        let (namespace, name) = (&object.metadata.namespace, &object.metadata.name);
        let mut number = 0;
        let name = loop {
            let name = format!(
                "{name}-{}",
                suffix(&[&object.metadata.uid, revision], number)
            );
            let key =
                crate::api::Key::new(Kind::WorkloadReplicaSet, namespace.as_str(), name.as_str());
            if self.sets.number(&key).is_none() {
                break name;
            }
            number += 1;
        };
        let mut metadata = Metadata::named(namespace.as_str(), name);
        metadata.labels.clone_from(&object.metadata.labels);
        let label = names::DEPLOYMENT_LABEL.to_owned();
        metadata.labels.insert(label, object.metadata.name.clone());
        let annotations = object.metadata.annotations.iter();
        // Those of ours say something of the deployment itself, such as where its manifest is.
        let annotations = annotations.filter(|(name, _)| !name.starts_with(OWN_ANNOTATIONS));
        metadata.annotations = annotations
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
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
