//! Wire: the subjects and the rate of requests, and requests that exceed the maximum payload of the
//! broker.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::manifest::Manifest;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{CommandRule, Reaction, ReplyTemplate};
use crate::spec::requirements::*;

/// Scenarios of the section `wire`.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "wire/request-too-large", run: request_too_large, covers: [SCHED_WIRE_004],
        isolation: Own, needs: [Process], budget_s: 90,
    },
    scenario! {
        id: "wire/traffic", run: traffic, covers: [SCHED_WIRE_001, SCHED_WIRE_006],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "wire/stops", run: stops, covers: [SCHED_WIRE_001, SCHED_WIRE_006],
        isolation: Shared, waits: |timings| timings.resend, budget_s: 90,
    },
    scenario! {
        id: "wire/returning-host", run: returning_host, covers: [SCHED_WIRE_003],
        isolation: Shared, budget_s: 90,
    },
];

/// Submits apps whose starts exceed the maximum payload of the broker, one of them only in bytes
/// and not in characters, and checks that the status says so and that another app starts.
async fn request_too_large(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let ascii = with_values(cx.deployment("ascii", 1), "x", 64 * 1024, 18);
    let two_bytes = with_values(cx.deployment("two-bytes", 1), "é", 50 * 1024, 12);
    for app in [&ascii, &two_bytes] {
        cx.submit(app).await?;
    }
    for app in [&ascii, &two_bytes] {
        let within = cx.timings().act + cx.timings().show + cx.timings().reconnect;
        let description = "the status says that the workload cannot be started";
        let reported = cx.eventually(within, description, || async {
            let messages = shown_messages(cx, app).await;
            if messages.iter().any(|message| names_size(message)) {
                return Ok(());
            }
            Err(format!("{messages:?}"))
        });
        cx.claim(SCHED_WIRE_004).met(reported.await);
        cx.claim(SCHED_WIRE_004).holds(
            "the app is not reported as ready",
            cx.is_ready(app).await != Ok(true),
            || "the app is reported as ready",
        );
    }
    cx.submit(&cx.deployment("more", 1)).await?;
    let running = cx.wait_for_running("more", 1, cx.timings().act).await;
    cx.claim(SCHED_WIRE_004).met(running);
    Ok(())
}

/// Sets `count` environment variables of `length` characters each. Together they are larger than
/// the default maximum payload of a broker (1 MiB), and smaller than the maximum size of an object
/// in an API server.
fn with_values(app: Manifest, character: &str, length: usize, count: usize) -> Manifest {
    let values: Map<String, Value> = (0..count)
        .map(|number| (format!("K{number}"), json!(character.repeat(length))))
        .collect();
    let pointer = "/components/0/localResources/environment/config";
    app.spec(pointer, Value::Object(values))
}

/// Returns the messages and reasons in the status of an object and of its children.
async fn shown_messages(cx: &ScenarioContext, app: &Manifest) -> Vec<String> {
    let intake = &cx.scheduler().intake;
    let objects = intake.object_and_children(&app.key()).await;
    let mut messages = Vec::new();
    for object in objects.unwrap_or_default() {
        collect_messages(object.get("status").unwrap_or(&Value::Null), &mut messages);
    }
    messages
}

fn collect_messages(status: &Value, messages: &mut Vec<String>) {
    match status {
        Value::Object(members) => members.iter().for_each(|(name, value)| match value {
            Value::String(text) if name == "message" || name == "reason" => {
                messages.push(crate::wire::response::shortened(text, 300));
            }
            value => collect_messages(value, messages),
        }),
        Value::Array(items) => items
            .iter()
            .for_each(|item| collect_messages(item, messages)),
        _ => {}
    }
}

/// Returns whether a message says that something is too large, in words or by a size of the order
/// of the maximum payload.
fn names_size(message: &str) -> bool {
    let words = [
        "large", "long", "big", "size", "byte", "payload", "exceed", "maxim", "limit", "mib", "mb",
        "cannot",
    ];
    let text = message.to_lowercase();
    let without_separators = text.replace([',', '_', ' ', '.', '\''], "");
    let mut numbers = without_separators.split(|c: char| !c.is_ascii_digit());
    words.iter().any(|word| text.contains(word))
        || numbers.any(|number| (1_000_000..10_000_000).contains(&number.parse().unwrap_or(0)))
}

