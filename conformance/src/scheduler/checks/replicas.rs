//! Replica sets: the number of replicas, and how it changes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::check::outcome::Flow;
use crate::check::wait::Waited;
use crate::scheduler::context::{ScenarioContext, workload_ids};
use crate::scheduler::manifest::Manifest;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{CommandRule, Reaction};
use crate::spec::requirements::*;
use crate::wire::response::State;

/// Scenarios of the section `replicas`.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "replicas/exact-count", run: exact_count, covers: [SCHED_SCALE_001, SCHED_SCALE_002],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "replicas/scale-up", run: scale_up, covers: [SCHED_SCALE_003], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "replicas/scale-down", run: scale_down, covers: [SCHED_SCALE_004, SCHED_SCALE_005],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "replicas/scale-to-zero", run: scale_to_zero, covers: [SCHED_SCALE_007],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "replicas/negative-count", run: negative_count, covers: [SCHED_SCALE_008],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "replicas/one-failure", run: one_failure, covers: [SCHED_SCALE_009], isolation: Shared,
        waits: |timings| timings.poll, budget_s: 120,
    },
    scenario! {
        id: "replicas/counts-shown", run: counts_shown, covers: [SCHED_SCALE_010],
        isolation: Shared, waits: |timings| timings.poll, budget_s: 120,
    },
    scenario! {
        id: "replicas/counts-without-host", run: counts_without_host, covers: [SCHED_SCALE_010],
        isolation: Shared, waits: |timings| timings.notice + timings.poll, budget_s: 180,
    },
    scenario! {
        id: "replicas/deleted", run: deleted, covers: [SCHED_SCALE_011], isolation: Shared,
        budget_s: 60,
    },
];

/// Deploys 7 replicas that report STARTING at first, and checks that 7 run and that no more than 7
/// ids are wanted at any time.
async fn exact_count(cx: &ScenarioContext) -> Flow {
    let pull = Duration::from_millis(1_500);
    for host in cx.start_hosts::<3>().await? {
        host.add_rule(CommandRule::on("workload.start", Reaction::Starting(pull)));
    }
    cx.submit(&cx.deployment("app", 7)).await?;
    let running = cx.wait_for_running("app", 7, cx.timings().act + pull).await;
    cx.claim(SCHED_SCALE_001).met(running);
    cx.wait(Duration::from_secs(2)).await;
    let max = cx.max_wanted_ids("app");
    cx.claim(SCHED_SCALE_002)
        .holds("at most 7 ids are wanted at any time", max <= 7, || {
            format!("up to {max} were wanted")
        });
    Ok(())
}

/// Scales a set from 2 to 5 replicas, and checks that the first 2 keep running and that 3 are
/// started.
async fn scale_up(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (set, running) = cx.deploy("app", 2, SCHED_SCALE_001).await?;
    let before = workload_ids(&running);
    cx.submit(&set.replicas(5)).await?;
    let after = cx.wait_for_running("app", 5, cx.timings().act).await;
    if let Some(after) = cx.claim(SCHED_SCALE_003).met(after) {
        let after = workload_ids(&after);
        cx.claim(SCHED_SCALE_003).holds(
            "the first replicas keep running",
            before.is_subset(&after),
            || format!("{before:?} ran before, and {after:?} afterwards"),
        );
        cx.claim(SCHED_SCALE_003)
            .is("number of started ids", cx.started_ids("app").len(), 5);
        let window = Duration::from_secs(2);
        cx.assert_no_commands(SCHED_SCALE_003, Instant::now(), window)
            .await;
    }
    Ok(())
}

/// Scales a set from 5 to 2 replicas, and checks that 3 are stopped, 2 keep running and none is
/// started.
async fn scale_down(cx: &ScenarioContext) -> Flow {
    for host in cx.start_hosts::<2>().await? {
        // With slow stops, the scheduler reconciles more than once while the replicas stop.
        let slowly = Reaction::Stopping(Duration::from_secs(2));
        host.add_rule(CommandRule::on("workload.stop", slowly));
    }
    let (set, running) = cx.deploy("app", 5, SCHED_SCALE_001).await?;
    let (before, from) = (workload_ids(&running), Instant::now());
    cx.submit(&set.replicas(2)).await?;
    let after = cx.wait_for_running("app", 2, cx.timings().act).await;
    cx.claim(SCHED_SCALE_004).met(after);
    let unchanged = cx.consistently(
        Duration::from_secs(3),
        "two of the first replicas keep running, and no replica is started",
        || {
            let now = workload_ids(&cx.running("app"));
            let started = cx
                .journal()
                .starts_and_stops_since(from)
                .into_iter()
                .find(|command| command.contains("workload.start"));
            std::future::ready(match started {
                Some(start) => Err(start),
                None if now.len() == 2 && now.is_subset(&before) => Ok(()),
                None => Err(format!("{now:?} run")),
            })
        },
    );
    cx.claim(SCHED_SCALE_005).met(unchanged.await);
    Ok(())
}

/// Scales a set to 0 and then to 3 replicas, and checks the number of running replicas after each
/// change.
async fn scale_to_zero(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (set, _) = cx.deploy("app", 2, SCHED_SCALE_001).await?;
    cx.submit(&set.clone().replicas(0)).await?;
    let none = cx.wait_for_running("app", 0, cx.timings().act).await;
    cx.claim(SCHED_SCALE_007).met(none);
    let exists = "the set with 0 replicas still exists";
    let shown = cx.eventually(cx.timings().show_after_act(), exists, || cx.observe(&set));
    cx.claim(SCHED_SCALE_007).met(shown.await);
    cx.submit(&set.replicas(3)).await?;
    let some = cx.wait_for_running("app", 3, cx.timings().act).await;
    cx.claim(SCHED_SCALE_007).met(some);
    Ok(())
}

