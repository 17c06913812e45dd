//! Transport: subjects, replies, ids, and what a host does with anything that arrives.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::testbed::tap::{Direction, Frame, Kind};
use crate::wire::nats;
use crate::wire::response::{ERROR_HEADER, Headers, State};

/// The section.
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
        id: "wire/without-reply", run: without_reply, covers: [HOST_WIRE_003], host: Shared,
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
        id: "wire/anything", run: anything, covers: [HOST_WIRE_011], host: Own, roles: [],
        budget_s: 150, slow: false,
    },
    check! {
        id: "wire/other-hosts", run: other_hosts, covers: [HOST_WIRE_013], host: Own,
        roles: [], budget_s: 60, slow: false,
    },
    check! {
        id: "wire/hello", run: hello, covers: [HOST_WIRE_014, HOST_BEAT_002], host: Own,
        roles: [], needs: [Tap], budget_s: 60, slow: false,
    },
    check! {
        id: "wire/in-time", run: in_time, covers: [HOST_WIRE_016], host: Shared, roles: [],
        budget_s: 60, slow: false,
    },
    check! {
        id: "wire/headers", run: headers, covers: [HOST_WIRE_017], host: Shared, roles: [],
        budget_s: 90, slow: false,
    },
];

/// Each of the four commands does what its name says.
async fn commands(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let start = cx.workload().start_request(&id).to_string();
    let named = json!({ "workloadId": id }).to_string();
    let steps: [(&str, String, &[State]); 3] = [
        ("workload.start", start, &[State::Running, State::Starting]),
        (
            "workload.status",
            named.clone(),
            &[State::Running, State::Starting],
        ),
        ("workload.stop", named, &[State::Stopping, State::NotFound]),
    ];
    for (command, payload, acceptable) in steps {
        let reply = cx.send(command, payload, Headers::none()).await?;
        let what = format!("{command} is answered");
        let Some(answer) = cx.claim(HOST_WIRE_001).answered(&what, &reply) else {
            continue;
        };
        cx.claim(HOST_WIRE_001)
            .one_of(&format!("state after {command}"), answer.state, acceptable);
    }
    let reply = cx.send("heartbeat", "{}", Headers::none()).await?;
    if let Some(answer) = cx
        .claim(HOST_WIRE_001)
        .answered("heartbeat is answered", &reply)
    {
        let id = answer
            .json
            .as_ref()
            .and_then(|json| json.get("id"))
            .and_then(Value::as_str);
        cx.claim(HOST_WIRE_001)
            .is("`id` in the answer to heartbeat", id, Some(cx.host_id()));
    }
    Ok(())
}

/// How long the suite listens for a second reply.
const SECOND_REPLY: Duration = Duration::from_millis(1500);

/// Requests of every kind, good and bad, get one reply each.
async fn one_reply(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let named = json!({ "workloadId": id }).to_string();
    let kinds = [
        (
            "workload.start",
            cx.workload().start_request(&id).to_string(),
        ),
        ("workload.status", named.clone()),
        ("workload.stop", named),
        ("heartbeat", String::new()),
        ("workload.start", "{".to_owned()),
        ("workload.restart", "{}".to_owned()),
    ];
    let count = kinds.into_iter().map(|(command, payload)| async move {
        let mut replies = cx.request(command, payload, Headers::none()).await?;
        let mut count = 0;
        let mut within = deadlines::ANSWER.limit + cx.fixture().patience();
        while let Some(delivery) = replies.next(within).await {
            count += usize::from(delivery.status.is_none());
            within = SECOND_REPLY;
        }
        Ok::<_, Blocked>((command, count))
    });
    for (command, count) in try_join_all(count).await? {
        cx.claim(HOST_WIRE_002)
            .is(&format!("replies to one {command}"), count, 1);
    }
    Ok(())
}

/// Payloads that are no message at all.
fn unreadable() -> Vec<(&'static str, Bytes)> {
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
            "something behind the object",
            Bytes::from_static(br#"{"workloadId":"a"} {}"#),
        ),
    ]
}

