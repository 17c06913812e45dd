//! Encodings that a scheduler must accept: every heartbeat and every reply of a host has one of
//! them.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::vectors;
use crate::check::outcome::Flow;
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::manifest::Manifest;
use crate::scheduler::simulated_host::{CommandRule, Reaction, SimulatedHost, heartbeat};
use crate::spec::requirements::*;
use crate::wire::response::State;

/// Sends heartbeats and replies with unknown fields at several levels, and checks that the
/// scheduler ignores these fields.
pub(super) async fn unknown_fields(cx: &ScenarioContext) -> Flow {
    check_tolerated(cx, SCHED_ENC_007, &["HOST-JSON-009"]).await
}

/// Sends heartbeats and replies with proto field names and numeric states, and checks that the
/// scheduler accepts them.
pub(super) async fn proto_names(cx: &ScenarioContext) -> Flow {
    check_tolerated(cx, SCHED_ENC_008, &["HOST-JSON-010", "HOST-JSON-011"]).await?;
    let fields = json!({ "friendlyName": null, "friendly_name": format!("{}-proto", cx.group()),
        "startedAt": null, "started_at": "2026-01-01T00:00:00Z", "httpPort": null, "http_port": 8080 });
    let mut config = cx.host_config("http").label("zone", "http");
    config.heartbeat_fields = fields.as_object().cloned().unwrap_or_default();
    cx.start_host(config).await?;
    let interface =
        json!([{ "namespace": "wasi", "package": "http", "interfaces": ["incoming-handler"] }]);
    let http = cx.deployment("http", 1);
    let http = http.spec("/hostSelector/zone", json!("http"));
    cx.submit(&http.spec("/hostInterfaces", interface)).await?;
    let running = cx.wait_for_running("http", 1, cx.timings().act).await;
    cx.claim(SCHED_ENC_008).met(running);
    Ok(())
}

/// Sends heartbeats with numbers as strings and strings as numbers, and checks that the scheduler
/// accepts them.
pub(super) async fn number_formats(cx: &ScenarioContext) -> Flow {
    check_tolerated(cx, SCHED_ENC_009, &["HOST-JSON-012"]).await
}

/// Sends heartbeats and replies in which fields are null, and checks that the scheduler treats
/// these fields as unset.
pub(super) async fn nulls(cx: &ScenarioContext) -> Flow {
    check_tolerated(cx, SCHED_ENC_010, &["HOST-JSON-013"]).await
}

/// A host with one encoding of its heartbeats and one of its replies, and the app that names it.
struct Case {
    description: String,
    replies_encoded: bool,
    app: String,
    host: SimulatedHost,
    manifest: Manifest,
}

/// Checks that the scheduler accepts all encodings of the golden vectors that one of these rules
/// requires a reader to accept: on each host, an app becomes ready, stays ready under its id, and
/// is stopped once.
async fn check_tolerated(cx: &ScenarioContext, requirement: Requirement, rules: &[&str]) -> Flow {
    let cases = start_cases(cx, rules).await?;
    for case in &cases {
        cx.submit(&case.manifest).await?;
    }
    for case in &cases {
        let runs = format!("{}: a workload runs on the host", case.description);
        let within = cx.timings().act + cx.remaining_registration();
        let running = cx.eventually(within, &runs, || {
            let count = case.host.running_ids().len();
            std::future::ready((count == 1).then_some(()).ok_or(format!("{count} run")))
        });
        cx.claim(requirement).met(running.await);
        let ready = cx.wait_for_ready(&case.manifest, cx.timings().act + cx.timings().show);
        cx.claim(requirement).met(ready.await);
    }
    // All status replies of this time have the encoding as well.
    let (from, window) = (
        Instant::now(),
        cx.timings().poll.min(Duration::from_secs(4)),
    );
    cx.assert_no_commands(requirement, from, window).await;
    for case in &cases {
        let is_ready = cx.is_ready(&case.manifest).await;
        let condition = format!("{}: the app stays ready", case.description);
        cx.claim(requirement)
            .holds(&condition, is_ready != Ok(false), || "it is not ready");
    }
    check_stops(cx, requirement, &cases).await
}

