//! Transport checks: commands, subjects, subscriptions and deadlines.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::wire_refusals::malformed_payloads;
use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::tap::{Direction, Frame, FrameKind};
use crate::wire::nats;
use crate::wire::response::{Headers, State};
use crate::wire::trace;

/// Checks of the section `wire`.
pub const CHECKS: &[Check] = &[
    check! {
        id: "wire/commands", run: commands, covers: [HOST_WIRE_001], host: Shared, roles: [],
        budget_s: 90, slow: false,
    },
    check! {
        id: "wire/heartbeat-payloads", run: heartbeat_payloads, covers: [HOST_WIRE_006],
        host: Shared, roles: [], budget_s: 60, slow: false,
    },
    check! {
        id: "wire/other-hosts", run: other_hosts, covers: [HOST_WIRE_013], host: Own,
        roles: [], budget_s: 60, slow: false,
    },
    check! {
        id: "wire/first-heartbeat", run: first_heartbeat, covers: [HOST_WIRE_014, HOST_BEAT_002],
        host: Own, roles: [], needs: [Tap], budget_s: 60, slow: false,
    },
    check! {
        id: "wire/own-subjects", run: own_subjects, covers: [HOST_WIRE_015], host: Shared,
        roles: [], budget_s: 90, slow: false,
    },
    check! {
        id: "wire/service-subjects", run: service_subjects, covers: [HOST_WIRE_015, HOST_SVC_001],
        host: Shared, roles: [ServiceOk, ServiceErr], needs: [Registry], budget_s: 120,
        slow: false,
    },
    check! {
        id: "wire/reply-deadline", run: reply_deadline, covers: [HOST_WIRE_016], host: Shared,
        roles: [], budget_s: 60, slow: false,
    },
];

/// Commands that each host serves.
const COMMANDS: [&str; 4] = [
    "heartbeat",
    "workload.start",
    "workload.stop",
    "workload.status",
];

/// The host executes each of the four commands.
async fn commands(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let start = cx.workload().start_request(&id).to_string();
    let id_request = json!({ "workloadId": id }).to_string();
    let steps: [(&str, String, &[State]); 3] = [
        ("workload.start", start, &[State::Running, State::Starting]),
        (
            "workload.status",
            id_request.clone(),
            &[State::Running, State::Starting],
        ),
        (
            "workload.stop",
            id_request,
            &[State::Stopping, State::NotFound],
        ),
    ];
    for (command, payload, acceptable) in steps {
        let reply = cx.send(command, payload, Headers::none()).await?;
        let description = format!("the host replies to {command}");
        let Some(response) = cx.claim(HOST_WIRE_001).answered(&description, &reply) else {
            continue;
        };
        cx.claim(HOST_WIRE_001).one_of(
            &format!("state after {command}"),
            response.state,
            acceptable,
        );
    }
    let reply = cx.send("heartbeat", "{}", Headers::none()).await?;
    if let Some(response) = cx
        .claim(HOST_WIRE_001)
        .answered("the host replies to heartbeat", &reply)
    {
        let id = response
            .json
            .as_ref()
            .and_then(|json| json.get("id"))
            .and_then(Value::as_str);
        cx.claim(HOST_WIRE_001)
            .is("`id` in the reply to heartbeat", id, Some(cx.host_id()));
    }
    Ok(())
}

