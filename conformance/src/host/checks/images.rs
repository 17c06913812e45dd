//! Images: what is pulled, what is refused, and that nobody else waits for it.

use std::time::Instant;

use futures_util::future::try_join_all;

use super::image_support::{fails, idle, layers_asked, own_registry, slow, succeeds};
use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::registry::{Artifact, Behaviour, Demand};
use crate::wire::response::State;

/// The section.
pub const CHECKS: &[Check] = &[
    check! {
        id: "img/by-tag-and-digest", run: by_tag_and_digest, covers: [HOST_IMG_001],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "img/digests", run: digests, covers: [HOST_IMG_002], host: Shared, roles: [Idle],
        needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "img/missing", run: missing, covers: [HOST_IMG_003], host: Shared, roles: [Idle],
        needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "img/unreachable", run: unreachable, covers: [HOST_IMG_004], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "img/cannot-run", run: cannot_run, covers: [HOST_IMG_005], host: Shared,
        roles: [CoreModule, Idle], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "img/references", run: references, covers: [HOST_IMG_006], host: Shared,
        roles: [], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "img/hanging-head", run: hanging_head, covers: [HOST_IMG_007], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 130, slow: false,
    },
    check! {
        id: "img/hanging-manifest", run: hanging_manifest, covers: [HOST_IMG_007],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 130, slow: false,
    },
    check! {
        id: "img/hanging-blob", run: hanging_blob, covers: [HOST_IMG_007], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 130, slow: false,
    },
    check! {
        id: "img/endless", run: endless, covers: [HOST_IMG_008], host: Own, roles: [Idle],
        needs: [Registry], budget_s: 180, slow: false,
    },
    check! {
        id: "img/truncated", run: truncated, covers: [HOST_IMG_009], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "img/one-download", run: one_download, covers: [HOST_IMG_010], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "img/always", run: always, covers: [HOST_IMG_011], host: Shared,
        roles: [ServiceOk, ServiceErr], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "img/if-not-present", run: if_not_present, covers: [HOST_IMG_012], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "img/never", run: never, covers: [HOST_IMG_013, HOST_IMG_014], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "img/pull-outlives-stop", run: pull_outlives_stop, covers: [HOST_IMG_019],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
];

async fn by_tag_and_digest(cx: &CheckContext) -> Flow {
    let pushed = cx.push(Role::Idle);
    succeeds(
        cx,
        HOST_IMG_001,
        "an image by tag",
        &cx.id("tag"),
        &idle(cx, &pushed),
    )
    .await?;
    let by_digest = idle(cx, pushed.digest_reference.clone());
    succeeds(
        cx,
        HOST_IMG_001,
        "an image by digest",
        &cx.id("digest"),
        &by_digest,
    )
    .await?;
    Ok(())
}

async fn digests(cx: &CheckContext) -> Flow {
    let layer = cx.push_as("layer", Role::Idle, Behaviour::WrongBlob);
    fails(
        cx,
        HOST_IMG_002,
        "a layer that is not what its digest says",
        &cx.id("layer"),
        &idle(cx, &layer),
    )
    .await?;
    let manifest = cx.push_as("manifest", Role::Idle, Behaviour::WrongManifestForDigest);
    let workload = idle(cx, manifest.digest_reference.clone());
    fails(
        cx,
        HOST_IMG_002,
        "a manifest that is not what its digest says",
        &cx.id("manifest"),
        &workload,
    )
    .await?;
    Ok(())
}

async fn missing(cx: &CheckContext) -> Flow {
    let gone = cx.push_as("gone", Role::Idle, Behaviour::NotFound);
    fails(
        cx,
        HOST_IMG_003,
        "a repository that is not there",
        &cx.id("a"),
        &idle(cx, &gone),
    )
    .await?;
    let there = cx.push(Role::Idle);
    let other_tag = there.reference.replace(":v1", ":v2");
    fails(
        cx,
        HOST_IMG_003,
        "a tag that is not there",
        &cx.id("b"),
        &idle(cx, other_tag),
    )
    .await?;
    Ok(())
}

async fn unreachable(cx: &CheckContext) -> Flow {
    let registry = own_registry(Demand::Nothing).await?;
    let pushed = registry.push("gone/idle", "v1", cx.artifact(Role::Idle));
    registry.disappear();
    let closing = cx.push_as("closing", Role::Idle, Behaviour::Gone);
    let broken = cx.push_as("broken", Role::Idle, Behaviour::ServerError);
    let kinds = [
        ("refuses connections", pushed),
        ("hangs up", closing),
        ("answers 500", broken),
    ];
    let starts = kinds.map(|(how, pushed)| async move {
        let what = format!("a registry that {how}");
        let id = cx.id(&how.replace(' ', "-"));
        fails(cx, HOST_IMG_004, &what, &id, &idle(cx, &pushed)).await
    });
    try_join_all(starts).await?;
    Ok(())
}

async fn cannot_run(cx: &CheckContext) -> Flow {
    let module = cx.push(Role::CoreModule);
    fails(
        cx,
        HOST_IMG_005,
        "an image of the wrong kind",
        &cx.id("kind"),
        &idle(cx, &module),
    )
    .await?;
    let artifact = cx.artifact(Role::Idle);
    let text = Artifact {
        bytes: "this is a letter, not a program".into(),
        ..artifact.clone()
    };
    let text = cx.registry().push(&cx.repository("text"), "v1", text);
    fails(
        cx,
        HOST_IMG_005,
        "a layer of text",
        &cx.id("text"),
        &idle(cx, &text),
    )
    .await?;
    let other = artifact.with_layer_media_type("application/vnd.oci.image.layer.v1.tar");
    let other = cx.registry().push(&cx.repository("media"), "v1", other);
    fails(
        cx,
        HOST_IMG_005,
        "a layer of another media type",
        &cx.id("media"),
        &idle(cx, &other),
    )
    .await?;
    let page = cx.push_as("page", Role::Idle, Behaviour::TextInsteadOfJson);
    fails(
        cx,
        HOST_IMG_005,
        "a page of text for a manifest",
        &cx.id("page"),
        &idle(cx, &page),
    )
    .await?;
    Ok(())
}

async fn references(cx: &CheckContext) -> Flow {
    let authority = cx.registry().authority().to_owned();
    let bad: [(&str, String); 5] = [
        ("an empty reference", String::new()),
        (
            "a reference in capitals",
            format!("{authority}/UPPER/Case:1"),
        ),
        ("a reference with blanks", format!("{authority}/a b:1")),
        ("a reference with an empty tag", format!("{authority}/a:")),
        (
            "a reference with a digest of no kind",
            format!("{authority}/a@sha256:xyz"),
        ),
    ];
    for (n, (what, reference)) in bad.into_iter().enumerate() {
        let id = cx.id(&n.to_string());
        fails(cx, HOST_IMG_006, what, &id, &idle(cx, reference)).await?;
    }
    Ok(())
}

/// From the start to ERROR within 60 s, whatever the registry does not do.
async fn bounded(cx: &CheckContext, what: &str, behaviour: Behaviour) -> Flow {
    let pushed = cx.push_with(Role::Idle, behaviour);
    let id = cx.id("a");
    let began = Instant::now();
    let workload = idle(cx, &pushed).pull_policy("ALWAYS");
    let start = cx.start(&id, &workload).await?;
    if start.state == State::Running {
        // A host that asks for something else than what hangs has pulled the image all the same.
        cx.claim(HOST_IMG_007)
            .holds("the pull ends within 60 s", true, String::new);
        return Ok(());
    }
    let left = deadlines::PULL_BOUND.limit.saturating_sub(began.elapsed());
    let what = format!("{what}: ERROR within 60 s of the start");
    let ended = cx.eventually(left, &what, || async {
        cx.status(&id).await?.in_state(State::Error)
    });
    cx.claim(HOST_IMG_007).met(ended.await);
    Ok(())
}

async fn hanging_head(cx: &CheckContext) -> Flow {
    bounded(cx, "a HEAD that is never answered", Behaviour::HangOnHead).await
}

async fn hanging_manifest(cx: &CheckContext) -> Flow {
    bounded(cx, "a manifest that never comes", Behaviour::HangOnManifest).await
}

async fn hanging_blob(cx: &CheckContext) -> Flow {
    bounded(cx, "a layer that stops half-way", Behaviour::HangMidBlob).await
}

/// Neither a layer nor a manifest without end, nor one that claims a gigabyte, is taken to its end.
async fn endless(cx: &CheckContext) -> Flow {
    let huge = Behaviour::OversizeBlob {
        declared_bytes: 1 << 40,
    };
    let kinds = [
        ("layer", Behaviour::EndlessBlob),
        ("manifest", Behaviour::EndlessManifest),
        ("terabyte", huge),
    ];
    let starts = kinds.map(|(name, behaviour)| async move {
        let pushed = cx.push_as(name, Role::Idle, behaviour);
        let what = format!("a {name} without end");
        fails(cx, HOST_IMG_008, &what, &cx.id(name), &idle(cx, &pushed)).await
    });
    try_join_all(starts).await?;
    let probe = cx.status(&cx.id("never-started")).await?;
    cx.claim(HOST_IMG_008)
        .is("the host still answers", probe.state, State::NotFound);
    Ok(())
}

async fn truncated(cx: &CheckContext) -> Flow {
    let pushed = cx.push_with(Role::Idle, Behaviour::TruncateBlob);
    fails(
        cx,
        HOST_IMG_009,
        "a layer cut short",
        &cx.id("a"),
        &idle(cx, &pushed),
    )
    .await?;
    Ok(())
}

/// Eight starts of one image on a slow registry: one of them downloads.
async fn one_download(cx: &CheckContext) -> Flow {
    let pushed = slow(cx, "slow", 1);
    let ids: Vec<String> = (0..8).map(|n| cx.id(&n.to_string())).collect();
    let workload = idle(cx, &pushed);
    let starts = ids.iter().map(|id| cx.start(id, &workload));
    try_join_all(starts).await?;
    for id in &ids {
        cx.running(id, deadlines::LOOK)
            .await
            .or_blocked(cx, HOST_START_001)?;
    }
    let log = cx.registry().log(&cx.repository("slow"));
    let downloads = layers_asked(&log, &pushed.layer_digest);
    cx.claim(HOST_IMG_010).is(
        "downloads of the layer for 8 overlapping starts",
        downloads,
        1,
    );
    Ok(())
}

/// A service that ends well is replaced, under its tag, by one that ends badly.
async fn always(cx: &CheckContext) -> Flow {
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
    cx.reaches(&first, State::Completed, deadlines::LOOK)
        .await
        .or_blocked(cx, HOST_SVC_001)?;

    let asked = cx
        .registry()
        .log(&repository)
        .iter()
        .filter(|r| r.is_manifest())
        .count();
    cx.registry()
        .push(&repository, "v1", cx.artifact(Role::ServiceErr));
    let second = cx.id("second");
    cx.start(&second, &workload).await?;
    let ended = cx.eventually(deadlines::LOOK, "the second service ends", || async {
        let status = cx.status(&second).await?;
        match status.state {
            State::Completed | State::Error => Ok(status.state),
            _ => Err(status.to_string()),
        }
    });
    if let Some(end) = cx.claim(HOST_IMG_011).met(ended.await) {
        let what =
            "the end of the image that the tag names now, which fails (the old one ends well)";
        cx.claim(HOST_IMG_011).is(what, end, State::Error);
    }
    let asked_again = cx
        .registry()
        .log(&repository)
        .iter()
        .filter(|r| r.is_manifest())
        .count();
    cx.claim(HOST_IMG_011).holds("the registry is asked for the manifest again", asked_again > asked, || {
        format!("{asked} requests for the manifest before the second start and {asked_again} after it")
    });
    Ok(())
}

/// The registry is taken away; what was pulled by tag and by digest still starts.
async fn if_not_present(cx: &CheckContext) -> Flow {
    let registry = own_registry(Demand::Nothing).await?;
    let pushed = registry.push("here/idle", "v1", cx.artifact(Role::Idle));
    let by_digest = pushed.digest_reference.clone();
    cx.started(&cx.id("tag-1"), &idle(cx, &pushed)).await?;
    cx.started(&cx.id("digest-1"), &idle(cx, by_digest.clone()))
        .await?;
    registry.disappear();
    for (name, workload) in [("tag", idle(cx, &pushed)), ("digest", idle(cx, by_digest))] {
        let what = format!("IF_NOT_PRESENT by {name} with the registry gone");
        let workload = workload.pull_policy("IF_NOT_PRESENT");
        succeeds(
            cx,
            HOST_IMG_012,
            &what,
            &cx.id(&format!("{name}-2")),
            &workload,
        )
        .await?;
    }
    Ok(())
}

async fn never(cx: &CheckContext) -> Flow {
    let absent = cx.push_as("absent", Role::Idle, Behaviour::Healthy);
    let workload = idle(cx, &absent).pull_policy("NEVER");
    fails(
        cx,
        HOST_IMG_014,
        "NEVER with an image that is not there",
        &cx.id("a"),
        &workload,
    )
    .await?;
    let asked = cx.registry().log(&cx.repository("absent")).len();
    cx.claim(HOST_IMG_013).is(
        "requests to the registry for an image that is not there",
        asked,
        0,
    );

    let present = cx.push_as("present", Role::Idle, Behaviour::Healthy);
    cx.started(&cx.id("b"), &idle(cx, &present)).await?;
    let before = cx.registry().log(&cx.repository("present")).len();
    let workload = idle(cx, &present).pull_policy("NEVER");
    succeeds(
        cx,
        HOST_IMG_014,
        "NEVER with an image that is there",
        &cx.id("c"),
        &workload,
    )
    .await?;
    let after = cx.registry().log(&cx.repository("present")).len();
    cx.claim(HOST_IMG_013).is(
        "requests to the registry for an image that is there",
        after,
        before,
    );
    Ok(())
}

/// The first start is stopped while its pull is under way; the second finds the image there.
async fn pull_outlives_stop(cx: &CheckContext) -> Flow {
    let pushed = slow(cx, "slow", 2);
    let (first, second) = (cx.id("first"), cx.id("second"));
    let start = cx
        .workload()
        .component(&pushed)
        .start_request(&first)
        .to_string();
    cx.publish_no_reply("workload.start", start).await?;
    let repository = cx.repository("slow");
    let asked = cx
        .registry()
        .wait(&repository, deadlines::LOOK.limit, |log| !log.is_empty())
        .await;
    asked.map_err(|_| cx.blocked(HOST_WIRE_003, "a pull", &"the registry was not asked"))?;
    cx.stop(&first).await?;
    cx.started(&second, &idle(cx, &pushed)).await?;
    let downloads = layers_asked(&cx.registry().log(&repository), &pushed.layer_digest);
    cx.claim(HOST_IMG_019)
        .is("downloads of the layer for both starts", downloads, 1);
    Ok(())
}
