//! Registration: how hosts join the fleet, and how the scheduler distinguishes them.

mod identity;
mod mismatched;

use std::time::Duration;

use serde_json::{Value, json};

use crate::check::outcome::Flow;
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{CommandRule, Reaction};
use crate::spec::requirements::*;

/// Scenarios of the section `registration`.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "registration/first-heartbeat", run: first_heartbeat, covers: [SCHED_REG_001],
        isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "registration/after-outage", run: after_outage, covers: [SCHED_REG_001],
        isolation: Own, needs: [Tap], budget_s: 90,
    },
    scenario! {
        id: "registration/no-heartbeat-replies", run: no_heartbeat_replies,
        covers: [SCHED_REG_002], isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "registration/latest-labels", run: latest_labels, covers: [SCHED_REG_003],
        isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "registration/latest-interfaces", run: latest_interfaces,
        covers: [SCHED_REG_003, SCHED_PLACE_012, SCHED_PLACE_013], isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "registration/same-friendly-name", run: identity::same_friendly_name,
        covers: [SCHED_REG_004], isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "registration/ids-in-other-case", run: identity::ids_in_other_case,
        covers: [SCHED_REG_004], isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "registration/arbitrary-names", run: identity::arbitrary_names,
        covers: [SCHED_REG_005], isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "registration/invalid-id", run: identity::invalid_id, covers: [SCHED_REG_007],
        isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "registration/restart-with-same-id", run: identity::restart_with_same_id,
        covers: [SCHED_REG_008], isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "registration/mismatched-subject", run: mismatched::labels_on_other_subject,
        covers: [SCHED_REG_006], isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "registration/mismatched-id", run: mismatched::labels_of_other_id,
        covers: [SCHED_REG_006], isolation: Shared, budget_s: 50,
    },
    scenario! {
        id: "registration/mismatched-sign", run: mismatched::sign_of_frozen_host,
        covers: [SCHED_REG_006], isolation: Shared, waits: |timings| timings.silence,
        budget_s: 90,
    },
];

/// A host publishes a single heartbeat, and replies to requests.
async fn first_heartbeat(cx: &ScenarioContext) -> Flow {
    cx.submit(&cx.deployment("app", 1)).await?;
    cx.wait(Duration::from_millis(300)).await;
    let host = cx.start_host(cx.host_config("a")).await?;
    host.pause_heartbeats();
    let within = cx.timings().register + cx.timings().act;
    let running = cx.wait_for_running("app", 1, within).await;
    cx.claim(SCHED_REG_001).met(running);
    Ok(())
}

/// A host joins after an outage of the broker.
async fn after_outage(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let outage = cx.scheduler().bus.disconnect_scheduler().await;
    cx.wait(Duration::from_secs(1)).await;
    outage.restore().await;
    cx.start_host(cx.host_config("new").label("zone", "new"))
        .await?;
    let app = cx.deployment("app", 1);
    cx.submit(&app.spec("/hostSelector/zone", json!("new")))
        .await?;
    // The scheduler receives no heartbeat before it has subscribed again.
    let subscribed = cx.timings().reconnect + cx.timings().heartbeat_interval();
    let within = subscribed + cx.timings().register + cx.timings().act;
    let running = cx.wait_for_running("app", 1, within).await;
    cx.claim(SCHED_REG_001).met(running);
    Ok(())
}

/// A host publishes heartbeats, but does not reply to heartbeat requests, however late the
/// scheduler sends them.
async fn no_heartbeat_replies(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    host.add_rule(CommandRule::on("heartbeat", Reaction::Ignore));
    for (app, wait_s) in [("first", 0), ("later", 11)] {
        cx.wait(Duration::from_secs(wait_s)).await;
        cx.submit(&cx.deployment(app, 1)).await?;
        let within = cx.timings().register + cx.timings().act;
        let running = cx.wait_for_running(app, 1, within).await;
        cx.claim(SCHED_REG_002).met(running);
    }
    Ok(())
}

/// Changes the labels of a host, and checks that placement follows the most recent heartbeat.
async fn latest_labels(cx: &ScenarioContext) -> Flow {
    let labels =
        |zone: &str, name: &str| json!({ "hostgroup": cx.group(), "zone": zone, name: "yes" });
    let config = cx
        .host_config("a")
        .heartbeat_field("labels", labels("a", "gpu"));
    let host = cx.start_host(config).await?;
    host.set_heartbeat_field("labels", labels("b", "ssd"));
    host.send_heartbeat().await;
    cx.wait_until_registered().await?;
    for (app, pointer, value) in [
        ("zone-b", "/hostSelector/zone", "b"),
        ("ssd", "/hostSelector/ssd", "yes"),
        ("zone-a", "/hostSelector/zone", "a"),
        ("gpu", "/hostSelector/gpu", "yes"),
    ] {
        let manifest = cx.deployment(app, 1).spec(pointer, json!(value));
        cx.submit(&manifest).await?;
    }
    for app in ["zone-b", "ssd"] {
        let running = cx.wait_for_running(app, 1, cx.timings().act).await;
        cx.claim(SCHED_REG_003).met(running);
    }
    check_never_started(cx, SCHED_REG_003, &["zone-a", "gpu"]).await;
    Ok(())
}

/// Changes the interfaces that a host offers, and checks that placement follows the most recent
/// heartbeat.
async fn latest_interfaces(cx: &ScenarioContext) -> Flow {
    let package =
        |name: &str| json!([{ "namespace": "acme", "package": name, "interfaces": ["push"] }]);
    let config = cx
        .host_config("a")
        .heartbeat_field("imports", package("old"));
    let host = cx.start_host(config).await?;
    host.set_heartbeat_field("imports", package("new"));
    host.set_heartbeat_field("httpPort", Value::Null);
    host.send_heartbeat().await;
    cx.wait_until_registered().await?;
    let http =
        json!([{ "namespace": "wasi", "package": "http", "interfaces": ["incoming-handler"] }]);
    for (app, interfaces) in [
        ("new", package("new")),
        ("old", package("old")),
        ("http", http),
    ] {
        let manifest = cx.deployment(app, 1).spec("/hostInterfaces", interfaces);
        cx.submit(&manifest).await?;
    }
    let running = cx.wait_for_running("new", 1, cx.timings().act).await;
    cx.claim(SCHED_REG_003).met(running);
    check_never_started(cx, SCHED_PLACE_012, &["old"]).await;
    check_never_started(cx, SCHED_PLACE_013, &["http"]).await;
    Ok(())
}

/// Claims that none of these apps, which only an earlier heartbeat permits, is started.
async fn check_never_started(cx: &ScenarioContext, requirement: Requirement, apps: &[&str]) {
    let window = Duration::from_millis(2_500);
    let description = "a start of an app that only the first heartbeat permits";
    let started = cx.never(window, description, || {
        let mut apps = apps.iter();
        apps.find_map(|app| {
            let starts = cx.starts_of(app);
            starts
                .first()
                .map(|(entry, _)| format!("{app} on {}", entry.host))
        })
    });
    cx.claim(requirement).met(started.await);
}
