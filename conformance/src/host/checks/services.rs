//! Service checks: results, restarts, and how the host reports them.

use std::time::Duration;

use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::{CheckContext, Workload};
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::beacon::{Beacon, Hit};
use crate::wire::response::{Response, State};

/// Checks of the section `services`, and the start and stop checks that need a service.
pub const CHECKS: &[Check] = &[
    check! {
        id: "services/success", run: success, covers: [HOST_SVC_001, HOST_SVC_018],
        host: Shared, roles: [ServiceOk], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "services/exit-0", run: exit_0, covers: [HOST_SVC_002], host: Shared,
        roles: [ServiceExit0], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "services/error", run: error, covers: [HOST_SVC_003], host: Shared,
        roles: [ServiceErr], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "services/trap", run: trap, covers: [HOST_SVC_004], host: Shared, roles: [ServiceTrap],
        needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "services/exit-1", run: exit_1, covers: [HOST_SVC_005], host: Shared,
        roles: [ServiceExit1], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "services/restart-budget", run: restart_budget,
        covers: [HOST_SVC_006, HOST_SVC_010, HOST_SVC_011], host: Shared, roles: [ServiceErr],
        needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "services/no-restarts", run: no_restarts, covers: [HOST_SVC_006], host: Shared,
        roles: [ServiceErr], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "services/budget-exhausted", run: budget_exhausted,
        covers: [HOST_SVC_007, HOST_SVC_018], host: Shared, roles: [ServiceTrap], needs: [Registry],
        budget_s: 90, slow: false,
    },
    check! {
        id: "services/between-runs", run: between_runs, covers: [HOST_SVC_008, HOST_SVC_009],
        host: Shared, roles: [ServiceErr], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "services/fresh-memory", run: fresh_memory, covers: [HOST_SVC_012], host: Shared,
        roles: [ServiceFresh], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "services/budget-reset", run: budget_reset, covers: [HOST_SVC_013],
        host: Shared, roles: [ServiceErrAfter61S], needs: [Registry], budget_s: 260, slow: true,
    },
    check! {
        id: "services/neighbors", run: neighbors, covers: [HOST_SVC_014], host: Own,
        roles: [ServiceRun, ServiceTrap], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "services/no-run-export", run: no_run_export, covers: [HOST_SVC_015], host: Shared,
        roles: [NoRun], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "services/running", run: running, covers: [HOST_SVC_016],
        host: Shared, roles: [ServiceRun], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "services/stop-between-runs", run: stop_between_runs, covers: [HOST_SVC_017],
        host: Shared, roles: [ServiceErr], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "services/completed-not-rerun", run: completed_not_rerun,
        covers: [HOST_START_020, HOST_STOP_007], host: Shared, roles: [ServiceOk],
        needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "services/stop-ends-guest", run: stop_ends_guest, covers: [HOST_STOP_008],
        host: Shared, roles: [ServicePing], needs: [Registry], budget_s: 90, slow: false,
    },
];

/// Time for which the suite verifies that an event does not occur or a state does not change.
const OBSERVATION_TIME: Duration = Duration::from_secs(2);

/// Returns a workload with a service that sends its beacons to `beacon`.
fn service<'c>(cx: &'c CheckContext, role: Role, beacon: &Beacon) -> Workload<'c> {
    cx.workload().service(role).beacon(beacon)
}

/// Starts a service. The response may have any state that an accepted start can have, because a
/// short service may already have ended.
async fn start_service(
    cx: &CheckContext,
    id: &str,
    workload: &Workload<'_>,
) -> Result<Response, Blocked> {
    let start = cx.start(id, workload).await?;
    match (start.error_code, start.state.clone()) {
        (None, State::Starting | State::Running | State::Completed | State::Error) => Ok(start),
        _ => Err(cx.blocked(HOST_START_001, "a service that starts", &start)),
    }
}

/// Records the claims that a service runs once and ends in the state `end`.
async fn claim_ends_in(
    cx: &CheckContext,
    requirement: Requirement,
    role: Role,
    end: State,
) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    start_service(cx, &id, &service(cx, role, &beacon).max_restarts(0)).await?;
    cx.claim(requirement)
        .met(cx.wait_for_state(&id, end, deadlines::DEFAULT_WAIT).await);
    cx.claim(requirement)
        .is("number of runs of the service", beacon.count("run"), 1);
    Ok(())
}

