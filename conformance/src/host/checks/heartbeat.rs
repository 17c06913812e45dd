//! Heartbeats: the first one, their pace, and the counts in them. Their content is judged by monitors.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::wire::nats::Delivery;

/// The section.
pub const CHECKS: &[Check] = &[
    check! {
        id: "beat/subject", run: subject, covers: [HOST_BEAT_001], host: Shared, roles: [],
        budget_s: 60, slow: false,
    },
    check! {
        id: "beat/pace", run: pace, covers: [HOST_BEAT_003], host: Shared, roles: [],
        budget_s: 90, slow: false,
    },
    check! {
        id: "beat/on-request", run: on_request,
        covers: [HOST_BEAT_005, HOST_BEAT_007, HOST_BEAT_011], host: Shared, roles: [],
        budget_s: 60, slow: false,
    },
    check! {
        id: "beat/workload-count", run: workload_count, covers: [HOST_BEAT_008], host: Quiet,
        roles: [], budget_s: 90, slow: false,
    },
    check! {
        id: "beat/workload-count-of-failures", run: count_of_failures,
        covers: [HOST_BEAT_009], host: Quiet, roles: [], budget_s: 90, slow: false,
    },
];

/// The next heartbeat on this host's subject.
async fn next(
    cx: &CheckContext,
    heartbeats: &mut Receiver<Delivery>,
    within: Duration,
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
    timeout(within + cx.fixture().patience(), wait)
        .await
        .ok()
        .flatten()
}

/// What is published is a bare HostHeartbeat, and the id inside is that of the subject.
async fn subject(cx: &CheckContext) -> Flow {
    let mut heartbeats = cx.heartbeats();
    let Some(heartbeat) = next(cx, &mut heartbeats, deadlines::HEARTBEAT_GAP.limit).await else {
        return Err(cx.blocked(HOST_BEAT_003, "a heartbeat", &"none within 30 s"));
    };
    let json: Option<Value> = serde_json::from_slice(&heartbeat.payload).ok();
    let id = json
        .as_ref()
        .and_then(|json| json.get("id"))
        .and_then(Value::as_str);
    cx.claim(HOST_BEAT_001)
        .about_subject(&heartbeat.subject)
        .is(
            "`id` of the published heartbeat, at its top level",
            id,
            Some(cx.host_id()),
        );
    Ok(())
}

/// Never more than 30 s between two heartbeats.
async fn pace(cx: &CheckContext) -> Flow {
    let mut heartbeats = cx.heartbeats();
    let gap = deadlines::HEARTBEAT_GAP.limit;
    let mut seen = 0;
    let watch = async {
        while next(cx, &mut heartbeats, gap).await.is_some() {
            seen += 1;
        }
    };
    // A quick host is watched for as long as a slow one is given.
    let silent = timeout(gap + Duration::from_secs(1), watch).await.is_ok();
    let what = "a heartbeat at least every 30 s";
    let heard = !silent && seen > 0;
    cx.claim(HOST_BEAT_003)
        .holds(what, heard, || format!("{seen} heartbeats in 31 s"));
    Ok(())
}

/// The answer to a heartbeat request has the identity that the published heartbeats have.
async fn on_request(cx: &CheckContext) -> Flow {
    let mut heartbeats = cx.heartbeats();
    let asked = cx.heartbeat().await?;
    let published = next(cx, &mut heartbeats, deadlines::HEARTBEAT_GAP.limit).await;
    let Some(published) = published else {
        return Err(cx.blocked(HOST_BEAT_003, "a heartbeat", &"none within 30 s"));
    };
    let published: Value = serde_json::from_slice(&published.payload).unwrap_or_default();
    let asked_json = asked.json.clone().unwrap_or_default();
    for name in ["id", "hostname", "friendlyName", "version", "startedAt"] {
        let there = |json: &Value| json.get(name).is_some_and(|value| value != "");
        let what = format!("a heartbeat holds {name}");
        cx.claim(HOST_BEAT_005)
            .about(&asked)
            .holds(&what, there(&asked_json), || asked_json.to_string());
        cx.claim(HOST_BEAT_005)
            .holds(&what, there(&published), || published.to_string());
    }
    judge_figures(cx, &asked_json);
    let again = cx.heartbeat().await?.json.unwrap_or_default();
    for name in [
        "id",
        "friendlyName",
        "hostname",
        "version",
        "startedAt",
        "environment",
    ] {
        for other in [&published, &again] {
            let what = format!("{name} is the same in every heartbeat");
            cx.claim(HOST_BEAT_007)
                .is(&what, other.get(name), asked_json.get(name));
        }
    }
    Ok(())
}

