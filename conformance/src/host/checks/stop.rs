//! Stop checks: the reply, the NOT_FOUND state afterwards, and the other workloads.

use std::time::Duration;

use futures_util::future::try_join_all;

use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::wire::response::State;

/// Checks of the section `stop` that need no registry with faults and no service.
pub const CHECKS: &[Check] = &[
    check! {
        id: "stop/acknowledged", run: acknowledged, covers: [HOST_STOP_001], host: Shared,
        roles: [], budget_s: 60, slow: false,
    },
    check! {
        id: "stop/repeated", run: repeated, covers: [HOST_STOP_001, HOST_STOP_002],
        host: Shared, roles: [], budget_s: 60, slow: false,
    },
    check! {
        id: "stop/confirmed", run: confirmed, covers: [HOST_STOP_002], host: Shared, roles: [],
        budget_s: 60, slow: false,
    },
    check! {
        id: "stop/unknown", run: unknown, covers: [HOST_STOP_003], host: Shared, roles: [],
        budget_s: 60, slow: false,
    },
    check! {
        id: "stop/other-workloads", run: other_workloads, covers: [HOST_STOP_004], host: Shared,
        roles: [], budget_s: 240, slow: false,
    },
];

/// Time for which a state must not change after a stop.
const OBSERVATION_TIME: Duration = Duration::from_secs(1);

/// The reply to a stop is STOPPING, or NOT_FOUND if the host has already stopped the workload.
async fn acknowledged(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    cx.start_and_wait(&id, &cx.workload()).await?;
    let stop = cx.stop(&id).await?;
    let acceptable = [State::Stopping, State::NotFound];
    cx.claim(HOST_STOP_001).about(&stop).one_of(
        "state of the reply to a stop",
        stop.state.clone(),
        &acceptable,
    );
    Ok(())
}

/// Each of several stops that arrive together gets STOPPING or NOT_FOUND, and no stop after
/// NOT_FOUND gets STOPPING.
async fn repeated(cx: &CheckContext) -> Flow {
    for round in 0..5 {
        let id = cx.id(&round.to_string());
        cx.start_and_wait(&id, &cx.workload()).await?;
        let stops = (0..10).map(|_| cx.stop(&id));
        for stop in try_join_all(stops).await? {
            let acceptable = stop.error_code.is_none()
                && matches!(stop.state, State::Stopping | State::NotFound);
            let description =
                "the reply to each of ten simultaneous stops of one id is STOPPING or NOT_FOUND";
            cx.claim(HOST_STOP_001)
                .about(&stop)
                .holds(description, acceptable, || stop.to_string());
        }
        cx.claim(HOST_STOP_002).met(cx.wait_not_found(&id).await);
    }
    Ok(())
}

/// A stopped id becomes NOT_FOUND within 5 s and stays NOT_FOUND.
async fn confirmed(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    cx.start_and_wait(&id, &cx.workload()).await?;
    cx.stop(&id).await?;
    if cx
        .claim(HOST_STOP_002)
        .met(cx.wait_not_found(&id).await)
        .is_some()
    {
        let unchanged = cx.consistently(
            OBSERVATION_TIME,
            "the stopped id stays NOT_FOUND",
            || async { cx.status(&id).await?.in_state(State::NotFound) },
        );
        cx.claim(HOST_STOP_002).met(unchanged.await);
    }
    Ok(())
}

/// Stops of an unknown id and of a stopped id return NOT_FOUND, repeatedly.
async fn unknown(cx: &CheckContext) -> Flow {
    let (never, stopped) = (cx.id("never-started"), cx.id("a"));
    cx.start_and_wait(&stopped, &cx.workload()).await?;
    cx.stop(&stopped).await?;
    cx.wait_not_found(&stopped)
        .await
        .or_blocked(cx, HOST_STOP_002)?;
    for id in [&never, &stopped] {
        for attempt in 1..=3 {
            let stop = cx.stop(id).await?;
            let description =
                format!("state of the reply to stop number {attempt} of an unknown id");
            cx.claim(HOST_STOP_003).about(&stop).is(
                &description,
                stop.state.clone(),
                State::NotFound,
            );
        }
    }
    // A stop of an unknown id has no effect on a later start.
    cx.start(&never, &cx.workload()).await?;
    let running = cx.wait_running(&never, deadlines::REPLY).await;
    if cx.claim(HOST_STOP_003).met(running).is_some() {
        let stays_running = cx.consistently(
            OBSERVATION_TIME,
            "a workload whose id was stopped before its start stays RUNNING",
            || async { cx.status(&never).await?.in_state(State::Running) },
        );
        cx.claim(HOST_STOP_003).met(stays_running.await);
    }
    Ok(())
}

/// Returns different ids that a careless comparison treats as equal.
fn similar_ids(cx: &CheckContext) -> Vec<String> {
    let base = cx.id("Shop");
    let changed = [
        base.replace("Shop", "shop"),
        base.replace("Shop", "SHOP"),
        base.to_uppercase(),
        format!("{base}-1"),
        format!("{base}-10"),
        format!("{base}.1"),
        format!("{base}/1"),
        format!("{base}_1"),
        format!("{base}*"),
        format!("{base}>"),
        format!("{base}%"),
        format!("{base} "),
        format!(" {base}"),
        format!("{base}\n"),
        format!("1-{base}"),
        format!("{base}\u{e9}"),
        format!("{base}e\u{301}"),
        format!("{base}\u{c9}"),
        base.get(..base.len() - 1).unwrap_or_default().to_owned(),
        format!("{base}{}1", "x".repeat(80)),
        format!("{base}{}2", "x".repeat(80)),
        format!("{base}{}1", "x".repeat(200 - base.len())),
        format!("{base}{}2", "x".repeat(200 - base.len())),
    ];
    let mut ids = vec![base];
    ids.extend(changed);
    ids
}

/// Other workloads stay RUNNING when one is stopped, however similar their ids are.
async fn other_workloads(cx: &CheckContext) -> Flow {
    let mut ids = similar_ids(cx);
    let workload = cx.workload();
    for id in &ids {
        cx.track_id(id);
    }
    try_join_all(ids.iter().map(|id| cx.start_and_wait(id, &workload))).await?;
    while let Some(stopped) = ids.first().cloned() {
        ids.remove(0);
        cx.stop(&stopped).await?;
        let not_found = cx.wait_not_found(&stopped).await;
        not_found.or_blocked(cx, HOST_STOP_002)?;
        let statuses = try_join_all(ids.iter().map(|id| cx.status(id))).await?;
        for status in statuses {
            let description = format!(
                "state of the workload {:?} after the stop of {stopped:?}",
                status.id
            );
            cx.claim(HOST_STOP_004).about(&status).is(
                &description,
                status.state.clone(),
                State::Running,
            );
        }
    }
    Ok(())
}
