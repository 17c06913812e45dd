//! Resilience checks: broker outages, lost and duplicate messages, and load.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use serde_json::json;

use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::tap::{Action, Direction, FrameKind, Mark, OutageMode, Rule, Tap};
use crate::wire::response::{Headers, State};

/// Checks of the section `resilience`.
pub const CHECKS: &[Check] = &[
    check! {
        id: "resilience/outage", run: outage,
        covers: [HOST_RESIL_001, HOST_RESIL_002, HOST_RESIL_003, HOST_RESIL_004], host: Own,
        roles: [ServiceRun], needs: [Tap, Process, Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "resilience/late-broker", run: late_broker, covers: [HOST_RESIL_005],
        host: Shared, roles: [], needs: [Process], budget_s: 60, slow: false,
    },
    check! {
        id: "resilience/duplicate-delivery", run: duplicate_delivery, covers: [HOST_RESIL_006],
        host: Own, roles: [], needs: [Tap], budget_s: 60, slow: false,
    },
    check! {
        id: "resilience/lost-reply", run: lost_reply, covers: [HOST_RESIL_007], host: Own,
        roles: [ServiceRun], needs: [Tap, Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "resilience/load", run: load, covers: [HOST_RESIL_008], host: Own, roles: [],
        budget_s: 90, slow: false,
    },
    check! {
        id: "resilience/long-outage", run: long_outage, covers: [HOST_RESIL_009, HOST_RESIL_004],
        host: Own, roles: [], needs: [Tap, Process], budget_s: 300, slow: true,
    },
    check! {
        id: "resilience/half-open", run: half_open, covers: [HOST_RESIL_010], host: Own, roles: [],
        needs: [Tap], budget_s: 300, slow: true,
    },
];

/// Duration of the short outage, in which a host with a short interval misses a heartbeat.
const OUTAGE: Duration = Duration::from_secs(6);
/// Delay between the launch of the host and the start of its broker.
const BROKER_DELAY: Duration = Duration::from_secs(4);
/// Duration of the long outage.
const LONG_OUTAGE: Duration = Duration::from_secs(180);

/// Disconnects the host from the broker for `duration`. Returns the position in the recording and
/// the time at which the connection became possible again.
async fn disconnect(
    cx: &CheckContext,
    tap: &Tap,
    duration: Duration,
) -> Result<(Mark, Instant), Blocked> {
    let outage = tap.start_outage(OutageMode::Refuse).await;
    let disconnected = cx.consistently(duration, "the host has no connection", || async {
        match tap.connections() {
            0 => Ok(()),
            n => Err(format!("{n} connections")),
        }
    });
    disconnected
        .await
        .result
        .map_err(|missed| Blocked::harness("broker outage", missed.actual))?;
    let mark = tap.mark();
    outage.restore().await;
    Ok((mark, Instant::now()))
}

/// Records the claim that the host replies to `status` again in time.
async fn claim_recovery(cx: &CheckContext, requirement: Requirement) -> bool {
    let id = cx.id("never-started");
    let payload = json!({ "workloadId": id }).to_string();
    let recovered = cx.eventually(
        deadlines::RECOVERY,
        "the host replies to status again",
        || async {
            let reply = cx
                .send("workload.status", payload.clone(), Headers::none())
                .await?;
            reply
                .response()
                .map(|_| ())
                .ok_or_else(|| reply.to_string())
        },
    );
    cx.claim(requirement).met(recovered.await).is_some()
}

/// Returns the times of the heartbeats that the host published since `mark`.
fn heartbeats_since(cx: &CheckContext, tap: &Tap, mark: Mark) -> Vec<Instant> {
    let subject = crate::wire::nats::heartbeat_subject(cx.host_id());
    let frames = tap.frames_since(mark);
    let heartbeats = frames.iter().filter(|frame| {
        frame.kind == FrameKind::Publish
            && frame.direction == Direction::FromTarget
            && frame.is_on(&subject)
    });
    heartbeats.map(|frame| frame.at).collect()
}

/// Returns the time at which the host connected again.
fn reconnected_at(tap: &Tap, mark: Mark) -> Option<Instant> {
    let frames = tap.frames_since(mark);
    frames
        .iter()
        .find(|frame| frame.kind == FrameKind::Connect)
        .map(|frame| frame.at)
}

/// Records the claim that the host publishes at most two heartbeats in the first second: one after
/// the outage and one periodic.
fn claim_no_burst(cx: &CheckContext, tap: &Tap, mark: Mark) {
    let heartbeats = heartbeats_since(cx, tap, mark);
    let first_second = heartbeats.first().map_or(0, |first| {
        heartbeats
            .iter()
            .filter(|at| at.saturating_duration_since(*first) < Duration::from_secs(1))
            .count()
    });
    cx.claim(HOST_RESIL_004).holds(
        "at most two heartbeats in the first second after the outage",
        first_second <= 2,
        || format!("{first_second} heartbeats in the first second"),
    );
}

/// After a short outage, the host replies again, publishes one heartbeat, and its workload kept
/// running.
async fn outage(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    cx.start_and_wait(
        &id,
        &cx.workload().service(Role::ServiceRun).beacon(&beacon),
    )
    .await?;
    let up = beacon.wait("up", 1, deadlines::DEFAULT_WAIT.limit).await;
    up.map_err(|missed| cx.blocked(HOST_SVC_016, "a service that runs", &missed))?;
    let (tap, process) = (cx.tap()?, cx.process()?);

    let (mark, restored_at) = disconnect(cx, tap, OUTAGE).await?;
    claim_recovery(cx, HOST_RESIL_001).await;
    cx.claim(HOST_RESIL_001)
        .holds("the process keeps running", !process.has_exited(), || {
            "the process exited".to_owned()
        });

    let heartbeat = cx.eventually(
        deadlines::RECOVERY,
        "a heartbeat after the outage",
        || async {
            heartbeats_since(cx, tap, mark)
                .first()
                .copied()
                .ok_or_else(|| "no heartbeat".to_owned())
        },
    );
    if let Some(heartbeat_at) = cx.claim(HOST_RESIL_002).met(heartbeat.await) {
        let after = heartbeat_at
            .saturating_duration_since(reconnected_at(tap, mark).unwrap_or(restored_at));
        let in_time = after <= deadlines::HEARTBEAT_AFTER_RECONNECT.limit + cx.fixture().patience();
        cx.claim(HOST_RESIL_002).holds(
            "the host publishes a heartbeat within 2 s of reconnecting",
            in_time,
            || format!("after {after:?}"),
        );
    }
    let stays_running = cx.consistently(
        Duration::from_millis(1200),
        "the workload stays RUNNING",
        || async { cx.status(&id).await?.in_state(State::Running) },
    );
    cx.claim(HOST_RESIL_003).met(stays_running.await);
    cx.claim(HOST_RESIL_003)
        .is("number of runs of the service", beacon.count("up"), 1);
    claim_no_burst(cx, tap, mark);
    Ok(())
}

/// A host that is launched before its broker connects when the broker is reachable.
async fn late_broker(cx: &CheckContext) -> Flow {
    let launched = cx.launch_before_broker(BROKER_DELAY).await?;
    let description =
        "the host, launched 4 s before its broker, connects when the broker is reachable";
    cx.claim(HOST_RESIL_005)
        .holds(description, launched.is_ok(), || match &launched {
            Ok(_) => String::new(),
            Err(error) => crate::check::outcome::error_chain(error),
        });
    Ok(())
}

/// If the broker delivers a start twice, the host accepts one copy and refuses the other copy with
/// code 409.
async fn duplicate_delivery(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let start = cx.workload().start_request(&id).to_string();
    let rule = Rule::on(
        crate::wire::nats::command_subject("*", "workload.start"),
        Action::Duplicate,
    )
    .to_target();
    let _duplicate = cx.tap()?.add_rule(rule.containing(&id).times(1));
    let mut replies = cx.request("workload.start", start, Headers::none()).await?;
    let mut responses = Vec::new();
    while responses.len() < 2 {
        let Some(delivery) = replies
            .next(deadlines::REPLY.limit + cx.fixture().patience())
            .await
        else {
            break;
        };
        responses.extend(
            crate::host::context::parse_reply(delivery, &replies)
                .response()
                .cloned(),
        );
    }
    cx.claim(HOST_RESIL_006).is(
        "number of replies to a start that was delivered twice",
        responses.len(),
        2,
    );
    let refused = responses
        .iter()
        .filter(|response| response.error_code == Some(409))
        .count();
    cx.claim(HOST_RESIL_006).is(
        "number of copies that are refused with code 409",
        refused,
        1,
    );
    cx.claim(HOST_RESIL_006)
        .met(cx.wait_running(&id, deadlines::DEFAULT_WAIT).await);
    Ok(())
}

/// A retry after a lost reply is refused with code 409, and the service runs once.
async fn lost_reply(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    let workload = cx.workload().service(Role::ServiceRun).beacon(&beacon);
    let rule = Rule::replies_to(
        crate::wire::nats::command_subject("*", "workload.start"),
        Action::Drop,
    )
    .from_target();
    let _lost = cx.tap()?.add_rule(rule.containing(&id).times(1));
    let payload = workload.start_request(&id).to_string();
    let first = cx
        .send_within(
            "workload.start",
            payload,
            Headers::none(),
            Duration::from_millis(500),
        )
        .await?;
    if let Some(response) = first.response() {
        return Err(Blocked::harness("the tap did not drop the reply", response));
    }
    cx.wait_running(&id, deadlines::DEFAULT_WAIT)
        .await
        .or_blocked(cx, HOST_START_001)?;
    let up = beacon.wait("up", 1, deadlines::DEFAULT_WAIT.limit).await;
    up.map_err(|missed| cx.blocked(HOST_SVC_016, "a service that runs", &missed))?;

    let retry = cx.start(&id, &workload).await?;
    let refused = retry.state == State::Error && retry.error_code == Some(409);
    let description = "the retry is refused with ERROR and code 409";
    cx.claim(HOST_RESIL_007)
        .about(&retry)
        .holds(description, refused, || retry.to_string());
    let status = cx.status(&id).await?;
    cx.claim(HOST_RESIL_007)
        .is("state after the retry", status.state, State::Running);
    let once = cx.consistently(Duration::from_secs(1), "the service runs once", || async {
        match beacon.count("up") {
            1 => Ok(()),
            runs => Err(format!("{runs} runs")),
        }
    });
    cx.claim(HOST_RESIL_007).met(once.await);
    Ok(())
}

/// The host replies to 200 concurrent requests within 5 s, each with the right id.
async fn load(cx: &CheckContext) -> Flow {
    let ids: Vec<String> = (0..200).map(|n| cx.id(&format!("never-{n}"))).collect();
    let requests = ids.iter().map(|id| {
        cx.send(
            "workload.status",
            json!({ "workloadId": id }).to_string(),
            Headers::none(),
        )
    });
    let replies = try_join_all(requests).await?;
    let answered = replies
        .iter()
        .filter(|reply| reply.response().is_some())
        .count();
    cx.claim(HOST_RESIL_008).is(
        "number of replies within 5 s to 200 concurrent requests",
        answered,
        200,
    );
    let with_right_id = replies
        .iter()
        .zip(&ids)
        .filter(|(reply, id)| reply.response().is_some_and(|response| response.id == **id))
        .count();
    cx.claim(HOST_RESIL_008).is(
        "number of replies with the id of the request",
        with_right_id,
        200,
    );
    Ok(())
}

/// After an outage of three minutes, the host replies again, its workload runs, and it publishes
/// one heartbeat.
async fn long_outage(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    cx.start_and_wait(&id, &cx.workload()).await?;
    let (tap, process) = (cx.tap()?, cx.process()?);
    let (mark, _) = disconnect(cx, tap, LONG_OUTAGE).await?;
    claim_recovery(cx, HOST_RESIL_009).await;
    cx.claim(HOST_RESIL_009)
        .holds("the process keeps running", !process.has_exited(), || {
            "the process exited".to_owned()
        });
    if let Ok(status) = cx.status(&id).await {
        cx.claim(HOST_RESIL_009).is(
            "state of the workload after the outage",
            status.state,
            State::Running,
        );
    }
    let heartbeat = cx.eventually(
        deadlines::RECOVERY,
        "a heartbeat after the outage",
        || async {
            heartbeats_since(cx, tap, mark)
                .first()
                .map(|_| ())
                .ok_or_else(|| "no heartbeat".to_owned())
        },
    );
    cx.claim(HOST_RESIL_009).met(heartbeat.await);
    claim_no_burst(cx, tap, mark);
    Ok(())
}

/// The host detects a connection that stays open without traffic, and reconnects.
async fn half_open(cx: &CheckContext) -> Flow {
    let tap = cx.tap()?;
    cx.status(&cx.id("never-started")).await?;
    let mark = tap.mark();
    let frozen = tap.freeze();
    let deadline =
        tokio::time::Instant::now() + deadlines::DEAD_CONNECTION.limit + cx.fixture().patience();
    let closed = tap
        .wait_for(
            mark,
            |frame| matches!(frame.kind, FrameKind::Opened | FrameKind::Closed),
            deadline,
        )
        .await;
    cx.claim(HOST_RESIL_010).holds(
        "the host closes a dead connection within 3 minutes",
        closed.is_ok(),
        || "the connection is still open".to_owned(),
    );
    drop(frozen);
    claim_recovery(cx, HOST_RESIL_010).await;
    Ok(())
}
