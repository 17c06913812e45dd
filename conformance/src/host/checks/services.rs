//! Services: how they run, how often they are run again, and what is said of their end.

use std::time::Duration;

use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::{CheckContext, Workload};
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::beacon::{Beacon, Hit};
use crate::wire::response::{Response, State};

/// The section, and what of start and stop needs a service to show.
pub const CHECKS: &[Check] = &[
    check! {
        id: "svc/ends-well", run: ends_well, covers: [HOST_SVC_001, HOST_SVC_018],
        host: Shared, roles: [ServiceOk], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "svc/exit-0", run: exit_0, covers: [HOST_SVC_002], host: Shared,
        roles: [ServiceExit0], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "svc/error", run: error, covers: [HOST_SVC_003], host: Shared,
        roles: [ServiceErr], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "svc/trap", run: trap, covers: [HOST_SVC_004], host: Shared, roles: [ServiceTrap],
        needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "svc/exit-1", run: exit_1, covers: [HOST_SVC_005], host: Shared,
        roles: [ServiceExit1], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "svc/restart-budget", run: restart_budget,
        covers: [HOST_SVC_006, HOST_SVC_010, HOST_SVC_011], host: Shared, roles: [ServiceErr],
        needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "svc/no-restarts", run: no_restarts, covers: [HOST_SVC_006], host: Shared,
        roles: [ServiceErr], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "svc/exhausted", run: exhausted, covers: [HOST_SVC_007, HOST_SVC_018],
        host: Shared, roles: [ServiceTrap], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "svc/between-runs", run: between_runs, covers: [HOST_SVC_008, HOST_SVC_009],
        host: Shared, roles: [ServiceErr], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "svc/fresh-memory", run: fresh_memory, covers: [HOST_SVC_012], host: Shared,
        roles: [ServiceFresh], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "svc/budget-comes-back", run: budget_comes_back, covers: [HOST_SVC_013],
        host: Shared, roles: [ServiceLongFail], needs: [Registry], budget_s: 260, slow: true,
    },
    check! {
        id: "svc/neighbours", run: neighbours, covers: [HOST_SVC_014], host: Own,
        roles: [ServiceRun, ServiceTrap], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "svc/nothing-to-run", run: nothing_to_run, covers: [HOST_SVC_015], host: Shared,
        roles: [NoRun], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "svc/running-while-it-runs", run: running_while_it_runs, covers: [HOST_SVC_016],
        host: Shared, roles: [ServiceRun], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "svc/stop-between-runs", run: stop_between_runs, covers: [HOST_SVC_017],
        host: Shared, roles: [ServiceErr], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "svc/completed-is-not-run-again", run: completed_is_not_run_again,
        covers: [HOST_START_020, HOST_STOP_007], host: Shared, roles: [ServiceOk],
        needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "svc/stop-ends-the-guest", run: stop_ends_the_guest, covers: [HOST_STOP_008],
        host: Shared, roles: [ServiceBeat], needs: [Registry], budget_s: 90, slow: false,
    },
];

/// How long the suite watches for something that must not happen any more.
const WATCH: Duration = Duration::from_secs(2);

fn service<'c>(cx: &'c CheckContext, role: Role, beacon: &Beacon, restarts: u64) -> Workload<'c> {
    cx.workload()
        .service(role)
        .beacon(beacon)
        .max_restarts(restarts)
}

/// Starts a service whatever state the answer shows: a quick service may have ended by then.
async fn set_off(
    cx: &CheckContext,
    id: &str,
    workload: &Workload<'_>,
) -> Result<Response, Blocked> {
    let start = cx.start(id, workload).await?;
    match (start.error_code, start.state.clone()) {
        (None, State::Starting | State::Running | State::Completed | State::Error) => Ok(start),
        _ => Err(cx.blocked(HOST_START_001, "the service to start", &start)),
    }
}

/// Waits for the end of a service, and claims that it is the right one.
async fn ends(cx: &CheckContext, requirement: Requirement, role: Role, end: State) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    set_off(cx, &id, &service(cx, role, &beacon, 0)).await?;
    cx.claim(requirement)
        .met(cx.reaches(&id, end, deadlines::LOOK).await);
    cx.claim(requirement)
        .is("runs of the service", beacon.count("run"), 1);
    Ok(())
}

