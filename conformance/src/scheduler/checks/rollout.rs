//! Rollouts: from one template to the next.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::check::outcome::{Blocked, Flow};
use crate::check::wait::{ProbeError, Waited};
use crate::scheduler::context::{Placed, ScenarioContext, ids_of};
use crate::scheduler::journal::{EventKind, contains, running_over_time};
use crate::scheduler::manifest::Manifest;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{Act, Rule, SimulatedHost};
use crate::scheduler::timings::Timings;
use crate::spec::requirements::*;

/// The section.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "roll/replaces", run: replaces,
        covers: [SCHED_ROLL_001, SCHED_ROLL_002, SCHED_ROLL_003, SCHED_ROLL_004],
        isolation: Shared, budget_s: 90,
    },
    scenario! {
        id: "roll/bad", run: bad, covers: [SCHED_ROLL_005, SCHED_ROLL_006], isolation: Shared,
        budget_s: 90,
    },
    scenario! {
        id: "roll/bad-twice", run: bad_twice, covers: [SCHED_ROLL_007, SCHED_ROLL_008],
        isolation: Shared, budget_s: 120,
    },
    scenario! {
        id: "roll/back", run: back, covers: [SCHED_ROLL_009], isolation: Shared, budget_s: 120,
    },
    scenario! {
        id: "roll/recreate", run: recreate, covers: [SCHED_ROLL_010], isolation: Shared,
        budget_s: 90,
    },
    scenario! {
        id: "roll/fence", run: fence, covers: [SCHED_ROLL_011], isolation: Shared,
        waits: |timings| timings.fence, budget_s: 200,
    },
    scenario! {
        id: "roll/unknown-policy", run: unknown_policy, covers: [SCHED_ROLL_012],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "roll/scaled", run: scaled, covers: [SCHED_ROLL_013], isolation: Shared,
        budget_s: 120,
    },
    scenario! {
        id: "roll/scheduler-killed", run: scheduler_killed, covers: [SCHED_ROLL_014],
        isolation: Own, needs: [Process], budget_s: 120,
    },
    scenario! {
        id: "roll/good-after-bad", run: good_after_bad, covers: [SCHED_ROLL_008],
        isolation: Shared, budget_s: 120,
    },
];

/// How long a rollout may stand still: what a batch needs at most. A new one is started, seen to be ready, an old one
/// stopped and seen gone, by a scheduler that may have been launched only now.
fn standstill(timings: &Timings) -> Duration {
    timings.reconnect + timings.act + timings.poll + timings.act + timings.resend
}

/// What runs of one revision of the app.
fn of_revision(cx: &ScenarioContext, revision: u32) -> Vec<Placed> {
    let image = cx.image("app", revision);
    let is = |placed: &Placed| {
        let workloads = placed.host.workloads();
        let request = workloads
            .get(&placed.id)
            .map(|workload| workload.request.to_string());
        request.is_some_and(|request| request.contains(&format!("{image}\"")))
    };
    cx.running("app").into_iter().filter(is).collect()
}

/// Waits until exactly so many of a revision run, and nothing of another; no longer than the rollout goes on.
pub(super) async fn rolled(cx: &ScenarioContext, revision: u32, count: usize) -> Waited<()> {
    let what = format!("{count} of revision {revision} run, and nothing else");
    let pause = standstill(cx.timings()) + cx.patience();
    let from = Instant::now();
    let batches = u32::try_from(count).unwrap_or(u32::MAX);
    cx.look(pause * batches, &what, || {
        let (right, all) = (of_revision(cx, revision).len(), cx.running("app").len());
        let entries = cx.journal().entries();
        let moved = entries
            .iter()
            .rfind(|entry| matches!(entry.what, EventKind::Ran(_) | EventKind::Ended(_)));
        let moved = moved.map_or(from, |entry| entry.at.max(from));
        let seen = format!("{right} of it run, of {all}");
        std::future::ready(match right == count && all == count {
            true => Ok(()),
            false if moved.elapsed() > pause => Err(ProbeError::Unreachable(seen)),
            false => Err(ProbeError::Pending(seen)),
        })
    })
    .await
}

/// A start of this revision fails everywhere.
fn break_revision(cx: &ScenarioContext, hosts: &[SimulatedHost], revision: u32) -> String {
    let message = format!("no such image: revision {revision} of {}", cx.group());
    for host in hosts {
        let act = Act::Fail {
            message: message.clone(),
            known: false,
        };
        host.script(Rule::on("workload.start", act).containing(&cx.image("app", revision)));
    }
    message
}

async fn deployed(
    cx: &ScenarioContext,
    hosts: &[SimulatedHost],
    replicas: usize,
) -> Result<Manifest, Blocked> {
    for host in hosts {
        host.script(Rule::on(
            "workload.start",
            Act::After(Duration::from_millis(250)),
        ));
    }
    let (set, _) = cx.deployed("app", replicas, SCHED_SCALE_001).await?;
    cx.says_ready(&set, true, cx.timings().show)
        .await
        .or_blocked(cx, SCHED_CRD_011)?;
    Ok(set)
}

