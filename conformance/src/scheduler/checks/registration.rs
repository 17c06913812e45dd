//! The fleet: how hosts become known, and by what they are told apart.

use std::time::Duration;

use serde_json::{Value, json};

use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::{ScenarioContext, ids_of};
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{Act, Rule, heartbeat};
use crate::spec::requirements::*;

/// The section.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "reg/first-heartbeat", run: first_heartbeat,
        covers: [SCHED_REG_001, SCHED_REG_002], isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "reg/latest", run: latest, covers: [SCHED_REG_003], isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "reg/twins", run: twins, covers: [SCHED_REG_004], isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "reg/odd-names", run: odd_names, covers: [SCHED_REG_005], isolation: Shared,
        budget_s: 40,
    },
    scenario! {
        id: "reg/foreign-subject", run: foreign_subject, covers: [SCHED_REG_006],
        isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "reg/bad-id", run: bad_id, covers: [SCHED_REG_007], isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "reg/another-process", run: another_process, covers: [SCHED_REG_008],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "reg/foreign-id", run: foreign_id, covers: [SCHED_REG_006], isolation: Shared,
        budget_s: 50,
    },
];

/// A host that pushes heartbeats and answers no request for one.
async fn first_heartbeat(cx: &ScenarioContext) -> Flow {
    cx.submit(&cx.deployment("app", 1)).await?;
    cx.pass(Duration::from_millis(300)).await;
    let host = cx.host(cx.plan("a")).await?;
    host.script(Rule::on("heartbeat", Act::Ignore));
    let within = cx.timings().register + cx.timings().act;
    let placed = cx.runs("app", 1, within).await;
    let used = placed.is_met();
    cx.claim(SCHED_REG_001).met(placed);
    cx.claim(SCHED_REG_002).holds(
        "a host that only pushes heartbeats is used",
        used,
        || "nothing was started on it",
    );
    Ok(())
}

async fn latest(cx: &ScenarioContext) -> Flow {
    let host = cx.host(cx.plan("a").label("zone", "a")).await?;
    host.label("zone", "b");
    host.beat().await;
    cx.submit(
        &cx.deployment("new", 1)
            .spec("/hostSelector/zone", json!("b")),
    )
    .await?;
    let placed = cx.runs("new", 1, cx.timings().act).await;
    cx.claim(SCHED_REG_003).met(placed);
    cx.submit(
        &cx.deployment("old", 1)
            .spec("/hostSelector/zone", json!("a")),
    )
    .await?;
    cx.no_start(SCHED_REG_003, "old").await;
    Ok(())
}

async fn twins(cx: &ScenarioContext) -> Flow {
    let name = json!(format!("{}-twin", cx.group()));
    let a = cx
        .host(cx.plan("a").fact("friendlyName", name.clone()))
        .await?;
    let b = cx.host(cx.plan("b").fact("friendlyName", name)).await?;
    for (app, host) in [("one", &a), ("other", &b)] {
        cx.submit(&cx.deployment(app, 2).spec("/hostId", json!(host.id())))
            .await?;
    }
    for app in ["one", "other"] {
        let placed = cx.runs(app, 2, cx.timings().act).await;
        cx.claim(SCHED_REG_004).met(placed);
    }
    Ok(())
}

async fn odd_names(cx: &ScenarioContext) -> Flow {
    let name = format!("Host A_1 {}", "x".repeat(80));
    let host = cx
        .plan("a")
        .fact("friendlyName", json!(name))
        .label("what is it?", "a ~ b / c");
    cx.host(host).await?;
    cx.submit(
        &cx.deployment("app", 1)
            .spec("/hostSelector/what is it?", json!("a ~ b / c")),
    )
    .await?;
    let placed = cx
        .runs("app", 1, cx.timings().register + cx.timings().act)
        .await;
    cx.claim(SCHED_REG_005).met(placed);
    Ok(())
}

async fn foreign_subject(cx: &ScenarioContext) -> Flow {
    let [a, b] = cx.hosts::<2>().await?;
    let labels = json!({ "hostgroup": cx.group(), "zone": "hijacked" });
    let mut lie = crate::scheduler::simulated_host::heartbeat(
        &cx.plan("b"),
        &b.id(),
        "2026-01-01T00:00:00Z",
        0,
    );
    if let Some(lie) = lie.as_object_mut() {
        lie.insert("labels".to_owned(), labels);
        lie.insert("startedAt".to_owned(), Value::Null);
        lie.retain(|_, value| !value.is_null());
    }
    a.beat_with(lie.to_string()).await;
    cx.submit(
        &cx.deployment("hijacked", 1)
            .spec("/hostSelector/zone", json!("hijacked")),
    )
    .await?;
    cx.no_start(SCHED_REG_006, "hijacked").await;
    for (app, host) in [("one", &a), ("other", &b)] {
        cx.submit(&cx.deployment(app, 1).spec("/hostId", json!(host.id())))
            .await?;
        let placed = cx.runs(app, 1, cx.timings().act).await;
        cx.claim(SCHED_REG_006).met(placed);
    }
    Ok(())
}

async fn bad_id(cx: &ScenarioContext) -> Flow {
    for (number, id) in ["dotted.id", "ünïcode", "plus+id"].iter().enumerate() {
        let mut plan = cx.plan(&format!("bad{number}"));
        plan.id = Some(format!("{}-{id}", cx.group()));
        cx.host(plan).await?;
    }
    cx.submit(&cx.deployment("app", 1)).await?;
    cx.no_start(SCHED_REG_007, "app").await;
    cx.host(cx.plan("good")).await?;
    let placed = cx
        .runs("app", 1, cx.timings().register + cx.timings().act)
        .await;
    cx.claim(SCHED_REG_007).met(placed);
    Ok(())
}

async fn another_process(cx: &ScenarioContext) -> Flow {
    let a = cx.host(cx.plan("a")).await?;
    let (_, placed) = cx.deployed("app", 2, SCHED_SCALE_001).await?;
    let before = ids_of(&placed);
    for id in &before {
        // So that nothing but the heartbeat tells.
        a.script(Rule::on("workload.status", Act::Ignore).containing(id));
    }
    let restarted = a.restart_with_same_id().await;
    restarted.map_err(|cause| Blocked::chain("a simulated host", &cause))?;
    let again = cx.runs("app", 2, cx.timings().notice).await;
    if let Some(again) = cx.claim(SCHED_REG_008).met(again) {
        let after = ids_of(&again);
        let known: Vec<&String> = after.intersection(&before).collect();
        cx.claim(SCHED_REG_008)
            .holds("the ids are new", known.is_empty(), || format!("{known:?}"));
    }
    Ok(())
}

async fn foreign_id(cx: &ScenarioContext) -> Flow {
    let host = cx.host(cx.plan("a").label("zone", "a")).await?;
    let liar = cx.host(cx.plan("b").label("zone", "b")).await?;
    let lie = heartbeat(
        &cx.plan("a").label("zone", "c"),
        &host.id(),
        "2026-11-23T08:00:00Z",
        0,
    );
    for _ in 0..3 {
        liar.beat_with(lie.to_string()).await;
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
        let runs = cx.runs(zone, 1, timings.register + timings.act).await;
        cx.claim(SCHED_REG_006).met(runs);
    }
    let none = cx
        .never(
            Duration::from_secs(4),
            "a start by the labels of the lie",
            || {
                let starts = cx.starts_of("c").into_iter();
                starts.map(|(entry, _)| format!("on {}", entry.host)).next()
            },
        )
        .await;
    cx.claim(SCHED_REG_006).met(none);
    Ok(())
}