/// A service that returns ok becomes COMPLETED, stays COMPLETED and is not restarted.
async fn success(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    let workload = service(cx, Role::ServiceOk, &beacon).max_restarts(3);
    start_service(cx, &id, &workload).await?;
    let done = cx.claim(HOST_SVC_001).met(
        cx.wait_for_state(&id, State::Completed, deadlines::DEFAULT_WAIT)
            .await,
    );
    if done.is_none() {
        cx.claim(HOST_SVC_018).violated(
            "the service becomes COMPLETED",
            &["COMPLETED"],
            "never COMPLETED",
        );
        return Ok(());
    }
    let unchanged = cx.consistently(OBSERVATION_TIME, "the service stays COMPLETED", || async {
        cx.status(&id).await?.in_state(State::Completed)
    });
    cx.claim(HOST_SVC_018).met(unchanged.await);
    cx.claim(HOST_SVC_001)
        .is("number of runs of the service", beacon.count("run"), 1);
    Ok(())
}

/// A service that exits with code 0 becomes COMPLETED.
async fn exit_0(cx: &CheckContext) -> Flow {
    claim_ends_in(cx, HOST_SVC_002, Role::ServiceExit0, State::Completed).await
}

/// A service that returns an error ends in ERROR.
async fn error(cx: &CheckContext) -> Flow {
    claim_ends_in(cx, HOST_SVC_003, Role::ServiceErr, State::Error).await
}

/// A service that traps ends in ERROR.
async fn trap(cx: &CheckContext) -> Flow {
    claim_ends_in(cx, HOST_SVC_004, Role::ServiceTrap, State::Error).await
}

/// A service that exits with code 1 ends in ERROR.
async fn exit_1(cx: &CheckContext) -> Flow {
    claim_ends_in(cx, HOST_SVC_005, Role::ServiceExit1, State::Error).await
}

/// A failing service with `maxRestarts` 3 runs four times, with increasing delays.
async fn restart_budget(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    let workload = service(cx, Role::ServiceErr, &beacon).max_restarts(3);
    start_service(cx, &id, &workload).await?;
    cx.claim(HOST_SVC_006).met(
        cx.wait_for_state(&id, State::Error, deadlines::DEFAULT_WAIT)
            .await,
    );
    let no_fifth_run = cx.never(OBSERVATION_TIME, "a fifth run", || async {
        let runs = beacon.count("run");
        (runs > 4).then(|| format!("{runs} runs"))
    });
    cx.claim(HOST_SVC_006).met(no_fifth_run.await);
    cx.claim(HOST_SVC_006).is(
        "number of runs of a failing service with maxRestarts 3",
        beacon.count("run"),
        4,
    );
    judge_delays(cx, &beacon.hits());
    Ok(())
}

/// Records claims about the delays between runs. A measured delay includes the run itself, so its
/// lower limit needs no patience.
fn judge_delays(cx: &CheckContext, hits: &[Hit]) {
    let delays: Vec<Duration> = hits
        .iter()
        .zip(hits.iter().skip(1))
        .map(|(one, next)| next.at.saturating_duration_since(one.at))
        .collect();
    let (min, max) = (
        deadlines::RESTART_WAIT_MIN.limit,
        deadlines::RESTART_WAIT_MAX.limit,
    );
    let bounded = !delays.is_empty()
        && delays
            .iter()
            .all(|delay| (min..=max + cx.fixture().patience()).contains(delay));
    cx.claim(HOST_SVC_010)
        .holds("delays before restarts are 50 ms to 45 s", bounded, || {
            format!("delays {delays:?}")
        });
    let first = delays.first().copied().unwrap_or_default();
    let last = delays.last().copied().unwrap_or_default();
    let grows = delays.len() > 1 && last > first.mul_f64(1.5) && last < Duration::from_secs(5);
    let description = "delays before restarts start near 100 ms and double";
    cx.claim(HOST_SVC_011)
        .holds(description, grows, || format!("delays {delays:?}"));
}

