//! Continuity: outages of the broker, and restarts of the scheduler. Each scenario has its own bus
//! and scheduler.

use std::time::{Duration, Instant};

use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::{HostOutage, RunningWorkload, ScenarioContext, workload_ids};
use crate::scheduler::manifest::Manifest;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{CommandRule, Reaction, SimulatedHost};
use crate::scheduler::timings::Timings;
use crate::spec::requirements::*;

/// Scenarios of the section `continuity`.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "continuity/short-outage", run: short_outage, covers: [SCHED_CONT_001], isolation: Own,
        needs: [Tap], budget_s: 90,
    },
    scenario! {
        id: "continuity/long-outage", run: long_outage, covers: [SCHED_CONT_002], isolation: Own,
        needs: [Tap], slow: true, budget_s: 300,
    },
    scenario! {
        id: "continuity/hosts-reconnect-late", run: hosts_reconnect_late, covers: [SCHED_CONT_003],
        isolation: Own, needs: [Tap], budget_s: 90,
    },
    scenario! {
        id: "continuity/deleted-during-outage", run: deleted_during_outage,
        covers: [SCHED_CONT_004], isolation: Own, needs: [Tap], budget_s: 90,
    },
    scenario! {
        id: "continuity/scheduler-disconnected", run: scheduler_disconnected,
        covers: [SCHED_CONT_005], isolation: Own, needs: [Tap], budget_s: 90,
    },
    scenario! {
        id: "continuity/mass-disconnect", run: mass_disconnect, covers: [SCHED_CONT_006],
        isolation: Own, needs: [Tap], budget_s: 150,
    },
    scenario! {
        id: "continuity/host-lost-in-outage", run: host_lost_in_outage, covers: [SCHED_CONT_007],
        isolation: Own, needs: [Tap], waits: |timings| timings.silence, budget_s: 120,
    },
    scenario! {
        id: "continuity/killed", run: killed, covers: [SCHED_CONT_008], isolation: Own,
        needs: [Process], budget_s: 90,
    },
    scenario! {
        id: "continuity/killed-during-stop", run: killed_during_stop, covers: [SCHED_CONT_009],
        isolation: Own, needs: [Process], budget_s: 90,
    },
    scenario! {
        id: "continuity/killed-during-start", run: killed_during_start, covers: [SCHED_CONT_010],
        isolation: Own, needs: [Process], budget_s: 90,
    },
    scenario! {
        id: "continuity/deleted-while-down", run: deleted_while_down, covers: [SCHED_CONT_011],
        isolation: Own, needs: [Process], budget_s: 90,
    },
    scenario! {
        id: "continuity/host-lost-while-down", run: host_lost_while_down, covers: [SCHED_CONT_012],
        isolation: Own, needs: [Process], waits: |timings| timings.silence, budget_s: 120,
    },
    scenario! {
        id: "continuity/started-without-broker", run: started_without_broker,
        covers: [SCHED_CONT_013], isolation: Own, needs: [Process], budget_s: 90,
    },
    scenario! {
        id: "continuity/two-instances", run: two_instances, covers: [SCHED_CONT_014],
        isolation: Elected, needs: [Process], budget_s: 90,
    },
    scenario! {
        id: "continuity/graceful-shutdown", run: graceful_shutdown, covers: [SCHED_CONT_015],
        isolation: Own, needs: [Process], budget_s: 90,
    },
];

/// Time after the return of the broker in which no host may be declared lost, so that `silence`
/// begins only at its end.
const GRACE: Duration = Duration::from_secs(10);

/// Returns the time limit for the replacement of workloads on a host that does not return.
fn replacement_limit(timings: &Timings) -> Duration {
    GRACE + timings.silence + timings.act
}

/// Deploys an app on a scheduler that has just been launched.
async fn deploy_after_launch(
    cx: &ScenarioContext,
    replicas: usize,
) -> Result<(Manifest, Vec<RunningWorkload>), Blocked> {
    let set = cx.deployment("app", i64::try_from(replicas).unwrap_or(1));
    cx.submit(&set).await?;
    let within = cx.timings().act + cx.timings().reconnect;
    let running = cx
        .wait_for_running("app", replicas, within)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    Ok((set, running))
}

/// Launches the scheduler again.
fn launch(cx: &ScenarioContext) -> Result<(), Blocked> {
    cx.scheduler()
        .launch()
        .map_err(|error| Blocked::harness_error("cannot launch the scheduler", &error))
}

