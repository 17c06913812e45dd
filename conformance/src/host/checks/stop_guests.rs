//! Stop checks of services and HTTP workloads: their guests, requests and outcomes.

use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::wire::response::State;

/// Checks of the section `stop` that need a guest.
pub const CHECKS: &[Check] = &[
    check! {
        id: "stop/states", run: states, covers: [HOST_STOP_001, HOST_STOP_007], host: Shared,
        roles: [ServiceRun, ServiceOk, ServiceErr, ServiceTrap], needs: [Registry],
        budget_s: 120, slow: false,
    },
    check! {
        id: "stop/guest-ended", run: guest_ended, covers: [HOST_STOP_001, HOST_STOP_008],
        host: Shared, roles: [ServicePing], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "stop/waiting-guest", run: waiting_guest, covers: [HOST_STOP_002, HOST_STOP_008],
        host: Shared, roles: [ServicePing], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "stop/open-connection", run: open_connection,
        covers: [HOST_STOP_002, HOST_HTTP_010], host: Shared, roles: [Hello],
        needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "stop/waiting-request", run: waiting_request,
        covers: [HOST_STOP_008, HOST_HTTP_010], host: Shared, roles: [HttpFetch],
        needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
];

/// Time for which the suite verifies that a guest does not run any more.
const OBSERVATION_TIME: Duration = Duration::from_secs(2);
/// Time after which a call of a guest that was sent before its end has arrived.
const CALL_IN_FLIGHT: Duration = Duration::from_millis(400);

/// In every state that a service can have, the reply to a stop is STOPPING or NOT_FOUND, and one
/// stop frees the id.
async fn states(cx: &CheckContext) -> Flow {
    for (role, restarts, state) in [
        (Role::ServiceRun, 0, State::Running),
        (Role::ServiceOk, 0, State::Completed),
        (Role::ServiceErr, 0, State::Error),
        (Role::ServiceTrap, 1, State::Error),
        (Role::ServiceErr, 20, State::Starting),
    ] {
        let (id, beacon) = (cx.id(&format!("{role}-{restarts}")), cx.beacon());
        let workload = cx.workload().service(role).beacon(&beacon);
        cx.start(&id, &workload.max_restarts(restarts)).await?;
        if state == State::Starting {
            let runs = beacon.wait("run", 3, deadlines::DEFAULT_WAIT.limit).await;
            runs.map_err(|missed| cx.blocked(HOST_SVC_006, "a third run", &missed))?;
        }
        cx.wait_for_state(&id, state.clone(), deadlines::DEFAULT_WAIT)
            .await
            .or_blocked(cx, HOST_SVC_016)?;
        let stop = cx.stop(&id).await?;
        let description = format!("state of the reply to a stop in {state}");
        cx.claim(HOST_STOP_001).about(&stop).one_of(
            &description,
            stop.state.clone(),
            &[State::Stopping, State::NotFound],
        );
        let requirement = match state {
            State::Completed => HOST_STOP_007,
            _ => HOST_STOP_001,
        };
        cx.claim(requirement).met(cx.wait_not_found(&id).await);
    }
    Ok(())
}

/// When the host reports NOT_FOUND, the guest has ended: it sends no later ping.
async fn guest_ended(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    let workload = cx.workload().service(Role::ServicePing).beacon(&beacon);
    cx.start_and_wait(&id, &workload).await?;
    let pings = beacon.wait("ping", 3, deadlines::REPLY.limit).await;
    pings.map_err(|missed| cx.blocked(HOST_SVC_016, "a service that sends pings", &missed))?;
    let stop = cx.stop(&id).await?;
    if stop.state != State::NotFound {
        cx.wait_not_found(&id).await.or_blocked(cx, HOST_STOP_002)?;
    }
    let ended_at = Instant::now();
    let grace = CALL_IN_FLIGHT + cx.fixture().patience();
    let no_late_ping = cx.never(
        grace + OBSERVATION_TIME,
        "a ping after the host reported NOT_FOUND",
        || async {
            let hits = beacon.hits();
            let last = hits
                .last()
                .map(|hit| hit.at.saturating_duration_since(ended_at));
            last.filter(|after| *after > grace)
                .map(|after| format!("a ping after {after:?}"))
        },
    );
    let no_late_ping = no_late_ping.await;
    let description = "the guest has ended when the host reports NOT_FOUND";
    let ended = no_late_ping.is_met();
    cx.claim(HOST_STOP_001)
        .about(&stop)
        .holds(description, ended, || format!("{:?}", no_late_ping.result));
    cx.claim(HOST_STOP_008)
        .holds(description, ended, || format!("{:?}", no_late_ping.result));
    Ok(())
}

/// A stop ends a guest that waits for the response to its own request.
async fn waiting_guest(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    let held = beacon.hold();
    let workload = cx.workload().service(Role::ServicePing).beacon(&beacon);
    cx.start_and_wait(&id, &workload).await?;
    let ping = beacon.wait("ping", 1, deadlines::DEFAULT_WAIT.limit).await;
    ping.map_err(|missed| cx.blocked(HOST_SVC_016, "a service that sends a ping", &missed))?;
    cx.stop(&id).await?;
    cx.claim(HOST_STOP_002).met(cx.wait_not_found(&id).await);
    drop(held);
    let no_ping = cx.never(OBSERVATION_TIME, "a ping after the stop", || async {
        let pings = beacon.count("ping");
        (pings > 1).then(|| format!("{pings} pings"))
    });
    cx.claim(HOST_STOP_008).met(no_ping.await);
    Ok(())
}

/// A client that keeps its connection open does not delay a stop.
async fn open_connection(cx: &CheckContext) -> Flow {
    let (id, host) = (cx.id("a"), cx.http_host_name("a"));
    let workload = cx.workload().component(Role::Hello).http_host(&host);
    cx.start_and_wait(&id, &workload).await?;
    let connection = OpenConnection::after_request(cx.http_authority()?, &host)
        .await
        .map_err(|error| cx.blocked(HOST_HTTP_001, "a response of the workload", &error))?;
    cx.stop(&id).await?;
    let not_found = cx.wait_not_found(&id).await;
    cx.claim(HOST_STOP_002).met(not_found);
    let response = cx.http_get(&host, "/").await?;
    let description = "status of a response after the stop";
    cx.claim(HOST_HTTP_010)
        .is(description, response.status, 404);
    drop(connection);
    Ok(())
}

/// An HTTP/1.1 connection to the ingress that stays open after its first request.
pub(super) struct OpenConnection {
    _sender: http1::SendRequest<Empty<bytes::Bytes>>,
    _driver: tokio_util::task::AbortOnDropHandle<Result<(), hyper::Error>>,
}

impl OpenConnection {
    /// Connects, sends one request and reads its response, which must have the status 200.
    pub(super) async fn after_request(authority: &str, host: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(authority)
            .await
            .map_err(|cause| cause.to_string())?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|cause| cause.to_string())?;
        let driver = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
        let request = Request::get("/")
            .header("Host", host)
            .body(Empty::new())
            .map_err(|cause| cause.to_string())?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|cause| cause.to_string())?;
        let status = response.status();
        let body = response.into_body().collect().await;
        body.map_err(|cause| cause.to_string())?;
        if status != 200 {
            return Err(format!("HTTP {status}"));
        }
        Ok(Self {
            _sender: sender,
            _driver: driver,
        })
    }
}

