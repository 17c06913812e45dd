//! Shrinking sets: the replicas that a scheduler stops, and those that it keeps.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::{RunningWorkload, ScenarioContext, workload_ids};
use crate::scheduler::manifest::Manifest;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{CommandRule, Reaction, SimulatedHost};
use crate::spec::requirements::*;
use crate::wire::response::State;

/// Scenarios about the choice of replicas.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "replicas/scale-down-unready-first", run: unready_first, covers: [SCHED_SCALE_006],
        isolation: Shared, waits: |timings| timings.poll, budget_s: 120,
    },
    scenario! {
        id: "replicas/scale-down-starting-first", run: starting_first,
        covers: [SCHED_SCALE_004, SCHED_SCALE_006], isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "replicas/shrunk-while-starting", run: shrunk_while_starting,
        covers: [SCHED_SCALE_004], isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "replicas/restarted-while-shrinking", run: restarted_while_shrinking,
        covers: [SCHED_SCALE_005], isolation: Own, needs: [Process], budget_s: 90,
    },
];

/// State of a replica that is no longer ready.
const UNREADY: [(State, &str); 2] = [
    // A service that is restarted is STARTING again.
    (State::Starting, "starting-again"),
    (State::Error, "failed"),
];

/// Makes one replica of each set unready, the oldest or the newest, and shrinks the set by one.
/// Checks that the ready replicas keep running.
async fn unready_first(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    cx.wait_until_registered().await?;
    let mut cases = Vec::new();
    for (state, name) in UNREADY {
        for is_oldest in [true, false] {
            let age = if is_oldest { "oldest" } else { "newest" };
            let app = format!("{age}-{name}");
            cases.push(shrink_by_unready(cx, &hosts, app, state.clone(), is_oldest));
        }
    }
    futures_util::future::try_join_all(cases).await?;
    Ok(())
}

async fn shrink_by_unready(
    cx: &ScenarioContext,
    hosts: &[SimulatedHost],
    app: String,
    state: State,
    is_oldest: bool,
) -> Flow {
    let (set, running) = cx.deploy(&app, 4, SCHED_SCALE_001).await?;
    cx.wait_for_ready(&set, cx.timings().show)
        .await
        .or_blocked(cx, SCHED_CRD_011)?;
    for host in hosts {
        let failure = Reaction::Fail {
            message: "out of capacity".to_owned(),
            recorded: false,
        };
        let rule = CommandRule::on("workload.start", failure);
        host.add_rule(rule.containing(&cx.image(&app, 1)));
    }
    let starts = cx.starts_of(&app);
    let start = if is_oldest {
        starts.first()
    } else {
        starts.last()
    };
    let unready = start.and_then(|(_, start)| {
        let mut running = running.iter();
        running.find(|workload| workload.id == start.id)
    });
    let Some(unready) = unready else {
        return Ok(());
    };
    unready
        .host
        .set_workload_state(&unready.id, state, "it is not ready");
    cx.wait_for_not_ready(&set, cx.timings().poll + cx.timings().show)
        .await
        .or_blocked(cx, SCHED_STATUS_002)?;
    let mut ready = workload_ids(&running);
    ready.remove(&unready.id);
    cx.submit(&set.replicas(3)).await?;
    keeps_running(cx, &app, &ready).await;
    Ok(())
}

/// Claims that exactly these workloads of an app run while the scheduler shrinks the set.
async fn keeps_running(cx: &ScenarioContext, app: &str, ready: &BTreeSet<String>) {
    let window = cx.timings().act.min(Duration::from_secs(5));
    let description = format!("the ready replicas of {app} keep running");
    let unchanged = cx.consistently(window, &description, || {
        let now = workload_ids(&cx.running(app));
        std::future::ready(if now == *ready {
            Ok(())
        } else {
            Err(format!("{now:?} run"))
        })
    });
    cx.claim(SCHED_SCALE_006).met(unchanged.await);
}

/// Starts sets of which one replica is not ready yet: it is STARTING, or its start is unanswered.
/// Shrinks each set by one, and checks that this replica is stopped and that the others keep
/// running.
async fn starting_first(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    cx.wait_until_registered().await?;
    let slow = Reaction::Starting(Duration::from_secs(60));
    let starting = shrink_by_starting(cx, &host, "starting", slow);
    let unanswered = shrink_by_starting(cx, &host, "unanswered", Reaction::Ignore);
    futures_util::future::try_join(starting, unanswered).await?;
    Ok(())
}

