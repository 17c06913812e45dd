//! Shutdown: what a host does between the signal and its exit.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::registry::Behaviour;
use crate::testbed::tap::{Direction, Kind};
use crate::wire::response::{Headers, Reply};

/// The section.
pub const CHECKS: &[Check] = &[
    check! {
        id: "down/sigterm", run: sigterm,
        covers: [HOST_DOWN_001, HOST_DOWN_002, HOST_DOWN_004, HOST_DOWN_005], host: Own,
        roles: [ServiceBeat], needs: [Tap, Process, Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "down/sigint", run: sigint,
        covers: [HOST_DOWN_001, HOST_DOWN_002, HOST_DOWN_004, HOST_DOWN_005], host: Own,
        roles: [ServiceBeat], needs: [Tap, Process, Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "down/answers-first", run: answers_first, covers: [HOST_DOWN_003], host: Own,
        roles: [Idle], needs: [Process, Registry], budget_s: 90, slow: false,
    },
];

async fn sigterm(cx: &CheckContext) -> Flow {
    goes_down(cx, Signal::SIGTERM).await
}

async fn sigint(cx: &CheckContext) -> Flow {
    goes_down(cx, Signal::SIGINT).await
}

async fn goes_down(cx: &CheckContext, signal: Signal) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    cx.started(
        &id,
        &cx.workload().service(Role::ServiceBeat).beacon(&beacon),
    )
    .await?;
    let beats = beacon.wait("beat", 2, deadlines::ANSWER.limit).await;
    beats.map_err(|silence| cx.blocked(HOST_SVC_016, "a service that beats", &silence))?;

    let (tap, process) = (cx.tap()?, cx.process()?);
    let mark = tap.mark();
    process.signal(signal);
    let what = format!("no responders after {signal}");
    let payload = json!({ "workloadId": cx.id("never-started") }).to_string();
    let nobody = cx.eventually(deadlines::UNSUBSCRIBE, &what, || async {
        let short = Duration::from_millis(300);
        match cx
            .send_within("workload.status", payload.clone(), Headers::none(), short)
            .await?
        {
            Reply::NoResponders { .. } => Ok(()),
            other => Err(other.to_string()),
        }
    });
    cx.claim(HOST_DOWN_001).met(nobody.await);

    let exit = process
        .wait_exit(deadlines::EXIT.limit + cx.fixture().patience())
        .await;
    let exited = Instant::now();
    let code = exit.and_then(|status| status.code());
    cx.claim(HOST_DOWN_002)
        .is(&format!("exit code within 30 s of {signal}"), code, Some(0));

    let frames = tap.frames_since(mark);
    let ended = frames
        .iter()
        .position(|frame| matches!(frame.kind, Kind::Unsubscribe | Kind::Closed));
    let subject = crate::wire::nats::heartbeat_subject(cx.host_id());
    let late = frames
        .iter()
        .skip(ended.unwrap_or(frames.len()))
        .filter(|frame| {
            frame.kind == Kind::Publish
                && frame.way == Direction::FromTarget
                && frame.is_on(&subject)
        });
    cx.claim(HOST_DOWN_004).is(
        "heartbeats after the subscription has ended",
        late.count(),
        0,
    );

    // A beat that was on its way when the process ended is not a guest that lives on.
    let grace = Duration::from_millis(500) + cx.fixture().patience();
    let alive = cx.never(
        grace * 3,
        "a guest's beat after the host has exited",
        || async {
            let last = beacon
                .hits()
                .last()
                .map(|hit| hit.at.saturating_duration_since(exited));
            last.filter(|after| *after > grace)
                .map(|after| format!("a beat {after:?} after the exit"))
        },
    );
    cx.claim(HOST_DOWN_005).met(alive.await);
    Ok(())
}

/// A start is at work when the signal comes: its answer still arrives.
async fn answers_first(cx: &CheckContext) -> Flow {
    let behaviour = Behaviour::Slow {
        before_manifest: Duration::from_secs(2),
        blob_bytes_per_second: 1 << 20,
    };
    let pushed = cx.push_with(Role::Idle, behaviour);
    let start = cx
        .workload()
        .component(&pushed)
        .start_request(&cx.id("a"))
        .to_string();
    let mut replies = cx.request("workload.start", start, Headers::none()).await?;
    let repository = cx.repository(Role::Idle.name());
    let asked = cx
        .registry()
        .wait(&repository, deadlines::LOOK.limit, |log| !log.is_empty())
        .await;
    asked.map_err(|_| cx.blocked(HOST_START_001, "a pull", &"the registry was not asked"))?;
    let process = cx.process()?;
    process.signal(Signal::SIGTERM);
    let reply = match replies
        .next(deadlines::EXIT.limit + cx.fixture().patience())
        .await
    {
        Some(delivery) => crate::host::context::read(delivery, &replies),
        None => Reply::Silence {
            waited: deadlines::EXIT.limit,
            inbox: replies.inbox.clone(),
        },
    };
    let what = "a start that was accepted before the signal is answered";
    cx.claim(HOST_DOWN_003).answered(what, &reply);
    if process.wait_exit(deadlines::EXIT.limit).await.is_none() {
        return Err(Blocked::harness("the host", "does not end"));
    }
    Ok(())
}
