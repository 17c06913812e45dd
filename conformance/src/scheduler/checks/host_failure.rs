//! Hosts that end, freeze, are cut off, and come back.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::check::outcome::Flow;
use crate::scheduler::context::{Absence, ScenarioContext, hosts_of, ids_of};
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{Act, HostFlavor, Rule, SimulatedHost};
use crate::spec::requirements::*;
use crate::testbed::tap::Kind;

/// The section.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "fail/killed", run: killed, covers: [SCHED_FAIL_001, SCHED_FAIL_009],
        isolation: Shared, needs: [Tap], budget_s: 60,
    },
    scenario! {
        id: "fail/frozen", run: frozen, covers: [SCHED_FAIL_002], isolation: Shared,
        waits: |timings| timings.silence, budget_s: 90,
    },
    scenario! {
        id: "fail/missed-heartbeats", run: missed_heartbeats, covers: [SCHED_FAIL_003],
        isolation: Shared, waits: |timings| timings.silence, budget_s: 120,
    },
    scenario! {
        id: "fail/reconnect", run: reconnect, covers: [SCHED_FAIL_004], isolation: Shared,
        budget_s: 150,
    },
    scenario! {
        id: "fail/busy", run: busy, covers: [SCHED_FAIL_005], isolation: Shared,
        waits: |timings| timings.silence, budget_s: 90,
    },
    scenario! {
        id: "fail/slow", run: slow, covers: [SCHED_FAIL_006], isolation: Shared,
        waits: |timings| timings.silence, budget_s: 150,
    },
    scenario! {
        id: "fail/returns", run: returns, covers: [SCHED_FAIL_007, SCHED_FAIL_008],
        isolation: Shared, budget_s: 90,
    },
    scenario! {
        id: "fail/keeps", run: keeps, covers: [SCHED_FAIL_010], isolation: Shared, budget_s: 90,
    },
];

/// The host that a replica of the app runs on, and one that it does not.
fn victim(
    hosts: &[SimulatedHost],
    app: &[crate::scheduler::context::Placed],
) -> Option<SimulatedHost> {
    let name = hosts_of(app).into_iter().next()?;
    hosts.iter().find(|host| host.name() == name).cloned()
}

async fn killed(cx: &ScenarioContext) -> Flow {
    let hosts = cx.hosts::<2>().await?;
    let (_, placed) = cx.deployed("app", 4, SCHED_SCALE_001).await?;
    let Some(victim) = victim(&hosts, &placed) else {
        return Ok(());
    };
    victim.kill();
    let elsewhere = cx.runs("app", 4, cx.timings().notice).await;
    cx.claim(SCHED_FAIL_001).met(elsewhere);
    // The replacements show that it is taken for lost.
    let mark = cx.live().bus.tap().mark();
    let more = cx.deployment("more", 4);
    cx.submit(&more).await?;
    let placed = cx.runs("more", 4, cx.timings().act).await;
    let subject = crate::wire::nats::command_subject(&victim.id(), "workload.start");
    let frames = cx.live().bus.tap().frames_since(mark);
    let sent = frames
        .iter()
        .filter(|frame| frame.kind == Kind::Publish && frame.is_on(&subject))
        .count();
    cx.claim(SCHED_FAIL_009)
        .is("starts sent to the host that is lost", sent, 0);
    placed.or_blocked(cx, SCHED_SCALE_001)?;
    Ok(())
}

async fn frozen(cx: &ScenarioContext) -> Flow {
    let hosts = cx.hosts::<2>().await?;
    let (_, placed) = cx.deployed("app", 4, SCHED_SCALE_001).await?;
    let Some(victim) = victim(&hosts, &placed) else {
        return Ok(());
    };
    let before = ids_of(&placed);
    victim.freeze();
    let within = cx.timings().silence + cx.timings().act;
    let elsewhere = cx.eventually(within, "4 run on the host that is well", || {
        let running = cx.running("app");
        let well: Vec<_> = running
            .iter()
            .filter(|placed| placed.host.name() != victim.name())
            .collect();
        let fresh = well
            .iter()
            .filter(|placed| !before.contains(&placed.id))
            .count();
        std::future::ready(if well.len() == 4 && fresh > 0 {
            Ok(())
        } else {
            Err(format!("{} run there", well.len()))
        })
    });
    cx.claim(SCHED_FAIL_002).met(elsewhere.await);
    victim.thaw();
    Ok(())
}

async fn missed_heartbeats(cx: &ScenarioContext) -> Flow {
    let [a, _] = cx.hosts::<2>().await?;
    cx.deployed("app", 4, SCHED_SCALE_001).await?;
    let from = Instant::now();
    a.mute(true);
    let window = cx.timings().silence + Duration::from_secs(4);
    cx.assert_no_commands(SCHED_FAIL_003, from, window).await;
    a.mute(false);
    Ok(())
}

