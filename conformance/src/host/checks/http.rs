//! Ingress checks: routing, forwarded requests, and responses of the host itself.

use std::time::Duration;

use bytes::Bytes;
use hyper::Request;

use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::{CheckContext, HttpResponse, Workload};
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::wire::response::State;

/// Checks of the section `http`.
pub const CHECKS: &[Check] = &[
    check! {
        id: "http/routing", run: routing, covers: [HOST_HTTP_001, HOST_HTTP_009],
        host: Shared, roles: [HelloTwo], needs: [Ingress, Registry], budget_s: 90,
        slow: false,
    },
    check! {
        id: "http/no-route", run: no_route, covers: [HOST_HTTP_002], host: Shared, roles: [],
        needs: [Ingress], budget_s: 60, slow: false,
    },
    check! {
        id: "http/missing-host", run: missing_host, covers: [HOST_HTTP_003], host: Shared,
        roles: [], needs: [Ingress], budget_s: 60, slow: false,
    },
    check! {
        id: "http/host-port", run: host_port, covers: [HOST_HTTP_004], host: Shared, roles: [Hello],
        needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/host-case", run: host_case, covers: [HOST_HTTP_005], host: Shared, roles: [Hello],
        needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/aliases", run: aliases, covers: [HOST_HTTP_006], host: Shared,
        roles: [Hello], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/invalid-host", run: invalid_host, covers: [HOST_HTTP_007], host: Shared,
        roles: [Hello], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/trap", run: trap, covers: [HOST_HTTP_008], host: Shared, roles: [HttpTrap],
        needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/after-stop", run: after_stop, covers: [HOST_HTTP_010], host: Shared,
        roles: [Hello], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/shared-host", run: shared_host, covers: [HOST_HTTP_011], host: Shared,
        roles: [HelloTwo], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/undeclared-interface", run: undeclared_interface, covers: [HOST_HTTP_012],
        host: Shared, roles: [Hello], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/http-port", run: http_port, covers: [HOST_HTTP_013], host: Shared,
        roles: [], needs: [Ingress], budget_s: 60, slow: false,
    },
    check! {
        id: "http/entire-request", run: entire_request, covers: [HOST_HTTP_014], host: Shared,
        roles: [HttpEcho], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/spin", run: spin, covers: [HOST_HTTP_015], host: Own,
        roles: [HttpSpin, Hello], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/timeout", run: timeout, covers: [HOST_HTTP_016], host: Own,
        roles: [HttpSpin], needs: [Ingress, Registry], budget_s: 200, slow: true,
    },
];

/// Time within which the host must end a request whose handler never returns.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(150);

/// Returns a workload that serves "hello" for this HTTP host name.
fn hello<'c>(cx: &'c CheckContext, host: &str) -> Workload<'c> {
    cx.workload().component(Role::Hello).http_host(host)
}

/// Sends a request that must return 200, as a precondition of the check.
async fn require_ok(cx: &CheckContext, host: &str, path: &str) -> Result<HttpResponse, Blocked> {
    let response = cx.http_get(host, path).await?;
    match response.status {
        200 => Ok(response),
        _ => Err(cx.blocked(
            HOST_HTTP_001,
            &format!("status 200 for host {host}"),
            &response,
        )),
    }
}

/// Requests are routed by `Host`, as soon as the workload is RUNNING.
async fn routing(cx: &CheckContext) -> Flow {
    for label in ["one", "two"] {
        let host = cx.http_host_name(label);
        let workload = cx
            .workload()
            .component(Role::HelloTwo)
            .env("BODY", label)
            .http_host(&host);
        cx.start_and_wait(&cx.id(label), &workload).await?;
        let first = cx.http_get(&host, "/").await?;
        let routed = first.status == 200;
        cx.claim(HOST_HTTP_009).holds(
            "requests are routed once the workload is RUNNING",
            routed,
            || first.to_string(),
        );
    }
    for label in ["one", "two"] {
        let response = cx.http_get(&cx.http_host_name(label), "/").await?;
        let reached = response.status == 200 && response.text() == label;
        let description = format!("a request for host `{label}…` reaches workload `{label}`");
        cx.claim(HOST_HTTP_001)
            .holds(&description, reached, || response.to_string());
    }
    Ok(())
}

