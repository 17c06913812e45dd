//! Brings one workload up.

use std::sync::Arc;

use berth_proto::{
    ImagePullPolicy, ImagePullSecret, LocalResources, WitInterface, Workload as Spec,
};
use berth_sdk::host::Start;
use futures_util::future::{try_join, try_join_all};

use super::Parts;
use super::refusal::{Part, PartError, StartError};
use crate::breakage::Breakage;
use crate::components::{Components, Front};
use crate::config::Limits;
use crate::egress::Egress;
use crate::engine::{Handler, Prepared, Runnable};
use crate::image::{Credentials, PullPolicy, PullRequest};
use crate::ingress::declared_hosts;
use crate::restart::Restarts;
use crate::sandbox::{self, Sandbox};
use crate::service::Service;
use crate::volumes::Volumes;
use crate::workload::{Running, Workload};

/// Checks what can be checked without the images, then pulls and prepares all parts at once, then
/// lets the workload begin.
///
/// Cancel safety: dropping the future releases everything; pulls and compilations go on by
/// themselves and are found by the next start.
pub async fn start(parts: &Parts, running: &Running, start: Start) -> Result<Workload, StartError> {
    let Start {
        id,
        workload: spec,
        reporter,
        ..
    } = start;
    let workloads_max = parts.limits.workloads_max;
    let place = running
        .take_place(workloads_max)
        .ok_or(StartError::Full(workloads_max))?;
    let volumes = make_volumes(&spec).await?;
    let declared: &[WitInterface] = spec
        .wit_world
        .as_ref()
        .map_or(&[], |world| &world.host_interfaces);
    let sources = sources(&spec, &id, &volumes, &parts.limits)?;
    let components = try_join_all(
        sources
            .components
            .iter()
            .map(|it| it.prepare(parts, declared)),
    );
    let service = prepare_service(parts, sources.service.as_ref(), declared);
    let (components, service) = try_join(components, service).await?;
    let place = place.with_components(components.len() as u64);

    refuse_unused(declared)?;
    let front = front(parts, components, declared, &spec.name)?;
    let components = Arc::new(Components::new(front));
    let service = service.map(|(runnable, restarts)| {
        let components = components.clone();
        Service {
            runnable,
            restarts,
            reporter,
            components,
        }
    });
    Ok(Workload::begin(
        components,
        service,
        volumes,
        place,
        &parts.guests,
    ))
}

/// One component or service, with everything that is known before its image is.
struct Source {
    part: Part,
    pull: PullRequest,
    sandbox: Arc<Sandbox>,
}

struct Sources {
    components: Vec<Source>,
    service: Option<(Source, Restarts)>,
}

