//! Stops: to which hosts they are sent, how often, and in which order.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::check::outcome::Flow;
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::journal::{Entry, EventKind, contains};
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{CommandRule, Reaction};
use crate::spec::requirements::*;
use crate::wire::response::State;

/// Scenarios of the section `stop`.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "stop/deleted", run: deleted, covers: [SCHED_STOP_001, SCHED_STOP_002, SCHED_STOP_005],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "stop/resent", run: resent, covers: [SCHED_STOP_003], isolation: Shared, budget_s: 90,
    },
    scenario! {
        id: "stop/stopping", run: stopping, covers: [SCHED_STOP_004], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "stop/start-in-flight", run: start_in_flight, covers: [SCHED_STOP_006, SCHED_STOP_007],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "stop/lost-host", run: lost_host, covers: [SCHED_STOP_008], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "stop/deletion-shown", run: deletion_shown, covers: [SCHED_STOP_009], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "stop/no-restart", run: no_restart, covers: [SCHED_STOP_010], isolation: Shared,
        budget_s: 60,
    },
];

/// Deletes one of two apps, and checks that only its workloads are stopped, and are not stopped
/// again after NOT_FOUND.
async fn deleted(cx: &ScenarioContext) -> Flow {
    let [a, b] = cx.start_hosts::<2>().await?;
    // A workload of another scheduler, which must not be stopped, runs on each host.
    for host in [&a, &b] {
        host.set_workload_state(&format!("foreign-{}", cx.group()), State::Running, "");
    }
    let (one, running) = cx.deploy("one", 2, SCHED_SCALE_001).await?;
    cx.deploy("other", 2, SCHED_SCALE_001).await?;
    cx.delete(&one).await?;
    for id in running.iter().map(|workload| &workload.id) {
        cx.claim(SCHED_STOP_001)
            .met(cx.wait_for_stop(id, cx.timings().act).await);
    }
    cx.wait_for_running("one", 0, cx.timings().act)
        .await
        .or_blocked(cx, SCHED_STOP_001)?;
    for id in running.iter().map(|workload| &workload.id) {
        let within = cx.timings().resend + cx.timings().act;
        let gone = cx.eventually(within, "the host has replied with NOT_FOUND", || async {
            if replied_not_found(&cx.journal().entries(), id) {
                Ok(())
            } else {
                Err("no reply with NOT_FOUND".to_owned())
            }
        });
        gone.await.or_blocked(cx, SCHED_STOP_004)?;
    }
    // After this time, the reply has arrived at the scheduler.
    cx.wait(Duration::from_secs(1) + cx.patience()).await;
    let from = Instant::now();
    let another = cx.never(Duration::from_secs(3), "another stop", || {
        cx.journal()
            .starts_and_stops_since(from)
            .into_iter()
            .find(|command| command.contains("workload.stop"))
    });
    cx.claim(SCHED_STOP_005).met(another.await);
    let deleted: Vec<&str> = running.iter().map(|workload| &*workload.id).collect();
    let others: Vec<String> = cx
        .journal()
        .stops()
        .into_iter()
        .map(|(_, stop)| stop.id)
        .filter(|id| !deleted.contains(&&**id))
        .collect();
    cx.claim(SCHED_STOP_002).holds(
        "only the deleted workloads are stopped",
        others.is_empty(),
        || format!("{others:?} were stopped as well"),
    );
    Ok(())
}

/// Returns whether the host has replied with NOT_FOUND to the stop of an id or to a later command.
/// Replies to earlier status requests do not count, because the scheduler may no longer wait for
/// them. Pure.
fn replied_not_found(entries: &[Entry], id: &str) -> bool {
    let is_stop = |entry: &Entry| {
        let stop = entry.command("workload.stop");
        stop.is_some_and(|stop| stop.id == id)
    };
    let mut inboxes = BTreeSet::new();
    entries
        .iter()
        .skip_while(|entry| !is_stop(entry))
        .any(|entry| match &entry.kind {
            EventKind::ReceivedCommand(received) if received.id == id => {
                inboxes.extend(received.reply.as_deref());
                false
            }
            EventKind::Replied(inbox, payload) => {
                inboxes.contains(&**inbox) && contains(payload, "WORKLOAD_STATE_NOT_FOUND")
            }
            _ => false,
        })
}

/// Maximum `resend` of a scheduler that must repeat a stop four times. Keeps the check short.
const SHORT_RESEND: Duration = Duration::from_secs(5);

/// Ignores the first stops of a deleted workload, and checks that each is repeated in time.
async fn resent(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    let (set, running) = cx.deploy("app", 1, SCHED_SCALE_001).await?;
    host.add_rule(CommandRule::on("workload.stop", Reaction::Ignore).times(4));
    cx.delete(&set).await?;
    let repeated = if cx.timings().resend <= SHORT_RESEND {
        5
    } else {
        3
    };
    for times in 2..=repeated {
        let within = cx.timings().resend + cx.timings().act;
        let description = format!("{times} stops are sent");
        let resent = cx.eventually(within, &description, || {
            let stops = cx.journal().stops().len();
            std::future::ready(if stops >= times {
                Ok(())
            } else {
                Err(format!("{stops} stops"))
            })
        });
        cx.claim(SCHED_STOP_003).met(resent.await);
    }
    if let Some(workload) = running.first() {
        let other_ids = cx
            .journal()
            .stops()
            .into_iter()
            .filter(|(_, stop)| stop.id != workload.id)
            .count();
        cx.claim(SCHED_STOP_003)
            .is("number of stops of other ids", other_ids, 0);
    }
    Ok(())
}