/// A request for an unknown host name returns 404.
async fn no_route(cx: &CheckContext) -> Flow {
    let response = cx.http_get(&cx.http_host_name("unknown"), "/").await?;
    cx.claim(HOST_HTTP_002)
        .is("status for an unknown host name", response.status, 404);
    Ok(())
}

/// A request without `Host` returns 400.
async fn missing_host(cx: &CheckContext) -> Flow {
    let request = Request::get("/")
        .body(Bytes::new())
        .map_err(|cause| Blocked::harness("cannot build the HTTP request", cause))?;
    let response = cx.http_send(request, Duration::from_secs(10)).await?;
    cx.claim(HOST_HTTP_003)
        .is("status for a request without Host", response.status, 400);
    Ok(())
}

/// The port in `Host` is ignored.
async fn host_port(cx: &CheckContext) -> Flow {
    let host = cx.http_host_name("a");
    cx.start_and_wait(&cx.id("a"), &hello(cx, &host)).await?;
    require_ok(cx, &host, "/").await?;
    for port in ["80", "8080", "65535"] {
        let response = cx.http_get(&format!("{host}:{port}"), "/").await?;
        cx.claim(HOST_HTTP_004).is(
            &format!("status with port {port} in Host"),
            response.status,
            200,
        );
    }
    Ok(())
}

/// The host name is matched case-insensitively.
async fn host_case(cx: &CheckContext) -> Flow {
    let host = cx.http_host_name("MiXeD").replace("berth", "BERTH");
    cx.start_and_wait(&cx.id("a"), &hello(cx, &host)).await?;
    for spelling in [host.clone(), host.to_lowercase(), host.to_uppercase()] {
        let response = cx.http_get(&spelling, "/").await?;
        cx.claim(HOST_HTTP_005)
            .is(&format!("status for Host {spelling}"), response.status, 200);
    }
    Ok(())
}

/// Requests for names in `host-aliases` reach the workload.
async fn aliases(cx: &CheckContext) -> Flow {
    let (host, one, two) = (
        cx.http_host_name("a"),
        cx.http_host_name("b"),
        cx.http_host_name("c"),
    );
    let workload = hello(cx, &host).interface_config("host-aliases", &format!("{one}, {two}"));
    cx.start_and_wait(&cx.id("a"), &workload).await?;
    require_ok(cx, &host, "/").await?;
    for alias in [one, two] {
        let response = cx.http_get(&alias, "/").await?;
        cx.claim(HOST_HTTP_006).is(
            &format!("status for the alias {alias}"),
            response.status,
            200,
        );
    }
    Ok(())
}

/// A workload with a missing or invalid `host` ends in ERROR.
async fn invalid_host(cx: &CheckContext) -> Flow {
    let missing =
        cx.workload()
            .component(Role::Hello)
            .interface("wasi", "http", &["incoming-handler"]);
    let mut cases = vec![("no host".to_owned(), missing)];
    for invalid in ["", "a_b.test", "a b.test", "*", "-a.test", "a..test"] {
        cases.push((format!("host {invalid:?}"), hello(cx, invalid)));
    }
    for (index, (description, workload)) in cases.into_iter().enumerate() {
        let id = cx.id(&index.to_string());
        let start = cx.start(&id, &workload).await?;
        let state = match start.state {
            State::Starting => cx
                .wait_for_state(&id, State::Error, deadlines::DEFAULT_WAIT)
                .await
                .result
                .map_or(start.state.clone(), |response| response.state),
            _ => start.state.clone(),
        };
        let description = format!("state of an HTTP workload with {description}");
        cx.claim(HOST_HTTP_007)
            .about(&start)
            .is(&description, state, State::Error);
    }
    Ok(())
}

