//! Placement: the choice among hosts, invalid host ids, and workloads that fit no host.

use std::time::Duration;

use serde_json::{Value, json};

use crate::check::outcome::Flow;
use crate::scheduler::context::{ScenarioContext, host_names};
use crate::scheduler::journal::contains;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::spec::requirements::*;
use crate::testbed::tap::FrameKind;
use crate::wire::nats;

/// Scenarios of the section `placement`.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "placement/no-feasible-host", run: no_feasible_host,
        covers: [SCHED_PLACE_002, SCHED_PLACE_003, SCHED_PLACE_004, SCHED_PLACE_005],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "placement/invalid-host-id", run: invalid_host_id, covers: [SCHED_PLACE_009],
        isolation: Shared, needs: [Tap], budget_s: 40,
    },
    scenario! {
        id: "placement/spread", run: spread, covers: [SCHED_PLACE_010], isolation: Shared,
        budget_s: 40,
    },
    scenario! {
        id: "placement/load", run: load, covers: [SCHED_PLACE_011], isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "placement/no-rebalancing", run: no_rebalancing, covers: [SCHED_PLACE_016],
        isolation: Shared, budget_s: 40,
    },
];

/// Submits an app that fits no host, and checks that it waits with a reason and is started once
/// when a fitting host joins.
async fn no_feasible_host(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let app = cx
        .deployment("app", 1)
        .spec("/hostSelector/zone", json!("b"));
    cx.submit(&app).await?;
    cx.assert_no_start(SCHED_PLACE_002, "app").await;
    let within = cx.timings().act + cx.timings().show;
    let reason = cx.eventually(within, "a reason is reported", || async {
        let object = cx.observe(&app).await?;
        let ready = crate::scheduler::context::condition(&object, "Ready")
            .cloned()
            .unwrap_or_default();
        let message = ready
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or_default();
        match ready.get("status").and_then(Value::as_str) {
            Some("True") => Err("the app is reported as ready".to_owned()),
            _ if message.trim().is_empty() => Err(format!("the condition Ready is {ready}")),
            _ => Ok(()),
        }
    });
    cx.claim(SCHED_PLACE_003).met(reason.await);
    cx.start_host(cx.host_config("b").label("zone", "b"))
        .await?;
    let register = cx.timings().register;
    let running = cx
        .wait_for_running("app", 1, cx.timings().act + register)
        .await;
    cx.claim(SCHED_PLACE_004).met(running);
    let another = cx.never(Duration::from_secs(1), "a start under another id", || {
        let ids = cx.started_ids("app").len();
        (ids > 1).then(|| format!("{ids} ids were started"))
    });
    cx.claim(SCHED_PLACE_005).met(another.await);
    Ok(())
}

/// A `hostId` that is not a subject token must not become part of a subject: neither that of a
/// start nor that of a probe.
async fn invalid_host_id(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let mark = cx.scheduler().bus.tap().mark();
    let host_ids = ["{group}.b", "*", ">", "{group} words", "{group}\tbed"];
    let host_ids = host_ids.map(|host_id| host_id.replace("{group}", cx.group()));
    for (index, host_id) in host_ids.iter().enumerate() {
        let app = format!("app{index}");
        // The intake may refuse the manifest.
        let _ = cx
            .try_submit(&cx.deployment(&app, 1).spec("/hostId", json!(host_id)))
            .await;
    }
    let group = format!("/{}/", cx.group());
    let subjects = host_ids.map(|host_id| nats::command_subject(&host_id, ""));
    let published = || {
        let frames = cx.scheduler().bus.tap().frames_since(mark);
        let mut published = frames
            .iter()
            .filter(|frame| frame.kind == FrameKind::Publish);
        let found = published.find(|frame| {
            let subject = frame.subject.as_deref().unwrap_or_default();
            let is_addressed = |prefix: &String| subject.starts_with(&**prefix);
            subjects.iter().any(is_addressed) || contains(&frame.payload, &group)
        });
        found.map(|frame| {
            let subject = frame.subject.as_deref().unwrap_or_default();
            format!("a message on {subject}")
        })
    };
    let waited = cx
        .never(
            Duration::from_millis(2_500),
            "a message for one of these workloads or host ids",
            published,
        )
        .await;
    cx.claim(SCHED_PLACE_009).met(waited);
    Ok(())
}

/// Deploys 6 replicas on 3 identical hosts, and checks that each host runs 2 of them.
async fn spread(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<3>().await?;
    cx.wait_until_registered().await?;
    let (_, running) = cx.deploy("app", 6, SCHED_SCALE_001).await?;
    let expected = ["a", "a", "b", "b", "c", "c"].map(str::to_owned).to_vec();
    cx.claim(SCHED_PLACE_010)
        .is("hosts of 6 replicas", host_names(&running), expected);
    Ok(())
}

/// Starts an overloaded and an idle host, and checks that workloads run on the idle host.
async fn load(cx: &ScenarioContext) -> Flow {
    cx.start_host(
        cx.host_config("a")
            .heartbeat_field("systemCpuUsage", json!(99.0))
            .heartbeat_field("systemMemoryFree", json!("4000000")),
    )
    .await?;
    cx.start_host(cx.host_config("b")).await?;
    cx.wait_until_registered().await?;
    let (_, one) = cx.deploy("one", 1, SCHED_SCALE_001).await?;
    let (_, other) = cx.deploy("other", 1, SCHED_SCALE_001).await?;
    let hosts = [host_names(&one), host_names(&other)].concat();
    cx.claim(SCHED_PLACE_011).is(
        "hosts of two workloads",
        hosts,
        vec!["b".to_owned(), "b".to_owned()],
    );
    Ok(())
}

/// A new host joins. Running workloads must not move to it.
async fn no_rebalancing(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    cx.deploy("app", 4, SCHED_SCALE_001).await?;
    let from = std::time::Instant::now();
    cx.start_host(cx.host_config("b")).await?;
    let moved = cx.never(Duration::from_secs(3), "a start or a stop", || {
        cx.journal().starts_and_stops_since(from).into_iter().next()
    });
    cx.claim(SCHED_PLACE_016).met(moved.await);
    Ok(())
}