/// A failing service with `maxRestarts` 0, or without `maxRestarts`, runs once.
async fn no_restarts(cx: &CheckContext) -> Flow {
    for (name, restarts) in [("zero", Some(0)), ("absent", None)] {
        let (id, beacon) = (cx.id(name), cx.beacon());
        let workload = service(cx, Role::ServiceErr, &beacon);
        let workload = match restarts {
            Some(restarts) => workload.max_restarts(restarts),
            None => workload,
        };
        start_service(cx, &id, &workload).await?;
        cx.claim(HOST_SVC_006).met(
            cx.wait_for_state(&id, State::Error, deadlines::DEFAULT_WAIT)
                .await,
        );
        let description = format!("number of runs with maxRestarts {name}");
        cx.claim(HOST_SVC_006)
            .is(&description, beacon.count("run"), 1);
    }
    Ok(())
}

/// A service that failed in all its runs stays in ERROR, with a message.
async fn budget_exhausted(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    let workload = service(cx, Role::ServiceTrap, &beacon).max_restarts(1);
    start_service(cx, &id, &workload).await?;
    let end = cx.claim(HOST_SVC_007).met(
        cx.wait_for_state(&id, State::Error, deadlines::DEFAULT_WAIT)
            .await,
    );
    let Some(end) = end else {
        cx.claim(HOST_SVC_018)
            .violated("the service ends in ERROR", &["ERROR"], "never ERROR");
        return Ok(());
    };
    let has_message = !end.message.trim().is_empty();
    cx.claim(HOST_SVC_007).holds(
        "ERROR has a message with the reason of the last failure",
        has_message,
        || end.to_string(),
    );
    let unchanged = cx.consistently(
        OBSERVATION_TIME,
        "the service stays in ERROR with the same message",
        || async {
            let status = cx.status(&id).await?;
            if status.message == end.message {
                status.in_state(State::Error)
            } else {
                Err(status.to_string())
            }
        },
    );
    cx.claim(HOST_SVC_018).met(unchanged.await);
    Ok(())
}

/// Between two runs, the state is STARTING and the message contains the number of the next attempt.
async fn between_runs(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    let workload = service(cx, Role::ServiceErr, &beacon).max_restarts(8);
    start_service(cx, &id, &workload).await?;
    let starting = cx.eventually(
        Duration::from_secs(20),
        "the service is STARTING after a failed run",
        || async {
            match beacon.count("run") {
                0 => Err("no run yet".to_owned()),
                _ => cx.status(&id).await?.in_state(State::Starting),
            }
        },
    );
    let starting = cx.claim(HOST_SVC_008).met(starting.await);
    let message = starting
        .map(|response| response.message)
        .unwrap_or_default();
    let has_number = message.chars().any(|c| c.is_ascii_digit());
    cx.claim(HOST_SVC_009).holds(
        "the message contains the number of the next attempt",
        has_number,
        || format!("message {message:?}"),
    );
    Ok(())
}