/// A request whose guest traps returns 500, and the workload keeps serving.
async fn trap(cx: &CheckContext) -> Flow {
    let (id, host) = (cx.id("a"), cx.http_host_name("a"));
    cx.start_and_wait(
        &id,
        &cx.workload().component(Role::HttpTrap).http_host(&host),
    )
    .await?;
    require_ok(cx, &host, "/ok").await?;
    for _ in 0..3 {
        let response = cx.http_get(&host, "/trap").await?;
        cx.claim(HOST_HTTP_008).is(
            "status for a request whose guest traps",
            response.status,
            500,
        );
    }
    let status = cx.status(&id).await?;
    cx.claim(HOST_HTTP_008).is(
        "state of the workload after a trap",
        status.state,
        State::Running,
    );
    let next = cx.http_get(&host, "/ok").await?;
    cx.claim(HOST_HTTP_008)
        .is("status of the next request", next.status, 200);
    Ok(())
}

/// Requests for a stopped workload return 404.
async fn after_stop(cx: &CheckContext) -> Flow {
    let (id, host) = (cx.id("a"), cx.http_host_name("a"));
    cx.start_and_wait(&id, &hello(cx, &host)).await?;
    require_ok(cx, &host, "/").await?;
    cx.stop(&id).await?;
    cx.wait_not_found(&id).await.or_blocked(cx, HOST_STOP_002)?;
    let response = cx.http_get(&host, "/").await?;
    cx.claim(HOST_HTTP_010).is(
        "status after the workload is NOT_FOUND",
        response.status,
        404,
    );
    Ok(())
}

/// Two workloads share the requests for one host name. After one workload is stopped, the other
/// workload gets all requests.
async fn shared_host(cx: &CheckContext) -> Flow {
    let host = cx.http_host_name("a");
    for label in ["one", "two"] {
        let workload = cx
            .workload()
            .component(Role::HelloTwo)
            .env("BODY", label)
            .http_host(&host);
        cx.start_and_wait(&cx.id(label), &workload).await?;
    }
    let (mut one, mut two, mut other) = (0, 0, 0);
    for _ in 0..60 {
        match cx.http_get(&host, "/").await?.text().as_str() {
            "one" => one += 1,
            "two" => two += 1,
            _ => other += 1,
        }
    }
    let shared = one >= 5 && two >= 5 && other == 0;
    cx.claim(HOST_HTTP_011).holds(
        "each of two workloads receives at least 5 of 60 requests",
        shared,
        || format!("{one} requests reached the first, {two} the second, {other} neither"),
    );
    cx.stop(&cx.id("one")).await?;
    cx.wait_not_found(&cx.id("one"))
        .await
        .or_blocked(cx, HOST_STOP_002)?;
    for _ in 0..10 {
        let response = cx.http_get(&host, "/").await?;
        let reached = response.text() == "two";
        cx.claim(HOST_HTTP_011).holds(
            "the remaining workload receives all requests",
            reached,
            || response.to_string(),
        );
    }
    Ok(())
}

/// A workload whose `wasi:http` declaration lacks the handler gets no requests.
async fn undeclared_interface(cx: &CheckContext) -> Flow {
    let host = cx.http_host_name("a");
    let workload = cx
        .workload()
        .component(Role::Hello)
        .interface("wasi", "http", &["types"])
        .interface_config("host", &host);
    cx.start(&cx.id("a"), &workload).await?;
    let response = cx.http_get(&host, "/").await?;
    let description = "status for a workload that does not declare its HTTP handler";
    cx.claim(HOST_HTTP_012)
        .is(description, response.status, 404);
    Ok(())
}

/// `httpPort` in the heartbeat is the port of the ingress.
async fn http_port(cx: &CheckContext) -> Flow {
    let authority = cx.http_authority()?.to_owned();
    let actual: Option<u64> = authority
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok());
    let heartbeat = cx.heartbeat().await?.json.unwrap_or_default();
    let announced = heartbeat
        .get("httpPort")
        .and_then(serde_json::Value::as_u64);
    cx.claim(HOST_HTTP_013)
        .is("`httpPort` in the heartbeat", announced, actual);
    Ok(())
}

