//! Status: how often the scheduler polls the status of workloads, and how it reacts to the replies.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::check::outcome::Flow;
use crate::scheduler::context::{ScenarioContext, condition};
use crate::scheduler::journal::longest_gap;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{CommandRule, Reaction};
use crate::spec::requirements::*;
use crate::wire::response::State;

/// Scenarios of the section `status`.
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
        id: "status/single-timeout", run: single_timeout, covers: [SCHED_STATUS_004],
        isolation: Shared, waits: |timings| timings.poll, budget_s: 90,
    },
    scenario! {
        id: "status/completed", run: completed, covers: [SCHED_STATUS_005, SCHED_STATUS_006],
        isolation: Shared, waits: |timings| timings.poll, budget_s: 120,
    },
];

/// Checks that the status of each running workload is polled at least every `poll`.
async fn polled(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (_, running) = cx.deploy("app", 2, SCHED_SCALE_001).await?;
    cx.wait(cx.timings().poll * 2 + Duration::from_secs(1))
        .await;
    let until = Instant::now();
    for workload in &running {
        let requests = cx.journal().commands("workload.status").into_iter();
        let times: Vec<Instant> = requests
            .filter(|(_, request)| request.id == workload.id)
            .map(|(entry, _)| entry.at)
            .collect();
        let gap = longest_gap(&times, until);
        let held = !times.is_empty() && gap <= cx.timings().poll + cx.patience();
        cx.claim(SCHED_STATUS_001).holds(
            "the status of each id is polled at least every `poll`",
            held,
            || {
                format!(
                    "{} requests, with a gap of up to {:.1} s",
                    times.len(),
                    gap.as_secs_f64()
                )
            },
        );
    }
    Ok(())
}

/// Puts running workloads into ERROR, NOT_FOUND and STOPPING, and checks that each is reported as
/// not ready in time.
async fn not_ready(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    for (number, state) in [State::Error, State::NotFound, State::Stopping]
        .into_iter()
        .enumerate()
    {
        let app = format!("app{number}");
        let (set, running) = cx.deploy(&app, 1, SCHED_SCALE_001).await?;
        cx.wait_for_ready(&set, cx.timings().show)
            .await
            .or_blocked(cx, SCHED_CRD_011)?;
        // Every replacement fails, so the workload stays not ready.
        let failure = Reaction::Fail {
            message: "out of capacity".to_owned(),
            recorded: false,
        };
        host.add_rule(CommandRule::on("workload.start", failure).containing(&cx.image(&app, 1)));
        if let Some(workload) = running.first() {
            host.set_workload_state(&workload.id, state, "it ended");
        }
        let within = cx.timings().poll + cx.timings().show;
        cx.claim(SCHED_STATUS_002)
            .met(cx.wait_for_not_ready(&set, within).await);
    }
    Ok(())
}

/// Puts running workloads into ERROR and NOT_FOUND, and checks that each is started again in time
/// under another id.
async fn replaced(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    for (number, state) in [State::Error, State::NotFound].into_iter().enumerate() {
        let app = format!("app{number}");
        let (_, running) = cx.deploy(&app, 1, SCHED_SCALE_001).await?;
        if let Some(workload) = running.first() {
            workload
                .host
                .set_workload_state(&workload.id, state, "it ended");
        }
        let within = cx.timings().poll + cx.timings().act;
        cx.claim(SCHED_STATUS_003)
            .met(cx.wait_for_ids(&app, 2, within).await);
    }
    Ok(())
}

/// One status request for each workload receives no reply. The scheduler must start and stop
/// nothing.
async fn single_timeout(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (set, running) = cx.deploy("app", 2, SCHED_SCALE_001).await?;
    cx.wait_for_ready(&set, cx.timings().show)
        .await
        .or_blocked(cx, SCHED_CRD_011)?;
    let from = Instant::now();
    for workload in &running {
        workload.host.add_rule(
            CommandRule::on("workload.status", Reaction::Ignore)
                .containing(&workload.id)
                .times(1),
        );
    }
    // The additional 7 s are for the timeout of the status request.
    let window = cx.timings().poll + Duration::from_secs(7);
    let unchanged = cx.consistently(
        window,
        "the app stays ready, and nothing is started or stopped",
        || async {
            match (
                cx.is_ready(&set).await,
                cx.journal().starts_and_stops_since(from).first(),
            ) {
                (_, Some(command)) => Err(command.clone()),
                (Ok(false), _) => Err("the app is reported as not ready".to_owned()),
                (Ok(true) | Err(_), None) => Ok(()),
            }
        },
    );
    cx.claim(SCHED_STATUS_004).met(unchanged.await);
    Ok(())
}

/// Puts a running workload into COMPLETED, and checks that it is reported as completed and is not
/// started again.
async fn completed(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let app = cx.workload("app");
    cx.submit(&app).await?;
    let running = cx.require_running("app", 1, SCHED_START_001).await?;
    if let Some(workload) = running.first() {
        workload
            .host
            .set_workload_state(&workload.id, State::Completed, "Workload is Completed");
    }
    let reported = cx.eventually(
        cx.timings().poll + cx.timings().show,
        "the message of the condition Ready begins with `completed`",
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
    cx.claim(SCHED_STATUS_006).met(reported.await);
    let restarted = cx.never(
        cx.timings().poll + Duration::from_secs(3),
        "another start",
        || {
            let ids = cx.started_ids("app");
            (ids.len() > 1).then(|| format!("{ids:?}"))
        },
    );
    cx.claim(SCHED_STATUS_005).met(restarted.await);
    Ok(())
}
