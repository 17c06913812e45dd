//! Heartbeat checks: subject, interval, replies and counts. Monitors judge the other fields.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

use super::outages::{disconnect, first_heartbeat_since, recovered};
use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::host::monitors::is_hostname_without_port;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::wire::nats::Delivery;

/// Checks of the section `heartbeat`.
pub const CHECKS: &[Check] = &[
    check! {
        id: "heartbeat/subject", run: subject, covers: [HOST_BEAT_001], host: Shared, roles: [],
        budget_s: 60, slow: false,
    },
    check! {
        id: "heartbeat/interval", run: interval, covers: [HOST_BEAT_003], host: Shared, roles: [],
        waits_s: 31, budget_s: 90, slow: false,
    },
    check! {
        id: "heartbeat/on-request", run: on_request,
        covers: [HOST_BEAT_005, HOST_BEAT_007, HOST_BEAT_011, HOST_BEAT_012], host: Shared,
        roles: [], budget_s: 60, slow: false,
    },
    check! {
        id: "heartbeat/workload-count", run: workload_count, covers: [HOST_BEAT_008], host: Quiet,
        roles: [], budget_s: 90, slow: false,
    },
    check! {
        id: "heartbeat/after-outage", run: after_outage, covers: [HOST_BEAT_007, HOST_RESIL_002],
        host: Own, roles: [], needs: [Tap], budget_s: 90, slow: false,
    },
    check! {
        id: "heartbeat/failed-start-not-counted", run: failed_start_not_counted,
        covers: [HOST_BEAT_009], host: Quiet, roles: [], budget_s: 90, slow: false,
    },
];

/// Fields whose values must not change while the host runs.
pub(crate) const CONSTANT_FIELDS: [&str; 6] = [
    "id",
    "friendlyName",
    "hostname",
    "version",
    "startedAt",
    "environment",
];
/// Duration of an outage in which no host misses more than one heartbeat.
const SHORT_OUTAGE: Duration = Duration::from_secs(1);

/// Waits for the next heartbeat of this host.
async fn next_heartbeat(
    cx: &CheckContext,
    heartbeats: &mut Receiver<Delivery>,
    limit: Duration,
) -> Option<Delivery> {
    let subject = crate::wire::nats::heartbeat_subject(cx.host_id());
    let wait = async {
        loop {
            match heartbeats.recv().await {
                Ok(delivery) if delivery.subject == subject => return Some(delivery),
                Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(_) => return None,
            }
        }
    };
    timeout(limit + cx.fixture().patience(), wait)
        .await
        .ok()
        .flatten()
}

/// A published heartbeat is a bare HostHeartbeat whose `id` is the id in the subject.
async fn subject(cx: &CheckContext) -> Flow {
    let mut heartbeats = cx.heartbeats();
    let Some(heartbeat) =
        next_heartbeat(cx, &mut heartbeats, deadlines::HEARTBEAT_GAP_MAX.limit).await
    else {
        return Err(cx.blocked(HOST_BEAT_003, "a heartbeat", &"no heartbeat within 30 s"));
    };
    let json: Option<Value> = serde_json::from_slice(&heartbeat.payload).ok();
    let id = json
        .as_ref()
        .and_then(|json| json.get("id"))
        .and_then(Value::as_str);
    cx.claim(HOST_BEAT_001)
        .about_subject(&heartbeat.subject)
        .is(
            "top-level `id` of the published heartbeat",
            id,
            Some(cx.host_id()),
        );
    Ok(())
}

/// Sends one request of each command.
async fn execute_each_command(cx: &CheckContext, id: &str) -> Result<(), Blocked> {
    cx.heartbeat().await?;
    cx.status(id).await?;
    cx.start(id, &cx.workload()).await?;
    cx.stop(id).await?;
    Ok(())
}

