//! Encoding and wire: messages that a scheduler must decode, requests that exceed the maximum
//! payload of the broker, and the rate of status requests.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::check::outcome::Flow;
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::manifest::Manifest;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{CommandRule, HostConfig, Reaction, heartbeat};
use crate::spec::requirements::*;

/// Scenarios of the sections `encoding` and `wire`.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "encoding/unknown-fields", run: unknown_fields, covers: [SCHED_ENC_007],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "encoding/proto-names", run: proto_names, covers: [SCHED_ENC_008], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "encoding/integers", run: integers, covers: [SCHED_ENC_009], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "encoding/nulls", run: nulls, covers: [SCHED_ENC_010], isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "encoding/malformed-heartbeats", run: malformed_heartbeats, covers: [SCHED_ENC_011],
        isolation: Own, needs: [Process], budget_s: 60,
    },
    scenario! {
        id: "encoding/incomplete-replies", run: incomplete_replies, covers: [SCHED_ENC_012],
        isolation: Shared, waits: |timings| timings.retry, budget_s: 150,
    },
    scenario! {
        id: "wire/request-too-large", run: request_too_large, covers: [SCHED_WIRE_004],
        isolation: Own, needs: [Process], budget_s: 60,
    },
    scenario! {
        id: "wire/traffic", run: traffic, covers: [SCHED_WIRE_006], isolation: Shared, budget_s: 60,
    },
];

/// Returns the status reply of a running workload, with `fields` in its workload status.
fn status_reply(id: &str, fields: Value) -> Value {
    let mut status =
        json!({ "workloadId": id, "workloadState": "WORKLOAD_STATE_RUNNING", "message": "runs" });
    if let (Some(status), Some(fields)) = (status.as_object_mut(), fields.as_object()) {
        status.extend(fields.clone());
    }
    json!({ "workloadStatus": status })
}

/// Checks that the scheduler tolerates the encoding of a host: an app becomes and stays ready on a
/// host whose heartbeat has `heartbeat_fields` (null removes a field) and whose status replies are
/// `reply`, and another app starts on that host.
async fn check_tolerated(
    cx: &ScenarioContext,
    requirement: Requirement,
    heartbeat_fields: Value,
    reply: impl Fn(&str) -> Value,
) -> Flow {
    let mut config = cx.host_config("a");
    for (name, value) in heartbeat_fields.as_object().into_iter().flatten() {
        config.heartbeat_fields.insert(name.clone(), value.clone());
    }
    let host = cx.start_host(config).await?;
    let app = cx
        .deployment("app", 1)
        .spec("/hostSelector", json!({ "hostgroup": cx.group() }));
    // The status reply contains the id, which is known only after the start. Until then, the start
    // reply is delayed.
    host.add_rule(CommandRule::on(
        "workload.start",
        Reaction::DelayReply(Duration::from_millis(1_500)),
    ));
    cx.submit(&app).await?;
    let started = cx
        .wait_for_start("app", cx.timings().register + cx.timings().act)
        .await;
    let Some((_, start)) = cx.claim(requirement).met(started) else {
        return Ok(());
    };
    let body = bytes::Bytes::from(reply(&start.id).to_string());
    host.add_rule(CommandRule::on("workload.status", Reaction::Reply(body)).containing(&start.id));
    cx.claim(requirement).met(
        cx.wait_for_ready(&app, cx.timings().act + cx.timings().show)
            .await,
    );
    let stays_ready = cx.consistently(
        cx.timings().poll.min(Duration::from_secs(4)),
        "the app stays ready",
        || async {
            match cx.is_ready(&app).await {
                Ok(false) => Err("the app is reported as not ready".to_owned()),
                _ => Ok(()),
            }
        },
    );
    cx.claim(requirement).met(stays_ready.await);
    // The scheduler must still use the host after such replies.
    host.clear_rules();
    cx.submit(&cx.deployment("more", 1)).await?;
    let running = cx.wait_for_running("more", 1, cx.timings().act).await;
    cx.claim(requirement).met(running);
    Ok(())
}

