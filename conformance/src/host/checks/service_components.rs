//! Service checks: the components and routes of a workload whose service restarts or has ended.

use super::services::start_service;
use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::wire::response::State;

/// Checks of the section `services` that need an ingress.
pub const CHECKS: &[Check] = &[
    check! {
        id: "services/routes-removed", run: routes_removed, covers: [HOST_SVC_019], host: Shared,
        roles: [Hello, ServiceOk, ServiceErr], needs: [Ingress, Registry], budget_s: 90,
        slow: false,
    },
    check! {
        id: "services/components-restarted", run: components_restarted, covers: [HOST_SVC_020],
        host: Shared, roles: [HttpFetch, ServiceErr], needs: [Ingress, Registry], budget_s: 90,
        slow: false,
    },
    check! {
        id: "services/unavailable-between-runs", run: unavailable_between_runs,
        covers: [HOST_SVC_021], host: Shared, roles: [Hello, ServiceErr],
        needs: [Ingress, Registry], budget_s: 120, slow: false,
    },
];

/// A workload whose service has ended, in COMPLETED or in ERROR, gets no requests, on none of its
/// host names.
async fn routes_removed(cx: &CheckContext) -> Flow {
    for (label, role, restarts, end, violated) in [
        (
            "completed",
            Role::ServiceOk,
            0,
            State::Completed,
            HOST_SVC_001,
        ),
        ("failed", Role::ServiceErr, 0, State::Error, HOST_SVC_003),
        ("exhausted", Role::ServiceErr, 1, State::Error, HOST_SVC_007),
    ] {
        let names = ["", "-alias", "-alias2"].map(|suffix| {
            let name = format!("{label}{suffix}");
            cx.http_host_name(&name)
        });
        let [host, alias, second_alias] = &names;
        let (id, beacon) = (cx.id(label), cx.beacon());
        let held = beacon.hold();
        let workload = cx
            .workload()
            .component(Role::Hello)
            .http_host(host)
            .interface_config("host-aliases", &format!("{alias},{second_alias}"))
            .service(role)
            .beacon(&beacon)
            .max_restarts(restarts);
        start_service(cx, &id, &workload).await?;
        cx.wait_running(&id, deadlines::DEFAULT_WAIT)
            .await
            .or_blocked(cx, HOST_SVC_016)?;
        for name in &names {
            let response = cx.http_get(name, "/").await?;
            if response.status != 200 {
                return Err(cx.blocked(HOST_HTTP_009, "a response of the workload", &response));
            }
        }
        drop(held);
        // The held call was the first run, so further runs are released as well.
        cx.wait_for_state(&id, end, deadlines::DEFAULT_WAIT)
            .await
            .or_blocked(cx, violated)?;
        for name in &names {
            let response = cx.http_get(name, "/").await?;
            let description = format!("status for the name {name} after the service has {label}");
            cx.claim(HOST_SVC_019)
                .is(&description, response.status, 404);
        }
    }
    Ok(())
}

/// A request that a component handles when the service restarts does not survive the restart: the
/// component restarts too.
async fn components_restarted(cx: &CheckContext) -> Flow {
    let (id, host) = (cx.id("a"), cx.http_host_name("a"));
    let (service_beacon, fetched) = (cx.beacon(), cx.beacon());
    let (service_held, fetch_held) = (service_beacon.hold(), fetched.hold());
    let workload = cx
        .workload()
        .component(Role::HttpFetch)
        .env("BEACON", &format!("{}/fetch", fetched.value))
        .allowed_host(&fetched.authority)
        .http_host(&host)
        .service(Role::ServiceErr)
        .beacon(&service_beacon)
        .max_restarts(5);
    start_service(cx, &id, &workload).await?;
    cx.wait_running(&id, deadlines::DEFAULT_WAIT)
        .await
        .or_blocked(cx, HOST_SVC_016)?;
    let in_flight = cx.http_get(&host, "/");
    let restart = async {
        let call = fetched
            .wait("fetch", 1, deadlines::DEFAULT_WAIT.limit)
            .await;
        call.map_err(|missed| cx.blocked(HOST_HTTP_001, "a request to the guest", &missed))?;
        // The service fails when it receives its response; its second run waits again.
        let second_run_held = service_beacon.hold();
        drop(service_held);
        let runs = service_beacon
            .wait("run", 2, deadlines::DEFAULT_WAIT.limit)
            .await;
        runs.map_err(|missed| cx.blocked(HOST_SVC_006, "a second run", &missed))?;
        drop(fetch_held);
        Ok::<_, Blocked>(second_run_held)
    };
    let (response, second_run_held) = tokio::join!(in_flight, restart);
    let response = response?;
    let _second_run_held = second_run_held?;
    let restarted = response.status != 200;
    let description = "a component that handled a request before the restart does not answer it \
                       after the restart";
    cx.claim(HOST_SVC_020)
        .holds(description, restarted, || response.to_string());
    let served = cx.eventually(
        deadlines::REPLY,
        "the restarted component serves a request",
        || async {
            let response = cx.http_get(&host, "/").await?;
            match response.status {
                200 => Ok(()),
                _ => Err(response.to_string()),
            }
        },
    );
    cx.claim(HOST_SVC_020).met(served.await);
    Ok(())
}

/// Between two runs of the service, requests for the workload get 503.
async fn unavailable_between_runs(cx: &CheckContext) -> Flow {
    let (id, host, beacon) = (cx.id("a"), cx.http_host_name("a"), cx.beacon());
    let workload = cx
        .workload()
        .component(Role::Hello)
        .http_host(&host)
        .service(Role::ServiceErr)
        .beacon(&beacon)
        .max_restarts(20);
    start_service(cx, &id, &workload).await?;
    let mut judged = 0;
    for after_run in 4..=7 {
        let runs = beacon
            .wait("run", after_run, deadlines::DEFAULT_WAIT.limit)
            .await;
        runs.map_err(|missed| cx.blocked(HOST_SVC_006, "a run", &missed))?;
        cx.wait_for_state(&id, State::Starting, deadlines::REPLY)
            .await
            .or_blocked(cx, HOST_SVC_008)?;
        let response = cx.http_get(&host, "/").await?;
        let status = cx.status(&id).await?;
        // The service waited for its next run during the whole request.
        if beacon.count("run") != after_run || status.state != State::Starting {
            continue;
        }
        judged += 1;
        let description = "status of the response between two runs of the service";
        cx.claim(HOST_SVC_021).is(description, response.status, 503);
    }
    if judged == 0 {
        let actual = "the service ran again before each response";
        return Err(cx.blocked(HOST_SVC_010, "a response between two runs", &actual));
    }
    Ok(())
}
