//! What checks of images have in common: starts that pull, and registries of a check's own.

use std::time::Duration;

use crate::check::outcome::Blocked;
use crate::host::context::{CheckContext, Image, Workload};
use crate::spec::deadlines;
use crate::spec::requirements::Requirement;
use crate::spec::roles::Role;
use crate::testbed::registry::{Behaviour, Credentials, Demand, Pushed, Registry, Request};
use crate::wire::response::{Response, State};

pub(super) fn idle<'c>(cx: &'c CheckContext, image: impl Image) -> Workload<'c> {
    cx.workload().component(image)
}

/// A registry of the check's own, for what concerns a registry as a whole.
pub(super) async fn own_registry(demand: Demand) -> Result<Registry, Blocked> {
    Registry::start_private(demand)
        .await
        .map_err(|cause| Blocked::harness("a registry could not be opened", cause))
}

pub(super) fn credentials(cx: &CheckContext) -> Credentials {
    Credentials {
        user: "berth".to_owned(),
        password: format!("pw-{}-x7Q", cx.tag()),
    }
}

/// A slow repository: a start with it is at work for about that long.
pub(super) fn slow(cx: &CheckContext, name: &str, seconds: u64) -> Pushed {
    let behaviour = Behaviour::Slow {
        before_manifest: Duration::from_secs(seconds),
        blob_bytes_per_second: 1 << 20,
    };
    cx.push_as(name, Role::Idle, behaviour)
}

/// Claims that a start ends in ERROR, at once or after STARTING, and returns the answer that says so.
pub(super) async fn fails(
    cx: &CheckContext,
    requirement: Requirement,
    what: &str,
    id: &str,
    workload: &Workload<'_>,
) -> Result<Option<Response>, Blocked> {
    let start = cx.start(id, workload).await?;
    let what = format!("{what}: the start ends in ERROR");
    if start.state == State::Starting {
        let failed = cx.eventually(deadlines::PULL_BOUND, &what, || async {
            cx.status(id).await?.in_state(State::Error)
        });
        return Ok(cx.claim(requirement).met(failed.await));
    }
    let failed = start.state == State::Error && start.error_code != Some(409);
    let held = cx
        .claim(requirement)
        .about(&start)
        .holds(&what, failed, || start.to_string());
    Ok(held.then_some(start))
}

/// Claims that a start comes to run.
pub(super) async fn succeeds(
    cx: &CheckContext,
    requirement: Requirement,
    what: &str,
    id: &str,
    workload: &Workload<'_>,
) -> Result<bool, Blocked> {
    let start = cx.start(id, workload).await?;
    let what = format!("{what}: the workload comes to run");
    if start.state == State::Starting {
        return Ok(cx
            .claim(requirement)
            .met(cx.running(id, deadlines::LOOK).await)
            .is_some());
    }
    let running = start.state == State::Running;
    Ok(cx
        .claim(requirement)
        .about(&start)
        .holds(&what, running, || start.to_string()))
}

pub(super) fn layers_asked(log: &[Request], layer: &str) -> usize {
    log.iter()
        .filter(|request| request.is_blob() && request.path.ends_with(layer))
        .count()
}
