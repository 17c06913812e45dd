//! Stops and shutdowns that finish the requests in flight.

use std::time::{Duration, Instant};

use berth_conformance::spec::roles::Role;
use berth_sdk::host::{Host, ReportedState};
use berth_sdk::proto::LocalResources;
use berth_sdk::scheduler::ClientError;
use nix::sys::signal::Signal;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::fixture::{
    Fixture, UNREACHABLE_BEACON, http_interface, resources_with_beacon, wait_for_report, within,
    workload,
};
use crate::http::{self, HttpResponse, SlowServer};
use crate::process::HostProcess;

/// Returns resources of a guest that fetches from `server`.
fn resources_for(server: &SlowServer) -> LocalResources {
    LocalResources {
        allowed_hosts: vec![server.authority()],
        ..resources_with_beacon(&server.authority())
    }
}

fn assert_unavailable(response: &HttpResponse) {
    assert_eq!(response.status, 503, "{}", response.head);
    assert_eq!(response.header("retry-after"), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_finishes_requests_in_flight_and_refuses_new_ones() {
    let (fixture, server) = (Fixture::new().await, SlowServer::start().await);
    let spec = fixture.http_workload(Role::HttpFetch, "slow.test", resources_for(&server));
    let slow = fixture.start(spec).await.unwrap();
    let in_flight = tokio::spawn(http::get(fixture.address, "slow.test", "/"));
    let pending = within(server.receive()).await;
    let stop = fixture.host.stop(slow);
    tokio::pin!(stop);
    assert!(futures_util::poll!(stop.as_mut()).is_pending());
    assert_unavailable(&fixture.get("slow.test", "/").await);
    within(async { tokio::join!(stop, pending.respond()) }).await;
    let response = within(in_flight).await.unwrap();
    assert_eq!((response.status, response.body.as_str()), (200, "200"));
    assert_eq!(fixture.get("slow.test", "/").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_ends_requests_that_take_too_long() {
    let (fixture, server) = (Fixture::new().await, SlowServer::start().await);
    let spec = fixture.http_workload(Role::HttpFetch, "slow.test", resources_for(&server));
    let slow = fixture.start(spec).await.unwrap();
    let in_flight = tokio::spawn(http::get(fixture.address, "slow.test", "/"));
    let _pending = within(server.receive()).await;
    let begun = Instant::now();
    within(fixture.host.stop(slow)).await;
    assert!(begun.elapsed() >= Duration::from_millis(1500));
    assert_unavailable(&within(in_flight).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_between_two_runs_of_the_service_are_told_to_retry() {
    let fixture = Fixture::new().await;
    let hello = fixture.component(Role::Hello, LocalResources::default());
    let mut spec = workload(vec![hello], vec![http_interface("hello.test")]);
    let resources = resources_with_beacon(UNREACHABLE_BEACON);
    spec.service = Some(fixture.service(Role::ServiceErr, 4, resources));
    let (_hello, mut reports) = fixture.start_with_reports(spec).await.unwrap();
    let failed = wait_for_report(&mut reports, ReportedState::Failed);
    tokio::pin!(failed);
    let mut refused = 0;
    loop {
        tokio::select! {
            biased;
            _ = &mut failed => break,
            response = fixture.get("hello.test", "/") => match response.status {
                200 => {}
                503 => {
                    assert_unavailable(&response);
                    refused += 1;
                }
                // The service has given up in the meantime.
                404 => break,
                status => panic!("{status}"),
            },
        }
    }
    assert!(refused > 0);
    assert_eq!(fixture.get("hello.test", "/").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_between_two_runs_takes_no_drain_time() {
    let fixture = Fixture::new().await;
    let mut spec = workload(vec![], vec![]);
    let resources = resources_with_beacon(UNREACHABLE_BEACON);
    spec.service = Some(fixture.service(Role::ServiceErr, 1000, resources));
    let (service, mut reports) = fixture.start_with_reports(spec).await.unwrap();
    wait_for_report(&mut reports, ReportedState::Starting).await;
    within(fixture.host.stop(service)).await;
    while let Some(report) = within(reports.next()).await {
        assert_ne!(report.state, ReportedState::Failed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_answers_requests_in_flight_and_then_ends_at_once() {
    let (fixture, server) = (Fixture::new().await, SlowServer::start().await);
    let grace = ["--shutdown-grace", "60s"];
    let mut process = HostProcess::start_with(&fixture, &grace).await;
    let client = &process.client;
    let slow = fixture.http_workload(Role::HttpFetch, "slow.test", resources_for(&server));
    within(client.start("slow", &slow)).await.unwrap();
    let echo = fixture.http_workload(Role::HttpEcho, "echo.test", LocalResources::default());
    within(client.start("echo", &echo)).await.unwrap();
    let ingress = process.ingress().await;

    let mut in_flight = TcpStream::connect(ingress).await.unwrap();
    let request = "GET / HTTP/1.1\r\nHost: slow.test\r\n\r\n";
    in_flight.write_all(request.as_bytes()).await.unwrap();
    let pending = within(server.receive()).await;
    let mut upload = TcpStream::connect(ingress).await.unwrap();
    let head = "PUT / HTTP/1.1\r\nHost: echo.test\r\nContent-Length: 4\r\n\r\nbo";
    upload.write_all(head.as_bytes()).await.unwrap();

    process.signal(Signal::SIGTERM);
    within(async {
        let status = async || process.client.status("slow").await;
        while !matches!(status().await, Err(ClientError::NoResponders)) {}
    })
    .await;
    // A request on a new connection is served too, because the workload still runs.
    let late = http::send(ingress, "GET / HTTP/1.1\r\nHost: echo.test\r\n\r\n");
    let late = within(late).await;
    assert_eq!(
        (late.status, late.header("connection")),
        (200, Some("close"))
    );
    upload.write_all(b"dy").await.unwrap();
    let response = within(http::read_to_end(&mut upload)).await;
    assert!(response.body.ends_with("body"), "{response:?}");
    within(pending.respond()).await;
    let response = within(http::read_to_end(&mut in_flight)).await;
    assert_eq!((response.status, response.body.as_str()), (200, "200"));
    assert_eq!(response.header("connection"), Some("close"));
    let status = within(process.child.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_with_the_grace_period_or_the_second_signal() {
    let (fixture, server) = (Fixture::new().await, SlowServer::start().await);
    for (grace, second_signal, code) in [("2s", None, 0), ("300s", Some(Signal::SIGINT), 1)] {
        let mut process = HostProcess::start_with(&fixture, &["--shutdown-grace", grace]).await;
        let slow = fixture.http_workload(Role::HttpFetch, "slow.test", resources_for(&server));
        within(process.client.start("slow", &slow)).await.unwrap();
        let ingress = process.ingress().await;
        let mut in_flight = TcpStream::connect(ingress).await.unwrap();
        let request = "GET / HTTP/1.1\r\nHost: slow.test\r\n\r\n";
        in_flight.write_all(request.as_bytes()).await.unwrap();
        let _pending = within(server.receive()).await;
        process.signal(Signal::SIGTERM);
        if let Some(signal) = second_signal {
            within(async {
                let status = async || process.client.status("slow").await;
                while !matches!(status().await, Err(ClientError::NoResponders)) {}
            })
            .await;
            process.signal(signal);
        } else {
            assert_unavailable(&within(http::read_to_end(&mut in_flight)).await);
        }
        let status = within(process.child.wait()).await.unwrap();
        assert_eq!(status.code(), Some(code), "{grace}");
    }
}
