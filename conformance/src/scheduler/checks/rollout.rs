//! Rollouts: from one template of a deployment to the next.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::check::outcome::{Blocked, Flow};
use crate::check::wait::{ProbeError, Waited};
use crate::scheduler::context::{RunningWorkload, ScenarioContext, workload_ids};
use crate::scheduler::journal::{EventKind, contains, running_counts_over_time};
use crate::scheduler::manifest::Manifest;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{CommandRule, Reaction, SimulatedHost};
use crate::scheduler::timings::Timings;
use crate::spec::requirements::*;

/// Scenarios of the section `rollout`.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "rollout/rolling-update", run: rolling_update,
        covers: [SCHED_ROLL_001, SCHED_ROLL_002, SCHED_ROLL_003, SCHED_ROLL_004], isolation: Shared,
        budget_s: 90,
    },
    scenario! {
        id: "rollout/failing-revision", run: failing_revision,
        covers: [SCHED_ROLL_005, SCHED_ROLL_006], isolation: Shared, budget_s: 90,
    },
    scenario! {
        id: "rollout/two-failing-revisions", run: two_failing_revisions,
        covers: [SCHED_ROLL_007, SCHED_ROLL_008], isolation: Shared, budget_s: 120,
    },
    scenario! {
        id: "rollout/rollback", run: rollback, covers: [SCHED_ROLL_009], isolation: Shared,
        budget_s: 120,
    },
    scenario! {
        id: "rollout/recreate", run: recreate, covers: [SCHED_ROLL_010], isolation: Shared,
        budget_s: 90,
    },
    scenario! {
        id: "rollout/fence", run: fence, covers: [SCHED_ROLL_011], isolation: Shared,
        waits: |timings| timings.fence, budget_s: 200,
    },
    scenario! {
        id: "rollout/unknown-policy", run: unknown_policy, covers: [SCHED_ROLL_012],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "rollout/scaled-during-rollout", run: scaled_during_rollout, covers: [SCHED_ROLL_013],
        isolation: Shared, budget_s: 120,
    },
    scenario! {
        id: "rollout/scheduler-killed", run: scheduler_killed, covers: [SCHED_ROLL_014],
        isolation: Own, needs: [Process], budget_s: 120,
    },
    scenario! {
        id: "rollout/fix-after-failure", run: fix_after_failure, covers: [SCHED_ROLL_008],
        isolation: Shared, budget_s: 120,
    },
];

/// Returns the maximum time of a rollout without progress: the time for one batch, in which a
/// scheduler that has just been launched starts a new replica, waits until it is ready, stops an
/// old one, and waits for its end.
fn max_pause(timings: &Timings) -> Duration {
    timings.reconnect + timings.act + timings.poll + timings.act + timings.resend
}

/// Returns the running workloads of one revision of the app.
fn running_of_revision(cx: &ScenarioContext, revision: u32) -> Vec<RunningWorkload> {
    let image = cx.image("app", revision);
    let has_image = |running: &RunningWorkload| {
        let workloads = running.host.workloads();
        let request = workloads
            .get(&running.id)
            .map(|workload| workload.request.to_string());
        request.is_some_and(|request| request.contains(&format!("{image}\"")))
    };
    cx.running("app").into_iter().filter(has_image).collect()
}

/// Waits until `count` workloads of a revision run, and no workload of another revision. Fails when
/// the rollout makes no progress for too long.
pub(super) async fn wait_for_rollout(
    cx: &ScenarioContext,
    revision: u32,
    count: usize,
) -> Waited<()> {
    let description = format!("exactly {count} workloads run, all of revision {revision}");
    let max_pause = max_pause(cx.timings()) + cx.patience();
    let from = Instant::now();
    let batches = u32::try_from(count).unwrap_or(u32::MAX);
    cx.poll(max_pause * batches, &description, || {
        let (of_revision, all) = (
            running_of_revision(cx, revision).len(),
            cx.running("app").len(),
        );
        let entries = cx.journal().entries();
        let last_change = entries.iter().rfind(|entry| {
            matches!(
                entry.kind,
                EventKind::WorkloadRunning(_) | EventKind::WorkloadEnded(_)
            )
        });
        let last_change = last_change.map_or(from, |entry| entry.at.max(from));
        let observed = format!("{all} run, {of_revision} of this revision");
        std::future::ready(if of_revision == count && all == count {
            Ok(())
        } else if last_change.elapsed() > max_pause {
            Err(ProbeError::Unreachable(observed))
        } else {
            Err(ProbeError::Pending(observed))
        })
    })
    .await
}

