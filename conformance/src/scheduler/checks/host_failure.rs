//! Host failure: hosts that end, freeze, disconnect, and return.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::{
    HostOutage, RunningWorkload, ScenarioContext, host_names, workload_ids,
};
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{CommandRule, HostFlavor, Reaction, SimulatedHost};
use crate::spec::requirements::*;
use crate::testbed::tap::FrameKind;

/// Scenarios of the section `host-failure`.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "host-failure/killed", run: killed, covers: [SCHED_FAIL_001, SCHED_FAIL_009],
        isolation: Shared, needs: [Tap], budget_s: 60,
    },
    scenario! {
        id: "host-failure/frozen", run: frozen, covers: [SCHED_FAIL_002], isolation: Shared,
        waits: |timings| timings.silence, budget_s: 90,
    },
    scenario! {
        id: "host-failure/missed-heartbeats", run: missed_heartbeats, covers: [SCHED_FAIL_003],
        isolation: Shared, waits: |timings| timings.silence, budget_s: 120,
    },
    scenario! {
        id: "host-failure/brief-disconnect", run: brief_disconnect, covers: [SCHED_FAIL_004],
        isolation: Shared, budget_s: 150,
    },
    scenario! {
        id: "host-failure/long-start", run: long_start, covers: [SCHED_FAIL_005], isolation: Shared,
        waits: |timings| timings.silence, budget_s: 90,
    },
    scenario! {
        id: "host-failure/slow-replies", run: slow_replies, covers: [SCHED_FAIL_006],
        isolation: Shared, waits: |timings| timings.silence, budget_s: 150,
    },
    scenario! {
        id: "host-failure/returns", run: returns, covers: [SCHED_FAIL_007, SCHED_FAIL_008],
        isolation: Shared, budget_s: 90,
    },
    scenario! {
        id: "host-failure/objects-kept", run: objects_kept, covers: [SCHED_FAIL_010],
        isolation: Shared, budget_s: 90,
    },
];

/// Returns a host that runs one of the workloads.
fn victim(hosts: &[SimulatedHost], running: &[RunningWorkload]) -> Option<SimulatedHost> {
    let name = host_names(running).into_iter().next()?;
    hosts.iter().find(|host| host.name() == name).cloned()
}

/// Kills a host, and checks that its workloads restart on the other host in time and that no start
/// is then sent to the lost host.
async fn killed(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let (_, running) = cx.deploy("app", 4, SCHED_SCALE_001).await?;
    let Some(victim) = victim(&hosts, &running) else {
        return Ok(());
    };
    victim.kill();
    let restarted = cx.wait_for_running("app", 4, cx.timings().notice).await;
    cx.claim(SCHED_FAIL_001).met(restarted);
    // The replacements show that the scheduler has declared the host lost.
    let mark = cx.scheduler().bus.tap().mark();
    let more = cx.deployment("more", 4);
    cx.submit(&more).await?;
    let running = cx.wait_for_running("more", 4, cx.timings().act).await;
    let subject = crate::wire::nats::command_subject(&victim.id(), "workload.start");
    let frames = cx.scheduler().bus.tap().frames_since(mark);
    let sent = frames
        .iter()
        .filter(|frame| frame.kind == FrameKind::Publish && frame.is_on(&subject))
        .count();
    cx.claim(SCHED_FAIL_009)
        .is("number of starts sent to the lost host", sent, 0);
    running.or_blocked(cx, SCHED_SCALE_001)?;
    Ok(())
}

/// Freezes a host with its connection open, and checks that its workloads restart on the healthy
/// host.
async fn frozen(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let (_, running) = cx.deploy("app", 4, SCHED_SCALE_001).await?;
    let Some(victim) = victim(&hosts, &running) else {
        return Ok(());
    };
    let before = workload_ids(&running);
    victim.freeze();
    let within = cx.timings().silence + cx.timings().act;
    let restarted = cx.eventually(within, "4 workloads run on the healthy host", || {
        let running = cx.running("app");
        let healthy: Vec<_> = running
            .iter()
            .filter(|workload| workload.host.name() != victim.name())
            .collect();
        let new = healthy
            .iter()
            .filter(|workload| !before.contains(&workload.id))
            .count();
        std::future::ready(if healthy.len() == 4 && new > 0 {
            Ok(())
        } else {
            Err(format!("{} run on the healthy host", healthy.len()))
        })
    });
    cx.claim(SCHED_FAIL_002).met(restarted.await);
    victim.resume();
    Ok(())
}

/// Pauses the heartbeats of a host that still replies, and checks that nothing is started or
/// stopped.
async fn missed_heartbeats(cx: &ScenarioContext) -> Flow {
    let [a, _] = cx.start_hosts::<2>().await?;
    cx.deploy("app", 4, SCHED_SCALE_001).await?;
    let from = Instant::now();
    a.pause_heartbeats();
    let window = cx.timings().silence + Duration::from_secs(4);
    cx.assert_no_commands(SCHED_FAIL_003, from, window).await;
    a.resume_heartbeats();
    Ok(())
}

