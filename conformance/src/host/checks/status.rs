//! Status checks: the reply of a host to `workload.status`.

use serde_json::json;

use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::requirements::*;
use crate::wire::response::{Headers, State};

/// Checks of the section `status`.
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

/// An id that was never started is NOT_FOUND, repeatedly, and can be started afterwards.
async fn unknown(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    for _ in 0..3 {
        let status = cx.status(&id).await?;
        cx.claim(HOST_STATUS_001).about(&status).is(
            "state of an unknown id",
            status.state.clone(),
            State::NotFound,
        );
    }
    let start = cx.start(&id, &cx.workload()).await?;
    let accepted = matches!(start.state, State::Running | State::Starting);
    cx.claim(HOST_STATUS_001).holds(
        "the id can be started after a status request",
        accepted,
        || start.to_string(),
    );
    Ok(())
}

/// Every reply to status and stop contains the id of the request.
async fn same_id(cx: &CheckContext) -> Flow {
    let (running, unknown) = (cx.id("a"), cx.id("never-started"));
    cx.start_and_wait(&running, &cx.workload()).await?;
    for id in [&running, &unknown] {
        let status = cx.status(id).await?;
        cx.claim(HOST_STATUS_002).about(&status).is(
            "`workloadId` in the reply to status",
            &status.id,
            id,
        );
    }
    for id in [&running, &unknown] {
        let stop = cx.stop(id).await?;
        cx.claim(HOST_STATUS_002).about(&stop).is(
            "`workloadId` in the reply to stop",
            &stop.id,
            id,
        );
    }
    Ok(())
}

/// Status and stop with an empty id or without an id are refused with code 400.
async fn empty_id(cx: &CheckContext) -> Flow {
    for command in ["workload.status", "workload.stop"] {
        for (flaw, payload) in [
            ("an empty id", json!({ "workloadId": "" })),
            ("no id", json!({})),
        ] {
            let reply = cx
                .send(command, payload.to_string(), Headers::none())
                .await?;
            let description = format!("the host replies to {command} with {flaw}");
            let Some(response) = cx.claim(HOST_STATUS_003).answered(&description, &reply) else {
                continue;
            };
            let refused = response.state == State::Error && response.error_code == Some(400);
            let description = format!("{command} with {flaw} is refused with ERROR and code 400");
            cx.claim(HOST_STATUS_003)
                .holds(&description, refused, || response.to_string());
        }
    }
    Ok(())
}
