//! Host failure: hosts that end, freeze, disconnect, and return.

mod returning;
mod unreachable;

use std::time::{Duration, Instant};

use serde_json::json;

use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::{RunningWorkload, ScenarioContext, host_names, workload_ids};
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
        id: "host-failure/frozen", run: frozen, covers: [SCHED_FAIL_002, SCHED_FAIL_007],
        isolation: Shared,
        waits: |timings| timings.silence, budget_s: 90,
    },
    scenario! {
        id: "host-failure/missed-heartbeats", run: missed_heartbeats, covers: [SCHED_FAIL_003],
        isolation: Shared, waits: |timings| timings.silence, budget_s: 120,
    },
    scenario! {
        id: "host-failure/brief-disconnect", run: unreachable::brief_disconnect,
        covers: [SCHED_FAIL_004], isolation: Shared, budget_s: 150,
    },
    scenario! {
        id: "host-failure/stops-in-disconnect", run: unreachable::stops_in_disconnect,
        covers: [SCHED_FAIL_004], isolation: Shared, needs: [Tap], budget_s: 90,
    },
    scenario! {
        id: "host-failure/refusal", run: unreachable::refusal, covers: [SCHED_FAIL_004],
        isolation: Shared, budget_s: 60,
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
        id: "host-failure/returns", run: returning::returns,
        covers: [SCHED_FAIL_007, SCHED_FAIL_008], isolation: Shared, budget_s: 90,
    },
    scenario! {
        id: "host-failure/several-return", run: returning::several_return,
        covers: [SCHED_FAIL_007], isolation: Shared, budget_s: 120,
    },
    scenario! {
        id: "host-failure/returns-after-restart", run: returning::returns_after_restart,
        covers: [SCHED_FAIL_007, SCHED_CONT_008], isolation: Own, needs: [Process], budget_s: 120,
    },
    scenario! {
        id: "host-failure/fails-again", run: returning::fails_again, covers: [SCHED_FAIL_001],
        // Slow, because other scenarios lose hosts as well: a guard against mass loss may then
        // delay this one.
        isolation: Shared, slow: true, budget_s: 90,
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
    let named = cx.deployment("named", 1);
    cx.submit(&named.spec("/hostId", json!(victim.id())))
        .await?;
    let more = cx.deployment("more", 4);
    cx.submit(&more).await?;
    let running = cx.wait_for_running("more", 4, cx.timings().act).await;
    cx.wait(Duration::from_secs(1)).await;
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
    let stale_ids = victim.running_ids();
    let is_replaced = cx.claim(SCHED_FAIL_002).met(restarted.await).is_some();
    victim.resume();
    victim.send_heartbeat().await;
    if is_replaced {
        returning::check_stopped(cx, &stale_ids).await;
    }
    Ok(())
}

/// Pauses the heartbeats of two hosts that still reply, one of them without workloads, and checks
/// that nothing is started or stopped and that the idle host is still used.
async fn missed_heartbeats(cx: &ScenarioContext) -> Flow {
    let [a, _] = cx.start_hosts::<2>().await?;
    cx.deploy("app", 4, SCHED_SCALE_001).await?;
    let idle = cx.start_host(cx.host_config("idle")).await?;
    cx.wait_until_registered().await?;
    let from = Instant::now();
    a.pause_heartbeats();
    idle.pause_heartbeats();
    let window = cx.timings().silence + Duration::from_secs(4);
    cx.assert_no_commands(SCHED_FAIL_003, from, window).await;
    let more = cx.deployment("more", 1);
    cx.submit(&more.spec("/hostId", json!(idle.id()))).await?;
    let running = cx.wait_for_running("more", 1, cx.timings().act).await;
    cx.claim(SCHED_FAIL_003).met(running);
    a.resume_heartbeats();
    idle.resume_heartbeats();
    Ok(())
}

/// A host that executes one command at a time pulls an image for longer than `silence`, and sends
/// nothing during the pull. It has replied to an earlier start while the long one was waiting.
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
    for (app, pull) in [("quick", Duration::from_secs(3)), ("second", pull)] {
        let rule = CommandRule::on("workload.start", Reaction::Delay(pull));
        a.add_rule(rule.containing(&cx.image(app, 1)));
        let manifest = cx.deployment(app, 1);
        cx.submit(&manifest.spec("/hostSelector/zone", json!("a")))
            .await?;
        if app == "quick" {
            let started = cx.wait_for_start(app, cx.timings().act).await;
            started.or_blocked(cx, SCHED_PLACE_001)?;
        }
    }
    // The host reads the second start only after it has executed the first.
    let within = cx.timings().act + Duration::from_secs(3);
    cx.wait_for_start("second", within)
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

/// The only host ends. The submitted objects must remain, and run on a new host.
async fn objects_kept(cx: &ScenarioContext) -> Flow {
    let a = cx.start_host(cx.host_config("a")).await?;
    let alone = cx.workload("alone");
    cx.submit(&alone).await?;
    cx.require_running("alone", 1, SCHED_START_001).await?;
    let (set, _) = cx.deploy("set", 2, SCHED_SCALE_001).await?;
    let named = cx.workload("named").spec("/hostId", json!(a.id()));
    cx.submit(&named).await?;
    cx.require_running("named", 1, SCHED_START_001).await?;
    a.kill();
    // After this time, the scheduler has declared the host lost.
    cx.wait(cx.timings().notice).await;
    for manifest in [&alone, &set, &named] {
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
    let restarted = a.restart_with_same_id().await;
    restarted.map_err(|error| Blocked::harness_error("cannot restart a simulated host", &error))?;
    let running = cx.wait_for_running("named", 1, within).await;
    cx.claim(SCHED_FAIL_010).met(running);
    Ok(())
}
