//! Workloads that wait for a host: what is shown, and which event starts each of them, once.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::check::outcome::{Blocked, Flow, error_chain};
use crate::scheduler::context::{ScenarioContext, condition};
use crate::scheduler::manifest::{Key, Manifest};
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{CommandRule, Reaction};
use crate::spec::requirements::*;

/// Scenarios of the section `placement` about waiting.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "placement/no-hosts", run: no_hosts,
        covers: [SCHED_PLACE_003, SCHED_PLACE_004, SCHED_PLACE_005], isolation: Own, budget_s: 60,
    },
    scenario! {
        id: "placement/reason", run: reason, covers: [SCHED_PLACE_003], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "placement/lost-host", run: lost_host, covers: [SCHED_PLACE_003, SCHED_PLACE_007],
        isolation: Shared, budget_s: 90,
    },
    scenario! {
        id: "placement/changed-host", run: changed_host,
        covers: [SCHED_PLACE_004, SCHED_PLACE_005], isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "placement/joining-hosts", run: joining_hosts,
        covers: [SCHED_PLACE_004, SCHED_PLACE_005], isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "placement/unfinished-file", run: unfinished_file, covers: [SCHED_PLACE_004],
        isolation: Own, needs: [Directory], budget_s: 60,
    },
];

/// Number of workloads that wait for the same host. Larger than the number of heartbeats that a
/// host sends within `act`.
const WAITING: usize = 12;

/// Waits until an app is shown as not ready, with a message.
async fn check_shown_as_waiting(cx: &ScenarioContext, app: &Manifest, within: Duration) {
    let description = format!("{} is shown as not ready, with a reason", app.key());
    let shown = cx.eventually(within, &description, || async {
        let object = cx.observe(app).await?;
        let ready = condition(&object, "Ready").cloned().unwrap_or_default();
        let text = |field: &str| ready.get(field).and_then(Value::as_str).unwrap_or_default();
        match text("status") {
            "True" => Err("the app is reported as ready".to_owned()),
            _ if text("message").trim().is_empty() => {
                Err(format!("the condition Ready is {ready}"))
            }
            _ => Ok(()),
        }
    });
    cx.claim(SCHED_PLACE_003).met(shown.await);
}

/// Checks that each app has been started under a single id.
fn check_started_once(cx: &ScenarioContext, apps: &[String]) {
    for app in apps {
        let ids = cx.started_ids(app);
        cx.claim(SCHED_PLACE_005).holds(
            "a waiting workload is started under one id",
            ids.len() < 2,
            || format!("{app} was started as {ids:?}"),
        );
    }
}

/// Submits an app while there is no host at all, and checks that it waits, and is started once when
/// the first host joins.
async fn no_hosts(cx: &ScenarioContext) -> Flow {
    let app = cx.deployment("app", 1);
    cx.submit(&app).await?;
    check_shown_as_waiting(cx, &app, cx.timings().act + cx.timings().show).await;
    cx.start_hosts::<1>().await?;
    let running = cx.wait_for_running("app", 1, cx.timings().act).await;
    cx.claim(SCHED_PLACE_004).met(running);
    check_started_once(cx, &["app".to_owned()]);
    Ok(())
}

/// Compares what is shown of an app that waits for a host with what is shown of an app that is
/// STARTING. If both are the same, the user cannot tell that the first one waits.
async fn reason(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    let starting = Reaction::Starting(Duration::from_secs(60));
    host.add_rule(CommandRule::on("workload.start", starting));
    cx.wait_until_registered().await?;
    let started = cx.deployment("one", 1);
    let waiting = cx
        .deployment("two", 1)
        .spec("/hostSelector/zone", json!("b"));
    cx.submit(&started).await?;
    cx.submit(&waiting).await?;
    cx.wait_for_start("one", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_START_001)?;
    let description = "the message of the app that waits for a host is not that of one that starts";
    let differs = cx.eventually(
        cx.timings().act + cx.timings().show,
        description,
        || async {
            let messages = [
                messages(cx, &waiting, "two").await?,
                messages(cx, &started, "one").await?,
            ];
            let [of_waiting, of_started] = &messages;
            if of_waiting.is_subset(of_started) {
                Err(format!("{of_waiting:?} and {of_started:?}"))
            } else {
                Ok(())
            }
        },
    );
    cx.claim(SCHED_PLACE_003).met(differs.await);
    Ok(())
}

/// Returns the messages of all conditions of an app and of the objects that were created for it,
/// without the name of the app.
async fn messages(
    cx: &ScenarioContext,
    manifest: &Manifest,
    app: &str,
) -> Result<BTreeSet<String>, String> {
    let intake = &cx.scheduler().intake;
    let objects = intake.object_and_children(&manifest.key()).await;
    let objects = objects.map_err(|error| error_chain(&error))?;
    let conditions = objects.iter().filter_map(|object| {
        let conditions = object.pointer("/status/conditions");
        conditions.and_then(Value::as_array)
    });
    let messages = conditions
        .flatten()
        .filter_map(|condition| condition.get("message").and_then(Value::as_str));
    Ok(messages
        .filter(|message| !message.trim().is_empty())
        .map(|message| message.replace(&cx.name(app), "APP"))
        .collect())
}

