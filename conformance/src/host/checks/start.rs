//! Start: what a host accepts, what it refuses, and who wins an id.

use futures_util::future::try_join_all;
use serde_json::json;

use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::wire::response::{Headers, Response, State};

/// The section. What needs images or services to show stands in those sections.
pub const CHECKS: &[Check] = &[
    check! {
        id: "start/runs", run: runs, covers: [HOST_START_001], host: Shared, roles: [Idle],
        budget_s: 90, slow: false,
    },
    check! {
        id: "start/known-id", run: known_id, covers: [HOST_START_002], host: Shared,
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
        id: "start/negative-pool", run: negative_pool, covers: [HOST_START_007], host: Shared,
        roles: [Idle], budget_s: 90, slow: false,
    },
    check! {
        id: "start/errors-have-words", run: errors_have_words, covers: [HOST_START_008],
        host: Shared, roles: [], budget_s: 60, slow: false,
    },
    check! {
        id: "start/again-after-stop", run: again_after_stop, covers: [HOST_START_009],
        host: Shared, roles: [], budget_s: 90, slow: false,
    },
    check! {
        id: "start/cast-max-restarts", run: cast_max_restarts, covers: [HOST_START_010],
        host: Shared, roles: [], budget_s: 60, slow: false,
    },
];

/// A component that asks for nothing comes to run, and status says so.
async fn runs(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let start = cx.start(&id, &cx.workload().component(Role::Idle)).await?;
    let what = "a start is answered with RUNNING, or with STARTING and RUNNING later";
    let accepted = matches!(start.state, State::Running | State::Starting);
    if cx
        .claim(HOST_START_001)
        .holds(what, accepted, || start.to_string())
    {
        cx.claim(HOST_START_001)
            .met(cx.running(&id, deadlines::LOOK).await);
    }
    Ok(())
}

/// A second start of a running id is refused, and the first goes on.
async fn known_id(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    cx.started(&id, &cx.workload()).await?;
    let another = cx.workload().edit(|json| json["name"] = json!("another"));
    for workload in [cx.workload(), another] {
        let second = cx.start(&id, &workload).await?;
        cx.claim(HOST_START_002).about(&second).is(
            "state for a second start",
            second.state.clone(),
            State::Error,
        );
        cx.claim(HOST_START_002).about(&second).is(
            "code for a second start",
            second.error_code,
            Some(409),
        );
    }
    let status = cx.status(&id).await?;
    cx.claim(HOST_START_002).is(
        "state of the first workload afterwards",
        status.state,
        State::Running,
    );
    Ok(())
}

/// Twenty starts of one id at once: one wins, nineteen are told that the id is taken.
async fn simultaneous(cx: &CheckContext) -> Flow {
    for round in ["a", "b", "c"] {
        let id = cx.id(round);
        let workload = cx.workload();
        let starts = (0..20).map(|_| cx.start(&id, &workload));
        let answers: Vec<Response> = try_join_all(starts).await?;
        let won = answers
            .iter()
            .filter(|answer| answer.state != State::Error)
            .count();
        cx.claim(HOST_START_003)
            .is("winners among 20 simultaneous starts of one id", won, 1);
        let told = answers
            .iter()
            .filter(|answer| answer.error_code == Some(409))
            .count();
        cx.claim(HOST_START_003)
            .is("starts that are refused with code 409", told, 19);
        cx.claim(HOST_START_003)
            .met(cx.running(&id, deadlines::LOOK).await);
    }
    Ok(())
}

async fn refused_with_400(
    cx: &CheckContext,
    requirement: Requirement,
    flaw: &str,
    payload: String,
) -> Flow {
    let reply = cx.send("workload.start", payload, Headers::none()).await?;
    let what = format!("a start with {flaw} is answered");
    let Some(answer) = cx.claim(requirement).answered(&what, &reply) else {
        return Ok(());
    };
    let right = answer.state == State::Error && answer.error_code == Some(400);
    let what = format!("a start with {flaw} is refused: ERROR with code 400");
    cx.claim(requirement)
        .holds(&what, right, || answer.to_string());
    Ok(())
}