async fn ends_well(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    set_off(cx, &id, &service(cx, Role::ServiceOk, &beacon, 3)).await?;
    let done = cx
        .claim(HOST_SVC_001)
        .met(cx.reaches(&id, State::Completed, deadlines::LOOK).await);
    if done.is_none() {
        cx.claim(HOST_SVC_018)
            .violated("COMPLETED is reported", &["COMPLETED"], "never seen");
        return Ok(());
    }
    let stays = cx.consistently(WATCH, "COMPLETED stays visible", || async {
        cx.status(&id).await?.in_state(State::Completed)
    });
    cx.claim(HOST_SVC_018).met(stays.await);
    cx.claim(HOST_SVC_001)
        .is("runs of the service", beacon.count("run"), 1);
    Ok(())
}

async fn exit_0(cx: &CheckContext) -> Flow {
    ends(cx, HOST_SVC_002, Role::ServiceExit0, State::Completed).await
}

async fn error(cx: &CheckContext) -> Flow {
    ends(cx, HOST_SVC_003, Role::ServiceErr, State::Error).await
}

async fn trap(cx: &CheckContext) -> Flow {
    ends(cx, HOST_SVC_004, Role::ServiceTrap, State::Error).await
}

async fn exit_1(cx: &CheckContext) -> Flow {
    ends(cx, HOST_SVC_005, Role::ServiceExit1, State::Error).await
}

/// Four runs with a budget of three, further and further apart.
async fn restart_budget(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    set_off(cx, &id, &service(cx, Role::ServiceErr, &beacon, 3)).await?;
    cx.claim(HOST_SVC_006)
        .met(cx.reaches(&id, State::Error, deadlines::LOOK).await);
    let more = cx.never(WATCH, "a run after the last", || async {
        let runs = beacon.count("run");
        (runs > 4).then(|| format!("{runs} runs"))
    });
    cx.claim(HOST_SVC_006).met(more.await);
    cx.claim(HOST_SVC_006).is(
        "runs of a failing service with maxRestarts 3",
        beacon.count("run"),
        4,
    );
    judge_waits(cx, &beacon.hits());
    Ok(())
}

/// The times between the runs. A guest takes a moment of each, so the bound below is the tight one.
fn judge_waits(cx: &CheckContext, hits: &[Hit]) {
    let waits: Vec<Duration> = hits
        .iter()
        .zip(hits.iter().skip(1))
        .map(|(one, next)| next.at.saturating_duration_since(one.at))
        .collect();
    let (min, max) = (
        deadlines::RESTART_WAIT_MIN.limit,
        deadlines::RESTART_WAIT_MAX.limit,
    );
    let bounded = !waits.is_empty()
        && waits
            .iter()
            .all(|wait| (min..=max + cx.fixture().patience()).contains(wait));
    cx.claim(HOST_SVC_010)
        .holds("waits before restarts from 50 ms to 45 s", bounded, || {
            format!("{waits:?}")
        });
    let first = waits.first().copied().unwrap_or_default();
    let last = waits.last().copied().unwrap_or_default();
    let grows = waits.len() > 1 && last > first.mul_f64(1.5) && last < Duration::from_secs(5);
    let what = "waits that double, beginning near 100 ms";
    cx.claim(HOST_SVC_011)
        .holds(what, grows, || format!("{waits:?}"));
}

async fn no_restarts(cx: &CheckContext) -> Flow {
    let absent = |cx: &CheckContext, beacon: &Beacon| {
        cx.workload()
            .service(Role::ServiceErr)
            .beacon(beacon)
            .json()
            .clone()
    };
    for (name, restarts) in [("zero", Some(0)), ("absent", None)] {
        let (id, beacon) = (cx.id(name), cx.beacon());
        let json = absent(cx, &beacon);
        let workload = cx.workload().edit(|workload| *workload = json);
        let workload = match restarts {
            Some(restarts) => workload.max_restarts(restarts),
            None => workload,
        };
        set_off(cx, &id, &workload).await?;
        cx.claim(HOST_SVC_006)
            .met(cx.reaches(&id, State::Error, deadlines::LOOK).await);
        let what = format!("runs with maxRestarts {name}");
        cx.claim(HOST_SVC_006).is(&what, beacon.count("run"), 1);
    }
    Ok(())
}

