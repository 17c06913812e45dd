//! Registration: how hosts join the fleet, and how the scheduler distinguishes them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::{ScenarioContext, workload_ids};
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{CommandRule, Reaction, heartbeat};
use crate::spec::requirements::*;

/// Scenarios of the section `registration`.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "registration/first-heartbeat", run: first_heartbeat,
        covers: [SCHED_REG_001, SCHED_REG_002], isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "registration/latest-heartbeat", run: latest_heartbeat, covers: [SCHED_REG_003],
        isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "registration/same-friendly-name", run: same_friendly_name, covers: [SCHED_REG_004],
        isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "registration/arbitrary-names", run: arbitrary_names, covers: [SCHED_REG_005],
        isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "registration/mismatched-subject", run: mismatched_subject, covers: [SCHED_REG_006],
        isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "registration/invalid-id", run: invalid_id, covers: [SCHED_REG_007], isolation: Shared,
        budget_s: 40,
    },
    scenario! {
        id: "registration/restart-with-same-id", run: restart_with_same_id, covers: [SCHED_REG_008],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "registration/mismatched-id", run: mismatched_id, covers: [SCHED_REG_006],
        isolation: Shared, budget_s: 50,
    },
];

/// A host publishes heartbeats, but does not reply to heartbeat requests.
async fn first_heartbeat(cx: &ScenarioContext) -> Flow {
    cx.submit(&cx.deployment("app", 1)).await?;
    cx.wait(Duration::from_millis(300)).await;
    let host = cx.start_host(cx.host_config("a")).await?;
    host.add_rule(CommandRule::on("heartbeat", Reaction::Ignore));
    let within = cx.timings().register + cx.timings().act;
    let running = cx.wait_for_running("app", 1, within).await;
    let used = running.is_met();
    cx.claim(SCHED_REG_001).met(running);
    cx.claim(SCHED_REG_002).holds(
        "a host that publishes heartbeats but replies to no heartbeat request is used",
        used,
        || "nothing was started on the host",
    );
    Ok(())
}

/// Changes a label of a host, and checks that placement follows the most recent heartbeat.
async fn latest_heartbeat(cx: &ScenarioContext) -> Flow {
    let host = cx
        .start_host(cx.host_config("a").label("zone", "a"))
        .await?;
    host.set_label("zone", "b");
    host.send_heartbeat().await;
    cx.submit(
        &cx.deployment("new", 1)
            .spec("/hostSelector/zone", json!("b")),
    )
    .await?;
    let running = cx.wait_for_running("new", 1, cx.timings().act).await;
    cx.claim(SCHED_REG_003).met(running);
    cx.submit(
        &cx.deployment("old", 1)
            .spec("/hostSelector/zone", json!("a")),
    )
    .await?;
    cx.assert_no_start(SCHED_REG_003, "old").await;
    Ok(())
}

/// Starts two hosts with the same friendly name, and checks that workloads run on each.
async fn same_friendly_name(cx: &ScenarioContext) -> Flow {
    let name = json!(format!("{}-shared-name", cx.group()));
    let a = cx
        .start_host(
            cx.host_config("a")
                .heartbeat_field("friendlyName", name.clone()),
        )
        .await?;
    let b = cx
        .start_host(cx.host_config("b").heartbeat_field("friendlyName", name))
        .await?;
    for (app, host) in [("one", &a), ("other", &b)] {
        cx.submit(&cx.deployment(app, 2).spec("/hostId", json!(host.id())))
            .await?;
    }
    for app in ["one", "other"] {
        let running = cx.wait_for_running(app, 2, cx.timings().act).await;
        cx.claim(SCHED_REG_004).met(running);
    }
    Ok(())
}

/// Starts a host whose friendly name and label are not valid Kubernetes names, and checks that a
/// workload runs on it.
async fn arbitrary_names(cx: &ScenarioContext) -> Flow {
    let name = format!("Host A_1 {}", "x".repeat(80));
    let host = cx
        .host_config("a")
        .heartbeat_field("friendlyName", json!(name))
        .label("what is it?", "a ~ b / c");
    cx.start_host(host).await?;
    cx.submit(
        &cx.deployment("app", 1)
            .spec("/hostSelector/what is it?", json!("a ~ b / c")),
    )
    .await?;
    let running = cx
        .wait_for_running("app", 1, cx.timings().register + cx.timings().act)
        .await;
    cx.claim(SCHED_REG_005).met(running);
    Ok(())
}

