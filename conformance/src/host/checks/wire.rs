//! Transport checks: subjects, replies, ids, and malformed payloads.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::testbed::tap::{Direction, Frame, FrameKind};
use crate::wire::nats;
use crate::wire::response::{ERROR_HEADER, Headers, State};

/// Checks of the section `wire`.
pub const CHECKS: &[Check] = &[
    check! {
        id: "wire/commands", run: commands, covers: [HOST_WIRE_001], host: Shared, roles: [],
        budget_s: 90, slow: false,
    },
    check! {
        id: "wire/one-reply", run: one_reply, covers: [HOST_WIRE_002], host: Shared,
        roles: [], budget_s: 60, slow: false,
    },
    check! {
        id: "wire/no-reply-subject", run: no_reply_subject, covers: [HOST_WIRE_003], host: Shared,
        roles: [], budget_s: 90, slow: false,
    },
    check! {
        id: "wire/malformed", run: malformed, covers: [HOST_WIRE_004, HOST_WIRE_018],
        host: Shared, roles: [], budget_s: 150, slow: false,
    },
    check! {
        id: "wire/unknown-command", run: unknown_command, covers: [HOST_WIRE_005],
        host: Shared, roles: [], budget_s: 60, slow: false,
    },
    check! {
        id: "wire/heartbeat-payloads", run: heartbeat_payloads, covers: [HOST_WIRE_006],
        host: Shared, roles: [], budget_s: 60, slow: false,
    },
    check! {
        id: "wire/ids", run: ids, covers: [HOST_WIRE_007], host: Shared, roles: [],
        budget_s: 150, slow: false,
    },
    check! {
        id: "wire/long-ids", run: long_ids, covers: [HOST_WIRE_009], host: Shared, roles: [],
        budget_s: 60, slow: false,
    },
    check! {
        id: "wire/huge-id", run: huge_id, covers: [HOST_WIRE_010], host: Own, roles: [],
        budget_s: 60, slow: false,
    },
    check! {
        id: "wire/arbitrary-payloads", run: arbitrary_payloads, covers: [HOST_WIRE_011], host: Own,
        roles: [], budget_s: 150, slow: false,
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
        id: "wire/reply-deadline", run: reply_deadline, covers: [HOST_WIRE_016], host: Shared,
        roles: [], budget_s: 60, slow: false,
    },
    check! {
        id: "wire/headers", run: headers, covers: [HOST_WIRE_017], host: Shared, roles: [],
        budget_s: 90, slow: false,
    },
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

/// Time for which the suite waits for a second reply.
const SECOND_REPLY: Duration = Duration::from_millis(1500);

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

/// Returns payloads that are not a message of any kind.
fn malformed_payloads() -> Vec<(&'static str, Bytes)> {
    vec![
        ("an empty payload", Bytes::new()),
        (
            "truncated JSON",
            Bytes::from_static(br#"{"workloadId":"a","workload":{"na"#),
        ),
        ("a list", Bytes::from_static(b"[]")),
        ("a number", Bytes::from_static(b"7")),
        ("text", Bytes::from_static(br#""workload""#)),
        ("null", Bytes::from_static(b"null")),
        (
            "bytes that are not UTF-8",
            Bytes::from_static(b"{\"workloadId\":\"\xff\xfe\"}"),
        ),
        (
            "trailing data after the object",
            Bytes::from_static(br#"{"workloadId":"a"} {}"#),
        ),
    ]
}

/// Malformed payloads are refused with ERROR, code 400, a message and the header
/// `Nats-Service-Error`.
async fn malformed(cx: &CheckContext) -> Flow {
    let commands = ["workload.start", "workload.stop", "workload.status"];
    let requests = commands.into_iter().flat_map(|command| {
        malformed_payloads()
            .into_iter()
            .map(move |(flaw, payload)| async move {
                let reply = cx.send(command, payload, Headers::none()).await?;
                Ok::<_, Blocked>((format!("{command} with {flaw}"), reply))
            })
    });
    for (request, reply) in try_join_all(requests).await? {
        let claim = cx.claim(HOST_WIRE_004);
        let Some(response) = claim.answered(&format!("the host replies to {request}"), &reply)
        else {
            continue;
        };
        let refused = response.state == State::Error
            && response.error_code == Some(400)
            && !response.message.trim().is_empty();
        let description = format!("{request} is refused with ERROR, code 400 and a message");
        cx.claim(HOST_WIRE_004)
            .about(&response)
            .holds(&description, refused, || response.to_string());
        if refused {
            let text = response.headers.get(ERROR_HEADER);
            let has_text = text.is_some_and(|text| !text.trim().is_empty());
            let description = format!("the refusal of {request} has the header Nats-Service-Error");
            cx.claim(HOST_WIRE_018)
                .about(&response)
                .holds(&description, has_text, || {
                    format!("{:?}", response.headers.0)
                });
        }
    }
    // If the host refused no payload, the claims above do not hold, and there is no header to
    // judge.
    cx.claim(HOST_WIRE_018).holds(
        "refusals have the header Nats-Service-Error",
        true,
        String::new,
    );
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

/// Unknown commands are refused with ERROR and code 404, and do not affect workloads.
async fn unknown_command(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    cx.start_and_wait(&id, &cx.workload()).await?;

    for command in [
        "workload.restart",
        "workload",
        "workload.start.extra",
        "unknown-command",
    ] {
        let payload = json!({ "workloadId": id }).to_string();
        let reply = cx.send(command, payload, Headers::none()).await?;
        let description = format!("the host replies to `{command}`");
        let Some(response) = cx.claim(HOST_WIRE_005).answered(&description, &reply) else {
            continue;
        };
        cx.claim(HOST_WIRE_005).is(
            &format!("state of the reply to `{command}`"),
            response.state.clone(),
            State::Error,
        );
        cx.claim(HOST_WIRE_005).is(
            &format!("error code of the reply to `{command}`"),
            response.error_code,
            Some(404),
        );
    }
    let status = cx.status(&id).await?;
    cx.claim(HOST_WIRE_005).is(
        "state of the workload after unknown commands",
        status.state,
        State::Running,
    );
    Ok(())
}

/// The host replies to a heartbeat request with any payload.
async fn heartbeat_payloads(cx: &CheckContext) -> Flow {
    let mut payloads = malformed_payloads();
    payloads.push((
        "an object with unknown fields",
        Bytes::from_static(br#"{"whatever":[1]}"#),
    ));
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

/// Ids with any characters are accepted and echoed unchanged.
async fn ids(cx: &CheckContext) -> Flow {
    let short = cx.id("");
    let filler = "ü".repeat((256 - short.len()) / 2)
        + if short.len().is_multiple_of(2) {
            ""
        } else {
            "x"
        };
    let names = [
        " blanks around ",
        "line\nbreak\r\n\ttab",
        "dots.and.*.and.>",
        "../../etc/passwd",
        "日本語 ünï 🦀",
        "quote\" back\\slash {}[]<>&",
        "NUL\u{0}and\u{7f}",
        "$SYS.REQ",
        &filler,
    ];
    for name in names {
        let id = cx.id(name);
        let start = cx.start(&id, &cx.workload()).await?;
        cx.claim(HOST_WIRE_007).about(&start).is(
            "`workloadId` in the reply to start",
            &start.id,
            &id,
        );
        let accepted = matches!(start.state, State::Running | State::Starting);
        let description = format!("an id of {} bytes with {name:?} is accepted", id.len());
        cx.claim(HOST_WIRE_007)
            .about(&start)
            .holds(&description, accepted, || start.to_string());
        let status = cx.status(&id).await?;
        cx.claim(HOST_WIRE_007).about(&status).is(
            "`workloadId` in the reply to status",
            &status.id,
            &id,
        );
        let stop = cx.stop(&id).await?;
        cx.claim(HOST_WIRE_007)
            .about(&stop)
            .is("`workloadId` in the reply to stop", &stop.id, &id);
    }
    Ok(())
}

/// An id of more than 256 bytes is echoed unchanged, or refused and omitted from the reply.
async fn long_ids(cx: &CheckContext) -> Flow {
    for bytes in [257, 1000, 20_000] {
        let mut id = cx.id(&format!("{bytes}-"));
        id.extend(std::iter::repeat_n('x', bytes - id.len()));
        cx.track_id(&id);
        let payload = cx.workload().start_request(&id).to_string();
        let reply = cx.send("workload.start", payload, Headers::none()).await?;
        let description = format!("the host replies to a start with an id of {bytes} bytes");
        let Some(response) = cx.claim(HOST_WIRE_009).answered(&description, &reply) else {
            continue;
        };
        let refused = response.state == State::Error
            && response.error_code == Some(413)
            && response.id.is_empty();
        let echoed = response.state != State::Error && response.id == id;
        let description = format!(
            "an id of {bytes} bytes is refused (ERROR, 413, no `workloadId`) or echoed unchanged"
        );
        cx.claim(HOST_WIRE_009)
            .holds(&description, refused || echoed, || {
                format!("{response}, `workloadId` of {} bytes", response.id.len())
            });
    }
    Ok(())
}

/// The host replies to a request whose id, echoed, would exceed the broker's maximum payload.
async fn huge_id(cx: &CheckContext) -> Flow {
    let id = "h".repeat(600 * 1024);
    for command in ["workload.status", "workload.stop"] {
        let reply = cx
            .send(
                command,
                json!({ "workloadId": id }).to_string(),
                Headers::none(),
            )
            .await?;
        let description = format!("the host replies to {command} with an id of 600 KiB");
        let Some(response) = cx.claim(HOST_WIRE_010).answered(&description, &reply) else {
            continue;
        };
        let omitted_or_echoed = response.id.is_empty() || response.id == id;
        cx.claim(HOST_WIRE_010).holds(
            "the reply omits the id or echoes it unchanged",
            omitted_or_echoed,
            || format!("`workloadId` of {} bytes", response.id.len()),
        );
    }
    Ok(())
}

/// After any payload on any command (noise, deep nesting, duplicate keys), the host still replies
/// to status.
async fn arbitrary_payloads(cx: &CheckContext) -> Flow {
    let max = cx
        .fixture()
        .bus
        .max_payload_bytes()
        .saturating_sub(1024)
        .min(1 << 20);
    let noise: Vec<u8> = (0..max)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 7) as u8)
        .collect();
    let opening = |bracket: &str| Bytes::from(bracket.repeat(max * 9 / 10 / bracket.len()));
    let mut payloads = malformed_payloads();
    payloads.extend([
        ("a megabyte of noise", Bytes::from(noise)),
        ("a megabyte of opening brackets", opening("[")),
        ("a megabyte of nested objects", opening(r#"{"workload":"#)),
        (
            "deep nesting in an unknown field",
            Bytes::from(format!(
                r#"{{"workloadId":"n","x":{}}}"#,
                "[".repeat(100_000)
            )),
        ),
        (
            "a duplicate key",
            Bytes::from_static(br#"{"workloadId":"a","workloadId":"b"}"#),
        ),
        (
            "a number of 100,000 digits",
            Bytes::from(format!(r#"{{"workloadId":{}}}"#, "9".repeat(100_000))),
        ),
        (
            "a lone surrogate",
            Bytes::from_static(br#"{"workloadId":"\ud800"}"#),
        ),
    ]);
    let probe_id = cx.id("never-started");
    for (name, payload) in payloads {
        for command in [
            "workload.start",
            "workload.status",
            "workload.stop",
            "heartbeat",
            "nonsense",
        ] {
            cx.publish_no_reply(command, payload.clone()).await?;
        }
        let status = json!({ "workloadId": probe_id }).to_string();
        let reply = cx.send("workload.status", status, Headers::none()).await?;
        let description = format!("the host replies to status within 5 s after {name}");
        let Some(response) = cx.claim(HOST_WIRE_011).answered(&description, &reply) else {
            return Ok(());
        };
        cx.claim(HOST_WIRE_011).is(
            &format!("state after {name}"),
            response.state,
            State::NotFound,
        );
    }
    Ok(())
}

/// Commands for another host id have no responders.
async fn other_hosts(cx: &CheckContext) -> Flow {
    let other_id = format!("{}x", cx.host_id());
    for command in ["heartbeat", "workload.status"] {
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
    let commands = nats::command_subject(cx.host_id(), "workload.start");
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
    let subscribed = from_host().any(|frame| {
        frame.kind == FrameKind::Subscribe
            && frame.number < heartbeat.number
            && frame
                .subject
                .as_ref()
                .is_some_and(|pattern| berth_broker::subject_matches(pattern, &commands))
    });
    cx.claim(HOST_WIRE_014).about_subject(&subject).holds(
        "the host subscribes to its commands before its first heartbeat",
        subscribed,
        || "the host publishes the heartbeat first".to_owned(),
    );
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

/// The host accepts requests with headers, such as tracing headers.
async fn headers(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let headers = Headers::none()
        .with(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        .with("X-Unknown", "ünï: code");
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
        let reply = cx.send(command, payload, headers.clone()).await?;
        let description = format!("the host replies to {command} with headers");
        let Some(response) = cx.claim(HOST_WIRE_017).answered(&description, &reply) else {
            continue;
        };
        let description = format!("state after {command} with headers");
        cx.claim(HOST_WIRE_017)
            .one_of(&description, response.state, acceptable);
    }
    Ok(())
}
