//! Images: what is pulled, what is refused, and that nobody else waits for it.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{
    answer::{Answer, State},
    check,
    check::Check,
    cx::{Cx, Workload},
    deadline,
    outcome::{Blocked, Flow},
    registry::{Artifact, Behaviour, Credentials, Demand, Pushed, Registry, Request},
    requirements::*,
    role::Role,
};

/// The section, and what of start and stop needs a registry to show.
pub const CHECKS: &[Check] = &[
    check! { id: "img/by-tag-and-digest", run: by_tag_and_digest, covers: [HOST_IMG_001],
    host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false },
    check! { id: "img/digests", run: digests, covers: [HOST_IMG_002],
    host: Shared, roles: [Idle], needs: [Registry], budget_s: 120, slow: false },
    check! { id: "img/missing", run: missing, covers: [HOST_IMG_003],
    host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false },
    check! { id: "img/unreachable", run: unreachable, covers: [HOST_IMG_004],
    host: Shared, roles: [Idle], needs: [Registry], budget_s: 120, slow: false },
    check! { id: "img/cannot-run", run: cannot_run, covers: [HOST_IMG_005],
    host: Shared, roles: [CoreModule, Idle], needs: [Registry], budget_s: 120, slow: false },
    check! { id: "img/references", run: references, covers: [HOST_IMG_006],
    host: Shared, roles: [], needs: [Registry], budget_s: 90, slow: false },
    check! { id: "img/hanging-head", run: hanging_head, covers: [HOST_IMG_007],
    host: Shared, roles: [Idle], needs: [Registry], budget_s: 130, slow: false },
    check! { id: "img/hanging-manifest", run: hanging_manifest, covers: [HOST_IMG_007],
    host: Shared, roles: [Idle], needs: [Registry], budget_s: 130, slow: false },
    check! { id: "img/hanging-blob", run: hanging_blob, covers: [HOST_IMG_007],
    host: Shared, roles: [Idle], needs: [Registry], budget_s: 130, slow: false },
    check! { id: "img/endless", run: endless, covers: [HOST_IMG_008],
    host: Own, roles: [Idle], needs: [Registry], budget_s: 180, slow: false },
    check! { id: "img/truncated", run: truncated, covers: [HOST_IMG_009],
    host: Shared, roles: [Idle], needs: [Registry], budget_s: 120, slow: false },
    check! { id: "img/one-download", run: one_download, covers: [HOST_IMG_010],
    host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false },
    check! { id: "img/always", run: always, covers: [HOST_IMG_011],
    host: Shared, roles: [ServiceOk, ServiceErr], needs: [Registry], budget_s: 120, slow: false },
    check! { id: "img/if-not-present", run: if_not_present, covers: [HOST_IMG_012],
    host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false },
    check! { id: "img/never", run: never, covers: [HOST_IMG_013, HOST_IMG_014],
    host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false },
    check! { id: "img/pull-secret", run: pull_secret, covers: [HOST_IMG_015],
    host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false },
    check! { id: "img/unauthorised", run: unauthorised, covers: [HOST_IMG_016],
    host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false },
    check! { id: "img/credentials-stay", run: credentials_stay, covers: [HOST_IMG_017],
    host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false },
    check! { id: "img/bearer", run: bearer, covers: [HOST_IMG_018],
    host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false },
    check! { id: "img/pull-outlives-stop", run: pull_outlives_stop, covers: [HOST_IMG_019],
    host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false },
    check! { id: "img/others-go-on", run: others_go_on, covers: [HOST_IMG_020],
    host: Own, roles: [Idle], needs: [Registry], budget_s: 120, slow: false },
    check! { id: "start/answered-in-time", run: answered_in_time, covers: [HOST_START_011, HOST_START_012],
    host: Shared, roles: [Idle], needs: [Registry], budget_s: 130, slow: false },
    check! { id: "start/starting", run: starting, covers: [HOST_START_013],
    host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false },
    check! { id: "start/others-go-on", run: others_during_start, covers: [HOST_START_014],
    host: Own, roles: [Idle], needs: [Registry], budget_s: 120, slow: false },
    check! { id: "start/heartbeats-go-on", run: heartbeats_during_start, covers: [HOST_START_015],
    host: Own, roles: [Idle], needs: [Registry], budget_s: 130, slow: false },
    check! { id: "start/failure-stays", run: failure_stays, covers: [HOST_START_016, HOST_START_018],
    host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false },
    check! { id: "start/again-after-failure", run: again_after_failure, covers: [HOST_START_017],
    host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false },
    check! { id: "start/reply-and-status", run: reply_and_status, covers: [HOST_START_019],
    host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false },
    check! { id: "stop/during-start", run: stop_during_start, covers: [HOST_STOP_005],
    host: Shared, roles: [Idle], needs: [Registry], budget_s: 120, slow: false },
    check! { id: "stop/after-failure", run: stop_after_failure, covers: [HOST_STOP_006],
    host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false },
    check! { id: "sec/log", run: log, covers: [HOST_SEC_002],
    host: Own, roles: [Idle], needs: [Registry, Process], budget_s: 90, slow: false },
    check! { id: "sec/replies", run: replies, covers: [HOST_SEC_001],
    host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false },
];