/// Disconnects a host several times for 400 ms, and checks that nothing is started or stopped.
async fn brief_disconnect(cx: &ScenarioContext) -> Flow {
    let [a, _] = cx.start_hosts::<2>().await?;
    cx.deploy("app", 4, SCHED_SCALE_001).await?;
    let outage = HostOutage {
        hosts: std::slice::from_ref(&a),
        duration: Duration::from_millis(400),
        max_duration: Duration::from_secs(1),
        times: 3,
    };
    let redeploy = |attempt| async move {
        let app = format!("more{attempt}");
        cx.deploy(&app, 4, SCHED_SCALE_001).await.map(|_| ())
    };
    cx.assert_no_churn(SCHED_FAIL_004, &outage, Duration::from_secs(3), redeploy)
        .await
}

/// A host that executes one command at a time pulls an image for longer than `silence`, and sends
/// nothing during the pull.
async fn long_start(cx: &ScenarioContext) -> Flow {
    let a = cx
        .start_host(
            cx.host_config("a")
                .flavor(HostFlavor::Wash)
                .label("zone", "a"),
        )
        .await?;
    cx.deploy("first", 1, SCHED_SCALE_001).await?;
    // Host `b` starts only now, so that the first workload runs on `a`. If the scheduler declared
    // `a` lost, the workload would move to `b`.
    cx.start_host(cx.host_config("b")).await?;
    let pull = cx.timings().silence + Duration::from_secs(4);
    a.add_rule(
        CommandRule::on("workload.start", Reaction::Delay(pull)).containing(&cx.image("second", 1)),
    );
    let second = cx
        .deployment("second", 1)
        .spec("/hostSelector/zone", json!("a"));
    cx.submit(&second).await?;
    cx.wait_for_start("second", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_PLACE_001)?;
    let from = Instant::now();
    cx.assert_no_commands(SCHED_FAIL_005, from, pull).await;
    let running = cx.wait_for_running("second", 1, cx.timings().act).await;
    cx.claim(SCHED_FAIL_005).met(running);
    Ok(())
}

/// A host publishes no heartbeats, and replies to each command after 4 s.
async fn slow_replies(cx: &ScenarioContext) -> Flow {
    let [a, _] = cx.start_hosts::<2>().await?;
    cx.deploy("app", 4, SCHED_SCALE_001).await?;
    for command in ["workload.status", "workload.stop", "heartbeat"] {
        a.add_rule(CommandRule::on(
            command,
            Reaction::DelayReply(Duration::from_secs(4)),
        ));
    }
    let from = Instant::now();
    a.pause_heartbeats();
    let window = cx.timings().silence * 2 + Duration::from_secs(2);
    cx.assert_no_commands(SCHED_FAIL_006, from, window).await;
    Ok(())
}

/// Disconnects a host until its workloads are replaced, reconnects it, and checks that its stale
/// workloads are stopped and that it is used again.
async fn returns(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let (_, running) = cx.deploy("app", 2, SCHED_SCALE_001).await?;
    let Some(victim) = victim(&hosts, &running) else {
        return Ok(());
    };
    let stale_ids: Vec<String> = victim.running_ids();
    victim.disconnect();
    let restarted = cx.wait_for_running("app", 2, cx.timings().notice).await;
    restarted.or_blocked(cx, SCHED_FAIL_001)?;
    let reconnected = victim.reconnect().await;
    reconnected
        .map_err(|error| Blocked::harness_error("cannot reconnect a simulated host", &error))?;
    for id in &stale_ids {
        let stopped = cx.wait_for_stop(id, cx.timings().cleanup).await;
        cx.claim(SCHED_FAIL_007).met(stopped);
    }
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

/// The only host ends. The submitted objects must remain, and run on a new host.
async fn objects_kept(cx: &ScenarioContext) -> Flow {
    let a = cx.start_host(cx.host_config("a")).await?;
    let alone = cx.workload("alone");
    cx.submit(&alone).await?;
    cx.require_running("alone", 1, SCHED_START_001).await?;
    let (set, _) = cx.deploy("set", 2, SCHED_SCALE_001).await?;
    a.kill();
    // After this time, the scheduler has declared the host lost.
    cx.wait(cx.timings().notice).await;
    for manifest in [&alone, &set] {
        let observed = cx.observe(manifest).await;
        cx.claim(SCHED_FAIL_010).holds(
            "the submitted object still exists",
            observed.is_ok(),
            || observed.err().unwrap_or_default(),
        );
    }
    cx.start_host(cx.host_config("b")).await?;
    let within = cx.timings().register + cx.timings().act;
    let running = cx.wait_for_running("alone", 1, within).await;
    cx.claim(SCHED_FAIL_010).met(running);
    let running = cx.wait_for_running("set", 2, within).await;
    cx.claim(SCHED_FAIL_010).met(running);
    Ok(())
}
