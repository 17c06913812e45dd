//! Rollouts under the policy Recreate: no replica of the new template overlaps with one of an old
//! template.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::rollout::{wait_for_rollout, wait_until_tried};
use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::journal::{Entry, EventKind, contains};
use crate::scheduler::manifest::Manifest;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{CommandRule, Reaction, SimulatedHost};
use crate::spec::requirements::*;

/// Scenarios about the policy Recreate.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "rollout/recreate", run: recreate, covers: [SCHED_ROLL_010], isolation: Shared,
        budget_s: 90,
    },
    scenario! {
        id: "rollout/recreate-twice", run: recreate_twice, covers: [SCHED_ROLL_010],
        isolation: Shared, budget_s: 120,
    },
    scenario! {
        id: "rollout/recreate-unanswered", run: recreate_unanswered, covers: [SCHED_ROLL_010],
        isolation: Shared, budget_s: 120,
    },
    scenario! {
        id: "rollout/fence", run: fence, covers: [SCHED_ROLL_011], isolation: Shared,
        waits: |timings| timings.fence, budget_s: 200,
    },
    scenario! {
        id: "rollout/fence-after-replies", run: fence_after_replies, covers: [SCHED_ROLL_011],
        isolation: Shared, waits: |timings| timings.fence, budget_s: 200,
    },
    scenario! {
        id: "rollout/fence-over-restart", run: fence_over_restart, covers: [SCHED_ROLL_011],
        isolation: Own, needs: [Process], waits: |timings| timings.fence, budget_s: 200,
    },
];

/// Returns a deployment with the policy Recreate.
fn recreated(cx: &ScenarioContext, replicas: i64) -> Manifest {
    cx.deployment("app", replicas)
        .with("/spec/deployPolicy", json!("Recreate"))
}

/// Claims that no workload of the app was started before the workloads of all other templates had
/// ended.
fn assert_no_overlap(cx: &ScenarioContext) {
    let images = [1, 2, 3].map(|revision| cx.image("app", revision));
    let overlap = find_overlap(&cx.journal().entries(), &images);
    cx.claim(SCHED_ROLL_010).holds(
        "a template is started after the end of all workloads of the others",
        overlap.is_none(),
        || overlap.unwrap_or_default(),
    );
}

/// Returns a description of the first start of a template while an id of another template had been
/// started and had not ended. `images` are the images of the templates. Pure.
fn find_overlap(entries: &[Entry], images: &[String]) -> Option<String> {
    let mut started: BTreeMap<&str, &String> = BTreeMap::new();
    for entry in entries {
        if let EventKind::WorkloadEnded(id) = &entry.kind {
            started.remove(&**id);
        }
        let Some(start) = entry.command("workload.start") else {
            continue;
        };
        let mut images = images.iter();
        let image = images.find(|image| contains(&start.payload, &format!("{image}\"")));
        let Some(image) = image else { continue };
        if let Some((id, other)) = started.iter().find(|(_, other)| **other != image) {
            let new = &start.id;
            return Some(format!(
                "{new} with {image} is started before the end of {id} with {other}"
            ));
        }
        started.insert(&start.id, image);
    }
    None
}

/// Changes the template under the policy Recreate, and checks that no new replica starts before the
/// old replicas have ended.
async fn recreate(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let set = recreated(cx, 3);
    cx.submit(&set).await?;
    cx.require_running("app", 3, SCHED_SCALE_001).await?;
    for host in &hosts {
        // With ignored stops, the old workloads keep running until the stops are repeated.
        host.add_rule(CommandRule::on("workload.stop", Reaction::Ignore).times(2));
    }
    cx.submit(&set.image(&cx.image("app", 2))).await?;
    cx.claim(SCHED_ROLL_010)
        .met(wait_for_rollout(cx, 2, 3).await);
    assert_no_overlap(cx);
    Ok(())
}

/// Changes the template twice while the replicas of the first template are STOPPING, those on one
/// host longer than those on the other. Checks that no new replica starts before all have ended.
async fn recreate_twice(cx: &ScenarioContext) -> Flow {
    let [a, b] = cx.start_hosts::<2>().await?;
    cx.wait_until_registered().await?;
    let set = recreated(cx, 4);
    cx.submit(&set).await?;
    cx.require_running("app", 4, SCHED_SCALE_001).await?;
    for (host, duration_s) in [(&a, 3), (&b, 5)] {
        let slowly = Reaction::Stopping(Duration::from_secs(duration_s));
        host.add_rule(CommandRule::on("workload.stop", slowly));
    }
    cx.submit(&set.clone().image(&cx.image("app", 2))).await?;
    let stopping = cx.eventually(cx.timings().act, "the replicas are stopped", || {
        let count = cx.journal().stops().len();
        std::future::ready(if count >= 4 {
            Ok(())
        } else {
            Err(format!("{count} stops"))
        })
    });
    stopping.await.or_blocked(cx, SCHED_ROLL_010)?;
    cx.submit(&set.image(&cx.image("app", 3))).await?;
    cx.claim(SCHED_ROLL_010)
        .met(wait_for_rollout(cx, 3, 4).await);
    assert_no_overlap(cx);
    Ok(())
}

/// Changes the template while the starts of the first template are unanswered, and checks that no
/// new replica starts before the workloads of these starts have ended.
async fn recreate_unanswered(cx: &ScenarioContext) -> Flow {
    for host in cx.start_hosts::<2>().await? {
        let unanswered = CommandRule::on("workload.start", Reaction::DropReply);
        host.add_rule(unanswered.containing(&cx.image("app", 1)));
        let slowly = Reaction::Stopping(Duration::from_secs(3));
        host.add_rule(CommandRule::on("workload.stop", slowly));
    }
    let set = recreated(cx, 2);
    cx.submit(&set).await?;
    cx.wait_for_ids("app", 2, cx.timings().act)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    cx.submit(&set.image(&cx.image("app", 2))).await?;
    wait_until_tried(cx, "app", 2).await?;
    cx.claim(SCHED_ROLL_010)
        .met(wait_for_rollout(cx, 2, 2).await);
    assert_no_overlap(cx);
    Ok(())
}

