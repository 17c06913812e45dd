//! Starts one workload.

use std::sync::Arc;

use berth_proto::{
    ImagePullPolicy, ImagePullSecret, LocalResources, WitInterface, Workload as Spec,
};
use berth_sdk::host::StartRequest;
use futures_util::future::{try_join, try_join_all};
use tokio_util::sync::CancellationToken;

use super::Dependencies;
use super::start_failure::{Part, PartError, StartFailure};
use crate::config::Limits;
use crate::egress::Egress;
use crate::engine::{Handler, Linked, Runnable};
use crate::fault_injection::Breakage;
use crate::http_endpoint::{HttpEndpoint, HttpRoute};
use crate::image::{Credentials, PullPolicy, PullRequest};
use crate::ingress::declared_host_names;
use crate::restart::RestartBudget;
use crate::sandbox::{self, Sandbox};
use crate::service::Service;
use crate::volumes::Volumes;
use crate::workload::{Workload, WorkloadSlots};

/// Starts a workload: validates everything that does not need the images, then pulls and prepares
/// all parts concurrently, then opens the endpoint and starts the service.
///
/// Cancel safety: dropping the future releases everything. Pulls and compilations continue, and the
/// next start finds their results.
pub async fn start(
    dependencies: &Dependencies,
    slots: &WorkloadSlots,
    request: StartRequest,
) -> Result<Workload, StartFailure> {
    let StartRequest {
        id,
        workload: spec,
        reporter,
        ..
    } = request;
    let workloads_max = dependencies.limits.workloads_max;
    let slot = slots
        .reserve_slot(workloads_max)
        .ok_or(StartFailure::Full(workloads_max))?;
    let volumes = create_volumes(&spec, &dependencies.limits).await?;
    let declared: &[WitInterface] = spec
        .wit_world
        .as_ref()
        .map_or(&[], |world| &world.host_interfaces);
    let plan = plan(&spec, &id, &volumes, &dependencies.limits)?;
    let components = try_join_all(
        plan.components
            .iter()
            .map(|part| part.prepare(dependencies, declared)),
    );
    let service = prepare_service(dependencies, plan.service.as_ref(), declared);
    let (components, service) = try_join(components, service).await?;
    let slot = slot.with_components(components.len() as u64);

    inject_unused_interface_refusal(declared)?;
    let route = http_route(dependencies, components, declared, &spec.name)?;
    let endpoint = Arc::new(HttpEndpoint::new(route));
    let service = service.map(|(runnable, restarts)| {
        let endpoint = endpoint.clone();
        Service {
            runnable,
            restarts,
            reporter,
            endpoint,
            stopping: CancellationToken::new(),
        }
    });
    let guest_runtime = &dependencies.guest_runtime;
    Ok(Workload::start(
        endpoint,
        service,
        volumes,
        slot,
        guest_runtime,
    ))
}

/// A component or service before its image is pulled.
struct PartPlan {
    part: Part,
    pull: PullRequest,
    sandbox: Arc<Sandbox>,
}

struct WorkloadPlan {
    components: Vec<PartPlan>,
    service: Option<(PartPlan, RestartBudget)>,
}

