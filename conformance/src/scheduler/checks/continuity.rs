//! Continuity: outages of the broker, ends of the scheduler. Each scenario has a bus and a scheduler of its own.

use std::time::{Duration, Instant};

use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::{Absence, Placed, ScenarioContext, ids_of};
use crate::scheduler::manifest::Manifest;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{Act, Rule, SimulatedHost};
use crate::scheduler::timings::Timings;
use crate::spec::requirements::*;

/// The section.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "cont/broker-back", run: broker_back, covers: [SCHED_CONT_001], isolation: Own,
        needs: [Tap], budget_s: 90,
    },
    scenario! {
        id: "cont/long-outage", run: long_outage, covers: [SCHED_CONT_002], isolation: Own,
        needs: [Tap], slow: true, budget_s: 300,
    },
    scenario! {
        id: "cont/late-hosts", run: late_hosts, covers: [SCHED_CONT_003], isolation: Own,
        needs: [Tap], budget_s: 90,
    },
    scenario! {
        id: "cont/nothing-late", run: nothing_late, covers: [SCHED_CONT_004], isolation: Own,
        needs: [Tap], budget_s: 90,
    },
    scenario! {
        id: "cont/own-link", run: own_link, covers: [SCHED_CONT_005], isolation: Own,
        needs: [Tap], budget_s: 90,
    },
    scenario! {
        id: "cont/crowd", run: crowd, covers: [SCHED_CONT_006], isolation: Own, needs: [Tap],
        budget_s: 150,
    },
    scenario! {
        id: "cont/gone-in-outage", run: gone_in_outage, covers: [SCHED_CONT_007], isolation: Own,
        needs: [Tap], waits: |timings| timings.silence, budget_s: 120,
    },
    scenario! {
        id: "cont/killed", run: killed, covers: [SCHED_CONT_008], isolation: Own,
        needs: [Process], budget_s: 90,
    },
    scenario! {
        id: "cont/killed-before-stop", run: killed_before_stop, covers: [SCHED_CONT_009],
        isolation: Own, needs: [Process], budget_s: 90,
    },
    scenario! {
        id: "cont/killed-before-answer", run: killed_before_answer, covers: [SCHED_CONT_010],
        isolation: Own, needs: [Process], budget_s: 90,
    },
    scenario! {
        id: "cont/deleted-meanwhile", run: deleted_meanwhile, covers: [SCHED_CONT_011],
        isolation: Own, needs: [Process], budget_s: 90,
    },
    scenario! {
        id: "cont/host-went-meanwhile", run: host_went_meanwhile, covers: [SCHED_CONT_012],
        isolation: Own, needs: [Process], waits: |timings| timings.silence, budget_s: 120,
    },
    scenario! {
        id: "cont/no-broker", run: no_broker, covers: [SCHED_CONT_013], isolation: Own,
        needs: [Process], budget_s: 90,
    },
    scenario! {
        id: "cont/two-instances", run: two_instances, covers: [SCHED_CONT_014],
        isolation: Elected, needs: [Process], budget_s: 90,
    },
    scenario! {
        id: "cont/told-to-end", run: told_to_end, covers: [SCHED_CONT_015], isolation: Own,
        needs: [Process], budget_s: 90,
    },
];

/// For that long after the broker's return nobody may be taken for lost; `silence` counts from its end.
const GRACE: Duration = Duration::from_secs(10);

/// How long a host that does not come back may take to be replaced.
fn settled(timings: &Timings) -> Duration {
    GRACE + timings.silence + timings.act
}

async fn deployed(
    cx: &ScenarioContext,
    replicas: usize,
) -> Result<(Manifest, Vec<Placed>), Blocked> {
    let set = cx.deployment("app", i64::try_from(replicas).unwrap_or(1));
    cx.submit(&set).await?;
    // The scheduler has only just been launched.
    let within = cx.timings().act + cx.timings().reconnect;
    let placed = cx
        .runs("app", replicas, within)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    Ok((set, placed))
}

fn launch(cx: &ScenarioContext) -> Result<(), Blocked> {
    cx.live()
        .launch()
        .map_err(|cause| Blocked::chain("the scheduler", &cause))
}

async fn broker_back(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    deployed(cx, 2).await?;
    let (scheduler, hosts) = (
        cx.live().bus.away_from_scheduler().await,
        cx.live().bus.away_from_hosts().await,
    );
    cx.pass(Duration::from_secs(4)).await;
    scheduler.restore().await;
    hosts.restore().await;
    cx.submit(&cx.deployment("more", 2)).await?;
    let placed = cx
        .runs("more", 2, cx.timings().reconnect + cx.timings().act)
        .await;
    cx.claim(SCHED_CONT_001).met(placed);
    cx.claim(SCHED_CONT_001).holds(
        "it is the same process",
        !cx.live().has_died(),
        || "it has ended",
    );
    Ok(())
}

