//! Ingress: whom a request reaches, what is handed over, and what is answered when nobody is there.

use std::time::Duration;

use bytes::Bytes;
use hyper::Request;

use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::{CheckContext, HttpAnswer, Workload};
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::wire::response::State;

/// The section, and what of services needs ingress to show.
pub const CHECKS: &[Check] = &[
    check! {
        id: "http/by-host", run: by_host, covers: [HOST_HTTP_001, HOST_HTTP_009],
        host: Shared, roles: [HelloTwo], needs: [Ingress, Registry], budget_s: 90,
        slow: false,
    },
    check! {
        id: "http/no-route", run: no_route, covers: [HOST_HTTP_002], host: Shared, roles: [],
        needs: [Ingress], budget_s: 60, slow: false,
    },
    check! {
        id: "http/no-host", run: no_host, covers: [HOST_HTTP_003], host: Shared, roles: [],
        needs: [Ingress], budget_s: 60, slow: false,
    },
    check! {
        id: "http/port", run: port, covers: [HOST_HTTP_004], host: Shared, roles: [Hello],
        needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/case", run: case, covers: [HOST_HTTP_005], host: Shared, roles: [Hello],
        needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/aliases", run: aliases, covers: [HOST_HTTP_006], host: Shared,
        roles: [Hello], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/bad-host", run: bad_host, covers: [HOST_HTTP_007], host: Shared,
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
        id: "http/shared-name", run: shared_name, covers: [HOST_HTTP_011], host: Shared,
        roles: [HelloTwo], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/undeclared", run: undeclared, covers: [HOST_HTTP_012], host: Shared,
        roles: [Hello], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/http-port", run: http_port, covers: [HOST_HTTP_013], host: Shared,
        roles: [], needs: [Ingress], budget_s: 60, slow: false,
    },
    check! {
        id: "http/whole-request", run: whole_request, covers: [HOST_HTTP_014], host: Shared,
        roles: [HttpEcho], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/spin", run: spin, covers: [HOST_HTTP_015], host: Own,
        roles: [HttpSpin, Hello], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "http/cut-off", run: cut_off, covers: [HOST_HTTP_016], host: Own,
        roles: [HttpSpin], needs: [Ingress, Registry], budget_s: 200, slow: true,
    },
    check! {
        id: "svc/routes-end", run: routes_end, covers: [HOST_SVC_019], host: Shared,
        roles: [Hello, ServiceOnce, ServiceSlowFail], needs: [Ingress, Registry],
        budget_s: 90, slow: false,
    },
];

/// How long a handler may keep a client at the most before the suite calls it uncut.
const CUT_OFF_WITHIN: Duration = Duration::from_secs(150);

fn hello<'c>(cx: &'c CheckContext, host: &str) -> Workload<'c> {
    cx.workload().component(Role::Hello).http_host(host)
}

/// A request that must be served, to find out whether the stage is set.
async fn served(cx: &CheckContext, host: &str, path: &str) -> Result<HttpAnswer, Blocked> {
    let answer = cx.http(host, path).await?;
    match answer.status {
        200 => Ok(answer),
        _ => Err(cx.blocked(HOST_HTTP_001, &format!("{host} to be served"), &answer)),
    }
}

/// Two workloads, two names; the first request goes out the moment RUNNING is known.
async fn by_host(cx: &CheckContext) -> Flow {
    for label in ["one", "two"] {
        let host = cx.http_name(label);
        let workload = cx
            .workload()
            .component(Role::HelloTwo)
            .env("BODY", label)
            .http_host(&host);
        cx.started(&cx.id(label), &workload).await?;
        let at_once = cx.http(&host, "/").await?;
        let live = at_once.status == 200;
        cx.claim(HOST_HTTP_009)
            .holds("the route is live when RUNNING is reported", live, || {
                at_once.to_string()
            });
    }
    for label in ["one", "two"] {
        let answer = cx.http(&cx.http_name(label), "/").await?;
        let right = answer.status == 200 && answer.text() == label;
        let what = format!("a request for host `{label}…` reaches workload `{label}`");
        cx.claim(HOST_HTTP_001)
            .holds(&what, right, || answer.to_string());
    }
    Ok(())
}

async fn no_route(cx: &CheckContext) -> Flow {
    let answer = cx.http(&cx.http_name("nobody"), "/").await?;
    cx.claim(HOST_HTTP_002).is(
        "status for a host name that no workload has",
        answer.status,
        404,
    );
    Ok(())
}

async fn no_host(cx: &CheckContext) -> Flow {
    let request = Request::get("/")
        .body(Bytes::new())
        .map_err(|cause| Blocked::harness("the HTTP request is not well formed", cause))?;
    let answer = cx.http_send(request, Duration::from_secs(10)).await?;
    cx.claim(HOST_HTTP_003)
        .is("status for a request without Host", answer.status, 400);
    Ok(())
}

