//! Starts that take long: a scheduler waits for them.

use std::time::Duration;

use crate::check::outcome::Flow;
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{CommandRule, Reaction};
use crate::spec::requirements::*;

/// Scenarios about slow starts.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "start/slow-pull", run: slow_pull, covers: [SCHED_START_019], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "start/very-slow-pull", run: very_slow_pull, covers: [SCHED_START_019],
        isolation: Shared, slow: true, budget_s: 240,
    },
];

/// The host reports STARTING for 15 s.
async fn slow_pull(cx: &ScenarioContext) -> Flow {
    wait_for_start(cx, Duration::from_secs(15)).await
}

/// The host reports STARTING for two minutes.
async fn very_slow_pull(cx: &ScenarioContext) -> Flow {
    wait_for_start(cx, Duration::from_secs(120)).await
}

/// Starts a workload that is STARTING for `duration`, and checks that the scheduler does not stop
/// it or start it again.
async fn wait_for_start(cx: &ScenarioContext, duration: Duration) -> Flow {
    for host in cx.start_hosts::<2>().await? {
        host.add_rule(CommandRule::on(
            "workload.start",
            Reaction::Starting(duration),
        ));
    }
    cx.submit(&cx.deployment("app", 1)).await?;
    let (start, _) = cx
        .wait_for_start("app", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_START_001)?;
    let from = start.at + Duration::from_millis(1);
    cx.assert_no_commands(SCHED_START_019, from, duration).await;
    Ok(())
}
