//! Identity of hosts: their ids, names, labels and processes.

use std::time::Duration;

use serde_json::json;

use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::{ScenarioContext, workload_ids};
use crate::scheduler::simulated_host::{CommandRule, Reaction};
use crate::spec::requirements::*;

/// A host joins with the friendly name of another host that runs workloads. Checks that these keep
/// running, and that workloads run on each.
pub(super) async fn same_friendly_name(cx: &ScenarioContext) -> Flow {
    let name = json!(format!("{}-shared-name", cx.group()));
    let config = |letter: &str| {
        let config = cx.host_config(letter);
        config.heartbeat_field("friendlyName", name.clone())
    };
    let a = cx.start_host(config("a")).await?;
    cx.deploy("app", 2, SCHED_SCALE_001).await?;
    let from = std::time::Instant::now();
    let b = cx.start_host(config("b")).await?;
    cx.assert_no_commands(SCHED_REG_004, from, Duration::from_millis(2_500))
        .await;
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

/// Starts two hosts whose ids differ only in upper and lower case, and checks that workloads run on
/// each.
pub(super) async fn ids_in_other_case(cx: &ScenarioContext) -> Flow {
    let ids = ["host-a", "HOST-a"].map(|id| format!("{}-{id}", cx.group()));
    for (number, id) in ids.iter().enumerate() {
        let mut config = cx.host_config(&format!("case{number}"));
        config.id = Some(id.clone());
        cx.start_host(config).await?;
    }
    cx.wait_until_registered().await?;
    for (number, id) in ids.iter().enumerate() {
        let app = cx.deployment(&format!("app{number}"), 1);
        cx.submit(&app.spec("/hostId", json!(id))).await?;
    }
    for number in 0..ids.len() {
        let app = format!("app{number}");
        let running = cx.wait_for_running(&app, 1, cx.timings().act).await;
        let Some(running) = cx.claim(SCHED_REG_004).met(running) else {
            continue;
        };
        let hosts: Vec<String> = running.iter().map(|workload| workload.host.id()).collect();
        let expected: Vec<String> = ids.get(number).cloned().into_iter().collect();
        cx.claim(SCHED_REG_004)
            .is(&format!("host of {app}"), hosts, expected);
    }
    Ok(())
}

/// Starts hosts whose friendly names and labels are not valid Kubernetes names or file names, and
/// checks that a workload runs on each.
pub(super) async fn arbitrary_names(cx: &ScenarioContext) -> Flow {
    let hosts = [
        (
            format!("Host A_1 {}", "x".repeat(80)),
            "a ~ b / c".to_owned(),
        ),
        ("rack 1/host 2".to_owned(), "y".repeat(100)),
        ("../../etc/host".to_owned(), "z".repeat(2_000)),
        (".".to_owned(), "Übergrößenträger".to_owned()),
        (format!("Ünï {}", "n".repeat(300)), "line\nbreak".to_owned()),
        (String::new(), String::new()),
    ];
    for (number, (name, label)) in hosts.iter().enumerate() {
        let config = cx
            .host_config(&format!("host{number}"))
            .heartbeat_field("friendlyName", json!(name))
            .label("what is it?", label);
        let host = cx.start_host(config).await?;
        let app = cx.deployment(&format!("app{number}"), 1);
        let app = app.spec("/hostId", json!(host.id()));
        cx.submit(&match number {
            0 => app.spec("/hostSelector/what is it?", json!(label)),
            _ => app,
        })
        .await?;
    }
    for number in 0..hosts.len() {
        let within = cx.timings().register + cx.timings().act;
        let running = cx
            .wait_for_running(&format!("app{number}"), 1, within)
            .await;
        cx.claim(SCHED_REG_005).met(running);
    }
    Ok(())
}

/// Starts hosts with invalid ids, and checks that a workload starts only when a host with a valid
/// id joins.
pub(super) async fn invalid_id(cx: &ScenarioContext) -> Flow {
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

/// Restarts hosts under the same ids, one of them with an earlier start time, and checks that their
/// workloads restart in time under other ids.
pub(super) async fn restart_with_same_id(cx: &ScenarioContext) -> Flow {
    let mut apps = Vec::new();
    for app in ["later", "earlier"] {
        let host = cx.start_host(cx.host_config(app).label("app", app)).await?;
        let manifest = cx.deployment(app, 2);
        cx.submit(&manifest.spec("/hostSelector/app", json!(app)))
            .await?;
        let running = cx.require_running(app, 2, SCHED_SCALE_001).await?;
        apps.push((app, host, workload_ids(&running)));
    }
    for (app, host, before) in &apps {
        for id in before {
            // Without status replies, only the heartbeat shows the restart.
            host.add_rule(CommandRule::on("workload.status", Reaction::Ignore).containing(id));
        }
        if *app == "earlier" {
            host.set_heartbeat_field("startedAt", json!("2020-02-29T12:00:00Z"));
        }
        let restarted = host.restart_with_same_id().await;
        restarted
            .map_err(|error| Blocked::harness_error("cannot restart a simulated host", &error))?;
    }
    for (app, _, before) in &apps {
        let restarted = cx.wait_for_running(app, 2, cx.timings().notice).await;
        if let Some(restarted) = cx.claim(SCHED_REG_008).met(restarted) {
            let after = workload_ids(&restarted);
            let reused: Vec<&String> = after.intersection(before).collect();
            cx.claim(SCHED_REG_008)
                .holds("the ids are new", reused.is_empty(), || {
                    format!("reused: {reused:?}")
                });
        }
    }
    Ok(())
}
