//! Start checks: accepted and refused starts, and concurrent starts of one id.

use std::time::Duration;

use futures_util::future::try_join_all;
use serde_json::json;

use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::wire::response::{Headers, Response, State};

/// Checks of the section `start` that need no registry with faults and no service.
pub const CHECKS: &[Check] = &[
    check! {
        id: "start/runs", run: runs, covers: [HOST_START_001], host: Shared, roles: [Idle],
        budget_s: 90, slow: false,
    },
    check! {
        id: "start/id-in-use", run: id_in_use, covers: [HOST_START_002], host: Shared,
        roles: [], budget_s: 60, slow: false,
    },
    check! {
        id: "start/simultaneous", run: simultaneous, covers: [HOST_START_003], host: Shared,
        roles: [], budget_s: 90, slow: false,
    },
    check! {
        id: "start/empty-id", run: empty_id, covers: [HOST_START_004], host: Shared,
        roles: [], budget_s: 60, slow: false,
    },
    check! {
        id: "start/no-workload", run: no_workload, covers: [HOST_START_005], host: Shared,
        roles: [], budget_s: 60, slow: false,
    },
    check! {
        id: "start/empty-workload", run: empty_workload, covers: [HOST_START_006],
        host: Shared, roles: [], budget_s: 90, slow: false,
    },
    check! {
        id: "start/unset-pool-values", run: unset_pool_values, covers: [HOST_START_007],
        host: Shared, roles: [Idle], budget_s: 90, slow: false,
    },
    check! {
        id: "start/error-messages", run: error_messages, covers: [HOST_START_008],
        host: Shared, roles: [], budget_s: 60, slow: false,
    },
    check! {
        id: "start/restart-after-stop", run: restart_after_stop, covers: [HOST_START_009],
        host: Shared, roles: [], budget_s: 90, slow: false,
    },
    check! {
        id: "start/max-restarts-range", run: max_restarts_range, covers: [HOST_START_010],
        host: Shared, roles: [], budget_s: 60, slow: false,
    },
];

/// Time for which a state must not change.
const OBSERVATION_TIME: Duration = Duration::from_secs(3);

/// A workload with one component becomes RUNNING.
async fn runs(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let start = cx.start(&id, &cx.workload().component(Role::Idle)).await?;
    let description =
        "the host replies to a start with RUNNING, or with STARTING and later RUNNING";
    let accepted = matches!(start.state, State::Running | State::Starting);
    if cx
        .claim(HOST_START_001)
        .holds(description, accepted, || start.to_string())
    {
        cx.claim(HOST_START_001)
            .met(cx.wait_running(&id, deadlines::DEFAULT_WAIT).await);
    }
    Ok(())
}

/// A second start of a running id is refused, and the first workload keeps running.
async fn id_in_use(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    cx.start_and_wait(&id, &cx.workload()).await?;
    let another = cx.workload().edit(|json| json["name"] = json!("another"));
    for workload in [cx.workload(), another] {
        let second = cx.start(&id, &workload).await?;
        cx.claim(HOST_START_002).about(&second).is(
            "state of the reply to a second start",
            second.state.clone(),
            State::Error,
        );
        cx.claim(HOST_START_002).about(&second).is(
            "error code of the reply to a second start",
            second.error_code,
            Some(409),
        );
    }
    let status = cx.status(&id).await?;
    cx.claim(HOST_START_002).is(
        "state of the first workload after the second start",
        status.state,
        State::Running,
    );
    Ok(())
}

/// Of twenty concurrent starts of one id, one is accepted and nineteen are refused with code 409.
async fn simultaneous(cx: &CheckContext) -> Flow {
    for round in ["a", "b", "c"] {
        let id = cx.id(round);
        let workload = cx.workload();
        let starts = (0..20).map(|_| cx.start(&id, &workload));
        let responses: Vec<Response> = try_join_all(starts).await?;
        let accepted = responses
            .iter()
            .filter(|response| response.state != State::Error)
            .count();
        cx.claim(HOST_START_003).is(
            "number of accepted starts of 20 concurrent starts of one id",
            accepted,
            1,
        );
        let refused = responses
            .iter()
            .filter(|response| response.error_code == Some(409))
            .count();
        cx.claim(HOST_START_003).is(
            "number of starts that are refused with code 409",
            refused,
            19,
        );
        cx.claim(HOST_START_003)
            .met(cx.wait_running(&id, deadlines::DEFAULT_WAIT).await);
    }
    Ok(())
}

/// Records the claim that a start is refused with code 400.
async fn claim_refused_with_400(
    cx: &CheckContext,
    requirement: Requirement,
    flaw: &str,
    payload: String,
) -> Flow {
    let reply = cx.send("workload.start", payload, Headers::none()).await?;
    let description = format!("the host replies to a start with {flaw}");
    let Some(response) = cx.claim(requirement).answered(&description, &reply) else {
        return Ok(());
    };
    let refused = response.state == State::Error && response.error_code == Some(400);
    let description = format!("a start with {flaw} is refused with ERROR and code 400");
    cx.claim(requirement)
        .holds(&description, refused, || response.to_string());
    Ok(())
}

