//! Ingress checks: routing, forwarded requests, and responses of the host itself.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Request, Version};

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
        roles: [Hello], needs: [Ingress, Registry], budget_s: 60, slow: false,
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
pub(super) fn hello<'c>(cx: &'c CheckContext, host: &str) -> Workload<'c> {
    cx.workload().component(Role::Hello).http_host(host)
}

/// Sends a request that must return 200, as a precondition of the check.
pub(super) async fn require_ok(
    cx: &CheckContext,
    host: &str,
    path: &str,
) -> Result<HttpResponse, Blocked> {
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

/// Requests are routed by `Host`, as soon as the workload is RUNNING; requests for its aliases too.
async fn routing(cx: &CheckContext) -> Flow {
    for label in ["one", "two"] {
        let host = cx.http_host_name(label);
        let alias = cx.http_host_name(&format!("{label}-alias"));
        let workload = cx
            .workload()
            .component(Role::HelloTwo)
            .env("BODY", label)
            .http_host(&host)
            .interface_config("host-aliases", &alias);
        cx.start_and_wait(&cx.id(label), &workload).await?;
        for name in [&alias, &host] {
            let first = cx.http_get(name, "/").await?;
            let description =
                format!("requests for {name} are routed once the workload is RUNNING");
            cx.claim(HOST_HTTP_009)
                .holds(&description, first.status == 200, || first.to_string());
        }
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

/// A request without `Host`, or with several, returns 400, in each version of HTTP/1.
async fn missing_host(cx: &CheckContext) -> Flow {
    let host = cx.http_host_name("a");
    cx.start_and_wait(&cx.id("a"), &hello(cx, &host)).await?;
    require_ok(cx, &host, "/").await?;
    let unknown = cx.http_host_name("unknown");
    for (description, version, names) in [
        ("HTTP/1.1 without Host", Version::HTTP_11, &[][..]),
        ("HTTP/1.0 without Host", Version::HTTP_10, &[]),
        ("two equal Host lines", Version::HTTP_11, &[&host, &host]),
        ("two Host lines", Version::HTTP_11, &[&host, &unknown]),
        (
            "two Host lines, the second known",
            Version::HTTP_11,
            &[&unknown, &host],
        ),
    ] {
        let mut request = Request::get("/").version(version);
        for name in names {
            request = request.header("Host", name.as_str());
        }
        let request = built(request.body(Bytes::new()))?;
        let response = cx.http_connection()?.send(request).await;
        let description = format!("status for a request with {description}");
        cx.claim(HOST_HTTP_003)
            .is(&description, response.status, 400);
    }
    Ok(())
}

/// Returns the request; an error is a defect of the check.
pub(super) fn built(
    request: Result<Request<Bytes>, hyper::http::Error>,
) -> Result<Request<Bytes>, Blocked> {
    request.map_err(|cause| Blocked::harness("cannot build the HTTP request", cause))
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

/// Requests for a stopped workload return 404, for each of its names, and on a connection that was
/// open before the stop.
async fn after_stop(cx: &CheckContext) -> Flow {
    let (id, host) = (cx.id("a"), cx.http_host_name("a"));
    let alias = cx.http_host_name("alias");
    let workload = hello(cx, &host).interface_config("host-aliases", &alias);
    cx.start_and_wait(&id, &workload).await?;
    require_ok(cx, &host, "/").await?;
    let get = |name: &str| built(Request::get("/").header("Host", name).body(Bytes::new()));
    let mut connection = cx.http_connection()?;
    let response = connection.send(get(&host)?).await;
    if response.status != 200 {
        return Err(cx.blocked(HOST_HTTP_001, "a response on a connection", &response));
    }
    cx.stop(&id).await?;
    cx.wait_not_found(&id).await.or_blocked(cx, HOST_STOP_002)?;
    let response = connection.send(get(&host)?).await;
    cx.claim(HOST_HTTP_010).is(
        "status on a connection that was open before the stop",
        response.status,
        404,
    );
    for name in [&host, &alias] {
        let response = cx.http_get(name, "/").await?;
        let description = format!("status for {name} after the workload is NOT_FOUND");
        cx.claim(HOST_HTTP_010)
            .is(&description, response.status, 404);
    }
    Ok(())
}

/// Three workloads share the requests for one host name, which is an alias of the third. When
/// workloads are stopped, the others get all requests.
async fn shared_host(cx: &CheckContext) -> Flow {
    let host = cx.http_host_name("a");
    for label in ["one", "two", "three"] {
        let workload = cx.workload().component(Role::HelloTwo).env("BODY", label);
        let workload = match label {
            "three" => workload
                .http_host(&cx.http_host_name("own"))
                .interface_config("host-aliases", &host),
            _ => workload.http_host(&host),
        };
        cx.start_and_wait(&cx.id(label), &workload).await?;
    }
    let counts = responses_of(cx, &host, 90).await?;
    let share = |label: &str| counts.get(label).copied().unwrap_or_default();
    let shared = ["one", "two", "three"]
        .iter()
        .all(|label| share(label) >= 5);
    cx.claim(HOST_HTTP_011).holds(
        "each of three workloads receives at least 5 of 90 requests, and nothing else responds",
        shared && counts.len() == 3,
        || format!("{counts:?}"),
    );
    for (stopped, remaining) in [("one", &["two", "three"][..]), ("two", &["three"])] {
        cx.stop(&cx.id(stopped)).await?;
        cx.wait_not_found(&cx.id(stopped))
            .await
            .or_blocked(cx, HOST_STOP_002)?;
        let counts = responses_of(cx, &host, 20).await?;
        let expected = counts.keys().all(|text| remaining.contains(&text.as_str()));
        cx.claim(HOST_HTTP_011).holds(
            "the remaining workloads receive all requests",
            expected,
            || format!("{counts:?}"),
        );
    }
    Ok(())
}

/// Sends requests one after another, and returns how often each response arrived.
async fn responses_of(
    cx: &CheckContext,
    host: &str,
    requests: usize,
) -> Result<BTreeMap<String, usize>, Blocked> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        let response = cx.http_get(host, "/").await?;
        let text = match response.status {
            200 => response.text(),
            _ => response.to_string(),
        };
        *counts.entry(text).or_default() += 1;
    }
    Ok(counts)
}

/// A workload that does not declare its HTTP handler gets no requests, whatever else it declares
/// with a `host`.
async fn undeclared_interface(cx: &CheckContext) -> Flow {
    for (label, namespace, package, interface) in [
        ("types", "wasi", "http", "types"),
        ("outgoing", "wasi", "http", "outgoing-handler"),
        ("namespace", "acme", "http", "incoming-handler"),
        ("package", "wasi", "https", "incoming-handler"),
    ] {
        let (id, host) = (cx.id(label), cx.http_host_name(label));
        let workload = cx
            .workload()
            .component(Role::Hello)
            .interface(namespace, package, &[interface])
            .interface_config("host", &host);
        if cx.start(&id, &workload).await?.state == State::Starting {
            // A host may run the workload, or refuse it.
            let _ = cx.wait_running(&id, deadlines::DEFAULT_WAIT).await;
        }
        let response = cx.http_get(&host, "/").await?;
        let description =
            format!("status for a workload that declares {namespace}:{package}/{interface} only");
        cx.claim(HOST_HTTP_012)
            .is(&description, response.status, 404);
    }
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
    let request = built(
        Request::get("/spin")
            .header("Host", &host)
            .body(Bytes::new()),
    )?;
    let response = cx.http_send(request, HANDLER_TIMEOUT).await?;
    let ended = response.elapsed < HANDLER_TIMEOUT;
    cx.claim(HOST_HTTP_016).holds(
        "the host ends a request whose handler never returns",
        ended,
        || response.to_string(),
    );
    Ok(())
}