/// One heartbeat on the subject of host `a` contains the id of host `b`.
async fn mismatched_subject(cx: &ScenarioContext) -> Flow {
    let [a, b] = cx.start_hosts::<2>().await?;
    let labels = json!({ "hostgroup": cx.group(), "zone": "forged" });
    let (started_at, workloads) = ("2026-01-01T00:00:00Z", 0);
    let mut forged = heartbeat(&cx.host_config("b"), &b.id(), started_at, workloads);
    if let Some(forged) = forged.as_object_mut() {
        forged.insert("labels".to_owned(), labels);
        forged.insert("startedAt".to_owned(), Value::Null);
        forged.retain(|_, value| !value.is_null());
    }
    a.send_raw_heartbeat(forged.to_string()).await;
    cx.submit(
        &cx.deployment("forged", 1)
            .spec("/hostSelector/zone", json!("forged")),
    )
    .await?;
    cx.assert_no_start(SCHED_REG_006, "forged").await;
    for (app, host) in [("one", &a), ("other", &b)] {
        cx.submit(&cx.deployment(app, 1).spec("/hostId", json!(host.id())))
            .await?;
        let running = cx.wait_for_running(app, 1, cx.timings().act).await;
        cx.claim(SCHED_REG_006).met(running);
    }
    Ok(())
}

/// Starts hosts with invalid ids, and checks that a workload starts only when a host with a valid
/// id joins.
async fn invalid_id(cx: &ScenarioContext) -> Flow {
    for (number, id) in ["dotted.id", "ünïcode", "plus+id"].iter().enumerate() {
        let mut config = cx.host_config(&format!("invalid{number}"));
        config.id = Some(format!("{}-{id}", cx.group()));
        cx.start_host(config).await?;
    }
    cx.submit(&cx.deployment("app", 1)).await?;
    cx.assert_no_start(SCHED_REG_007, "app").await;
    cx.start_host(cx.host_config("valid")).await?;
    let running = cx
        .wait_for_running("app", 1, cx.timings().register + cx.timings().act)
        .await;
    cx.claim(SCHED_REG_007).met(running);
    Ok(())
}

/// Restarts a host under the same id, and checks that its workloads restart in time under other
/// ids.
async fn restart_with_same_id(cx: &ScenarioContext) -> Flow {
    let a = cx.start_host(cx.host_config("a")).await?;
    let (_, running) = cx.deploy("app", 2, SCHED_SCALE_001).await?;
    let before = workload_ids(&running);
    for id in &before {
        // Without status replies, only the heartbeat shows the restart.
        a.add_rule(CommandRule::on("workload.status", Reaction::Ignore).containing(id));
    }
    let restarted = a.restart_with_same_id().await;
    restarted.map_err(|error| Blocked::harness_error("cannot restart a simulated host", &error))?;
    let restarted = cx.wait_for_running("app", 2, cx.timings().notice).await;
    if let Some(restarted) = cx.claim(SCHED_REG_008).met(restarted) {
        let after = workload_ids(&restarted);
        let reused: Vec<&String> = after.intersection(&before).collect();
        cx.claim(SCHED_REG_008)
            .holds("the ids are new", reused.is_empty(), || {
                format!("reused: {reused:?}")
            });
    }
    Ok(())
}

/// Several heartbeats on the subject of host `b` contain the id of host `a`.
async fn mismatched_id(cx: &ScenarioContext) -> Flow {
    let host = cx
        .start_host(cx.host_config("a").label("zone", "a"))
        .await?;
    let forger = cx
        .start_host(cx.host_config("b").label("zone", "b"))
        .await?;
    let (started_at, workloads) = ("2026-11-23T08:00:00Z", 0);
    let config = cx.host_config("a").label("zone", "c");
    let forged = heartbeat(&config, &host.id(), started_at, workloads);
    for _ in 0..3 {
        forger.send_raw_heartbeat(forged.to_string()).await;
    }
    cx.submit(&cx.deployment("c", 1).spec("/hostSelector/zone", json!("c")))
        .await?;
    for zone in ["a", "b"] {
        cx.submit(
            &cx.deployment(zone, 1)
                .spec("/hostSelector/zone", json!(zone)),
        )
        .await?;
    }
    for zone in ["a", "b"] {
        let timings = cx.timings();
        let runs = cx
            .wait_for_running(zone, 1, timings.register + timings.act)
            .await;
        cx.claim(SCHED_REG_006).met(runs);
    }
    let no_start = cx
        .never(
            Duration::from_secs(4),
            "a start that only the forged labels permit",
            || {
                let starts = cx.starts_of("c").into_iter();
                starts.map(|(entry, _)| format!("on {}", entry.host)).next()
            },
        )
        .await;
    cx.claim(SCHED_REG_006).met(no_start);
    Ok(())
}
