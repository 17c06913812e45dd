//! Replica sets: as many as wanted, growing, shrinking.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::check::outcome::Flow;
use crate::scheduler::context::{ScenarioContext, ids_of};
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{Act, Rule};
use crate::spec::requirements::*;
use crate::wire::response::State;

/// The section.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "scale/runs", run: runs, covers: [SCHED_SCALE_001, SCHED_SCALE_002],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "scale/grows", run: grows, covers: [SCHED_SCALE_003], isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "scale/shrinks", run: shrinks, covers: [SCHED_SCALE_004, SCHED_SCALE_005],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "scale/unready-first", run: unready_first, covers: [SCHED_SCALE_006],
        isolation: Shared, waits: |timings| timings.poll, budget_s: 120,
    },
    scenario! {
        id: "scale/zero", run: zero, covers: [SCHED_SCALE_007], isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "scale/negative", run: negative, covers: [SCHED_SCALE_008], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "scale/one-fails", run: one_fails, covers: [SCHED_SCALE_009], isolation: Shared,
        waits: |timings| timings.poll, budget_s: 120,
    },
    scenario! {
        id: "scale/shown", run: shown, covers: [SCHED_SCALE_010], isolation: Shared,
        waits: |timings| timings.poll, budget_s: 120,
    },
    scenario! {
        id: "scale/deleted", run: deleted, covers: [SCHED_SCALE_011], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "scale/last-change", run: last_change, covers: [SCHED_SCALE_012], isolation: Shared,
        budget_s: 60,
    },
];

async fn runs(cx: &ScenarioContext) -> Flow {
    cx.hosts::<3>().await?;
    cx.submit(&cx.deployment("app", 7)).await?;
    let placed = cx.runs("app", 7, cx.timings().act).await;
    cx.claim(SCHED_SCALE_001).met(placed);
    cx.pass(Duration::from_secs(2)).await;
    let most = cx.most_wanted("app");
    cx.claim(SCHED_SCALE_002)
        .holds("never more than 7 wanted ids", most <= 7, || {
            format!("{most} at once")
        });
    Ok(())
}

async fn grows(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    let (set, placed) = cx.deployed("app", 2, SCHED_SCALE_001).await?;
    let before = ids_of(&placed);
    cx.submit(&set.replicas(5)).await?;
    let after = cx.runs("app", 5, cx.timings().act).await;
    if let Some(after) = cx.claim(SCHED_SCALE_003).met(after) {
        let after = ids_of(&after);
        cx.claim(SCHED_SCALE_003)
            .holds("those that ran run on", before.is_subset(&after), || {
                format!("{before:?}, then {after:?}")
            });
        cx.claim(SCHED_SCALE_003)
            .is("ids that were started", cx.ids_of("app").len(), 5);
    }
    Ok(())
}

async fn shrinks(cx: &ScenarioContext) -> Flow {
    for host in cx.hosts::<2>().await? {
        // So that a scheduler looks more than once while they end.
        host.script(Rule::on(
            "workload.stop",
            Act::AnswerAfter(Duration::from_millis(700)),
        ));
    }
    let (set, placed) = cx.deployed("app", 5, SCHED_SCALE_001).await?;
    let (before, from) = (ids_of(&placed), Instant::now());
    cx.submit(&set.replicas(2)).await?;
    let after = cx.runs("app", 2, cx.timings().act).await;
    cx.claim(SCHED_SCALE_004).met(after);
    let kept = cx.consistently(
        Duration::from_secs(3),
        "two of the old ones run on, and none is started",
        || {
            let now = ids_of(&cx.running("app"));
            let started = cx
                .journal()
                .orders_since(from)
                .into_iter()
                .find(|order| order.contains("workload.start"));
            std::future::ready(match started {
                Some(start) => Err(start),
                None if now.len() == 2 && now.is_subset(&before) => Ok(()),
                None => Err(format!("{now:?}")),
            })
        },
    );
    cx.claim(SCHED_SCALE_005).met(kept.await);
    Ok(())
}

async fn unready_first(cx: &ScenarioContext) -> Flow {
    let hosts = cx.hosts::<2>().await?;
    let (set, placed) = cx.deployed("app", 4, SCHED_SCALE_001).await?;
    cx.says_ready(&set, true, cx.timings().show)
        .await
        .or_blocked(cx, SCHED_CRD_011)?;
    for host in &hosts {
        let act = Act::Fail {
            message: "no more".to_owned(),
            known: false,
        };
        host.script(Rule::on("workload.start", act));
    }
    // The second: neither the oldest nor the youngest.
    let Some(broken) = placed.get(1) else {
        return Ok(());
    };
    broken.host.put(&broken.id, State::Error, "it broke");
    cx.says_ready(&set, false, cx.timings().poll + cx.timings().show)
        .await
        .or_blocked(cx, SCHED_STATUS_002)?;
    let well: BTreeSet<String> = placed
        .iter()
        .filter(|one| one.id != broken.id)
        .map(|one| one.id.clone())
        .collect();
    cx.submit(&set.replicas(3)).await?;
    let window = cx.timings().act.min(Duration::from_secs(5));
    let kept = cx.consistently(window, "the three that are ready run on", || {
        let now = ids_of(&cx.running("app"));
        std::future::ready(if now == well {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        })
    });
    cx.claim(SCHED_SCALE_006).met(kept.await);
    Ok(())
}