/// Each gets ERROR with code 400, words, and a header that says the same in one line.
async fn malformed(cx: &CheckContext) -> Flow {
    let commands = ["workload.start", "workload.stop", "workload.status"];
    let requests = commands.into_iter().flat_map(|command| {
        unreadable()
            .into_iter()
            .map(move |(flaw, payload)| async move {
                let reply = cx.send(command, payload, Headers::none()).await?;
                Ok::<_, Blocked>((format!("{command} with {flaw}"), reply))
            })
    });
    for (what, reply) in try_join_all(requests).await? {
        let claim = cx.claim(HOST_WIRE_004);
        let Some(answer) = claim.answered(&format!("{what} is answered"), &reply) else {
            continue;
        };
        let right = answer.state == State::Error
            && answer.error_code == Some(400)
            && !answer.message.trim().is_empty();
        let refused = format!("{what} is refused: ERROR, a message, code 400");
        cx.claim(HOST_WIRE_004)
            .about(&answer)
            .holds(&refused, right, || answer.to_string());
        if right {
            let text = answer.headers.get(ERROR_HEADER);
            let line = text.is_some_and(|text| !text.trim().is_empty());
            let carries = format!("the refusal of {what} carries Nats-Service-Error");
            cx.claim(HOST_WIRE_018)
                .about(&answer)
                .holds(&carries, line, || format!("{:?}", answer.headers.0));
        }
    }
    // A host that answers none of them has failed above, and has no header to judge.
    cx.claim(HOST_WIRE_018)
        .holds("refusals carry Nats-Service-Error", true, String::new);
    Ok(())
}

/// A start and a stop without a reply subject take effect all the same.
async fn without_reply(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let start = cx.workload().start_request(&id).to_string();
    cx.publish_no_reply("workload.start", start).await?;
    cx.claim(HOST_WIRE_003)
        .met(cx.running(&id, deadlines::LOOK).await);

    cx.publish_no_reply("workload.stop", json!({ "workloadId": id }).to_string())
        .await?;
    cx.claim(HOST_WIRE_003).met(cx.gone(&id).await);
    Ok(())
}

/// An unknown command is refused in the ordinary envelope, and touches nothing.
async fn unknown_command(cx: &CheckContext) -> Flow {
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

/// A heartbeat is a heartbeat, whatever the request holds.
async fn heartbeat_payloads(cx: &CheckContext) -> Flow {
    let mut payloads = unreadable();
    payloads.push((
        "an object with strange fields",
        Bytes::from_static(br#"{"whatever":[1]}"#),
    ));
    for (name, payload) in payloads {
        let reply = cx.send("heartbeat", payload, Headers::none()).await?;
        let what = format!("heartbeat with {name} is answered");
        let Some(answer) = cx.claim(HOST_WIRE_006).answered(&what, &reply) else {
            continue;
        };
        let id = answer
            .json
            .as_ref()
            .and_then(|json| json.get("id"))
            .and_then(Value::as_str);
        let what = format!("`id` in the answer to heartbeat with {name}");
        cx.claim(HOST_WIRE_006).is(&what, id, Some(cx.host_id()));
    }
    Ok(())
}

/// Ids of all kinds live and are echoed as they are.
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
            "workloadId in the answer to start",
            &start.id,
            &id,
        );
        let accepted = matches!(start.state, State::Running | State::Starting);
        let what = format!("an id of {} bytes with {name:?} is accepted", id.len());
        cx.claim(HOST_WIRE_007)
            .about(&start)
            .holds(&what, accepted, || start.to_string());
        let status = cx.status(&id).await?;
        cx.claim(HOST_WIRE_007).about(&status).is(
            "workloadId in the answer to status",
            &status.id,
            &id,
        );
        let stop = cx.stop(&id).await?;
        cx.claim(HOST_WIRE_007)
            .about(&stop)
            .is("workloadId in the answer to stop", &stop.id, &id);
    }
    Ok(())
}

