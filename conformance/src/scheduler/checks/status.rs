//! Status: how often it is asked for, and what follows from it.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::check::outcome::Flow;
use crate::scheduler::context::{ScenarioContext, condition};
use crate::scheduler::journal::longest_gap;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{Act, Rule};
use crate::spec::requirements::*;
use crate::wire::response::State;

/// The section.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "status/polled", run: polled, covers: [SCHED_STATUS_001], isolation: Shared,
        waits: |timings| timings.poll, budget_s: 120,
    },
    scenario! {
        id: "status/not-ready", run: not_ready, covers: [SCHED_STATUS_002], isolation: Shared,
        waits: |timings| timings.poll, budget_s: 180,
    },
    scenario! {
        id: "status/replaced", run: replaced, covers: [SCHED_STATUS_003], isolation: Shared,
        waits: |timings| timings.poll, budget_s: 180,
    },
    scenario! {
        id: "status/one-lost", run: one_lost, covers: [SCHED_STATUS_004], isolation: Shared,
        waits: |timings| timings.poll, budget_s: 90,
    },
    scenario! {
        id: "status/completed", run: completed, covers: [SCHED_STATUS_005, SCHED_STATUS_006],
        isolation: Shared, waits: |timings| timings.poll, budget_s: 120,
    },
];

async fn polled(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    let (_, placed) = cx.deployed("app", 2, SCHED_SCALE_001).await?;
    cx.pass(cx.timings().poll * 2 + Duration::from_secs(1))
        .await;
    let until = Instant::now();
    for one in &placed {
        let asked = cx.journal().commands("workload.status").into_iter();
        let times: Vec<Instant> = asked
            .filter(|(_, came)| came.id == one.id)
            .map(|(entry, _)| entry.at)
            .collect();
        let gap = longest_gap(&times, until);
        let held = !times.is_empty() && gap <= cx.timings().poll + cx.patience();
        cx.claim(SCHED_STATUS_001).holds(
            "each id is asked for at least every `poll`",
            held,
            || {
                format!(
                    "{} times, the longest pause {:.1} s",
                    times.len(),
                    gap.as_secs_f64()
                )
            },
        );
    }
    Ok(())
}

async fn not_ready(cx: &ScenarioContext) -> Flow {
    let host = cx.host(cx.plan("a")).await?;
    for (number, state) in [State::Error, State::NotFound, State::Stopping]
        .into_iter()
        .enumerate()
    {
        let app = format!("app{number}");
        let (set, placed) = cx.deployed(&app, 1, SCHED_SCALE_001).await?;
        cx.says_ready(&set, true, cx.timings().show)
            .await
            .or_blocked(cx, SCHED_CRD_011)?;
        // Nothing takes its place, so that it stays so.
        let act = Act::Fail {
            message: "no more".to_owned(),
            known: false,
        };
        host.script(Rule::on("workload.start", act).containing(&cx.image(&app, 1)));
        if let Some(placed) = placed.first() {
            host.put(&placed.id, state, "it ended");
        }
        let within = cx.timings().poll + cx.timings().show;
        cx.claim(SCHED_STATUS_002)
            .met(cx.says_ready(&set, false, within).await);
    }
    Ok(())
}

async fn replaced(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    for (number, state) in [State::Error, State::NotFound].into_iter().enumerate() {
        let app = format!("app{number}");
        let (_, placed) = cx.deployed(&app, 1, SCHED_SCALE_001).await?;
        if let Some(placed) = placed.first() {
            placed.host.put(&placed.id, state, "it ended");
        }
        let within = cx.timings().poll + cx.timings().act;
        cx.claim(SCHED_STATUS_003)
            .met(cx.ids(&app, 2, within).await);
    }
    Ok(())
}

async fn one_lost(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    let (set, placed) = cx.deployed("app", 2, SCHED_SCALE_001).await?;
    cx.says_ready(&set, true, cx.timings().show)
        .await
        .or_blocked(cx, SCHED_CRD_011)?;
    let from = Instant::now();
    for one in &placed {
        one.host.script(
            Rule::on("workload.status", Act::Ignore)
                .containing(&one.id)
                .times(1),
        );
    }
    // A status without an answer takes its timeout to be seen.
    let window = cx.timings().poll + Duration::from_secs(7);
    let calm = cx.consistently(window, "nothing comes of it", || async {
        match (
            cx.is_ready(&set).await,
            cx.journal().orders_since(from).first(),
        ) {
            (_, Some(order)) => Err(order.clone()),
            (Ok(false), _) => Err("it is shown as not ready".to_owned()),
            (Ok(true) | Err(_), None) => Ok(()),
        }
    });
    cx.claim(SCHED_STATUS_004).met(calm.await);
    Ok(())
}

async fn completed(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    let app = cx.workload("app");
    cx.submit(&app).await?;
    let placed = cx.placed("app", 1, SCHED_START_001).await?;
    if let Some(placed) = placed.first() {
        placed
            .host
            .put(&placed.id, State::Completed, "Workload is Completed");
    }
    let shown = cx.eventually(
        cx.timings().poll + cx.timings().show,
        "it is shown as completed",
        || async {
            let object = cx.observe(&app).await?;
            let ready = condition(&object, "Ready").cloned().unwrap_or_default();
            let message = ready
                .get("message")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if message.to_lowercase().starts_with("completed") {
                Ok(())
            } else {
                Err(format!("the condition Ready is {ready}"))
            }
        },
    );
    cx.claim(SCHED_STATUS_006).met(shown.await);
    let restarted = cx.never(
        cx.timings().poll + Duration::from_secs(3),
        "another start",
        || {
            let ids = cx.ids_of("app");
            (ids.len() > 1).then(|| format!("{ids:?}"))
        },
    );
    cx.claim(SCHED_STATUS_005).met(restarted.await);
    Ok(())
}
