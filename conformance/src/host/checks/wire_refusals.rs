//! Transport checks of refusals: malformed payloads and unknown commands.

use bytes::Bytes;
use futures_util::future::try_join_all;
use serde_json::json;

use super::sweep::{Request, sweep};
use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::requirements::*;
use crate::wire::response::{ERROR_HEADER, Headers, Reply, Response, State};

/// Checks of the section `wire` about refusals.
pub const CHECKS: &[Check] = &[
    check! {
        id: "wire/malformed", run: malformed, covers: [HOST_WIRE_004, HOST_WIRE_018],
        host: Shared, roles: [], budget_s: 150, slow: false,
    },
    check! {
        id: "wire/unknown-command", run: unknown_command, covers: [HOST_WIRE_005],
        host: Shared, roles: [], budget_s: 90, slow: false,
    },
    check! {
        id: "wire/arbitrary-payloads", run: arbitrary_payloads, covers: [HOST_WIRE_011], host: Own,
        roles: [], budget_s: 150, slow: false,
    },
    check! {
        id: "wire/header-injection", run: header_injection, covers: [HOST_WIRE_018],
        host: Shared, roles: [], budget_s: 60, slow: false,
    },
];

const COMMANDS: [&str; 3] = ["workload.start", "workload.stop", "workload.status"];

