//! Checks of starts that are in progress, and of their outcome, with slow and failing registries.

use std::time::{Duration, Instant};

use super::image_support::{
    claim_becomes_running, idle_workload, push_slow, start_and_wait_for_failure, wait_for_pull,
};
use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::{CheckContext, Workload};
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::registry::RepositoryBehavior;
use crate::wire::response::State;

/// Checks of the sections `images` and `start` that need a slow or a failing registry.
pub const CHECKS: &[Check] = &[
    check! {
        id: "images/failures-isolated", run: failures_isolated, covers: [HOST_IMG_020], host: Own,
        roles: [Idle], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "start/reply-deadline", run: reply_deadline,
        covers: [HOST_START_011, HOST_START_012], host: Shared, roles: [Idle],
        needs: [Registry], budget_s: 130, slow: false,
    },
    check! {
        id: "start/starting", run: starting, covers: [HOST_START_013], host: Shared,
        roles: [Idle], needs: [Registry], waits_s: 11, budget_s: 90, slow: false,
    },
    check! {
        id: "start/other-workloads", run: other_workloads, covers: [HOST_START_014],
        host: Own, roles: [Idle], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "start/heartbeats-continue", run: heartbeats_continue, covers: [HOST_START_015],
        host: Own, roles: [Idle], needs: [Registry], waits_s: 36, budget_s: 130, slow: false,
    },
    check! {
        id: "start/reply-matches-status", run: reply_matches_status, covers: [HOST_START_019],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "start/reply-of-service", run: reply_of_service_matches_status,
        covers: [HOST_START_019, HOST_SVC_016], host: Shared, roles: [ServiceRun],
        needs: [Registry], budget_s: 90, slow: false,
    },
];

/// After each kind of failed pull, another image is pulled and its workload becomes RUNNING.
async fn failures_isolated(cx: &CheckContext) -> Flow {
    let bad = |name: &'static str, behavior| (name, cx.push_as(name, Role::Idle, behavior));
    let failures = [
        bad("missing", RepositoryBehavior::NotFound),
        bad("unauthorized", RepositoryBehavior::Unauthorized),
        bad("closed", RepositoryBehavior::CloseConnection),
        bad("text", RepositoryBehavior::TextInsteadOfJson),
        ("false", cx.push_false("false", Role::Idle)),
    ];
    for (failure, pushed) in failures {
        start_and_wait_for_failure(cx, &cx.id(failure), &idle_workload(cx, &pushed)).await?;
        let name = format!("good-after-{failure}");
        let good = cx.push_as(&name, Role::Idle, RepositoryBehavior::Healthy);
        claim_becomes_running(
            cx,
            HOST_IMG_020,
            &format!("a healthy image after a failed pull ({failure})"),
            &cx.id(&name),
            &idle_workload(cx, &good),
        )
        .await?;
    }
    Ok(())
}

/// If the registry hangs, the host still replies to the start within 60 s, and should reply
/// STARTING within 5 s.
async fn reply_deadline(cx: &CheckContext) -> Flow {
    let pushed = cx.push_with(Role::Idle, RepositoryBehavior::HangOnManifest);
    let id = cx.id("a");
    let payload = idle_workload(cx, &pushed).start_request(&id).to_string();
    let within = deadlines::START_REPLY.limit;
    let reply = cx
        .send_within(
            "workload.start",
            payload,
            crate::wire::response::Headers::none(),
            within,
        )
        .await?;
    let description = "the host replies to a start within 60 s while the registry hangs";
    let Some(response) = cx.claim(HOST_START_011).answered(description, &reply) else {
        cx.claim(HOST_START_012).violated(
            "the host replies STARTING within 5 s",
            &["STARTING"],
            reply.to_string(),
        );
        return Ok(());
    };
    let early = response.latency
        <= deadlines::START_STARTING.limit + cx.fixture().patience() + Duration::from_secs(1);
    cx.claim(HOST_START_012)
        .holds("the host replies STARTING within 5 s", early, || {
            format!("{response} after {:.1} s", response.latency.as_secs_f64())
        });
    Ok(())
}

/// Sends a start with an image whose pull takes about `delay`, without waiting for the reply, and
/// waits until the pull has begun. Returns the workload id.
async fn begin_slow_start(
    cx: &CheckContext,
    name: &str,
    delay: Duration,
) -> Result<String, Blocked> {
    let pushed = push_slow(cx, name, delay);
    let id = cx.id(name);
    let payload = idle_workload(cx, &pushed).start_request(&id).to_string();
    cx.publish_no_reply("workload.start", payload).await?;
    wait_for_pull(cx, name).await?;
    Ok(id)
}

/// The state is STARTING while an image is pulled, whatever the position of the image and whatever
/// other images of the workload are complete.
async fn starting(cx: &CheckContext) -> Flow {
    let fast = cx.push(Role::Idle);
    let delay = Duration::from_secs(3);
    let position = |name: &str| push_slow(cx, name, delay);
    let workloads = [
        ("only", idle_workload(cx, &position("only"))),
        (
            "first",
            idle_workload(cx, &position("first")).component(&fast),
        ),
        (
            "last",
            idle_workload(cx, &fast).component(&position("last")),
        ),
        (
            "middle",
            idle_workload(cx, &fast)
                .component(&position("middle"))
                .component(&fast),
        ),
    ];
    // The other image is in the cache of the host when the starts begin.
    cx.start_and_wait(&cx.id("fast"), &idle_workload(cx, &fast))
        .await?;
    for (name, workload) in workloads {
        let id = cx.id(name);
        let payload = workload.start_request(&id).to_string();
        cx.publish_no_reply("workload.start", payload).await?;
        wait_for_pull(cx, name).await?;
        let pulling = cx.consistently(
            delay / 3,
            "the id is STARTING while one of its images is pulled",
            || async { cx.status(&id).await?.in_state(State::Starting) },
        );
        cx.claim(HOST_START_013).met(pulling.await);
    }
    Ok(())
}