async fn zero(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    let (set, _) = cx.deployed("app", 2, SCHED_SCALE_001).await?;
    cx.submit(&set.clone().replicas(0)).await?;
    let none = cx.runs("app", 0, cx.timings().act).await;
    cx.claim(SCHED_SCALE_007).met(none);
    cx.claim(SCHED_SCALE_007).holds(
        "it is still there",
        cx.observe(&set).await.is_ok(),
        || "nothing is told of it",
    );
    cx.submit(&set.replicas(3)).await?;
    let some = cx.runs("app", 3, cx.timings().act).await;
    cx.claim(SCHED_SCALE_007).met(some);
    Ok(())
}

async fn negative(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    let (set, _) = cx.deployed("app", 2, SCHED_SCALE_001).await?;
    let from = Instant::now();
    // A refusal at the intake is right, too.
    let _ = cx.try_submit(&set.replicas(-1)).await;
    cx.assert_no_commands(SCHED_SCALE_008, from, Duration::from_secs(3))
        .await;
    Ok(())
}

async fn one_fails(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    let (_, placed) = cx.deployed("app", 4, SCHED_SCALE_001).await?;
    let Some(broken) = placed.first() else {
        return Ok(());
    };
    broken.host.put(&broken.id, State::Error, "it broke");
    let within = cx.timings().poll + cx.timings().act;
    cx.ids("app", 5, within)
        .await
        .or_blocked(cx, SCHED_STATUS_003)?;
    cx.pass(Duration::from_secs(2)).await;
    let stopped: BTreeSet<String> = cx
        .journal()
        .stops()
        .into_iter()
        .map(|(_, came)| came.id)
        .collect();
    let others: Vec<&String> = stopped.iter().filter(|id| **id != broken.id).collect();
    cx.claim(SCHED_SCALE_009)
        .holds("no other is stopped", others.is_empty(), || {
            format!("{others:?}")
        });
    cx.claim(SCHED_SCALE_009)
        .is("ids that were started", cx.ids_of("app").len(), 5);
    Ok(())
}

async fn shown(cx: &ScenarioContext) -> Flow {
    let hosts = cx.hosts::<2>().await?;
    let (set, placed) = cx.deployed("app", 3, SCHED_SCALE_001).await?;
    let counts = |wanted: i64, ready: i64, within: Duration| {
        let set = set.clone();
        async move {
            let what = format!("{wanted} wanted and {ready} ready are shown");
            cx.eventually(within, &what, || async {
                let object = cx.observe(&set).await?;
                let count = |name: &str| {
                    object
                        .pointer(&format!("/status/replicas/{name}"))
                        .and_then(Value::as_i64)
                        .unwrap_or(0)
                };
                let seen = (count("expected"), count("ready"));
                if seen == (wanted, ready) {
                    Ok(())
                } else {
                    Err(format!("{} wanted and {} ready", seen.0, seen.1))
                }
            })
            .await
        }
    };
    cx.claim(SCHED_SCALE_010)
        .met(counts(3, 3, cx.timings().show).await);
    for host in &hosts {
        let act = Act::Fail {
            message: "no more".to_owned(),
            known: false,
        };
        host.script(Rule::on("workload.start", act));
    }
    if let Some(broken) = placed.first() {
        broken.host.put(&broken.id, State::Error, "it broke");
    }
    let within = cx.timings().poll + cx.timings().show;
    cx.claim(SCHED_SCALE_010).met(counts(3, 2, within).await);
    Ok(())
}

async fn deleted(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    let (set, placed) = cx.deployed("app", 5, SCHED_SCALE_001).await?;
    cx.withdraw(&set).await?;
    for placed in &placed {
        cx.claim(SCHED_SCALE_011)
            .met(cx.stopped(&placed.id, cx.timings().act).await);
    }
    Ok(())
}

async fn last_change(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    let set = cx.deployment("app", 1);
    for replicas in [2, 5, 3, 1, 4] {
        cx.submit(&set.clone().replicas(replicas)).await?;
        cx.pass(Duration::from_millis(120)).await;
    }
    // On the way there may be four for a moment.
    let stays = Duration::from_secs(2);
    let within = cx.timings().act + cx.registering() + stays;
    let mut since = None;
    let ends = cx.eventually(within, "4 run, and it stays so", || {
        let running = cx.running("app").len();
        let from = match running {
            4 => *since.get_or_insert_with(Instant::now),
            _ => {
                since = None;
                Instant::now()
            }
        };
        std::future::ready(if running == 4 && from.elapsed() >= stays {
            Ok(())
        } else {
            Err(format!("{running} run"))
        })
    });
    cx.claim(SCHED_SCALE_012).met(ends.await);
    Ok(())
}
