//! Status: what a host says of an id.

use serde_json::json;

use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::requirements::*;
use crate::wire::response::{Headers, State};

/// The section.
pub const CHECKS: &[Check] = &[
    check! {
        id: "status/unknown", run: unknown, covers: [HOST_STATUS_001], host: Shared,
        roles: [], budget_s: 60, slow: false,
    },
    check! {
        id: "status/same-id", run: same_id, covers: [HOST_STATUS_002], host: Shared,
        roles: [], budget_s: 60, slow: false,
    },
    check! {
        id: "status/empty-id", run: empty_id, covers: [HOST_STATUS_003], host: Shared,
        roles: [], budget_s: 60, slow: false,
    },
];

/// An id that was never started is NOT_FOUND, again and again, and may be started afterwards.
async fn unknown(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    for _ in 0..3 {
        let status = cx.status(&id).await?;
        cx.claim(HOST_STATUS_001).about(&status).is(
            "status of an unknown id",
            status.state.clone(),
            State::NotFound,
        );
    }
    let start = cx.start(&id, &cx.workload()).await?;
    let free = matches!(start.state, State::Running | State::Starting);
    cx.claim(HOST_STATUS_001).holds(
        "asking has created nothing: the id can be started",
        free,
        || start.to_string(),
    );
    Ok(())
}

/// Every answer to status and stop carries the id that was asked for.
async fn same_id(cx: &CheckContext) -> Flow {
    let (running, unknown) = (cx.id("a"), cx.id("never-started"));
    cx.started(&running, &cx.workload()).await?;
    for id in [&running, &unknown] {
        let status = cx.status(id).await?;
        cx.claim(HOST_STATUS_002).about(&status).is(
            "workloadId in the answer to status",
            &status.id,
            id,
        );
    }
    for id in [&running, &unknown] {
        let stop = cx.stop(id).await?;
        cx.claim(HOST_STATUS_002)
            .about(&stop)
            .is("workloadId in the answer to stop", &stop.id, id);
    }
    Ok(())
}

/// No workload can have an empty id.
async fn empty_id(cx: &CheckContext) -> Flow {
    for command in ["workload.status", "workload.stop"] {
        for (spelling, payload) in [
            ("an empty id", json!({ "workloadId": "" })),
            ("no id", json!({})),
        ] {
            let reply = cx
                .send(command, payload.to_string(), Headers::none())
                .await?;
            let what = format!("{command} with {spelling} is answered");
            let Some(answer) = cx.claim(HOST_STATUS_003).answered(&what, &reply) else {
                continue;
            };
            let right = answer.state == State::Error && answer.error_code == Some(400);
            let what = format!("{command} with {spelling} is refused: ERROR with code 400");
            cx.claim(HOST_STATUS_003)
                .holds(&what, right, || answer.to_string());
        }
    }
    Ok(())
}
