//! The end of a stop: only the host's NOT_FOUND, or its loss.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::check::outcome::Flow;
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::journal::{Entry, EventKind, longest_gap};
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{CommandRule, Reaction};
use crate::spec::requirements::*;
use crate::wire::response::State;

/// Scenarios of the section `stop` about replies.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "stop/late-start-reply", run: late_start_reply, covers: [SCHED_STOP_003],
        isolation: Shared, budget_s: 90,
    },
    scenario! {
        id: "stop/unconfirmed", run: unconfirmed, covers: [SCHED_STOP_004, SCHED_STOP_009],
        isolation: Shared, budget_s: 90,
    },
    scenario! {
        id: "stop/confirmed-by-status", run: confirmed_by_status,
        covers: [SCHED_STOP_004, SCHED_STOP_005], isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "stop/quick-deletion", run: quick_deletion, covers: [SCHED_STOP_001, SCHED_STOP_007],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "stop/host-lost-meanwhile", run: host_lost_meanwhile, covers: [SCHED_STOP_010],
        isolation: Shared, budget_s: 60,
    },
];

/// Time for which a host reports STOPPING. Longer than a scheduler waits for the reply to a status
/// request.
const UNCONFIRMED: Duration = Duration::from_secs(12);

/// The reply to the start of a deleted workload arrives after its first stop, which had no reply.
async fn late_start_reply(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    let delay = Duration::from_secs(2);
    host.add_rule(CommandRule::on(
        "workload.start",
        Reaction::DelayReply(delay),
    ));
    host.add_rule(CommandRule::on("workload.stop", Reaction::Ignore).times(1));
    let app = cx.deployment("app", 1);
    cx.submit(&app).await?;
    let (started, start) = cx
        .wait_for_start("app", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_START_001)?;
    cx.delete(&app).await?;
    cx.wait_for_stop(&start.id, cx.timings().act)
        .await
        .or_blocked(cx, SCHED_STOP_006)?;
    let replied_at = started.at + delay;
    let within = replied_at.saturating_duration_since(Instant::now())
        + cx.timings().resend
        + cx.timings().act;
    let ended = cx.wait_for_running("app", 0, within).await;
    cx.claim(SCHED_STOP_003).met(ended);
    Ok(())
}

/// Returns whether an event is a stop of an id, or a request of its status.
fn is_about(entry: &Entry, id: &str) -> bool {
    let mut commands = ["workload.stop", "workload.status"].into_iter();
    commands.any(|command| entry.command(command).is_some_and(|it| it.id == id))
}

/// The host reports STOPPING for a while, and does not reply to the first status request. The
/// scheduler must ask again, and must not show the app as deleted.
async fn unconfirmed(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    let (set, running) = cx.deploy("app", 1, SCHED_SCALE_001).await?;
    let Some(workload) = running.first() else {
        return Ok(());
    };
    cx.wait_for_ready(&set, cx.timings().poll + cx.timings().show)
        .await
        .or_blocked(cx, SCHED_CRD_011)?;
    host.add_rule(CommandRule::on(
        "workload.stop",
        Reaction::Stopping(Duration::from_secs(600)),
    ));
    cx.delete(&set).await?;
    let stop = cx.wait_for_stop(&workload.id, cx.timings().act).await;
    let stop = stop.or_blocked(cx, SCHED_STOP_001)?;
    let ignored = CommandRule::on("workload.status", Reaction::Ignore);
    host.add_rule(ignored.containing(&workload.id).times(1));
    let reported = cx.consistently(
        UNCONFIRMED,
        "the object is reported until the host reports NOT_FOUND",
        || async { cx.observe(&set).await.map(|_| ()) },
    );
    cx.claim(SCHED_STOP_009).met(reported.await);
    let until = Instant::now();
    let mut asked_at = vec![stop.at];
    let later = cx.journal().since(stop.at).into_iter();
    asked_at.extend(
        later
            .filter(|entry| is_about(entry, &workload.id))
            .map(|entry| entry.at),
    );
    let gap = longest_gap(&asked_at, until);
    let limit = cx.timings().resend + cx.patience();
    cx.claim(SCHED_STOP_004).holds(
        "a stop or a status request at least every `resend`",
        gap <= limit,
        || format!("none for {:.1} s", gap.as_secs_f64()),
    );
    host.clear_rules();
    host.set_workload_state(&workload.id, State::NotFound, "");
    let within = cx.timings().resend + cx.timings().show;
    cx.claim(SCHED_STOP_009)
        .met(cx.wait_for_deletion(&set, within).await);
    Ok(())
}

