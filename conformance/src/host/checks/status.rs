//! Status checks: the reply of a host to `workload.status`.

use serde_json::{Value, json};

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
        id: "status/refused-start", run: refused_start, covers: [HOST_STATUS_001], host: Shared,
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

/// Returns requests with an id that create no workload: their command, description and payload.
fn requests_without_effect(id: &str) -> Vec<(&'static str, &'static str, Value)> {
    let with = |workload: Value| json!({ "workloadId": id, "workload": workload });
    let restarts = |value: Value| {
        let service = json!({ "image": "127.0.0.1:1/nothing/here:1", "maxRestarts": value });
        with(json!({ "service": service }))
    };
    let without_workload = json!({ "workloadId": id });
    let too_many = json!(1_u64 << 32);
    let too_many_as_text = json!("18446744073709551615");
    let wrong_list = json!({ "witWorld": { "components": {} } });
    vec![
        ("workload.start", "no workload", without_workload),
        ("workload.start", "a null workload", with(json!(null))),
        ("workload.start", "too many restarts", restarts(too_many)),
        (
            "workload.start",
            "too many restarts in a string",
            restarts(too_many_as_text),
        ),
        (
            "workload.start",
            "restarts that are no number",
            restarts(json!("x")),
        ),
        (
            "workload.start",
            "a workload of the wrong type",
            with(json!("x")),
        ),
        (
            "workload.start",
            "components of the wrong type",
            with(wrong_list),
        ),
        ("workload.restart", "a workload", with(json!({}))),
        ("workload.status", "a workload", with(json!({}))),
        ("workload.stop", "a workload", with(json!({}))),
        ("heartbeat", "a workload", with(json!({}))),
    ]
}

/// Requests that are refused, and requests of other commands, create no workload.
async fn refused_start(cx: &CheckContext) -> Flow {
    for number in 0..requests_without_effect("").len() {
        let id = cx.id(&number.to_string());
        let request = requests_without_effect(&id).into_iter().nth(number);
        let Some((command, content, payload)) = request else {
            continue;
        };
        cx.send(command, payload.to_string(), Headers::none())
            .await?;
        let status = cx.status(&id).await?;
        cx.claim(HOST_STATUS_001).about(&status).is(
            &format!("state of the id after {command} with {content}"),
            status.state.clone(),
            State::NotFound,
        );
    }
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