/// Minimum duration of a fence.
const FENCE_MIN: Duration = Duration::from_secs(10);
/// Time by which a replacement may come early, because the scheduler does not learn of a sign at
/// the moment in which the host sends it.
const TOLERANCE: Duration = Duration::from_secs(1);

/// Deploys one replica under the policy Recreate. Returns its manifest and its host.
async fn deploy_fenced(
    cx: &ScenarioContext,
    hosts: &[SimulatedHost],
) -> Result<(Manifest, SimulatedHost), Blocked> {
    let set = recreated(cx, 1);
    cx.submit(&set).await?;
    let within = cx.timings().act + cx.timings().reconnect;
    let running = cx.wait_for_running("app", 1, within).await;
    let running = running.or_blocked(cx, SCHED_SCALE_001)?;
    let id = running.first().map(|workload| workload.host.id());
    let host = hosts.iter().find(|host| Some(host.id()) == id);
    let host = host.ok_or_else(|| Blocked::Harness("no host runs the replica".to_owned()))?;
    Ok((set, host.clone()))
}

/// Claims that the replica of a host whose last sign was at `last_sign` is replaced when the fence
/// has passed, and not earlier.
async fn assert_fenced(cx: &ScenarioContext, last_sign: Instant) {
    let fenced_for = (FENCE_MIN - TOLERANCE).saturating_sub(last_sign.elapsed());
    let early = "a replacement before the end of the fence";
    let early = cx.never(fenced_for, early, || {
        let ids = cx.started_ids("app");
        (ids.len() > 1).then(|| format!("{ids:?}"))
    });
    cx.claim(SCHED_ROLL_011).met(early.await);
    let limit = cx.timings().fence + cx.timings().notice + cx.timings().act;
    let remaining = limit.saturating_sub(last_sign.elapsed());
    let replaced = cx.wait_for_running("app", 1, remaining).await;
    cx.claim(SCHED_ROLL_011).met(replaced);
}

/// A host disconnects. With the policy Recreate, its workload must not be replaced before the fence
/// has passed.
async fn fence(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let (_, host) = deploy_fenced(cx, &hosts).await?;
    let disconnected_at = Instant::now();
    host.disconnect();
    assert_fenced(cx, disconnected_at).await;
    Ok(())
}

/// Duration for which a host replies to requests and sends no heartbeats.
const WITHOUT_HEARTBEATS: Duration = Duration::from_secs(7);

/// A host sends no heartbeats for a while, but replies to requests, and then disconnects. The fence
/// must begin with its last reply.
async fn fence_after_replies(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let (_, host) = deploy_fenced(cx, &hosts).await?;
    host.pause_heartbeats();
    let paused_at = Instant::now();
    cx.wait(WITHOUT_HEARTBEATS).await;
    let name = host.name();
    let replies = cx.journal().since(paused_at).into_iter();
    let last_reply = replies
        .filter(|entry| entry.host == name && matches!(entry.kind, EventKind::Replied(..)))
        .map(|entry| entry.at)
        .max();
    host.disconnect();
    // Without a request, the last sign is the last heartbeat.
    let interval = cx.timings().heartbeat_interval();
    let last_heartbeat = paused_at.checked_sub(interval).unwrap_or(paused_at);
    assert_fenced(cx, last_reply.unwrap_or(last_heartbeat)).await;
    Ok(())
}

/// Kills and relaunches the scheduler when it has lost a host, and checks that the fence still
/// holds.
async fn fence_over_restart(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let (set, host) = deploy_fenced(cx, &hosts).await?;
    cx.wait_for_ready(&set, cx.timings().show)
        .await
        .or_blocked(cx, SCHED_CRD_011)?;
    let disconnected_at = Instant::now();
    host.disconnect();
    let lost = cx.wait_for_not_ready(&set, FENCE_MIN - 2 * TOLERANCE).await;
    // A scheduler that shows the loss later is restarted too late for this scenario.
    if lost.is_met() {
        cx.kill_scheduler().await;
        cx.launch_scheduler()?;
    }
    assert_fenced(cx, disconnected_at).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::scheduler::journal::{Journal, ReceivedCommand};
    use crate::wire::response::Headers;

    fn start(id: &str, image: &str) -> EventKind {
        EventKind::ReceivedCommand(ReceivedCommand {
            command: "workload.start".to_owned(),
            id: id.to_owned(),
            payload: Bytes::from(format!("{{\"image\":\"{image}\"}}")),
            json: None,
            reply: None,
            headers: Headers::none(),
        })
    }

    #[test]
    fn finds_start_before_end_of_another_template() {
        let images = ["app:1".to_owned(), "app:2".to_owned()];
        let overlap = |events: Vec<EventKind>| {
            let journal = Journal::default();
            events
                .into_iter()
                .for_each(|event| journal.record("a", "1", event));
            find_overlap(&journal.entries(), &images)
        };
        let ended = |id: &str| EventKind::WorkloadEnded(id.to_owned());
        let old = || vec![start("a", "app:1"), start("b", "app:1"), ended("a")];
        assert_eq!(overlap(old()), None);
        let early = [old(), vec![start("c", "app:2"), ended("b")]].concat();
        assert!(overlap(early).is_some());
        let late = [old(), vec![ended("b"), start("c", "app:2")]].concat();
        assert_eq!(overlap(late), None);
    }
}
