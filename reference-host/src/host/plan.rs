//! The plan of a workload: its parts with their sandboxes, before their images are pulled.

use std::sync::Arc;

use berth_proto::{ImagePullPolicy, ImagePullSecret, LocalResources, Workload as Spec};

use super::start_failure::{Part, PartError, StartFailure};
use crate::config::Limits;
use crate::egress::Egress;
use crate::fault_injection::Breakage;
use crate::image::{Credentials, PullPolicy, PullRequest};
use crate::restart::RestartBudget;
use crate::sandbox::{self, Sandbox};
use crate::volumes::Volumes;

/// A component or service before its image is pulled.
pub(super) struct PartPlan {
    pub part: Part,
    pub pull: PullRequest,
    pub sandbox: Arc<Sandbox>,
}

/// The parts of a workload.
pub(super) struct WorkloadPlan {
    pub components: Vec<PartPlan>,
    pub service: Option<(PartPlan, RestartBudget)>,
}

/// Plans all parts, and returns every problem that does not need the images, after the problems
/// `found` before.
pub(super) fn plan(
    spec: &Spec,
    id: &str,
    volumes: &Volumes,
    limits: &Limits,
    mut found: Vec<StartFailure>,
) -> Result<WorkloadPlan, StartFailure> {
    let world = spec.wit_world.as_ref();
    let mut plan_part = |name: &str, label: String, image: &str, pull, resources| {
        let part = Part {
            label,
            image: image.to_owned(),
        };
        match sandbox(spec, id, name.to_owned(), resources, volumes, limits) {
            Ok(sandbox) => Some(PartPlan {
                part,
                pull,
                sandbox: Arc::new(sandbox),
            }),
            Err(source) => {
                found.push(StartFailure::of_part(part, source));
                None
            }
        }
    };
    let mut components = Vec::new();
    for (index, component) in world.iter().flat_map(|world| &world.components).enumerate() {
        let unnamed = format!("component {}", index + 1);
        let (name, label) = match component.name.as_str() {
            "" => (unnamed.as_str(), unnamed.clone()),
            name => (name, format!("component `{}`", name.escape_debug())),
        };
        let secret = component.image_pull_secret.as_ref();
        let pull = pull_request(&component.image, component.image_pull_policy(), secret);
        let resources = component.local_resources.as_ref();
        components.extend(plan_part(name, label, &component.image, pull, resources));
    }
    let service = spec.service.as_ref().and_then(|service| {
        let secret = service.image_pull_secret.as_ref();
        let pull = pull_request(&service.image, service.image_pull_policy(), secret);
        let resources = service.local_resources.as_ref();
        let label = "the service".to_owned();
        let plan = plan_part("service", label, &service.image, pull, resources)?;
        // The SDK has refused values that do not fit (HOST-START-010).
        let restarts = u32::try_from(service.max_restarts).unwrap_or(u32::MAX);
        Some((plan, RestartBudget::new(restarts)))
    });
    if found.is_empty() {
        Ok(WorkloadPlan {
            components,
            service,
        })
    } else {
        Err(found.into())
    }
}

fn sandbox(
    spec: &Spec,
    id: &str,
    name: String,
    resources: Option<&LocalResources>,
    volumes: &Volumes,
    limits: &Limits,
) -> Result<Sandbox, PartError> {
    let unset = LocalResources::default();
    let resources = resources.unwrap_or(&unset);
    let egress = match Egress::parse(resources) {
        Err(_) if Breakage::AcceptsMalformedAllowList.is_on() => Egress::default(),
        parsed => parsed.map_err(PartError::Egress)?,
    };
    Ok(Sandbox {
        workload_id: id.into(),
        namespace: spec.namespace.as_str().into(),
        component: name.into(),
        environment: sandbox::environment(resources),
        config: Arc::new(resources.config.clone()),
        mounts: volumes.mounts(&resources.volume_mounts)?,
        egress: Arc::new(egress),
        memory_limit_bytes: sandbox::memory_limit_bytes(resources, limits),
    })
}

fn pull_request(
    image: &str,
    policy: ImagePullPolicy,
    secret: Option<&ImagePullSecret>,
) -> PullRequest {
    PullRequest {
        reference: image.to_owned(),
        policy: match policy {
            ImagePullPolicy::Always => PullPolicy::Always,
            ImagePullPolicy::Never => PullPolicy::Never,
            ImagePullPolicy::IfNotPresent => PullPolicy::IfNotPresent,
            ImagePullPolicy::Unspecified => PullPolicy::Unset,
        },
        credentials: secret.map(|secret| Credentials {
            username: secret.username.clone(),
            password: secret.password.clone(),
        }),
    }
}