async fn long_outage(cx: &ScenarioContext) -> Flow {
    cx.hosts::<3>().await?;
    deployed(cx, 6).await?;
    let from = Instant::now();
    let (scheduler, hosts) = (
        cx.live().bus.away_from_scheduler().await,
        cx.live().bus.away_from_hosts().await,
    );
    cx.pass(Duration::from_secs(180)).await;
    scheduler.restore().await;
    hosts.restore().await;
    cx.assert_no_commands(SCHED_CONT_002, from, Duration::from_secs(20))
        .await;
    Ok(())
}

/// Two hosts: of more, a scheduler may suspect the broker for their number alone.
async fn late_hosts(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    deployed(cx, 4).await?;
    let from = Instant::now();
    let (scheduler, hosts) = (
        cx.live().bus.away_from_scheduler().await,
        cx.live().bus.away_from_hosts().await,
    );
    cx.pass(Duration::from_secs(1)).await;
    scheduler.restore().await;
    cx.pass(Duration::from_secs(8)).await;
    hosts.restore().await;
    cx.assert_no_commands(SCHED_CONT_003, from, Duration::from_secs(8))
        .await;
    Ok(())
}

/// What is submitted and deleted during an outage never was.
async fn nothing_late(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    deployed(cx, 2).await?;
    let scheduler = cx.live().bus.away_from_scheduler().await;
    let app = cx.deployment("late", 2);
    cx.submit(&app).await?;
    cx.pass(Duration::from_secs(2)).await;
    cx.withdraw(&app).await?;
    cx.pass(Duration::from_secs(1)).await;
    scheduler.restore().await;
    let late = cx.never(
        cx.timings().reconnect.min(Duration::from_secs(8)),
        "a start of what was deleted",
        || {
            cx.starts_of("late")
                .first()
                .map(|(entry, came)| format!("{} on {}", came.id, entry.host))
        },
    );
    cx.claim(SCHED_CONT_004).met(late.await);
    Ok(())
}

async fn own_link(cx: &ScenarioContext) -> Flow {
    cx.hosts::<3>().await?;
    deployed(cx, 6).await?;
    let from = Instant::now();
    let scheduler = cx.live().bus.away_from_scheduler().await;
    cx.pass(Duration::from_secs(7)).await;
    scheduler.restore().await;
    cx.assert_no_commands(SCHED_CONT_005, from, Duration::from_secs(6))
        .await;
    Ok(())
}

/// Most of a fleet vanishes at once, as when a broker of a cluster ends.
async fn crowd(cx: &ScenarioContext) -> Flow {
    let hosts = cx.hosts::<5>().await?;
    // Of a smaller fleet, as it would be to who has not heard of all, fewer than three quarters might go.
    cx.all_registered().await?;
    deployed(cx, 10).await?;
    let gone: Vec<SimulatedHost> = hosts.into_iter().take(4).collect();
    let absence = Absence {
        hosts: &gone,
        pause: Duration::from_millis(2_800),
        limit: Duration::from_secs(4),
        times: 1,
    };
    let more = |attempt| async move {
        let app = format!("more{attempt}");
        cx.deployed(&app, 10, SCHED_SCALE_001).await.map(|_| ())
    };
    cx.assert_no_churn(SCHED_CONT_006, &absence, Duration::from_secs(5), more)
        .await
}

async fn gone_in_outage(cx: &ScenarioContext) -> Flow {
    cx.hosts::<3>().await?;
    let (_, placed) = deployed(cx, 3).await?;
    let scheduler = cx.live().bus.away_from_scheduler().await;
    kill_one(&placed);
    cx.pass(Duration::from_secs(2)).await;
    scheduler.restore().await;
    let placed = cx.runs("app", 3, settled(cx.timings())).await;
    cx.claim(SCHED_CONT_007).met(placed);
    Ok(())
}

/// Ends a host that something runs on: of one that was heard of too late, nothing would be missed.
fn kill_one(placed: &[Placed]) {
    if let Some(placed) = placed.first() {
        placed.host.kill();
    }
}

async fn killed(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    let (_, placed) = deployed(cx, 4).await?;
    let from = Instant::now();
    cx.live().kill().await;
    launch(cx)?;
    cx.assert_no_commands(SCHED_CONT_008, from, Duration::from_secs(6))
        .await;
    // It is there at all.
    cx.submit(&cx.deployment("more", 1)).await?;
    let more = cx
        .runs("more", 1, cx.timings().act + cx.timings().reconnect)
        .await;
    more.or_blocked(cx, SCHED_CONT_001)?;
    cx.claim(SCHED_CONT_008)
        .is("the ids", ids_of(&cx.running("app")), ids_of(&placed));
    Ok(())
}