/// Method, path, query, headers and body reach the guest unchanged, and the body returns unchanged.
async fn entire_request(cx: &CheckContext) -> Flow {
    let host = cx.http_host_name("a");
    cx.start_and_wait(
        &cx.id("a"),
        &cx.workload().component(Role::HttpEcho).http_host(&host),
    )
    .await?;
    let body = Bytes::from("ünï\u{0}".repeat(2000));
    for method in ["POST", "PUT", "DELETE"] {
        let request = Request::builder()
            .method(method)
            .uri("/a/b%20c?x=1&y=%26")
            .header("Host", &host)
            .header("x-berth", "Val ue")
            .body(body.clone())
            .map_err(|cause| Blocked::harness("cannot build the HTTP request", cause))?;
        let response = cx.http_send(request, Duration::from_secs(10)).await?;
        let mut expected = format!("{method}\n/a/b%20c?x=1&y=%26\nVal ue\n").into_bytes();
        expected.extend_from_slice(&body);
        let unchanged = response.status == 200 && response.body == expected;
        let description = format!(
            "method, path, query, header and body of a {method} request reach the guest unchanged"
        );
        cx.claim(HOST_HTTP_014)
            .holds(&description, unchanged, || response.to_string());
    }
    Ok(())
}

/// While eight handlers spin, usually more than the machine has cores, the host serves another
/// workload and replies to status.
async fn spin(cx: &CheckContext) -> Flow {
    let (spinning_host, hello_host, beacon) = (
        cx.http_host_name("spin"),
        cx.http_host_name("hello"),
        cx.beacon(),
    );
    let spinner = cx
        .workload()
        .component(Role::HttpSpin)
        .beacon(&beacon)
        .http_host(&spinning_host);
    cx.start_and_wait(&cx.id("spin"), &spinner).await?;
    cx.start_and_wait(&cx.id("hello"), &hello(cx, &hello_host))
        .await?;
    require_ok(cx, &spinning_host, "/ok").await?;
    let spinners =
        futures_util::future::join_all((0..8).map(|_| cx.http_get(&spinning_host, "/spin")));
    let others = async {
        let spun = beacon.wait("spin", 4, deadlines::REPLY.limit).await;
        spun.map_err(|missed| cx.blocked(HOST_HTTP_001, "handlers that spin", &missed))?;
        for _ in 0..5 {
            let response = cx.http_get(&hello_host, "/").await?;
            let description = "HTTP status of another workload while handlers spin";
            cx.claim(HOST_HTTP_015)
                .is(description, response.status, 200);
        }
        let status = cx.status(&cx.id("hello")).await?;
        cx.claim(HOST_HTTP_015).is(
            "state of another workload while handlers spin",
            status.state,
            State::Running,
        );
        Ok(())
    };
    tokio::select! {
        flow = others => flow,
        _ = async { spinners.await; std::future::pending::<()>().await } => Ok(()),
    }
}

/// The host ends a request whose handler never returns.
async fn timeout(cx: &CheckContext) -> Flow {
    let (host, beacon) = (cx.http_host_name("a"), cx.beacon());
    let spinner = cx
        .workload()
        .component(Role::HttpSpin)
        .beacon(&beacon)
        .http_host(&host);
    cx.start_and_wait(&cx.id("a"), &spinner).await?;
    let request = Request::get("/spin")
        .header("Host", &host)
        .body(Bytes::new())
        .map_err(|cause| Blocked::harness("cannot build the HTTP request", cause))?;
    let response = cx.http_send(request, HANDLER_TIMEOUT).await?;
    let ended = response.elapsed < HANDLER_TIMEOUT;
    cx.claim(HOST_HTTP_016).holds(
        "the host ends a request whose handler never returns",
        ended,
        || response.to_string(),
    );
    Ok(())
}
