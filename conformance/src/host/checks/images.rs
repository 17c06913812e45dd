//! Image checks: pulls, invalid images, failing registries and pull policies.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use super::image_support::{
    claim_becomes_running, claim_start_fails, idle_workload, layer_requests, private_registry,
    push_slow,
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
        id: "images/tag-and-digest", run: tag_and_digest, covers: [HOST_IMG_001],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "images/digest-mismatch", run: digest_mismatch, covers: [HOST_IMG_002], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 120, slow: false,
    },
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
        id: "images/invalid-references", run: invalid_references, covers: [HOST_IMG_006],
        host: Shared, roles: [], needs: [Registry], budget_s: 90, slow: false,
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
        id: "images/oversized", run: oversized, covers: [HOST_IMG_008], host: Own, roles: [Idle],
        needs: [Registry], budget_s: 180, slow: false,
    },
    check! {
        id: "images/truncated", run: truncated, covers: [HOST_IMG_009], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "images/single-download", run: single_download, covers: [HOST_IMG_010], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "images/policy-always", run: policy_always, covers: [HOST_IMG_011], host: Shared,
        roles: [ServiceOk, ServiceErr], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "images/policy-if-not-present", run: policy_if_not_present, covers: [HOST_IMG_012],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "images/policy-never", run: policy_never, covers: [HOST_IMG_013, HOST_IMG_014],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "images/pull-outlives-stop", run: pull_outlives_stop, covers: [HOST_IMG_019],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
];

/// Images are pulled by tag and by digest.
async fn tag_and_digest(cx: &CheckContext) -> Flow {
    let pushed = cx.push(Role::Idle);
    claim_becomes_running(
        cx,
        HOST_IMG_001,
        "an image by tag",
        &cx.id("tag"),
        &idle_workload(cx, &pushed),
    )
    .await?;
    let by_digest = idle_workload(cx, pushed.digest_reference.clone());
    claim_becomes_running(
        cx,
        HOST_IMG_001,
        "an image by digest",
        &cx.id("digest"),
        &by_digest,
    )
    .await?;
    Ok(())
}

/// A layer or a manifest that does not match its digest is refused.
async fn digest_mismatch(cx: &CheckContext) -> Flow {
    let layer = cx.push_as("layer", Role::Idle, RepositoryBehavior::WrongBlob);
    claim_start_fails(
        cx,
        HOST_IMG_002,
        "a layer that does not match its digest",
        &cx.id("layer"),
        &idle_workload(cx, &layer),
    )
    .await?;
    let manifest = cx.push_as(
        "manifest",
        Role::Idle,
        RepositoryBehavior::WrongManifestForDigest,
    );
    let workload = idle_workload(cx, manifest.digest_reference.clone());
    claim_start_fails(
        cx,
        HOST_IMG_002,
        "a manifest that does not match its digest",
        &cx.id("manifest"),
        &workload,
    )
    .await?;
    Ok(())
}

/// A start with an unknown repository or tag ends in ERROR.
async fn missing(cx: &CheckContext) -> Flow {
    let not_found = cx.push_as("gone", Role::Idle, RepositoryBehavior::NotFound);
    claim_start_fails(
        cx,
        HOST_IMG_003,
        "an unknown repository",
        &cx.id("a"),
        &idle_workload(cx, &not_found),
    )
    .await?;
    let pushed = cx.push(Role::Idle);
    let other_tag = pushed.reference.replace(":v1", ":v2");
    claim_start_fails(
        cx,
        HOST_IMG_003,
        "an unknown tag",
        &cx.id("b"),
        &idle_workload(cx, other_tag),
    )
    .await?;
    Ok(())
}