async fn port(cx: &CheckContext) -> Flow {
    let host = cx.http_name("a");
    cx.started(&cx.id("a"), &hello(cx, &host)).await?;
    served(cx, &host, "/").await?;
    for port in ["80", "8080", "65535"] {
        let answer = cx.http(&format!("{host}:{port}"), "/").await?;
        cx.claim(HOST_HTTP_004).is(
            &format!("status with port {port} in Host"),
            answer.status,
            200,
        );
    }
    Ok(())
}

async fn case(cx: &CheckContext) -> Flow {
    let host = cx.http_name("MiXeD").replace("berth", "BERTH");
    cx.started(&cx.id("a"), &hello(cx, &host)).await?;
    for spelling in [host.clone(), host.to_lowercase(), host.to_uppercase()] {
        let answer = cx.http(&spelling, "/").await?;
        cx.claim(HOST_HTTP_005)
            .is(&format!("status for Host {spelling}"), answer.status, 200);
    }
    Ok(())
}

async fn aliases(cx: &CheckContext) -> Flow {
    let (host, one, two) = (cx.http_name("a"), cx.http_name("b"), cx.http_name("c"));
    let workload = hello(cx, &host).interface_config("host-aliases", &format!("{one}, {two}"));
    cx.started(&cx.id("a"), &workload).await?;
    served(cx, &host, "/").await?;
    for alias in [one, two] {
        let answer = cx.http(&alias, "/").await?;
        cx.claim(HOST_HTTP_006)
            .is(&format!("status for the alias {alias}"), answer.status, 200);
    }
    Ok(())
}

async fn bad_host(cx: &CheckContext) -> Flow {
    let missing =
        cx.workload()
            .component(Role::Hello)
            .interface("wasi", "http", &["incoming-handler"]);
    let mut cases = vec![("no host".to_owned(), missing)];
    for bad in ["", "a_b.test", "a b.test", "*", "-a.test", "a..test"] {
        cases.push((format!("host {bad:?}"), hello(cx, bad)));
    }
    for (n, (what, workload)) in cases.into_iter().enumerate() {
        let id = cx.id(&n.to_string());
        let start = cx.start(&id, &workload).await?;
        let state = match start.state {
            State::Starting => cx
                .reaches(&id, State::Error, deadlines::LOOK)
                .await
                .result
                .map_or(start.state.clone(), |a| a.state),
            _ => start.state.clone(),
        };
        let what = format!("state of a workload that serves HTTP with {what}");
        cx.claim(HOST_HTTP_007)
            .about(&start)
            .is(&what, state, State::Error);
    }
    Ok(())
}

async fn trap(cx: &CheckContext) -> Flow {
    let (id, host) = (cx.id("a"), cx.http_name("a"));
    cx.started(
        &id,
        &cx.workload().component(Role::HttpTrap).http_host(&host),
    )
    .await?;
    served(cx, &host, "/ok").await?;
    for _ in 0..3 {
        let answer = cx.http(&host, "/trap").await?;
        cx.claim(HOST_HTTP_008)
            .is("status for a request whose guest traps", answer.status, 500);
    }
    let status = cx.status(&id).await?;
    cx.claim(HOST_HTTP_008).is(
        "state of the workload after a trap",
        status.state,
        State::Running,
    );
    let next = cx.http(&host, "/ok").await?;
    cx.claim(HOST_HTTP_008)
        .is("status of the next request", next.status, 200);
    Ok(())
}

async fn after_stop(cx: &CheckContext) -> Flow {
    let (id, host) = (cx.id("a"), cx.http_name("a"));
    cx.started(&id, &hello(cx, &host)).await?;
    served(cx, &host, "/").await?;
    cx.stop(&id).await?;
    cx.gone(&id).await.or_blocked(cx, HOST_STOP_002)?;
    let answer = cx.http(&host, "/").await?;
    cx.claim(HOST_HTTP_010)
        .is("status once the workload is NOT_FOUND", answer.status, 404);
    Ok(())
}

/// Two replicas: each gets some of 60 requests; when one is stopped the other gets all.
async fn shared_name(cx: &CheckContext) -> Flow {
    let host = cx.http_name("a");
    for label in ["one", "two"] {
        let workload = cx
            .workload()
            .component(Role::HelloTwo)
            .env("BODY", label)
            .http_host(&host);
        cx.started(&cx.id(label), &workload).await?;
    }
    let (mut one, mut two, mut other) = (0, 0, 0);
    for _ in 0..60 {
        match cx.http(&host, "/").await?.text().as_str() {
            "one" => one += 1,
            "two" => two += 1,
            _ => other += 1,
        }
    }
    let shared = one >= 5 && two >= 5 && other == 0;
    cx.claim(HOST_HTTP_011).holds(
        "each of two workloads gets some of 60 requests",
        shared,
        || format!("{one} to the first, {two} to the second, {other} to neither"),
    );
    cx.stop(&cx.id("one")).await?;
    cx.gone(&cx.id("one")).await.or_blocked(cx, HOST_STOP_002)?;
    for _ in 0..10 {
        let answer = cx.http(&host, "/").await?;
        let right = answer.text() == "two";
        cx.claim(HOST_HTTP_011)
            .holds("the one that is left gets them all", right, || {
                answer.to_string()
            });
    }
    Ok(())
}

