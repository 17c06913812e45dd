//! Service checks: restarts, their number and their delays.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::services::{service, start_service};
use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::beacon::{Beacon, Hit};
use crate::wire::response::State;

/// Checks of the section `services` about restarts.
pub const CHECKS: &[Check] = &[
    check! {
        id: "services/restart-budget", run: restart_budget,
        covers: [HOST_SVC_006, HOST_SVC_010, HOST_SVC_011], host: Shared, roles: [ServiceErr],
        needs: [Registry], waits_s: 18, budget_s: 150, slow: false,
    },
    check! {
        id: "services/budget-after-stop", run: budget_after_stop, covers: [HOST_SVC_006],
        host: Shared, roles: [ServiceErr, ServiceExit1], needs: [Registry], budget_s: 120,
        slow: false,
    },
    check! {
        id: "services/no-restarts", run: no_restarts, covers: [HOST_SVC_006], host: Shared,
        roles: [ServiceErr, ServiceTrap], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "services/budget-exhausted", run: budget_exhausted, covers: [HOST_SVC_007],
        host: Shared, roles: [ServiceTrap, ServiceExit1], needs: [Registry], budget_s: 90,
        slow: false,
    },
    check! {
        id: "services/between-runs", run: between_runs, covers: [HOST_SVC_008, HOST_SVC_009],
        host: Shared, roles: [ServiceErr], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "services/stop-between-runs", run: stop_between_runs, covers: [HOST_SVC_017],
        host: Shared, roles: [ServiceErr], needs: [Registry], budget_s: 150, slow: false,
    },
    check! {
        id: "services/fresh-memory", run: fresh_memory, covers: [HOST_SVC_012], host: Shared,
        roles: [ServiceFresh], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "services/budget-reset", run: budget_reset, covers: [HOST_SVC_013],
        host: Shared, roles: [ServiceErrAfter61S], needs: [Registry], budget_s: 260, slow: true,
    },
];

/// Time for which the suite verifies that a service does not run again.
const OBSERVATION_TIME: Duration = Duration::from_secs(2);
/// Customary delay before the first restart; it doubles with each further restart.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Time from the end of a delay to the beacon of the next run, on a busy machine.
const GUEST_START: Duration = Duration::from_secs(1);

/// Waits for the last run of a service and for ERROR, and records the claim that no run follows.
async fn claim_runs(cx: &CheckContext, id: &str, beacon: &Beacon, name: &str, runs: usize) {
    let ended = cx
        .wait_for_state(id, State::Error, deadlines::DEFAULT_WAIT)
        .await;
    if cx.claim(HOST_SVC_006).met(ended).is_none() {
        return;
    }
    let description = format!("number of runs of a failing service with {name}");
    let no_more_runs = cx.never(OBSERVATION_TIME, &description, || async {
        let actual = beacon.count("run");
        (actual > runs).then(|| format!("{actual} runs"))
    });
    cx.claim(HOST_SVC_006).met(no_more_runs.await);
    cx.claim(HOST_SVC_006)
        .is(&description, beacon.count("run"), runs);
}

/// Two failing services with one image and `maxRestarts` 7 run eight times each, with increasing
/// delays.
async fn restart_budget(cx: &CheckContext) -> Flow {
    let pushed = cx.push(Role::ServiceErr);
    let mut services = Vec::new();
    for name in ["a", "b"] {
        let (id, beacon) = (cx.id(name), cx.beacon());
        let workload = cx.workload().service(&pushed).beacon(&beacon);
        start_service(cx, &id, &workload.max_restarts(7)).await?;
        services.push((id, beacon));
    }
    for (id, beacon) in &services {
        claim_runs(cx, id, beacon, "maxRestarts 7", 8).await;
        judge_delays(cx, &beacon.hits());
    }
    Ok(())
}

/// Returns the times between each run and the next one.
fn delays(hits: &[Hit]) -> Vec<Duration> {
    hits.iter()
        .zip(hits.iter().skip(1))
        .map(|(one, next)| next.at.saturating_duration_since(one.at))
        .collect()
}

/// Records claims about the delays between runs of a service that fails at once.
///
/// A measured delay includes the end of one run and the start of the next one. Both lengthen it, so
/// lower limits need no tolerance.
fn judge_delays(cx: &CheckContext, hits: &[Hit]) {
    let delays = delays(hits);
    let tolerance = cx.fixture().patience() + GUEST_START;
    let longest = deadlines::RESTART_WAIT_MAX.limit + tolerance;
    let bounded = !delays.is_empty()
        && delays
            .iter()
            .all(|delay| (deadlines::RESTART_WAIT_MIN.limit..=longest).contains(delay));
    cx.claim(HOST_SVC_010)
        .holds("delays before restarts are 50 ms to 45 s", bounded, || {
            format!("delays {delays:?}")
        });
    let mut customary = FIRST_DELAY;
    let mut doubles = delays.len() > 1;
    for delay in &delays {
        // "About" 100 ms and jitter of half of the delay.
        let range = customary.mul_f64(0.4)..=customary.mul_f64(1.6) + tolerance;
        doubles &= range.contains(delay);
        customary *= 2;
    }
    let description = "delays before restarts start near 100 ms and double";
    cx.claim(HOST_SVC_011)
        .holds(description, doubles, || format!("delays {delays:?}"));
}