/// Sends heartbeats and status replies with unknown fields at several levels, and checks that the
/// scheduler ignores these fields.
async fn unknown_fields(cx: &ScenarioContext) -> Flow {
    let import = json!({ "namespace": "acme", "package": "queue", "interfaces": ["push"], "futureField": 1 });
    let fields = json!({ "futureField": { "a": [1] }, "imports": [import] });
    check_tolerated(cx, SCHED_ENC_007, fields, |id| {
        let mut reply = status_reply(id, json!({ "futureField": true }));
        if let Some(reply) = reply.as_object_mut() {
            reply.insert("another".to_owned(), json!([{}]));
        }
        reply
    })
    .await
}

/// Sends heartbeats and status replies with proto field names and a numeric state, and checks that
/// the scheduler accepts them.
async fn proto_names(cx: &ScenarioContext) -> Flow {
    let fields = json!({
        "friendlyName": null, "friendly_name": format!("{}-proto", cx.group()),
        "startedAt": null, "started_at": "2026-01-01T00:00:00Z",
        "httpPort": null, "http_port": 8080,
    });
    let interface =
        json!([{ "namespace": "wasi", "package": "http", "interfaces": ["incoming-handler"] }]);
    check_tolerated(cx, SCHED_ENC_008, fields, |id| {
        json!({ "workload_status": { "workload_id": id, "workload_state": 2, "message": "runs" } })
    })
    .await?;
    cx.submit(&cx.deployment("http", 1).spec("/hostInterfaces", interface))
        .await?;
    let running = cx.wait_for_running("http", 1, cx.timings().act).await;
    cx.claim(SCHED_ENC_008).met(running);
    Ok(())
}

/// Two hosts report low memory, one with JSON numbers and one with strings. The scheduler must
/// choose a third host.
async fn integers(cx: &ScenarioContext) -> Flow {
    let loaded = |config: HostConfig, total: Value, free: Value| {
        config
            .heartbeat_field("systemMemoryTotal", total)
            .heartbeat_field("systemMemoryFree", free)
            .heartbeat_field("workloadCount", json!(7))
    };
    let numbers = cx.host_config("numbers");
    let numbers = cx
        .start_host(loaded(numbers, json!(16_000_000_000_u64), json!(1_000_000)))
        .await?;
    let strings = cx
        .host_config("strings")
        .heartbeat_field("httpPort", json!("8080"));
    let strings = cx
        .start_host(loaded(strings, json!("16000000000"), json!("1000000")))
        .await?;
    let http =
        json!([{ "namespace": "wasi", "package": "http", "interfaces": ["incoming-handler"] }]);
    for (app, host) in [("one", &numbers), ("other", &strings)] {
        let manifest = cx.deployment(app, 1).spec("/hostId", json!(host.id()));
        cx.submit(&manifest.spec("/hostInterfaces", http.clone()))
            .await?;
        let within = cx.timings().register + cx.timings().act;
        let running = cx.wait_for_running(app, 1, within).await;
        cx.claim(SCHED_ENC_009).met(running);
    }
    cx.start_host(cx.host_config("free")).await?;
    cx.wait_until_registered().await?;
    let (_, next) = cx.deploy("next", 1, SCHED_SCALE_001).await?;
    let names = crate::scheduler::context::host_names(&next);
    cx.claim(SCHED_ENC_009)
        .is("host of the next workload", names, vec!["free".to_owned()]);
    Ok(())
}

