//! Checks of starts that are in progress or have failed, with slow and failing registries.

use std::time::{Duration, Instant};

use super::image_support::{claim_becomes_running, idle_workload, push_slow};
use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::registry::{PushedImage, RepositoryBehavior};
use crate::wire::response::{Response, State};

/// Checks of the sections `images`, `start` and `stop` that need a slow or a failing registry.
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
        roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "start/other-workloads", run: other_workloads, covers: [HOST_START_014],
        host: Own, roles: [Idle], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "start/heartbeats-continue", run: heartbeats_continue, covers: [HOST_START_015],
        host: Own, roles: [Idle], needs: [Registry], budget_s: 130, slow: false,
    },
    check! {
        id: "start/failure-reported", run: failure_reported,
        covers: [HOST_START_016, HOST_START_018], host: Shared, roles: [Idle],
        needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "start/retry-after-failure", run: retry_after_failure, covers: [HOST_START_017],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "start/reply-matches-status", run: reply_matches_status, covers: [HOST_START_019],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "stop/during-start", run: stop_during_start, covers: [HOST_STOP_005],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "stop/after-failure", run: stop_after_failure, covers: [HOST_STOP_006],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
];

/// After each kind of failed pull, another image is pulled and its workload becomes RUNNING.
async fn failures_isolated(cx: &CheckContext) -> Flow {
    for (index, behavior) in [
        RepositoryBehavior::NotFound,
        RepositoryBehavior::Unauthorized,
        RepositoryBehavior::CloseConnection,
        RepositoryBehavior::TextInsteadOfJson,
        RepositoryBehavior::WrongBlob,
    ]
    .into_iter()
    .enumerate()
    {
        let pushed = cx.push_as(&format!("bad-{index}"), Role::Idle, behavior);
        cx.start(&cx.id(&format!("bad-{index}")), &idle_workload(cx, &pushed))
            .await?;
        let good = cx.push_as(
            &format!("good-{index}"),
            Role::Idle,
            RepositoryBehavior::Healthy,
        );
        let description = format!("a healthy image after failed pull number {}", index + 1);
        claim_becomes_running(
            cx,
            HOST_IMG_020,
            &description,
            &cx.id(&format!("good-{index}")),
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
    let repository = cx.repository(name);
    let requested = cx
        .registry()
        .wait(&repository, deadlines::DEFAULT_WAIT.limit, |log| {
            !log.is_empty()
        })
        .await;
    requested.map_err(|_| cx.blocked(HOST_WIRE_003, "a pull", &"no request to the registry"))?;
    Ok(id)
}

/// The state is STARTING while the image is pulled.
async fn starting(cx: &CheckContext) -> Flow {
    let id = begin_slow_start(cx, "slow", Duration::from_secs(3)).await?;
    let status = cx.status(&id).await?;
    let description = "state while the image is pulled";
    cx.claim(HOST_START_013)
        .about(&status)
        .is(description, status.state.clone(), State::Starting);
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

/// Starts a workload whose image is missing and waits for ERROR.
async fn failed_start(cx: &CheckContext, id: &str) -> Result<(PushedImage, Response), Blocked> {
    let pushed = cx.push_as("idle", Role::Idle, RepositoryBehavior::NotFound);
    let start = cx.start(id, &idle_workload(cx, &pushed)).await?;
    if start.state == State::Starting {
        let failed = cx
            .wait_for_state(id, State::Error, deadlines::PULL_TIMEOUT)
            .await;
        return Ok((pushed, failed.or_blocked(cx, HOST_IMG_003)?));
    }
    match start.state {
        State::Error => Ok((pushed, start)),
        _ => Err(cx.blocked(HOST_IMG_003, "a start that fails", &start)),
    }
}

/// After a failed start, status stays ERROR with a message that names the component and the image.
async fn failure_reported(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let (pushed, failure) = failed_start(cx, &id).await?;
    let unchanged = cx.consistently(
        Duration::from_secs(1),
        "the state stays ERROR, with a message",
        || async {
            let status = cx.status(&id).await?;
            if status.message.trim().is_empty() {
                Err(format!("{status}, without a message"))
            } else {
                status.in_state(State::Error)
            }
        },
    );
    cx.claim(HOST_START_016).met(unchanged.await);
    let names_both = failure.message.contains("c0") && failure.message.contains(&pushed.reference);
    let description = format!(
        "the message names the component `c0` and the image `{}`",
        pushed.reference
    );
    cx.claim(HOST_START_018)
        .holds(&description, names_both, || {
            format!("message {:?}", failure.message)
        });
    Ok(())
}

/// After the image becomes available, the same id can be started again without a stop.
async fn retry_after_failure(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let (pushed, _) = failed_start(cx, &id).await?;
    cx.registry()
        .set_behavior(&cx.repository("idle"), RepositoryBehavior::Healthy);
    claim_becomes_running(
        cx,
        HOST_START_017,
        "a second start of an id in ERROR",
        &id,
        &idle_workload(cx, &pushed),
    )
    .await?;
    Ok(())
}

/// The state in status matches the state in the reply to the start.
async fn reply_matches_status(cx: &CheckContext) -> Flow {
    let (good, bad) = (cx.id("good"), cx.id("bad"));
    let healthy = cx.push_as("healthy", Role::Idle, RepositoryBehavior::Healthy);
    let missing = cx.push_as("missing", Role::Idle, RepositoryBehavior::NotFound);
    for (id, pushed) in [(&good, &healthy), (&bad, &missing)] {
        let start = cx.start(id, &idle_workload(cx, pushed)).await?;
        let status = cx.status(id).await?;
        // STARTING may already be stale; every other state is final.
        let matches = start.state == State::Starting || start.state == status.state;
        cx.claim(HOST_START_019).about(&status).holds(
            "the state in status matches the state in the reply to the start",
            matches,
            || format!("{} in the reply, {} in status", start.state, status.state),
        );
    }
    Ok(())
}

/// A stop cancels a start in progress: the id becomes NOT_FOUND and can be started again.
async fn stop_during_start(cx: &CheckContext) -> Flow {
    let pushed = cx.push_with(Role::Idle, RepositoryBehavior::HangOnManifest);
    let id = cx.id("a");
    let payload = idle_workload(cx, &pushed).start_request(&id).to_string();
    cx.publish_no_reply("workload.start", payload).await?;
    let repository = cx.repository(Role::Idle.name());
    let requested = cx
        .registry()
        .wait(&repository, deadlines::DEFAULT_WAIT.limit, |log| {
            !log.is_empty()
        })
        .await;
    requested.map_err(|_| cx.blocked(HOST_WIRE_003, "a pull", &"no request to the registry"))?;
    let stop = serde_json::json!({ "workloadId": id }).to_string();
    let reply = cx
        .send(
            "workload.stop",
            stop,
            crate::wire::response::Headers::none(),
        )
        .await?;
    cx.claim(HOST_STOP_005).answered(
        "the host replies to a stop during a start within 5 s",
        &reply,
    );
    let not_found = cx
        .wait_for_state(&id, State::NotFound, deadlines::STOP_FREES_ID)
        .await;
    if cx.claim(HOST_STOP_005).met(not_found).is_some() {
        let restart = cx.start(&id, &cx.workload()).await?;
        let accepted = matches!(restart.state, State::Running | State::Starting);
        cx.claim(HOST_STOP_005).about(&restart).holds(
            "the id can be started again immediately",
            accepted,
            || restart.to_string(),
        );
    }
    Ok(())
}

/// A stop of an id in ERROR makes it NOT_FOUND.
async fn stop_after_failure(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    failed_start(cx, &id).await?;
    cx.stop(&id).await?;
    cx.claim(HOST_STOP_006).met(cx.wait_not_found(&id).await);
    Ok(())
}