/// Makes every start of a revision fail on the hosts. Returns the message of the failures.
fn break_revision(cx: &ScenarioContext, hosts: &[SimulatedHost], revision: u32) -> String {
    let message = format!("no such image: revision {revision} of {}", cx.group());
    for host in hosts {
        let failure = Reaction::Fail {
            message: message.clone(),
            recorded: false,
        };
        let rule = CommandRule::on("workload.start", failure);
        host.add_rule(rule.containing(&cx.image("app", revision)));
    }
    message
}

/// Deploys an app whose starts take 250 ms, and waits until it is ready.
async fn deploy_slowly(
    cx: &ScenarioContext,
    hosts: &[SimulatedHost],
    replicas: usize,
) -> Result<Manifest, Blocked> {
    for host in hosts {
        host.add_rule(CommandRule::on(
            "workload.start",
            Reaction::Delay(Duration::from_millis(250)),
        ));
    }
    let (set, _) = cx.deploy("app", replicas, SCHED_SCALE_001).await?;
    cx.wait_for_ready(&set, cx.timings().show)
        .await
        .or_blocked(cx, SCHED_CRD_011)?;
    Ok(set)
}

/// Changes the template of 6 replicas, and checks that all are replaced, that 6 run at any time,
/// and that the surge is within its limit.
async fn rolling_update(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<3>().await?;
    let set = deploy_slowly(cx, &hosts, 6).await?;
    let from = Instant::now();
    cx.submit(&set.image(&cx.image("app", 2))).await?;
    cx.claim(SCHED_ROLL_001)
        .met(wait_for_rollout(cx, 2, 6).await);
    let ids = cx.started_ids("app");
    let entries = cx.journal().entries();
    let counts = running_counts_over_time(&entries, |id| ids.contains(id));
    let min = counts
        .iter()
        .filter(|(at, _)| *at > from)
        .map(|(_, count)| *count)
        .min()
        .unwrap_or(6);
    cx.claim(SCHED_ROLL_002)
        .holds("at least 6 replicas run at any time", min >= 6, || {
            format!("only {min} ran at one time")
        });
    let max = cx.max_wanted_ids("app");
    cx.claim(SCHED_ROLL_003).holds(
        "at most 12 ids are wanted: 6 replicas and a surge of 6",
        max <= 12,
        || format!("up to {max} were wanted"),
    );
    cx.claim(SCHED_ROLL_004)
        .holds("the surge is at most 2", max <= 8, || {
            format!("the surge was {}", max - 6)
        });
    Ok(())
}

/// Rolls out a template that fails to start, and checks that the replicas of the old template keep
/// running and that the status shows the failure.
async fn failing_revision(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let set = deploy_slowly(cx, &hosts, 4).await?;
    let message = break_revision(cx, &hosts, 2);
    let next = set.image(&cx.image("app", 2));
    cx.submit(&next).await?;
    let not_ready = cx.wait_for_not_ready(&next, cx.timings().show).await;
    cx.claim(SCHED_ROLL_006).met(not_ready);
    cx.claim(SCHED_ROLL_006).met(
        cx.wait_for_status_text(&next, &message, cx.timings().act + cx.timings().show)
            .await,
    );
    let unchanged = cx.consistently(
        Duration::from_secs(5),
        "4 workloads of revision 1 run",
        || {
            let count = running_of_revision(cx, 1).len();
            std::future::ready(if count == 4 {
                Ok(())
            } else {
                Err(format!("{count} run"))
            })
        },
    );
    cx.claim(SCHED_ROLL_005).met(unchanged.await);
    Ok(())
}