/// Sends a heartbeat and a status reply in which fields are null, and checks that the scheduler
/// treats these fields as unset.
async fn nulls(cx: &ScenarioContext) -> Flow {
    // In a host configuration, null removes a field. This heartbeat must contain null, so it is
    // sent directly.
    let host = cx
        .start_host(cx.host_config("a").label("zone", "a"))
        .await?;
    host.pause_heartbeats();
    let (started_at, workloads) = ("2026-01-01T00:00:00Z", 0);
    let config = cx.host_config("a").label("zone", "b");
    let mut heartbeat = heartbeat(&config, &host.id(), started_at, workloads);
    if let Some(heartbeat) = heartbeat.as_object_mut() {
        for name in [
            "version",
            "osKernel",
            "imports",
            "exports",
            "workloadCount",
            "environment",
            "systemCpuUsage",
            "startedAt",
        ] {
            heartbeat.insert(name.to_owned(), Value::Null);
        }
    }
    host.send_raw_heartbeat(heartbeat.to_string()).await;
    let app = cx
        .deployment("app", 1)
        .spec("/hostSelector/zone", json!("b"));
    cx.submit(&app).await?;
    host.add_rule(CommandRule::on(
        "workload.start",
        Reaction::DelayReply(Duration::from_millis(800)),
    ));
    let started = cx.wait_for_start("app", cx.timings().act).await;
    if let Some((_, start)) = cx.claim(SCHED_ENC_010).met(started) {
        let mut reply = status_reply(&start.id, json!({ "message": null }));
        if let Some(reply) = reply.as_object_mut() {
            reply.insert("error".to_owned(), Value::Null);
        }
        host.add_rule(
            CommandRule::on("workload.status", Reaction::Reply(reply.to_string().into()))
                .containing(&start.id),
        );
        cx.claim(SCHED_ENC_010).met(
            cx.wait_for_ready(&app, cx.timings().act + cx.timings().show)
                .await,
        );
        let stays_ready = cx.consistently(
            cx.timings().poll.min(Duration::from_secs(4)),
            "the app stays ready",
            || async {
                match cx.is_ready(&app).await {
                    Ok(false) => Err("the app is reported as not ready".to_owned()),
                    _ => Ok(()),
                }
            },
        );
        cx.claim(SCHED_ENC_010).met(stays_ready.await);
    }
    Ok(())
}

/// Sends heartbeats that cannot be decoded, and checks that the scheduler keeps running, leaves the
/// running workloads alone and uses a new host.
async fn malformed_heartbeats(cx: &ScenarioContext) -> Flow {
    let [a, _] = cx.start_hosts::<2>().await?;
    cx.submit(&cx.deployment("app", 2)).await?;
    let within = cx.timings().act + cx.timings().reconnect;
    cx.wait_for_running("app", 2, within)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    let from = Instant::now();
    let deep = "[".repeat(100_000);
    for payload in [
        &b""[..],
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe\x00",
        b"{\"id\":7}",
        b"{\"id\":\"a\",\"labels\":3}",
        b"{}",
        deep.as_bytes(),
    ] {
        a.send_raw_heartbeat(payload.to_vec()).await;
    }
    cx.assert_no_commands(SCHED_ENC_011, from, Duration::from_secs(2))
        .await;
    cx.claim(SCHED_ENC_011).holds(
        "the scheduler's process is running",
        !cx.scheduler().has_exited(),
        || "the process has exited",
    );
    cx.start_host(cx.host_config("new").label("zone", "new"))
        .await?;
    cx.submit(
        &cx.deployment("more", 1)
            .spec("/hostSelector/zone", json!("new")),
    )
    .await?;
    let running = cx
        .wait_for_running("more", 1, cx.timings().register + cx.timings().act)
        .await;
    cx.claim(SCHED_ENC_011).met(running);
    Ok(())
}

