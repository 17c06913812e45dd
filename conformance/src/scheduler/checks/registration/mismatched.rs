//! Heartbeats whose id differs from the id in their subject.

use std::time::Duration;

use serde_json::{Value, json};

use crate::check::outcome::Flow;
use crate::scheduler::context::{ScenarioContext, host_names};
use crate::scheduler::simulated_host::heartbeat;
use crate::spec::requirements::*;

/// One heartbeat on the subject of host `a` contains the id of host `b`.
pub(super) async fn labels_on_other_subject(cx: &ScenarioContext) -> Flow {
    let [a, b] = cx.start_hosts::<2>().await?;
    let labels = json!({ "hostgroup": cx.group(), "zone": "forged" });
    let (started_at, workloads) = ("2026-01-01T00:00:00Z", 0);
    let mut forged = heartbeat(&cx.host_config("b"), &b.id(), started_at, workloads);
    if let Some(forged) = forged.as_object_mut() {
        forged.insert("labels".to_owned(), labels);
        forged.insert("startedAt".to_owned(), Value::Null);
        forged.retain(|_, value| !value.is_null());
    }
    // A heartbeat of the host itself would replace the forged labels.
    b.pause_heartbeats();
    a.send_raw_heartbeat(forged.to_string()).await;
    cx.submit(
        &cx.deployment("forged", 1)
            .spec("/hostSelector/zone", json!("forged")),
    )
    .await?;
    cx.assert_no_start(SCHED_REG_006, "forged").await;
    b.resume_heartbeats();
    for (app, host) in [("one", &a), ("other", &b)] {
        cx.submit(&cx.deployment(app, 1).spec("/hostId", json!(host.id())))
            .await?;
        let running = cx.wait_for_running(app, 1, cx.timings().act).await;
        cx.claim(SCHED_REG_006).met(running);
    }
    Ok(())
}

/// Several heartbeats on the subject of host `b` contain the id of host `a`.
pub(super) async fn labels_of_other_id(cx: &ScenarioContext) -> Flow {
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

/// A frozen host is lost although heartbeats with the id of another host arrive on its subject.
pub(super) async fn sign_of_frozen_host(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    cx.deploy("app", 1, SCHED_SCALE_001).await?;
    let other = cx.start_host(cx.host_config("b")).await?;
    let (started_at, workloads) = ("2026-11-23T08:00:00Z", 0);
    let forged = heartbeat(&other.config(), &other.id(), started_at, workloads).to_string();
    host.freeze();
    let within = cx.timings().silence + cx.timings().act;
    let replaced = cx.eventually(within, "the app runs on the other host", || async {
        host.send_raw_heartbeat(forged.clone()).await;
        let running = cx.running("app");
        let hosts = host_names(&running);
        if hosts.iter().any(|name| *name == other.name()) {
            Ok(())
        } else {
            Err(format!("it runs on {hosts:?}"))
        }
    });
    cx.claim(SCHED_REG_006).met(replaced.await);
    host.resume();
    Ok(())
}
