//! Service checks: outcomes of runs, and how the host reports them.

use std::time::Duration;

use futures_util::future::try_join_all;

use super::outages::{claim_recovery, disconnect};
use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::{CheckContext, Workload};
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::beacon::Beacon;
use crate::wire::response::{Response, State};

/// Checks of the section `services` about outcomes, and start and stop checks that need a service.
pub const CHECKS: &[Check] = &[
    check! {
        id: "services/success", run: success, covers: [HOST_SVC_001], host: Shared,
        roles: [ServiceOk, ServiceOkAfter300Ms], needs: [Registry],
        waits_s: 15, budget_s: 90, slow: false,
    },
    check! {
        id: "services/exit-0", run: exit_0, covers: [HOST_SVC_002], host: Shared,
        roles: [ServiceExit0], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "services/error", run: error, covers: [HOST_SVC_003], host: Shared,
        roles: [ServiceErr, ServiceErrAfter300Ms], needs: [Registry],
        waits_s: 12, budget_s: 120, slow: false,
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
        id: "services/outcomes-kept", run: outcomes_kept,
        covers: [HOST_SVC_007, HOST_SVC_018], host: Shared,
        roles: [ServiceOk, ServiceErr, ServiceTrap], needs: [Registry],
        waits_s: 12, budget_s: 120, slow: false,
    },
    check! {
        id: "services/outcomes-after-outage", run: outcomes_after_outage,
        covers: [HOST_SVC_018, HOST_RESIL_001], host: Own, roles: [ServiceOk, ServiceErr],
        needs: [Tap, Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "services/many-outcomes", run: many_outcomes, covers: [HOST_SVC_018], host: Own,
        roles: [ServiceOk, ServiceErr], needs: [Registry], budget_s: 240, slow: false,
    },
    check! {
        id: "services/no-run-export", run: no_run_export, covers: [HOST_SVC_015], host: Shared,
        roles: [NoRun], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "services/running", run: running, covers: [HOST_SVC_016],
        host: Shared, roles: [ServiceRun], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "services/neighbors", run: neighbors, covers: [HOST_SVC_014], host: Own,
        roles: [ServiceRun, ServiceTrap], needs: [Registry], budget_s: 90, slow: false,
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

/// Time for which outcomes must stay visible in a run that is not slow.
const RETENTION_TIME: Duration = Duration::from_secs(12);
/// Number of outcomes that a host has to remember.
const REMEMBERED_OUTCOMES: usize = 1000;
/// Number of concurrent requests while many services end.
const CONCURRENT_REQUESTS: usize = 50;
/// Time from the first request of a guest until the host reports RUNNING.
const STATE_FOLLOWS_RUN: Duration = Duration::from_secs(1);

/// Returns a workload with a service that sends its beacons to `beacon`.
pub(super) fn service<'c>(cx: &'c CheckContext, role: Role, beacon: &Beacon) -> Workload<'c> {
    cx.workload().service(role).beacon(beacon)
}

/// Starts a service. The response may have any state that an accepted start can have, because a
/// short service may already have ended.
pub(super) async fn start_service(
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

/// Outcome of the runs of a role.
struct Outcome<'c> {
    requirement: Requirement,
    role: Role,
    /// Values of `maxRestarts`; `None` leaves it out.
    restarts: &'c [Option<u64>],
    end: State,
}

/// Records the claims that a service runs as often as its outcome and `maxRestarts` say, and then
/// has the right state.
async fn claim_outcome(cx: &CheckContext, outcome: Outcome<'_>) -> Flow {
    let Outcome {
        requirement,
        role,
        restarts,
        end,
    } = outcome;
    for max_restarts in restarts {
        let name = max_restarts.map_or("absent".to_owned(), |restarts| restarts.to_string());
        let (id, beacon) = (cx.id(&format!("{role}-{name}")), cx.beacon());
        let workload = service(cx, role, &beacon);
        let workload = match max_restarts {
            Some(restarts) => workload.max_restarts(*restarts),
            None => workload,
        };
        start_service(cx, &id, &workload).await?;
        let ended = cx
            .wait_for_state(&id, end.clone(), deadlines::DEFAULT_WAIT)
            .await;
        if cx.claim(requirement).met(ended).is_none() {
            continue;
        }
        let runs = match end {
            State::Error => usize::try_from(max_restarts.unwrap_or(0)).unwrap_or(0) + 1,
            _ => 1,
        };
        let description = format!(
            "the service {role} with maxRestarts {name} runs {runs} times and ends in {end}"
        );
        let unchanged = cx.consistently(OBSERVATION_TIME / 2, &description, || async {
            match beacon.count("run") {
                actual if actual == runs => cx.status(&id).await?.in_state(end.clone()).map(|_| ()),
                actual => Err(format!("{actual} runs")),
            }
        });
        cx.claim(requirement).met(unchanged.await);
    }
    Ok(())
}

/// Values of `maxRestarts` for services that succeed, and so never use them.
const UNUSED_RESTARTS: &[Option<u64>] = &[None, Some(0), Some(1), Some(5)];
/// Values of `maxRestarts` for services that fail.
const USED_RESTARTS: &[Option<u64>] = &[None, Some(0), Some(1), Some(2)];

/// A service that returns ok, at once or later, becomes COMPLETED and is not restarted.
async fn success(cx: &CheckContext) -> Flow {
    for role in [Role::ServiceOk, Role::ServiceOkAfter300Ms] {
        claim_outcome(
            cx,
            Outcome {
                requirement: HOST_SVC_001,
                role,
                restarts: UNUSED_RESTARTS,
                end: State::Completed,
            },
        )
        .await?;
    }
    Ok(())
}

/// A service that exits with code 0 becomes COMPLETED and is not restarted.
async fn exit_0(cx: &CheckContext) -> Flow {
    let outcome = Outcome {
        requirement: HOST_SVC_002,
        role: Role::ServiceExit0,
        restarts: UNUSED_RESTARTS,
        end: State::Completed,
    };
    claim_outcome(cx, outcome).await
}

/// A service that returns an error, at once or later, is restarted and ends in ERROR.
async fn error(cx: &CheckContext) -> Flow {
    for role in [Role::ServiceErr, Role::ServiceErrAfter300Ms] {
        claim_outcome(
            cx,
            Outcome {
                requirement: HOST_SVC_003,
                role,
                restarts: USED_RESTARTS,
                end: State::Error,
            },
        )
        .await?;
    }
    Ok(())
}

/// A service that traps is restarted and ends in ERROR.
async fn trap(cx: &CheckContext) -> Flow {
    let outcome = Outcome {
        requirement: HOST_SVC_004,
        role: Role::ServiceTrap,
        restarts: USED_RESTARTS,
        end: State::Error,
    };
    claim_outcome(cx, outcome).await
}

/// A service that exits with code 1 is restarted and ends in ERROR.
async fn exit_1(cx: &CheckContext) -> Flow {
    let outcome = Outcome {
        requirement: HOST_SVC_005,
        role: Role::ServiceExit1,
        restarts: USED_RESTARTS,
        end: State::Error,
    };
    claim_outcome(cx, outcome).await
}

/// Runs services to their end, and returns their ids and final statuses.
async fn end_services(
    cx: &CheckContext,
    services: &[(Role, u64, State)],
) -> Result<Vec<(String, Response)>, Blocked> {
    let mut ended = Vec::new();
    for (role, restarts, end) in services {
        let (id, beacon) = (cx.id(&format!("{role}-{restarts}")), cx.beacon());
        let workload = service(cx, *role, &beacon).max_restarts(*restarts);
        start_service(cx, &id, &workload).await?;
        let violated = match end {
            State::Completed => HOST_SVC_001,
            _ => HOST_SVC_007,
        };
        let status = cx
            .wait_for_state(&id, end.clone(), deadlines::DEFAULT_WAIT)
            .await
            .or_blocked(cx, violated)?;
        ended.push((id, status));
    }
    Ok(ended)
}

/// Verifies that ids still have the same status.
async fn verify_unchanged(cx: &CheckContext, ended: &[(String, Response)]) -> Result<(), String> {
    for (id, before) in ended {
        let status = cx.status(id).await?;
        if status.message != before.message || status.state != before.state {
            return Err(format!("{status}, before: {before}"));
        }
    }
    Ok(())
}

/// The outcome of a service and its message stay visible, and ERROR has a message.
async fn outcomes_kept(cx: &CheckContext) -> Flow {
    let services = [
        (Role::ServiceOk, 0, State::Completed),
        (Role::ServiceErr, 0, State::Error),
        (Role::ServiceErr, 1, State::Error),
        (Role::ServiceTrap, 2, State::Error),
    ];
    let ended = end_services(cx, &services).await?;
    for (_, status) in &ended {
        let has_reason = status.state != State::Error || !status.message.trim().is_empty();
        cx.claim(HOST_SVC_007).about(status).holds(
            "ERROR has a message with the reason of the last failure",
            has_reason,
            || status.to_string(),
        );
    }
    let unchanged = cx.consistently(
        RETENTION_TIME,
        "the outcomes stay visible, with their messages",
        || async { verify_unchanged(cx, &ended).await },
    );
    cx.claim(HOST_SVC_018).met(unchanged.await);
    Ok(())
}

/// The outcomes of services are still visible after an outage of the broker.
async fn outcomes_after_outage(cx: &CheckContext) -> Flow {
    let services = [
        (Role::ServiceOk, 0, State::Completed),
        (Role::ServiceErr, 1, State::Error),
    ];
    let ended = end_services(cx, &services).await?;
    let tap = cx.tap()?;
    disconnect(cx, tap, OBSERVATION_TIME).await?;
    if claim_recovery(cx, HOST_RESIL_001).await {
        let unchanged = cx.consistently(OBSERVATION_TIME, "the outcomes stay visible", || async {
            verify_unchanged(cx, &ended).await
        });
        cx.claim(HOST_SVC_018).met(unchanged.await);
    }
    Ok(())
}

/// Starts a service and waits until it has ended. Returns its final state.
async fn end_service(
    cx: &CheckContext,
    id: &str,
    workload: &Workload<'_>,
) -> Result<State, Blocked> {
    start_service(cx, id, workload).await?;
    let ended = cx.eventually(deadlines::DEFAULT_WAIT, "the service ends", || async {
        let status = cx.status(id).await?;
        match status.state {
            State::Completed | State::Error => Ok(status.state),
            _ => Err(status.to_string()),
        }
    });
    ended.await.or_blocked(cx, HOST_SVC_001)
}

/// The host remembers the outcomes of a thousand services.
async fn many_outcomes(cx: &CheckContext) -> Flow {
    let images = [cx.push(Role::ServiceOk), cx.push(Role::ServiceErr)];
    let workloads = images.map(|image| cx.workload().service(&image));
    let [succeeding, failing] = &workloads;
    let ids: Vec<String> = (0..REMEMBERED_OUTCOMES)
        .map(|number| cx.id(&format!("ended-{number}")))
        .collect();
    let (mut ended, mut statuses) = (Vec::new(), Vec::new());
    for chunk in ids.chunks(CONCURRENT_REQUESTS) {
        let services = chunk.iter().enumerate().map(|(number, id)| {
            let workload = if number % 2 == 0 { succeeding } else { failing };
            end_service(cx, id, workload)
        });
        ended.extend(try_join_all(services).await?);
    }
    for chunk in ids.chunks(CONCURRENT_REQUESTS) {
        statuses.extend(try_join_all(chunk.iter().map(|id| cx.status(id))).await?);
    }
    let kept = statuses
        .iter()
        .zip(&ended)
        .filter(|(status, state)| status.state == **state)
        .count();
    cx.claim(HOST_SVC_018).is(
        "number of outcomes that are visible after 1000 services have ended",
        kept,
        REMEMBERED_OUTCOMES,
    );
    Ok(())
}

/// A service whose image has no entry point ends in ERROR, and is not restarted.
async fn no_run_export(cx: &CheckContext) -> Flow {
    let pushed = cx.push(Role::NoRun);
    for restarts in [0, 1, 100] {
        let id = cx.id(&restarts.to_string());
        let workload = cx.workload().service(&pushed).max_restarts(restarts);
        let start = cx.start(&id, &workload).await?;
        if start.state == State::Starting {
            let failed = cx
                .wait_for_state(&id, State::Error, deadlines::DEFAULT_WAIT)
                .await;
            cx.claim(HOST_SVC_015).met(failed);
        } else {
            cx.claim(HOST_SVC_015).about(&start).is(
                "state of a service whose image has no entry point",
                start.state.clone(),
                State::Error,
            );
        }
    }
    Ok(())
}

/// A service is RUNNING while its guest runs.
async fn running(cx: &CheckContext) -> Flow {
    for restarts in [0, 3] {
        let (id, beacon) = (cx.id(&restarts.to_string()), cx.beacon());
        let workload = service(cx, Role::ServiceRun, &beacon).max_restarts(restarts);
        start_service(cx, &id, &workload).await?;
        let up = beacon.wait("up", 1, deadlines::DEFAULT_WAIT.limit).await;
        let runs = cx
            .claim(HOST_SVC_016)
            .holds("the guest of a service runs", up.is_ok(), || {
                format!("beacon requests {:?}", beacon.hits())
            });
        if !runs {
            continue;
        }
        // The guest has sent its beacon, so it runs; the state may follow a moment later.
        let running = cx.wait_running(&id, STATE_FOLLOWS_RUN).await;
        if cx.claim(HOST_SVC_016).met(running).is_some() {
            let unchanged = cx.consistently(
                OBSERVATION_TIME,
                "the service is RUNNING while its guest runs",
                || async { cx.status(&id).await?.in_state(State::Running) },
            );
            cx.claim(HOST_SVC_016).met(unchanged.await);
        }
    }
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