/// A workload that could never be stopped is not started.
async fn empty_id(cx: &CheckContext) -> Flow {
    let workload = cx.workload();
    let absent = json!({ "workload": workload.json() }).to_string();
    refused_with_400(cx, HOST_START_004, "no workloadId", absent).await?;
    let empty = workload.start_request("").to_string();
    refused_with_400(cx, HOST_START_004, "an empty workloadId", empty).await
}

/// An absent workload is a mistake; it is not an empty one.
async fn no_workload(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let absent = json!({ "workloadId": id }).to_string();
    refused_with_400(cx, HOST_START_005, "no workload", absent).await?;
    let null = json!({ "workloadId": id, "workload": null }).to_string();
    refused_with_400(cx, HOST_START_005, "workload null", null).await?;
    let status = cx.status(&id).await?;
    cx.claim(HOST_START_005)
        .is("state of the id afterwards", status.state, State::NotFound);
    Ok(())
}

/// A workload with nothing in it runs.
async fn empty_workload(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let start = cx.start(&id, &cx.workload()).await?;
    let what = "a workload without components and service is accepted";
    let accepted = matches!(start.state, State::Running | State::Starting);
    if cx
        .claim(HOST_START_006)
        .holds(what, accepted, || start.to_string())
    {
        cx.claim(HOST_START_006)
            .met(cx.running(&id, deadlines::LOOK).await);
    }
    Ok(())
}

/// -1 and 0 are how writers in the field leave these numbers out.
async fn negative_pool(cx: &CheckContext) -> Flow {
    for number in [-1, 0] {
        let id = cx.id(&format!("pool{number}"));
        let workload = cx
            .workload()
            .component(Role::Idle)
            .field("poolSize", json!(number))
            .field("maxInvocations", json!(number))
            .field("maxConcurrency", json!(number));
        let start = cx.start(&id, &workload).await?;
        let what = format!(
            "a start with poolSize, maxInvocations and maxConcurrency {number} is accepted"
        );
        let accepted = matches!(start.state, State::Running | State::Starting);
        if cx
            .claim(HOST_START_007)
            .holds(&what, accepted, || start.to_string())
        {
            cx.claim(HOST_START_007)
                .met(cx.running(&id, deadlines::LOOK).await);
        }
    }
    Ok(())
}

/// Each way to get an ERROR without any image comes with words.
async fn errors_have_words(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    cx.started(&id, &cx.workload()).await?;
    let second = cx.workload().start_request(&id).to_string();
    for (mistake, command, payload) in [
        ("text that is not JSON", "workload.start", "{".to_owned()),
        (
            "no workload",
            "workload.start",
            json!({ "workloadId": cx.id("b") }).to_string(),
        ),
        ("an id that is taken", "workload.start", second),
        ("an unknown command", "workload.restart", "{}".to_owned()),
    ] {
        let reply = cx.send(command, payload, Headers::none()).await?;
        let what = format!("{mistake} is answered");
        let Some(answer) = cx.claim(HOST_START_008).answered(&what, &reply) else {
            continue;
        };
        let worded = answer.state == State::Error && !answer.message.trim().is_empty();
        let what = format!("the ERROR for {mistake} carries a message");
        cx.claim(HOST_START_008)
            .holds(&what, worded, || answer.to_string());
    }
    Ok(())
}

/// An id that was stopped can be started again, more than once.
async fn again_after_stop(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    for round in 1..=3 {
        let start = cx.start(&id, &cx.workload()).await?;
        let what = format!("start number {round} of the id is accepted");
        let accepted = matches!(start.state, State::Running | State::Starting);
        if !cx
            .claim(HOST_START_009)
            .about(&start)
            .holds(&what, accepted, || start.to_string())
        {
            return Ok(());
        }
        cx.stop(&id).await?;
        cx.gone(&id).await.or_blocked(cx, HOST_STOP_002)?;
    }
    Ok(())
}

/// -1 after a cast to 64 bits without a sign would be restarts without end.
async fn cast_max_restarts(cx: &CheckContext) -> Flow {
    for restarts in [u64::MAX, u64::from(u32::MAX) + 1] {
        let id = cx.id(&restarts.to_string());
        let workload = cx
            .workload()
            .service("127.0.0.1:1/nothing/here:1")
            .max_restarts(restarts);
        let flaw = format!("maxRestarts {restarts}");
        let payload = workload.start_request(&id).to_string();
        refused_with_400(cx, HOST_START_010, &flaw, payload).await?;
    }
    Ok(())
}
