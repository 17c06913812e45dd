//! Status: how often the scheduler polls the status of workloads, and how it reacts to the replies.

mod completion;

use std::time::{Duration, Instant};

use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::{RunningWorkload, ScenarioContext, workload_ids};
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
        id: "status/polled-after-restart", run: polled_after_restart,
        covers: [SCHED_STATUS_001, SCHED_CONT_008], isolation: Own, needs: [Process],
        waits: |timings| timings.poll, budget_s: 120,
    },
    scenario! {
        id: "status/single-timeout", run: single_timeout, covers: [SCHED_STATUS_004],
        isolation: Shared, waits: |timings| timings.poll, budget_s: 90,
    },
    scenario! {
        id: "status/completed", run: completion::reported,
        covers: [SCHED_STATUS_005, SCHED_STATUS_006], isolation: Shared,
        waits: |timings| timings.poll, budget_s: 120,
    },
    scenario! {
        id: "status/completed-host-lost", run: completion::host_lost, covers: [SCHED_STATUS_005],
        isolation: Shared, waits: |timings| timings.poll, budget_s: 120,
    },
    scenario! {
        id: "status/completed-at-start", run: completion::at_start, covers: [SCHED_STATUS_005],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "status/completed-before-restart", run: completion::before_restart,
        covers: [SCHED_STATUS_005, SCHED_CONT_008], isolation: Own, needs: [Process],
        waits: |timings| timings.poll, budget_s: 120,
    },
];

/// Time after which a scheduler has given up an unanswered status request, in most cases.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Checks that the status of each running workload is polled at least every `poll`, also after a
/// request without a reply.
async fn polled(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (_, running) = cx.deploy("app", 6, SCHED_SCALE_001).await?;
    let (ignored, others) = running.split_at(1);
    for workload in ignored {
        let from = Instant::now();
        let rule = CommandRule::on("workload.status", Reaction::Ignore);
        workload
            .host
            .add_rule(rule.containing(&workload.id).times(1));
        let requested = cx.wait_for_status_request(&workload.id, from).await;
        requested.or_blocked(cx, SCHED_STATUS_001)?;
    }
    cx.wait(REQUEST_TIMEOUT).await;
    let from = Instant::now();
    cx.wait(cx.timings().poll + Duration::from_secs(1)).await;
    check_polled(cx, others, None);
    check_polled(cx, ignored, Some(from));
    Ok(())
}

/// Checks that the workloads that an earlier process of the scheduler has started are polled.
async fn polled_after_restart(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    cx.submit(&cx.deployment("app", 4)).await?;
    let within = cx.timings().act + cx.timings().reconnect;
    let running = cx.wait_for_running("app", 4, within).await;
    let running = running.or_blocked(cx, SCHED_SCALE_001)?;
    cx.scheduler().kill().await;
    let launched = cx.scheduler().launch();
    launched.map_err(|error| Blocked::harness_error("cannot launch the scheduler", &error))?;
    cx.submit(&cx.deployment("more", 1)).await?;
    let more = cx.wait_for_running("more", 1, within).await;
    more.or_blocked(cx, SCHED_CONT_001)?;
    let from = Instant::now();
    cx.wait(cx.timings().poll * 2 + Duration::from_secs(1))
        .await;
    check_polled(cx, &running, Some(from));
    cx.claim(SCHED_CONT_008).is(
        "ids of the running workloads",
        workload_ids(&cx.running("app")),
        workload_ids(&running),
    );
    Ok(())
}

/// Claims that the status of each workload has been polled at least every `poll` since `from`, or
/// since its first poll.
fn check_polled(cx: &ScenarioContext, workloads: &[RunningWorkload], from: Option<Instant>) {
    let until = Instant::now();
    for workload in workloads {
        let requests = cx.journal().commands("workload.status").into_iter();
        let times = requests
            .filter(|(_, request)| request.id == workload.id)
            .map(|(entry, _)| entry.at)
            .filter(|at| from.is_none_or(|from| *at >= from));
        let times: Vec<Instant> = from.into_iter().chain(times).collect();
        let gap = longest_gap(&times, until);
        let held = !times.is_empty() && gap <= cx.timings().poll + cx.patience();
        cx.claim(SCHED_STATUS_001).holds(
            "the status of each id is polled at least every `poll`",
            held,
            || {
                let (count, gap) = (times.len(), gap.as_secs_f64());
                format!("{count} requests, with a gap of up to {gap:.1} s")
            },
        );
    }
}

/// Puts running workloads into ERROR, with and without a message, NOT_FOUND and STOPPING, and
/// checks that each is reported as not ready in time.
async fn not_ready(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    for (number, (state, message)) in [
        (State::Error, "it ended"),
        (State::Error, ""),
        (State::NotFound, ""),
        (State::Stopping, "it ends"),
    ]
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
            host.set_workload_state(&workload.id, state, message);
        }
        let within = cx.timings().poll + cx.timings().show;
        cx.claim(SCHED_STATUS_002)
            .met(cx.wait_for_not_ready(&set, within).await);
    }
    Ok(())
}

/// Puts running workloads into ERROR, with and without a message, and NOT_FOUND, twice, and checks
/// that each is started again in time under another id.
async fn replaced(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let endings = [
        ("error", State::Error, "it ended"),
        ("silent-error", State::Error, ""),
        ("not-found", State::NotFound, ""),
    ];
    for (app, _, _) in &endings {
        cx.deploy(app, 1, SCHED_SCALE_001).await?;
    }
    for ids in [2, 3] {
        for (app, state, message) in &endings {
            for workload in cx.running(app) {
                let host = &workload.host;
                host.set_workload_state(&workload.id, state.clone(), message);
            }
        }
        for (app, _, _) in &endings {
            let within = match ids {
                2 => cx.timings().poll + cx.timings().act,
                // Only the first restart is immediate.
                _ => cx.timings().poll + cx.timings().retry,
            };
            cx.claim(SCHED_STATUS_003)
                .met(cx.wait_for_ids(app, ids, within).await);
            let running = cx.wait_for_running(app, 1, cx.timings().act).await;
            running.or_blocked(cx, SCHED_START_009)?;
        }
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
