//! Outcomes of starts: what a state, a refusal or a missing reply means, and what it does not mean.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::check::outcome::Flow;
use crate::scheduler::context::{RunningWorkload, ScenarioContext, describe};
use crate::scheduler::manifest::Manifest;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{CommandRule, Reaction};
use crate::spec::requirements::*;
use crate::wire::response::State;

/// Scenarios of the section `start` about outcomes.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "start/between-runs", run: between_runs, covers: [SCHED_START_011, SCHED_START_015],
        isolation: Shared, waits: |timings| timings.poll, budget_s: 180,
    },
    scenario! {
        id: "start/stopping-by-itself", run: stopping_by_itself, covers: [SCHED_START_015],
        isolation: Shared, waits: |timings| timings.poll, budget_s: 120,
    },
    scenario! {
        id: "start/change-waits-for-end", run: change_waits_for_end, covers: [SCHED_START_015],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "start/reply-headers", run: reply_headers, covers: [SCHED_START_015],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "start/conflict", run: conflict, covers: [SCHED_START_006], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "start/messages", run: messages, covers: [SCHED_START_007], isolation: Shared,
        waits: |timings| timings.retry, budget_s: 240,
    },
    scenario! {
        id: "start/refusal-codes", run: refusal_codes, covers: [SCHED_START_009],
        isolation: Shared, waits: |timings| timings.retry, budget_s: 150,
    },
    scenario! {
        id: "start/deleted-while-failing", run: deleted_while_failing,
        covers: [SCHED_START_014, SCHED_STOP_010], isolation: Shared,
        waits: |timings| timings.retry, budget_s: 150,
    },
    scenario! {
        id: "start/silent-stops", run: silent_stops, covers: [SCHED_START_016], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "start/long-start", run: long_start, covers: [SCHED_START_010, SCHED_START_011],
        isolation: Shared, slow: true, budget_s: 150,
    },
];

/// Time for which a long start has no reply, or reports STARTING. Less than the 60 s of
/// SCHED-START-010.
const LONG_START: Duration = Duration::from_secs(55);

/// Deploys an app and waits until it is shown as ready. Returns its only workload.
async fn deploy_ready(
    cx: &ScenarioContext,
    app: &str,
) -> Result<(Manifest, Option<RunningWorkload>), crate::check::outcome::Blocked> {
    let (set, running) = cx.deploy(app, 1, SCHED_SCALE_001).await?;
    cx.wait_for_ready(&set, cx.timings().poll + cx.timings().show)
        .await
        .or_blocked(cx, SCHED_CRD_011)?;
    Ok((set, running.into_iter().next()))
}

/// A workload that was RUNNING reports STARTING, as between two runs of its service.
async fn between_runs(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (set, workload) = deploy_ready(cx, "app").await?;
    let Some(RunningWorkload { host, id }) = workload else {
        return Ok(());
    };
    let from = Instant::now();
    host.set_workload_state(&id, State::Starting, "waiting for the next run");
    let within = cx.timings().poll + cx.timings().show;
    cx.claim(SCHED_START_011)
        .met(cx.wait_for_not_ready(&set, within).await);
    cx.assert_no_commands(SCHED_START_015, from, Duration::from_secs(2))
        .await;
    host.set_workload_state(&id, State::Running, "");
    cx.claim(SCHED_START_011)
        .met(cx.wait_for_ready(&set, within).await);
    cx.assert_no_commands(SCHED_START_015, from, Duration::ZERO)
        .await;
    Ok(())
}

/// A workload that was RUNNING reports STOPPING, without a stop. It may still run.
async fn stopping_by_itself(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (_, workload) = deploy_ready(cx, "app").await?;
    let Some(RunningWorkload { host, id }) = workload else {
        return Ok(());
    };
    host.add_rule(CommandRule::on(
        "workload.stop",
        Reaction::Stopping(Duration::from_secs(60)),
    ));
    host.set_workload_state(&id, State::Stopping, "in a moment");
    let window = cx.timings().poll + Duration::from_secs(2);
    let another = cx.never(window, "a start under another id", || {
        let ids = cx.started_ids("app");
        (ids.len() > 1).then(|| format!("{ids:?}"))
    });
    cx.claim(SCHED_START_015).met(another.await);
    Ok(())
}