/// The only host that two apps fit is lost, and another host remains. The apps must be shown as not
/// ready, and must not be started on the other host.
async fn lost_host(cx: &ScenarioContext) -> Flow {
    let lost = cx
        .start_host(cx.host_config("a").label("zone", "a"))
        .await?;
    cx.start_host(cx.host_config("b")).await?;
    cx.wait_until_registered().await?;
    let named = cx.deployment("named", 1).spec("/hostId", json!(lost.id()));
    let selecting = cx
        .deployment("selecting", 1)
        .spec("/hostSelector/zone", json!("a"));
    let apps = [("named", &named), ("selecting", &selecting)];
    for (_, manifest) in apps {
        cx.submit(manifest).await?;
    }
    for (app, manifest) in apps {
        cx.require_running(app, 1, SCHED_PLACE_007).await?;
        cx.wait_for_ready(manifest, cx.timings().poll + cx.timings().show)
            .await
            .or_blocked(cx, SCHED_CRD_011)?;
    }
    lost.kill();
    let within = cx.timings().notice + cx.timings().show;
    for (_, manifest) in apps {
        check_shown_as_waiting(cx, manifest, within).await;
    }
    cx.wait(cx.timings().act).await;
    for (app, _) in apps {
        let elsewhere = cx.starts_of(app);
        let elsewhere = elsewhere.iter().find(|(entry, _)| entry.host != "a");
        cx.claim(SCHED_PLACE_007).holds(
            "a workload whose only host is lost is started nowhere else",
            elsewhere.is_none(),
            || format!("a start of {app} on b"),
        );
    }
    Ok(())
}

/// One heartbeat of a known host changes everything that placement compares. The workloads that
/// wait for each of these changes must be started.
async fn changed_host(cx: &ScenarioContext) -> Flow {
    let bare = cx
        .host_config("a")
        .heartbeat_field("httpPort", Value::Null)
        .heartbeat_field("imports", json!([]));
    let host = cx.start_host(bare).await?;
    cx.wait_until_registered().await?;
    let queue = json!({ "namespace": "acme", "package": "queue", "interfaces": ["push"] });
    let handler =
        json!({ "namespace": "wasi", "package": "http", "interfaces": ["incoming-handler"] });
    let conditions = [
        ("label", "/hostSelector/zone", json!("b")),
        ("interface", "/hostInterfaces", json!([queue])),
        ("port", "/hostInterfaces", json!([handler])),
    ];
    let apps = conditions.clone().map(|(app, _, _)| app.to_owned());
    for (app, field, value) in conditions {
        cx.submit(&cx.deployment(app, 1).spec(field, value)).await?;
    }
    // The scheduler has decided that no host fits.
    cx.wait(cx.timings().act.min(Duration::from_secs(2))).await;
    host.set_label("zone", "b");
    host.set_heartbeat_field("imports", json!([queue]));
    host.set_heartbeat_field("httpPort", json!(8080));
    host.send_heartbeat().await;
    for app in &apps {
        let running = cx.wait_for_running(app, 1, cx.timings().act).await;
        cx.claim(SCHED_PLACE_004).met(running);
    }
    check_started_once(cx, &apps);
    Ok(())
}

/// Several workloads wait, and two hosts that they fit join at the same time. Their starts take a
/// while. Each workload must be started in time, and on one of the hosts only.
async fn joining_hosts(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    cx.wait_until_registered().await?;
    let apps: Vec<String> = (0..WAITING).map(|number| format!("app{number}")).collect();
    for app in &apps {
        let app = cx.workload(app).spec("/hostSelector/zone", json!("b"));
        cx.submit(&app).await?;
    }
    // The scheduler has decided that no host fits.
    cx.wait(cx.timings().act.min(Duration::from_secs(2))).await;
    for name in ["b", "c"] {
        let config = cx.host_config(name).label("zone", "b");
        cx.start_host(config.start_duration(Duration::from_secs(2)))
            .await?;
    }
    for app in &apps {
        let started = cx.wait_for_start(app, cx.timings().act).await;
        cx.claim(SCHED_PLACE_004).met(started);
    }
    // The replies arrive after 2 s.
    cx.wait(Duration::from_secs(3)).await;
    check_started_once(cx, &apps);
    Ok(())
}

/// A file that is still being written is not yet a manifest. The workloads in files whose names
/// follow must be started.
async fn unfinished_file(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<1>().await?;
    cx.wait_until_registered().await?;
    let Some(directory) = cx.scheduler().intake.directory() else {
        return Err(Blocked::Harness("the intake is no directory".to_owned()));
    };
    let unfinished = directory.write(
        &Key::new("Workload", "0-unfinished"),
        "{\"apiVersion\": \"runtime.wasmcloud.dev/v1alpha1\", \"kind\": \"Work",
    );
    unfinished.map_err(|error| Blocked::harness_error("cannot write the file", &error))?;
    for app in ["one", "two"] {
        cx.submit(&cx.deployment(app, 1)).await?;
    }
    for app in ["one", "two"] {
        let running = cx.wait_for_running(app, 1, cx.timings().act).await;
        cx.claim(SCHED_PLACE_004).met(running);
    }
    Ok(())
}
