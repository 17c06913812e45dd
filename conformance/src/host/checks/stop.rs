//! Stop: how it is acknowledged, what proves it, and what it leaves alone.

use std::time::Duration;

use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::requirements::*;
use crate::wire::response::State;

/// The section. What needs images or services to show stands in those sections.
pub const CHECKS: &[Check] = &[
    check! {
        id: "stop/acknowledged", run: acknowledged, covers: [HOST_STOP_001], host: Shared,
        roles: [], budget_s: 60, slow: false,
    },
    check! {
        id: "stop/proved", run: proved, covers: [HOST_STOP_002], host: Shared, roles: [],
        budget_s: 60, slow: false,
    },
    check! {
        id: "stop/unknown", run: unknown, covers: [HOST_STOP_003], host: Shared, roles: [],
        budget_s: 60, slow: false,
    },
    check! {
        id: "stop/leaves-others", run: leaves_others, covers: [HOST_STOP_004], host: Shared,
        roles: [], budget_s: 60, slow: false,
    },
];

/// How long the others are watched after a stop.
const WATCH: Duration = Duration::from_secs(1);

/// STOPPING, or NOT_FOUND from a host that is that quick.
async fn acknowledged(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    cx.started(&id, &cx.workload()).await?;
    let stop = cx.stop(&id).await?;
    let acceptable = [State::Stopping, State::NotFound];
    cx.claim(HOST_STOP_001).about(&stop).one_of(
        "the answer to a stop",
        stop.state.clone(),
        &acceptable,
    );
    Ok(())
}

/// NOT_FOUND within 5 s, and it stays so.
async fn proved(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    cx.started(&id, &cx.workload()).await?;
    cx.stop(&id).await?;
    if cx.claim(HOST_STOP_002).met(cx.gone(&id).await).is_some() {
        let stays = cx.consistently(WATCH, "the stopped id stays NOT_FOUND", || async {
            cx.status(&id).await?.in_state(State::NotFound)
        });
        cx.claim(HOST_STOP_002).met(stays.await);
    }
    Ok(())
}

/// An id that is not there is NOT_FOUND to a stop, the first time and the third.
async fn unknown(cx: &CheckContext) -> Flow {
    let (never, stopped) = (cx.id("never-started"), cx.id("a"));
    cx.started(&stopped, &cx.workload()).await?;
    cx.stop(&stopped).await?;
    cx.gone(&stopped).await.or_blocked(cx, HOST_STOP_002)?;
    for id in [&never, &stopped] {
        for time in 1..=3 {
            let stop = cx.stop(id).await?;
            let what = format!("stop number {time} of an id that is not there");
            cx.claim(HOST_STOP_003)
                .about(&stop)
                .is(&what, stop.state.clone(), State::NotFound);
        }
    }
    Ok(())
}

/// The neighbours of a stopped workload run on.
async fn leaves_others(cx: &CheckContext) -> Flow {
    let ids = [cx.id("a"), cx.id("b"), cx.id("c")];
    for id in &ids {
        cx.started(id, &cx.workload()).await?;
    }
    let [first, second, third] = &ids;
    cx.stop(second).await?;
    cx.gone(second).await.or_blocked(cx, HOST_STOP_002)?;
    for id in [first, third] {
        let stays = cx.consistently(WATCH, "another workload stays RUNNING", || async {
            cx.status(id).await?.in_state(State::Running)
        });
        cx.claim(HOST_STOP_004).met(stays.await);
    }
    Ok(())
}