/// Figures that can be true: a start in the past, no more memory free than there is.
fn judge_figures(cx: &CheckContext, heartbeat: &Value) {
    let bytes = |name: &str| {
        let text = heartbeat.get(name).and_then(Value::as_str).unwrap_or("0");
        text.parse::<u64>().unwrap_or(0)
    };
    let (free, total) = (bytes("systemMemoryFree"), bytes("systemMemoryTotal"));
    let what = "systemMemoryFree is no larger than systemMemoryTotal";
    cx.claim(HOST_BEAT_011)
        .holds(what, free <= total, || format!("{free} of {total}"));

    let started = heartbeat
        .get("startedAt")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let soon = crate::wire::timestamp::rfc3339_ms((now + Duration::from_secs(5)).as_millis());
    // Texts of one zone compare like the moments they stand for; another zone is not judged.
    let comparable = started.ends_with('Z') || started.ends_with("+00:00");
    let past = !comparable || started.get(..19) <= soon.get(..19);
    cx.claim(HOST_BEAT_011)
        .holds("startedAt is not in the future", past, || {
            started.to_owned()
        });
}

/// `workloadCount` of a fresh heartbeat; absent means 0.
async fn count(cx: &CheckContext) -> Result<i64, Blocked> {
    let heartbeat = cx.heartbeat().await?;
    let json = heartbeat.json.clone().unwrap_or_default();
    match json.get("workloadCount") {
        None => Ok(0),
        Some(Value::String(text)) => text
            .parse()
            .map_err(|_| cx.blocked(HOST_JSON_004, "a whole number", &text)),
        Some(Value::Number(number)) => Ok(number.as_i64().unwrap_or(i64::MAX)),
        Some(other) => Err(cx.blocked(HOST_JSON_004, "a whole number", other)),
    }
}

/// The count follows starts and stops, one by one.
async fn workload_count(cx: &CheckContext) -> Flow {
    let before = count(cx).await?;
    let ids = [cx.id("a"), cx.id("b"), cx.id("c")];
    for (started, id) in (1..).zip(&ids) {
        cx.started(id, &cx.workload()).await?;
        let what = format!("workloadCount after {started} starts");
        cx.claim(HOST_BEAT_008)
            .is(&what, count(cx).await?, before + started);
    }
    for (stopped, id) in (1..).zip(&ids) {
        cx.stop(id).await?;
        cx.gone(id).await.or_blocked(cx, HOST_STOP_002)?;
        let what = format!("workloadCount after {stopped} stops");
        cx.claim(HOST_BEAT_008)
            .is(&what, count(cx).await?, before + 3 - stopped);
    }
    Ok(())
}

/// A workload that could not start takes no capacity.
async fn count_of_failures(cx: &CheckContext) -> Flow {
    let before = count(cx).await?;
    let id = cx.id("a");
    let workload = cx.workload().component("Not A Reference/UPPER:1");
    let failed = cx.start(&id, &workload).await?.state == crate::wire::response::State::Error;
    // A host that runs anything has one more workload, and nothing that failed.
    let expected = if failed { before } else { before + 1 };
    cx.claim(HOST_BEAT_009).is(
        "workloadCount after a failed start",
        count(cx).await?,
        expected,
    );
    Ok(())
}