/// A start with a registry that refuses connections, closes them or returns 500 ends in ERROR.
async fn unreachable(cx: &CheckContext) -> Flow {
    let registry = private_registry(RequiredAuth::None).await?;
    let pushed = registry.push("gone/idle", "v1", cx.artifact(Role::Idle));
    registry.go_offline();
    let closing = cx.push_as("closing", Role::Idle, RepositoryBehavior::CloseConnection);
    let broken = cx.push_as("broken", Role::Idle, RepositoryBehavior::ServerError);
    let kinds = [
        ("refuses connections", pushed),
        ("closes connections", closing),
        ("returns 500", broken),
    ];
    let starts = kinds.map(|(fault, pushed)| async move {
        let description = format!("a registry that {fault}");
        let id = cx.id(&fault.replace(' ', "-"));
        claim_start_fails(
            cx,
            HOST_IMG_004,
            &description,
            &id,
            &idle_workload(cx, &pushed),
        )
        .await
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

/// Invalid image references are refused.
async fn invalid_references(cx: &CheckContext) -> Flow {
    let authority = cx.registry().authority().to_owned();
    let invalid: [(&str, String); 5] = [
        ("an empty reference", String::new()),
        (
            "a reference in upper case",
            format!("{authority}/UPPER/Case:1"),
        ),
        ("a reference with a space", format!("{authority}/a b:1")),
        ("a reference with an empty tag", format!("{authority}/a:")),
        (
            "a reference with an invalid digest",
            format!("{authority}/a@sha256:xyz"),
        ),
    ];
    for (index, (description, reference)) in invalid.into_iter().enumerate() {
        let id = cx.id(&index.to_string());
        claim_start_fails(
            cx,
            HOST_IMG_006,
            description,
            &id,
            &idle_workload(cx, reference),
        )
        .await?;
    }
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

/// An endless layer, an endless manifest and a layer that declares 1 TiB are refused without being
/// read to the end, and the host still replies.
async fn oversized(cx: &CheckContext) -> Flow {
    let huge = RepositoryBehavior::OversizeBlob {
        declared_bytes: 1 << 40,
    };
    let kinds = [
        ("layer", "an endless layer", RepositoryBehavior::EndlessBlob),
        (
            "manifest",
            "an endless manifest",
            RepositoryBehavior::EndlessManifest,
        ),
        ("terabyte", "a layer that declares 1 TiB", huge),
    ];
    let starts = kinds.map(|(name, description, behavior)| async move {
        let pushed = cx.push_as(name, Role::Idle, behavior);
        claim_start_fails(
            cx,
            HOST_IMG_008,
            description,
            &cx.id(name),
            &idle_workload(cx, &pushed),
        )
        .await
    });
    try_join_all(starts).await?;
    let status = cx.status(&cx.id("never-started")).await?;
    cx.claim(HOST_IMG_008).is(
        "state of an unknown id after oversized images (the host still replies)",
        status.state,
        State::NotFound,
    );
    Ok(())
}

/// A truncated layer is refused.
async fn truncated(cx: &CheckContext) -> Flow {
    let pushed = cx.push_with(Role::Idle, RepositoryBehavior::TruncateBlob);
    claim_start_fails(
        cx,
        HOST_IMG_009,
        "a truncated layer",
        &cx.id("a"),
        &idle_workload(cx, &pushed),
    )
    .await?;
    Ok(())
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
    let log = cx.registry().log(&cx.repository("slow"));
    let downloads = layer_requests(&log, &pushed.layer_digest);
    cx.claim(HOST_IMG_010).is(
        "number of downloads of the layer for 8 overlapping starts",
        downloads,
        1,
    );
    Ok(())
}

/// With the policy ALWAYS, a start runs the image to which the tag has moved.
async fn policy_always(cx: &CheckContext) -> Flow {
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

    let requests_before = cx
        .registry()
        .log(&repository)
        .iter()
        .filter(|r| r.is_manifest())
        .count();
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
    let requests_after = cx
        .registry()
        .log(&repository)
        .iter()
        .filter(|r| r.is_manifest())
        .count();
    let requested_again = requests_after > requests_before;
    let description = "the host requests the manifest again";
    cx.claim(HOST_IMG_011).holds(description, requested_again, || {
        format!(
            "{requests_before} manifest requests before the second start, {requests_after} after it"
        )
    });
    Ok(())
}

/// With the policy IF_NOT_PRESENT, images that were pulled by tag and by digest start without the
/// registry.
async fn policy_if_not_present(cx: &CheckContext) -> Flow {
    let registry = private_registry(RequiredAuth::None).await?;
    let pushed = registry.push("here/idle", "v1", cx.artifact(Role::Idle));
    let by_digest = pushed.digest_reference.clone();
    cx.start_and_wait(&cx.id("tag-1"), &idle_workload(cx, &pushed))
        .await?;
    cx.start_and_wait(&cx.id("digest-1"), &idle_workload(cx, by_digest.clone()))
        .await?;
    registry.go_offline();
    for (name, workload) in [
        ("tag", idle_workload(cx, &pushed)),
        ("digest", idle_workload(cx, by_digest)),
    ] {
        let description = format!("IF_NOT_PRESENT by {name} without the registry");
        let workload = workload.pull_policy("IF_NOT_PRESENT");
        claim_becomes_running(
            cx,
            HOST_IMG_012,
            &description,
            &cx.id(&format!("{name}-2")),
            &workload,
        )
        .await?;
    }
    Ok(())
}

/// With the policy NEVER, only cached images start, and the host sends no request to the registry.
async fn policy_never(cx: &CheckContext) -> Flow {
    let absent = cx.push_as("absent", Role::Idle, RepositoryBehavior::Healthy);
    let workload = idle_workload(cx, &absent).pull_policy("NEVER");
    claim_start_fails(
        cx,
        HOST_IMG_014,
        "NEVER with an image that is not cached",
        &cx.id("a"),
        &workload,
    )
    .await?;
    let requests = cx.registry().log(&cx.repository("absent")).len();
    cx.claim(HOST_IMG_013).is(
        "number of registry requests for an image that is not cached",
        requests,
        0,
    );

    let present = cx.push_as("present", Role::Idle, RepositoryBehavior::Healthy);
    cx.start_and_wait(&cx.id("b"), &idle_workload(cx, &present))
        .await?;
    let before = cx.registry().log(&cx.repository("present")).len();
    let workload = idle_workload(cx, &present).pull_policy("NEVER");
    claim_becomes_running(
        cx,
        HOST_IMG_014,
        "NEVER with a cached image",
        &cx.id("c"),
        &workload,
    )
    .await?;
    let after = cx.registry().log(&cx.repository("present")).len();
    cx.claim(HOST_IMG_013).is(
        "number of registry requests for a cached image",
        after,
        before,
    );
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
    let repository = cx.repository("slow");
    let requested = cx
        .registry()
        .wait(&repository, deadlines::DEFAULT_WAIT.limit, |log| {
            !log.is_empty()
        })
        .await;
    requested.map_err(|_| cx.blocked(HOST_WIRE_003, "a pull", &"no request to the registry"))?;
    cx.stop(&first).await?;
    cx.start_and_wait(&second, &idle_workload(cx, &pushed))
        .await?;
    let downloads = layer_requests(&cx.registry().log(&repository), &pushed.layer_digest);
    cx.claim(HOST_IMG_019).is(
        "number of downloads of the layer for both starts",
        downloads,
        1,
    );
    Ok(())
}
