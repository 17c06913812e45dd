//! Objects that users apply.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_scheduler::api::{
    self, Metadata, Object, WorkloadComponent, WorkloadDeployment, WorkloadDeploymentSpec,
    WorkloadSpec, WorkloadTemplate,
};

/// The `deployPolicy` of a deployment that specifies none.
pub const DEFAULT_POLICY: &str = "";

pub fn spec(image: &str) -> WorkloadSpec {
    WorkloadSpec {
        host_selector: BTreeMap::from([("hostgroup".to_owned(), "default".to_owned())]),
        components: vec![WorkloadComponent {
            name: "hello".to_owned(),
            image: image.to_owned(),
            ..WorkloadComponent::default()
        }],
        ..WorkloadSpec::default()
    }
}

pub fn deployment(name: &str, replicas: i32, image: &str) -> Object {
    deployment_with(name, replicas, DEFAULT_POLICY, spec(image))
}

pub fn deployment_with(
    name: &str,
    replicas: i32,
    deploy_policy: &str,
    spec: WorkloadSpec,
) -> Object {
    Object::Deployment(Arc::new(WorkloadDeployment {
        metadata: Metadata::named("demo", name),
        spec: WorkloadDeploymentSpec {
            replicas: Some(replicas),
            deploy_policy: deploy_policy.to_owned(),
            template: WorkloadTemplate {
                spec,
                ..WorkloadTemplate::default()
            },
            ..WorkloadDeploymentSpec::default()
        },
        ..WorkloadDeployment::default()
    }))
}

pub fn workload(name: &str, spec: WorkloadSpec) -> Object {
    Object::Workload(Arc::new(api::Workload {
        metadata: Metadata::named("demo", name),
        spec,
        ..api::Workload::default()
    }))
}
