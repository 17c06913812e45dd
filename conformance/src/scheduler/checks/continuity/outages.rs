//! Outages of the broker, of the scheduler's connection, and of a broker of a cluster.

use super::{deploy_after_launch, kill_host_with_workload, replacement_limit};
use std::time::{Duration, Instant};

use crate::check::outcome::Flow;
use crate::scheduler::context::{HostOutage, ScenarioContext};
use crate::scheduler::simulated_host::SimulatedHost;
use crate::spec::requirements::*;

/// Disconnects the scheduler and the hosts for some seconds, twice, and checks that the same
/// process starts a new app in time after each outage.
pub(super) async fn short_outage(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    deploy_after_launch(cx, 2).await?;
    for (app, outage_s) in [("more", 4), ("again", 1)] {
        let (scheduler_outage, host_outage) = (
            cx.scheduler().bus.disconnect_scheduler().await,
            cx.scheduler().bus.disconnect_hosts().await,
        );
        cx.wait(Duration::from_secs(outage_s)).await;
        scheduler_outage.restore().await;
        host_outage.restore().await;
        cx.submit(&cx.deployment(app, 2)).await?;
        let within = cx.timings().reconnect + cx.timings().act;
        let running = cx.wait_for_running(app, 2, within).await;
        cx.claim(SCHED_CONT_001).met(running);
    }
    cx.claim(SCHED_CONT_001).holds(
        "the scheduler's process is running",
        !cx.scheduler().has_exited(),
        || "the process has exited",
    );
    Ok(())
}

/// Disconnects the scheduler and the hosts for 3 min, and checks that the scheduler then starts and
/// stops nothing.
pub(super) async fn long_outage(cx: &ScenarioContext) -> Flow {
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

/// Outages of more than this are not needed to judge a scheduler, and take too long.
const LONGEST_OUTAGE: Duration = Duration::from_secs(12);

/// After an outage that is longer than `silence`, the hosts reconnect later than the scheduler. The
/// fleet has only two hosts: if more hosts were missing, the scheduler might suspect the broker
/// because of their number.
pub(super) async fn hosts_reconnect_late(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    deploy_after_launch(cx, 4).await?;
    let from = Instant::now();
    let (scheduler_outage, host_outage) = (
        cx.scheduler().bus.disconnect_scheduler().await,
        cx.scheduler().bus.disconnect_hosts().await,
    );
    let outage = cx.timings().silence + Duration::from_secs(1);
    cx.wait(outage.min(LONGEST_OUTAGE)).await;
    scheduler_outage.restore().await;
    cx.wait(Duration::from_secs(8)).await;
    host_outage.restore().await;
    cx.assert_no_commands(SCHED_CONT_003, from, Duration::from_secs(8))
        .await;
    Ok(())
}

/// An object that is submitted and deleted during an outage must not be started afterwards.
pub(super) async fn deleted_during_outage(cx: &ScenarioContext) -> Flow {
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
pub(super) async fn scheduler_disconnected(cx: &ScenarioContext) -> Flow {
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

/// Exactly three quarters of the fleet disconnect at the same time, as when one broker of a cluster
/// ends.
pub(super) async fn mass_disconnect(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<4>().await?;
    // The scheduler must know all hosts; otherwise fewer than three quarters of the hosts that it
    // knows might disconnect.
    cx.wait_until_registered().await?;
    deploy_after_launch(cx, 8).await?;
    check_mass_disconnect(cx, hosts.get(..3).unwrap_or_default(), 8).await
}

/// Some hosts end, and much later all others disconnect at the same time. The lost hosts are no
/// part of the fleet any more.
pub(super) async fn mass_disconnect_again(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<4>().await?;
    let mut ended = Vec::new();
    for number in 0..4 {
        ended.push(
            cx.start_host(cx.host_config(&format!("ended{number}")))
                .await?,
        );
    }
    cx.wait_until_registered().await?;
    deploy_after_launch(cx, 8).await?;
    for host in &ended {
        // One after the other, because the end of many hosts might be that of a broker.
        host.kill();
        let replaced = cx.wait_for_running("app", 8, cx.timings().notice).await;
        replaced.or_blocked(cx, SCHED_FAIL_001)?;
    }
    // The last host might have been idle.
    cx.wait(cx.timings().notice).await;
    check_mass_disconnect(cx, &hosts, 8).await
}

/// Disconnects these hosts for less than 4 s, and checks that nothing is started or stopped.
async fn check_mass_disconnect(
    cx: &ScenarioContext,
    hosts: &[SimulatedHost],
    replicas: usize,
) -> Flow {
    let outage = HostOutage {
        hosts,
        duration: Duration::from_millis(2_800),
        max_duration: Duration::from_secs(4),
        times: 1,
    };
    let redeploy = |attempt| async move {
        let app = format!("more{attempt}");
        cx.deploy(&app, replicas, SCHED_SCALE_001).await.map(|_| ())
    };
    cx.assert_no_churn(SCHED_CONT_006, &outage, Duration::from_secs(5), redeploy)
        .await
}

/// Kills a host while the scheduler is disconnected, and checks that its workloads restart on other
/// hosts.
pub(super) async fn host_lost_in_outage(cx: &ScenarioContext) -> Flow {
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