/// An id of 257 bytes and more is kept whole, or refused and left out.
async fn long_ids(cx: &CheckContext) -> Flow {
    for bytes in [257, 1000, 20_000] {
        let mut id = cx.id(&format!("{bytes}-"));
        id.extend(std::iter::repeat_n('x', bytes - id.len()));
        cx.remember(&id);
        let payload = cx.workload().start_request(&id).to_string();
        let reply = cx.send("workload.start", payload, Headers::none()).await?;
        let what = format!("a start with an id of {bytes} bytes is answered");
        let Some(answer) = cx.claim(HOST_WIRE_009).answered(&what, &reply) else {
            continue;
        };
        let refused =
            answer.state == State::Error && answer.error_code == Some(413) && answer.id.is_empty();
        let kept = answer.state != State::Error && answer.id == id;
        let what = format!(
            "an id of {bytes} bytes is refused (ERROR, 413, no workloadId) or echoed whole"
        );
        cx.claim(HOST_WIRE_009).holds(&what, refused || kept, || {
            format!("{answer}, workloadId of {} bytes", answer.id.len())
        });
    }
    Ok(())
}

/// A status whose natural answer would be larger than the broker takes.
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
        let what = format!("{command} with an id of 600 KiB is answered, in a reply that fits");
        let Some(answer) = cx.claim(HOST_WIRE_010).answered(&what, &reply) else {
            continue;
        };
        let whole = answer.id.is_empty() || answer.id == id;
        cx.claim(HOST_WIRE_010)
            .holds("the id is left out or whole", whole, || {
                format!("workloadId of {} bytes", answer.id.len())
            });
    }
    Ok(())
}