/// A service that is stopped and started again under its id has its full budget.
async fn budget_after_stop(cx: &CheckContext) -> Flow {
    for role in [Role::ServiceErr, Role::ServiceExit1] {
        let pushed = cx.push(role);
        let id = cx.id(role.name());
        for round in 1..=2 {
            let beacon = cx.beacon();
            let workload = cx.workload().service(&pushed).beacon(&beacon);
            start_service(cx, &id, &workload.max_restarts(2)).await?;
            let name = format!("maxRestarts 2 in its start number {round} ({role})");
            claim_runs(cx, &id, &beacon, &name, 3).await;
            cx.stop(&id).await?;
            cx.wait_not_found(&id).await.or_blocked(cx, HOST_STOP_002)?;
        }
    }
    Ok(())
}

/// A failing service with `maxRestarts` 0, or without `maxRestarts`, runs once.
async fn no_restarts(cx: &CheckContext) -> Flow {
    for role in [Role::ServiceErr, Role::ServiceTrap] {
        for (name, restarts) in [("zero", Some(0)), ("absent", None)] {
            let (id, beacon) = (cx.id(&format!("{role}-{name}")), cx.beacon());
            let workload = service(cx, role, &beacon);
            let workload = match restarts {
                Some(restarts) => workload.max_restarts(restarts),
                None => workload,
            };
            start_service(cx, &id, &workload).await?;
            claim_runs(cx, &id, &beacon, &format!("maxRestarts {name} ({role})"), 1).await;
        }
    }
    Ok(())
}

/// A service that failed in all its runs is in ERROR, with the reason of the failure.
async fn budget_exhausted(cx: &CheckContext) -> Flow {
    for role in [Role::ServiceTrap, Role::ServiceExit1] {
        for restarts in [0, 1, 2] {
            let (id, beacon) = (cx.id(&format!("{role}-{restarts}")), cx.beacon());
            let workload = service(cx, role, &beacon).max_restarts(restarts);
            start_service(cx, &id, &workload).await?;
            let end = cx
                .wait_for_state(&id, State::Error, deadlines::DEFAULT_WAIT)
                .await;
            if let Some(end) = cx.claim(HOST_SVC_007).met(end) {
                let has_message = !end.message.trim().is_empty();
                cx.claim(HOST_SVC_007).holds(
                    "ERROR has a message with the reason of the last failure",
                    has_message,
                    || end.to_string(),
                );
            }
        }
    }
    Ok(())
}

/// One status reply about a service that fails and is restarted.
struct Observation {
    /// Number of runs before the request and after the reply.
    runs: [usize; 2],
    state: State,
    message: String,
}

/// Polls the status of a service until it has run `runs` times and is in ERROR.
async fn observe_restarts(
    cx: &CheckContext,
    id: &str,
    beacon: &Beacon,
    runs: usize,
) -> Result<Vec<Observation>, Blocked> {
    let observations = Mutex::new(Vec::new());
    let ended = cx.eventually(
        deadlines::DEFAULT_WAIT,
        "the service has used its restarts",
        || async {
            let before = beacon.count("run");
            let status = cx.status(id).await?;
            let after = beacon.count("run");
            let description = status.to_string();
            let is_last = after >= runs && status.state == State::Error;
            observations
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Observation {
                    runs: [before, after],
                    state: status.state,
                    message: status.message,
                });
            if is_last {
                Ok(())
            } else {
                Err(format!("{after} runs, {description}"))
            }
        },
    );
    ended.await.or_blocked(cx, HOST_SVC_006)?;
    Ok(observations
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner))
}

