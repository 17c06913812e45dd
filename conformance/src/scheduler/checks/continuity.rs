//! Continuity: outages of the broker, and restarts of the scheduler. Each scenario has its own bus
//! and scheduler.

mod instances;
mod outages;
mod restarts;

use std::time::Duration;

use crate::check::outcome::Blocked;
use crate::scheduler::context::{RunningWorkload, ScenarioContext};
use crate::scheduler::manifest::Manifest;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::timings::Timings;
use crate::spec::requirements::*;

/// Scenarios of the section `continuity`.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "continuity/short-outage", run: outages::short_outage,
        covers: [SCHED_CONT_001], isolation: Own, needs: [Tap], budget_s: 90,
    },
    scenario! {
        id: "continuity/long-outage", run: outages::long_outage,
        covers: [SCHED_CONT_002], isolation: Own, needs: [Tap], slow: true, budget_s: 300,
    },
    scenario! {
        id: "continuity/hosts-reconnect-late", run: outages::hosts_reconnect_late,
        covers: [SCHED_CONT_003], isolation: Own, needs: [Tap], budget_s: 120,
    },
    scenario! {
        id: "continuity/deleted-during-outage", run: outages::deleted_during_outage,
        covers: [SCHED_CONT_004], isolation: Own, needs: [Tap], budget_s: 90,
    },
    scenario! {
        id: "continuity/scheduler-disconnected", run: outages::scheduler_disconnected,
        covers: [SCHED_CONT_005], isolation: Own, needs: [Tap], budget_s: 90,
    },
    scenario! {
        id: "continuity/mass-disconnect", run: outages::mass_disconnect, covers: [SCHED_CONT_006],
        isolation: Own, needs: [Tap], budget_s: 150,
    },
    scenario! {
        id: "continuity/mass-disconnect-again", run: outages::mass_disconnect_again,
        covers: [SCHED_CONT_006], isolation: Own, needs: [Tap], budget_s: 150,
    },
    scenario! {
        id: "continuity/host-lost-in-outage", run: outages::host_lost_in_outage,
        covers: [SCHED_CONT_007], isolation: Own, needs: [Tap],
        waits: |timings| timings.silence, budget_s: 120,
    },
    scenario! {
        id: "continuity/killed", run: restarts::killed, covers: [SCHED_CONT_008], isolation: Own,
        needs: [Process], budget_s: 90,
    },
    scenario! {
        id: "continuity/killed-during-stop", run: restarts::killed_during_stop,
        covers: [SCHED_CONT_009], isolation: Own, needs: [Process], budget_s: 90,
    },
    scenario! {
        id: "continuity/killed-during-start", run: restarts::killed_during_start,
        covers: [SCHED_CONT_010], isolation: Own, needs: [Process], budget_s: 90,
    },
    scenario! {
        id: "continuity/deleted-while-down", run: restarts::deleted_while_down,
        covers: [SCHED_CONT_011], isolation: Own, needs: [Process], budget_s: 90,
    },
    scenario! {
        id: "continuity/host-lost-while-down", run: restarts::host_lost_while_down,
        covers: [SCHED_CONT_012], isolation: Own, needs: [Process],
        waits: |timings| timings.silence, budget_s: 120,
    },
    scenario! {
        id: "continuity/started-without-broker", run: instances::started_without_broker,
        covers: [SCHED_CONT_013], isolation: Own, needs: [Process], budget_s: 90,
    },
    scenario! {
        id: "continuity/two-instances", run: instances::two_instances, covers: [SCHED_CONT_014],
        isolation: Elected, needs: [Process], budget_s: 90,
    },
    scenario! {
        id: "continuity/handover", run: instances::handover, covers: [SCHED_CONT_014],
        isolation: Elected, needs: [Process], budget_s: 150,
    },
    scenario! {
        id: "continuity/graceful-shutdown", run: instances::graceful_shutdown,
        covers: [SCHED_CONT_015], isolation: Own, needs: [Process], budget_s: 90,
    },
    scenario! {
        id: "continuity/shutdown-without-broker", run: instances::shutdown_without_broker,
        covers: [SCHED_CONT_015], isolation: Own, needs: [Process], budget_s: 90,
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

/// Kills a host that runs a workload, because the scheduler might not know a host without workloads
/// yet.
fn kill_host_with_workload(running: &[RunningWorkload]) {
    if let Some(workload) = running.first() {
        workload.host.kill();
    }
}