/// The host replies to a heartbeat request with any payload.
async fn heartbeat_payloads(cx: &CheckContext) -> Flow {
    let mut payloads = malformed_payloads();
    let long = format!(r#"{{"whatever":"{}"}}"#, "x".repeat(200_000));
    payloads.extend([
        (
            "an object with unknown fields",
            Bytes::from_static(br#"{"whatever":[1]}"#),
        ),
        ("200 KB", long.into()),
    ]);
    for (name, payload) in payloads {
        let reply = cx.send("heartbeat", payload, Headers::none()).await?;
        let description = format!("the host replies to heartbeat with {name}");
        let Some(response) = cx.claim(HOST_WIRE_006).answered(&description, &reply) else {
            continue;
        };
        let id = response
            .json
            .as_ref()
            .and_then(|json| json.get("id"))
            .and_then(Value::as_str);
        let description = format!("`id` in the reply to heartbeat with {name}");
        cx.claim(HOST_WIRE_006)
            .is(&description, id, Some(cx.host_id()));
    }
    Ok(())
}

/// Commands for another host id have no responders, also after the first workload has started.
async fn other_hosts(cx: &CheckContext) -> Flow {
    cx.start_and_wait(&cx.id("running"), &cx.workload()).await?;
    let other_id = format!("{}x", cx.host_id());
    for command in COMMANDS {
        let subject = nats::command_subject(&other_id, command);
        let payload = json!({ "workloadId": cx.id("a") }).to_string();
        let mut replies = cx.request_on(&subject, payload, Headers::none()).await?;
        let reply = replies.next(deadlines::REPLY.limit).await;
        let status = reply.as_ref().map(|delivery| delivery.status);
        let description =
            format!("broker status for {command} of another host id (503: no responders)");
        cx.claim(HOST_WIRE_013)
            .is(&description, status, Some(Some(503)));
    }
    Ok(())
}

/// The host subscribes to its commands before its first heartbeat, and publishes it within 5 s of
/// connecting.
async fn first_heartbeat(cx: &CheckContext) -> Flow {
    let tap = cx.tap()?;
    let subject = nats::heartbeat_subject(cx.host_id());
    let is_heartbeat = |frame: &Frame| {
        frame.direction == Direction::FromTarget
            && frame.kind == FrameKind::Publish
            && frame.is_on(&subject)
    };
    let first = cx.eventually(
        deadlines::HEARTBEAT_GAP_MAX,
        "the host publishes a heartbeat",
        || async {
            let frames = tap.frames();
            let heartbeat = frames.iter().find(|frame| is_heartbeat(frame));
            heartbeat
                .cloned()
                .ok_or_else(|| "no heartbeat on the wire".to_owned())
        },
    );
    let heartbeat = first.await.or_blocked(cx, HOST_BEAT_001)?;
    let frames = tap.frames();
    let from_host = || {
        frames
            .iter()
            .filter(|frame| frame.direction == Direction::FromTarget)
    };
    for command in COMMANDS {
        let command = nats::command_subject(cx.host_id(), command);
        let subscribed = from_host().any(|frame| {
            frame.kind == FrameKind::Subscribe
                && frame.number < heartbeat.number
                && frame
                    .subject
                    .as_ref()
                    .is_some_and(|pattern| berth_broker::subject_matches(pattern, &command))
        });
        let description = format!("the host subscribes to {command} before its first heartbeat");
        cx.claim(HOST_WIRE_014)
            .about_subject(&subject)
            .holds(&description, subscribed, || {
                "the host publishes the heartbeat first".to_owned()
            });
    }
    let connected = from_host().find(|frame| frame.kind == FrameKind::Connect);
    let after = connected
        .map(|frame| heartbeat.at.saturating_duration_since(frame.at))
        .unwrap_or_default();
    let in_time = after <= deadlines::FIRST_HEARTBEAT.limit + cx.fixture().patience();
    let description = "the host publishes its first heartbeat within 5 s of connecting";
    cx.claim(HOST_BEAT_002)
        .about_subject(&subject)
        .holds(description, in_time, || format!("after {after:?}"));
    Ok(())
}

/// The host replies to status and heartbeat within 5 s.
async fn reply_deadline(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    cx.start(&id, &cx.workload()).await?;
    let id_request = json!({ "workloadId": id }).to_string();
    let unknown = json!({ "workloadId": cx.id("never-started") }).to_string();
    for (command, payload) in [
        ("workload.status", id_request),
        ("workload.status", unknown),
        ("heartbeat", "{}".to_owned()),
    ] {
        let reply = cx.send(command, payload, Headers::none()).await?;
        cx.claim(HOST_WIRE_016)
            .answered(&format!("the host replies to {command} within 5 s"), &reply);
    }
    Ok(())
}

/// Time after the launch in which the host must not have published on foreign subjects. A timer of
/// a host, such as a probe of its own subscription, rarely has a longer interval.
const OBSERVED_UPTIME: Duration = Duration::from_secs(11);

/// From its launch on, the host publishes below `runtime.` only its own heartbeats.
async fn own_subjects(cx: &CheckContext) -> Flow {
    let started_at = cx.host().trace.started_at();
    let rest = OBSERVED_UPTIME.saturating_sub(started_at.elapsed());
    let description = "a message on a subject below `runtime.`";
    let foreign = cx.never(rest, description, || async { foreign_message(cx) });
    let foreign = foreign.await;
    cx.claim(HOST_WIRE_015).met(foreign);
    Ok(())
}

/// The host publishes no message below `runtime.` when a service starts, completes or fails.
async fn service_subjects(cx: &CheckContext) -> Flow {
    for (role, end) in [
        (Role::ServiceOk, State::Completed),
        (Role::ServiceErr, State::Error),
    ] {
        let (id, beacon) = (cx.id(role.name()), cx.beacon());
        let workload = cx.workload().service(role).beacon(&beacon).max_restarts(1);
        cx.start(&id, &workload).await?;
        let ended = cx.wait_for_state(&id, end, deadlines::DEFAULT_WAIT).await;
        if role == Role::ServiceOk {
            cx.claim(HOST_SVC_001).met(ended);
        } else {
            ended.or_blocked(cx, HOST_SVC_007)?;
        }
        cx.stop(&id).await?;
    }
    let description = "a message on a subject below `runtime.`";
    let foreign = cx.never(EVENT_TIME, description, || async { foreign_message(cx) });
    let foreign = foreign.await;
    cx.claim(HOST_WIRE_015).met(foreign);
    Ok(())
}

/// Time within which a host would publish an event about the end of a service.
const EVENT_TIME: Duration = Duration::from_millis(500);

/// Returns the subject of a message from the host that is neither a heartbeat nor a reply.
fn foreign_message(cx: &CheckContext) -> Option<String> {
    let own = nats::heartbeat_subject(cx.host_id());
    let foreign = cx.host().trace.first(|frame| {
        frame.direction == trace::Direction::FromHost
            && frame.subject.starts_with("runtime.")
            && frame.subject != own
    });
    foreign.map(|frame| frame.subject)
}
