//! Starts one workload.

use std::sync::Arc;
use std::time::Duration;

use berth_proto::{WitInterface, Workload as Spec};
use berth_sdk::host::StartRequest;
use futures_util::future::{join, join_all};
use tokio_util::sync::CancellationToken;

use super::Dependencies;
use super::plan::{PartPlan, WorkloadPlan, plan};
use super::prepared::Prepared;
use super::route::http_route;
use super::start_failure::{PartError, StartFailure};
use crate::config::Limits;
use crate::declarations::{self, DeclarationError};
use crate::engine::Runnable;
use crate::fault_injection::Breakage;
use crate::http_endpoint::HttpEndpoint;
use crate::restart::RestartBudget;
use crate::service::Service;
use crate::volumes::Volumes;
use crate::workload::{Workload, WorkloadSlots};

/// Time after the first failed part of a workload in which failures of other parts are collected.
const FAILURE_SETTLE_TIME: Duration = Duration::from_secs(1);

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
    let declared: &[WitInterface] = spec
        .wit_world
        .as_ref()
        .map_or(&[], |world| &world.host_interfaces);
    let invalid = check_declarations(declared);
    let volumes = create_volumes(&spec, &dependencies.limits).await?;
    let plan = plan(&spec, &id, &volumes, &dependencies.limits, invalid)?;
    let (components, service) = prepare_all(dependencies, &plan, declared).await?;
    let slot = slot.with_components(components.len() as u64);

    inject_unused_interface_refusal(declared)?;
    let (route, notes) = http_route(dependencies, components, declared, &spec.name)?;
    let endpoint = Arc::new(HttpEndpoint::new(route));
    let service = match service {
        None => {
            reporter.running(with_notes("running", &notes));
            None
        }
        Some((runnable, restarts)) => Some(Service {
            runnable,
            restarts,
            reporter,
            running: with_notes("the service is running", &notes),
            endpoint: endpoint.clone(),
            stopping: CancellationToken::new(),
        }),
    };
    let guest_runtime = &dependencies.guest_runtime;
    Ok(Workload::start(
        endpoint,
        service,
        volumes,
        slot,
        guest_runtime,
    ))
}

fn with_notes(message: &str, notes: &[String]) -> String {
    std::iter::once(message)
        .chain(notes.iter().map(String::as_str))
        .collect::<Vec<_>>()
        .join("; ")
}

fn check_declarations(declared: &[WitInterface]) -> Vec<StartFailure> {
    let errors = declarations::check(declared).into_iter();
    errors
        .filter(|error| {
            let host_name = matches!(error, DeclarationError::HostName { .. });
            !(host_name && Breakage::AcceptsInvalidHostName.is_on())
        })
        .map(StartFailure::Declaration)
        .collect()
}

impl PartPlan {
    async fn prepare(
        &self,
        dependencies: &Dependencies,
        declared: &[WitInterface],
    ) -> Result<Prepared, StartFailure> {
        let failure = |source| StartFailure::of_part(self.part.clone(), source);
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
        let linked = dependencies
            .engine
            .link(&compiled, self.sandbox.clone(), declared)
            .map_err(|error| failure(PartError::Link(error)))?;
        Ok(Prepared {
            part: self.part.clone(),
            linked,
        })
    }
}

type PreparedService = Option<(Runnable, RestartBudget)>;

/// Prepares all parts concurrently. After the first failure, the other parts have a moment to fail
/// too, so that one reply names all problems.
async fn prepare_all(
    dependencies: &Dependencies,
    plan: &WorkloadPlan,
    declared: &[WitInterface],
) -> Result<(Vec<Prepared>, PreparedService), StartFailure> {
    let failed = CancellationToken::new();
    let settled = async || {
        failed.cancelled().await;
        tokio::time::sleep(FAILURE_SETTLE_TIME).await;
    };
    let components = plan.components.iter().map(async |part| {
        let prepared = part.prepare(dependencies, declared);
        first_of(prepared, settled(), &failed).await
    });
    let service = async {
        let prepared = prepare_service(dependencies, plan.service.as_ref(), declared);
        first_of(prepared, settled(), &failed).await
    };
    let (components, service) = join(join_all(components), service).await;
    let mut failures = Vec::new();
    let mut prepared = Vec::new();
    for component in components.into_iter().flatten() {
        match component {
            Ok(component) => prepared.push(component),
            Err(failure) => failures.push(failure),
        }
    }
    match service {
        Some(Ok(service)) if failures.is_empty() => return Ok((prepared, service)),
        Some(Err(failure)) => failures.push(failure),
        _ => {}
    }
    Err(failures.into())
}

/// Returns the result of `preparing`, or `None` if `settled` is first. A failure cancels `failed`.
async fn first_of<T>(
    preparing: impl Future<Output = Result<T, StartFailure>>,
    settled: impl Future<Output = ()>,
    failed: &CancellationToken,
) -> Option<Result<T, StartFailure>> {
    tokio::select! {
        result = preparing => {
            if result.is_err() {
                failed.cancel();
            }
            Some(result)
        }
        () = settled => None,
    }
}

async fn prepare_service(
    dependencies: &Dependencies,
    service: Option<&(PartPlan, RestartBudget)>,
    declared: &[WitInterface],
) -> Result<PreparedService, StartFailure> {
    let Some((plan, restarts)) = service else {
        return Ok(None);
    };
    let linked = plan.prepare(dependencies, declared).await?.linked;
    let runnable = linked
        .into_runnable()
        .map_err(|error| StartFailure::of_part(plan.part.clone(), PartError::Link(error)))?;
    Ok(Some((runnable, restarts.clone())))
}

/// Injected fault: refuses a workload that declares any interface besides the HTTP handler.
fn inject_unused_interface_refusal(declared: &[WitInterface]) -> Result<(), StartFailure> {
    let unused = Breakage::RefusesUnusedInterface.is_on()
        && declared
            .iter()
            .any(|declared| !declarations::declares_handler(declared));
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
