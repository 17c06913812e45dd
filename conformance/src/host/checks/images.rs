//! Image checks: failing registries, images that cannot run, and shared downloads.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use super::image_support::{
    claim_one_download, claim_start_fails, idle_workload, private_registry, push_slow,
    wait_for_pull,
};
use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::registry::{Artifact, RepositoryBehavior, RequiredAuth};
use crate::wire::response::State;

/// Checks of the section `images`.
pub const CHECKS: &[Check] = &[
    check! {
        id: "images/missing", run: missing, covers: [HOST_IMG_003], host: Shared, roles: [Idle],
        needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "images/unreachable", run: unreachable, covers: [HOST_IMG_004], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "images/not-runnable", run: not_runnable, covers: [HOST_IMG_005], host: Shared,
        roles: [CoreModule, Idle], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "images/hanging-head", run: hanging_head, covers: [HOST_IMG_007], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 130, slow: false,
    },
    check! {
        id: "images/hanging-manifest", run: hanging_manifest, covers: [HOST_IMG_007],
        host: Shared, roles: [Idle], needs: [Registry], waits_s: 30, budget_s: 130, slow: false,
    },
    check! {
        id: "images/hanging-blob", run: hanging_blob, covers: [HOST_IMG_007], host: Shared,
        roles: [Idle], needs: [Registry], waits_s: 30, budget_s: 130, slow: false,
    },
    check! {
        id: "images/single-download", run: single_download, covers: [HOST_IMG_010], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "images/pull-outlives-stop", run: pull_outlives_stop, covers: [HOST_IMG_019],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
];

/// A start with an unknown repository or tag ends in ERROR, whatever other images it has.
async fn missing(cx: &CheckContext) -> Flow {
    let missing = cx.push_as("gone", Role::Idle, RepositoryBehavior::NotFound);
    let present = cx.push(Role::Idle);
    let other_tag = present.reference.replace(":v1", ":v2");
    let starts = [
        ("an unknown repository", idle_workload(cx, &missing)),
        ("an unknown tag", idle_workload(cx, other_tag)),
        (
            "a missing image before another",
            idle_workload(cx, &missing).component(&present),
        ),
        (
            "a missing image after another",
            idle_workload(cx, &present).component(&missing),
        ),
        (
            "a missing image of a service",
            idle_workload(cx, &present).service(&missing),
        ),
    ];
    let claims = starts
        .into_iter()
        .enumerate()
        .map(|(number, (image, workload))| async move {
            let id = cx.id(&number.to_string());
            claim_start_fails(cx, HOST_IMG_003, image, &id, &workload).await
        });
    try_join_all(claims).await?;
    Ok(())
}

/// A start with a registry that refuses connections, closes them or returns 500 ends in ERROR.
async fn unreachable(cx: &CheckContext) -> Flow {
    let registry = private_registry(RequiredAuth::None).await?;
    let pushed = registry.push("gone/idle", "v1", cx.artifact(Role::Idle));
    let pulled = registry.push("pulled/idle", "v1", cx.artifact(Role::Idle));
    cx.start_and_wait(&cx.id("pulled"), &idle_workload(cx, &pulled))
        .await?;
    registry.go_offline();
    let closing = cx.push_as("closing", Role::Idle, RepositoryBehavior::CloseConnection);
    let broken = cx.push_as("broken", Role::Idle, RepositoryBehavior::ServerError);
    let kinds = [
        ("refuses connections", pushed, "IF_NOT_PRESENT"),
        (
            "refuses connections, although the host has the image, with ALWAYS",
            pulled,
            "ALWAYS",
        ),
        ("closes connections", closing, "IF_NOT_PRESENT"),
        ("returns 500", broken, "IF_NOT_PRESENT"),
    ];
    let starts =
        kinds
            .into_iter()
            .enumerate()
            .map(|(number, (fault, pushed, policy))| async move {
                let description = format!("a registry that {fault}");
                let workload = idle_workload(cx, &pushed).pull_policy(policy);
                let id = cx.id(&number.to_string());
                claim_start_fails(cx, HOST_IMG_004, &description, &id, &workload).await
            });
    try_join_all(starts).await?;
    Ok(())
}

/// An artifact that is not a component of the right media type is refused.
async fn not_runnable(cx: &CheckContext) -> Flow {
    let module = cx.push(Role::CoreModule);
    claim_start_fails(
        cx,
        HOST_IMG_005,
        "a core module instead of a component",
        &cx.id("core-module"),
        &idle_workload(cx, &module),
    )
    .await?;
    let artifact = cx.artifact(Role::Idle);
    let text = Artifact {
        bytes: "this is text, not a program".into(),
        ..artifact.clone()
    };
    let text = cx.registry().push(&cx.repository("text"), "v1", text);
    claim_start_fails(
        cx,
        HOST_IMG_005,
        "a layer of text",
        &cx.id("text"),
        &idle_workload(cx, &text),
    )
    .await?;
    let other = artifact.with_layer_media_type("application/vnd.oci.image.layer.v1.tar");
    let other = cx.registry().push(&cx.repository("media"), "v1", other);
    claim_start_fails(
        cx,
        HOST_IMG_005,
        "a layer of another media type",
        &cx.id("media"),
        &idle_workload(cx, &other),
    )
    .await?;
    let not_json = cx.push_as(
        "not-json",
        Role::Idle,
        RepositoryBehavior::TextInsteadOfJson,
    );
    claim_start_fails(
        cx,
        HOST_IMG_005,
        "text instead of a manifest",
        &cx.id("not-json"),
        &idle_workload(cx, &not_json),
    )
    .await?;
    Ok(())
}

/// Records the claim that a start with a hanging registry ends in ERROR within 60 s.
async fn claim_pull_times_out(
    cx: &CheckContext,
    description: &str,
    behavior: RepositoryBehavior,
) -> Flow {
    let pushed = cx.push_with(Role::Idle, behavior);
    let id = cx.id("a");
    let started_at = Instant::now();
    let workload = idle_workload(cx, &pushed).pull_policy("ALWAYS");
    let start = cx.start(&id, &workload).await?;
    if start.state == State::Running {
        // The host does not send the request that would hang, so the pull succeeds.
        cx.claim(HOST_IMG_007)
            .holds("the pull ends within 60 s", true, String::new);
        return Ok(());
    }
    let remaining = deadlines::PULL_TIMEOUT
        .limit
        .saturating_sub(started_at.elapsed());
    let description = format!("{description}: ERROR");
    let ended = cx.eventually(remaining, &description, || async {
        cx.status(&id).await?.in_state(State::Error)
    });
    cx.claim(HOST_IMG_007).met(ended.await);
    Ok(())
}

/// A pull times out if the registry never responds to HEAD.
async fn hanging_head(cx: &CheckContext) -> Flow {
    claim_pull_times_out(
        cx,
        "a HEAD request without a response",
        RepositoryBehavior::HangOnHead,
    )
    .await
}

/// A pull times out if the manifest never arrives.
async fn hanging_manifest(cx: &CheckContext) -> Flow {
    claim_pull_times_out(
        cx,
        "a manifest that never arrives",
        RepositoryBehavior::HangOnManifest,
    )
    .await
}

/// A pull times out if a layer stops in the middle.
async fn hanging_blob(cx: &CheckContext) -> Flow {
    claim_pull_times_out(
        cx,
        "a layer that stops in the middle",
        RepositoryBehavior::HangMidBlob,
    )
    .await
}

/// Eight overlapping starts of one image download its layer once.
async fn single_download(cx: &CheckContext) -> Flow {
    let pushed = push_slow(cx, "slow", Duration::from_secs(1));
    let ids: Vec<String> = (0..8).map(|index| cx.id(&index.to_string())).collect();
    let workload = idle_workload(cx, &pushed);
    let starts = ids.iter().map(|id| cx.start(id, &workload));
    try_join_all(starts).await?;
    for id in &ids {
        cx.wait_running(id, deadlines::DEFAULT_WAIT)
            .await
            .or_blocked(cx, HOST_START_001)?;
    }
    claim_one_download(cx, HOST_IMG_010, "slow", &pushed);
    Ok(())
}

/// A pull continues after its start was stopped, and a second start uses the pulled image.
async fn pull_outlives_stop(cx: &CheckContext) -> Flow {
    let pushed = push_slow(cx, "slow", Duration::from_secs(2));
    let (first, second) = (cx.id("first"), cx.id("second"));
    let start = cx
        .workload()
        .component(&pushed)
        .start_request(&first)
        .to_string();
    cx.publish_no_reply("workload.start", start).await?;
    wait_for_pull(cx, "slow").await?;
    cx.stop(&first).await?;
    cx.start_and_wait(&second, &idle_workload(cx, &pushed))
        .await?;
    claim_one_download(cx, HOST_IMG_019, "slow", &pushed);
    Ok(())
}