/// During a start that takes eight seconds, the host replies to start, status and stop of another
/// id.
async fn other_workloads(cx: &CheckContext) -> Flow {
    let slow = begin_slow_start(cx, "slow", Duration::from_secs(8)).await?;
    let other = cx.id("other");
    let start = cx.workload().start_request(&other).to_string();
    let id_request = serde_json::json!({ "workloadId": other }).to_string();
    for (command, payload) in [
        ("workload.start", start),
        ("workload.status", id_request.clone()),
        ("workload.stop", id_request),
    ] {
        let reply = cx
            .send(command, payload, crate::wire::response::Headers::none())
            .await?;
        let description = format!("the host replies to {command} of another id within 5 s");
        cx.claim(HOST_START_014).answered(&description, &reply);
    }
    let reply = cx
        .send("heartbeat", "", crate::wire::response::Headers::none())
        .await?;
    cx.claim(HOST_START_014)
        .answered("the host replies to a heartbeat request within 5 s", &reply);
    let status = cx.status(&slow).await?;
    let description = "the slow start is still in progress (otherwise this check proves nothing)";
    let in_progress = status.state == State::Starting;
    cx.claim(HOST_START_014)
        .about(&status)
        .holds(description, in_progress, || status.to_string());
    Ok(())
}

/// Heartbeats continue while slow starts are in progress for more than 30 s.
async fn heartbeats_continue(cx: &CheckContext) -> Flow {
    let mut heartbeats = cx.heartbeats();
    let started_at = Instant::now();
    let duration = deadlines::HEARTBEAT_GAP_MAX.limit + Duration::from_secs(3);
    let probe_id = cx.id("never-started");
    let mut index = 0;
    while started_at.elapsed() < duration {
        begin_slow_start(cx, &format!("slow-{index}"), Duration::from_secs(6)).await?;
        // The next start begins before this one ends, so that a start is always in progress.
        let replies = cx.consistently(
            Duration::from_secs(4),
            "the host replies to status",
            || async { Ok::<_, String>(cx.status(&probe_id).await?) },
        );
        replies.await.or_blocked(cx, HOST_START_014)?;
        index += 1;
    }
    let subject = crate::wire::nats::heartbeat_subject(cx.host_id());
    let mut times = vec![started_at];
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
    let description = "heartbeats are at most 30 s apart while starts are in progress";
    let held = longest <= deadlines::HEARTBEAT_GAP_MAX.limit + cx.fixture().patience();
    cx.claim(HOST_START_015).holds(description, held, || {
        format!("{:.1} s without a heartbeat", longest.as_secs_f64())
    });
    Ok(())
}

/// The state in status matches the state in the reply to the start, also for some time after it.
async fn reply_matches_status(cx: &CheckContext) -> Flow {
    let healthy = cx.push_as("healthy", Role::Idle, RepositoryBehavior::Healthy);
    let missing = cx.push_as("missing", Role::Idle, RepositoryBehavior::NotFound);
    let invalid = cx.push_as("invalid", Role::Idle, RepositoryBehavior::TextInsteadOfJson);
    for (name, workload) in [
        ("empty", cx.workload()),
        ("good", idle_workload(cx, &healthy)),
        ("missing", idle_workload(cx, &missing)),
        ("invalid", idle_workload(cx, &invalid)),
        (
            "malformed",
            cx.workload().component("Not A Reference/UPPER:1"),
        ),
    ] {
        claim_reply_matches_status(cx, &cx.id(name), &workload).await?;
    }
    Ok(())
}

/// The state of a service in status matches the state in the reply to its start.
async fn reply_of_service_matches_status(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    let workload = cx.workload().service(Role::ServiceRun).beacon(&beacon);
    claim_reply_matches_status(cx, &id, &workload).await?;
    let up = beacon.wait("up", 1, deadlines::DEFAULT_WAIT.limit).await;
    cx.claim(HOST_SVC_016)
        .holds("the service runs", up.is_ok(), || "no beacon");
    Ok(())
}

/// Starts a workload whose state does not change by itself once its start is done, and records the
/// claims that the reply and status agree.
async fn claim_reply_matches_status(cx: &CheckContext, id: &str, workload: &Workload<'_>) -> Flow {
    let start = cx.start(id, workload).await?;
    let description = "the state in status is the state in the reply to the start";
    let agrees = cx.consistently(Duration::from_millis(800), description, || async {
        let status = cx.status(id).await?;
        // STARTING may already be stale; every other state is final.
        if start.state == State::Starting || start.state == status.state {
            Ok(())
        } else {
            Err(format!(
                "{} in the reply, {} in status",
                start.state, status.state
            ))
        }
    });
    cx.claim(HOST_START_019).about(&start).met(agrees.await);
    Ok(())
}