/// Every run of a service starts with fresh memory.
async fn fresh_memory(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    let workload = service(cx, Role::ServiceFresh, &beacon).max_restarts(2);
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
        .is("number of runs with fresh memory", beacon.count("fresh"), 3);
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

/// Another service keeps running while a service fails and is restarted.
async fn neighbors(cx: &CheckContext) -> Flow {
    let (good, bad) = (cx.id("good"), cx.id("bad"));
    let (good_beacon, bad_beacon) = (cx.beacon(), cx.beacon());
    let workload = service(cx, Role::ServiceRun, &good_beacon).max_restarts(0);
    cx.start_and_wait(&good, &workload).await?;
    let workload = service(cx, Role::ServiceTrap, &bad_beacon).max_restarts(1);
    start_service(cx, &bad, &workload).await?;
    cx.wait_for_state(&bad, State::Error, deadlines::DEFAULT_WAIT)
        .await
        .or_blocked(cx, HOST_SVC_007)?;
    let unchanged = cx.consistently(
        OBSERVATION_TIME,
        "the other workload stays RUNNING",
        || async { cx.status(&good).await?.in_state(State::Running) },
    );
    cx.claim(HOST_SVC_014).met(unchanged.await);
    cx.claim(HOST_SVC_014).is(
        "number of runs of the other service",
        good_beacon.count("up"),
        1,
    );
    Ok(())
}

/// A service whose component exports no `run` ends in ERROR.
async fn no_run_export(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let start = cx.start(&id, &cx.workload().service(Role::NoRun)).await?;
    if start.state == State::Starting {
        cx.claim(HOST_SVC_015).met(
            cx.wait_for_state(&id, State::Error, deadlines::DEFAULT_WAIT)
                .await,
        );
    } else {
        cx.claim(HOST_SVC_015).about(&start).is(
            "state of a service without a `run` export",
            start.state.clone(),
            State::Error,
        );
    }
    Ok(())
}

/// A service is RUNNING while its guest runs.
async fn running(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    let workload = service(cx, Role::ServiceRun, &beacon).max_restarts(0);
    start_service(cx, &id, &workload).await?;
    cx.claim(HOST_SVC_016)
        .met(cx.wait_running(&id, deadlines::DEFAULT_WAIT).await);
    let up = beacon.wait("up", 1, deadlines::REPLY.limit).await;
    cx.claim(HOST_SVC_016)
        .holds("the guest of a RUNNING service runs", up.is_ok(), || {
            format!("beacon requests {:?}", beacon.hits())
        });
    Ok(())
}

/// A service that is stopped between two runs does not run again.
async fn stop_between_runs(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    let workload = service(cx, Role::ServiceErr, &beacon).max_restarts(10);
    start_service(cx, &id, &workload).await?;
    // After the fourth run, the delay is long enough to stop the service during it.
    let fourth = beacon.wait("run", 4, deadlines::DEFAULT_WAIT.limit).await;
    fourth.map_err(|missed| cx.blocked(HOST_SVC_006, "a fourth run", &missed))?;
    cx.stop(&id).await?;
    cx.wait_not_found(&id).await.or_blocked(cx, HOST_STOP_002)?;
    let before = beacon.count("run");
    let no_later_run = cx.never(OBSERVATION_TIME, "a run after the stop", || async {
        let runs = beacon.count("run");
        (runs > before).then(|| format!("{} more runs", runs - before))
    });
    cx.claim(HOST_SVC_017).met(no_later_run.await);
    Ok(())
}

/// A start for a COMPLETED id is refused and does not rerun the service; after a stop, the id is
/// free.
async fn completed_not_rerun(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    let workload = service(cx, Role::ServiceOk, &beacon).max_restarts(0);
    start_service(cx, &id, &workload).await?;
    cx.wait_for_state(&id, State::Completed, deadlines::DEFAULT_WAIT)
        .await
        .or_blocked(cx, HOST_SVC_001)?;
    let second = cx.start(&id, &workload).await?;
    let as_expected = second.state == State::Error && second.error_code == Some(409);
    let description = "a start for a COMPLETED id is refused: ERROR with code 409";
    cx.claim(HOST_START_020)
        .about(&second)
        .holds(description, as_expected, || second.to_string());
    let no_second_run = cx.never(OBSERVATION_TIME / 2, "a second run", || async {
        let runs = beacon.count("run");
        (runs > 1).then(|| format!("{runs} runs"))
    });
    cx.claim(HOST_START_020).met(no_second_run.await);

    cx.stop(&id).await?;
    if cx
        .claim(HOST_STOP_007)
        .met(cx.wait_not_found(&id).await)
        .is_some()
    {
        let third = cx.start(&id, &workload).await?;
        let accepted = third.error_code.is_none() && third.state != State::Error;
        cx.claim(HOST_STOP_007).about(&third).holds(
            "after a stop, the id can be started again",
            accepted,
            || third.to_string(),
        );
    }
    Ok(())
}

/// The guest of a stopped service ends within 2 s: it sends no later ping.
async fn stop_ends_guest(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    let workload = service(cx, Role::ServicePing, &beacon).max_restarts(0);
    cx.start_and_wait(&id, &workload).await?;
    let pings = beacon.wait("ping", 3, deadlines::REPLY.limit).await;
    pings.map_err(|missed| cx.blocked(HOST_SVC_016, "a service that sends pings", &missed))?;
    cx.stop(&id).await?;
    let stopped_at = std::time::Instant::now();
    let limit = deadlines::STOP_GUEST_ENDS.limit + cx.fixture().patience();
    let no_late_ping = cx.never(
        limit + OBSERVATION_TIME / 2,
        "a ping later than 2 s after the stop",
        || async {
            let last = beacon
                .hits()
                .last()
                .map(|hit| hit.at.saturating_duration_since(stopped_at));
            last.filter(|after| *after > limit)
                .map(|after| format!("a ping after {after:?}"))
        },
    );
    cx.claim(HOST_STOP_008).met(no_late_ping.await);
    Ok(())
}