/// A single workload is changed, and its host takes 3 s to end the earlier incarnation.
async fn change_waits_for_end(cx: &ScenarioContext) -> Flow {
    let duration = Duration::from_secs(3);
    for host in cx.start_hosts::<2>().await? {
        host.add_rule(CommandRule::on(
            "workload.stop",
            Reaction::Stopping(duration),
        ));
    }
    let app = cx.workload("app");
    cx.submit(&app).await?;
    let running = cx.require_running("app", 1, SCHED_START_001).await?;
    let Some(RunningWorkload { host, id }) = running.first() else {
        return Ok(());
    };
    let image = cx.image("app", 2);
    cx.submit(&app.image(&image)).await?;
    let within = cx.timings().act * 2 + duration + cx.timings().resend;
    let started = cx.poll(within, "the changed workload is started", || {
        let is_started = !cx.journal().started_ids_containing(&image).is_empty();
        let has_ended = !host.workloads().contains_key(id);
        std::future::ready(match (is_started, has_ended) {
            (true, _) => Ok(has_ended),
            (false, _) => Err(crate::check::wait::ProbeError::Pending("no start".into())),
        })
    });
    let after_end = started.await.or_blocked(cx, SCHED_START_001)?;
    cx.claim(SCHED_START_015).holds(
        "the changed workload is started after the host has reported NOT_FOUND",
        after_end,
        || format!("a start of {image} while {id} is STOPPING"),
    );
    Ok(())
}

/// All replies have a header that no page of the specification defines.
async fn reply_headers(cx: &ScenarioContext) -> Flow {
    for name in ["a", "b", "c"] {
        let config = cx.host_config(name);
        cx.start_host(config.reply_header("X-Trace", "1f7e"))
            .await?;
    }
    cx.submit(&cx.deployment("app", 2)).await?;
    cx.wait_for_start("app", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_START_001)?;
    let extra = cx.never(
        Duration::from_secs(5),
        "a start of a workload that runs",
        || {
            let running = cx.running_anywhere("app");
            let ids = cx.started_ids("app");
            (ids.len() > 2).then(|| format!("{ids:?} were started: {}", describe(&running)))
        },
    );
    cx.claim(SCHED_START_015).met(extra.await);
    Ok(())
}

/// The first start is refused with code 409, and nothing runs.
async fn conflict(cx: &ScenarioContext) -> Flow {
    let [host] = cx.start_hosts::<1>().await?;
    host.add_rule(CommandRule::on("workload.start", Reaction::Refuse(409)));
    let app = cx.deployment("app", 1);
    cx.submit(&app).await?;
    cx.wait_for_start("app", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_START_001)?;
    let not_ready = cx.consistently(
        Duration::from_secs(5),
        "the app is not reported as ready",
        || async {
            match cx.is_ready(&app).await {
                Ok(true) => Err("the app is reported as ready".to_owned()),
                _ => Ok(()),
            }
        },
    );
    cx.claim(SCHED_START_006).met(not_ready.await);
    Ok(())
}

/// Returns a rule that refuses the starts of an app with a message.
fn refusal(cx: &ScenarioContext, app: &str, message: &str) -> CommandRule {
    let failure = Reaction::Fail {
        message: message.to_owned(),
        recorded: false,
    };
    CommandRule::on("workload.start", failure).containing(&cx.image(app, 1))
}

/// One workload runs and then fails, and its next start has no reply. The start of another one is
/// refused twice, for different reasons. The latest message of each must be shown.
async fn messages(cx: &ScenarioContext) -> Flow {
    let [host] = cx.start_hosts::<1>().await?;
    let (ended, workload) = deploy_ready(cx, "ended").await?;
    let (first, second) = ("cannot pull: first-cause", "cannot link: second-cause");
    let later = "the service failed: later-cause";
    host.add_rule(refusal(cx, "refused", second));
    host.add_rule(refusal(cx, "refused", first).times(1));
    let unanswered = CommandRule::on("workload.start", Reaction::Ignore);
    host.add_rule(unanswered.containing(&cx.image("ended", 1)));
    if let Some(workload) = &workload {
        host.set_workload_state(&workload.id, State::Error, later);
    }
    let within = cx.timings().poll + cx.timings().show;
    cx.claim(SCHED_START_007)
        .met(cx.wait_for_status_text(&ended, later, within).await);
    let refused = cx.deployment("refused", 1);
    cx.submit(&refused).await?;
    let within = cx.timings().act + cx.timings().retry + cx.timings().show;
    cx.claim(SCHED_START_007)
        .met(cx.wait_for_status_text(&refused, second, within).await);
    Ok(())
}

