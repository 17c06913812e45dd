//! Hosts that are unreachable for less than a second, and hosts that refuse commands: neither are
//! lost.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::{HostOutage, ScenarioContext, workload_ids};
use crate::scheduler::manifest::Manifest;
use crate::scheduler::simulated_host::{CommandRule, Reaction, SimulatedHost};
use crate::spec::requirements::*;
use crate::testbed::tap::FrameKind;
use crate::wire::nats::command_subject;

/// Disconnects a host several times for 400 ms, and checks that nothing is started or stopped.
pub(super) async fn brief_disconnect(cx: &ScenarioContext) -> Flow {
    let [a, _] = cx.start_hosts::<2>().await?;
    cx.deploy("app", 4, SCHED_SCALE_001).await?;
    let outage = HostOutage {
        hosts: std::slice::from_ref(&a),
        duration: Duration::from_millis(400),
        max_duration: Duration::from_secs(1),
        times: 3,
    };
    let redeploy = |attempt| async move {
        let app = format!("more{attempt}");
        cx.deploy(&app, 4, SCHED_SCALE_001).await.map(|_| ())
    };
    cx.assert_no_churn(SCHED_FAIL_004, &outage, Duration::from_secs(3), redeploy)
        .await
}

/// Number of apps that are deleted, one in each disconnection.
const DISCONNECTS: usize = 4;
/// Replicas of each of these apps, so that several requests have no responders at once.
const REPLICAS: usize = 4;
/// Maximum wait for the stops.
const STOPS_WITHIN: Duration = Duration::from_millis(450);
/// Time between the requests without responders and the return of the host, in which a scheduler
/// might act on them.
const AFTER_REQUESTS: Duration = Duration::from_millis(350);
/// Maximum duration of a disconnection, below the second that SCHED-FAIL-004 allows.
const MAX_DISCONNECT: Duration = Duration::from_millis(950);

/// Disconnects a host several times, and deletes an app of several replicas each time, so that the
/// stops have no responders. Checks that another app stays on the host.
pub(super) async fn stops_in_disconnect(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    cx.deploy("kept", 2, SCHED_SCALE_001).await?;
    let mut deleted = Vec::new();
    for number in 0..DISCONNECTS {
        let app = format!("deleted{number}");
        deleted.push(cx.deploy(&app, REPLICAS, SCHED_SCALE_001).await?.0);
    }
    cx.start_host(cx.host_config("b")).await?;
    cx.wait_until_registered().await?;
    let (mut judged, mut slowest) = (0, Duration::ZERO);
    for app in &deleted {
        let before = cx.started_ids("kept");
        let duration = disconnect_during_deletion(cx, &host, app).await?;
        if duration > MAX_DISCONNECT {
            // The scheduler is now permitted to declare the host lost.
            slowest = slowest.max(duration);
            cx.wait(cx.timings().notice).await;
            continue;
        }
        let moved = cx.never(Duration::from_secs(1), "a start under another id", || {
            let ids = cx.started_ids("kept");
            (ids != before).then(|| format!("{ids:?} instead of {before:?}"))
        });
        cx.claim(SCHED_FAIL_004).met(moved.await);
        judged += 1;
    }
    match judged {
        0 => Err(Blocked::Harness(format!(
            "this machine reconnected the host after {} ms",
            slowest.as_millis()
        ))),
        _ => Ok(()),
    }
}

/// Deletes an app while its host is disconnected, until its stops have no responders. Returns the
/// duration of the disconnection.
async fn disconnect_during_deletion(
    cx: &ScenarioContext,
    host: &SimulatedHost,
    app: &Manifest,
) -> Result<Duration, Blocked> {
    let mark = cx.scheduler().bus.tap().mark();
    let subject = command_subject(&host.id(), "workload.stop");
    let from = Instant::now();
    host.disconnect();
    cx.delete(app).await?;
    let sent = cx.eventually(STOPS_WITHIN, "the stops are sent", || {
        let frames = cx.scheduler().bus.tap().frames_since(mark);
        let stops = frames
            .iter()
            .filter(|frame| frame.kind == FrameKind::Publish && frame.is_on(&subject));
        let count = stops.count();
        std::future::ready((count >= REPLICAS).then_some(()).ok_or(count.to_string()))
    });
    // Patience would make the disconnection too long.
    if tokio::time::timeout(STOPS_WITHIN, sent).await.is_ok() {
        cx.wait(AFTER_REQUESTS).await;
    }
    let reconnected = host.reconnect().await;
    reconnected
        .map_err(|error| Blocked::harness_error("cannot reconnect a simulated host", &error))?;
    Ok(from.elapsed())
}

/// A host refuses starts with code 503. Checks that its other workloads stay in place.
pub(super) async fn refusal(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    let (_, kept) = cx.deploy("kept", 2, SCHED_SCALE_001).await?;
    cx.start_host(cx.host_config("b")).await?;
    for code in [503, 409, 400] {
        let app = format!("refused{code}");
        let rule = CommandRule::on("workload.start", Reaction::Refuse(code));
        host.add_rule(rule.containing(&cx.image(&app, 1)));
        let manifest = cx.deployment(&app, 1);
        cx.submit(&manifest.spec("/hostId", json!(host.id())))
            .await?;
        let started = cx.wait_for_start(&app, cx.timings().act).await;
        started.or_blocked(cx, SCHED_SCALE_001)?;
    }
    let moved = cx.never(Duration::from_secs(2), "a start under another id", || {
        let ids = cx.started_ids("kept");
        (ids != workload_ids(&kept)).then(|| format!("{ids:?}"))
    });
    cx.claim(SCHED_FAIL_004).met(moved.await);
    Ok(())
}