/// Returns payloads that are not a message of any kind.
pub(super) fn malformed_payloads() -> Vec<(&'static str, Bytes)> {
    let text = |text: &'static str| Bytes::from_static(text.as_bytes());
    let utf16: Vec<u8> =
        r#"{"workloadId":"a"}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let with_mark = [b"\xff\xfe".as_slice(), &utf16].concat();
    let long_number = format!(r#"{{"workloadId":{}}}"#, "9".repeat(5000));
    vec![
        ("an empty payload", Bytes::new()),
        (
            "truncated JSON",
            text(r#"{"workloadId":"a","workload":{"na"#),
        ),
        ("a list", text("[]")),
        ("a number", text("7")),
        ("text", text(r#""workload""#)),
        ("null", text("null")),
        (
            "bytes that are not UTF-8",
            Bytes::from_static(b"{\"workloadId\":\"\xff\xfe\"}"),
        ),
        (
            "a truncated character of UTF-8",
            Bytes::from_static(b"{\"workloadId\":\"a\xc3\"}"),
        ),
        (
            "trailing data after the object",
            text(r#"{"workloadId":"a"} {}"#),
        ),
        ("a second closing brace", text(r#"{"workloadId":"a"}}"#)),
        ("a NUL after the object", text("{\"workloadId\":\"a\"}\0")),
        (
            "NaN in an unknown field",
            text(r#"{"workloadId":"a","x":NaN}"#),
        ),
        (
            "Infinity in an unknown field",
            text(r#"{"workloadId":"a","x":-Infinity}"#),
        ),
        ("UTF-16 without a byte order mark", utf16.into()),
        ("UTF-16 with a byte order mark", with_mark.into()),
        (
            "an unpaired surrogate in the id",
            text(r#"{"workloadId":"\ud800"}"#),
        ),
        ("a number of 5000 digits as the id", long_number.into()),
    ]
}

/// Malformed payloads are refused with ERROR, code 400, a message and the header
/// `Nats-Service-Error`.
async fn malformed(cx: &CheckContext) -> Flow {
    let requests = COMMANDS.into_iter().flat_map(|command| {
        let requests = malformed_payloads().into_iter();
        requests.map(move |(flaw, payload)| Request {
            case: format!("{command} with {flaw}"),
            command,
            payload,
            starts: None,
        })
    });
    sweep(cx, requests.collect(), |case, reply| {
        judge_malformed(cx, case, reply);
    })
    .await?;
    // If the host refused no payload, the claims above do not hold, and there is no header to
    // judge.
    cx.claim(HOST_WIRE_018).holds(
        "refusals have the header Nats-Service-Error",
        true,
        String::new,
    );
    Ok(())
}

fn judge_malformed(cx: &CheckContext, request: &str, reply: &Reply) {
    let claim = cx.claim(HOST_WIRE_004);
    let Some(response) = claim.answered(&format!("the host replies to {request}"), reply) else {
        return;
    };
    let refused = response.state == State::Error
        && response.error_code == Some(400)
        && !response.message.trim().is_empty();
    let description = format!("{request} is refused with ERROR, code 400 and a message");
    cx.claim(HOST_WIRE_004)
        .about(&response)
        .holds(&description, refused, || response.to_string());
    if refused {
        let description = format!("the refusal of {request} has the header Nats-Service-Error");
        claim_one_line(cx, &description, &response);
    }
}

/// Records the claim that a refusal has one line of text in the header `Nats-Service-Error`.
fn claim_one_line(cx: &CheckContext, description: &str, response: &Response) {
    let text = response.headers.get(ERROR_HEADER).unwrap_or_default();
    let is_one_line = !text.trim().is_empty() && !text.contains(['\r', '\n']);
    cx.claim(HOST_WIRE_018)
        .about(response)
        .holds(description, is_one_line, || {
            format!("{:?}", response.headers.0)
        });
}

/// Commands that the specification does not define.
const UNKNOWN_COMMANDS: &[&str] = &[
    "workload.restart",
    "workload",
    "workload.start.extra",
    "workload.status.all",
    "workload.stop.v2",
    "unknown-command",
    "start",
    "stop",
    "status",
    "v2.start",
    "v2.stop",
    "v2.workload.stop",
    "v2.heartbeat",
    "WORKLOAD.START",
    "WORKLOAD.STOP",
    "Workload.Status",
    "workload.Stop",
    "Heartbeat",
    "heartbeat.now",
    "heartbeat.v2.full",
    "workload.heartbeat",
    "workload-stop",
    "workload.stops",
];

/// Unknown commands are refused with ERROR and code 404, whatever their payload, and change
/// nothing.
async fn unknown_command(cx: &CheckContext) -> Flow {
    let running = cx.id("running");
    cx.start_and_wait(&running, &cx.workload()).await?;
    let mut unused = Vec::new();
    let mut requests = Vec::new();
    for (number, command) in UNKNOWN_COMMANDS.iter().copied().enumerate() {
        let id = cx.id(&format!("unused-{number}"));
        let payloads = [
            json!({ "workloadId": running }).to_string(),
            cx.workload().start_request(&id).to_string(),
            String::new(),
            "[".to_owned(),
        ];
        requests.extend(payloads.into_iter().map(|payload| Request {
            case: command,
            command,
            payload: payload.into(),
            starts: None,
        }));
        unused.push(id);
    }
    sweep(cx, requests, |command, reply| {
        let description = format!("the host replies to `{command}`");
        let Some(response) = cx.claim(HOST_WIRE_005).answered(&description, reply) else {
            return;
        };
        let is_refused = response.state == State::Error && response.error_code == Some(404);
        let description = format!("`{command}` is refused with ERROR and code 404");
        cx.claim(HOST_WIRE_005)
            .about(&response)
            .holds(&description, is_refused, || response.to_string());
    })
    .await?;
    let running = cx.status(&running).await?;
    cx.claim(HOST_WIRE_005).about(&running).is(
        "state of the workload after unknown commands",
        running.state,
        State::Running,
    );
    for status in try_join_all(unused.iter().map(|id| cx.status(id))).await? {
        cx.claim(HOST_WIRE_005).about(&status).is(
            "state of an id that occurred only in an unknown command",
            status.state,
            State::NotFound,
        );
    }
    Ok(())
}

/// Number of refusals after which a host that keeps a resource for each of them has none left.
const MANY_REFUSALS: usize = 300;

/// After any payload on any command (noise, deep nesting, duplicate keys, hundreds of refusals),
/// the host still replies to status.
async fn arbitrary_payloads(cx: &CheckContext) -> Flow {
    let probe_id = cx.id("never-started");
    for (name, payload) in arbitrary(cx) {
        for command in [
            "workload.start",
            "workload.status",
            "workload.stop",
            "heartbeat",
            "nonsense",
        ] {
            cx.publish_no_reply(command, payload.clone()).await?;
        }
        if !claim_replies(cx, &probe_id, name).await? {
            return Ok(());
        }
    }
    let requests = (0..MANY_REFUSALS).map(|number| Request {
        case: (),
        command: if number % 2 == 0 {
            "workload.start"
        } else {
            "workload.stop"
        },
        payload: Bytes::from_static(b"{"),
        starts: None,
    });
    sweep(cx, requests.collect(), |(), reply| {
        let description = "the host replies to each of many malformed requests";
        cx.claim(HOST_WIRE_011).answered(description, reply);
    })
    .await?;
    claim_replies(cx, &probe_id, "many refusals").await?;
    Ok(())
}

/// Records the claim that the host replies to a status. Returns whether it does.
async fn claim_replies(cx: &CheckContext, id: &str, cause: &str) -> Result<bool, Blocked> {
    let status = json!({ "workloadId": id }).to_string();
    let reply = cx.send("workload.status", status, Headers::none()).await?;
    let description = format!("the host replies to status within 5 s after {cause}");
    let Some(response) = cx.claim(HOST_WIRE_011).answered(&description, &reply) else {
        return Ok(false);
    };
    cx.claim(HOST_WIRE_011).is(
        &format!("state after {cause}"),
        response.state,
        State::NotFound,
    );
    Ok(true)
}

/// Returns payloads of every kind.
fn arbitrary(cx: &CheckContext) -> Vec<(&'static str, Bytes)> {
    let max = cx.fixture().bus.max_payload_bytes();
    let max = max.saturating_sub(1024).min(1 << 20);
    let noise: Vec<u8> = (0..max)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 7) as u8)
        .collect();
    let opening = |bracket: &str| Bytes::from(bracket.repeat(max * 9 / 10 / bracket.len()));
    let nested = format!(r#"{{"workloadId":"n","x":{}}}"#, "[".repeat(100_000));
    let long_number = format!(r#"{{"workloadId":{}}}"#, "9".repeat(100_000));
    let mut payloads = malformed_payloads();
    payloads.extend([
        ("a megabyte of noise", Bytes::from(noise)),
        ("a megabyte of opening brackets", opening("[")),
        ("a megabyte of nested objects", opening(r#"{"workload":"#)),
        ("deep nesting in an unknown field", nested.into()),
        (
            "a duplicate key",
            Bytes::from_static(br#"{"workloadId":"a","workloadId":"b"}"#),
        ),
        ("a number of 100,000 digits", long_number.into()),
    ]);
    payloads
}

/// A refusal that quotes an id with a line break adds no header.
async fn header_injection(cx: &CheckContext) -> Flow {
    // The NATS client of the suite cannot receive a header with a bare carriage return.
    for line_break in ["\n", "\r\n"] {
        let id = cx.id(&format!("a{line_break}X-Injected: yes"));
        cx.start_and_wait(&id, &cx.workload()).await?;
        let refusal = cx.start(&id, &cx.workload()).await?;
        let description = "the refusal of a taken id with a line break has one line of text";
        claim_one_line(cx, description, &refusal);
        let injected = refusal.headers.get("X-Injected");
        let description = "an id with a line break adds no header to the reply";
        cx.claim(HOST_WIRE_018)
            .about(&refusal)
            .is(description, injected, None);
    }
    Ok(())
}
