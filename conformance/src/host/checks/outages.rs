//! Outage checks: the host and its workloads while the broker is unreachable, and afterwards.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;

use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::{CheckContext, Waited};
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::tap::{Direction, FrameKind, Mark, OutageMode, Tap};
use crate::wire::response::{Headers, State};

/// Checks of the section `resilience` that disconnect the host.
pub const CHECKS: &[Check] = &[
    check! {
        id: "resilience/outage", run: outage,
        covers: [HOST_RESIL_001, HOST_RESIL_002, HOST_RESIL_003, HOST_RESIL_004], host: Own,
        roles: [ServiceRun], needs: [Tap, Process, Registry],
        waits_s: 19, budget_s: 120, slow: false,
    },
    check! {
        id: "resilience/restarts-in-outage", run: restarts_in_outage, covers: [HOST_RESIL_003],
        host: Own, roles: [ServiceErr], needs: [Tap, Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "resilience/requests-in-outage", run: requests_in_outage,
        covers: [HOST_RESIL_003, HOST_HTTP_001], host: Own, roles: [Hello],
        needs: [Tap, Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resilience/late-broker", run: late_broker, covers: [HOST_RESIL_005],
        host: Shared, roles: [], needs: [Process], budget_s: 60, slow: false,
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

/// Outage in which a host with a short interval misses a heartbeat.
const LONG: Duration = Duration::from_secs(6);
/// Outage after which a host whose delay between connection attempts was never reset is late.
const SHORT: Duration = Duration::from_secs(1);
/// Outages of one host. The delays of a host that doubles them and never resets them after a
/// success soon exceed the deadline.
const OUTAGES: [Duration; 4] = [LONG, SHORT, Duration::from_secs(2), SHORT];
/// Longest delay before a restart after which the next one is expected within an outage of 6 s.
const SHORT_RESTART_DELAY: Duration = Duration::from_secs(1);
/// Tolerance for the measurement of the time between two heartbeats.
const MEASUREMENT_ERROR: Duration = Duration::from_millis(250);
/// Delay between the launch of the host and the start of its broker.
const BROKER_DELAY: Duration = Duration::from_secs(4);
/// Duration of the long outage.
const LONG_OUTAGE: Duration = Duration::from_secs(180);

/// Disconnects the host from the broker for `duration`. Returns the position in the recording and
/// the time at which the connection became possible again.
pub(super) async fn disconnect(
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

/// Waits until the host replies to `status` again.
pub(super) async fn recovered(cx: &CheckContext) -> Waited<()> {
    let id = cx.id("never-started");
    let payload = json!({ "workloadId": id }).to_string();
    cx.eventually(
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
    )
    .await
}

/// Records the claim that the host replies to `status` again in time.
pub(super) async fn claim_recovery(cx: &CheckContext, requirement: Requirement) -> bool {
    let recovered = recovered(cx).await;
    cx.claim(requirement).met(recovered).is_some()
}

/// Returns the time and the payload of each heartbeat that the host published since `mark`.
fn heartbeats_since(cx: &CheckContext, tap: &Tap, mark: Mark) -> Vec<(Instant, Bytes)> {
    let subject = crate::wire::nats::heartbeat_subject(cx.host_id());
    let frames = tap.frames_since(mark);
    let heartbeats = frames.iter().filter(|frame| {
        frame.kind == FrameKind::Publish
            && frame.direction == Direction::FromTarget
            && frame.is_on(&subject)
    });
    heartbeats
        .map(|frame| (frame.at, frame.payload.clone()))
        .collect()
}

/// Returns the payload of the first heartbeat that the host published since `mark`.
pub(super) fn first_heartbeat_since(cx: &CheckContext, tap: &Tap, mark: Mark) -> Option<Bytes> {
    let heartbeats = heartbeats_since(cx, tap, mark);
    heartbeats.into_iter().next().map(|(_, payload)| payload)
}

/// Returns the time at which the host connected again.
fn reconnected_at(tap: &Tap, mark: Mark) -> Option<Instant> {
    let frames = tap.frames_since(mark);
    frames
        .iter()
        .find(|frame| frame.kind == FrameKind::Connect)
        .map(|frame| frame.at)
}

/// Records the claim that the host publishes one heartbeat for the outage, and the next one not
/// earlier than a second later.
fn claim_no_burst(cx: &CheckContext, tap: &Tap, mark: Mark) {
    let heartbeats = heartbeats_since(cx, tap, mark);
    let Some((first, _)) = heartbeats.first() else {
        cx.claim(HOST_RESIL_004)
            .holds("one heartbeat after the outage", false, || "none");
        return;
    };
    let gap = deadlines::HEARTBEAT_GAP_MIN.limit - MEASUREMENT_ERROR;
    let offsets: Vec<Duration> = heartbeats
        .iter()
        .map(|(at, _)| at.saturating_duration_since(*first))
        .filter(|offset| *offset < gap)
        .collect();
    cx.claim(HOST_RESIL_004).holds(
        "one heartbeat in the first second after the outage",
        offsets.len() == 1,
        || format!("heartbeats {offsets:?} after the first one"),
    );
}

/// After each of several outages, the host replies again, publishes one heartbeat, and its
/// workloads kept running.
async fn outage(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    let workload = cx.workload().service(Role::ServiceRun).beacon(&beacon);
    cx.start_and_wait(&id, &workload).await?;
    let up = beacon.wait("up", 1, deadlines::DEFAULT_WAIT.limit).await;
    up.map_err(|missed| cx.blocked(HOST_SVC_016, "a service that runs", &missed))?;
    let (tap, process) = (cx.tap()?, cx.process()?);

    for duration in OUTAGES {
        let (mark, restored_at) = disconnect(cx, tap, duration).await?;
        if !claim_recovery(cx, HOST_RESIL_001).await {
            cx.claim(HOST_RESIL_001).holds(
                "the process keeps running",
                !process.has_exited(),
                || "the process exited",
            );
            break;
        }
        claim_heartbeat_in_time(cx, tap, mark, restored_at).await;
        let stays_running = cx.consistently(
            Duration::from_millis(1200),
            "the workload stays RUNNING",
            || async { cx.status(&id).await?.in_state(State::Running) },
        );
        cx.claim(HOST_RESIL_003).met(stays_running.await);
        cx.claim(HOST_RESIL_003)
            .is("number of runs of the service", beacon.count("up"), 1);
        claim_no_burst(cx, tap, mark);
    }
    Ok(())
}

/// Records the claim that the host publishes a heartbeat within 2 s of its reconnect.
async fn claim_heartbeat_in_time(cx: &CheckContext, tap: &Tap, mark: Mark, restored_at: Instant) {
    let heartbeat = cx.eventually(
        deadlines::RECOVERY,
        "a heartbeat after the outage",
        || async {
            heartbeats_since(cx, tap, mark)
                .first()
                .map(|(at, _)| *at)
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
}

/// A service that fails is restarted during an outage as before it.
async fn restarts_in_outage(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    let workload = cx.workload().service(Role::ServiceErr).beacon(&beacon);
    cx.start(&id, &workload.max_restarts(10)).await?;
    let runs = beacon.wait("run", 3, deadlines::DEFAULT_WAIT.limit).await;
    let runs = runs.map_err(|missed| cx.blocked(HOST_SVC_006, "a third run", &missed))?;
    let delay = match runs.as_slice() {
        [.., before, last] => last.at.saturating_duration_since(before.at),
        _ => Duration::ZERO,
    };
    let tap = cx.tap()?;
    let outage = tap.start_outage(OutageMode::Refuse).await;
    let before = beacon.count("run");
    let restarted = cx
        .eventually(LONG, "a run during the outage", || async {
            match beacon.count("run") {
                runs if runs > before => Ok(()),
                runs => Err(format!("still {runs} runs")),
            }
        })
        .await;
    outage.restore().await;
    // Longer delays are permitted, but then the outage is too short for the next run.
    if restarted.is_met() || delay <= SHORT_RESTART_DELAY {
        cx.claim(HOST_RESIL_003).met(restarted);
    } else {
        cx.claim(HOST_RESIL_003)
            .holds("the service was restarted before the outage", true, || "");
    }
    Ok(())
}

/// The ingress serves workloads during an outage.
async fn requests_in_outage(cx: &CheckContext) -> Flow {
    let (id, host) = (cx.id("a"), cx.http_host_name("a"));
    let workload = cx.workload().component(Role::Hello).http_host(&host);
    cx.start_and_wait(&id, &workload).await?;
    let response = cx.http_get(&host, "/").await?;
    let description = "status of the response before the outage";
    cx.claim(HOST_HTTP_001)
        .is(description, response.status, 200);
    let outage = cx.tap()?.start_outage(OutageMode::Refuse).await;
    let served = cx
        .consistently(SHORT, "the ingress serves the workload", || async {
            let response = cx.http_get(&host, "/").await?;
            match response.status {
                200 => Ok(()),
                _ => Err(response.to_string()),
            }
        })
        .await;
    outage.restore().await;
    cx.claim(HOST_RESIL_003).met(served);
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
