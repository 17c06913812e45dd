//! Workloads that have completed, which are not started again.

use std::time::Duration;

use serde_json::Value;

use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::{RunningWorkload, ScenarioContext, condition};
use crate::scheduler::manifest::Manifest;
use crate::scheduler::simulated_host::{CommandRule, Reaction};
use crate::spec::requirements::*;
use crate::wire::response::State;

/// Puts a running workload into COMPLETED, and checks that it is reported as completed and is not
/// started again.
pub(super) async fn reported(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let app = cx.workload("app");
    cx.submit(&app).await?;
    let running = cx.require_running("app", 1, SCHED_START_001).await?;
    if let Some(workload) = running.first() {
        workload
            .host
            .set_workload_state(&workload.id, State::Completed, "Workload is Completed");
    }
    let reported = cx.eventually(
        cx.timings().poll + cx.timings().show,
        "the message of the condition Ready begins with `completed`",
        || async {
            let object = cx.observe(&app).await?;
            let ready = condition(&object, "Ready").cloned().unwrap_or_default();
            let message = ready
                .get("message")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if message.to_lowercase().starts_with("completed") {
                Ok(())
            } else {
                Err(format!("the condition Ready is {ready}"))
            }
        },
    );
    cx.claim(SCHED_STATUS_006).met(reported.await);
    let restarted = cx.never(
        cx.timings().poll + Duration::from_secs(3),
        "another start",
        || {
            let ids = cx.started_ids("app");
            (ids.len() > 1).then(|| format!("{ids:?}"))
        },
    );
    cx.claim(SCHED_STATUS_005).met(restarted.await);
    Ok(())
}

/// Runs a workload until its host reports COMPLETED, and the scheduler has requested its status.
async fn complete(cx: &ScenarioContext, within: Duration) -> Result<RunningWorkload, Blocked> {
    cx.submit(&cx.workload("app")).await?;
    let running = cx.wait_for_running("app", 1, within).await;
    let running = running.or_blocked(cx, SCHED_START_001)?;
    let Some(workload) = running.into_iter().next() else {
        return Err(Blocked::Harness("no workload runs".to_owned()));
    };
    let from = std::time::Instant::now();
    let host = &workload.host;
    host.set_workload_state(&workload.id, State::Completed, "Workload is Completed");
    let requested = cx.wait_for_status_request(&workload.id, from).await;
    requested.or_blocked(cx, SCHED_STATUS_001)?;
    cx.wait(cx.timings().show.min(Duration::from_secs(1))).await;
    Ok(workload)
}

/// Claims that the app is not started again.
async fn check_not_restarted(cx: &ScenarioContext, window: Duration) {
    let restarted = cx.never(window, "another start", || {
        let starts = cx.starts_of("app");
        (starts.len() > 1).then(|| format!("{} starts", starts.len()))
    });
    cx.claim(SCHED_STATUS_005).met(restarted.await);
}

/// The host of a completed workload ends.
pub(super) async fn host_lost(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let workload = complete(cx, cx.timings().act).await?;
    workload.host.kill();
    check_not_restarted(cx, cx.timings().notice.min(Duration::from_secs(8))).await;
    Ok(())
}

/// The reply to a start is COMPLETED.
pub(super) async fn at_start(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    host.add_rule(CommandRule::on("workload.start", Reaction::Complete));
    let app: Manifest = cx.workload("app");
    cx.submit(&app).await?;
    let started = cx.wait_for_start("app", cx.timings().act).await;
    started.or_blocked(cx, SCHED_START_001)?;
    check_not_restarted(cx, Duration::from_secs(4)).await;
    Ok(())
}

/// The scheduler restarts after a workload has completed, and the host has forgotten the workload.
pub(super) async fn before_restart(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let within = cx.timings().act + cx.timings().reconnect;
    let workload = complete(cx, within).await?;
    cx.scheduler().kill().await;
    let host = &workload.host;
    host.set_workload_state(&workload.id, State::NotFound, "");
    let launched = cx.scheduler().launch();
    launched.map_err(|error| Blocked::harness_error("cannot launch the scheduler", &error))?;
    cx.submit(&cx.deployment("more", 1)).await?;
    let more = cx.wait_for_running("more", 1, within).await;
    more.or_blocked(cx, SCHED_CONT_001)?;
    let window = cx.timings().poll.min(Duration::from_secs(10)) + Duration::from_secs(2);
    check_not_restarted(cx, window).await;
    let stays = cx.wait_for_running("more", 1, cx.timings().act).await;
    cx.claim(SCHED_CONT_008).met(stays);
    Ok(())
}