async fn exhausted(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    set_off(cx, &id, &service(cx, Role::ServiceTrap, &beacon, 1)).await?;
    let end = cx
        .claim(HOST_SVC_007)
        .met(cx.reaches(&id, State::Error, deadlines::LOOK).await);
    let Some(end) = end else {
        cx.claim(HOST_SVC_018)
            .violated("ERROR is reported", &["ERROR"], "never seen");
        return Ok(());
    };
    let reason = !end.message.trim().is_empty();
    cx.claim(HOST_SVC_007)
        .holds("the ERROR says why the last run failed", reason, || {
            end.to_string()
        });
    let stays = cx.consistently(WATCH, "ERROR stays visible with its message", || async {
        let status = cx.status(&id).await?;
        match status.message == end.message {
            true => status.in_state(State::Error),
            false => Err(status.to_string()),
        }
    });
    cx.claim(HOST_SVC_018).met(stays.await);
    Ok(())
}

/// With a long wait ahead, a status between two runs sees STARTING.
async fn between_runs(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    set_off(cx, &id, &service(cx, Role::ServiceErr, &beacon, 8)).await?;
    let starting = cx.eventually(
        Duration::from_secs(20),
        "STARTING after a failed run",
        || async {
            match beacon.count("run") {
                0 => Err("no run yet".to_owned()),
                _ => cx.status(&id).await?.in_state(State::Starting),
            }
        },
    );
    let seen = cx.claim(HOST_SVC_008).met(starting.await);
    let words = seen.map(|answer| answer.message).unwrap_or_default();
    let says = words.chars().any(|c| c.is_ascii_digit());
    cx.claim(HOST_SVC_009)
        .holds("the message says which attempt is next", says, || {
            format!("message {words:?}")
        });
    Ok(())
}

async fn fresh_memory(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    set_off(cx, &id, &service(cx, Role::ServiceFresh, &beacon, 2)).await?;
    cx.reaches(&id, State::Error, deadlines::LOOK)
        .await
        .or_blocked(cx, HOST_SVC_007)?;
    cx.claim(HOST_SVC_012).is(
        "runs that found the memory of an earlier one",
        beacon.count("stale"),
        0,
    );
    cx.claim(HOST_SVC_012)
        .is("runs with fresh memory", beacon.count("fresh"), 3);
    Ok(())
}

/// A service that fails every 62 s with one restart to its name goes on and on.
async fn budget_comes_back(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    set_off(cx, &id, &service(cx, Role::ServiceLongFail, &beacon, 1)).await?;
    let runs = cx.eventually(Duration::from_secs(200), "a third run", || async {
        match beacon.count("run") {
            runs if runs >= 3 => Ok(()),
            runs => Err(format!("{runs} runs, {}", cx.status(&id).await?)),
        }
    });
    cx.claim(HOST_SVC_013).met(runs.await);
    Ok(())
}

async fn neighbours(cx: &CheckContext) -> Flow {
    let (good, bad) = (cx.id("good"), cx.id("bad"));
    let (good_beacon, bad_beacon) = (cx.beacon(), cx.beacon());
    cx.started(&good, &service(cx, Role::ServiceRun, &good_beacon, 0))
        .await?;
    set_off(cx, &bad, &service(cx, Role::ServiceTrap, &bad_beacon, 1)).await?;
    cx.reaches(&bad, State::Error, deadlines::LOOK)
        .await
        .or_blocked(cx, HOST_SVC_007)?;
    let stays = cx.consistently(WATCH, "the neighbour stays RUNNING", || async {
        cx.status(&good).await?.in_state(State::Running)
    });
    cx.claim(HOST_SVC_014).met(stays.await);
    cx.claim(HOST_SVC_014)
        .is("runs of the neighbour", good_beacon.count("up"), 1);
    Ok(())
}