/// Rolls out two broken templates in succession, and checks that the replicas of the first template
/// keep running, and that a working template is then rolled out.
async fn two_failing_revisions(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let set = deploy_slowly(cx, &hosts, 4).await?;
    for revision in [2, 3] {
        break_revision(cx, &hosts, revision);
        cx.submit(&set.clone().image(&cx.image("app", revision)))
            .await?;
        let image = cx.image("app", revision);
        let tried = cx.eventually(cx.timings().act, "the revision is tried", || {
            let tried = !cx.journal().started_ids_containing(&image).is_empty();
            std::future::ready(if tried {
                Ok(())
            } else {
                Err("no start".to_owned())
            })
        });
        tried.await.or_blocked(cx, SCHED_ROLL_001)?;
    }
    let unchanged = cx.consistently(
        Duration::from_secs(4),
        "4 workloads of revision 1 run",
        || {
            let count = running_of_revision(cx, 1).len();
            std::future::ready(if count == 4 {
                Ok(())
            } else {
                Err(format!("{count} run"))
            })
        },
    );
    cx.claim(SCHED_ROLL_007).met(unchanged.await);
    cx.submit(&set.image(&cx.image("app", 4))).await?;
    cx.claim(SCHED_ROLL_008)
        .met(wait_for_rollout(cx, 4, 4).await);
    let earlier = cx.starts_of("app").len();
    let another = cx.never(Duration::from_secs(2), "another start", || {
        let starts = cx.starts_of("app").len();
        (starts > earlier).then(|| format!("{} more", starts - earlier))
    });
    cx.claim(SCHED_ROLL_008).met(another.await);
    Ok(())
}

/// Rolls out a second template, and checks that a return to the first one is rolled out as well.
async fn rollback(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let set = deploy_slowly(cx, &hosts, 4).await?;
    cx.submit(&set.clone().image(&cx.image("app", 2))).await?;
    wait_for_rollout(cx, 2, 4)
        .await
        .or_blocked(cx, SCHED_ROLL_001)?;
    cx.submit(&set).await?;
    cx.claim(SCHED_ROLL_009)
        .met(wait_for_rollout(cx, 1, 4).await);
    Ok(())
}

/// Changes the template under the policy Recreate, and checks that no new replica starts before the
/// old replicas have ended.
async fn recreate(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let set = cx
        .deployment("app", 3)
        .with("/spec/deployPolicy", json!("Recreate"));
    cx.submit(&set).await?;
    let running = cx.require_running("app", 3, SCHED_SCALE_001).await?;
    for host in &hosts {
        // With ignored stops, the old workloads keep running until the stops are repeated.
        host.add_rule(CommandRule::on("workload.stop", Reaction::Ignore).times(2));
    }
    cx.submit(&set.image(&cx.image("app", 2))).await?;
    cx.claim(SCHED_ROLL_010)
        .met(wait_for_rollout(cx, 2, 3).await);
    let old = workload_ids(&running);
    let entries = cx.journal().entries();
    let new_start = entries.iter().find(|entry| {
        entry
            .command("workload.start")
            .is_some_and(|start| !old.contains(&start.id))
    });
    let last_end = entries
        .iter()
        .rfind(|entry| matches!(&entry.kind, EventKind::WorkloadEnded(id) if old.contains(id)));
    if let (Some(start), Some(end)) = (new_start, last_end) {
        let held = start.at >= end.at;
        cx.claim(SCHED_ROLL_010).holds(
            "the new template starts after the end of the old one",
            held,
            || {
                format!(
                    "the new template starts {:.0} ms earlier",
                    end.at.duration_since(start.at).as_secs_f64() * 1000.0
                )
            },
        );
    }
    Ok(())
}

/// Minimum duration of a fence.
const FENCE_MIN: Duration = Duration::from_secs(10);