/// Hosts refuse a first start with different error codes. Each start must be retried.
async fn refusal_codes(cx: &ScenarioContext) -> Flow {
    let codes = [400, 404, 409, 413, 429, 500, 503];
    for code in codes {
        let name = format!("h{code}");
        let host = cx.start_host(cx.host_config(&name)).await?;
        host.add_rule(CommandRule::on("workload.start", Reaction::Refuse(code)).times(1));
        let app = cx.workload(&format!("app{code}"));
        cx.submit(&app.spec("/hostId", json!(host.id()))).await?;
    }
    let within = cx.timings().act + cx.timings().retry + cx.timings().act;
    for code in codes {
        let running = cx.wait_for_running(&format!("app{code}"), 1, within).await;
        cx.claim(SCHED_START_009).met(running);
    }
    Ok(())
}

/// An app is deleted while its id is in ERROR, and while the scheduler waits for the next retry.
async fn deleted_while_failing(cx: &ScenarioContext) -> Flow {
    let [host] = cx.start_hosts::<1>().await?;
    let failure = Reaction::Fail {
        message: "cannot link the component".to_owned(),
        recorded: true,
    };
    host.add_rule(CommandRule::on("workload.start", failure));
    let app = cx.deployment("app", 1);
    cx.submit(&app).await?;
    let within = cx.timings().act + cx.timings().retry;
    let retried = cx.eventually(within, "two starts", || {
        let starts = cx.starts_of("app").len();
        std::future::ready(if starts >= 2 {
            Ok(())
        } else {
            Err(format!("{starts} starts"))
        })
    });
    retried.await.or_blocked(cx, SCHED_START_009)?;
    // The second refusal has arrived at the scheduler.
    cx.wait(Duration::from_millis(300)).await;
    cx.delete(&app).await?;
    for id in cx.started_ids("app") {
        cx.claim(SCHED_START_014)
            .met(cx.wait_for_stop(&id, cx.timings().act).await);
    }
    let starts = cx.starts_of("app").len();
    let window = cx.timings().retry.min(Duration::from_secs(6));
    let again = cx.never(window, "a start of the deleted workload", || {
        let again = cx.starts_of("app").len();
        (again > starts).then(|| format!("{} more starts", again - starts))
    });
    cx.claim(SCHED_STOP_010).met(again.await);
    Ok(())
}

/// Host `a` does not reply to stops. Stops on host `b` must be sent in time.
async fn silent_stops(cx: &ScenarioContext) -> Flow {
    let [a, b] = cx.start_hosts::<2>().await?;
    a.add_rule(CommandRule::on("workload.stop", Reaction::Ignore));
    let silent = cx.deployment("silent", 3).spec("/hostId", json!(a.id()));
    let other = cx.deployment("other", 3).spec("/hostId", json!(b.id()));
    for app in [&silent, &other] {
        cx.submit(app).await?;
    }
    for app in ["silent", "other"] {
        cx.require_running(app, 3, SCHED_PLACE_007).await?;
    }
    cx.delete(&silent).await?;
    for id in cx.started_ids("silent") {
        let stopped = cx.wait_for_stop(&id, cx.timings().act).await;
        if cx.claim(SCHED_START_016).met(stopped).is_none() {
            break;
        }
    }
    cx.delete(&other).await?;
    for id in cx.started_ids("other") {
        cx.claim(SCHED_START_016)
            .met(cx.wait_for_stop(&id, cx.timings().act).await);
    }
    Ok(())
}

/// One start has no reply for 55 s, and its status is NOT_FOUND. Another one is STARTING for this
/// time. Neither has failed.
async fn long_start(cx: &ScenarioContext) -> Flow {
    let [a, b] = cx.start_hosts::<2>().await?;
    a.add_rule(CommandRule::on(
        "workload.start",
        Reaction::Delay(LONG_START),
    ));
    b.add_rule(CommandRule::on(
        "workload.start",
        Reaction::Starting(LONG_START),
    ));
    let apps = [("silent", &a), ("starting", &b)];
    for (app, host) in apps {
        let app = cx.deployment(app, 1).spec("/hostId", json!(host.id()));
        cx.submit(&app).await?;
    }
    for (app, _) in apps {
        cx.wait_for_start(app, cx.timings().act)
            .await
            .or_blocked(cx, SCHED_PLACE_007)?;
    }
    let from = Instant::now();
    cx.assert_no_commands(SCHED_START_010, from, LONG_START - Duration::from_secs(2))
        .await;
    for (app, requirement) in [("silent", SCHED_START_010), ("starting", SCHED_START_011)] {
        let running = cx.wait_for_running(app, 1, cx.timings().act).await;
        cx.claim(requirement).met(running);
    }
    Ok(())
}