/// A stop ends a guest that handles a request and waits for the response to its own request.
async fn waiting_request(cx: &CheckContext) -> Flow {
    let (id, host, beacon) = (cx.id("a"), cx.http_host_name("a"), cx.beacon());
    let workload = cx
        .workload()
        .component(Role::HttpFetch)
        .beacon(&beacon)
        .env("BEACON", &format!("{}/fetch", beacon.value))
        .http_host(&host);
    cx.start_and_wait(&id, &workload).await?;
    let held = beacon.hold();
    let in_flight = cx.http_get(&host, "/");
    let stop = async {
        let fetched = beacon.wait("fetch", 1, deadlines::DEFAULT_WAIT.limit).await;
        fetched.map_err(|missed| cx.blocked(HOST_HTTP_001, "a request to the guest", &missed))?;
        cx.stop(&id).await?;
        // The guest of a host that does not end it gets its response and answers the client.
        let within = deadlines::STOP_GUEST_ENDS.limit + cx.fixture().patience();
        let wait = cx.consistently(within, "the host replies to status", || async {
            Ok::<_, String>(cx.status(&id).await?)
        });
        wait.await.or_blocked(cx, HOST_WIRE_002)?;
        drop(held);
        Ok::<_, Blocked>(())
    };
    let (response, stopped) = tokio::join!(in_flight, stop);
    let response = response?;
    stopped?;
    let ended = response.status != 200;
    let description = "the guest has ended 2 s after the stop, so that it does not respond later";
    cx.claim(HOST_STOP_008)
        .holds(description, ended, || response.to_string());
    cx.wait_not_found(&id).await.or_blocked(cx, HOST_STOP_002)?;
    let response = cx.http_get(&host, "/").await?;
    let description = "status of a response after the stop";
    cx.claim(HOST_HTTP_010)
        .is(description, response.status, 404);
    Ok(())
}