fn plan(
    spec: &Spec,
    id: &str,
    volumes: &Volumes,
    limits: &Limits,
) -> Result<WorkloadPlan, StartFailure> {
    let world = spec.wit_world.as_ref();
    let components = world.map_or(&[][..], |world| &world.components);
    let plan_part = |name: String, label: String, image: &str, pull, resources| {
        let part = Part {
            label,
            image: image.to_owned(),
        };
        let sandbox = sandbox(spec, id, name, resources, volumes, limits).map_err(|source| {
            StartFailure::Part {
                part: part.clone(),
                source,
            }
        })?;
        Ok(PartPlan {
            part,
            pull,
            sandbox: Arc::new(sandbox),
        })
    };
    let components = components.iter().enumerate().map(|(index, component)| {
        let (name, label) = match component.name.as_str() {
            "" => (
                format!("component {}", index + 1),
                format!("component {}", index + 1),
            ),
            name => (
                name.to_owned(),
                format!("component `{}`", name.escape_debug()),
            ),
        };
        let secret = component.image_pull_secret.as_ref();
        let pull = pull_request(&component.image, component.image_pull_policy(), secret);
        plan_part(
            name,
            label,
            &component.image,
            pull,
            component.local_resources.as_ref(),
        )
    });
    let components = components.collect::<Result<_, StartFailure>>()?;
    let service = spec.service.as_ref().map(|service| {
        let secret = service.image_pull_secret.as_ref();
        let pull = pull_request(&service.image, service.image_pull_policy(), secret);
        let resources = service.local_resources.as_ref();
        let plan = plan_part(
            "service".into(),
            "the service".into(),
            &service.image,
            pull,
            resources,
        )?;
        // The SDK has refused values that do not fit (HOST-START-010).
        let restarts = u32::try_from(service.max_restarts).unwrap_or(u32::MAX);
        Ok((plan, RestartBudget::new(restarts)))
    });
    Ok(WorkloadPlan {
        components,
        service: service.transpose()?,
    })
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

impl PartPlan {
    async fn prepare(
        &self,
        dependencies: &Dependencies,
        declared: &[WitInterface],
    ) -> Result<Linked, StartFailure> {
        let failure = |source| StartFailure::Part {
            part: self.part.clone(),
            source,
        };
        let artifact = dependencies
            .images
            .pull(self.pull.clone())
            .await
            .map_err(|error| failure(PartError::Pull(error.into_cause())))?;
        let compiled = dependencies
            .engine
            .compile(&artifact.digest.to_string(), artifact.bytes.clone())
            .await
            .map_err(|error| failure(PartError::Compile(error)))?;
        dependencies
            .engine
            .link(&compiled, self.sandbox.clone(), declared)
            .map_err(|error| failure(PartError::Link(error)))
    }
}

async fn prepare_service(
    dependencies: &Dependencies,
    service: Option<&(PartPlan, RestartBudget)>,
    declared: &[WitInterface],
) -> Result<Option<(Runnable, RestartBudget)>, StartFailure> {
    let Some((plan, restarts)) = service else {
        return Ok(None);
    };
    let linked = plan.prepare(dependencies, declared).await?;
    let runnable = linked.into_runnable().map_err(|error| StartFailure::Part {
        part: plan.part.clone(),
        source: PartError::Link(error),
    })?;
    Ok(Some((runnable, restarts.clone())))
}

/// Returns the route to the first component that handles HTTP, if the workload declares an HTTP
/// handler (HOST-HTTP-012).
fn http_route(
    dependencies: &Dependencies,
    components: Vec<Linked>,
    declared: &[WitInterface],
    name: &str,
) -> Result<Option<HttpRoute>, StartFailure> {
    let Some(component) = components.into_iter().find(Linked::handles_http) else {
        return Ok(None);
    };
    let Some(declaration) = declared.iter().find(|declared| declares_handler(declared)) else {
        if Breakage::UndeclaredHandlerReachable.is_on() {
            return injected_undeclared_route(dependencies, component, declared, name);
        }
        return Ok(None);
    };
    let host_names = match declared_host_names(declaration) {
        Err(_) if Breakage::AcceptsInvalidHostName.is_on() => return Ok(None),
        Ok(names) if Breakage::NoAliases.is_on() => names.into_iter().take(1).collect(),
        names => names.map_err(StartFailure::HostName)?,
    };
    let ingress = dependencies
        .ingress
        .clone()
        .ok_or(StartFailure::NoIngress)?;
    Ok(Some(HttpRoute {
        ingress,
        host_names,
        handler: into_handler(component)?,
    }))
}

fn into_handler(component: Linked) -> Result<Handler, StartFailure> {
    // Cannot fail: the component was chosen because it has this export.
    component.into_handler().map_err(|_| StartFailure::Internal)
}

fn declares_handler(declared: &WitInterface) -> bool {
    declared.namespace == "wasi"
        && declared.package == "http"
        && declared
            .interfaces
            .iter()
            .any(|interface| interface == "incoming-handler")
}

/// Injected fault: routes requests to an undeclared handler, under the host names of every declared
/// interface and under the name of the workload.
fn injected_undeclared_route(
    dependencies: &Dependencies,
    component: Linked,
    declared: &[WitInterface],
    name: &str,
) -> Result<Option<HttpRoute>, StartFailure> {
    let mut host_names: Vec<String> = declared
        .iter()
        .filter_map(|declared| declared_host_names(declared).ok())
        .flatten()
        .collect();
    host_names.push(name.to_ascii_lowercase());
    let ingress = dependencies
        .ingress
        .clone()
        .ok_or(StartFailure::NoIngress)?;
    Ok(Some(HttpRoute {
        ingress,
        host_names,
        handler: into_handler(component)?,
    }))
}

/// Injected fault: refuses a workload that declares any interface besides the HTTP handler.
fn inject_unused_interface_refusal(declared: &[WitInterface]) -> Result<(), StartFailure> {
    let unused = Breakage::RefusesUnusedInterface.is_on()
        && declared.iter().any(|declared| !declares_handler(declared));
    if unused {
        Err(StartFailure::UnusedInterface)
    } else {
        Ok(())
    }
}

async fn create_volumes(spec: &Spec, limits: &Limits) -> Result<Volumes, StartFailure> {
    if spec.volumes.is_empty() {
        return Ok(Volumes::default());
    }
    let (volumes, allowed) = (spec.volumes.clone(), limits.allowed_host_paths.clone());
    tokio::task::spawn_blocking(move || Volumes::create(&volumes, allowed))
        .await
        .map_err(|_| StartFailure::Internal)?
        .map_err(StartFailure::Volumes)
}
