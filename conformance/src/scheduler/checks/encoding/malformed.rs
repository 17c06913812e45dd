//! Messages that a scheduler cannot decode: it drops the heartbeats, and treats the replies as
//! missing.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::vectors;
use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::{RunningWorkload, ScenarioContext};
use crate::scheduler::journal::{EventKind, contains};
use crate::scheduler::manifest::Manifest;
use crate::scheduler::simulated_host::{
    CommandRule, Reaction, ReplyTemplate, SimulatedHost, heartbeat,
};
use crate::spec::requirements::*;

/// Sends heartbeats that cannot be decoded, and checks that the scheduler keeps running, leaves the
/// running workloads alone and uses a new host.
pub(super) async fn heartbeats(cx: &ScenarioContext) -> Flow {
    let started_at = "2026-01-01T00:00:00Z";
    let config = cx.host_config("a");
    let a = cx
        .start_host(config.heartbeat_field("startedAt", json!(started_at)))
        .await?;
    cx.start_host(cx.host_config("b")).await?;
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
    // A lenient scheduler may understand some of these heartbeats, so they belong to the same
    // process.
    let usable = heartbeat(&a.config(), &a.id(), started_at, a.running_ids().len());
    let usable = usable.as_object().cloned().unwrap_or_default();
    for payload in vectors::malformed_heartbeats(&usable) {
        a.send_raw_heartbeat(payload).await;
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
    let more = cx.deployment("more", 1);
    cx.submit(&more.spec("/hostSelector/zone", json!("new")))
        .await?;
    let running = cx
        .wait_for_running("more", 1, cx.timings().register + cx.timings().act)
        .await;
    cx.claim(SCHED_ENC_011).met(running);
    Ok(())
}

/// Number of the scenarios that share the replies without a readable state of the golden vectors.
/// All replies in each scenario would be a load that no fleet causes.
const SHARES: usize = 4;

/// Returns replies that count as missing. `state` is a state that none of them may convey; `share`
/// selects the part of the golden vectors among them.
fn missing(state: &str, share: usize) -> Vec<ReplyTemplate> {
    let state = format!("WORKLOAD_STATE_{state}");
    let about =
        |id: &str| json!({ "workloadStatus": { "workloadId": id, "workloadState": state } });
    let with = |value: Value| {
        let status = json!({ "workloadId": "{id}", "workloadState": value });
        json!({ "workloadStatus": status })
    };
    let without_state = vectors::replies_without_state().into_iter();
    let shared = without_state.map(|encoding| encoding.message);
    let json = [
        json!({}),
        json!({ "workloadStatus": { "workloadId": "{id}", "message": "?" } }),
        about("other-id"),
        about("{other}"),
        with(json!("WORKLOAD_STATE_UNSPECIFIED")),
        with(json!(0)),
    ];
    let replies = json.into_iter().chain(shared.skip(share).step_by(SHARES));
    let mut templates: Vec<ReplyTemplate> = replies
        .map(|reply| ReplyTemplate::new(&reply.to_string()))
        .collect();
    let truncated = about("{id}").to_string();
    templates.extend(["", "OK", truncated.trim_end_matches('}')].map(ReplyTemplate::new));
    templates
}

/// The host replies to the first start of each app with a reply that counts as missing, and
/// executes nothing. An app must not become ready before it runs, and must run after a retry.
pub(super) async fn start_replies(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    let mut apps = Vec::new();
    for (number, template) in missing("RUNNING", 0).into_iter().enumerate() {
        let app = format!("app{number}");
        let rule = CommandRule::on("workload.start", Reaction::Pretend(template));
        host.add_rule(rule.containing(&cx.image(&app, 1)).times(1));
        let manifest = cx.deployment(&app, 1);
        cx.submit(&manifest).await?;
        apps.push((app, manifest));
    }
    for (app, _) in &apps {
        let started = cx.wait_for_start(app, cx.timings().act).await;
        started.or_blocked(cx, SCHED_SCALE_001)?;
    }
    let window = cx.timings().show.min(Duration::from_secs(3));
    let early = cx.consistently(window, "no app is ready before it runs", || async {
        for (app, manifest) in &apps {
            // The app may start to run during the query, so this is checked before and after it.
            let is_early = cx.running(app).is_empty()
                && cx.is_ready(manifest).await == Ok(true)
                && cx.running(app).is_empty();
            if is_early {
                return Err(format!("{} is reported as ready", manifest.key()));
            }
        }
        Ok(())
    });
    cx.claim(SCHED_ENC_012).met(early.await);
    for (app, _) in &apps {
        let within = cx.timings().act + cx.timings().retry;
        let running = cx.wait_for_running(app, 1, within).await;
        cx.claim(SCHED_ENC_012).met(running);
    }
    Ok(())
}

/// The host executes the start of each app, and its reply counts as missing. The scheduler must not
/// start an app under another id.
pub(super) async fn executed_starts(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    let mut apps = Vec::new();
    for (number, template) in missing("ERROR", 1).into_iter().enumerate() {
        let app = format!("app{number}");
        let rule = CommandRule::on("workload.start", Reaction::Encode(template));
        host.add_rule(rule.containing(&cx.image(&app, 1)));
        cx.submit(&cx.deployment(&app, 1)).await?;
        apps.push(app);
    }
    for app in &apps {
        let running = cx.wait_for_running(app, 1, cx.timings().act).await;
        running.or_blocked(cx, SCHED_SCALE_001)?;
    }
    let window = Duration::from_secs(4);
    let other_id = cx.never(window, "a start under another id", || {
        let mut apps = apps.iter();
        apps.find_map(|app| {
            let ids = cx.started_ids(app);
            (ids.len() > 1).then(|| format!("{app}: {ids:?}"))
        })
    });
    cx.claim(SCHED_ENC_012).met(other_id.await);
    Ok(())
}

/// Deploys an app for each missing reply, and waits until all of them are ready.
async fn deploy_apps(
    cx: &ScenarioContext,
    count: usize,
) -> Result<Vec<(Manifest, RunningWorkload)>, Blocked> {
    let manifests: Vec<(String, Manifest)> = (0..count)
        .map(|number| format!("app{number}"))
        .map(|app| (app.clone(), cx.deployment(&app, 1)))
        .collect();
    for (_, manifest) in &manifests {
        cx.submit(manifest).await?;
    }
    let mut apps = Vec::new();
    for (app, manifest) in manifests {
        let running = cx.wait_for_running(&app, 1, cx.timings().act).await;
        let running = running.or_blocked(cx, SCHED_SCALE_001)?;
        let ready = cx.wait_for_ready(&manifest, cx.timings().show).await;
        ready.or_blocked(cx, SCHED_STATUS_002)?;
        apps.extend(
            running
                .into_iter()
                .map(|workload| (manifest.clone(), workload)),
        );
    }
    Ok(apps)
}

/// One status reply about each app counts as missing. The apps must stay ready, and the scheduler
/// must start and stop nothing.
pub(super) async fn status_replies(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    let templates = missing("NOT_FOUND", 2);
    let apps = deploy_apps(cx, templates.len()).await?;
    let from = Instant::now();
    for ((_, workload), template) in apps.iter().zip(templates) {
        let rule = CommandRule::on("workload.status", Reaction::Pretend(template));
        host.add_rule(rule.containing(&workload.id).times(1));
    }
    for (_, workload) in &apps {
        let requested = cx.wait_for_status_request(&workload.id, from).await;
        requested.or_blocked(cx, SCHED_STATUS_001)?;
    }
    cx.assert_no_commands(SCHED_ENC_012, from, Duration::from_secs(3))
        .await;
    for (manifest, _) in &apps {
        cx.claim(SCHED_ENC_012).holds(
            &format!("{} stays ready", manifest.key()),
            cx.is_ready(manifest).await != Ok(false),
            || "it is reported as not ready",
        );
    }
    Ok(())
}

/// The first stop of each app is not executed, and its reply counts as missing. The scheduler must
/// repeat the stop.
pub(super) async fn stop_replies(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    let templates = missing("NOT_FOUND", 3);
    let apps = deploy_apps(cx, templates.len()).await?;
    for ((_, workload), template) in apps.iter().zip(templates) {
        let rule = CommandRule::on("workload.stop", Reaction::Pretend(template));
        host.add_rule(rule.containing(&workload.id).times(1));
    }
    for (manifest, _) in &apps {
        cx.delete(manifest).await?;
    }
    let within = cx.timings().act + cx.timings().resend;
    for (manifest, workload) in &apps {
        let description = format!("{} is stopped", manifest.key());
        let stopped = cx.eventually(within, &description, || {
            let is_gone = !host.workloads().contains_key(&workload.id);
            let replies = || first_stop_reply(cx, &host, &workload.id);
            std::future::ready(is_gone.then_some(()).ok_or_else(replies))
        });
        cx.claim(SCHED_ENC_012).met(stopped.await);
    }
    Ok(())
}

/// Describes the reply to the first stop of an id.
fn first_stop_reply(cx: &ScenarioContext, host: &SimulatedHost, id: &str) -> String {
    let stops = cx.journal().stops();
    let stop = stops.iter().find(|(_, stop)| stop.id == id);
    let Some(inbox) = stop.and_then(|(_, stop)| stop.reply.clone()) else {
        return format!("no stop on {}", host.name());
    };
    let replies = cx.journal().entries().into_iter();
    let reply = replies.filter_map(|entry| match entry.kind {
        EventKind::Replied(to, payload) if contains(to.as_bytes(), &inbox) => Some(payload),
        _ => None,
    });
    let reply = reply.last().unwrap_or_default();
    format!(
        "it runs after the reply {:?}",
        String::from_utf8_lossy(&reply)
    )
}