fn idle<'c>(cx: &'c Cx, image: impl crate::cx::Image) -> Workload<'c> {
    cx.workload().component(image)
}

/// A registry of the check's own, for what concerns a registry as a whole.
async fn own_registry(demand: Demand) -> Result<Registry, Blocked> {
    Registry::start_private(demand)
        .await
        .map_err(|cause| Blocked::harness("a registry could not be opened", cause))
}

fn credentials(cx: &Cx) -> Credentials {
    Credentials {
        user: "berth".to_owned(),
        password: format!("pw-{}-x7Q", cx.tag()),
    }
}

/// A slow repository: a start with it is at work for about that long.
fn slow(cx: &Cx, name: &str, seconds: u64) -> Pushed {
    let behaviour = Behaviour::Slow {
        before_manifest: Duration::from_secs(seconds),
        blob_bytes_per_second: 1 << 20,
    };
    cx.push_as(name, Role::Idle, behaviour)
}

/// Claims that a start ends in ERROR, at once or after STARTING, and returns the answer that says so.
async fn fails(
    cx: &Cx,
    requirement: Requirement,
    what: &str,
    id: &str,
    workload: &Workload<'_>,
) -> Result<Option<Answer>, Blocked> {
    let start = cx.start(id, workload).await?;
    let what = format!("{what}: the start ends in ERROR");
    if start.state == State::Starting {
        let failed = cx.eventually(deadline::PULL_BOUND, &what, || async {
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
async fn succeeds(
    cx: &Cx,
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
            .met(cx.running(id, deadline::LOOK).await)
            .is_some());
    }
    let running = start.state == State::Running;
    Ok(cx
        .claim(requirement)
        .about(&start)
        .holds(&what, running, || start.to_string()))
}

async fn by_tag_and_digest(cx: &Cx) -> Flow {
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

async fn digests(cx: &Cx) -> Flow {
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

async fn missing(cx: &Cx) -> Flow {
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

async fn unreachable(cx: &Cx) -> Flow {
    let registry = own_registry(Demand::Nothing).await?;
    let pushed = registry.push("gone/idle", "v1", cx.artifact(Role::Idle));
    registry.disappear();
    fails(
        cx,
        HOST_IMG_004,
        "a registry that refuses connections",
        &cx.id("a"),
        &idle(cx, &pushed),
    )
    .await?;
    let closing = cx.push_as("closing", Role::Idle, Behaviour::Gone);
    fails(
        cx,
        HOST_IMG_004,
        "a registry that hangs up",
        &cx.id("b"),
        &idle(cx, &closing),
    )
    .await?;
    let broken = cx.push_as("broken", Role::Idle, Behaviour::ServerError);
    fails(
        cx,
        HOST_IMG_004,
        "a registry that answers 500",
        &cx.id("c"),
        &idle(cx, &broken),
    )
    .await?;
    Ok(())
}

async fn cannot_run(cx: &Cx) -> Flow {
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

async fn references(cx: &Cx) -> Flow {
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
async fn bounded(cx: &Cx, what: &str, behaviour: Behaviour) -> Flow {
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
    let left = deadline::PULL_BOUND.limit.saturating_sub(began.elapsed());
    let what = format!("{what}: ERROR within 60 s of the start");
    let ended = cx.eventually(left, &what, || async {
        cx.status(&id).await?.in_state(State::Error)
    });
    cx.claim(HOST_IMG_007).met(ended.await);
    Ok(())
}

async fn hanging_head(cx: &Cx) -> Flow {
    bounded(cx, "a HEAD that is never answered", Behaviour::HangOnHead).await
}

async fn hanging_manifest(cx: &Cx) -> Flow {
    bounded(cx, "a manifest that never comes", Behaviour::HangOnManifest).await
}

async fn hanging_blob(cx: &Cx) -> Flow {
    bounded(cx, "a layer that stops half-way", Behaviour::HangMidBlob).await
}

/// Neither a layer nor a manifest without end, nor one that claims a gigabyte, is taken to its end.
async fn endless(cx: &Cx) -> Flow {
    let huge = Behaviour::OversizeBlob {
        declared_bytes: 1 << 40,
    };
    for (name, behaviour) in [
        ("layer", Behaviour::EndlessBlob),
        ("manifest", Behaviour::EndlessManifest),
        ("terabyte", huge),
    ] {
        let pushed = cx.push_as(name, Role::Idle, behaviour);
        let what = format!("a {name} without end");
        fails(cx, HOST_IMG_008, &what, &cx.id(name), &idle(cx, &pushed)).await?;
    }
    let probe = cx.status(&cx.id("never-started")).await?;
    cx.claim(HOST_IMG_008)
        .is("the host still answers", probe.state, State::NotFound);
    Ok(())
}

async fn truncated(cx: &Cx) -> Flow {
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

fn layers_asked(log: &[Request], layer: &str) -> usize {
    log.iter()
        .filter(|request| request.is_blob() && request.path.ends_with(layer))
        .count()
}

/// Eight starts of one image on a slow registry: one of them downloads.
async fn one_download(cx: &Cx) -> Flow {
    let pushed = slow(cx, "slow", 1);
    let ids: Vec<String> = (0..8).map(|n| cx.id(&n.to_string())).collect();
    let workload = idle(cx, &pushed);
    let starts = ids.iter().map(|id| cx.start(id, &workload));
    futures_util::future::try_join_all(starts).await?;
    for id in &ids {
        cx.running(id, deadline::LOOK)
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
async fn always(cx: &Cx) -> Flow {
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
    cx.reaches(&first, State::Completed, deadline::LOOK)
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
    let ended = cx.eventually(deadline::LOOK, "the second service ends", || async {
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
async fn if_not_present(cx: &Cx) -> Flow {
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

async fn never(cx: &Cx) -> Flow {
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

async fn pull_secret(cx: &Cx) -> Flow {
    let account = credentials(cx);
    let registry = own_registry(Demand::Basic(account.clone())).await?;
    let pushed = registry.push("private/idle", "v1", cx.artifact(Role::Idle));
    let workload = idle(cx, &pushed).pull_secret(&account.user, &account.password);
    succeeds(
        cx,
        HOST_IMG_015,
        "a private image with its credentials",
        &cx.id("a"),
        &workload,
    )
    .await?;
    Ok(())
}

async fn unauthorised(cx: &Cx) -> Flow {
    let account = credentials(cx);
    let registry = own_registry(Demand::Basic(account.clone())).await?;
    let pushed = registry.push("private/idle", "v1", cx.artifact(Role::Idle));
    fails(
        cx,
        HOST_IMG_016,
        "a private image without credentials",
        &cx.id("a"),
        &idle(cx, &pushed),
    )
    .await?;
    let wrong = idle(cx, &pushed).pull_secret(&account.user, "not-the-password");
    fails(
        cx,
        HOST_IMG_016,
        "a private image with wrong credentials",
        &cx.id("b"),
        &wrong,
    )
    .await?;
    Ok(())
}

/// A public registry never sees the credentials, nor does the server that a redirect names.
async fn credentials_stay(cx: &Cx) -> Flow {
    let account = credentials(cx);
    let public = cx.push_as("public", Role::Idle, Behaviour::Healthy);
    let workload = idle(cx, &public).pull_secret(&account.user, &account.password);
    cx.started(&cx.id("a"), &workload).await?;
    let shown = |log: Vec<Request>| {
        log.iter()
            .filter(|request| request.authorization.is_some())
            .count()
    };
    let unasked = shown(cx.registry().log(&cx.repository("public")));
    cx.claim(HOST_IMG_017)
        .is("requests with credentials that nobody demanded", unasked, 0);

    let registry = own_registry(Demand::Basic(account.clone())).await?;
    let pushed = registry.push("moved/idle", "v1", cx.artifact(Role::Idle));
    registry.behave("moved/idle", Behaviour::RedirectBlob);
    let workload = idle(cx, &pushed).pull_secret(&account.user, &account.password);
    let id = cx.id("b");
    if cx.start(&id, &workload).await?.state == State::Starting {
        // Whether it follows the redirect at all is its own affair; what it showed there is not.
        let settled = cx.eventually(deadline::LOOK, "the start settles", || async {
            let status = cx.status(&id).await?;
            match status.state {
                State::Starting => Err(status.to_string()),
                _ => Ok(()),
            }
        });
        settled.await.or_blocked(cx, HOST_IMG_007)?;
    }
    let elsewhere = shown(registry.elsewhere_log("moved/idle"));
    cx.claim(HOST_IMG_017).is(
        "requests with credentials where the redirect leads",
        elsewhere,
        0,
    );
    Ok(())
}

async fn bearer(cx: &Cx) -> Flow {
    let account = credentials(cx);
    let registry = own_registry(Demand::Bearer(account.clone())).await?;
    let pushed = registry.push("private/idle", "v1", cx.artifact(Role::Idle));
    let workload = idle(cx, &pushed).pull_secret(&account.user, &account.password);
    succeeds(
        cx,
        HOST_IMG_018,
        "an image behind a token server",
        &cx.id("a"),
        &workload,
    )
    .await?;
    Ok(())
}

/// The first start is stopped while its pull is under way; the second finds the image there.
async fn pull_outlives_stop(cx: &Cx) -> Flow {
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
        .wait(&repository, deadline::LOOK.limit, |log| !log.is_empty())
        .await;
    asked.map_err(|_| cx.blocked(HOST_WIRE_003, "a pull", &"the registry was not asked"))?;
    cx.stop(&first).await?;
    cx.started(&second, &idle(cx, &pushed)).await?;
    let downloads = layers_asked(&cx.registry().log(&repository), &pushed.layer_digest);
    cx.claim(HOST_IMG_019)
        .is("downloads of the layer for both starts", downloads, 1);
    Ok(())
}

async fn others_go_on(cx: &Cx) -> Flow {
    for (n, behaviour) in [
        Behaviour::NotFound,
        Behaviour::Unauthorised,
        Behaviour::Gone,
        Behaviour::TextInsteadOfJson,
        Behaviour::WrongBlob,
    ]
    .into_iter()
    .enumerate()
    {
        let pushed = cx.push_as(&format!("bad-{n}"), Role::Idle, behaviour);
        cx.start(&cx.id(&format!("bad-{n}")), &idle(cx, &pushed))
            .await?;
        let good = cx.push_as(&format!("good-{n}"), Role::Idle, Behaviour::Healthy);
        let what = format!("a good image after failed pull number {}", n + 1);
        succeeds(
            cx,
            HOST_IMG_020,
            &what,
            &cx.id(&format!("good-{n}")),
            &idle(cx, &good),
        )
        .await?;
    }
    Ok(())
}

/// The registry hangs: the start is answered all the same, best with STARTING.
async fn answered_in_time(cx: &Cx) -> Flow {
    let pushed = cx.push_with(Role::Idle, Behaviour::HangOnManifest);
    let id = cx.id("a");
    let payload = idle(cx, &pushed).start_request(&id).to_string();
    let within = deadline::START_ANSWER.limit;
    let reply = cx
        .send_within(
            "workload.start",
            payload,
            crate::answer::Headers::none(),
            within,
        )
        .await?;
    let what = "a start with a registry that hangs is answered within 60 s";
    let Some(answer) = cx.claim(HOST_START_011).answered(what, &reply) else {
        cx.claim(HOST_START_012)
            .violated("STARTING after 5 s", &["STARTING"], reply.to_string());
        return Ok(());
    };
    let early = answer.took
        <= deadline::START_STARTING.limit + cx.bench().patience() + Duration::from_secs(1);
    cx.claim(HOST_START_012)
        .holds("answered with STARTING after 5 s", early, || {
            format!("{answer} after {:.1} s", answer.took.as_secs_f64())
        });
    Ok(())
}

/// Sends a start without waiting for its answer, and waits until its pull has begun.
async fn begin_slow_start(cx: &Cx, name: &str, seconds: u64) -> Result<String, Blocked> {
    let pushed = slow(cx, name, seconds);
    let id = cx.id(name);
    let payload = idle(cx, &pushed).start_request(&id).to_string();
    cx.publish_no_reply("workload.start", payload).await?;
    let repository = cx.repository(name);
    let asked = cx
        .registry()
        .wait(&repository, deadline::LOOK.limit, |log| !log.is_empty())
        .await;
    asked.map_err(|_| cx.blocked(HOST_WIRE_003, "a pull", &"the registry was not asked"))?;
    Ok(id)
}

async fn starting(cx: &Cx) -> Flow {
    let id = begin_slow_start(cx, "slow", 3).await?;
    let status = cx.status(&id).await?;
    let what = "status while the image is pulled";
    cx.claim(HOST_START_013)
        .about(&status)
        .is(what, status.state.clone(), State::Starting);
    Ok(())
}

/// While a registry takes eight seconds, other ids are started, asked for and stopped.
async fn others_during_start(cx: &Cx) -> Flow {
    let slow = begin_slow_start(cx, "slow", 8).await?;
    let other = cx.id("other");
    let start = cx.workload().start_request(&other).to_string();
    let named = serde_json::json!({ "workloadId": other }).to_string();
    for (command, payload) in [
        ("workload.start", start),
        ("workload.status", named.clone()),
        ("workload.stop", named),
    ] {
        let reply = cx
            .send(command, payload, crate::answer::Headers::none())
            .await?;
        let what = format!("{command} for another id is answered within 5 s");
        cx.claim(HOST_START_014).answered(&what, &reply);
    }
    let status = cx.status(&slow).await?;
    let what = "the slow start was still at work (else this check shows nothing)";
    let meanwhile = status.state == State::Starting;
    cx.claim(HOST_START_014)
        .about(&status)
        .holds(what, meanwhile, || status.to_string());
    Ok(())
}

/// A start is at work for more than 30 s, one slow image after the other, and heartbeats go on.
async fn heartbeats_during_start(cx: &Cx) -> Flow {
    let mut heartbeats = cx.heartbeats();
    let began = Instant::now();
    let watch = deadline::HEARTBEAT_GAP.limit + Duration::from_secs(3);
    let probe = cx.id("never-started");
    let mut n = 0;
    while began.elapsed() < watch {
        begin_slow_start(cx, &format!("slow-{n}"), 6).await?;
        // The next one begins before this one is done: some start is always at work.
        let meanwhile = cx.consistently(Duration::from_secs(4), "status is answered", || async {
            Ok::<_, String>(cx.status(&probe).await?)
        });
        meanwhile.await.or_blocked(cx, HOST_START_014)?;
        n += 1;
    }
    let subject = crate::bus::heartbeat_subject(cx.host_id());
    let mut times = vec![began];
    while let Ok(heartbeat) = heartbeats.try_recv() {
        if heartbeat.subject == subject {
            times.push(heartbeat.at);
        }
    }
    times.push(Instant::now());
    let gaps = times
        .iter()
        .zip(times.iter().skip(1))
        .map(|(a, b)| b.saturating_duration_since(*a));
    let longest = gaps.max().unwrap_or_default();
    let what = "no more than 30 s between heartbeats while starts are at work";
    let held = longest <= deadline::HEARTBEAT_GAP.limit + cx.bench().patience();
    cx.claim(HOST_START_015).holds(what, held, || {
        format!("{:.1} s without one", longest.as_secs_f64())
    });
    Ok(())
}

async fn failed_start(cx: &Cx, id: &str) -> Result<(Pushed, Answer), Blocked> {
    let pushed = cx.push_as("idle", Role::Idle, Behaviour::NotFound);
    let start = cx.start(id, &idle(cx, &pushed)).await?;
    if start.state == State::Starting {
        let failed = cx.reaches(id, State::Error, deadline::PULL_BOUND).await;
        return Ok((pushed, failed.or_blocked(cx, HOST_IMG_003)?));
    }
    match start.state {
        State::Error => Ok((pushed, start)),
        _ => Err(cx.blocked(HOST_IMG_003, "a start that fails", &start)),
    }
}

async fn failure_stays(cx: &Cx) -> Flow {
    let id = cx.id("a");
    let (pushed, failure) = failed_start(cx, &id).await?;
    let stays = cx.consistently(
        Duration::from_secs(1),
        "status answers ERROR with the reason",
        || async {
            let status = cx.status(&id).await?;
            match status.message.trim().is_empty() {
                true => Err(format!("{status}, without a message")),
                false => status.in_state(State::Error),
            }
        },
    );
    cx.claim(HOST_START_016).met(stays.await);
    let names = failure.message.contains("c0") && failure.message.contains(&pushed.reference);
    let what = format!(
        "the message names the component `c0` and the image `{}`",
        pushed.reference
    );
    cx.claim(HOST_START_018)
        .holds(&what, names, || format!("message {:?}", failure.message));
    Ok(())
}

/// The image appears, and the same id is started again without a stop.
async fn again_after_failure(cx: &Cx) -> Flow {
    let id = cx.id("a");
    let (pushed, _) = failed_start(cx, &id).await?;
    cx.registry()
        .behave(&cx.repository("idle"), Behaviour::Healthy);
    succeeds(
        cx,
        HOST_START_017,
        "a corrected start of an id in ERROR",
        &id,
        &idle(cx, &pushed),
    )
    .await?;
    Ok(())
}

async fn reply_and_status(cx: &Cx) -> Flow {
    let (good, bad) = (cx.id("good"), cx.id("bad"));
    let healthy = cx.push_as("healthy", Role::Idle, Behaviour::Healthy);
    let missing = cx.push_as("missing", Role::Idle, Behaviour::NotFound);
    for (id, pushed) in [(&good, &healthy), (&bad, &missing)] {
        let start = cx.start(id, &idle(cx, pushed)).await?;
        let status = cx.status(id).await?;
        // STARTING is out of date by the time it is read; every other state is not.
        let agree = start.state == State::Starting || start.state == status.state;
        cx.claim(HOST_START_019).about(&status).holds(
            "status agrees with the reply to the start",
            agree,
            || {
                format!(
                    "the reply said {}, status says {}",
                    start.state, status.state
                )
            },
        );
    }
    Ok(())
}

async fn stop_during_start(cx: &Cx) -> Flow {
    let pushed = cx.push_with(Role::Idle, Behaviour::HangOnManifest);
    let id = cx.id("a");
    let payload = idle(cx, &pushed).start_request(&id).to_string();
    cx.publish_no_reply("workload.start", payload).await?;
    let repository = cx.repository(Role::Idle.name());
    let asked = cx
        .registry()
        .wait(&repository, deadline::LOOK.limit, |log| !log.is_empty())
        .await;
    asked.map_err(|_| cx.blocked(HOST_WIRE_003, "a pull", &"the registry was not asked"))?;
    let stop = serde_json::json!({ "workloadId": id }).to_string();
    let reply = cx
        .send("workload.stop", stop, crate::answer::Headers::none())
        .await?;
    cx.claim(HOST_STOP_005)
        .answered("a stop during a start is answered within 5 s", &reply);
    let gone = cx
        .reaches(&id, State::NotFound, deadline::STOP_CANCELS)
        .await;
    if cx.claim(HOST_STOP_005).met(gone).is_some() {
        let free = cx.start(&id, &cx.workload()).await?;
        let accepted = matches!(free.state, State::Running | State::Starting);
        cx.claim(HOST_STOP_005).about(&free).holds(
            "the id can be started at once",
            accepted,
            || free.to_string(),
        );
    }
    Ok(())
}

async fn stop_after_failure(cx: &Cx) -> Flow {
    let id = cx.id("a");
    failed_start(cx, &id).await?;
    cx.stop(&id).await?;
    cx.claim(HOST_STOP_006).met(cx.gone(&id).await);
    Ok(())
}

/// Starts with credentials that fail and that work, and a request that cannot be read.
async fn use_credentials(cx: &Cx) -> Result<(String, Vec<Answer>), Blocked> {
    let account = credentials(cx);
    let registry = own_registry(Demand::Basic(account.clone())).await?;
    let pushed = registry.push("private/idle", "v1", cx.artifact(Role::Idle));
    let right = idle(cx, &pushed).pull_secret(&account.user, &account.password);
    let missing = pushed.reference.replace(":v1", ":v9");
    let failing = idle(cx, missing).pull_secret(&account.user, &account.password);
    let unreadable = right
        .clone()
        .edit(|json| json["witWorld"]["components"][0]["poolSize"] = Value::Bool(true));
    let mut answers = Vec::new();
    for (name, workload) in [
        ("right", right),
        ("failing", failing),
        ("unreadable", unreadable),
    ] {
        let id = cx.id(name);
        answers.push(cx.start(&id, &workload).await?);
        answers.push(cx.status(&id).await?);
    }
    answers.push(cx.heartbeat().await?);
    Ok((account.password, answers))
}

async fn replies(cx: &Cx) -> Flow {
    let (password, answers) = use_credentials(cx).await?;
    for answer in &answers {
        let quoted = String::from_utf8_lossy(&answer.raw).contains(&password);
        let what = "the pull password stands in no answer";
        cx.claim(HOST_SEC_001)
            .about(answer)
            .holds(what, !quoted, || "it stands in this one".to_owned());
    }
    Ok(())
}

async fn log(cx: &Cx) -> Flow {
    let (password, _) = use_credentials(cx).await?;
    let log = cx.process()?.log();
    let line = log.lines().find(|line| line.contains(&password));
    let what = "the pull password stands nowhere in the log";
    cx.claim(HOST_SEC_002).holds(what, line.is_none(), || {
        line.map(|line| line.replace(&password, "[the password]"))
            .unwrap_or_default()
    });
    Ok(())
}