fn sources(
    spec: &Spec,
    id: &str,
    volumes: &Volumes,
    limits: &Limits,
) -> Result<Sources, StartError> {
    let world = spec.wit_world.as_ref();
    let components = world.map_or(&[][..], |world| &world.components);
    let source = |name: String, what: String, image: &str, pull, resources| {
        let part = Part {
            what,
            image: image.to_owned(),
        };
        let sandbox = sandbox(spec, id, name, resources, volumes, limits).map_err(|source| {
            StartError::Part {
                part: part.clone(),
                source,
            }
        })?;
        Ok(Source {
            part,
            pull,
            sandbox: Arc::new(sandbox),
        })
    };
    let components = components.iter().enumerate().map(|(index, component)| {
        let (name, what) = match component.name.as_str() {
            "" => (
                format!("component {}", index + 1),
                format!("component {}", index + 1),
            ),
            name => (
                name.to_owned(),
                format!("component '{}'", name.escape_debug()),
            ),
        };
        let secret = component.image_pull_secret.as_ref();
        let pull = pull_request(&component.image, component.image_pull_policy(), secret);
        source(
            name,
            what,
            &component.image,
            pull,
            component.local_resources.as_ref(),
        )
    });
    let components = components.collect::<Result<_, StartError>>()?;
    let service = spec.service.as_ref().map(|service| {
        let secret = service.image_pull_secret.as_ref();
        let pull = pull_request(&service.image, service.image_pull_policy(), secret);
        let resources = service.local_resources.as_ref();
        let source = source(
            "service".into(),
            "service".into(),
            &service.image,
            pull,
            resources,
        )?;
        // What does not fit is refused before it comes here (HOST-START-010).
        let restarts = u32::try_from(service.max_restarts).unwrap_or(u32::MAX);
        Ok((source, Restarts::new(restarts)))
    });
    Ok(Sources {
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
    let egress = match Egress::read(resources) {
        Err(_) if Breakage::AcceptsMalformedAllowList.is_on() => Egress::default(),
        read => read.map_err(PartError::Egress)?,
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
            ImagePullPolicy::IfNotPresent | ImagePullPolicy::Unspecified => {
                PullPolicy::IfNotPresent
            }
        },
        credentials: secret.map(|secret| Credentials {
            username: secret.username.clone(),
            password: secret.password.clone(),
        }),
    }
}

impl Source {
    async fn prepare(
        &self,
        parts: &Parts,
        declared: &[WitInterface],
    ) -> Result<Prepared, StartError> {
        let in_part = |source| StartError::Part {
            part: self.part.clone(),
            source,
        };
        let artifact = parts
            .images
            .pull(self.pull.clone())
            .await
            .map_err(|error| in_part(PartError::Pull(error.into_cause())))?;
        let compiled = parts
            .engine
            .compile(&artifact.digest.to_string(), artifact.bytes.clone())
            .await
            .map_err(|error| in_part(PartError::Compile(error)))?;
        parts
            .engine
            .prepare(&compiled, self.sandbox.clone(), declared)
            .map_err(|error| in_part(PartError::Prepare(error)))
    }
}

async fn prepare_service(
    parts: &Parts,
    service: Option<&(Source, Restarts)>,
    declared: &[WitInterface],
) -> Result<Option<(Runnable, Restarts)>, StartError> {
    let Some((source, restarts)) = service else {
        return Ok(None);
    };
    let prepared = source.prepare(parts, declared).await?;
    let runnable = prepared.into_runnable().map_err(|error| StartError::Part {
        part: source.part.clone(),
        source: PartError::Prepare(error),
    })?;
    Ok(Some((runnable, restarts.clone())))
}

/// What requests meet: the first component that handles HTTP, if the workload declares that one
/// does (HOST-HTTP-012).
fn front(
    parts: &Parts,
    components: Vec<Prepared>,
    declared: &[WitInterface],
    name: &str,
) -> Result<Option<Front>, StartError> {
    let Some(component) = components.into_iter().find(Prepared::handles_http) else {
        return Ok(None);
    };
    let Some(declaration) = declared.iter().find(|declared| declares_handler(declared)) else {
        if Breakage::UndeclaredHandlerReachable.is_on() {
            return undeclared_front(parts, component, declared, name);
        }
        return Ok(None);
    };
    let hosts = match declared_hosts(declaration) {
        Err(_) if Breakage::AcceptsBadHost.is_on() => return Ok(None),
        Ok(hosts) if Breakage::NoAliases.is_on() => hosts.into_iter().take(1).collect(),
        hosts => hosts.map_err(StartError::Host)?,
    };
    let ingress = parts.ingress.clone().ok_or(StartError::NoIngress)?;
    Ok(Some(Front {
        ingress,
        hosts,
        handler: into_handler(component)?,
    }))
}

fn into_handler(component: Prepared) -> Result<Handler, StartError> {
    // It was found by the export that is asked for here.
    component.into_handler().map_err(|_| StartError::Internal)
}

fn declares_handler(declared: &WitInterface) -> bool {
    declared.namespace == "wasi"
        && declared.package == "http"
        && declared
            .interfaces
            .iter()
            .any(|interface| interface == "incoming-handler")
}

/// Routes to a handler that was not declared, by whatever name the workload has.
fn undeclared_front(
    parts: &Parts,
    component: Prepared,
    declared: &[WitInterface],
    name: &str,
) -> Result<Option<Front>, StartError> {
    let mut hosts: Vec<String> = declared
        .iter()
        .filter_map(|declared| declared_hosts(declared).ok())
        .flatten()
        .collect();
    hosts.push(name.to_ascii_lowercase());
    let ingress = parts.ingress.clone().ok_or(StartError::NoIngress)?;
    Ok(Some(Front {
        ingress,
        hosts,
        handler: into_handler(component)?,
    }))
}

fn refuse_unused(declared: &[WitInterface]) -> Result<(), StartError> {
    let unused = Breakage::RefusesUnusedInterface.is_on()
        && declared.iter().any(|declared| !declares_handler(declared));
    if unused {
        Err(StartError::Unused)
    } else {
        Ok(())
    }
}

async fn make_volumes(spec: &Spec) -> Result<Volumes, StartError> {
    if spec.volumes.is_empty() {
        return Ok(Volumes::default());
    }
    let volumes = spec.volumes.clone();
    tokio::task::spawn_blocking(move || Volumes::make(&volumes))
        .await
        .map_err(|_| StartError::Internal)?
        .map_err(StartError::Volumes)
}