async fn replaces(cx: &ScenarioContext) -> Flow {
    let hosts = cx.hosts::<3>().await?;
    let set = deployed(cx, &hosts, 6).await?;
    let from = Instant::now();
    cx.submit(&set.image(&cx.image("app", 2))).await?;
    cx.claim(SCHED_ROLL_001).met(rolled(cx, 2, 6).await);
    let ids = cx.ids_of("app");
    let entries = cx.journal().entries();
    let running = running_over_time(&entries, |id| ids.contains(id));
    let least = running
        .iter()
        .filter(|(at, _)| *at > from)
        .map(|(_, count)| *count)
        .min()
        .unwrap_or(6);
    cx.claim(SCHED_ROLL_002)
        .holds("6 run at every moment", least >= 6, || {
            format!("{least} ran at one time")
        });
    let most = cx.most_wanted("app");
    cx.claim(SCHED_ROLL_003)
        .holds("at most 6 and a surge of 6 wanted ids", most <= 12, || {
            format!("{most} at once")
        });
    cx.claim(SCHED_ROLL_004)
        .holds("a surge of at most 2", most <= 8, || {
            format!("{} more than 6", most - 6)
        });
    Ok(())
}

async fn bad(cx: &ScenarioContext) -> Flow {
    let hosts = cx.hosts::<2>().await?;
    let set = deployed(cx, &hosts, 4).await?;
    let message = break_revision(cx, &hosts, 2);
    let next = set.image(&cx.image("app", 2));
    cx.submit(&next).await?;
    let held = cx.says_ready(&next, false, cx.timings().show).await;
    cx.claim(SCHED_ROLL_006).met(held);
    cx.claim(SCHED_ROLL_006).met(
        cx.tells(&next, &message, cx.timings().act + cx.timings().show)
            .await,
    );
    let serving = cx.consistently(Duration::from_secs(5), "4 of revision 1 run on", || {
        let count = of_revision(cx, 1).len();
        std::future::ready(if count == 4 {
            Ok(())
        } else {
            Err(format!("{count} run"))
        })
    });
    cx.claim(SCHED_ROLL_005).met(serving.await);
    Ok(())
}

async fn bad_twice(cx: &ScenarioContext) -> Flow {
    let hosts = cx.hosts::<2>().await?;
    let set = deployed(cx, &hosts, 4).await?;
    for revision in [2, 3] {
        break_revision(cx, &hosts, revision);
        cx.submit(&set.clone().image(&cx.image("app", revision)))
            .await?;
        let image = cx.image("app", revision);
        let tried = cx.eventually(cx.timings().act, "the revision is tried", || {
            let tried = !cx.journal().ids_of(&image).is_empty();
            std::future::ready(if tried {
                Ok(())
            } else {
                Err("no start".to_owned())
            })
        });
        tried.await.or_blocked(cx, SCHED_ROLL_001)?;
    }
    let serving = cx.consistently(Duration::from_secs(4), "4 of revision 1 run on", || {
        let count = of_revision(cx, 1).len();
        std::future::ready(if count == 4 {
            Ok(())
        } else {
            Err(format!("{count} run"))
        })
    });
    cx.claim(SCHED_ROLL_007).met(serving.await);
    cx.submit(&set.image(&cx.image("app", 4))).await?;
    cx.claim(SCHED_ROLL_008).met(rolled(cx, 4, 4).await);
    let tried = cx.starts_of("app").len();
    let more = cx.never(Duration::from_secs(2), "another start", || {
        let starts = cx.starts_of("app").len();
        (starts > tried).then(|| format!("{} more", starts - tried))
    });
    cx.claim(SCHED_ROLL_008).met(more.await);
    Ok(())
}

async fn back(cx: &ScenarioContext) -> Flow {
    let hosts = cx.hosts::<2>().await?;
    let set = deployed(cx, &hosts, 4).await?;
    cx.submit(&set.clone().image(&cx.image("app", 2))).await?;
    rolled(cx, 2, 4).await.or_blocked(cx, SCHED_ROLL_001)?;
    cx.submit(&set).await?;
    cx.claim(SCHED_ROLL_009).met(rolled(cx, 1, 4).await);
    Ok(())
}

async fn recreate(cx: &ScenarioContext) -> Flow {
    let hosts = cx.hosts::<2>().await?;
    let set = cx
        .deployment("app", 3)
        .with("/spec/deployPolicy", json!("Recreate"));
    cx.submit(&set).await?;
    let placed = cx.placed("app", 3, SCHED_SCALE_001).await?;
    for host in &hosts {
        // They do not end at once.
        host.script(Rule::on("workload.stop", Act::Ignore).times(2));
    }
    cx.submit(&set.image(&cx.image("app", 2))).await?;
    cx.claim(SCHED_ROLL_010).met(rolled(cx, 2, 3).await);
    let old = ids_of(&placed);
    let entries = cx.journal().entries();
    let new_start = entries.iter().find(|entry| {
        entry
            .command("workload.start")
            .is_some_and(|came| !old.contains(&came.id))
    });
    let last_end = entries
        .iter()
        .rfind(|entry| matches!(&entry.what, EventKind::Ended(id) if old.contains(id)));
    if let (Some(start), Some(end)) = (new_start, last_end) {
        let held = start.at >= end.at;
        cx.claim(SCHED_ROLL_010).holds(
            "the new template starts when the old one has ended",
            held,
            || {
                format!(
                    "it starts {:.0} ms before that",
                    end.at.duration_since(start.at).as_secs_f64() * 1000.0
                )
            },
        );
    }
    Ok(())
}

