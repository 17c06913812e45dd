//! Ids of incarnations: never used twice, whatever happens to object, host or scheduler.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::spec::requirements::*;
use crate::testbed::tap::{FrameKind, Mark};
use crate::wire::nats::parse_command_subject;
use crate::wire::response::State;

/// Scenarios of the section `start` about ids.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "start/names", run: names, covers: [SCHED_START_001], isolation: Shared,
        needs: [Directory], budget_s: 60,
    },
    scenario! {
        id: "start/ids-after-restart", run: ids_after_restart, covers: [SCHED_START_001],
        isolation: Own, needs: [Process], budget_s: 90,
    },
    scenario! {
        id: "start/changed-after-completion", run: changed_after_completion,
        covers: [SCHED_START_002], isolation: Shared, waits: |timings| timings.poll, budget_s: 120,
    },
    scenario! {
        id: "start/no-responders", run: no_responders, covers: [SCHED_START_003, SCHED_START_012],
        isolation: Shared, needs: [Tap], budget_s: 60,
    },
    scenario! {
        id: "start/same-process", run: same_process, covers: [SCHED_START_015], isolation: Shared,
        budget_s: 60,
    },
];

/// Length of a long name of an object. With a namespace and a UUID it exceeds the maximum length of
/// an id, and with the kind it still fits into the name of a file.
const LONG_NAME: usize = 220;

/// Submits two workloads of the same name in two namespaces, and one with a long name.
async fn names(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<1>().await?;
    let shared_name = json!(cx.name("same"));
    let long_name = format!("{:x<LONG_NAME$}", cx.name("long"));
    let objects = [
        ("here", shared_name.clone(), "default"),
        ("there", shared_name, "elsewhere"),
        ("long", json!(long_name), "default"),
    ];
    for (app, name, namespace) in &objects {
        let workload = cx.workload(app).with("/metadata/name", name.clone());
        cx.submit(&workload.namespace(namespace)).await?;
    }
    let mut apps_by_id: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (app, _, _) in &objects {
        cx.wait_for_start(app, cx.timings().act)
            .await
            .or_blocked(cx, SCHED_START_001)?;
        for id in cx.started_ids(app) {
            apps_by_id.entry(id).or_default().insert(app);
        }
    }
    let valid = apps_by_id.keys().all(|id| (1..=256).contains(&id.len()));
    cx.claim(SCHED_START_001)
        .holds("ids have 1 to 256 bytes", valid, || {
            format!("{:?}", apps_by_id.keys())
        });
    let distinct = apps_by_id.values().all(|apps| apps.len() == 1);
    cx.claim(SCHED_START_001)
        .holds("two workloads have two ids", distinct, || {
            format!("{apps_by_id:?}")
        });
    Ok(())
}

/// A workload is deleted, and submitted again to the next process of the scheduler, which has
/// forgotten it. The ids of that process must differ from those of the first one.
async fn ids_after_restart(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<1>().await?;
    let app = cx.workload("app");
    let within = cx.timings().act + cx.timings().reconnect;
    cx.submit(&app).await?;
    let running = cx.wait_for_running("app", 1, within).await;
    running.or_blocked(cx, SCHED_SCALE_001)?;
    cx.delete(&app).await?;
    cx.wait_for_deletion(&app, within + cx.timings().show)
        .await
        .or_blocked(cx, SCHED_STOP_009)?;
    cx.scheduler().kill().await;
    cx.scheduler()
        .launch()
        .map_err(|error| Blocked::harness_error("cannot launch the scheduler", &error))?;
    let first = cx.started_ids("app");
    let starts = cx.starts_of("app").len();
    let other = cx.workload("other");
    for manifest in [&app, &other] {
        cx.submit(manifest).await?;
    }
    let started = cx.eventually(within, "both workloads are started", || {
        let is_started = cx.starts_of("app").len() > starts && !cx.starts_of("other").is_empty();
        std::future::ready(if is_started {
            Ok(())
        } else {
            Err("no start".to_owned())
        })
    });
    started.await.or_blocked(cx, SCHED_START_001)?;
    let later = cx.starts_of("app").into_iter().skip(starts);
    let later: Vec<String> = later
        .chain(cx.starts_of("other"))
        .map(|(_, start)| start.id)
        .collect();
    let are_new = later.iter().all(|id| !first.contains(id));
    cx.claim(SCHED_START_001)
        .holds("no id of the first process is used again", are_new, || {
            format!("{first:?}, then {later:?}")
        });
    Ok(())
}

