//! Encoding checks of what a host writes: replies and heartbeats of every kind, in every state.

use serde_json::json;

use super::image_support::idle_workload;
use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::wire::json_judge;
use crate::wire::response::{Headers, Response, State};

/// Checks of the section `json` about replies. The monitors judge all other traffic.
pub const CHECKS: &[Check] = &[
    check! {
        id: "json/replies", run: replies,
        covers: [
            HOST_JSON_001, HOST_JSON_002, HOST_JSON_003, HOST_JSON_004, HOST_JSON_005,
            HOST_JSON_006, HOST_JSON_008,
        ],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "json/service-replies", run: service_replies, covers: [HOST_JSON_001, HOST_SVC_006],
        host: Shared, roles: [ServiceErr], needs: [Registry], budget_s: 120, slow: false,
    },
];

/// Requirements that a payload can violate by itself.
const ENCODING: [Requirement; 7] = [
    HOST_JSON_001,
    HOST_JSON_002,
    HOST_JSON_003,
    HOST_JSON_004,
    HOST_JSON_005,
    HOST_JSON_006,
    HOST_JSON_008,
];

/// Records the claims that a message conforms to these requirements.
fn claim_encoding(
    cx: &CheckContext,
    requirements: &[Requirement],
    response: &Response,
    message: &str,
) {
    let faults = json_judge::judge(&response.raw, message);
    for requirement in requirements {
        let fault = faults.iter().find(|fault| fault.requirement == requirement);
        let description = match fault {
            Some(fault) => format!("{message} {}: {}", fault.path, fault.expected),
            None => format!("{message} is encoded as {} says", requirement.id),
        };
        cx.claim(*requirement)
            .about(response)
            .holds(&description, fault.is_none(), || {
                fault.map(|fault| fault.actual.clone()).unwrap_or_default()
            });
    }
}

/// Replies in all states, refusals, and heartbeats while a component runs are strict JSON.
async fn replies(cx: &CheckContext) -> Flow {
    let judge = |response: &Response, message: &str| {
        claim_encoding(cx, &ENCODING, response, message);
    };
    let (id, image) = (cx.id("a"), cx.push(Role::Idle));
    let workload = idle_workload(cx, &image);
    judge(
        &cx.start_and_wait(&id, &workload).await?,
        "WorkloadStartResponse",
    );
    judge(&cx.status(&id).await?, "WorkloadStatusResponse");
    judge(&cx.heartbeat().await?, "HostHeartbeat");
    // Refused: the id is taken.
    judge(&cx.start(&id, &workload).await?, "WorkloadStartResponse");
    let failing = idle_workload(cx, image.reference.replace(":v1", ":v9"));
    let failed = cx.id("failed");
    judge(&cx.start(&failed, &failing).await?, "WorkloadStartResponse");
    judge(&cx.status(&failed).await?, "WorkloadStatusResponse");
    judge(&cx.heartbeat().await?, "HostHeartbeat");
    for id in [&id, &id, &failed, &cx.id("unknown")] {
        judge(&cx.stop(id).await?, "WorkloadStopResponse");
        judge(&cx.status(id).await?, "WorkloadStatusResponse");
    }
    for (command, payload) in [
        ("workload.start", "{".to_owned()),
        ("workload.stop", "[]".to_owned()),
        ("workload.status", json!({ "workloadId": "" }).to_string()),
        ("workload.restart", String::new()),
    ] {
        let reply = cx.send(command, payload, Headers::none()).await?;
        if let Some(response) = reply.response() {
            judge(response, "WorkloadStatusResponse");
        }
    }
    Ok(())
}

/// Replies about a service between its runs, and after its last one, contain only fields of the
/// schema.
async fn service_replies(cx: &CheckContext) -> Flow {
    const RUNS: usize = 3;
    let (id, beacon) = (cx.id("a"), cx.beacon());
    let workload = cx.workload().service(Role::ServiceErr).beacon(&beacon);
    cx.start(&id, &workload.max_restarts(RUNS as u64 - 1))
        .await?;
    for run in 1..=RUNS {
        let ran = beacon.wait("run", run, deadlines::DEFAULT_WAIT.limit).await;
        ran.map_err(|missed| cx.blocked(HOST_SVC_006, "a run", &missed))?;
        let status = cx.status(&id).await?;
        claim_encoding(cx, &[HOST_JSON_001], &status, "WorkloadStatusResponse");
    }
    let ended = cx.wait_for_state(&id, State::Error, deadlines::DEFAULT_WAIT);
    let ended = ended.await.or_blocked(cx, HOST_SVC_007)?;
    claim_encoding(cx, &[HOST_JSON_001], &ended, "WorkloadStatusResponse");
    cx.claim(HOST_SVC_006)
        .is("number of runs", beacon.count("run"), RUNS);
    Ok(())
}
