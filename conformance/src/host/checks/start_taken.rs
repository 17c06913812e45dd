//! Checks of starts for ids that are taken: the start is refused, and the workload is unchanged.

use std::time::Duration;

use serde_json::json;

use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::{CheckContext, Workload};
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::wire::response::{Headers, Response, State};

/// Checks of the section `start` about ids that are taken.
pub const CHECKS: &[Check] = &[
    check! {
        id: "start/taken-by-service", run: taken_by_service,
        covers: [HOST_START_002, HOST_START_020, HOST_SVC_018], host: Shared,
        roles: [ServiceRun, ServiceOk, ServiceErr, ServiceTrap, ServiceExit1], needs: [Registry],
        budget_s: 120, slow: false,
    },
    check! {
        id: "start/taken-between-runs", run: taken_between_runs,
        covers: [HOST_START_002, HOST_SVC_006], host: Shared, roles: [ServiceErr],
        needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "start/taken-routes", run: taken_routes, covers: [HOST_START_002, HOST_HTTP_002],
        host: Shared, roles: [HelloTwo], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "start/while-stopping", run: while_stopping,
        covers: [HOST_START_002, HOST_HTTP_010], host: Shared, roles: [HttpFetch],
        needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
];

/// Time for which the suite verifies that a refused start has no effect.
const OBSERVATION_TIME: Duration = Duration::from_secs(1);

/// Records the claims that starts for a taken id are refused, whatever their content.
async fn claim_refused(
    cx: &CheckContext,
    requirement: Requirement,
    holder: &str,
    id: &str,
    workload: &Workload<'_>,
) -> Flow {
    let renamed = workload
        .clone()
        .edit(|json| json["name"] = json!("another"));
    for workload in [workload, &renamed, &cx.workload()] {
        let start = cx.start(id, workload).await?;
        let refused = start.state == State::Error && start.error_code == Some(409);
        let description = format!("a start for an id of {holder} is refused: ERROR, code 409");
        cx.claim(requirement)
            .about(&start)
            .holds(&description, refused, || start.to_string());
    }
    Ok(())
}

/// A start for an id whose service runs or has ended is refused, runs nothing, and changes neither
/// the state nor the message.
async fn taken_by_service(cx: &CheckContext) -> Flow {
    for (role, end, beacon_name) in [
        (Role::ServiceRun, State::Running, "up"),
        (Role::ServiceOk, State::Completed, "run"),
        (Role::ServiceErr, State::Error, "run"),
        (Role::ServiceTrap, State::Error, "run"),
        (Role::ServiceExit1, State::Error, "run"),
    ] {
        let (id, beacon) = (cx.id(role.name()), cx.beacon());
        let workload = cx.workload().service(role).beacon(&beacon).max_restarts(0);
        cx.start(&id, &workload).await?;
        let holder = format!("a workload in {end} after a run of {role}");
        let ended = cx
            .wait_for_state(&id, end.clone(), deadlines::DEFAULT_WAIT)
            .await
            .or_blocked(cx, requirement_of(&end))?;
        let requirement = match end {
            State::Completed => HOST_START_020,
            _ => HOST_START_002,
        };
        claim_refused(cx, requirement, &holder, &id, &workload).await?;
        let description = format!("{holder} is unchanged after refused starts");
        let unchanged = cx.consistently(OBSERVATION_TIME, &description, || async {
            let status = cx.status(&id).await?;
            match beacon.count(beacon_name) {
                0 | 1 if end == State::Running => status.in_state(State::Running).map(|_| ()),
                1 if status.message == ended.message => status.in_state(end.clone()).map(|_| ()),
                runs => Err(format!("{runs} runs, {status}, before: {ended}")),
            }
        });
        let requirement = match end {
            State::Running => HOST_START_002,
            _ => HOST_SVC_018,
        };
        cx.claim(requirement).met(unchanged.await);
    }
    Ok(())
}

/// Returns the requirement that a service violates if it does not reach this state.
fn requirement_of(end: &State) -> Requirement {
    match end {
        State::Completed => HOST_SVC_001,
        State::Error => HOST_SVC_007,
        _ => HOST_SVC_016,
    }
}

/// A start for an id whose service waits for its next run is refused, and does not renew its
/// restarts.
async fn taken_between_runs(cx: &CheckContext) -> Flow {
    const RESTARTS: u64 = 4;
    let (id, beacon) = (cx.id("a"), cx.beacon());
    let workload = cx.workload().service(Role::ServiceErr).beacon(&beacon);
    let workload = workload.max_restarts(RESTARTS);
    cx.start(&id, &workload).await?;
    for run in 1..=4 {
        let ran = beacon.wait("run", run, deadlines::DEFAULT_WAIT.limit).await;
        ran.map_err(|missed| cx.blocked(HOST_SVC_006, "a run", &missed))?;
        claim_refused(cx, HOST_START_002, "a failing service", &id, &workload).await?;
    }
    let ended = cx
        .eventually(
            deadlines::DEFAULT_WAIT,
            "the service ends in ERROR",
            || async {
                match beacon.count("run") {
                    runs if runs > 5 => Ok(()),
                    _ => cx.status(&id).await?.in_state(State::Error).map(|_| ()),
                }
            },
        )
        .await;
    ended.or_blocked(cx, HOST_SVC_007)?;
    let more = cx.never(OBSERVATION_TIME * 2, "a sixth run", || async {
        let runs = beacon.count("run");
        (runs > 5).then(|| format!("{runs} runs"))
    });
    let more = more.await;
    cx.claim(HOST_SVC_006).met(more);
    let description = "number of runs with maxRestarts 4 and refused starts";
    cx.claim(HOST_START_002)
        .is(description, beacon.count("run"), 5);
    Ok(())
}

/// A refused start neither adds routes to the running workload nor removes its routes.
async fn taken_routes(cx: &CheckContext) -> Flow {
    let pushed = cx.push(Role::HelloTwo);
    let with = |host: &str, alias: &str, body: &str| {
        cx.workload()
            .component(&pushed)
            .env("BODY", body)
            .http_host(host)
            .interface_config("host-aliases", alias)
    };
    let name = |label: &str| cx.http_host_name(label);
    let id = cx.id("a");
    cx.start_and_wait(&id, &with(&name("one"), &name("one-alias"), "first"))
        .await?;
    for (host, alias) in [
        ("two", "two-alias"),
        ("one", "two-alias"),
        ("two", "one-alias"),
    ] {
        let start = cx
            .start(&id, &with(&name(host), &name(alias), "second"))
            .await?;
        cx.claim(HOST_START_002).about(&start).is(
            "error code of the reply to a start for a taken id",
            start.error_code,
            Some(409),
        );
        for label in ["one", "one-alias"] {
            let response = cx.http_get(&name(label), "/").await?;
            let served = response.status == 200 && response.text().trim() == "first";
            let description = "the running workload is served as before the refused start";
            cx.claim(HOST_START_002)
                .holds(description, served, || response.to_string());
        }
        for label in ["two", "two-alias"] {
            let response = cx.http_get(&name(label), "/").await?;
            let no_route = response.status == 404;
            let description = "a host name of a refused start has no route";
            cx.claim(HOST_START_002)
                .holds(description, no_route, || response.to_string());
            cx.claim(HOST_HTTP_002)
                .holds(description, no_route, || response.to_string());
        }
    }
    Ok(())
}

/// A start for an id that is STOPPING, because a request is still in flight, is refused.
async fn while_stopping(cx: &CheckContext) -> Flow {
    let (id, host, beacon) = (cx.id("a"), cx.http_host_name("a"), cx.beacon());
    let workload = cx
        .workload()
        .component(Role::HttpFetch)
        .beacon(&beacon)
        .env("BEACON", &format!("{}/fetch", beacon.value))
        .http_host(&host);
    cx.start_and_wait(&id, &workload).await?;
    // The guest waits for a response, so that its request is in flight when the stop arrives.
    let held = beacon.hold();
    let in_flight = cx.http_get(&host, "/");
    let commands = async {
        let fetched = beacon.wait("fetch", 1, deadlines::DEFAULT_WAIT.limit).await;
        fetched.map_err(|missed| cx.blocked(HOST_HTTP_001, "a request to the guest", &missed))?;
        let replies = send_stop_and_start(cx, &id, &workload).await?;
        drop(held);
        Ok::<_, Blocked>(replies)
    };
    let (response, replies) = tokio::join!(in_flight, commands);
    let (response, (stop, start)) = (response?, replies?);
    // A guest that answers after the start was accepted had not ended before.
    let finished_later = response.status == 200;
    let accepted = start.error_code.is_none() && start.state != State::Error;
    let held = !(finished_later && accepted);
    let description = "a start is refused while a request to the stopped workload is in flight";
    cx.claim(HOST_START_002)
        .about(&start)
        .holds(description, held, || {
            format!("stop: {stop}, start: {start}")
        });

    cx.stop(&id).await?;
    cx.wait_not_found(&id).await.or_blocked(cx, HOST_STOP_002)?;
    let response = cx.http_get(&host, "/").await?;
    let description = "status of a response after the end of the workload";
    cx.claim(HOST_HTTP_010)
        .is(description, response.status, 404);
    Ok(())
}

/// Sends a stop and a start without waiting in between, and returns both responses.
async fn send_stop_and_start(
    cx: &CheckContext,
    id: &str,
    workload: &Workload<'_>,
) -> Result<(Response, Response), Blocked> {
    let stop = json!({ "workloadId": id }).to_string();
    let start = workload.start_request(id).to_string();
    let mut inboxes = [
        cx.request("workload.stop", stop, Headers::none()).await?,
        cx.request("workload.start", start, Headers::none()).await?,
    ];
    let mut responses = Vec::new();
    for replies in &mut inboxes {
        let within = deadlines::REPLY.limit + cx.fixture().patience();
        let delivery = replies.next(within).await;
        let reply = delivery.map(|delivery| crate::host::context::parse_reply(delivery, replies));
        let response = reply.as_ref().and_then(|reply| reply.response().cloned());
        let missing = || cx.blocked(HOST_WIRE_002, "a reply", &"no reply within 5 s");
        responses.push(response.ok_or_else(missing)?);
    }
    let mut responses = responses.into_iter();
    match (responses.next(), responses.next()) {
        (Some(stop), Some(start)) => Ok((stop, start)),
        _ => Err(cx.blocked(HOST_WIRE_002, "two replies", &"fewer")),
    }
}
