//! Replica sets that change several times in quick succession, during a rollout, or while a host is
//! lost.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::check::outcome::Flow;
use crate::check::wait::Waited;
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{CommandRule, Reaction, SimulatedHost};
use crate::spec::requirements::*;

/// Scenarios about changes of replica sets.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "replicas/last-change", run: last_change, covers: [SCHED_SCALE_012], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "replicas/change-during-growth", run: change_during_growth, covers: [SCHED_SCALE_012],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "replicas/change-in-same-second", run: change_in_same_second,
        covers: [SCHED_SCALE_012], isolation: Shared, budget_s: 90,
    },
    scenario! {
        id: "replicas/deleted-during-rollout", run: deleted_during_rollout,
        covers: [SCHED_SCALE_011], isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "replicas/host-returns", run: host_returns, covers: [SCHED_SCALE_002],
        isolation: Shared, waits: |timings| timings.notice + timings.cleanup, budget_s: 120,
    },
];

/// Time for which the number of replicas must stay the same, because an intermediate state may also
/// have the last number for a moment.
const STABLE_FOR: Duration = Duration::from_secs(2);

/// Waits until exactly `count` workloads of the app have run for [`STABLE_FOR`].
async fn wait_until_settled(cx: &ScenarioContext, count: usize, within: Duration) -> Waited<()> {
    let within = within + cx.remaining_registration() + STABLE_FOR;
    let description = format!("{count} workloads run for 2 s");
    let mut since = None;
    cx.eventually(within, &description, || {
        let running = cx.running("app").len();
        if running != count {
            since = None;
        }
        let is_settled =
            running == count && since.get_or_insert_with(Instant::now).elapsed() >= STABLE_FOR;
        std::future::ready(if is_settled {
            Ok(())
        } else {
            Err(format!("{running} run"))
        })
    })
    .await
}

/// Changes the size of a set 5 times in quick succession, and checks that the scheduler converges
/// on the last size.
async fn last_change(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let set = cx.deployment("app", 1);
    for replicas in [2, 5, 3, 1, 4] {
        cx.submit(&set.clone().replicas(replicas)).await?;
        cx.wait(Duration::from_millis(120)).await;
    }
    let settled = wait_until_settled(cx, 4, cx.timings().act).await;
    cx.claim(SCHED_SCALE_012).met(settled);
    Ok(())
}

/// Shrinks a set while its starts are unanswered, and checks that the scheduler converges on the
/// last size.
async fn change_during_growth(cx: &ScenarioContext) -> Flow {
    let unanswered_for = Duration::from_secs(2);
    for host in cx.start_hosts::<2>().await? {
        host.set_start_duration(unanswered_for);
    }
    let set = cx.deployment("app", 5);
    cx.submit(&set).await?;
    cx.wait_for_ids("app", 5, cx.timings().act)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    cx.submit(&set.replicas(3)).await?;
    let settled = wait_until_settled(cx, 3, cx.timings().act + unanswered_for).await;
    cx.claim(SCHED_SCALE_012).met(settled);
    Ok(())
}

/// Changes the size of a set twice within one second of the clock, the second time when the first
/// change has taken effect. A scheduler that compares times of modification in seconds misses the
/// second change.
async fn change_in_same_second(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (set, _) = cx.deploy("app", 1, SCHED_SCALE_001).await?;
    // The number of digits is the same, and so is the size of the file.
    for (first, second) in [(3, 5), (4, 2), (6, 1)] {
        wait_for_full_second(cx).await;
        cx.submit(&set.clone().replicas(first)).await?;
        let count = usize::try_from(first).unwrap_or_default();
        cx.wait_for_running("app", count, cx.timings().act)
            .await
            .or_blocked(cx, SCHED_SCALE_003)?;
        cx.submit(&set.clone().replicas(second)).await?;
        let count = usize::try_from(second).unwrap_or_default();
        let changed = cx.wait_for_running("app", count, cx.timings().act).await;
        cx.claim(SCHED_SCALE_012).met(changed);
    }
    Ok(())
}

async fn wait_for_full_second(cx: &ScenarioContext) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let in_second = Duration::from_nanos(now.unwrap_or_default().subsec_nanos().into());
    cx.wait(Duration::from_secs(1).saturating_sub(in_second))
        .await;
}

/// Deletes a deployment during a rollout, and checks that the replicas of both templates are
/// stopped.
async fn deleted_during_rollout(cx: &ScenarioContext) -> Flow {
    let next = cx.image("app", 2);
    for host in cx.start_hosts::<2>().await? {
        let starting = Reaction::Starting(Duration::from_secs(60));
        host.add_rule(CommandRule::on("workload.start", starting).containing(&next));
    }
    let (set, _) = cx.deploy("app", 3, SCHED_SCALE_001).await?;
    cx.submit(&set.clone().image(&next)).await?;
    let begun = cx.eventually(cx.timings().act, "the rollout has begun", || {
        let ids = cx.journal().started_ids_containing(&next);
        std::future::ready(if ids.is_empty() {
            Err("no start".to_owned())
        } else {
            Ok(())
        })
    });
    begun.await.or_blocked(cx, SCHED_ROLL_001)?;
    cx.delete(&set).await?;
    for id in cx.started_ids("app") {
        cx.claim(SCHED_SCALE_011)
            .met(cx.wait_for_stop(&id, cx.timings().act).await);
    }
    Ok(())
}

/// Disconnects a host until its replicas are replaced, and checks that the set has its size again
/// when the host is back with them.
async fn host_returns(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    cx.wait_until_registered().await?;
    let (_, running) = cx.deploy("app", 4, SCHED_SCALE_001).await?;
    let is_used = |host: &&SimulatedHost| {
        let mut workloads = running.iter();
        workloads.any(|workload| workload.host.id() == host.id())
    };
    let Some(host) = hosts.iter().find(is_used) else {
        return Ok(());
    };
    host.disconnect();
    cx.wait_for_running("app", 4, cx.timings().notice + cx.timings().act)
        .await
        .or_blocked(cx, SCHED_FAIL_001)?;
    host.reconnect().await.map_err(|error| {
        crate::check::outcome::Blocked::harness_error("cannot reconnect", &error)
    })?;
    let settled = wait_until_settled(cx, 4, cx.timings().cleanup + cx.timings().act).await;
    cx.claim(SCHED_SCALE_002).met(settled);
    Ok(())
}