/// Makes the scheduler send normal traffic, so that the monitors judge every kind of message, and
/// checks the rate of status requests for an id. The id of one host contains upper case.
async fn traffic(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let mut config = cx.host_config("upper");
    config.id = Some(format!("{}-Upper-CASE", cx.group()));
    let upper = cx.start_host(config).await?;
    let service = json!({ "image": cx.image("service", 1), "maxRestarts": 3 });
    cx.submit(&cx.deployment("app", 6).spec("/service", service))
        .await?;
    cx.submit(&cx.deployment("named", 2).spec("/hostId", json!(upper.id())))
        .await?;
    cx.require_running("app", 6, SCHED_SCALE_001).await?;
    let named = cx.wait_for_running("named", 2, cx.timings().act).await;
    cx.claim(SCHED_WIRE_001).met(named);
    cx.wait(Duration::from_secs(4)).await;
    check_status_rate(cx);
    Ok(())
}

/// Claims that the status of no id was requested too often.
fn check_status_rate(cx: &ScenarioContext) {
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
}

/// One host ignores the first stop of an app, and reports STOPPING for another app for some
/// seconds. Checks that each stop has a reply subject, and the rate of status requests.
async fn stops(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    let (ignored, ignored_workloads) = cx.deploy("ignored", 1, SCHED_SCALE_001).await?;
    let (slow, slow_workloads) = cx.deploy("slow", 1, SCHED_SCALE_001).await?;
    for workload in &ignored_workloads {
        let rule = CommandRule::on("workload.stop", Reaction::Ignore);
        host.add_rule(rule.containing(&workload.id).times(1));
    }
    let stopping = ReplyTemplate::new(
        r#"{"workloadStatus":{"workloadId":"{id}","workloadState":"WORKLOAD_STATE_STOPPING"}}"#,
    );
    for workload in &slow_workloads {
        for command in ["workload.stop", "workload.status"] {
            let rule = CommandRule::on(command, Reaction::Pretend(stopping.clone()));
            host.add_rule(rule.containing(&workload.id));
        }
    }
    cx.delete(&ignored).await?;
    cx.delete(&slow).await?;
    for workload in &slow_workloads {
        let stopped = cx.wait_for_stop(&workload.id, cx.timings().act).await;
        stopped.or_blocked(cx, SCHED_STOP_001)?;
    }
    cx.wait(Duration::from_millis(2_500)).await;
    check_status_rate(cx);
    let within = cx.timings().act + cx.timings().resend;
    let stopped = cx.wait_for_running("ignored", 0, within).await;
    stopped.or_blocked(cx, SCHED_STOP_003)?;
    let stops = cx.journal().stops();
    let mut without_reply = stops.iter().filter(|(_, stop)| stop.reply.is_none());
    let without_reply = without_reply.next().map(|(_, stop)| stop.id.clone());
    cx.claim(SCHED_WIRE_001).holds(
        "each stop has a reply subject",
        without_reply.is_none(),
        || format!("a stop of {without_reply:?} has none"),
    );
    host.clear_rules();
    Ok(())
}

/// A host is lost and returns. Checks that the scheduler sends it no other commands than the known
/// ones.
async fn returning_host(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    let (_, workloads) = cx.deploy("app", 1, SCHED_SCALE_001).await?;
    cx.start_host(cx.host_config("b")).await?;
    host.disconnect();
    let replaced = cx.wait_for_running("app", 1, cx.timings().notice).await;
    replaced.or_blocked(cx, SCHED_FAIL_001)?;
    let reconnected = host.reconnect().await;
    reconnected
        .map_err(|error| Blocked::harness_error("cannot reconnect a simulated host", &error))?;
    for workload in &workloads {
        let stopped = cx.wait_for_stop(&workload.id, cx.timings().cleanup).await;
        stopped.or_blocked(cx, SCHED_FAIL_007)?;
    }
    let known = [
        "heartbeat",
        "workload.start",
        "workload.stop",
        "workload.status",
    ];
    let entries = cx.journal().entries().into_iter();
    let unknown = entries.filter_map(|entry| match entry.kind {
        crate::scheduler::journal::EventKind::ReceivedCommand(received) => Some(received.command),
        _ => None,
    });
    let unknown: Vec<String> = unknown
        .filter(|command| !known.contains(&&**command))
        .collect();
    cx.claim(SCHED_WIRE_003)
        .is("unknown commands", unknown, Vec::<String>::new());
    Ok(())
}