/// The host replies to the stop with STOPPING. The scheduler must send another stop, or poll the
/// status of the workload.
async fn stopping(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    let (set, running) = cx.deploy("app", 1, SCHED_SCALE_001).await?;
    let Some(workload) = running.first() else {
        return Ok(());
    };
    let body = json!({ "workloadStatus": { "workloadId": workload.id, "workloadState": "WORKLOAD_STATE_STOPPING", "message": "in a moment" } });
    let reply = Reaction::Reply(body.to_string().into());
    host.add_rule(CommandRule::on("workload.stop", reply).times(1));
    cx.delete(&set).await?;
    cx.wait_for_stop(&workload.id, cx.timings().act)
        .await
        .or_blocked(cx, SCHED_STOP_001)?;
    host.set_workload_state(&workload.id, State::Stopping, "in a moment");
    let from = Instant::now();
    let description = "another stop or status request for the workload";
    let another = cx.eventually(cx.timings().resend, description, || {
        let entries = cx.journal().since(from);
        let found = entries.iter().any(|entry| {
            ["workload.stop", "workload.status"].iter().any(|command| {
                entry
                    .command(command)
                    .is_some_and(|received| received.id == workload.id)
            })
        });
        std::future::ready(if found {
            Ok(())
        } else {
            Err("neither a stop nor a status request".to_owned())
        })
    });
    cx.claim(SCHED_STOP_004).met(another.await);
    Ok(())
}

/// A workload is deleted before the reply to its start arrives.
async fn start_in_flight(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    host.add_rule(CommandRule::on("workload.start", Reaction::DropReply));
    host.add_rule(CommandRule::on("workload.status", Reaction::Ignore).times(1));
    let app = cx.deployment("app", 1);
    cx.submit(&app).await?;
    let (_, start) = cx
        .wait_for_start("app", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    cx.delete(&app).await?;
    cx.claim(SCHED_STOP_006)
        .met(cx.wait_for_stop(&start.id, cx.timings().act).await);
    cx.wait(Duration::from_secs(1)).await;
    let mut order = Vec::new();
    for entry in cx.journal().entries() {
        for (command, kind) in [("workload.start", "start"), ("workload.stop", "stop")] {
            if entry
                .command(command)
                .is_some_and(|other| other.id == start.id)
            {
                order.push(kind);
            }
        }
    }
    let starts = order.iter().take_while(|kind| **kind == "start").count();
    let only_stops_follow = order.iter().skip(starts).all(|kind| *kind == "stop");
    cx.claim(SCHED_STOP_007).holds(
        "no start follows a stop",
        starts > 0 && only_stops_follow,
        || format!("{order:?}"),
    );
    Ok(())
}

/// Deletes a workload whose host is disconnected, and checks that the deletion is not delayed
/// beyond the loss of the host.
async fn lost_host(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    let (set, _) = cx.deploy("app", 1, SCHED_SCALE_001).await?;
    host.disconnect();
    cx.delete(&set).await?;
    let within = cx.timings().notice + cx.timings().act + cx.timings().show;
    cx.claim(SCHED_STOP_008)
        .met(cx.wait_for_deletion(&set, within).await);
    Ok(())
}

/// A deleted object is reported until its workload has stopped.
async fn deletion_shown(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    let (set, _) = cx.deploy("app", 1, SCHED_SCALE_001).await?;
    cx.wait_for_ready(&set, cx.timings().show)
        .await
        .or_blocked(cx, SCHED_CRD_011)?;
    host.add_rule(CommandRule::on("workload.stop", Reaction::Ignore));
    cx.delete(&set).await?;
    let still_reported = cx.consistently(
        Duration::from_secs(3),
        "the object is reported while its workload runs",
        || async { cx.observe(&set).await.map(|_| ()) },
    );
    cx.claim(SCHED_STOP_009).met(still_reported.await);
    host.clear_rules();
    let gone = cx
        .wait_for_deletion(&set, cx.timings().resend + cx.timings().show)
        .await;
    cx.claim(SCHED_STOP_009).met(gone);
    Ok(())
}

/// Deletes a set and a workload, and checks that nothing is started after the stops.
async fn no_restart(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (set, _) = cx.deploy("app", 3, SCHED_SCALE_001).await?;
    let alone = cx.workload("alone");
    cx.submit(&alone).await?;
    cx.require_running("alone", 1, SCHED_START_001).await?;
    cx.delete(&set).await?;
    cx.delete(&alone).await?;
    for id in cx.started_ids("app").union(&cx.started_ids("alone")) {
        cx.wait_for_stop(id, cx.timings().act)
            .await
            .or_blocked(cx, SCHED_STOP_001)?;
    }
    let before = cx.journal().starts().len();
    let again = cx.never(Duration::from_secs(4), "another start", || {
        let starts = cx.journal().starts();
        starts
            .get(before)
            .map(|(entry, received)| format!("{} on {}", received.id, entry.host))
    });
    cx.claim(SCHED_STOP_010).met(again.await);
    Ok(())
}