async fn shrink_by_starting(
    cx: &ScenarioContext,
    host: &SimulatedHost,
    app: &str,
    reaction: Reaction,
) -> Flow {
    let slow = CommandRule::on("workload.start", reaction);
    host.add_rule(slow.containing(&cx.image(app, 1)).times(1));
    let set = cx.deployment(app, 4);
    cx.submit(&set).await?;
    let running = wait_for_three(cx, app).await?;
    let ready = workload_ids(&running);
    cx.submit(&set.replicas(3)).await?;
    keeps_running(cx, app, &ready).await;
    for id in cx.started_ids(app).difference(&ready) {
        cx.claim(SCHED_SCALE_004)
            .met(cx.wait_for_stop(id, cx.timings().act).await);
    }
    Ok(())
}

/// Waits until four replicas have been started, three of them run, and the scheduler knows that.
async fn wait_for_three(cx: &ScenarioContext, app: &str) -> Result<Vec<RunningWorkload>, Blocked> {
    cx.wait_for_ids(app, 4, cx.timings().act)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    let running = cx.require_running(app, 3, SCHED_SCALE_001).await?;
    let set = cx.deployment(app, 4);
    super::replicas::wait_for_counts(cx, &set, 4, 3, cx.timings().show)
        .await
        .or_blocked(cx, SCHED_SCALE_010)?;
    Ok(running)
}

/// Shrinks a set to 0 and to 1 while its starts are unanswered, and checks that the other ids are
/// stopped.
async fn shrunk_while_starting(cx: &ScenarioContext) -> Flow {
    for host in cx.start_hosts::<2>().await? {
        host.add_rule(CommandRule::on("workload.start", Reaction::DropReply));
    }
    for (app, size) in [("none", 0), ("one", 1)] {
        let set: Manifest = cx.deployment(app, 3);
        cx.submit(&set).await?;
        let ids = cx
            .wait_for_ids(app, 3, cx.timings().act)
            .await
            .or_blocked(cx, SCHED_SCALE_001)?;
        cx.submit(&set.replicas(size)).await?;
        let excess = ids.len() - usize::try_from(size).unwrap_or_default();
        let description = format!("{excess} ids of {app} are stopped");
        let stopped = cx.eventually(cx.timings().act, &description, || {
            let stops = cx.journal().stops().into_iter();
            let stops: BTreeSet<String> = stops.map(|(_, stop)| stop.id).collect();
            let stopped = ids.intersection(&stops).count();
            std::future::ready(if stopped == excess {
                Ok(())
            } else {
                Err(format!("{stopped} are stopped"))
            })
        });
        cx.claim(SCHED_SCALE_004).met(stopped.await);
    }
    Ok(())
}

/// Kills and relaunches the scheduler while the stop of a replica is unanswered, and checks that no
/// other replica is stopped.
async fn restarted_while_shrinking(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let set = cx.deployment("app", 4);
    cx.submit(&set).await?;
    let within = cx.timings().act + cx.timings().reconnect;
    cx.wait_for_running("app", 4, within)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    for host in &hosts {
        host.add_rule(CommandRule::on("workload.stop", Reaction::Ignore));
    }
    cx.submit(&set.replicas(3)).await?;
    let stopped = || -> BTreeSet<String> {
        let stops = cx.journal().stops().into_iter();
        stops.map(|(_, stop)| stop.id).collect()
    };
    let first = cx.eventually(cx.timings().act, "a stop", || {
        std::future::ready(if stopped().is_empty() {
            Err("no stop".to_owned())
        } else {
            Ok(())
        })
    });
    first.await.or_blocked(cx, SCHED_SCALE_004)?;
    cx.kill_scheduler().await;
    hosts.iter().for_each(SimulatedHost::clear_rules);
    cx.launch_scheduler()?;
    let within = cx.timings().reconnect + cx.timings().resend + cx.timings().act;
    let running = cx.wait_for_running("app", 3, within).await;
    cx.claim(SCHED_SCALE_005).met(running);
    let another = cx.never(Duration::from_secs(3), "a stop of another replica", || {
        let ids = stopped();
        (ids.len() > 1).then(|| format!("{ids:?}"))
    });
    cx.claim(SCHED_SCALE_005).met(another.await);
    Ok(())
}