/// A start without a workload id is refused, because the workload could never be stopped.
async fn empty_id(cx: &CheckContext) -> Flow {
    let workload = cx.workload();
    let absent = json!({ "workload": workload.json() }).to_string();
    claim_refused_with_400(cx, HOST_START_004, "no `workloadId`", absent).await?;
    let empty = workload.start_request("").to_string();
    claim_refused_with_400(cx, HOST_START_004, "an empty `workloadId`", empty).await
}

/// A start without a workload is refused; an absent workload is not an empty workload.
async fn no_workload(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let absent = json!({ "workloadId": id }).to_string();
    claim_refused_with_400(cx, HOST_START_005, "no `workload`", absent).await?;
    let null = json!({ "workloadId": id, "workload": null }).to_string();
    claim_refused_with_400(cx, HOST_START_005, "`workload` null", null).await?;
    let status = cx.status(&id).await?;
    cx.claim(HOST_START_005).is(
        "state of the id after the refused start",
        status.state,
        State::NotFound,
    );
    Ok(())
}

/// An empty workload becomes RUNNING.
async fn empty_workload(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let start = cx.start(&id, &cx.workload()).await?;
    let description = "a workload without components and without a service is accepted";
    let accepted = matches!(start.state, State::Running | State::Starting);
    if cx
        .claim(HOST_START_006)
        .holds(description, accepted, || start.to_string())
    {
        cx.claim(HOST_START_006)
            .met(cx.wait_running(&id, deadlines::DEFAULT_WAIT).await);
        let unchanged = cx.consistently(
            OBSERVATION_TIME,
            "the empty workload stays RUNNING",
            || async { cx.status(&id).await?.in_state(State::Running) },
        );
        cx.claim(HOST_START_006).met(unchanged.await);
    }
    Ok(())
}

/// Pool values of -1 and 0 mean "unset", because existing clients send them with that meaning.
async fn unset_pool_values(cx: &CheckContext) -> Flow {
    for number in [-1, 0] {
        let id = cx.id(&format!("pool{number}"));
        let workload = cx
            .workload()
            .component(Role::Idle)
            .field("poolSize", json!(number))
            .field("maxInvocations", json!(number))
            .field("maxConcurrency", json!(number));
        let start = cx.start(&id, &workload).await?;
        let description = format!(
            "a start with poolSize, maxInvocations and maxConcurrency {number} is accepted"
        );
        let accepted = matches!(start.state, State::Running | State::Starting);
        if cx
            .claim(HOST_START_007)
            .holds(&description, accepted, || start.to_string())
        {
            cx.claim(HOST_START_007)
                .met(cx.wait_running(&id, deadlines::DEFAULT_WAIT).await);
        }
    }
    Ok(())
}

/// Every ERROR reply has a message.
async fn error_messages(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    cx.start_and_wait(&id, &cx.workload()).await?;
    let second = cx.workload().start_request(&id).to_string();
    for (flaw, command, payload) in [
        ("a start that is not JSON", "workload.start", "{".to_owned()),
        (
            "a start without a workload",
            "workload.start",
            json!({ "workloadId": cx.id("b") }).to_string(),
        ),
        ("a start of an id in use", "workload.start", second),
        ("an unknown command", "workload.restart", "{}".to_owned()),
    ] {
        let reply = cx.send(command, payload, Headers::none()).await?;
        let description = format!("the host replies to {flaw}");
        let Some(response) = cx.claim(HOST_START_008).answered(&description, &reply) else {
            continue;
        };
        let has_message = response.state == State::Error && !response.message.trim().is_empty();
        let description = format!("the ERROR reply to {flaw} has a message");
        cx.claim(HOST_START_008)
            .holds(&description, has_message, || response.to_string());
    }
    Ok(())
}

/// A stopped id can be started again, repeatedly.
async fn restart_after_stop(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    for round in 1..=3 {
        let start = cx.start(&id, &cx.workload()).await?;
        let description = format!("start number {round} of the id is accepted");
        let accepted = matches!(start.state, State::Running | State::Starting);
        if !cx
            .claim(HOST_START_009)
            .about(&start)
            .holds(&description, accepted, || start.to_string())
        {
            return Ok(());
        }
        cx.stop(&id).await?;
        cx.wait_not_found(&id).await.or_blocked(cx, HOST_STOP_002)?;
    }
    Ok(())
}

/// `maxRestarts` out of range is refused; -1 as an unsigned 64-bit number would mean endless
/// restarts.
async fn max_restarts_range(cx: &CheckContext) -> Flow {
    for restarts in [
        u64::MAX,
        u64::MAX - 1,
        u64::from(u32::MAX) + 1,
        u64::from(u32::MAX) + 2,
        1 << 63,
    ] {
        for (form, value) in [
            ("as a string", json!(restarts.to_string())),
            ("as a number", json!(restarts)),
        ] {
            let id = cx.id(&format!("{restarts}-{}", &form[5..]));
            let workload = cx
                .workload()
                .service("127.0.0.1:1/nothing/here:1")
                .field("maxRestarts", value);
            let flaw = format!("maxRestarts {restarts} {form}");
            let payload = workload.start_request(&id).to_string();
            claim_refused_with_400(cx, HOST_START_010, &flaw, payload).await?;
            let status = cx.status(&id).await?;
            cx.claim(HOST_START_010).about(&status).is(
                &format!("state after a start with {flaw}"),
                status.state.clone(),
                State::NotFound,
            );
        }
    }
    Ok(())
}
