//! Replica sets: the number of replicas, and how it changes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::check::outcome::Flow;
use crate::scheduler::context::{ScenarioContext, workload_ids};
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
        id: "replicas/scale-down-unready-first", run: scale_down_unready_first,
        covers: [SCHED_SCALE_006], isolation: Shared, waits: |timings| timings.poll, budget_s: 120,
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
        id: "replicas/deleted", run: deleted, covers: [SCHED_SCALE_011], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "replicas/last-change", run: last_change, covers: [SCHED_SCALE_012], isolation: Shared,
        budget_s: 60,
    },
];

/// Deploys 7 replicas, and checks that 7 run and that no more than 7 ids are wanted at any time.
async fn exact_count(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<3>().await?;
    cx.submit(&cx.deployment("app", 7)).await?;
    let running = cx.wait_for_running("app", 7, cx.timings().act).await;
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
    }
    Ok(())
}

/// Scales a set from 5 to 2 replicas, and checks that 3 are stopped, 2 keep running and none is
/// started.
async fn scale_down(cx: &ScenarioContext) -> Flow {
    for host in cx.start_hosts::<2>().await? {
        // With slow stops, the scheduler reconciles more than once while the replicas stop.
        host.add_rule(CommandRule::on(
            "workload.stop",
            Reaction::DelayReply(Duration::from_millis(700)),
        ));
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

/// Makes one of 4 replicas fail and scales the set to 3, and checks that the ready replicas keep
/// running.
async fn scale_down_unready_first(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let (set, running) = cx.deploy("app", 4, SCHED_SCALE_001).await?;
    cx.wait_for_ready(&set, cx.timings().show)
        .await
        .or_blocked(cx, SCHED_CRD_011)?;
    for host in &hosts {
        let failure = Reaction::Fail {
            message: "out of capacity".to_owned(),
            recorded: false,
        };
        host.add_rule(CommandRule::on("workload.start", failure));
    }
    // The second replica is neither the oldest nor the youngest.
    let Some(failed) = running.get(1) else {
        return Ok(());
    };
    failed
        .host
        .set_workload_state(&failed.id, State::Error, "it failed");
    cx.wait_for_not_ready(&set, cx.timings().poll + cx.timings().show)
        .await
        .or_blocked(cx, SCHED_STATUS_002)?;
    let healthy: BTreeSet<String> = running
        .iter()
        .filter(|workload| workload.id != failed.id)
        .map(|workload| workload.id.clone())
        .collect();
    cx.submit(&set.replicas(3)).await?;
    let window = cx.timings().act.min(Duration::from_secs(5));
    let unchanged = cx.consistently(window, "the three ready replicas keep running", || {
        let now = workload_ids(&cx.running("app"));
        std::future::ready(if now == healthy {
            Ok(())
        } else {
            Err(format!("{now:?} run"))
        })
    });
    cx.claim(SCHED_SCALE_006).met(unchanged.await);
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
    cx.claim(SCHED_SCALE_007).holds(
        "the set with 0 replicas still exists",
        cx.observe(&set).await.is_ok(),
        || "the scheduler does not report the set",
    );
    cx.submit(&set.replicas(3)).await?;
    let some = cx.wait_for_running("app", 3, cx.timings().act).await;
    cx.claim(SCHED_SCALE_007).met(some);
    Ok(())
}

/// Changes the number of replicas of a set to -1, and checks that nothing is started or stopped.
async fn negative_count(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (set, _) = cx.deploy("app", 2, SCHED_SCALE_001).await?;
    let from = Instant::now();
    // The intake may refuse the manifest.
    let _ = cx.try_submit(&set.replicas(-1)).await;
    cx.assert_no_commands(SCHED_SCALE_008, from, Duration::from_secs(3))
        .await;
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

/// Makes one of 3 replicas fail, and checks the expected and the ready number of replicas in the
/// status before and after.
async fn counts_shown(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let (set, running) = cx.deploy("app", 3, SCHED_SCALE_001).await?;
    let counts = |expected: i64, ready: i64, within: Duration| {
        let set = set.clone();
        async move {
            let description =
                format!("{expected} expected and {ready} ready replicas are reported");
            cx.eventually(within, &description, || async {
                let object = cx.observe(&set).await?;
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
    };
    cx.claim(SCHED_SCALE_010)
        .met(counts(3, 3, cx.timings().show).await);
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
    cx.claim(SCHED_SCALE_010).met(counts(3, 2, within).await);
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

/// Changes the size of a set 5 times in quick succession, and checks that the scheduler converges
/// on the last size.
async fn last_change(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let set = cx.deployment("app", 1);
    for replicas in [2, 5, 3, 1, 4] {
        cx.submit(&set.clone().replicas(replicas)).await?;
        cx.wait(Duration::from_millis(120)).await;
    }
    // An intermediate state may also have 4 replicas for a moment.
    let stable_for = Duration::from_secs(2);
    let within = cx.timings().act + cx.remaining_registration() + stable_for;
    let mut since = None;
    let settled = cx.eventually(within, "4 workloads run for 2 s", || {
        let running = cx.running("app").len();
        let from = match running {
            4 => *since.get_or_insert_with(Instant::now),
            _ => {
                since = None;
                Instant::now()
            }
        };
        std::future::ready(if running == 4 && from.elapsed() >= stable_for {
            Ok(())
        } else {
            Err(format!("{running} run"))
        })
    });
    cx.claim(SCHED_SCALE_012).met(settled.await);
    Ok(())
}
