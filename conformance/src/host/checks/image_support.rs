//! Shared parts of the image checks: starts that pull images, and private registries.

use std::time::Duration;

use hyper::Method;

use crate::check::outcome::Blocked;
use crate::check::wait::Waited;
use crate::host::context::{CheckContext, Image, Workload};
use crate::spec::deadlines;
use crate::spec::requirements::{HOST_IMG_003, HOST_START_001, Requirement};
use crate::spec::roles::Role;
use crate::testbed::registry::{
    Credentials, LoggedRequest, PushedImage, Registry, RepositoryBehavior, RequiredAuth,
};
use crate::wire::response::{Response, State};

/// Returns a workload with one component of this image.
pub(super) fn idle_workload<'c>(cx: &'c CheckContext, image: impl Image) -> Workload<'c> {
    cx.workload().component(image)
}

/// Starts a registry for one check, for settings that affect a whole registry.
pub(super) async fn private_registry(auth: RequiredAuth) -> Result<Registry, Blocked> {
    Registry::start_private(auth)
        .await
        .map_err(|cause| Blocked::harness("cannot start a registry", cause))
}

/// Returns credentials that only this check uses.
pub(super) fn credentials(cx: &CheckContext) -> Credentials {
    Credentials {
        user: "berth".to_owned(),
        password: format!("pw-{}-x7Q", cx.unique_name()),
    }
}

/// Pushes an image into a repository whose manifest takes `delay`, so that a start takes about as
/// long.
pub(super) fn push_slow(cx: &CheckContext, name: &str, delay: Duration) -> PushedImage {
    let behavior = RepositoryBehavior::Slow {
        before_manifest: delay,
        blob_bytes_per_second: 1 << 20,
    };
    cx.push_as(name, Role::Idle, behavior)
}

/// Records the claim that a start ends in ERROR, at once or after STARTING. Returns the response
/// with ERROR, or `None` if the claim does not hold.
pub(super) async fn claim_start_fails(
    cx: &CheckContext,
    requirement: Requirement,
    description: &str,
    id: &str,
    workload: &Workload<'_>,
) -> Result<Option<Response>, Blocked> {
    let start = cx.start(id, workload).await?;
    let description = format!("{description}: the start ends in ERROR");
    if start.state == State::Starting {
        let failed = cx.wait_failed(id, deadlines::PULL_TIMEOUT).await;
        let failed = Waited {
            description,
            ..failed
        };
        return Ok(cx.claim(requirement).met(failed));
    }
    // A code would mean that the request was refused.
    let failed = start.state == State::Error && start.error_code.is_none();
    let held = cx
        .claim(requirement)
        .about(&start)
        .holds(&description, failed, || start.to_string());
    Ok(held.then_some(start))
}

/// Starts a workload and records the claim that it becomes RUNNING. Returns whether the claim
/// holds.
pub(super) async fn claim_becomes_running(
    cx: &CheckContext,
    requirement: Requirement,
    description: &str,
    id: &str,
    workload: &Workload<'_>,
) -> Result<bool, Blocked> {
    let start = cx.start(id, workload).await?;
    let description = format!("{description}: the workload becomes RUNNING");
    if start.state == State::Starting {
        return Ok(cx
            .claim(requirement)
            .met(cx.wait_running(id, deadlines::DEFAULT_WAIT).await)
            .is_some());
    }
    let running = start.state == State::Running;
    Ok(cx
        .claim(requirement)
        .about(&start)
        .holds(&description, running, || start.to_string()))
}

/// Counts the downloads of a layer in a request log.
pub(super) fn layer_downloads(log: &[LoggedRequest], layer: &str) -> usize {
    log.iter()
        .filter(|request| request.method == Method::GET)
        .filter(|request| request.is_blob() && request.path.ends_with(layer))
        .count()
}

/// Records the claim that the host downloaded the layer of an image at most once. A host that has
/// the layer from another repository does not download it.
pub(super) fn claim_one_download(
    cx: &CheckContext,
    requirement: Requirement,
    name: &str,
    image: &PushedImage,
) {
    let log = cx.registry().log(&cx.repository(name));
    let downloads = layer_downloads(&log, &image.layer_digest);
    let description = "the host downloads the layer at most once for all starts";
    cx.claim(requirement)
        .holds(description, downloads <= 1, || {
            format!("{downloads} downloads")
        });
}

/// Waits until the host has sent a request to the check's repository `name`.
pub(super) async fn wait_for_pull(cx: &CheckContext, name: &str) -> Result<(), Blocked> {
    let requested = cx
        .registry()
        .wait(&cx.repository(name), deadlines::DEFAULT_WAIT.limit, |log| {
            !log.is_empty()
        })
        .await;
    requested
        .map(|_| ())
        .map_err(|_| cx.blocked(HOST_START_001, "a pull", &"no request to the registry"))
}

/// Starts a workload that cannot be started, and waits until the id is in ERROR.
pub(super) async fn start_and_wait_for_failure(
    cx: &CheckContext,
    id: &str,
    workload: &Workload<'_>,
) -> Result<Response, Blocked> {
    let start = cx.start(id, workload).await?;
    match (start.state.clone(), start.error_code) {
        (State::Starting, _) => cx
            .wait_failed(id, deadlines::PULL_TIMEOUT)
            .await
            .or_blocked(cx, HOST_IMG_003),
        (State::Error, None) => Ok(start),
        _ => Err(cx.blocked(HOST_IMG_003, "a start that fails", &start)),
    }
}