async fn nothing_to_run(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let start = cx.start(&id, &cx.workload().service(Role::NoRun)).await?;
    if start.state == State::Starting {
        cx.claim(HOST_SVC_015)
            .met(cx.reaches(&id, State::Error, deadlines::LOOK).await);
    } else {
        cx.claim(HOST_SVC_015).about(&start).is(
            "state of a service that has nothing to run",
            start.state.clone(),
            State::Error,
        );
    }
    Ok(())
}

async fn running_while_it_runs(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    set_off(cx, &id, &service(cx, Role::ServiceRun, &beacon, 0)).await?;
    cx.claim(HOST_SVC_016)
        .met(cx.running(&id, deadlines::LOOK).await);
    let up = beacon.wait("up", 1, deadlines::ANSWER.limit).await;
    cx.claim(HOST_SVC_016)
        .holds("the service really runs", up.is_ok(), || {
            format!("{:?}", beacon.hits())
        });
    Ok(())
}

async fn stop_between_runs(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    set_off(cx, &id, &service(cx, Role::ServiceErr, &beacon, 10)).await?;
    // By the fourth run the waits are long enough to stop in the middle of one.
    let fourth = beacon.wait("run", 4, deadlines::LOOK.limit).await;
    fourth.map_err(|silence| cx.blocked(HOST_SVC_006, "a fourth run", &silence))?;
    cx.stop(&id).await?;
    cx.gone(&id).await.or_blocked(cx, HOST_STOP_002)?;
    let before = beacon.count("run");
    let again = cx.never(WATCH, "a run after the stop", || async {
        let runs = beacon.count("run");
        (runs > before).then(|| format!("{} more runs", runs - before))
    });
    cx.claim(HOST_SVC_017).met(again.await);
    Ok(())
}

async fn completed_is_not_run_again(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    let workload = service(cx, Role::ServiceOk, &beacon, 0);
    set_off(cx, &id, &workload).await?;
    cx.reaches(&id, State::Completed, deadlines::LOOK)
        .await
        .or_blocked(cx, HOST_SVC_001)?;
    let second = cx.start(&id, &workload).await?;
    let right = second.state == State::Error && second.error_code == Some(409);
    let what = "a start for a COMPLETED id is refused: ERROR with code 409";
    cx.claim(HOST_START_020)
        .about(&second)
        .holds(what, right, || second.to_string());
    let again = cx.never(WATCH / 2, "a second run", || async {
        let runs = beacon.count("run");
        (runs > 1).then(|| format!("{runs} runs"))
    });
    cx.claim(HOST_START_020).met(again.await);

    cx.stop(&id).await?;
    if cx.claim(HOST_STOP_007).met(cx.gone(&id).await).is_some() {
        let third = cx.start(&id, &workload).await?;
        let free = third.error_code.is_none() && third.state != State::Error;
        cx.claim(HOST_STOP_007)
            .about(&third)
            .holds("the id is free again", free, || third.to_string());
    }
    Ok(())
}

/// The beats of a stopped service cease within two seconds.
async fn stop_ends_the_guest(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    cx.started(&id, &service(cx, Role::ServiceBeat, &beacon, 0))
        .await?;
    let beats = beacon.wait("beat", 3, deadlines::ANSWER.limit).await;
    beats.map_err(|silence| cx.blocked(HOST_SVC_016, "a service that beats", &silence))?;
    cx.stop(&id).await?;
    let stopped = std::time::Instant::now();
    let over = deadlines::STOP_GUEST_ENDS.limit + cx.fixture().patience();
    let late = cx.never(
        over + WATCH / 2,
        "a beat later than 2 s after the stop",
        || async {
            let last = beacon
                .hits()
                .last()
                .map(|hit| hit.at.saturating_duration_since(stopped));
            last.filter(|after| *after > over)
                .map(|after| format!("a beat after {after:?}"))
        },
    );
    cx.claim(HOST_STOP_008).met(late.await);
    Ok(())
}