async fn undeclared(cx: &CheckContext) -> Flow {
    let host = cx.http_name("a");
    let workload = cx
        .workload()
        .component(Role::Hello)
        .interface("wasi", "http", &["types"])
        .interface_config("host", &host);
    cx.start(&cx.id("a"), &workload).await?;
    let answer = cx.http(&host, "/").await?;
    let what = "status for a handler whose interface is not declared";
    cx.claim(HOST_HTTP_012).is(what, answer.status, 404);
    Ok(())
}

async fn http_port(cx: &CheckContext) -> Flow {
    let authority = cx.http_authority()?.to_owned();
    let real: Option<u64> = authority
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok());
    let heartbeat = cx.heartbeat().await?.json.unwrap_or_default();
    let told = heartbeat
        .get("httpPort")
        .and_then(serde_json::Value::as_u64);
    cx.claim(HOST_HTTP_013)
        .is("httpPort in the heartbeat", told, real);
    Ok(())
}

async fn whole_request(cx: &CheckContext) -> Flow {
    let host = cx.http_name("a");
    cx.started(
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
            .map_err(|cause| Blocked::harness("the HTTP request is not well formed", cause))?;
        let answer = cx.http_send(request, Duration::from_secs(10)).await?;
        let mut expected = format!("{method}\n/a/b%20c?x=1&y=%26\nVal ue\n").into_bytes();
        expected.extend_from_slice(&body);
        let right = answer.status == 200 && answer.body == expected;
        let what = format!(
            "method, path, query, header and body of a {method} reach the guest and come back"
        );
        cx.claim(HOST_HTTP_014)
            .holds(&what, right, || answer.to_string());
    }
    Ok(())
}

/// Handlers that compute for ever, one for each core and more, and others that want to be served.
async fn spin(cx: &CheckContext) -> Flow {
    let (spinning, serving, beacon) = (cx.http_name("spin"), cx.http_name("hello"), cx.beacon());
    let spinner = cx
        .workload()
        .component(Role::HttpSpin)
        .beacon(&beacon)
        .http_host(&spinning);
    cx.started(&cx.id("spin"), &spinner).await?;
    cx.started(&cx.id("hello"), &hello(cx, &serving)).await?;
    served(cx, &spinning, "/ok").await?;
    let spinners = futures_util::future::join_all((0..8).map(|_| cx.http(&spinning, "/spin")));
    let others = async {
        let spun = beacon.wait("spin", 4, deadlines::ANSWER.limit).await;
        spun.map_err(|silence| cx.blocked(HOST_HTTP_001, "handlers that spin", &silence))?;
        for _ in 0..5 {
            let answer = cx.http(&serving, "/").await?;
            let what = "status of another workload's requests while handlers spin";
            cx.claim(HOST_HTTP_015).is(what, answer.status, 200);
        }
        let status = cx.status(&cx.id("hello")).await?;
        cx.claim(HOST_HTTP_015).is(
            "status is answered while handlers spin",
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

async fn cut_off(cx: &CheckContext) -> Flow {
    let (host, beacon) = (cx.http_name("a"), cx.beacon());
    let spinner = cx
        .workload()
        .component(Role::HttpSpin)
        .beacon(&beacon)
        .http_host(&host);
    cx.started(&cx.id("a"), &spinner).await?;
    let request = Request::get("/spin")
        .header("Host", &host)
        .body(Bytes::new())
        .map_err(|cause| Blocked::harness("the HTTP request is not well formed", cause))?;
    let answer = cx.http_send(request, CUT_OFF_WITHIN).await?;
    let cut = answer.took < CUT_OFF_WITHIN;
    cx.claim(HOST_HTTP_016)
        .holds("a handler that never answers is cut off", cut, || {
            answer.to_string()
        });
    Ok(())
}

/// A workload whose service ended well, and one whose service failed, are reached no more.
async fn routes_end(cx: &CheckContext) -> Flow {
    for (label, role, end) in [
        ("ends-well", Role::ServiceOnce, State::Completed),
        ("fails", Role::ServiceSlowFail, State::Error),
    ] {
        let (id, host, beacon) = (cx.id(label), cx.http_name(label), cx.beacon());
        let workload = hello(cx, &host).service(role).beacon(&beacon);
        cx.start(&id, &workload).await?;
        cx.reaches(&id, end, deadlines::LOOK)
            .await
            .or_blocked(cx, HOST_SVC_001)?;
        let answer = cx.http(&host, "/").await?;
        let what = format!("status once the service of the workload {label}");
        cx.claim(HOST_SVC_019).is(&what, answer.status, 404);
    }
    Ok(())
}
