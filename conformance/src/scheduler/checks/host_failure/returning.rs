//! Lost hosts that return: the ids that are no longer wanted are stopped, and the hosts are used
//! again.

use serde_json::json;

use super::victim;
use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::{ScenarioContext, workload_ids};
use crate::scheduler::simulated_host::SimulatedHost;
use crate::spec::requirements::*;

/// Claims that each of these ids is stopped within `cleanup`.
pub(super) async fn check_stopped(cx: &ScenarioContext, ids: &[String]) {
    for id in ids {
        let stopped = cx.wait_for_stop(id, cx.timings().cleanup).await;
        cx.claim(SCHED_FAIL_007).met(stopped);
    }
}

async fn reconnect(host: &SimulatedHost) -> Result<(), Blocked> {
    let reconnected = host.reconnect().await;
    reconnected.map_err(|error| Blocked::harness_error("cannot reconnect a simulated host", &error))
}

/// Disconnects a host until its workloads are replaced, reconnects it, and checks that its stale
/// workloads are stopped and that it is used again.
pub(super) async fn returns(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let (_, running) = cx.deploy("app", 2, SCHED_SCALE_001).await?;
    let Some(victim) = victim(&hosts, &running) else {
        return Ok(());
    };
    let stale_ids: Vec<String> = victim.running_ids();
    victim.disconnect();
    let restarted = cx.wait_for_running("app", 2, cx.timings().notice).await;
    restarted.or_blocked(cx, SCHED_FAIL_001)?;
    reconnect(&victim).await?;
    check_stopped(cx, &stale_ids).await;
    cx.submit(
        &cx.deployment("again", 1)
            .spec("/hostId", json!(victim.id())),
    )
    .await?;
    let within = cx.timings().register + cx.timings().act;
    let running = cx.wait_for_running("again", 1, within).await;
    cx.claim(SCHED_FAIL_008).met(running);
    Ok(())
}

/// Disconnects the host of an app, and then the host of its replacement. One app is deleted
/// meanwhile. Checks that both hosts are cleaned up when they return.
pub(super) async fn several_return(cx: &ScenarioContext) -> Flow {
    let first = cx.start_host(cx.host_config("a")).await?;
    cx.deploy("app", 1, SCHED_SCALE_001).await?;
    let (deleted, _) = cx.deploy("deleted", 1, SCHED_SCALE_001).await?;
    let first_ids = first.running_ids();
    let second = cx.start_host(cx.host_config("b")).await?;
    first.disconnect();
    for app in ["app", "deleted"] {
        let replaced = cx.wait_for_running(app, 1, cx.timings().notice).await;
        replaced.or_blocked(cx, SCHED_FAIL_001)?;
    }
    let second_ids = second.running_ids();
    cx.start_host(cx.host_config("c")).await?;
    cx.wait_until_registered().await?;
    second.disconnect();
    let replaced = cx.wait_for_running("app", 1, cx.timings().notice).await;
    replaced.or_blocked(cx, SCHED_FAIL_001)?;
    cx.delete(&deleted).await?;
    cx.wait_for_running("deleted", 0, cx.timings().act + cx.timings().notice)
        .await
        .or_blocked(cx, SCHED_STOP_001)?;
    // A scheduler may forget an app when its deletion is complete, but not the ids on lost hosts.
    let within = cx.timings().act + cx.timings().show;
    let _ = cx.wait_for_deletion(&deleted, within).await;
    for (host, ids) in [(&first, &first_ids), (&second, &second_ids)] {
        reconnect(host).await?;
        check_stopped(cx, ids).await;
    }
    Ok(())
}

/// Restarts the scheduler while a lost host is disconnected, and checks that the host is cleaned up
/// when it returns.
pub(super) async fn returns_after_restart(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    cx.submit(&cx.deployment("app", 2)).await?;
    let within = cx.timings().act + cx.timings().reconnect;
    let running = cx.wait_for_running("app", 2, within).await;
    running.or_blocked(cx, SCHED_SCALE_001)?;
    let stale_ids = host.running_ids();
    // With a small fleet, the loss of one host must not look like the loss of a broker.
    for name in ["b", "c", "d", "e"] {
        cx.start_host(cx.host_config(name)).await?;
    }
    cx.wait_until_registered().await?;
    host.disconnect();
    let replaced = cx.wait_for_running("app", 2, cx.timings().notice).await;
    let replaced = replaced.or_blocked(cx, SCHED_FAIL_001)?;
    cx.scheduler().kill().await;
    let launched = cx.scheduler().launch();
    launched.map_err(|error| Blocked::harness_error("cannot launch the scheduler", &error))?;
    cx.submit(&cx.deployment("more", 1)).await?;
    let running = cx.wait_for_running("more", 1, within).await;
    running.or_blocked(cx, SCHED_CONT_001)?;
    reconnect(&host).await?;
    check_stopped(cx, &stale_ids).await;
    let stays = cx.wait_for_running("app", 2, cx.timings().act).await;
    if let Some(running) = cx.claim(SCHED_CONT_008).met(stays) {
        let (ids, before) = (workload_ids(&running), workload_ids(&replaced));
        cx.claim(SCHED_CONT_008)
            .is("ids of the replacements", ids, before);
    }
    Ok(())
}

/// Two hosts end and return in turn, so that the first one ends twice. Checks that the workloads
/// restart each time.
pub(super) async fn fails_again(cx: &ScenarioContext) -> Flow {
    let first = cx.start_host(cx.host_config("a")).await?;
    cx.deploy("app", 2, SCHED_SCALE_001).await?;
    let second = cx.start_host(cx.host_config("b")).await?;
    cx.wait_until_registered().await?;
    for host in [&first, &second, &first] {
        host.kill();
        let replaced = cx.wait_for_running("app", 2, cx.timings().notice).await;
        cx.claim(SCHED_FAIL_001).met(replaced);
        let restarted = host.restart_with_same_id().await;
        restarted
            .map_err(|error| Blocked::harness_error("cannot restart a simulated host", &error))?;
        cx.wait(cx.timings().register).await;
    }
    Ok(())
}
