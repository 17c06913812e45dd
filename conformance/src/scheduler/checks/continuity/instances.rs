//! The process of the scheduler: its start without a broker, several instances, and its shutdown.

use std::time::{Duration, Instant};

use super::{deploy_after_launch, launch};
use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::{ScenarioContext, workload_ids};
use crate::scheduler::simulated_host::{CommandRule, Reaction};
use crate::spec::requirements::*;

/// Launches the scheduler while the broker is unreachable, and checks that it waits for the broker
/// and then starts an app.
pub(super) async fn started_without_broker(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    cx.scheduler().kill().await;
    let outage = cx.scheduler().bus.disconnect_scheduler().await;
    launch(cx)?;
    cx.submit(&cx.deployment("app", 2)).await?;
    cx.wait(Duration::from_secs(8)).await;
    cx.claim(SCHED_CONT_013).holds(
        "the scheduler's process is running",
        !cx.scheduler().has_exited(),
        || "the process has exited",
    );
    outage.restore().await;
    let running = cx
        .wait_for_running("app", 2, cx.timings().reconnect + cx.timings().act)
        .await;
    cx.claim(SCHED_CONT_013).met(running);
    Ok(())
}

/// Runs two instances of the scheduler with the same store, and checks that an app of 4 replicas is
/// started under exactly 4 ids.
pub(super) async fn two_instances(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let second = cx.scheduler().launch_another();
    let _second =
        second.map_err(|error| Blocked::harness_error("cannot launch the scheduler", &error))?;
    // An instance that waits for the lock must not lose its patience.
    cx.wait(Duration::from_secs(7)).await;
    cx.submit(&cx.deployment("app", 4)).await?;
    let within = cx.timings().act + cx.timings().reconnect;
    let all = cx.eventually(within, "4 workloads run", || {
        let running = cx.running("app").len();
        std::future::ready(if running >= 4 {
            Ok(())
        } else {
            Err(format!("{running} run"))
        })
    });
    all.await.or_blocked(cx, SCHED_SCALE_001)?;
    let more = cx.never(Duration::from_secs(3), "a start under a fifth id", || {
        let ids = cx.started_ids("app");
        (ids.len() > 4).then(|| format!("{} ids", ids.len()))
    });
    cx.claim(SCHED_CONT_014).met(more.await);
    Ok(())
}

/// Time after which a standby has become the leader, in most cases. The specification calls 30 s
/// long.
const TAKEOVER: Duration = Duration::from_secs(40);

/// Kills the first of two instances with the same store, and checks that all workloads keep their
/// ids when the second one starts another app. An instance may also end instead of waiting.
pub(super) async fn handover(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    deploy_after_launch(cx, 4).await?;
    let second = cx.scheduler().launch_another();
    let _second =
        second.map_err(|error| Blocked::harness_error("cannot launch the scheduler", &error))?;
    cx.wait(Duration::from_secs(2)).await;
    let from = Instant::now();
    cx.scheduler().kill().await;
    cx.submit(&cx.deployment("more", 2)).await?;
    // How long a standby takes is left open, so a missed takeover is no violation.
    let _ = cx.wait_for_running("more", 2, TAKEOVER).await;
    cx.wait(Duration::from_secs(3)).await;
    let stops = cx.journal().stops().into_iter();
    let stopped: Vec<String> = stops
        .filter(|(entry, _)| entry.at >= from)
        .map(|(_, stop)| stop.id)
        .collect();
    cx.claim(SCHED_CONT_014)
        .is("stopped ids", stopped, Vec::<String>::new());
    for app in ["app", "more"] {
        let (started, running) = (cx.started_ids(app), workload_ids(&cx.running(app)));
        cx.claim(SCHED_CONT_014)
            .is(&format!("started ids of {app}"), started, running);
    }
    Ok(())
}

/// Stops the scheduler with its stop signal while one start is unanswered and another workload is
/// STARTING, and checks that it exits with code 0 in time and stops no workload.
pub(super) async fn graceful_shutdown(cx: &ScenarioContext) -> Flow {
    for host in cx.start_hosts::<2>().await? {
        let starting = Reaction::Starting(Duration::from_secs(60));
        for (app, reaction) in [("unanswered", Reaction::DropReply), ("starting", starting)] {
            let rule = CommandRule::on("workload.start", reaction);
            host.add_rule(rule.containing(&cx.image(app, 1)));
        }
    }
    deploy_after_launch(cx, 2).await?;
    for app in ["unanswered", "starting"] {
        cx.submit(&cx.deployment(app, 1)).await?;
        let started = cx.wait_for_start(app, cx.timings().act).await;
        started.or_blocked(cx, SCHED_SCALE_001)?;
    }
    check_shutdown(cx).await;
    Ok(())
}

/// Stops the scheduler with its stop signal while its broker is unreachable.
pub(super) async fn shutdown_without_broker(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    deploy_after_launch(cx, 2).await?;
    let outage = cx.scheduler().bus.disconnect_scheduler().await;
    cx.wait(Duration::from_secs(1)).await;
    check_shutdown(cx).await;
    outage.restore().await;
    Ok(())
}

/// Stops the scheduler, and claims that it exits with code 0 within `exit` and stops nothing.
async fn check_shutdown(cx: &ScenarioContext) {
    let Some(process) = cx.scheduler().process() else {
        return;
    };
    let from = Instant::now();
    cx.scheduler().stop(cx.timings().exit + cx.patience()).await;
    let status = process.exit_status();
    cx.claim(SCHED_CONT_015).is(
        "exit code of the scheduler",
        status.and_then(|status| status.code()),
        Some(0),
    );
    cx.assert_no_commands(SCHED_CONT_015, from, Duration::from_secs(1))
        .await;
}
