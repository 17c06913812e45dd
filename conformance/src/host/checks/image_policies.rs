//! Checks of the pull policies ALWAYS, IF_NOT_PRESENT and NEVER.

use std::time::Duration;

use futures_util::future::try_join_all;

use super::image_support::{
    claim_becomes_running, claim_start_fails, credentials, idle_workload, private_registry,
    start_and_wait_for_failure,
};
use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::registry::{RepositoryBehavior, RequiredAuth};
use crate::wire::response::State;

/// Checks of the section `images` about pull policies.
pub const CHECKS: &[Check] = &[
    check! {
        id: "images/policy-always", run: always_for_services, covers: [HOST_IMG_011],
        host: Shared, roles: [ServiceOk, ServiceErr], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "images/policy-always-for-components", run: always_for_components,
        covers: [HOST_IMG_011], host: Shared, roles: [CoreModule, Idle], needs: [Registry],
        budget_s: 120, slow: false,
    },
    check! {
        id: "images/policy-if-not-present", run: if_not_present, covers: [HOST_IMG_012],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "images/policy-never", run: never, covers: [HOST_IMG_013, HOST_IMG_014],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "images/policy-of-each-image", run: policy_of_each_image,
        covers: [HOST_IMG_013, HOST_IMG_014], host: Shared, roles: [Idle, ServiceRun],
        needs: [Registry], budget_s: 120, slow: false,
    },
];

/// Time for which a host must keep an image that a workload runs.
const TIME_IN_USE: Duration = Duration::from_secs(8);

/// With the policy ALWAYS, a start runs the image to which the tag has moved.
async fn always_for_services(cx: &CheckContext) -> Flow {
    let (repository, beacon) = (cx.repository("moving"), cx.beacon());
    let pushed = cx
        .registry()
        .push(&repository, "v1", cx.artifact(Role::ServiceOk));
    let workload = cx
        .workload()
        .service(&pushed)
        .beacon(&beacon)
        .pull_policy("ALWAYS");
    let first = cx.id("first");
    cx.start(&first, &workload).await?;
    cx.wait_for_state(&first, State::Completed, deadlines::DEFAULT_WAIT)
        .await
        .or_blocked(cx, HOST_SVC_001)?;

    let requests = || {
        let log = cx.registry().log(&repository);
        log.iter().filter(|request| request.is_manifest()).count()
    };
    let before = requests();
    cx.registry()
        .push(&repository, "v1", cx.artifact(Role::ServiceErr));
    let second = cx.id("second");
    cx.start(&second, &workload).await?;
    let ended = cx.eventually(
        deadlines::DEFAULT_WAIT,
        "the second service ends",
        || async {
            let status = cx.status(&second).await?;
            match status.state {
                State::Completed | State::Error => Ok(status.state),
                _ => Err(status.to_string()),
            }
        },
    );
    if let Some(state) = cx.claim(HOST_IMG_011).met(ended.await) {
        let description =
            "final state of the second service (COMPLETED means that the old image ran)";
        cx.claim(HOST_IMG_011).is(description, state, State::Error);
    }
    let after = requests();
    let description = "the host requests the manifest again";
    cx.claim(HOST_IMG_011)
        .holds(description, after > before, || {
            format!("{before} manifest requests before the second start, {after} after it")
        });
    Ok(())
}

/// With the policy ALWAYS, a start runs an image that was pushed after an earlier start had failed,
/// and does not run an image from which the tag has moved away.
async fn always_for_components(cx: &CheckContext) -> Flow {
    let (registry, repository) = (cx.registry(), cx.repository("moving"));
    let reference = registry.reference(&repository, "v1");
    let workload = idle_workload(cx, reference.clone()).pull_policy("ALWAYS");
    start_and_wait_for_failure(cx, &cx.id("absent"), &workload).await?;

    registry.push(&repository, "v1", cx.artifact(Role::Idle));
    let image = "an image that was missing before";
    claim_becomes_running(cx, HOST_IMG_011, image, &cx.id("pushed"), &workload).await?;

    registry.push(&repository, "v1", cx.artifact(Role::CoreModule));
    let image = "a tag that has moved to an image that cannot run";
    claim_start_fails(cx, HOST_IMG_011, image, &cx.id("moved"), &workload).await?;
    let second = idle_workload(cx, &cx.push(Role::Idle))
        .pull_policy("IF_NOT_PRESENT")
        .component(reference)
        .pull_policy("ALWAYS");
    let image = "such a tag for the second component";
    claim_start_fails(cx, HOST_IMG_011, image, &cx.id("second"), &second).await?;
    Ok(())
}

