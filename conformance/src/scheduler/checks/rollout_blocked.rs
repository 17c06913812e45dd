//! Rollouts of templates whose replicas do not become ready.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::rollout::{deploy_slowly, running_of_revision, wait_for_rollout, wait_until_tried};
use crate::check::outcome::{Flow, error_chain};
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::journal::contains;
use crate::scheduler::manifest::Manifest;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{CommandRule, Reaction, SimulatedHost};
use crate::spec::requirements::*;
use crate::wire::response::State;

/// Scenarios about blocked rollouts.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "rollout/blocked", run: blocked, covers: [SCHED_ROLL_005, SCHED_ROLL_006],
        isolation: Shared, waits: |timings| timings.poll, budget_s: 180,
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
        id: "rollout/fix-after-failure", run: fix_after_failure, covers: [SCHED_ROLL_008],
        isolation: Shared, budget_s: 120,
    },
    scenario! {
        id: "rollout/surge-of-templates", run: surge_of_templates,
        covers: [SCHED_ROLL_003, SCHED_ROLL_007], isolation: Shared, budget_s: 120,
    },
    scenario! {
        id: "rollout/surge-of-partial-rollout", run: surge_of_partial_rollout,
        covers: [SCHED_ROLL_003, SCHED_ROLL_004], isolation: Shared, budget_s: 120,
    },
    scenario! {
        id: "rollout/restarted-while-blocked", run: restarted_while_blocked,
        covers: [SCHED_ROLL_007], isolation: Own, needs: [Process], budget_s: 120,
    },
];

/// Duration of a start that does not end during the scenario.
const ENDLESS: Duration = Duration::from_secs(300);

/// Makes every start of a revision fail on the hosts. Returns the message of the failures.
fn break_revision(
    cx: &ScenarioContext,
    hosts: &[SimulatedHost],
    app: &str,
    revision: u32,
) -> String {
    let message = format!("no such image: revision {revision} of {}", cx.name(app));
    let reaction = Reaction::Fail {
        message: message.clone(),
        recorded: false,
    };
    react(cx, hosts, app, revision, &reaction);
    message
}

/// Sets the reaction of the hosts to the starts of a revision.
fn react(
    cx: &ScenarioContext,
    hosts: &[SimulatedHost],
    app: &str,
    revision: u32,
    reaction: &Reaction,
) {
    for host in hosts {
        let rule = CommandRule::on("workload.start", reaction.clone());
        host.add_rule(rule.containing(&cx.image(app, revision)));
    }
}

/// Claims that all replicas of the first template keep running for `window`.
async fn assert_first_kept(
    cx: &ScenarioContext,
    requirement: Requirement,
    apps: &[&str],
    replicas: usize,
    window: Duration,
) {
    let description = format!(
        "{replicas} workloads of revision 1 of {} run",
        apps.join(", ")
    );
    let kept = cx.consistently(window, &description, || {
        let mut counts = apps
            .iter()
            .map(|app| (app, running_of_revision(cx, app, 1).len()));
        let wrong = counts.find(|(_, count)| *count != replicas);
        std::future::ready(match wrong {
            None => Ok(()),
            Some((app, count)) => Err(format!("{count} of {app} run")),
        })
    });
    cx.claim(requirement).met(kept.await);
}

/// Number of replicas of a deployment whose rollout is blocked.
const REPLICAS: usize = 3;
/// Time for which a blocked rollout must not proceed. Longer than 10 s, a likely patience of a
/// scheduler that replaces replicas after a while whether the new ones are ready or not.
const BLOCKED_FOR: Duration = Duration::from_secs(13);

/// Rolls out templates whose replicas are refused, stay STARTING, or fit no host. Checks that the
/// old replicas keep running, that the status shows why a rollout is blocked, and that an old
/// replica that fails is replaced.
async fn blocked(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    cx.wait_until_registered().await?;
    let apps = ["refused", "starting", "unplaced"];
    let mut sets = Vec::new();
    for app in apps {
        let (set, _) = cx.deploy(app, REPLICAS, SCHED_SCALE_001).await?;
        cx.wait_for_ready(&set, cx.timings().show)
            .await
            .or_blocked(cx, SCHED_CRD_011)?;
        sets.push(set.image(&cx.image(app, 2)));
    }
    let message = break_revision(cx, &hosts, "refused", 2);
    react(cx, &hosts, "starting", 2, &Reaction::Starting(ENDLESS));
    let [refused, starting, unplaced] = sets.as_slice() else {
        return Ok(());
    };
    let unplaced = unplaced
        .clone()
        .spec("/hostSelector/zone", json!("nowhere"));
    for manifest in [refused, starting, &unplaced] {
        cx.submit(manifest).await?;
    }
    let within = cx.timings().show_after_act();
    for manifest in [refused, &unplaced] {
        cx.claim(SCHED_ROLL_006)
            .met(cx.wait_for_not_ready(manifest, within).await);
    }
    cx.claim(SCHED_ROLL_006)
        .met(cx.wait_for_status_text(refused, &message, within).await);
    assert_reason_shown(cx, &unplaced, starting).await;
    assert_first_kept(cx, SCHED_ROLL_005, &apps, REPLICAS, BLOCKED_FOR).await;
    for app in ["refused", "unplaced"] {
        replace_old_replica(cx, app).await;
    }
    Ok(())
}