/// Changes the number of replicas of a set to -1 and its image, and checks that nothing is started
/// or stopped, and that the next change takes effect.
async fn negative_count(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (set, _) = cx.deploy("app", 2, SCHED_SCALE_001).await?;
    let from = Instant::now();
    let negative = set.clone().replicas(-1);
    // The intake may refuse the manifests.
    let _ = cx.try_submit(&negative).await;
    let _ = cx.try_submit(&negative.image(&cx.image("app", 2))).await;
    cx.assert_no_commands(SCHED_SCALE_008, from, Duration::from_secs(3))
        .await;
    cx.submit(&set.replicas(3)).await?;
    let grown = cx.wait_for_running("app", 3, cx.timings().act).await;
    cx.claim(SCHED_SCALE_008).met(grown);
    Ok(())
}

/// Makes one of 4 replicas fail, and checks that only this replica is replaced.
async fn one_failure(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (_, running) = cx.deploy("app", 4, SCHED_SCALE_001).await?;
    let Some(failed) = running.first() else {
        return Ok(());
    };
    failed
        .host
        .set_workload_state(&failed.id, State::Error, "it failed");
    let within = cx.timings().poll + cx.timings().act;
    cx.wait_for_ids("app", 5, within)
        .await
        .or_blocked(cx, SCHED_STATUS_003)?;
    cx.wait(Duration::from_secs(2)).await;
    let stopped: BTreeSet<String> = cx
        .journal()
        .stops()
        .into_iter()
        .map(|(_, stop)| stop.id)
        .collect();
    let others: Vec<&String> = stopped.iter().filter(|id| **id != failed.id).collect();
    cx.claim(SCHED_SCALE_009)
        .holds("no other replica is stopped", others.is_empty(), || {
            format!("{others:?} were stopped")
        });
    cx.claim(SCHED_SCALE_009)
        .is("number of started ids", cx.started_ids("app").len(), 5);
    Ok(())
}

/// Waits until the status of a set shows these numbers of replicas.
pub(super) async fn wait_for_counts(
    cx: &ScenarioContext,
    set: &Manifest,
    expected: i64,
    ready: i64,
    within: Duration,
) -> Waited<()> {
    let description = format!("{expected} expected and {ready} ready replicas are reported");
    cx.eventually(within, &description, || async {
        let object = cx.observe(set).await?;
        let count = |name: &str| {
            object
                .pointer(&format!("/status/replicas/{name}"))
                .and_then(Value::as_i64)
                .unwrap_or(0)
        };
        let reported = (count("expected"), count("ready"));
        if reported == (expected, ready) {
            Ok(())
        } else {
            Err(format!("{} expected and {} ready", reported.0, reported.1))
        }
    })
    .await
}

/// Makes one of 3 replicas fail, and checks the expected and the ready number of replicas in the
/// status before and after.
async fn counts_shown(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let (set, running) = cx.deploy("app", 3, SCHED_SCALE_001).await?;
    let shown = wait_for_counts(cx, &set, 3, 3, cx.timings().show).await;
    cx.claim(SCHED_SCALE_010).met(shown);
    for host in &hosts {
        let failure = Reaction::Fail {
            message: "out of capacity".to_owned(),
            recorded: false,
        };
        host.add_rule(CommandRule::on("workload.start", failure));
    }
    if let Some(failed) = running.first() {
        failed
            .host
            .set_workload_state(&failed.id, State::Error, "it failed");
    }
    let within = cx.timings().poll + cx.timings().show;
    let shown = wait_for_counts(cx, &set, 3, 2, within).await;
    cx.claim(SCHED_SCALE_010).met(shown);
    Ok(())
}

/// Disconnects the only host of a set, and checks that the ready number falls to 0, and that the
/// status shows a new desired number although the replicas fit no host.
async fn counts_without_host(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    let (set, _) = cx.deploy("app", 2, SCHED_SCALE_001).await?;
    let shown = wait_for_counts(cx, &set, 2, 2, cx.timings().show).await;
    cx.claim(SCHED_SCALE_010).met(shown);
    host.disconnect();
    let within = cx.timings().notice + cx.timings().poll + cx.timings().show;
    let shown = wait_for_counts(cx, &set, 2, 0, within).await;
    cx.claim(SCHED_SCALE_010).met(shown);
    for replicas in [5, 3] {
        cx.submit(&set.clone().replicas(replicas)).await?;
        let within = cx.timings().poll + cx.timings().show_after_act();
        let shown = wait_for_counts(cx, &set, replicas, 0, within).await;
        cx.claim(SCHED_SCALE_010).met(shown);
    }
    Ok(())
}

/// Deletes a set, and checks that each of its replicas is stopped.
async fn deleted(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (set, running) = cx.deploy("app", 5, SCHED_SCALE_001).await?;
    cx.delete(&set).await?;
    for workload in &running {
        cx.claim(SCHED_SCALE_011)
            .met(cx.wait_for_stop(&workload.id, cx.timings().act).await);
    }
    Ok(())
}