/// Between all runs, the state is STARTING and the message contains the number of the next attempt.
async fn between_runs(cx: &CheckContext) -> Flow {
    const RUNS: usize = 7;
    /// Number of observations between two runs, after a run that ended at once, of which one must
    /// be STARTING.
    const ENOUGH: usize = 5;
    let (id, beacon) = (cx.id("a"), cx.beacon());
    let workload = service(cx, Role::ServiceErr, &beacon).max_restarts(6);
    start_service(cx, &id, &workload).await?;
    let observations = observe_restarts(cx, &id, &beacon, RUNS).await?;

    let early_end = observations.iter().find(|observation| {
        let [_, after] = observation.runs;
        let may_occur = matches!(observation.state, State::Starting | State::Running);
        after < RUNS && !may_occur
    });
    cx.claim(HOST_SVC_008).holds(
        "a service with restarts left is STARTING or RUNNING",
        early_end.is_none(),
        || early_end.map_or_else(String::new, describe),
    );
    let between = |run: usize| {
        let same = observations
            .iter()
            .filter(move |observation| observation.runs == [run, run]);
        same.collect::<Vec<_>>()
    };
    let starting = |observation: &&Observation| observation.state == State::Starting;
    for run in 4..RUNS {
        let observed = between(run);
        if observed.len() >= ENOUGH {
            let description = format!("the service is STARTING after run {run}");
            let held = observed.iter().any(starting);
            cx.claim(HOST_SVC_008).holds(&description, held, || {
                observed
                    .first()
                    .map_or_else(String::new, |first| describe(first))
            });
        }
    }
    // A service whose first run has begun is STARTING only between two runs, so that the runs of a
    // slow host need not be counted.
    let has_run = |observation: &&Observation| observation.runs[0] > 0;
    let observed = observations.iter().filter(has_run);
    let waiting: Vec<&Observation> = observed.filter(starting).collect();
    cx.claim(HOST_SVC_008).holds(
        "the service is STARTING between two runs",
        !waiting.is_empty(),
        || format!("{} replies, none of them STARTING", observations.len()),
    );
    let without_number = waiting
        .iter()
        .find(|observation| !observation.message.chars().any(|c| c.is_ascii_digit()));
    cx.claim(HOST_SVC_009).holds(
        "the message contains the number of the next attempt",
        without_number.is_none() && !waiting.is_empty(),
        || without_number.map_or_else(String::new, |observation| describe(observation)),
    );
    Ok(())
}

fn describe(observation: &Observation) -> String {
    let [_, runs] = observation.runs;
    let Observation { state, message, .. } = observation;
    format!("{state} after run {runs}, message {message:?}")
}

/// A service that is stopped while it waits for its next run does not run again, whichever run
/// would be next.
async fn stop_between_runs(cx: &CheckContext) -> Flow {
    let mut stopped = 0;
    for after_run in [3, 5, 7] {
        // The longest delay is observed only if the shorter ones ended before the stop.
        if after_run == 7 && stopped > 0 {
            break;
        }
        stopped += usize::from(stop_after_run(cx, after_run).await?);
    }
    if stopped == 0 {
        let actual = "the service ran again before the stop";
        return Err(cx.blocked(
            HOST_SVC_008,
            "a stop while the service is STARTING",
            &actual,
        ));
    }
    Ok(())
}

/// Stops a service between its run `after_run` and the next one, and records the claim that it does
/// not run again. Returns `false` if the next run began before the stop.
async fn stop_after_run(cx: &CheckContext, after_run: usize) -> Result<bool, Blocked> {
    let (id, beacon) = (cx.id(&after_run.to_string()), cx.beacon());
    let workload = service(cx, Role::ServiceErr, &beacon).max_restarts(20);
    start_service(cx, &id, &workload).await?;
    let runs = beacon
        .wait("run", after_run, deadlines::DEFAULT_WAIT.limit)
        .await;
    runs.map_err(|missed| cx.blocked(HOST_SVC_006, "a run", &missed))?;
    cx.wait_for_state(&id, State::Starting, deadlines::REPLY)
        .await
        .or_blocked(cx, HOST_SVC_008)?;
    cx.stop(&id).await?;
    let runs = beacon.count("run");
    let not_found = cx.wait_not_found(&id).await;
    not_found.or_blocked(cx, HOST_STOP_002)?;
    if runs != after_run {
        return Ok(false);
    }
    let exponent = u32::try_from(after_run).unwrap_or_default();
    let longest_delay = (FIRST_DELAY * 2_u32.pow(exponent.saturating_sub(1))).mul_f64(1.5);
    let no_later_run = cx.never(
        longest_delay + GUEST_START,
        "a run after the stop",
        || async {
            let runs = beacon.count("run");
            (runs > after_run).then(|| format!("{} more runs", runs - after_run))
        },
    );
    cx.claim(HOST_SVC_017).met(no_later_run.await);
    Ok(true)
}

/// Every run of a service starts with fresh memory.
async fn fresh_memory(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    let workload = service(cx, Role::ServiceFresh, &beacon).max_restarts(4);
    start_service(cx, &id, &workload).await?;
    cx.wait_for_state(&id, State::Error, deadlines::DEFAULT_WAIT)
        .await
        .or_blocked(cx, HOST_SVC_007)?;
    cx.claim(HOST_SVC_012).is(
        "number of runs with memory of an earlier run",
        beacon.count("stale"),
        0,
    );
    cx.claim(HOST_SVC_012)
        .is("number of runs with fresh memory", beacon.count("fresh"), 5);
    Ok(())
}

/// A service with `maxRestarts` 1 that fails every 62 s is restarted each time.
async fn budget_reset(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    let workload = service(cx, Role::ServiceErrAfter61S, &beacon).max_restarts(1);
    start_service(cx, &id, &workload).await?;
    let runs = cx.eventually(Duration::from_secs(200), "a third run", || async {
        match beacon.count("run") {
            runs if runs >= 3 => Ok(()),
            runs => Err(format!("{runs} runs, {}", cx.status(&id).await?)),
        }
    });
    cx.claim(HOST_SVC_013).met(runs.await);
    Ok(())
}