/// Disconnects the scheduler and the hosts for 4 s, and checks that the same process then starts a
/// new app in time.
async fn short_outage(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    deploy_after_launch(cx, 2).await?;
    let (scheduler_outage, host_outage) = (
        cx.scheduler().bus.disconnect_scheduler().await,
        cx.scheduler().bus.disconnect_hosts().await,
    );
    cx.wait(Duration::from_secs(4)).await;
    scheduler_outage.restore().await;
    host_outage.restore().await;
    cx.submit(&cx.deployment("more", 2)).await?;
    let running = cx
        .wait_for_running("more", 2, cx.timings().reconnect + cx.timings().act)
        .await;
    cx.claim(SCHED_CONT_001).met(running);
    cx.claim(SCHED_CONT_001).holds(
        "the scheduler's process is running",
        !cx.scheduler().has_exited(),
        || "the process has exited",
    );
    Ok(())
}

/// Disconnects the scheduler and the hosts for 3 min, and checks that the scheduler then starts and
/// stops nothing.
async fn long_outage(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<3>().await?;
    deploy_after_launch(cx, 6).await?;
    let from = Instant::now();
    let (scheduler_outage, host_outage) = (
        cx.scheduler().bus.disconnect_scheduler().await,
        cx.scheduler().bus.disconnect_hosts().await,
    );
    cx.wait(Duration::from_secs(180)).await;
    scheduler_outage.restore().await;
    host_outage.restore().await;
    cx.assert_no_commands(SCHED_CONT_002, from, Duration::from_secs(20))
        .await;
    Ok(())
}

/// After an outage, the hosts reconnect later than the scheduler. The fleet has only two hosts: if
/// more hosts were missing, the scheduler might suspect the broker because of their number.
async fn hosts_reconnect_late(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    deploy_after_launch(cx, 4).await?;
    let from = Instant::now();
    let (scheduler_outage, host_outage) = (
        cx.scheduler().bus.disconnect_scheduler().await,
        cx.scheduler().bus.disconnect_hosts().await,
    );
    cx.wait(Duration::from_secs(1)).await;
    scheduler_outage.restore().await;
    cx.wait(Duration::from_secs(8)).await;
    host_outage.restore().await;
    cx.assert_no_commands(SCHED_CONT_003, from, Duration::from_secs(8))
        .await;
    Ok(())
}

/// An object that is submitted and deleted during an outage must not be started afterwards.
async fn deleted_during_outage(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    deploy_after_launch(cx, 2).await?;
    let outage = cx.scheduler().bus.disconnect_scheduler().await;
    let app = cx.deployment("late", 2);
    cx.submit(&app).await?;
    cx.wait(Duration::from_secs(2)).await;
    cx.delete(&app).await?;
    cx.wait(Duration::from_secs(1)).await;
    outage.restore().await;
    let late_start = cx.never(
        cx.timings().reconnect.min(Duration::from_secs(8)),
        "a start of the deleted workload",
        || {
            cx.starts_of("late")
                .first()
                .map(|(entry, start)| format!("{} on {}", start.id, entry.host))
        },
    );
    cx.claim(SCHED_CONT_004).met(late_start.await);
    Ok(())
}

/// Disconnects only the scheduler for 7 s, and checks that it starts and stops nothing.
async fn scheduler_disconnected(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<3>().await?;
    deploy_after_launch(cx, 6).await?;
    let from = Instant::now();
    let outage = cx.scheduler().bus.disconnect_scheduler().await;
    cx.wait(Duration::from_secs(7)).await;
    outage.restore().await;
    cx.assert_no_commands(SCHED_CONT_005, from, Duration::from_secs(6))
        .await;
    Ok(())
}

/// Most hosts of the fleet disconnect at the same time, as when one broker of a cluster ends.
async fn mass_disconnect(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<5>().await?;
    // The scheduler must know all hosts; otherwise fewer than three quarters of the hosts that it
    // knows might disconnect.
    cx.wait_until_registered().await?;
    deploy_after_launch(cx, 10).await?;
    let disconnected: Vec<SimulatedHost> = hosts.into_iter().take(4).collect();
    let outage = HostOutage {
        hosts: &disconnected,
        duration: Duration::from_millis(2_800),
        max_duration: Duration::from_secs(4),
        times: 1,
    };
    let redeploy = |attempt| async move {
        let app = format!("more{attempt}");
        cx.deploy(&app, 10, SCHED_SCALE_001).await.map(|_| ())
    };
    cx.assert_no_churn(SCHED_CONT_006, &outage, Duration::from_secs(5), redeploy)
        .await
}

/// Kills a host while the scheduler is disconnected, and checks that its workloads restart on other
/// hosts.
async fn host_lost_in_outage(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<3>().await?;
    let (_, running) = deploy_after_launch(cx, 3).await?;
    let outage = cx.scheduler().bus.disconnect_scheduler().await;
    kill_host_with_workload(&running);
    cx.wait(Duration::from_secs(2)).await;
    outage.restore().await;
    let restarted = cx
        .wait_for_running("app", 3, replacement_limit(cx.timings()))
        .await;
    cx.claim(SCHED_CONT_007).met(restarted);
    Ok(())
}

