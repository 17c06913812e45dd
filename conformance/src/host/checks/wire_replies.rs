//! Transport checks of replies: their number, their subjects and headers.

use std::time::Duration;

use futures_util::future::try_join_all;
use serde_json::json;

use super::image_support::{idle_workload, push_slow, wait_for_pull};
use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::{CheckContext, parse_reply};
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::wire::nats::{Subscription, command_subject};
use crate::wire::response::{Headers, Reply, State};

/// Checks of the section `wire` about replies.
pub const CHECKS: &[Check] = &[
    check! {
        id: "wire/one-reply", run: one_reply, covers: [HOST_WIRE_002], host: Shared,
        roles: [], budget_s: 60, slow: false,
    },
    check! {
        id: "wire/reply-subjects", run: reply_subjects, covers: [HOST_WIRE_002], host: Shared,
        roles: [], needs: [Process], budget_s: 90, slow: false,
    },
    check! {
        id: "wire/shared-reply-subject", run: shared_reply_subject,
        covers: [HOST_WIRE_002, HOST_IMG_001], host: Shared, roles: [Idle],
        needs: [Process, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "wire/canceled-start", run: canceled_start,
        covers: [HOST_WIRE_002, HOST_JSON_007, HOST_STOP_009], host: Shared, roles: [Idle],
        needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "wire/no-reply-subject", run: no_reply_subject, covers: [HOST_WIRE_003], host: Shared,
        roles: [], budget_s: 90, slow: false,
    },
    check! {
        id: "wire/headers", run: headers, covers: [HOST_WIRE_017], host: Shared, roles: [],
        budget_s: 150, slow: false,
    },
];

/// Time for which the suite waits for a second reply.
const SECOND_REPLY: Duration = Duration::from_millis(1500);
/// Duration of a pull that is in progress while the suite sends other requests.
const PULL_TIME: Duration = Duration::from_secs(2);

/// Every kind of request, valid or invalid, gets exactly one reply.
async fn one_reply(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let id_request = json!({ "workloadId": id }).to_string();
    let requests = [
        (
            "workload.start",
            cx.workload().start_request(&id).to_string(),
        ),
        ("workload.status", id_request.clone()),
        ("workload.stop", id_request),
        ("heartbeat", String::new()),
        ("workload.start", "{".to_owned()),
        ("workload.restart", "{}".to_owned()),
    ];
    let counts = requests.into_iter().map(|(command, payload)| async move {
        let mut replies = cx.request(command, payload, Headers::none()).await?;
        let mut count = 0;
        let mut limit = deadlines::REPLY.limit + cx.fixture().patience();
        while let Some(delivery) = replies.next(limit).await {
            count += usize::from(delivery.status.is_none());
            limit = SECOND_REPLY;
        }
        Ok::<_, Blocked>((command, count))
    });
    for (command, count) in try_join_all(counts).await? {
        cx.claim(HOST_WIRE_002)
            .is(&format!("number of replies to one {command}"), count, 1);
    }
    Ok(())
}

/// A reply arrives on any reply subject.
async fn reply_subjects(cx: &CheckContext) -> Flow {
    let unique = cx.unique_name().replace(['.', ' '], "-");
    let status = json!({ "workloadId": cx.id("unknown") }).to_string();
    for subject in [
        unique.clone(),
        format!("replies.{unique}"),
        // `_R_.` and `$SYS.` are reserved by the NATS server.
        format!("_r_.{unique}.1.2.3.4.5.6.7.8"),
        format!("$other.{unique}"),
        format!("_inbox.{unique}"),
    ] {
        let mut replies = subscribe(cx, &subject).await?;
        request_on(cx, "workload.status", &subject, &status).await?;
        let description = format!("the host replies on {subject:?}");
        let count = count_replies(cx, &mut replies, 1, deadlines::REPLY.limit).await;
        cx.claim(HOST_WIRE_002).is(&description, count, 1);
    }
    Ok(())
}

/// Two requests with the same reply subject get two replies, although one takes longer.
async fn shared_reply_subject(cx: &CheckContext) -> Flow {
    let status = json!({ "workloadId": cx.id("unknown") }).to_string();
    let subject = format!(
        "replies.{}.shared",
        cx.unique_name().replace(['.', ' '], "-")
    );
    let mut replies = subscribe(cx, &subject).await?;
    let image = push_slow(cx, "slow", PULL_TIME);
    let id = cx.id("slow");
    let start = idle_workload(cx, &image).start_request(&id);
    request_on(cx, "workload.start", &subject, &start.to_string()).await?;
    wait_for_pull(cx, "slow").await?;
    request_on(cx, "workload.status", &subject, &status).await?;
    let count = count_replies(cx, &mut replies, 2, deadlines::START_REPLY.limit).await;
    let description = "number of replies to a start and a status with the same reply subject";
    cx.claim(HOST_WIRE_002).is(description, count, 2);
    let running = cx.wait_running(&id, deadlines::DEFAULT_WAIT).await;
    cx.claim(HOST_IMG_001).met(running);
    Ok(())
}

async fn subscribe(cx: &CheckContext, subject: &str) -> Result<Subscription, Blocked> {
    let subscribed = cx.fixture().bus.subscribe(subject).await;
    subscribed.map_err(|cause| Blocked::harness_error("cannot subscribe", &cause))
}

async fn request_on(cx: &CheckContext, command: &str, reply: &str, payload: &str) -> Flow {
    let subject = command_subject(cx.host_id(), command);
    let payload = payload.to_owned().into();
    let sent = cx
        .fixture()
        .bus
        .request_with_reply_subject(&subject, reply, payload);
    sent.await
        .map_err(|cause| Blocked::harness_error("cannot send a request", &cause))
}

/// Counts the replies until there are `expected` or the limit has passed.
async fn count_replies(
    cx: &CheckContext,
    replies: &mut Subscription,
    expected: usize,
    limit: Duration,
) -> usize {
    let deadline = tokio::time::Instant::now() + limit + cx.fixture().patience();
    let mut count = 0;
    while count < expected
        && let Ok(Some(delivery)) = tokio::time::timeout_at(deadline, replies.next()).await
    {
        count += usize::from(delivery.status.is_none());
    }
    count
}

/// A start that a stop cancels gets a reply with a state.
async fn canceled_start(cx: &CheckContext) -> Flow {
    let id = cx.id("slow");
    let image = push_slow(cx, "slow", PULL_TIME);
    let start = idle_workload(cx, &image).start_request(&id).to_string();
    let mut replies = cx.request("workload.start", start, Headers::none()).await?;
    wait_for_pull(cx, "slow").await?;
    cx.stop(&id).await?;
    let within = deadlines::START_REPLY.limit + cx.fixture().patience();
    let reply = match replies.next(within).await {
        Some(delivery) => parse_reply(delivery, &replies),
        None => Reply::Timeout {
            waited: within,
            inbox: replies.inbox.clone(),
        },
    };
    let description = "the host replies to a start that a stop cancels";
    let Some(response) = cx.claim(HOST_WIRE_002).answered(description, &reply) else {
        return Ok(());
    };
    let has_state = !matches!(
        response.state,
        State::Absent | State::Unspecified | State::Other(_)
    );
    let description = "the reply to a canceled start has a state";
    cx.claim(HOST_JSON_007)
        .about(&response)
        .holds(description, has_state, || response.to_string());
    // A host may have replied before the stop arrived.
    let states = [
        State::Stopping,
        State::NotFound,
        State::Starting,
        State::Running,
    ];
    let description = "state in the reply to a canceled start";
    cx.claim(HOST_STOP_009)
        .about(&response)
        .one_of(description, response.state.clone(), &states);
    Ok(())
}

/// The host executes a start and a stop without a reply subject.
async fn no_reply_subject(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let start = cx.workload().start_request(&id).to_string();
    cx.publish_no_reply("workload.start", start).await?;
    cx.claim(HOST_WIRE_003)
        .met(cx.wait_running(&id, deadlines::DEFAULT_WAIT).await);

    cx.publish_no_reply("workload.stop", json!({ "workloadId": id }).to_string())
        .await?;
    cx.claim(HOST_WIRE_003).met(cx.wait_not_found(&id).await);
    Ok(())
}

/// Returns headers that a host ignores: each with a description.
fn unknown_headers(cx: &CheckContext) -> Vec<(&'static str, Headers)> {
    let none = Headers::none;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    vec![
        (
            "tracing headers",
            none()
                .with("traceparent", trace)
                .with("X-Unknown", "ünï: code"),
        ),
        // The same value in each request.
        ("a message id", none().with("Nats-Msg-Id", cx.unique_name())),
        (
            "another content type",
            none()
                .with("Content-Type", "application/x-protobuf")
                .with("Accept", "text/html")
                .with("Content-Encoding", "gzip"),
        ),
        (
            "error headers",
            none()
                .with("Nats-Service-Error-Code", "409")
                .with("Nats-Service-Error", "a request is not an error"),
        ),
        (
            "headers of NATS",
            none()
                .with("Nats-Expected-Stream", "runtime")
                .with("Nats-TTL", "1ns")
                .with("Status", "503"),
        ),
        (
            "a header with two values",
            none().with("X-Twice", "1").with("X-Twice", ""),
        ),
    ]
}

/// The host accepts requests with headers, such as tracing headers, and ignores the headers.
async fn headers(cx: &CheckContext) -> Flow {
    let all = unknown_headers(cx);
    let sent = all
        .into_iter()
        .enumerate()
        .map(|(number, (name, headers))| with_headers(cx, number, name, headers));
    try_join_all(sent).await?;
    Ok(())
}

async fn with_headers(cx: &CheckContext, number: usize, name: &str, headers: Headers) -> Flow {
    let id = cx.id(&number.to_string());
    let start = cx.workload().start_request(&id).to_string();
    let id_request = json!({ "workloadId": id }).to_string();
    let running: &[State] = &[State::Running, State::Starting];
    let stopping: &[State] = &[State::Stopping, State::NotFound];
    for (command, payload, acceptable) in [
        ("workload.start", start, running),
        ("workload.status", id_request.clone(), running),
        ("workload.stop", id_request.clone(), stopping),
        ("workload.stop", id_request, stopping),
    ] {
        let reply = cx.send(command, payload, headers.clone()).await?;
        let description = format!("the host replies to {command} with {name}");
        let Some(response) = cx.claim(HOST_WIRE_017).answered(&description, &reply) else {
            continue;
        };
        let description = format!("{command} with {name} has its normal outcome, without a code");
        let is_normal = acceptable.contains(&response.state) && response.error_code.is_none();
        cx.claim(HOST_WIRE_017)
            .about(&response)
            .holds(&description, is_normal, || {
                format!("{response}, headers {:?}", response.headers.0)
            });
    }
    Ok(())
}