/// Claims that the status of a rollout that fits no host shows something that the status of a
/// rollout in progress does not show.
async fn assert_reason_shown(cx: &ScenarioContext, blocked: &Manifest, in_progress: &Manifest) {
    let description = "the message of a rollout that fits no host is not that of one in progress";
    let shown = cx.eventually(cx.timings().show_after_act(), description, || async {
        let usual = messages(cx, in_progress).await?;
        let shown = messages(cx, blocked).await?;
        let is_usual = |message: &String| usual.iter().any(|usual| usual.contains(message));
        if shown.iter().all(is_usual) {
            Err(format!("{shown:?}, and {usual:?} in progress"))
        } else {
            Ok(())
        }
    });
    cx.claim(SCHED_ROLL_006).met(shown.await);
}

/// Returns the messages of all conditions of a deployment and of the objects that were created for
/// it.
async fn messages(cx: &ScenarioContext, manifest: &Manifest) -> Result<BTreeSet<String>, String> {
    let intake = &cx.scheduler().intake;
    let objects = intake.object_and_children(&manifest.key()).await;
    let objects = objects.map_err(|error| error_chain(&error))?;
    let conditions = objects.iter().filter_map(|object| {
        let conditions = object.pointer("/status/conditions")?;
        conditions.as_array()
    });
    let texts = conditions.flatten().filter_map(|condition| {
        let message = condition.get("message").and_then(Value::as_str)?.trim();
        (!message.is_empty()).then(|| message.to_owned())
    });
    Ok(texts.collect())
}

/// Makes a replica of the old template fail, and claims that it is replaced although the rollout is
/// blocked.
async fn replace_old_replica(cx: &ScenarioContext, app: &str) {
    let Some(old) = running_of_revision(cx, app, 1).into_iter().next() else {
        return;
    };
    old.host
        .set_workload_state(&old.id, State::Error, "it failed");
    let description = format!("{REPLICAS} workloads of revision 1 of {app} run again");
    let within = cx.timings().poll + cx.timings().act;
    let replaced = cx.eventually(within, &description, || {
        let count = running_of_revision(cx, app, 1).len();
        std::future::ready(if count == REPLICAS {
            Ok(())
        } else {
            Err(format!("{count} run"))
        })
    });
    cx.claim(SCHED_ROLL_005).met(replaced.await);
}

/// Rolls out a template that fails to start, and checks that the replicas of the old template keep
/// running and that the status shows the failure.
async fn failing_revision(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let set = deploy_slowly(cx, &hosts, 4).await?;
    let message = break_revision(cx, &hosts, "app", 2);
    let next = set.image(&cx.image("app", 2));
    cx.submit(&next).await?;
    let within = cx.timings().show_after_act();
    let not_ready = cx.wait_for_not_ready(&next, within).await;
    cx.claim(SCHED_ROLL_006).met(not_ready);
    cx.claim(SCHED_ROLL_006)
        .met(cx.wait_for_status_text(&next, &message, within).await);
    let window = Duration::from_secs(5);
    assert_first_kept(cx, SCHED_ROLL_005, &["app"], 4, window).await;
    Ok(())
}

/// Rolls out two broken templates in succession, and checks that the replicas of the first template
/// keep running, that a working template is then rolled out, and that no replica of a broken one
/// is started any more.
async fn two_failing_revisions(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let set = deploy_slowly(cx, &hosts, 4).await?;
    for revision in [2, 3] {
        break_revision(cx, &hosts, "app", revision);
        cx.submit(&set.clone().image(&cx.image("app", revision)))
            .await?;
        wait_until_tried(cx, "app", revision).await?;
    }
    let window = Duration::from_secs(4);
    assert_first_kept(cx, SCHED_ROLL_007, &["app"], 4, window).await;
    cx.submit(&set.image(&cx.image("app", 4))).await?;
    cx.claim(SCHED_ROLL_008)
        .met(wait_for_rollout(cx, 4, 4).await);
    let window = Duration::from_secs(2);
    let earlier = cx.starts_of("app").len();
    let another = cx.never(window, "another start", || {
        let starts = cx.starts_of("app").len();
        (starts > earlier).then(|| format!("{} more", starts - earlier))
    });
    cx.claim(SCHED_ROLL_008).met(another.await);
    Ok(())
}

/// Number of starts of a bad template after which the next one is many seconds away.
const FAILED_STARTS: usize = 4;
/// Time for which no replica of a bad template may be started. Longer than most retries that were
/// pending.
const NOT_RETRIED_FOR: Duration = Duration::from_secs(9);