/// A workload that has completed is changed, which is a reason to start it again.
async fn changed_after_completion(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<1>().await?;
    let app = cx.workload("app");
    cx.submit(&app).await?;
    let running = cx.require_running("app", 1, SCHED_START_001).await?;
    let Some(workload) = running.first() else {
        return Ok(());
    };
    workload
        .host
        .set_workload_state(&workload.id, State::Completed, "Workload is Completed");
    let completed_at = Instant::now();
    let within = cx.timings().poll + cx.timings().act;
    let polled = cx.eventually(within, "a status request", || {
        let entries = cx.journal().since(completed_at);
        let mut requests = entries
            .iter()
            .filter_map(|entry| entry.command("workload.status"));
        let found = requests.any(|request| request.id == workload.id);
        std::future::ready(found.then_some(()).ok_or_else(|| "none".to_owned()))
    });
    polled.await.or_blocked(cx, SCHED_STATUS_001)?;
    // The reply is on its way.
    cx.wait(Duration::from_millis(500)).await;
    let image = cx.image("app", 2);
    cx.submit(&app.image(&image)).await?;
    let within = cx.timings().act * 2;
    let changed = cx.eventually(within, "the changed workload is started", || {
        let ids = cx.journal().started_ids_containing(&image);
        std::future::ready(if ids.is_empty() {
            Err("no start".to_owned())
        } else {
            Ok(ids)
        })
    });
    let ids = changed.await.or_blocked(cx, SCHED_START_001)?;
    let is_new = !ids.contains(&workload.id);
    cx.claim(SCHED_START_002).holds(
        "the changed workload has another id than the completed one",
        is_new,
        || format!("{ids:?} and {}", workload.id),
    );
    Ok(())
}

/// Host `a` is the preferred host. It loses its subscription and still sends heartbeats, so that
/// its starts have no responders.
async fn no_responders(cx: &ScenarioContext) -> Flow {
    let [a, b] = cx.start_hosts::<2>().await?;
    // The load on `b` makes `a` the preferred host.
    let ballast = cx.deployment("ballast", 3).spec("/hostId", json!(b.id()));
    cx.submit(&ballast).await?;
    cx.require_running("ballast", 3, SCHED_PLACE_007).await?;
    cx.wait_until_registered().await?;
    let mark = cx.scheduler().bus.tap().mark();
    a.reconnect_without_responders()
        .await
        .map_err(|error| Blocked::harness_error("cannot connect a simulated host", &error))?;
    cx.submit(&cx.deployment("app", 2)).await?;
    let within = cx.timings().act + cx.timings().notice;
    let running = cx.wait_for_running("app", 2, within).await;
    cx.claim(SCHED_START_012).met(running);
    let hosts_by_id = sent_starts(cx, mark);
    let on_one = hosts_by_id.values().all(|hosts| hosts.len() == 1);
    cx.claim(SCHED_START_003)
        .holds("no id is sent to two hosts", on_one, || {
            format!("hosts by id: {hosts_by_id:?}")
        });
    Ok(())
}

/// Returns the hosts to which the starts of this scenario were sent since `mark`, by id.
fn sent_starts(cx: &ScenarioContext, mark: Mark) -> BTreeMap<String, BTreeSet<String>> {
    let group = format!("/{}/", cx.group());
    let mut hosts_by_id: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for frame in cx.scheduler().bus.tap().frames_since(mark) {
        let subject = frame.subject.as_deref().unwrap_or_default();
        let Some((host, "workload.start")) = parse_command_subject(subject) else {
            continue;
        };
        if frame.kind != FrameKind::Publish || !frame.contains(group.as_bytes()) {
            continue;
        }
        let payload: Value = serde_json::from_slice(&frame.payload).unwrap_or_default();
        let id = payload.get("workloadId").and_then(Value::as_str);
        let hosts = hosts_by_id.entry(id.unwrap_or_default().to_owned());
        hosts.or_default().insert(host.to_owned());
    }
    hosts_by_id
}

/// Heartbeats of one process write its start time in several ways. Then the process ends, and
/// another one with the same id follows, once.
async fn same_process(cx: &ScenarioContext) -> Flow {
    let config = cx.host_config("a");
    let host = cx
        .start_host(config.heartbeat_field("startedAt", json!("2024-01-01T00:00:00Z")))
        .await?;
    cx.deploy("app", 2, SCHED_SCALE_001).await?;
    let from = Instant::now();
    for notation in ["2024-01-01T00:00:00.000Z", "2024-01-01T00:00:00.000000000Z"] {
        host.set_heartbeat_field("startedAt", json!(notation));
        host.send_heartbeat().await;
        cx.wait(Duration::from_millis(300)).await;
    }
    cx.assert_no_commands(SCHED_START_015, from, Duration::from_secs(2))
        .await;
    host.set_heartbeat_field("startedAt", json!("2024-01-01T00:00:10Z"));
    host.restart_with_same_id()
        .await
        .map_err(|error| Blocked::harness_error("cannot restart a simulated host", &error))?;
    let within = cx.timings().act + cx.timings().poll;
    let restarted = cx.wait_for_running("app", 2, within).await;
    restarted.or_blocked(cx, SCHED_REG_008)?;
    let from = Instant::now();
    for _ in 0..3 {
        host.send_heartbeat().await;
        cx.wait(Duration::from_millis(300)).await;
    }
    cx.assert_no_commands(SCHED_START_015, from, Duration::from_secs(2))
        .await;
    Ok(())
}
