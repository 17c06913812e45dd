//! Shutdown checks: behavior of a host between the signal and its exit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use super::image_support::push_slow;
use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::tap::{Direction, Frame, FrameKind};
use crate::wire::response::{Headers, Reply};

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
    let payload = json!({ "workloadId": cx.id("never-started") }).to_string();
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
    let repository = cx.repository(Role::Idle.name());
    let requested = cx
        .registry()
        .wait(&repository, deadlines::DEFAULT_WAIT.limit, |log| {
            !log.is_empty()
        })
        .await;
    requested.map_err(|_| cx.blocked(HOST_START_001, "a pull", &"no request to the registry"))?;
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
