//! Checks of `workloadCount`: commands and events that change it, and those that do not.

use futures_util::future::try_join_all;
use serde_json::json;

use super::heartbeat::requested_workload_count;
use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::wire::response::{Headers, State};

/// Checks of the section `heartbeat` about `workloadCount`.
pub const CHECKS: &[Check] = &[
    check! {
        id: "heartbeat/count-of-commands", run: count_of_commands, covers: [HOST_BEAT_008],
        host: Quiet, roles: [], budget_s: 120, slow: false,
    },
    check! {
        id: "heartbeat/count-of-services", run: count_of_services,
        covers: [HOST_BEAT_008, HOST_SVC_001, HOST_SVC_006], host: Quiet,
        roles: [ServiceErr, ServiceOk], needs: [Registry], budget_s: 120, slow: false,
    },
];

/// Number of workloads that run all the time, so that a count that is too low is not cut off at 0.
const BACKGROUND: usize = 6;
/// Number of simultaneous requests with one id.
const REPETITIONS: usize = 5;

/// Starts the workloads that run all the time and returns the count.
async fn start_background(cx: &CheckContext) -> Result<i64, crate::check::outcome::Blocked> {
    for number in 0..BACKGROUND {
        cx.start_and_wait(&cx.id(&format!("background-{number}")), &cx.workload())
            .await?;
    }
    requested_workload_count(cx).await
}

/// Records the claim that the count has a value.
async fn claim_count(cx: &CheckContext, event: &str, expected: i64) -> Flow {
    let description = format!("`workloadCount` after {event}");
    let actual = requested_workload_count(cx).await?;
    cx.claim(HOST_BEAT_008).is(&description, actual, expected);
    Ok(())
}

/// The count changes only with a start that is accepted and with the stop of a running workload,
/// however often commands are repeated.
async fn count_of_commands(cx: &CheckContext) -> Flow {
    let base = start_background(cx).await?;
    let (id, taken) = (cx.id("a"), cx.id("background-0"));

    cx.start(&taken, &cx.workload()).await?;
    claim_count(cx, "a start of a taken id", base).await?;
    let invalid = json!({ "workloadId": cx.id("invalid") }).to_string();
    cx.send("workload.start", invalid, Headers::none()).await?;
    claim_count(cx, "a start without a workload", base).await?;
    cx.stop(&cx.id("never-started")).await?;
    claim_count(cx, "a stop of an unknown id", base).await?;

    for round in 1..=3 {
        let workload = cx.workload();
        let starts = (0..REPETITIONS).map(|_| cx.start(&id, &workload));
        try_join_all(starts).await?;
        let running = cx.wait_running(&id, deadlines::DEFAULT_WAIT).await;
        running.or_blocked(cx, HOST_START_003)?;
        let event = format!("{REPETITIONS} simultaneous starts of one id, round {round}");
        claim_count(cx, &event, base + 1).await?;

        try_join_all((0..REPETITIONS).map(|_| cx.stop(&id))).await?;
        cx.wait_not_found(&id).await.or_blocked(cx, HOST_STOP_002)?;
        cx.stop(&id).await?;
        let event = format!("{REPETITIONS} simultaneous stops of one id, round {round}");
        claim_count(cx, &event, base).await?;
    }

    let failed = cx.id("failed");
    let workload = cx.workload().component("Not A Reference/UPPER:1");
    for round in 1..=2 {
        cx.start(&failed, &workload).await?;
        cx.stop(&failed).await?;
        cx.wait_not_found(&failed)
            .await
            .or_blocked(cx, HOST_STOP_006)?;
        let event = format!("the stop of a failed start, round {round}");
        claim_count(cx, &event, base).await?;
    }
    Ok(())
}

/// A restart does not change the count, and the stop of a workload that ended by itself does not
/// decrease it.
async fn count_of_services(cx: &CheckContext) -> Flow {
    let base = start_background(cx).await?;
    let (id, beacon) = (cx.id("failing"), cx.beacon());
    let workload = cx.workload().service(Role::ServiceErr).beacon(&beacon);
    cx.start(&id, &workload.max_restarts(4)).await?;
    let mut counts = Vec::new();
    let ended = cx
        .eventually(
            deadlines::DEFAULT_WAIT,
            "the service ends in ERROR",
            || async {
                let before = (beacon.count("run"), cx.status(&id).await?.state);
                let count = requested_workload_count(cx).await?;
                let after = (beacon.count("run"), cx.status(&id).await?.state);
                // The service waited for its next run during the whole probe.
                let is_between_runs = before == after && after.1 == State::Starting && after.0 > 0;
                match after.1 {
                    State::Error => Ok(None),
                    _ if is_between_runs && count != base + 1 => Ok(Some((after.0, count))),
                    other => Err(format!("{other} after {} runs", after.0)),
                }
            },
        )
        .await;
    if let Some((runs, count)) = ended.or_blocked(cx, HOST_SVC_007)? {
        counts.push(format!("{count} after run {runs}"));
    }
    let description = format!("`workloadCount` is {} between two runs", base + 1);
    cx.claim(HOST_BEAT_008)
        .holds(&description, counts.is_empty(), || counts.join(", "));
    if counts.is_empty() {
        let runs = beacon.count("run");
        cx.claim(HOST_SVC_006).is("number of runs", runs, 5);
    }
    cx.stop(&id).await?;
    cx.wait_not_found(&id).await.or_blocked(cx, HOST_STOP_002)?;
    claim_count(cx, "the stop of a service that failed", base).await?;

    let id = cx.id("succeeding");
    cx.start(&id, &cx.workload().service(Role::ServiceOk))
        .await?;
    let completed = cx
        .wait_for_state(&id, State::Completed, deadlines::DEFAULT_WAIT)
        .await;
    cx.claim(HOST_SVC_001).met(completed);
    cx.stop(&id).await?;
    cx.wait_not_found(&id).await.or_blocked(cx, HOST_STOP_007)?;
    claim_count(cx, "the stop of a service that succeeded", base).await
}
