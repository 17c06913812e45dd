//! Transport: subjects, replies, ids, and what a host does with anything that arrives.

use serde_json::json;

use crate::{
    answer::{Headers, State},
    check,
    check::Check,
    cx::Cx,
    deadline,
    outcome::Flow,
    requirements::*,
};

/// The section.
pub const CHECKS: &[Check] = &[
    check! { id: "wire/without-reply", run: without_reply, covers: [HOST_WIRE_003],
    host: Shared, roles: [], budget_s: 20, slow: false },
    check! { id: "wire/unknown-command", run: unknown_command, covers: [HOST_WIRE_005],
    host: Shared, roles: [], budget_s: 30, slow: false },
];

/// A start and a stop without a reply subject take effect all the same.
async fn without_reply(cx: &Cx) -> Flow {
    let id = cx.id("a");
    let start = cx.workload().start_request(&id).to_string();
    cx.publish_no_reply("workload.start", start).await?;
    cx.claim(HOST_WIRE_003)
        .met(cx.running(&id, deadline::LOOK).await);

    cx.publish_no_reply("workload.stop", json!({ "workloadId": id }).to_string())
        .await?;
    cx.claim(HOST_WIRE_003).met(cx.gone(&id).await);
    Ok(())
}

/// An unknown command is refused in the ordinary envelope, and touches nothing.
async fn unknown_command(cx: &Cx) -> Flow {
    let id = cx.id("a");
    cx.started(&id, &cx.workload()).await?;

    for command in [
        "workload.restart",
        "workload",
        "workload.start.extra",
        "unheard-of",
    ] {
        let payload = json!({ "workloadId": id }).to_string();
        let reply = cx.send(command, payload, Headers::none()).await?;
        let what = format!("`{command}` is answered");
        let Some(answer) = cx.claim(HOST_WIRE_005).answered(&what, &reply) else {
            continue;
        };
        cx.claim(HOST_WIRE_005).is(
            &format!("state for `{command}`"),
            answer.state.clone(),
            State::Error,
        );
        cx.claim(HOST_WIRE_005).is(
            &format!("code for `{command}`"),
            answer.error_code,
            Some(404),
        );
    }
    let status = cx.status(&id).await?;
    cx.claim(HOST_WIRE_005).is(
        "state of the workload afterwards",
        status.state,
        State::Running,
    );
    Ok(())
}