/// Deletes the apps, and checks that each is stopped, and only once.
async fn check_stops(cx: &ScenarioContext, requirement: Requirement, cases: &[Case]) -> Flow {
    let ids: Vec<Option<String>> = cases
        .iter()
        .map(|case| case.host.running_ids().into_iter().next())
        .collect();
    for case in cases {
        cx.delete(&case.manifest).await?;
    }
    for case in cases {
        let stopped = cx.wait_for_running(&case.app, 0, cx.timings().act).await;
        cx.claim(requirement).met(stopped);
    }
    // Each reply in another encoding contains NOT_FOUND, so SCHED-STOP-005 forbids further stops.
    let window = cx.timings().resend.min(Duration::from_secs(6));
    let repeated = cx.never(window, "a second stop after NOT_FOUND", || {
        let stops = cx.journal().stops();
        let mut encoded = (cases.iter().zip(&ids)).filter(|(case, _)| case.replies_encoded);
        encoded.find_map(|(case, id)| {
            let stops = stops
                .iter()
                .filter(|(_, stop)| Some(&stop.id) == id.as_ref());
            let count = stops.count();
            (count > 1).then(|| format!("{}: {count} stops", case.description))
        })
    });
    cx.claim(requirement).met(repeated.await);
    Ok(())
}

async fn start_cases(
    cx: &ScenarioContext,
    rules: &[&str],
) -> Result<Vec<Case>, crate::check::outcome::Blocked> {
    let heartbeats =
        |id: &str, app: &str| vectors::heartbeats(&usable_heartbeat(cx, id, app), rules);
    let replies = vectors::replies(rules);
    let count = heartbeats("", "").len().max(replies.len());
    let mut cases = Vec::with_capacity(count);
    for number in 0..count {
        let app = format!("app{number}");
        let mut config = cx.host_config(&app);
        let id = format!("{}-host-{number}", cx.group());
        config.id = Some(id.clone());
        let mut description = Vec::new();
        let mut selector = json!({ "hostgroup": cx.group() });
        if let Some(encoding) = cycle(heartbeats(&id, &app), number) {
            if encoding.message.get("labels").is_none_or(Value::is_null) {
                selector = json!({});
            }
            config.fixed_heartbeat = Some(encoding.message);
            description.push(format!("heartbeats with {}", encoding.why));
        }
        let host = cx.start_host(config).await?;
        let replies = cycle(replies.clone(), number);
        let replies_encoded = replies.is_some();
        if let Some(replies) = replies {
            let stop = replies.stop.with_state(State::NotFound);
            for (command, template) in [
                ("workload.start", replies.start),
                ("workload.status", replies.status),
                ("workload.stop", stop),
            ] {
                host.add_rule(CommandRule::on(command, Reaction::Encode(template)));
            }
            description.push(format!("replies with {}", replies.why));
        }
        let manifest = cx.deployment(&app, 1).spec("/hostId", json!(id));
        cases.push(Case {
            description: description.join("; "),
            replies_encoded,
            app,
            host,
            manifest: manifest.spec("/hostSelector", selector),
        });
    }
    Ok(cases)
}

fn cycle<T>(encodings: Vec<T>, number: usize) -> Option<T> {
    let count = encodings.len().max(1);
    encodings.into_iter().nth(number % count)
}

/// Returns the usual heartbeat of a host.
fn usable_heartbeat(cx: &ScenarioContext, id: &str, name: &str) -> Map<String, Value> {
    let (started_at, workloads) = ("2026-01-01T00:00:00Z", 0);
    let heartbeat = heartbeat(&cx.host_config(name), id, started_at, workloads);
    heartbeat.as_object().cloned().unwrap_or_default()
}
