//! Resilience checks: lost and duplicate messages, and load.

use std::time::Duration;

use serde_json::json;

use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::tap::{Action, Rule};
use crate::wire::nats::Replies;
use crate::wire::response::{Headers, Response, State};

/// Checks of the section `resilience`.
pub const CHECKS: &[Check] = &[
    check! {
        id: "resilience/duplicate-delivery", run: duplicate_delivery, covers: [HOST_RESIL_006],
        host: Own, roles: [], needs: [Tap], budget_s: 60, slow: false,
    },
    check! {
        id: "resilience/lost-reply", run: lost_reply, covers: [HOST_RESIL_007], host: Own,
        roles: [ServiceRun], needs: [Tap, Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "resilience/load", run: load, covers: [HOST_RESIL_008], host: Own, roles: [],
        needs: [Tap], budget_s: 90, slow: false,
    },
];

/// Number of simultaneous requests that a host has to serve.
const SIMULTANEOUS_REQUESTS: usize = 200;

/// Sends a request whose delivery the tap duplicates, and returns the replies.
async fn send_twice(
    cx: &CheckContext,
    command: &str,
    request: &serde_json::Value,
    id: &str,
) -> Result<Vec<Response>, Blocked> {
    let subject = crate::wire::nats::command_subject("*", command);
    let rule = Rule::on(subject, Action::Duplicate).to_target();
    let _duplicate = cx.tap()?.add_rule(rule.containing(id).times(1));
    let payload = request.to_string();
    let mut replies = cx.request(command, payload, Headers::none()).await?;
    let mut responses = Vec::new();
    while responses.len() < 2 {
        let within = deadlines::REPLY.limit + cx.fixture().patience();
        let Some(delivery) = replies.next(within).await else {
            break;
        };
        let reply = crate::host::context::parse_reply(delivery, &replies);
        responses.extend(reply.response().cloned());
    }
    let description = format!("number of replies to a {command} that was delivered twice");
    cx.claim(HOST_RESIL_006)
        .is(&description, responses.len(), 2);
    Ok(responses)
}

/// If the broker delivers a request twice, the host executes and answers both copies: it accepts
/// one copy of a start and refuses the other one with code 409.
async fn duplicate_delivery(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let start = cx.workload().start_request(&id);
    let responses = send_twice(cx, "workload.start", &start, &id).await?;
    let refused = responses
        .iter()
        .filter(|response| response.error_code == Some(409))
        .count();
    cx.claim(HOST_RESIL_006).is(
        "number of copies that are refused with code 409",
        refused,
        1,
    );
    cx.claim(HOST_RESIL_006)
        .met(cx.wait_running(&id, deadlines::DEFAULT_WAIT).await);

    let by_id = json!({ "workloadId": id });
    for response in send_twice(cx, "workload.status", &by_id, &id).await? {
        cx.claim(HOST_RESIL_006).about(&response).is(
            "state in a reply to a status that was delivered twice",
            response.state.clone(),
            State::Running,
        );
    }
    // A heartbeat request contains no id, so the payload, which hosts ignore, marks it.
    send_twice(cx, "heartbeat", &by_id, &id).await?;
    for response in send_twice(cx, "workload.stop", &by_id, &id).await? {
        cx.claim(HOST_RESIL_006).about(&response).one_of(
            "state in a reply to a stop that was delivered twice",
            response.state.clone(),
            &[State::Stopping, State::NotFound],
        );
    }
    Ok(())
}

/// A retry after a lost reply is refused with code 409, and the service runs once.
async fn lost_reply(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    let workload = cx.workload().service(Role::ServiceRun).beacon(&beacon);
    let rule = Rule::replies_to(
        crate::wire::nats::command_subject("*", "workload.start"),
        Action::Drop,
    )
    .from_target();
    let _lost = cx.tap()?.add_rule(rule.containing(&id).times(1));
    let payload = workload.start_request(&id).to_string();
    let first = cx
        .send_within(
            "workload.start",
            payload,
            Headers::none(),
            Duration::from_millis(500),
        )
        .await?;
    // The tap drops the first reply, so a reply that arrives is another one.
    if let Some(response) = first.response() {
        return Err(cx.blocked(HOST_WIRE_002, "one reply to a start", response));
    }
    cx.wait_running(&id, deadlines::DEFAULT_WAIT)
        .await
        .or_blocked(cx, HOST_START_001)?;
    let up = beacon.wait("up", 1, deadlines::DEFAULT_WAIT.limit).await;
    up.map_err(|missed| cx.blocked(HOST_SVC_016, "a service that runs", &missed))?;

    let retry = cx.start(&id, &workload).await?;
    let refused = retry.state == State::Error && retry.error_code == Some(409);
    let description = "the retry is refused with ERROR and code 409";
    cx.claim(HOST_RESIL_007)
        .about(&retry)
        .holds(description, refused, || retry.to_string());
    let status = cx.status(&id).await?;
    cx.claim(HOST_RESIL_007)
        .is("state after the retry", status.state, State::Running);
    let once = cx.consistently(Duration::from_secs(1), "the service runs once", || async {
        match beacon.count("up") {
            1 => Ok(()),
            runs => Err(format!("{runs} runs")),
        }
    });
    cx.claim(HOST_RESIL_007).met(once.await);
    Ok(())
}

/// The host replies to 200 requests that arrive together within 5 s, each with the right id.
async fn load(cx: &CheckContext) -> Flow {
    let tap = cx.tap()?;
    for round in 1..=2 {
        // The requests wait in the tap, so that the host receives all of them at once.
        let held = tap.freeze();
        let mut requests = Vec::new();
        for number in 0..SIMULTANEOUS_REQUESTS {
            let id = cx.id(&format!("never-{number}"));
            let command = match (round, number % 4) {
                (1, _) | (_, 0 | 1) => "workload.status",
                (_, 2) => "workload.stop",
                _ => "heartbeat",
            };
            let payload = json!({ "workloadId": id }).to_string();
            let replies = cx.request(command, payload, Headers::none()).await?;
            requests.push((command, id, replies));
        }
        drop(held);
        claim_all_answered(cx, requests).await;
    }
    Ok(())
}

/// Records the claims that each request gets its reply within 5 s, with the id of the request.
async fn claim_all_answered(cx: &CheckContext, requests: Vec<(&str, String, Replies)>) {
    let deadline =
        tokio::time::Instant::now() + deadlines::LOAD_REPLY.limit + cx.fixture().patience();
    let (mut answered, mut with_right_id) = (0, 0);
    for (command, id, mut replies) in requests {
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        // A reply that has arrived is read even after the deadline.
        let Some(delivery) = replies.next(left.max(Duration::from_millis(1))).await else {
            continue;
        };
        let reply = crate::host::context::parse_reply(delivery, &replies);
        let Some(response) = reply.response() else {
            continue;
        };
        answered += 1;
        let is_heartbeat = command == "heartbeat";
        with_right_id += usize::from(is_heartbeat || response.id == id);
    }
    cx.claim(HOST_RESIL_008).is(
        "number of replies within 5 s to 200 simultaneous requests",
        answered,
        SIMULTANEOUS_REQUESTS,
    );
    cx.claim(HOST_RESIL_008).is(
        "number of replies with the id of the request",
        with_right_id,
        SIMULTANEOUS_REQUESTS,
    );
}