/// The host replies to every stop with STOPPING, and to a status request with NOT_FOUND.
async fn confirmed_by_status(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    let (set, running) = cx.deploy("app", 1, SCHED_SCALE_001).await?;
    let Some(workload) = running.first() else {
        return Ok(());
    };
    let body = json!({ "workloadStatus": {
        "workloadId": workload.id,
        "workloadState": "WORKLOAD_STATE_STOPPING",
    } });
    let stopping = Reaction::Reply(body.to_string().into());
    host.add_rule(CommandRule::on("workload.stop", stopping));
    cx.delete(&set).await?;
    let stop = cx.wait_for_stop(&workload.id, cx.timings().act).await;
    let stop = stop.or_blocked(cx, SCHED_STOP_001)?;
    host.set_workload_state(&workload.id, State::NotFound, "");
    let within = cx.timings().resend + cx.timings().act;
    let description = "another stop or status request for the workload";
    let reported = cx.eventually(within, description, || {
        let later = cx.journal().since(stop.at + Duration::from_millis(1));
        let mut later = later.iter();
        let found = later.find_map(|entry| match &entry.kind {
            EventKind::ReceivedCommand(received) if received.id == workload.id => {
                Some(received.command.clone())
            }
            _ => None,
        });
        std::future::ready(found.ok_or_else(|| "no request".to_owned()))
    });
    let Some(command) = cx.claim(SCHED_STOP_004).met(reported.await) else {
        return Ok(());
    };
    if command != "workload.status" {
        // This scheduler asks by repeating the stop, so that it has not seen NOT_FOUND yet.
        host.clear_rules();
    }
    // After this time, the reply has arrived at the scheduler.
    cx.wait(Duration::from_secs(1) + cx.patience()).await;
    let reported_at = Instant::now();
    let window = if command == "workload.status" {
        Duration::from_secs(3)
    } else {
        cx.timings().resend + Duration::from_secs(3)
    };
    let again = cx.never(window, "a stop after NOT_FOUND", || {
        let stops = cx.journal().stops().into_iter();
        let later = stops.filter(|(entry, stop)| stop.id == workload.id && entry.at > reported_at);
        let allowed = usize::from(command != "workload.status");
        (later.count() > allowed).then(|| "a stop".to_owned())
    });
    cx.claim(SCHED_STOP_005).met(again.await);
    Ok(())
}

/// Deletes apps soon after their submission, each after another time and the last one after its
/// start, and checks that no stop precedes its start, and that each workload that was started is
/// stopped.
async fn quick_deletion(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    cx.wait_until_registered().await?;
    let apps: Vec<String> = (0..8).map(|number| format!("app{number}")).collect();
    for app in &apps {
        cx.submit(&cx.deployment(app, 1)).await?;
    }
    for app in &apps {
        cx.wait(Duration::from_millis(100)).await;
        if Some(app) == apps.last() {
            cx.wait_for_start(app, cx.timings().act)
                .await
                .or_blocked(cx, SCHED_START_001)?;
        }
        cx.delete(&cx.deployment(app, 1)).await?;
    }
    cx.wait(cx.timings().act).await;
    let entries = host_commands(cx);
    for app in &apps {
        for id in cx.started_ids(app) {
            let order: Vec<&str> = entries
                .iter()
                .filter(|(_, of)| *of == id)
                .map(|(command, _)| &**command)
                .collect();
            let first_stop = order.iter().position(|command| *command == "workload.stop");
            cx.claim(SCHED_STOP_001).holds(
                "each workload is stopped",
                first_stop.is_some(),
                || format!("{id} of {app}: {order:?}"),
            );
            let first_stop = first_stop.unwrap_or(order.len());
            let (before, after) = order.split_at(first_stop.min(order.len()));
            let in_order = !before.is_empty() && after.iter().all(|one| *one != "workload.start");
            cx.claim(SCHED_STOP_007)
                .holds("the start precedes the stop", in_order, || {
                    format!("{id} of {app}: {order:?}")
                });
        }
    }
    drop(host);
    Ok(())
}

/// Returns the starts and stops that hosts received, with their ids, in the order of arrival.
fn host_commands(cx: &ScenarioContext) -> Vec<(String, String)> {
    let entries = cx.journal().entries().into_iter();
    let commands = entries.filter_map(|entry| match entry.kind {
        EventKind::ReceivedCommand(received) => Some((received.command, received.id)),
        _ => None,
    });
    commands
        .filter(|(command, _)| matches!(&**command, "workload.start" | "workload.stop"))
        .collect()
}

/// The host of a deleted workload is lost before it has replied to the stop, and another host fits.
async fn host_lost_meanwhile(cx: &ScenarioContext) -> Flow {
    let lost = cx.start_host(cx.host_config("a")).await?;
    let (set, running) = cx.deploy("app", 1, SCHED_SCALE_001).await?;
    let Some(workload) = running.first() else {
        return Ok(());
    };
    cx.start_host(cx.host_config("b")).await?;
    cx.wait_until_registered().await?;
    lost.add_rule(CommandRule::on("workload.stop", Reaction::Ignore));
    cx.delete(&set).await?;
    cx.wait_for_stop(&workload.id, cx.timings().act)
        .await
        .or_blocked(cx, SCHED_STOP_001)?;
    lost.kill();
    let starts = cx.starts_of("app").len();
    let window = cx.timings().notice + Duration::from_secs(2);
    let again = cx.never(window, "a start of the deleted workload", || {
        let later = cx.starts_of("app").into_iter().nth(starts);
        later.map(|(entry, start)| format!("{} on {}", start.id, entry.host))
    });
    cx.claim(SCHED_STOP_010).met(again.await);
    Ok(())
}