async fn reconnect(cx: &ScenarioContext) -> Flow {
    let [a, _] = cx.hosts::<2>().await?;
    cx.deployed("app", 4, SCHED_SCALE_001).await?;
    let absence = Absence {
        hosts: std::slice::from_ref(&a),
        pause: Duration::from_millis(400),
        limit: Duration::from_secs(1),
        times: 3,
    };
    let more = |attempt| async move {
        let app = format!("more{attempt}");
        cx.deployed(&app, 4, SCHED_SCALE_001).await.map(|_| ())
    };
    cx.assert_no_churn(SCHED_FAIL_004, &absence, Duration::from_secs(3), more)
        .await
}

/// A serial host pulls for longer than it may be silent.
async fn busy(cx: &ScenarioContext) -> Flow {
    let a = cx
        .host(cx.plan("a").look(HostFlavor::Wash).label("zone", "a"))
        .await?;
    cx.deployed("first", 1, SCHED_SCALE_001).await?;
    // From here on it could go there.
    cx.host(cx.plan("b")).await?;
    let pull = cx.timings().silence + Duration::from_secs(4);
    a.script(Rule::on("workload.start", Act::After(pull)).containing(&cx.image("second", 1)));
    let second = cx
        .deployment("second", 1)
        .spec("/hostSelector/zone", json!("a"));
    cx.submit(&second).await?;
    cx.started("second", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_PLACE_001)?;
    let from = Instant::now();
    cx.assert_no_commands(SCHED_FAIL_005, from, pull).await;
    let both = cx.runs("second", 1, cx.timings().act).await;
    cx.claim(SCHED_FAIL_005).met(both);
    Ok(())
}

/// Every answer takes its time, and heartbeats do not come at all.
async fn slow(cx: &ScenarioContext) -> Flow {
    let [a, _] = cx.hosts::<2>().await?;
    cx.deployed("app", 4, SCHED_SCALE_001).await?;
    for command in ["workload.status", "workload.stop", "heartbeat"] {
        a.script(Rule::on(command, Act::AnswerAfter(Duration::from_secs(4))));
    }
    let from = Instant::now();
    a.mute(true);
    let window = cx.timings().silence * 2 + Duration::from_secs(2);
    cx.assert_no_commands(SCHED_FAIL_006, from, window).await;
    Ok(())
}

async fn returns(cx: &ScenarioContext) -> Flow {
    let hosts = cx.hosts::<2>().await?;
    let (_, placed) = cx.deployed("app", 2, SCHED_SCALE_001).await?;
    let Some(victim) = victim(&hosts, &placed) else {
        return Ok(());
    };
    let left: Vec<String> = victim.running();
    victim.cut_off();
    let elsewhere = cx.runs("app", 2, cx.timings().notice).await;
    elsewhere.or_blocked(cx, SCHED_FAIL_001)?;
    let back = victim.come_back().await;
    back.map_err(|cause| crate::check::outcome::Blocked::chain("a simulated host", &cause))?;
    for id in &left {
        let stopped = cx.stopped(id, cx.timings().cleanup).await;
        cx.claim(SCHED_FAIL_007).met(stopped);
    }
    cx.submit(
        &cx.deployment("again", 1)
            .spec("/hostId", json!(victim.id())),
    )
    .await?;
    let within = cx.timings().register + cx.timings().act;
    let used = cx.runs("again", 1, within).await;
    cx.claim(SCHED_FAIL_008).met(used);
    Ok(())
}

async fn keeps(cx: &ScenarioContext) -> Flow {
    let a = cx.host(cx.plan("a")).await?;
    let alone = cx.workload("alone");
    cx.submit(&alone).await?;
    cx.placed("alone", 1, SCHED_START_001).await?;
    let (set, _) = cx.deployed("set", 2, SCHED_SCALE_001).await?;
    a.kill();
    // Until it is surely taken for lost.
    cx.pass(cx.timings().notice).await;
    for manifest in [&alone, &set] {
        let there = cx.observe(manifest).await;
        cx.claim(SCHED_FAIL_010)
            .holds("what was submitted is still there", there.is_ok(), || {
                there.err().unwrap_or_default()
            });
    }
    cx.host(cx.plan("b")).await?;
    let within = cx.timings().register + cx.timings().act;
    let both = cx.runs("alone", 1, within).await;
    cx.claim(SCHED_FAIL_010).met(both);
    let both = cx.runs("set", 2, within).await;
    cx.claim(SCHED_FAIL_010).met(both);
    Ok(())
}