/// Noise, nesting, size, repetition; after each the host answers as before.
async fn anything(cx: &CheckContext) -> Flow {
    let max = cx
        .fixture()
        .bus
        .max_payload_bytes()
        .saturating_sub(1024)
        .min(1 << 20);
    let noise: Vec<u8> = (0..max)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 7) as u8)
        .collect();
    let open = |bracket: &str| Bytes::from(bracket.repeat(max * 9 / 10 / bracket.len()));
    let mut payloads = unreadable();
    payloads.extend([
        ("a megabyte of noise", Bytes::from(noise)),
        ("a megabyte of open brackets", open("[")),
        ("a megabyte of open objects", open(r#"{"workload":"#)),
        (
            "nesting in a field to ignore",
            Bytes::from(format!(
                r#"{{"workloadId":"n","x":{}}}"#,
                "[".repeat(100_000)
            )),
        ),
        (
            "a key that stands twice",
            Bytes::from_static(br#"{"workloadId":"a","workloadId":"b"}"#),
        ),
        (
            "a number without end",
            Bytes::from(format!(r#"{{"workloadId":{}}}"#, "9".repeat(100_000))),
        ),
        (
            "a lone surrogate",
            Bytes::from_static(br#"{"workloadId":"\ud800"}"#),
        ),
    ]);
    let probe = cx.id("never-started");
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
        let status = json!({ "workloadId": probe }).to_string();
        let reply = cx.send("workload.status", status, Headers::none()).await?;
        let what = format!("status is answered within 5 s after {name}");
        let Some(answer) = cx.claim(HOST_WIRE_011).answered(&what, &reply) else {
            return Ok(());
        };
        cx.claim(HOST_WIRE_011).is(
            &format!("state after {name}"),
            answer.state,
            State::NotFound,
        );
    }
    Ok(())
}

/// A host id that was never there: the broker must find nobody.
async fn other_hosts(cx: &CheckContext) -> Flow {
    let nobody = format!("{}x", cx.host_id());
    for command in ["heartbeat", "workload.status"] {
        let subject = nats::command_subject(&nobody, command);
        let payload = json!({ "workloadId": cx.id("a") }).to_string();
        let mut replies = cx.request_on(&subject, payload, Headers::none()).await?;
        let reply = replies.next(deadlines::ANSWER.limit).await;
        let status = reply.as_ref().map(|delivery| delivery.status);
        let what = format!("who hears {command} for another host id (503: nobody)");
        cx.claim(HOST_WIRE_013).is(&what, status, Some(Some(503)));
    }
    Ok(())
}

/// From the connection to the first heartbeat: subscribed before it, and within 5 s.
async fn hello(cx: &CheckContext) -> Flow {
    let tap = cx.tap()?;
    let subject = nats::heartbeat_subject(cx.host_id());
    let commands = nats::command_subject(cx.host_id(), "workload.start");
    let is_beat = |frame: &Frame| {
        frame.way == Direction::FromTarget && frame.kind == Kind::Publish && frame.is_on(&subject)
    };
    let first = cx.eventually(deadlines::HEARTBEAT_GAP, "a first heartbeat", || async {
        let frames = tap.frames();
        let beat = frames.iter().find(|frame| is_beat(frame));
        beat.cloned().ok_or_else(|| "none on the wire".to_owned())
    });
    let beat = first.await.or_blocked(cx, HOST_BEAT_001)?;
    let frames = tap.frames();
    let from_host = || {
        frames
            .iter()
            .filter(|frame| frame.way == Direction::FromTarget)
    };
    let subscribed = from_host().any(|frame| {
        frame.kind == Kind::Subscribe
            && frame.number < beat.number
            && frame
                .subject
                .as_ref()
                .is_some_and(|own| berth_broker::subject_matches(own, &commands))
    });
    cx.claim(HOST_WIRE_014).about_subject(&subject).holds(
        "the command subscription goes out before the first heartbeat",
        subscribed,
        || "the heartbeat goes out first".to_owned(),
    );
    let connected = from_host().find(|frame| frame.kind == Kind::Connect);
    let after = connected
        .map(|frame| beat.at.saturating_duration_since(frame.at))
        .unwrap_or_default();
    let soon = after <= deadlines::FIRST_HEARTBEAT.limit + cx.fixture().patience();
    let what = "the first heartbeat within 5 s of connecting";
    cx.claim(HOST_BEAT_002)
        .about_subject(&subject)
        .holds(what, soon, || format!("after {after:?}"));
    Ok(())
}

async fn in_time(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    cx.start(&id, &cx.workload()).await?;
    let named = json!({ "workloadId": id }).to_string();
    let unknown = json!({ "workloadId": cx.id("never-started") }).to_string();
    for (command, payload) in [
        ("workload.status", named),
        ("workload.status", unknown),
        ("heartbeat", "{}".to_owned()),
    ] {
        let reply = cx.send(command, payload, Headers::none()).await?;
        cx.claim(HOST_WIRE_016)
            .answered(&format!("{command} is answered within 5 s"), &reply);
    }
    Ok(())
}

/// Headers that tracing and clients add.
async fn headers(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let headers = Headers::none()
        .with(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        .with("X-Unheard-Of", "ünï: code");
    let start = cx.workload().start_request(&id).to_string();
    let named = json!({ "workloadId": id }).to_string();
    let steps: [(&str, String, &[State]); 3] = [
        ("workload.start", start, &[State::Running, State::Starting]),
        (
            "workload.status",
            named.clone(),
            &[State::Running, State::Starting],
        ),
        ("workload.stop", named, &[State::Stopping, State::NotFound]),
    ];
    for (command, payload, acceptable) in steps {
        let reply = cx.send(command, payload, headers.clone()).await?;
        let what = format!("{command} with headers is answered");
        let Some(answer) = cx.claim(HOST_WIRE_017).answered(&what, &reply) else {
            continue;
        };
        let what = format!("state after {command} with headers");
        cx.claim(HOST_WIRE_017)
            .one_of(&what, answer.state, acceptable);
    }
    Ok(())
}