/// At most 30 s pass between two heartbeats, also while the host executes commands.
async fn interval(cx: &CheckContext) -> Flow {
    let mut heartbeats = cx.heartbeats();
    let gap = deadlines::HEARTBEAT_GAP_MAX.limit;
    let id = cx.id("a");
    let commands = cx.consistently(gap, "the host executes commands", || async {
        execute_each_command(cx, &id).await.map_err(Into::into)
    });
    let mut received = 0;
    let receive = async {
        while next_heartbeat(cx, &mut heartbeats, gap).await.is_some() {
            received += 1;
        }
    };
    // A host with a short interval is observed for the same time as a host with the longest
    // interval.
    let observed = timeout(gap + Duration::from_secs(1), receive);
    let (observed, commands) = tokio::join!(observed, commands);
    commands.or_blocked(cx, HOST_WIRE_002)?;
    let gap_exceeded = observed.is_ok();
    let description = "the host publishes a heartbeat at least every 30 s";
    let in_time = !gap_exceeded && received > 0;
    cx.claim(HOST_BEAT_003).holds(description, in_time, || {
        format!("{received} heartbeats in 31 s")
    });
    Ok(())
}

/// A requested heartbeat has the same identity as the published heartbeats.
async fn on_request(cx: &CheckContext) -> Flow {
    let mut heartbeats = cx.heartbeats();
    let requested = cx.heartbeat().await?;
    let published = next_heartbeat(cx, &mut heartbeats, deadlines::HEARTBEAT_GAP_MAX.limit).await;
    let Some(published) = published else {
        return Err(cx.blocked(HOST_BEAT_003, "a heartbeat", &"no heartbeat within 30 s"));
    };
    let published: Value = serde_json::from_slice(&published.payload).unwrap_or_default();
    let requested_json = requested.json.clone().unwrap_or_default();
    for name in ["id", "hostname", "friendlyName", "version", "startedAt"] {
        let has_field = |json: &Value| json.get(name).is_some_and(|value| value != "");
        let description = format!("the heartbeat has `{name}`");
        cx.claim(HOST_BEAT_005).about(&requested).holds(
            &description,
            has_field(&requested_json),
            || requested_json.to_string(),
        );
        cx.claim(HOST_BEAT_005)
            .holds(&description, has_field(&published), || {
                published.to_string()
            });
    }
    claim_valid_values(cx, &requested_json);
    for heartbeat in [&requested_json, &published] {
        let hostname = heartbeat.get("hostname").and_then(Value::as_str);
        let has_no_port = hostname.is_none_or(is_hostname_without_port);
        let description = "`hostname` is a host name or an IP address, without a port";
        cx.claim(HOST_BEAT_012)
            .holds(description, has_no_port, || hostname.unwrap_or_default());
    }
    let again = cx.heartbeat().await?.json.unwrap_or_default();
    for name in CONSTANT_FIELDS {
        for other in [&published, &again] {
            let description = format!("`{name}` is the same in every heartbeat");
            cx.claim(HOST_BEAT_007)
                .is(&description, other.get(name), requested_json.get(name));
        }
    }
    Ok(())
}

/// The identity of the host is the same before and after an outage of the broker.
async fn after_outage(cx: &CheckContext) -> Flow {
    cx.start_and_wait(&cx.id("a"), &cx.workload()).await?;
    let before = cx.heartbeat().await?.json.unwrap_or_default();
    let tap = cx.tap()?;
    let (mark, _) = disconnect(cx, tap, SHORT_OUTAGE).await?;
    let published = cx
        .eventually(
            deadlines::RECOVERY,
            "a heartbeat after the outage",
            || async {
                first_heartbeat_since(cx, tap, mark).ok_or_else(|| "no heartbeat".to_owned())
            },
        )
        .await;
    let Some(published) = cx.claim(HOST_RESIL_002).met(published) else {
        return Ok(());
    };
    let published: Value = serde_json::from_slice(&published).unwrap_or_default();
    recovered(cx).await.or_blocked(cx, HOST_RESIL_001)?;
    let after = cx.heartbeat().await?.json.unwrap_or_default();
    for name in CONSTANT_FIELDS {
        for heartbeat in [&published, &after] {
            let description = format!("`{name}` is the same before and after an outage");
            cx.claim(HOST_BEAT_007)
                .is(&description, heartbeat.get(name), before.get(name));
        }
    }
    Ok(())
}

