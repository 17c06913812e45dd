//! Routing of HTTP requests to workloads by host name.

use berth_conformance::spec::roles::Role;
use berth_conformance::testbed::beacon::BeaconServer;
use berth_sdk::host::Host;
use berth_sdk::proto::LocalResources;

use crate::fixture::{
    Fixture, STEP_TIMEOUT, http_interface, http_interface_with_aliases, resources_with_beacon,
    within, workload,
};
use crate::http;

fn no_resources() -> LocalResources {
    LocalResources::default()
}

#[tokio::test(flavor = "multi_thread")]
async fn component_serves_requests_until_stopped() {
    let fixture = Fixture::new().await;
    let hello = fixture
        .start(fixture.http_workload(Role::Hello, "hello.test", no_resources()))
        .await
        .unwrap();
    let response = fixture.get("hello.test", "/").await;
    assert_eq!((response.status, response.body.as_str()), (200, "hello"));
    assert_eq!(fixture.host.describe().component_count, 1);
    within(fixture.host.stop(hello)).await;
    assert_eq!(fixture.get("hello.test", "/").await.status, 404);
    assert_eq!(fixture.host.describe().component_count, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn host_match_ignores_case_and_port() {
    let fixture = Fixture::new().await;
    let component = fixture.component(Role::Hello, no_resources());
    let spec = workload(
        vec![component],
        vec![http_interface_with_aliases(
            "Hello.test",
            "www.hello.test, x_y",
        )],
    );
    let _hello = fixture.start(spec).await.unwrap();
    for host in [
        "hello.test",
        "HELLO.Test",
        "hello.test:8080",
        "www.hello.test",
    ] {
        assert_eq!(fixture.get(host, "/").await.status, 200, "{host}");
    }
    for host in ["other.test", "x_y", "a.hello.test"] {
        assert_eq!(fixture.get(host, "/").await.status, 404, "{host}");
    }
    let response = http::send(fixture.address, "GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(response.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn workloads_with_same_host_name_share_its_requests() {
    let fixture = Fixture::new().await;
    let mut replicas = Vec::new();
    // The role responds with the value of `BEACON`.
    for name in ["one", "two"] {
        let spec =
            fixture.http_workload(Role::HelloTwo, "shared.test", resources_with_beacon(name));
        replicas.push(fixture.start(spec).await.unwrap());
    }
    let mut bodies = Vec::new();
    for _ in 0..4 {
        bodies.push(fixture.get("shared.test", "/").await.body);
    }
    assert_eq!(bodies, ["one", "two", "one", "two"]);
    within(fixture.host.stop(replicas.remove(0))).await;
    assert_eq!(fixture.get("shared.test", "/").await.body, "two");
    assert_eq!(fixture.get("shared.test", "/").await.body, "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_is_500_and_next_request_is_served() {
    let fixture = Fixture::new().await;
    let _trap = fixture
        .start(fixture.http_workload(Role::HttpTrap, "trap.test", no_resources()))
        .await
        .unwrap();
    assert_eq!(fixture.get("trap.test", "/").await.status, 500);
    assert_eq!(fixture.get("trap.test", "/ok").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_request_and_response_completely() {
    let fixture = Fixture::new().await;
    let _echo = fixture
        .start(fixture.http_workload(Role::HttpEcho, "echo.test", no_resources()))
        .await
        .unwrap();
    let request = "PUT /a/b?c=d HTTP/1.1\r\nHost: echo.test\r\nX-Berth: me\r\n\
                   Content-Length: 4\r\nConnection: close\r\n\r\nbody";
    let response = within(http::send(fixture.address, request)).await;
    assert_eq!(
        (response.status, response.body.as_str()),
        (200, "PUT\n/a/b?c=d\nme\nbody")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn undeclared_handler_is_unreachable() {
    let fixture = Fixture::new().await;
    let spec = workload(vec![fixture.component(Role::Hello, no_resources())], vec![]);
    let _hidden = fixture.start(spec).await.unwrap();
    assert_eq!(fixture.get("test", "/").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_invalid_host_names() {
    let fixture = Fixture::new().await;
    for host in ["a_b", "a:80", "*", ""] {
        let message = fixture
            .start_error(fixture.http_workload(Role::Hello, host, no_resources()))
            .await;
        assert!(message.contains("invalid host name"), "{message}");
    }
    let mut nameless = http_interface("x");
    nameless.config.clear();
    let component = fixture.component(Role::Hello, no_resources());
    let message = fixture
        .start_error(workload(vec![component], vec![nameless]))
        .await;
    assert!(message.contains("has no `host`"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_component_without_handler_despite_declared_handler() {
    let fixture = Fixture::new().await;
    let without_handler = fixture.component(Role::Idle, no_resources());
    let spec = workload(vec![without_handler], vec![http_interface("idle.test")]);
    assert!(fixture.start(spec).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn spinning_handlers_do_not_block_others_and_end_with_their_workload() {
    let fixture = Fixture::new().await;
    let beacons = BeaconServer::start().await.unwrap();
    let beacon = beacons.new_beacon();
    let resources = LocalResources {
        allowed_hosts: vec![beacon.authority.clone()],
        ..resources_with_beacon(&beacon.value)
    };
    let spec = fixture.http_workload(Role::HttpSpin, "spin.test", resources);
    let spin = fixture.start(spec).await.unwrap();
    let spinning: Vec<_> = (0..4)
        .map(|_| tokio::spawn(http::get(fixture.address, "spin.test", "/")))
        .collect();
    for _ in 0..3 {
        assert_eq!(fixture.get("spin.test", "/ok").await.status, 200);
    }
    // Each guest calls the beacon before it spins.
    let hits = beacon.wait("spin", spinning.len(), STEP_TIMEOUT).await;
    hits.expect("every handler spins");
    within(fixture.host.stop(spin)).await;
    for request in spinning {
        assert_eq!(within(request).await.unwrap().status, 503);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_declaration_of_the_handler_is_a_route() {
    let fixture = Fixture::new().await;
    let mut nameless = http_interface("x");
    nameless.config.clear();
    let mut newer = http_interface_with_aliases("late.test", "a.test");
    newer.interfaces = vec!["handler".into()];
    newer.version = "0.3.0".into();
    let third = http_interface_with_aliases("third.test", " b.test ,, A.TEST");
    let component = fixture.component(Role::Hello, no_resources());
    let spec = workload(vec![component], vec![nameless, newer, third]);
    let hello = fixture.start(spec).await.unwrap();
    let hosts = ["late.test", "a.test", "third.test", "b.test"];
    for host in hosts {
        assert_eq!(fixture.get(host, "/").await.status, 200, "{host}");
    }
    within(fixture.host.stop(hello)).await;
    for host in hosts {
        assert_eq!(fixture.get(host, "/").await.status, 404, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn authority_follows_the_rfcs() {
    let fixture = Fixture::new().await;
    let _one = fixture
        .start(fixture.http_workload(Role::HttpEcho, "one.test", no_resources()))
        .await
        .unwrap();
    let _two = fixture
        .start(fixture.http_workload(Role::Hello, "two.test", no_resources()))
        .await
        .unwrap();
    for (request, status, path) in [
        ("GET / HTTP/1.1\r\nHost: one.test@two.test", 400, ""),
        ("GET / HTTP/1.1\r\nHost: one.test, two.test", 400, ""),
        ("GET / HTTP/1.1\r\nHost: one.test:99999", 400, ""),
        ("GET / HTTP/1.1\r\nHost: one.test\0.two.test", 400, ""),
        (
            "GET / HTTP/1.1\r\nHost: one.test\r\nHost: two.test",
            400,
            "",
        ),
        (
            "GET http://one.test@two.test/ HTTP/1.1\r\nHost: one.test",
            400,
            "",
        ),
        (
            "GET http://one.test:8000/x?y HTTP/1.1\r\nHost: two.test",
            200,
            "/x?y",
        ),
        ("GET http://ONE.test/ HTTP/1.1\r\nHost: one.test:", 200, "/"),
        ("GET http:///x HTTP/1.1\r\nHost: one.test", 400, ""),
        (
            "GET http://one.test?q=http://two.test/ HTTP/1.1\r\nHost: two.test",
            200,
            "/?q=",
        ),
        ("GET / HTTP/1.1\r\nHost: one%2Etest", 404, ""),
        (
            "CONNECT one.test:443 HTTP/1.1\r\nHost: one.test:443",
            501,
            "",
        ),
        ("OPTIONS * HTTP/1.1\r\nHost: one.test", 200, ""),
    ] {
        let request = format!("{request}\r\nConnection: close\r\n\r\n");
        let response = within(http::send(fixture.address, &request)).await;
        assert_eq!(response.status, status, "{request}");
        let line = response.body.lines().nth(1).unwrap_or_default();
        assert!(line.starts_with(path), "{request} {response:?}");
    }
}