async fn killed_before_stop(cx: &ScenarioContext) -> Flow {
    let host = cx.host(cx.plan("a")).await?;
    let (set, placed) = deployed(cx, 1).await?;
    let Some(placed) = placed.first() else {
        return Ok(());
    };
    host.script(Rule::on("workload.stop", Act::Ignore));
    cx.withdraw(&set).await?;
    cx.stopped(&placed.id, cx.timings().act)
        .await
        .or_blocked(cx, SCHED_STOP_001)?;
    cx.live().kill().await;
    host.behave();
    launch(cx)?;
    let within = cx.timings().act + cx.timings().reconnect;
    let gone = cx.runs("app", 0, within).await;
    cx.claim(SCHED_CONT_009).met(gone);
    Ok(())
}

async fn killed_before_answer(cx: &ScenarioContext) -> Flow {
    for host in cx.hosts::<2>().await? {
        host.script(Rule::on(
            "workload.start",
            Act::AnswerAfter(Duration::from_secs(3)),
        ));
    }
    cx.submit(&cx.deployment("app", 1)).await?;
    let within = cx.timings().act + cx.timings().reconnect;
    cx.started("app", within)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    cx.live().kill().await;
    launch(cx)?;
    let other = cx.never(Duration::from_secs(7), "a start under another id", || {
        let ids = cx.ids_of("app");
        (ids.len() > 1).then(|| format!("{ids:?}"))
    });
    cx.claim(SCHED_CONT_010).met(other.await);
    Ok(())
}

async fn deleted_meanwhile(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    let (set, placed) = deployed(cx, 2).await?;
    cx.live().kill().await;
    cx.withdraw(&set).await?;
    launch(cx)?;
    for placed in &placed {
        let within = cx.timings().act + cx.timings().reconnect;
        cx.claim(SCHED_CONT_011)
            .met(cx.stopped(&placed.id, within).await);
    }
    Ok(())
}

async fn host_went_meanwhile(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    let (_, placed) = deployed(cx, 4).await?;
    cx.live().kill().await;
    kill_one(&placed);
    launch(cx)?;
    let placed = cx
        .runs("app", 4, settled(cx.timings()) + cx.timings().reconnect)
        .await;
    cx.claim(SCHED_CONT_012).met(placed);
    Ok(())
}

async fn no_broker(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    cx.live().kill().await;
    let scheduler = cx.live().bus.away_from_scheduler().await;
    launch(cx)?;
    cx.submit(&cx.deployment("app", 2)).await?;
    cx.pass(Duration::from_secs(3)).await;
    cx.claim(SCHED_CONT_013).holds(
        "it waits for the broker",
        !cx.live().has_died(),
        || "it has ended",
    );
    scheduler.restore().await;
    let placed = cx
        .runs("app", 2, cx.timings().reconnect + cx.timings().act)
        .await;
    cx.claim(SCHED_CONT_013).met(placed);
    Ok(())
}

async fn two_instances(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    let other = cx.live().another();
    let _other = other.map_err(|cause| Blocked::chain("the scheduler", &cause))?;
    cx.pass(Duration::from_secs(1)).await;
    cx.submit(&cx.deployment("app", 4)).await?;
    let within = cx.timings().act + cx.timings().reconnect;
    let all = cx.eventually(within, "4 run", || {
        let running = cx.running("app").len();
        std::future::ready(if running >= 4 {
            Ok(())
        } else {
            Err(format!("{running} run"))
        })
    });
    all.await.or_blocked(cx, SCHED_SCALE_001)?;
    let more = cx.never(Duration::from_secs(3), "more than 4 starts", || {
        let ids = cx.ids_of("app");
        (ids.len() > 4).then(|| format!("{} ids", ids.len()))
    });
    cx.claim(SCHED_CONT_014).met(more.await);
    Ok(())
}

async fn told_to_end(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    deployed(cx, 2).await?;
    let Some(process) = cx.live().process() else {
        return Ok(());
    };
    let from = Instant::now();
    cx.live().end(cx.timings().exit + cx.patience()).await;
    let status = process.exit_status();
    cx.claim(SCHED_CONT_015).is(
        "its exit code",
        status.and_then(|status| status.code()),
        Some(0),
    );
    cx.assert_no_commands(SCHED_CONT_015, from, Duration::from_secs(1))
        .await;
    Ok(())
}