/// The least that a fence may be.
const FENCE_MIN: Duration = Duration::from_secs(10);

async fn fence(cx: &ScenarioContext) -> Flow {
    let hosts = cx.hosts::<2>().await?;
    let set = cx
        .deployment("app", 1)
        .with("/spec/deployPolicy", json!("Recreate"));
    cx.submit(&set).await?;
    let placed = cx.placed("app", 1, SCHED_SCALE_001).await?;
    let Some(placed) = placed.first() else {
        return Ok(());
    };
    let Some(host) = hosts.iter().find(|host| host.id() == placed.host.id()) else {
        return Ok(());
    };
    let heard = Instant::now();
    host.cut_off();
    let early = cx.never(
        FENCE_MIN - Duration::from_secs(1),
        "a replacement within the fence",
        || {
            let ids = cx.ids_of("app");
            (ids.len() > 1).then(|| format!("{ids:?}"))
        },
    );
    cx.claim(SCHED_ROLL_011).met(early.await);
    let left = (cx.timings().fence + cx.timings().notice + cx.timings().act)
        .saturating_sub(heard.elapsed());
    let replaced = cx.runs("app", 1, left).await;
    cx.claim(SCHED_ROLL_011).met(replaced);
    Ok(())
}

async fn unknown_policy(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    let set = cx
        .deployment("app", 2)
        .with("/spec/deployPolicy", json!("BlueGreen"));
    // A refusal at the intake is right, too.
    let _ = cx.try_submit(&set).await;
    cx.no_start(SCHED_ROLL_012, "app").await;
    Ok(())
}

async fn scaled(cx: &ScenarioContext) -> Flow {
    let hosts = cx.hosts::<2>().await?;
    let set = deployed(cx, &hosts, 4).await?;
    let next = set.image(&cx.image("app", 2));
    cx.submit(&next).await?;
    let image = cx.image("app", 2);
    let under_way = cx.eventually(cx.timings().act, "the rollout is under way", || {
        let ids: BTreeSet<String> = cx.journal().ids_of(&image);
        std::future::ready(if ids.is_empty() {
            Err("no start".to_owned())
        } else {
            Ok(())
        })
    });
    under_way.await.or_blocked(cx, SCHED_ROLL_001)?;
    cx.submit(&next.replicas(6)).await?;
    cx.claim(SCHED_ROLL_013).met(rolled(cx, 2, 6).await);
    Ok(())
}

async fn scheduler_killed(cx: &ScenarioContext) -> Flow {
    let hosts = cx.hosts::<3>().await?;
    let set = deployed(cx, &hosts, 6).await?;
    cx.submit(&set.image(&cx.image("app", 2))).await?;
    let image = cx.image("app", 2);
    let under_way = cx.eventually(cx.timings().act, "the rollout is under way", || {
        let ids: BTreeSet<String> = cx.journal().ids_of(&image);
        std::future::ready(if ids.is_empty() {
            Err("no start".to_owned())
        } else {
            Ok(())
        })
    });
    under_way.await.or_blocked(cx, SCHED_ROLL_001)?;
    cx.live().kill().await;
    cx.live()
        .launch()
        .map_err(|cause| Blocked::chain("the scheduler", &cause))?;
    cx.claim(SCHED_ROLL_014).met(rolled(cx, 2, 6).await);
    let stays = cx.consistently(Duration::from_secs(2), "exactly these run", || {
        let running = cx.running_anywhere("app").len();
        std::future::ready(if running == 6 {
            Ok(())
        } else {
            Err(format!("{running} run"))
        })
    });
    cx.claim(SCHED_ROLL_014).met(stays.await);
    Ok(())
}

/// A good template is the way out of a bad one.
async fn good_after_bad(cx: &ScenarioContext) -> Flow {
    let hosts = cx.hosts::<2>().await?;
    let set = deployed(cx, &hosts, 3).await?;
    break_revision(cx, &hosts, 2);
    let bad = cx.image("app", 2);
    cx.submit(&set.clone().image(&bad)).await?;
    let tried = cx.eventually(cx.timings().act, "the bad template is tried", || {
        let mut starts = cx.starts_of("app").into_iter();
        let tried = starts.any(|(_, came)| contains(&came.payload, &bad));
        std::future::ready(if tried {
            Ok(())
        } else {
            Err("it is not".to_owned())
        })
    });
    tried.await.or_blocked(cx, SCHED_ROLL_001)?;
    cx.submit(&set.image(&cx.image("app", 3))).await?;
    cx.claim(SCHED_ROLL_008).met(rolled(cx, 3, 3).await);
    Ok(())
}