/// A working template replaces a template whose workload fails to start. The retry that is pending
/// must not start the workload later.
async fn fix_after_failure(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let set = deploy_slowly(cx, &hosts, 1).await?;
    break_revision(cx, &hosts, "app", 2);
    let bad = cx.image("app", 2);
    let starts = || {
        let starts = cx.starts_of("app").into_iter();
        starts
            .filter(|(_, start)| contains(&start.payload, &bad))
            .count()
    };
    cx.submit(&set.clone().image(&bad)).await?;
    wait_until_tried(cx, "app", 2).await?;
    let backed_off = cx.eventually(Duration::from_secs(10), "several retries", || {
        let count = starts();
        std::future::ready(if count >= FAILED_STARTS {
            Ok(())
        } else {
            Err(format!("{count} starts"))
        })
    });
    // A scheduler that retries more slowly is judged all the same.
    let _ = backed_off.await;
    cx.submit(&set.image(&cx.image("app", 3))).await?;
    cx.claim(SCHED_ROLL_008)
        .met(wait_for_rollout(cx, 3, 1).await);
    let earlier = starts();
    let another = cx.never(NOT_RETRIED_FOR, "a start of the bad template", || {
        let count = starts();
        (count > earlier).then(|| format!("{} more", count - earlier))
    });
    cx.claim(SCHED_ROLL_008).met(another.await);
    Ok(())
}

/// Changes the template of one replica several times, each time before the new replica is ready.
/// Checks that the surge counts for all templates together, and that the first replica keeps
/// running.
async fn surge_of_templates(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let set = deploy_slowly(cx, &hosts, 1).await?;
    for revision in [2, 3, 4] {
        react(cx, &hosts, "app", revision, &Reaction::Starting(ENDLESS));
        cx.submit(&set.clone().image(&cx.image("app", revision)))
            .await?;
        wait_until_tried(cx, "app", revision).await?;
    }
    let window = Duration::from_secs(1);
    assert_first_kept(cx, SCHED_ROLL_007, &["app"], 1, window).await;
    // A replica is unwanted before the scheduler sends its stop, so only the final number counts.
    let description = "at most 2 ids are wanted: 1 replica and a surge of 1";
    let settled = cx.eventually(cx.timings().act, description, || {
        let wanted = cx.wanted_ids("app");
        let is_settled = wanted <= 2;
        std::future::ready(
            is_settled
                .then_some(())
                .ok_or(format!("{wanted} are wanted")),
        )
    });
    cx.claim(SCHED_ROLL_003).met(settled.await);
    Ok(())
}

/// Changes the template again when a rollout is blocked after some replicas of the new template
/// have become ready. Checks that the surge counts for all templates together.
async fn surge_of_partial_rollout(cx: &ScenarioContext) -> Flow {
    let replicas = 4;
    let hosts = cx.start_hosts::<2>().await?;
    cx.wait_until_registered().await?;
    let set = deploy_slowly(cx, &hosts, replicas).await?;
    for host in &hosts {
        let endless = CommandRule::on("workload.start", Reaction::Starting(ENDLESS));
        let second = endless.clone().containing(&cx.image("app", 2));
        host.add_rule(second.skip_first(1));
        host.add_rule(endless.containing(&cx.image("app", 3)));
    }
    cx.submit(&set.clone().image(&cx.image("app", 2))).await?;
    let within = 2 * (cx.timings().act + cx.timings().poll);
    let partial = cx.eventually(
        within,
        "some replicas of revision 2 run, one starts",
        || {
            let started = cx.journal().started_ids_containing(&cx.image("app", 2));
            let running = running_of_revision(cx, "app", 2).len();
            std::future::ready(if running > 0 && started.len() > running {
                Ok(())
            } else {
                Err(format!("{running} of {} run", started.len()))
            })
        },
    );
    partial.await.or_blocked(cx, SCHED_ROLL_001)?;
    cx.submit(&set.image(&cx.image("app", 3))).await?;
    wait_until_tried(cx, "app", 3).await?;
    cx.wait(Duration::from_secs(2)).await;
    let max = cx.max_wanted_ids("app");
    cx.claim(SCHED_ROLL_003).holds(
        "at most 4 replicas and a surge of 4 are wanted",
        max <= 2 * replicas,
        || format!("up to {max} were wanted"),
    );
    cx.claim(SCHED_ROLL_004)
        .holds("the surge is at most 1", max <= replicas + 1, || {
            format!("the surge was {}", max - replicas)
        });
    Ok(())
}

/// Kills and relaunches the scheduler while a rollout is blocked, and submits another broken
/// template. Checks that the replicas of the last good template keep running.
async fn restarted_while_blocked(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    cx.wait_until_registered().await?;
    let set = deploy_slowly(cx, &hosts, 2).await?;
    for revision in [2, 3] {
        break_revision(cx, &hosts, "app", revision);
    }
    cx.submit(&set.clone().image(&cx.image("app", 2))).await?;
    wait_until_tried(cx, "app", 2).await?;
    cx.kill_scheduler().await;
    cx.launch_scheduler()?;
    let window = cx.timings().reconnect.min(Duration::from_secs(5));
    assert_first_kept(cx, SCHED_ROLL_007, &["app"], 2, window).await;
    cx.submit(&set.image(&cx.image("app", 3))).await?;
    wait_until_tried(cx, "app", 3).await?;
    let window = Duration::from_secs(3);
    assert_first_kept(cx, SCHED_ROLL_007, &["app"], 2, window).await;
    Ok(())
}
