//! Stop checks: the reply, the NOT_FOUND state afterwards, and the other workloads.

use std::time::Duration;

use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::requirements::*;
use crate::wire::response::State;

/// Checks of the section `stop` that need no registry with faults and no service.
pub const CHECKS: &[Check] = &[
    check! {
        id: "stop/acknowledged", run: acknowledged, covers: [HOST_STOP_001], host: Shared,
        roles: [], budget_s: 60, slow: false,
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
        roles: [], budget_s: 60, slow: false,
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
    Ok(())
}

/// Other workloads stay RUNNING when one is stopped.
async fn other_workloads(cx: &CheckContext) -> Flow {
    let ids = [cx.id("a"), cx.id("b"), cx.id("c")];
    for id in &ids {
        cx.start_and_wait(id, &cx.workload()).await?;
    }
    let [first, second, third] = &ids;
    cx.stop(second).await?;
    cx.wait_not_found(second)
        .await
        .or_blocked(cx, HOST_STOP_002)?;
    for id in [first, third] {
        let unchanged = cx.consistently(
            OBSERVATION_TIME,
            "another workload stays RUNNING",
            || async { cx.status(id).await?.in_state(State::Running) },
        );
        cx.claim(HOST_STOP_004).met(unchanged.await);
    }
    Ok(())
}
