//! Restarts of the scheduler.

use std::time::{Duration, Instant};

use super::{deploy_after_launch, kill_host_with_workload, launch, replacement_limit};
use crate::check::outcome::Flow;
use crate::scheduler::context::{ScenarioContext, workload_ids};
use crate::scheduler::simulated_host::{CommandRule, Reaction, SimulatedHost};
use crate::spec::requirements::*;

/// Kills and relaunches the scheduler, and checks that all workloads keep running under their ids,
/// although their hosts send no heartbeats for some seconds.
pub(super) async fn killed(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let (_, running) = deploy_after_launch(cx, 4).await?;
    let from = Instant::now();
    cx.scheduler().kill().await;
    hosts.iter().for_each(SimulatedHost::pause_heartbeats);
    launch(cx)?;
    cx.assert_no_commands(SCHED_CONT_008, from, Duration::from_secs(6))
        .await;
    for host in &hosts {
        host.resume_heartbeats();
        host.send_heartbeat().await;
    }
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
pub(super) async fn killed_during_stop(cx: &ScenarioContext) -> Flow {
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
    // The scheduler may record later that it has sent the stop.
    cx.wait(Duration::from_millis(600)).await;
    cx.scheduler().kill().await;
    host.clear_rules();
    launch(cx)?;
    let within = cx.timings().act + cx.timings().reconnect;
    let stopped = cx.wait_for_running("app", 0, within).await;
    cx.claim(SCHED_CONT_009).met(stopped);
    Ok(())
}

/// The scheduler is killed after it has sent a start, and before it has received the reply.
pub(super) async fn killed_during_start(cx: &ScenarioContext) -> Flow {
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
pub(super) async fn deleted_while_down(cx: &ScenarioContext) -> Flow {
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
pub(super) async fn host_lost_while_down(cx: &ScenarioContext) -> Flow {
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