/// Records the claim that `startedAt` is in the past and that free memory does not exceed total
/// memory.
fn claim_valid_values(cx: &CheckContext, heartbeat: &Value) {
    let bytes = |name: &str| {
        let text = heartbeat.get(name).and_then(Value::as_str).unwrap_or("0");
        text.parse::<u64>().unwrap_or(0)
    };
    let (free, total) = (bytes("systemMemoryFree"), bytes("systemMemoryTotal"));
    let description = "`systemMemoryFree` is at most `systemMemoryTotal`";
    cx.claim(HOST_BEAT_011)
        .holds(description, free <= total, || format!("{free} of {total}"));

    let started_at = heartbeat
        .get("startedAt")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let latest = crate::wire::timestamp::rfc3339_ms((now + Duration::from_secs(5)).as_millis());
    // RFC 3339 strings in UTC compare like times; other time zones are not judged.
    let comparable = started_at.ends_with('Z') || started_at.ends_with("+00:00");
    let in_past = !comparable || started_at.get(..19) <= latest.get(..19);
    cx.claim(HOST_BEAT_011)
        .holds("`startedAt` is not in the future", in_past, || {
            started_at.to_owned()
        });
}

/// Requests a heartbeat and returns its `workloadCount`; an absent field means 0.
pub(super) async fn requested_workload_count(cx: &CheckContext) -> Result<i64, Blocked> {
    let heartbeat = cx.heartbeat().await?;
    let json = heartbeat.json.clone().unwrap_or_default();
    match json.get("workloadCount") {
        None => Ok(0),
        Some(Value::String(text)) => text
            .parse()
            .map_err(|_| cx.blocked(HOST_JSON_004, "an integer in `workloadCount`", &text)),
        Some(Value::Number(number)) => Ok(number.as_i64().unwrap_or(i64::MAX)),
        Some(other) => Err(cx.blocked(HOST_JSON_004, "an integer in `workloadCount`", other)),
    }
}

/// `workloadCount` changes by one with every start and every stop.
async fn workload_count(cx: &CheckContext) -> Flow {
    let before = requested_workload_count(cx).await?;
    let ids = [cx.id("a"), cx.id("b"), cx.id("c")];
    for (started, id) in (1..).zip(&ids) {
        cx.start_and_wait(id, &cx.workload()).await?;
        let description = format!("`workloadCount` after {started} starts");
        cx.claim(HOST_BEAT_008).is(
            &description,
            requested_workload_count(cx).await?,
            before + started,
        );
    }
    for (stopped, id) in (1..).zip(&ids) {
        cx.stop(id).await?;
        cx.wait_not_found(id).await.or_blocked(cx, HOST_STOP_002)?;
        let description = format!("`workloadCount` after {stopped} stops");
        cx.claim(HOST_BEAT_008).is(
            &description,
            requested_workload_count(cx).await?,
            before + 3 - stopped,
        );
    }
    Ok(())
}

/// `workloadCount` does not include a workload whose start failed.
async fn failed_start_not_counted(cx: &CheckContext) -> Flow {
    let before = requested_workload_count(cx).await?;
    let id = cx.id("a");
    let workload = cx.workload().component("Not A Reference/UPPER:1");
    let failed = cx.start(&id, &workload).await?.state == crate::wire::response::State::Error;
    // If the host accepts this reference, the workload counts.
    let expected = if failed { before } else { before + 1 };
    cx.claim(HOST_BEAT_009).is(
        "`workloadCount` after a failed start",
        requested_workload_count(cx).await?,
        expected,
    );
    Ok(())
}