/// A host disconnects. With the policy Recreate, its workload must not be replaced before the fence
/// has passed.
async fn fence(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let set = cx
        .deployment("app", 1)
        .with("/spec/deployPolicy", json!("Recreate"));
    cx.submit(&set).await?;
    let running = cx.require_running("app", 1, SCHED_SCALE_001).await?;
    let Some(workload) = running.first() else {
        return Ok(());
    };
    let Some(host) = hosts.iter().find(|host| host.id() == workload.host.id()) else {
        return Ok(());
    };
    let disconnected_at = Instant::now();
    host.disconnect();
    let early = cx.never(
        FENCE_MIN - Duration::from_secs(1),
        "a replacement before the end of the fence",
        || {
            let ids = cx.started_ids("app");
            (ids.len() > 1).then(|| format!("{ids:?}"))
        },
    );
    cx.claim(SCHED_ROLL_011).met(early.await);
    let limit = cx.timings().fence + cx.timings().notice + cx.timings().act;
    let remaining = limit.saturating_sub(disconnected_at.elapsed());
    let replaced = cx.wait_for_running("app", 1, remaining).await;
    cx.claim(SCHED_ROLL_011).met(replaced);
    Ok(())
}

/// Submits a deployment with an unknown policy, and checks that it is not started.
async fn unknown_policy(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let set = cx
        .deployment("app", 2)
        .with("/spec/deployPolicy", json!("BlueGreen"));
    // The intake may refuse the manifest.
    let _ = cx.try_submit(&set).await;
    cx.assert_no_start(SCHED_ROLL_012, "app").await;
    Ok(())
}

/// Changes the number of replicas during a rollout, and checks that the rollout ends with the new
/// number, all of the new template.
async fn scaled_during_rollout(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let set = deploy_slowly(cx, &hosts, 4).await?;
    let next = set.image(&cx.image("app", 2));
    cx.submit(&next).await?;
    let image = cx.image("app", 2);
    let in_progress = cx.eventually(cx.timings().act, "the rollout has begun", || {
        let ids: BTreeSet<String> = cx.journal().started_ids_containing(&image);
        std::future::ready(if ids.is_empty() {
            Err("no start".to_owned())
        } else {
            Ok(())
        })
    });
    in_progress.await.or_blocked(cx, SCHED_ROLL_001)?;
    cx.submit(&next.replicas(6)).await?;
    cx.claim(SCHED_ROLL_013)
        .met(wait_for_rollout(cx, 2, 6).await);
    Ok(())
}

/// Kills and relaunches the scheduler during a rollout, and checks that it finishes the rollout and
/// leaves no other replica.
async fn scheduler_killed(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<3>().await?;
    let set = deploy_slowly(cx, &hosts, 6).await?;
    cx.submit(&set.image(&cx.image("app", 2))).await?;
    let image = cx.image("app", 2);
    let in_progress = cx.eventually(cx.timings().act, "the rollout has begun", || {
        let ids: BTreeSet<String> = cx.journal().started_ids_containing(&image);
        std::future::ready(if ids.is_empty() {
            Err("no start".to_owned())
        } else {
            Ok(())
        })
    });
    in_progress.await.or_blocked(cx, SCHED_ROLL_001)?;
    cx.scheduler().kill().await;
    cx.scheduler()
        .launch()
        .map_err(|error| Blocked::harness_error("cannot launch the scheduler", &error))?;
    cx.claim(SCHED_ROLL_014)
        .met(wait_for_rollout(cx, 2, 6).await);
    let unchanged = cx.consistently(Duration::from_secs(2), "exactly 6 workloads run", || {
        let running = cx.running_anywhere("app").len();
        std::future::ready(if running == 6 {
            Ok(())
        } else {
            Err(format!("{running} run"))
        })
    });
    cx.claim(SCHED_ROLL_014).met(unchanged.await);
    Ok(())
}

/// A working template replaces a template whose workloads fail to start.
async fn fix_after_failure(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let set = deploy_slowly(cx, &hosts, 3).await?;
    break_revision(cx, &hosts, 2);
    let failing = cx.image("app", 2);
    cx.submit(&set.clone().image(&failing)).await?;
    let tried = cx.eventually(cx.timings().act, "the failing template is tried", || {
        let mut starts = cx.starts_of("app").into_iter();
        let tried = starts.any(|(_, start)| contains(&start.payload, &failing));
        std::future::ready(if tried {
            Ok(())
        } else {
            Err("no start".to_owned())
        })
    });
    tried.await.or_blocked(cx, SCHED_ROLL_001)?;
    cx.submit(&set.image(&cx.image("app", 3))).await?;
    cx.claim(SCHED_ROLL_008)
        .met(wait_for_rollout(cx, 3, 3).await);
    Ok(())
}
