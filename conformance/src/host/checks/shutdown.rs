//! Shutdown checks: behavior of a host between the signal and its exit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use super::image_support::{push_slow, wait_for_pull};
use super::stop_guests::OpenConnection;
use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::registry::RepositoryBehavior;
use crate::testbed::tap::{Direction, Frame, FrameKind};
use crate::wire::response::{Headers, Reply, State};

/// Checks of the section `shutdown`.
pub const CHECKS: &[Check] = &[
    check! {
        id: "shutdown/sigterm", run: sigterm,
        covers: [HOST_DOWN_001, HOST_DOWN_002, HOST_DOWN_004, HOST_DOWN_005], host: Own,
        roles: [ServicePing], needs: [Tap, Process, Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "shutdown/sigint", run: sigint,
        covers: [HOST_DOWN_001, HOST_DOWN_002, HOST_DOWN_004, HOST_DOWN_005], host: Own,
        roles: [ServicePing], needs: [Tap, Process, Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "shutdown/states", run: states, covers: [HOST_DOWN_002], host: Own,
        roles: [Idle, ServiceOk, ServiceErr, ServiceRun], needs: [Process, Registry],
        budget_s: 120, slow: false,
    },
    check! {
        id: "shutdown/open-connection", run: open_connection,
        covers: [HOST_DOWN_002, HOST_HTTP_001], host: Own, roles: [Hello],
        needs: [Process, Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "shutdown/start-in-flight", run: start_in_flight, covers: [HOST_DOWN_003], host: Own,
        roles: [Idle], needs: [Process, Registry], budget_s: 90, slow: false,
    },
];

/// SIGTERM shuts the host down gracefully.
async fn sigterm(cx: &CheckContext) -> Flow {
    verify_shutdown(cx, Signal::SIGTERM).await
}

/// SIGINT shuts the host down gracefully.
async fn sigint(cx: &CheckContext) -> Flow {
    verify_shutdown(cx, Signal::SIGINT).await
}

/// After the signal, the host unsubscribes, publishes no further heartbeat, exits with code 0 and
/// ends its guests.
async fn verify_shutdown(cx: &CheckContext, signal: Signal) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    cx.start_and_wait(
        &id,
        &cx.workload().service(Role::ServicePing).beacon(&beacon),
    )
    .await?;
    let pings = beacon.wait("ping", 2, deadlines::REPLY.limit).await;
    pings.map_err(|missed| cx.blocked(HOST_SVC_016, "a service that sends pings", &missed))?;

    let (tap, process) = (cx.tap()?, cx.process()?);
    let mark = tap.mark();
    process.signal(signal);
    let description = format!("commands have no responders after {signal}");
    let payload = json!({ "workloadId": id }).to_string();
    let no_responders = cx.eventually(deadlines::UNSUBSCRIBE, &description, || async {
        let short = Duration::from_millis(300);
        match cx
            .send_within("workload.status", payload.clone(), Headers::none(), short)
            .await?
        {
            Reply::NoResponders { .. } => Ok(()),
            other => Err(other.to_string()),
        }
    });
    cx.claim(HOST_DOWN_001).met(no_responders.await);
    claim_running_until_unsubscribed(cx, &id, &tap.frames_since(mark));

    let exit = process
        .wait_exit(deadlines::EXIT.limit + cx.fixture().patience())
        .await;
    let exited_at = Instant::now();
    let code = exit.and_then(|status| status.code());
    cx.claim(HOST_DOWN_002).is(
        &format!("exit code within 30 s after {signal}"),
        code,
        Some(0),
    );

    claim_no_late_heartbeat(cx, &tap.frames_since(mark));

    // A ping that was in flight at the exit does not prove that the guest still runs.
    let grace = Duration::from_millis(500) + cx.fixture().patience();
    let no_late_ping = cx.never(
        grace * 3,
        "a ping of the guest after the exit of the host",
        || async {
            let last = beacon
                .hits()
                .last()
                .map(|hit| hit.at.saturating_duration_since(exited_at));
            last.filter(|after| *after > grace)
                .map(|after| format!("a ping {after:?} after the exit"))
        },
    );
    cx.claim(HOST_DOWN_005).met(no_late_ping.await);
    Ok(())
}

/// Records the claim that the host did not stop the workload before it ended its command
/// subscription, as far as its replies show.
fn claim_running_until_unsubscribed(cx: &CheckContext, id: &str, frames: &[Arc<Frame>]) {
    let is_end =
        |frame: &&Arc<Frame>| !matches!(frame.kind, FrameKind::Unsubscribe | FrameKind::Closed);
    let stopped = frames.iter().take_while(is_end).find(|frame| {
        let is_status = frame.kind == FrameKind::Publish
            && frame.direction == Direction::FromTarget
            && frame
                .in_reply_to
                .as_ref()
                .is_some_and(|request| contains(&request.payload, id.as_bytes()));
        // A host that is shutting down may also refuse the request with 503.
        let is_stopped = frame.contains(b"STATE_STOPPING") || frame.contains(b"STATE_NOT_FOUND");
        is_status && is_stopped
    });
    cx.claim(HOST_DOWN_001).holds(
        "no workload is stopped before the end of the command subscription",
        stopped.is_none(),
        || {
            stopped.map_or_else(String::new, |frame| {
                String::from_utf8_lossy(&frame.payload).into_owned()
            })
        },
    );
}

/// Returns whether `bytes` contain `part`.
fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Sends SIGTERM and records the claim that the process exits with code 0.
async fn claim_exit(cx: &CheckContext, situation: &str) -> Flow {
    let process = cx.process()?;
    process.signal(Signal::SIGTERM);
    let exit = process
        .wait_exit(deadlines::EXIT.limit + cx.fixture().patience())
        .await;
    let description = format!("exit code within 30 s after SIGTERM, {situation}");
    let code = exit.and_then(|status| status.code());
    cx.claim(HOST_DOWN_002).is(&description, code, Some(0));
    Ok(())
}

/// The host exits with code 0 whatever states its ids have.
async fn states(cx: &CheckContext) -> Flow {
    for (role, restarts, state) in [
        (Role::ServiceOk, 0, State::Completed),
        (Role::ServiceErr, 0, State::Error),
        (Role::ServiceErr, 50, State::Starting),
        (Role::ServiceRun, 0, State::Running),
    ] {
        let (id, beacon) = (cx.id(&format!("{role}-{restarts}")), cx.beacon());
        let workload = cx.workload().service(role).beacon(&beacon);
        cx.start(&id, &workload.max_restarts(restarts)).await?;
        cx.wait_for_state(&id, state, deadlines::DEFAULT_WAIT)
            .await
            .or_blocked(cx, HOST_SVC_016)?;
    }
    let malformed = cx.workload().component("Not A Reference/UPPER:1");
    cx.start(&cx.id("failed"), &malformed).await?;
    cx.start_and_wait(&cx.id("empty"), &cx.workload()).await?;
    let hanging = cx.push_with(Role::Idle, RepositoryBehavior::HangOnManifest);
    let pulling = cx.workload().component(&hanging);
    let payload = pulling.start_request(&cx.id("pulling")).to_string();
    cx.publish_no_reply("workload.start", payload).await?;
    wait_for_pull(cx, Role::Idle.name()).await?;
    claim_exit(cx, "with ids in all states").await
}

/// A client that keeps its connection to the ingress open does not delay the exit.
async fn open_connection(cx: &CheckContext) -> Flow {
    let (id, host) = (cx.id("a"), cx.http_host_name("a"));
    let workload = cx.workload().component(Role::Hello).http_host(&host);
    cx.start_and_wait(&id, &workload).await?;
    let connection = OpenConnection::after_request(cx.http_authority()?, &host).await;
    let served = connection.as_ref().map(|_| ());
    cx.claim(HOST_HTTP_001).is(
        "response of the workload before the shutdown",
        served.map_err(Clone::clone),
        Ok(()),
    );
    claim_exit(cx, "with an open connection to the ingress").await?;
    drop(connection);
    Ok(())
}

/// Records the claim that the host publishes no heartbeat after the end of its command
/// subscription.
fn claim_no_late_heartbeat(cx: &CheckContext, frames: &[Arc<Frame>]) {
    let unsubscribed = frames
        .iter()
        .position(|frame| matches!(frame.kind, FrameKind::Unsubscribe | FrameKind::Closed));
    let subject = crate::wire::nats::heartbeat_subject(cx.host_id());
    let late = frames
        .iter()
        .skip(unsubscribed.unwrap_or(frames.len()))
        .filter(|frame| {
            frame.kind == FrameKind::Publish
                && frame.direction == Direction::FromTarget
                && frame.is_on(&subject)
        });
    cx.claim(HOST_DOWN_004).is(
        "number of heartbeats after the end of the command subscription",
        late.count(),
        0,
    );
}

/// A start that is in flight at the signal still gets a reply.
async fn start_in_flight(cx: &CheckContext) -> Flow {
    let pushed = push_slow(cx, Role::Idle.name(), Duration::from_secs(2));
    let start = cx
        .workload()
        .component(&pushed)
        .start_request(&cx.id("a"))
        .to_string();
    let mut replies = cx.request("workload.start", start, Headers::none()).await?;
    wait_for_pull(cx, Role::Idle.name()).await?;
    let process = cx.process()?;
    process.signal(Signal::SIGTERM);
    let reply = match replies
        .next(deadlines::EXIT.limit + cx.fixture().patience())
        .await
    {
        Some(delivery) => crate::host::context::parse_reply(delivery, &replies),
        None => Reply::Timeout {
            waited: deadlines::EXIT.limit,
            inbox: replies.inbox.clone(),
        },
    };
    let description = "the host replies to a start that it received before the signal";
    cx.claim(HOST_DOWN_003).answered(description, &reply);
    if process.wait_exit(deadlines::EXIT.limit).await.is_none() {
        return Err(Blocked::harness(
            "host shutdown",
            "the process does not exit",
        ));
    }
    Ok(())
}