/// With the policy IF_NOT_PRESENT, images that were pulled by tag and by digest start without the
/// registry, also some time after the pull.
async fn if_not_present(cx: &CheckContext) -> Flow {
    let registry = private_registry(RequiredAuth::None).await?;
    let pushed = registry.push("here/idle", "v1", cx.artifact(Role::Idle));
    let references = [
        ("tag", pushed.reference),
        ("digest", pushed.digest_reference),
    ];
    for (name, reference) in &references {
        let id = cx.id(&format!("{name}-with-registry"));
        cx.start_and_wait(&id, &idle_workload(cx, reference.clone()))
            .await?;
    }
    registry.go_offline();
    for time in ["soon", "later"] {
        for (name, reference) in &references {
            let image = format!("IF_NOT_PRESENT by {name} without the registry ({time})");
            let workload = idle_workload(cx, reference.clone()).pull_policy("IF_NOT_PRESENT");
            let id = cx.id(&format!("{name}-{time}"));
            claim_becomes_running(cx, HOST_IMG_012, &image, &id, &workload).await?;
        }
        if time == "soon" {
            let id = cx.id("tag-soon");
            let running = cx.consistently(TIME_IN_USE, "the workload stays RUNNING", || async {
                cx.status(&id).await?.in_state(State::Running)
            });
            cx.claim(HOST_IMG_012).met(running.await);
        }
    }
    Ok(())
}

/// With the policy NEVER, only cached images start, and the host sends no request to the registry.
async fn never(cx: &CheckContext) -> Flow {
    let account = credentials(cx);
    // A registry of its own, whose requests for `/v2/` are not those of other checks.
    let registry = private_registry(RequiredAuth::None).await?;
    let absent = registry.push("absent", "v1", cx.artifact(Role::Idle));
    let workload = idle_workload(cx, &absent).pull_policy("NEVER");
    let image = "NEVER with an image that is not cached";
    claim_start_fails(cx, HOST_IMG_014, image, &cx.id("absent"), &workload).await?;
    cx.claim(HOST_IMG_013).is(
        "number of registry requests for an image that is not cached",
        registry.request_count(),
        0,
    );

    let present = registry.push("present", "v1", cx.artifact(Role::Idle));
    cx.start_and_wait(&cx.id("present"), &idle_workload(cx, &present))
        .await?;
    let before = registry.request_count();
    let workload = idle_workload(cx, &present).pull_policy("NEVER");
    let with_secret = workload
        .clone()
        .pull_secret(&account.user, &account.password);
    let (cached, secret) = (cx.id("cached"), cx.id("secret"));
    let image = "NEVER with a cached image";
    claim_becomes_running(cx, HOST_IMG_014, image, &cached, &workload).await?;
    let image = "NEVER with a cached image and a pull secret";
    claim_becomes_running(cx, HOST_IMG_014, image, &secret, &with_secret).await?;
    for id in [cached, secret] {
        cx.stop(&id).await?;
        cx.wait_not_found(&id).await.or_blocked(cx, HOST_STOP_002)?;
    }
    let image = "NEVER with an image that another workload runs, after a workload with it stopped";
    claim_becomes_running(cx, HOST_IMG_014, image, &cx.id("again"), &workload).await?;
    cx.claim(HOST_IMG_013).is(
        "number of registry requests for a cached image",
        registry.request_count(),
        before,
    );
    Ok(())
}

/// NEVER applies to one image of a workload, whatever the policies of the others.
async fn policy_of_each_image(cx: &CheckContext) -> Flow {
    let present = cx.push(Role::Idle);
    let absent = |role| cx.push_as(&format!("absent-{role}"), role, RepositoryBehavior::Healthy);
    let (component, service) = (absent(Role::Idle), absent(Role::ServiceRun));
    let workloads = [
        (
            "first",
            idle_workload(cx, &component)
                .pull_policy("NEVER")
                .component(&present)
                .pull_policy("ALWAYS"),
        ),
        (
            "second",
            idle_workload(cx, &present)
                .pull_policy("ALWAYS")
                .component(&component)
                .pull_policy("NEVER"),
        ),
        (
            "service",
            idle_workload(cx, &present)
                .pull_policy("ALWAYS")
                .service(&service)
                .pull_policy("NEVER"),
        ),
    ];
    let claims = workloads.map(|(name, workload)| async move {
        let image = format!("NEVER with an image that is not cached ({name} image)");
        claim_start_fails(cx, HOST_IMG_014, &image, &cx.id(name), &workload).await
    });
    try_join_all(claims).await?;
    for role in [Role::Idle, Role::ServiceRun] {
        let requests = cx.registry().log(&cx.repository(&format!("absent-{role}")));
        cx.claim(HOST_IMG_013).is(
            "number of registry requests for the image with NEVER",
            requests.len(),
            0,
        );
    }
    Ok(())
}