/// Kills a host that runs a workload, because the scheduler might not know a host without workloads
/// yet.
fn kill_host_with_workload(running: &[RunningWorkload]) {
    if let Some(workload) = running.first() {
        workload.host.kill();
    }
}

/// Kills and relaunches the scheduler, and checks that all workloads keep running under their ids.
async fn killed(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (_, running) = deploy_after_launch(cx, 4).await?;
    let from = Instant::now();
    cx.scheduler().kill().await;
    launch(cx)?;
    cx.assert_no_commands(SCHED_CONT_008, from, Duration::from_secs(6))
        .await;
    // Proves that the scheduler works after the restart.
    cx.submit(&cx.deployment("more", 1)).await?;
    let more = cx
        .wait_for_running("more", 1, cx.timings().act + cx.timings().reconnect)
        .await;
    more.or_blocked(cx, SCHED_CONT_001)?;
    cx.claim(SCHED_CONT_008).is(
        "ids of the running workloads",
        workload_ids(&cx.running("app")),
        workload_ids(&running),
    );
    Ok(())
}

/// The scheduler is killed after it has sent a stop, and before it has received the reply.
async fn killed_during_stop(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    let (set, running) = deploy_after_launch(cx, 1).await?;
    let Some(workload) = running.first() else {
        return Ok(());
    };
    host.add_rule(CommandRule::on("workload.stop", Reaction::Ignore));
    cx.delete(&set).await?;
    cx.wait_for_stop(&workload.id, cx.timings().act)
        .await
        .or_blocked(cx, SCHED_STOP_001)?;
    cx.scheduler().kill().await;
    host.clear_rules();
    launch(cx)?;
    let within = cx.timings().act + cx.timings().reconnect;
    let stopped = cx.wait_for_running("app", 0, within).await;
    cx.claim(SCHED_CONT_009).met(stopped);
    Ok(())
}

/// The scheduler is killed after it has sent a start, and before it has received the reply.
async fn killed_during_start(cx: &ScenarioContext) -> Flow {
    for host in cx.start_hosts::<2>().await? {
        host.add_rule(CommandRule::on(
            "workload.start",
            Reaction::DelayReply(Duration::from_secs(3)),
        ));
    }
    cx.submit(&cx.deployment("app", 1)).await?;
    let within = cx.timings().act + cx.timings().reconnect;
    cx.wait_for_start("app", within)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    cx.scheduler().kill().await;
    launch(cx)?;
    let other_id = cx.never(Duration::from_secs(7), "a start under another id", || {
        let ids = cx.started_ids("app");
        (ids.len() > 1).then(|| format!("{ids:?}"))
    });
    cx.claim(SCHED_CONT_010).met(other_id.await);
    Ok(())
}

/// Deletes an app while the scheduler is down, and checks that a relaunched scheduler stops its
/// workloads.
async fn deleted_while_down(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (set, running) = deploy_after_launch(cx, 2).await?;
    cx.scheduler().kill().await;
    cx.delete(&set).await?;
    launch(cx)?;
    for workload in &running {
        let within = cx.timings().act + cx.timings().reconnect;
        cx.claim(SCHED_CONT_011)
            .met(cx.wait_for_stop(&workload.id, within).await);
    }
    Ok(())
}

/// Kills a host while the scheduler is down, and checks that a relaunched scheduler restarts the
/// workloads of the host.
async fn host_lost_while_down(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (_, running) = deploy_after_launch(cx, 4).await?;
    cx.scheduler().kill().await;
    kill_host_with_workload(&running);
    launch(cx)?;
    let within = replacement_limit(cx.timings()) + cx.timings().reconnect;
    let restarted = cx.wait_for_running("app", 4, within).await;
    cx.claim(SCHED_CONT_012).met(restarted);
    Ok(())
}

/// Launches the scheduler while the broker is unreachable, and checks that it waits for the broker
/// and then starts an app.
async fn started_without_broker(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    cx.scheduler().kill().await;
    let outage = cx.scheduler().bus.disconnect_scheduler().await;
    launch(cx)?;
    cx.submit(&cx.deployment("app", 2)).await?;
    cx.wait(Duration::from_secs(3)).await;
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
async fn two_instances(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let second = cx.scheduler().launch_another();
    let _second =
        second.map_err(|error| Blocked::harness_error("cannot launch the scheduler", &error))?;
    cx.wait(Duration::from_secs(1)).await;
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

/// Stops the scheduler with its stop signal, and checks that it exits with code 0 and stops no
/// workload.
async fn graceful_shutdown(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    deploy_after_launch(cx, 2).await?;
    let Some(process) = cx.scheduler().process() else {
        return Ok(());
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
    Ok(())
}