/// The host replies to the first start of each app with an incomplete message and executes nothing.
/// An app must not become ready before it runs, and must run after a retry.
async fn incomplete_replies(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    let other_id = status_reply("other-id", json!({}));
    let no_state = json!({ "workloadStatus": { "message": "?" } });
    for (number, body) in [
        json!({}),
        json!({ "workloadStatus": null }),
        no_state,
        other_id,
    ]
    .into_iter()
    .enumerate()
    {
        let app = format!("app{number}");
        let reply = Reaction::Reply(body.to_string().into());
        host.add_rule(
            CommandRule::on("workload.start", reply)
                .containing(&cx.image(&app, 1))
                .times(1),
        );
        cx.submit(&cx.deployment(&app, 1)).await?;
    }
    for number in 0..4 {
        let app = format!("app{number}");
        let manifest = cx.deployment(&app, 1);
        cx.wait_for_start(&app, cx.timings().act)
            .await
            .or_blocked(cx, SCHED_SCALE_001)?;
        // The app may start to run during the query, so this is checked before and after it.
        let ready_too_early = cx.running(&app).is_empty()
            && cx.is_ready(&manifest).await == Ok(true)
            && cx.running(&app).is_empty();
        cx.claim(SCHED_ENC_012).holds(
            "the app is not reported as ready before it runs",
            !ready_too_early,
            || "the app is reported as ready",
        );
    }
    for number in 0..4 {
        let running = cx
            .wait_for_running(
                &format!("app{number}"),
                1,
                cx.timings().act + cx.timings().retry,
            )
            .await;
        cx.claim(SCHED_ENC_012).met(running);
    }
    Ok(())
}

/// Submits an app whose start exceeds the maximum payload of the broker, and checks that the status
/// says so and that another app starts.
async fn request_too_large(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    // Larger than the default maximum payload of a broker (1 MiB), and smaller than the maximum
    // size of an object in an API server.
    let large: serde_json::Map<String, Value> = (0..18)
        .map(|number| (format!("K{number}"), json!("x".repeat(64 * 1024))))
        .collect();
    let app: Manifest = cx.deployment("app", 1).spec(
        "/components/0/localResources/environment/config",
        Value::Object(large),
    );
    cx.submit(&app).await?;
    let reported = cx.eventually(
        cx.timings().act + cx.timings().show + cx.timings().reconnect,
        "the status says that the request is too large",
        || async {
            let status = cx.status_text(&app).await.to_lowercase();
            let words = ["large", "payload", "too big", "size", "exceed", "maximum"];
            if words.iter().any(|word| status.contains(word)) {
                Ok(())
            } else {
                Err(crate::wire::response::shortened(&status, 300))
            }
        },
    );
    cx.claim(SCHED_WIRE_004).met(reported.await);
    cx.claim(SCHED_WIRE_004).holds(
        "the app is not reported as ready",
        cx.is_ready(&app).await != Ok(true),
        || "the app is reported as ready",
    );
    cx.submit(&cx.deployment("more", 1)).await?;
    let running = cx.wait_for_running("more", 1, cx.timings().act).await;
    cx.claim(SCHED_WIRE_004).met(running);
    Ok(())
}

/// Makes the scheduler send normal traffic, so that the monitors judge every kind of message, and
/// checks the rate of status requests for an id.
async fn traffic(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let service = json!({ "image": cx.image("service", 1), "maxRestarts": 3 });
    cx.submit(&cx.deployment("app", 2).spec("/service", service))
        .await?;
    cx.require_running("app", 2, SCHED_SCALE_001).await?;
    cx.wait(Duration::from_secs(4)).await;
    let requests = cx.journal().commands("workload.status");
    let counts_per_second = requests.iter().map(|(first, request)| {
        let end = first.at + Duration::from_secs(1);
        requests
            .iter()
            .filter(|(entry, other)| {
                other.id == request.id
                    && entry.host_id == first.host_id
                    && entry.at >= first.at
                    && entry.at < end
            })
            .count()
    });
    let max_count = counts_per_second.max().unwrap_or_default();
    cx.claim(SCHED_WIRE_006).holds(
        "at most 5 status requests for an id per second",
        max_count <= 5,
        || format!("{max_count} within one second"),
    );
    Ok(())
}
