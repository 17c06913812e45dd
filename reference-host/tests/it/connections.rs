//! Bounds on connections: clients that send nothing, or too little, keep out nobody.

use std::net::SocketAddr;

use berth_conformance::spec::roles::Role;
use berth_conformance::testbed::registry::Artifact;
use berth_sdk::proto::{LocalResources, Service, Workload, WorkloadState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{Fixture, resources_with_beacon, within};
use crate::http::{self, SlowServer};
use crate::process::HostProcess;

/// Opens `count` connections, sends `bytes` on each, and keeps them open.
async fn flood(address: SocketAddr, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for _ in 0..count {
        let mut stream = within(TcpStream::connect(address)).await.unwrap();
        // A connection that has already given way to another cannot be written to.
        let _ = stream.write_all(bytes).await;
        connections.push(stream);
    }
    connections
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_without_a_request_give_way_to_new_ones() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let fixture = Fixture::with_connections_max(8).await;
    let hello = fixture.http_workload(Role::Hello, "hello.test", LocalResources::default());
    let _hello = fixture.start(hello).await.unwrap();
    for bytes in [
        &b""[..],
        b"GET / HTTP/1.1\r\nHost: hello.test\r\n",
        b"PRI * HT",
        PREFACE,
        b"GET / HTTP/1.1\r\nHost: hello.test\r\n\r\n",
    ] {
        let _connections = flood(fixture.address, 20, bytes).await;
        assert_eq!(
            fixture.get("hello.test", "/").await.status,
            200,
            "{bytes:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_do_not_give_way() {
    let fixture = Fixture::with_connections_max(4).await;
    let server = SlowServer::start().await;
    let resources = LocalResources {
        allowed_hosts: vec![server.authority()],
        ..resources_with_beacon(&server.authority())
    };
    let slow = fixture.http_workload(Role::HttpFetch, "slow.test", resources);
    let _slow = fixture.start(slow).await.unwrap();
    let in_flight = tokio::spawn(http::get(fixture.address, "slow.test", "/"));
    let pending = within(server.receive()).await;
    let _silent = flood(fixture.address, 20, b"").await;
    assert_eq!(fixture.get("other.test", "/").await.status, 404);
    within(pending.respond()).await;
    assert_eq!(within(in_flight).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn keep_alive_connection_serves_several_requests() {
    let fixture = Fixture::new().await;
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n";
    for _ in 0..3 {
        stream.write_all(request).await.unwrap();
        let mut response = Vec::new();
        while !response.ends_with(b"Not Found") {
            within(stream.read_buf(&mut response)).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flood_leaves_descriptors_to_commands_and_pulls() {
    let fixture = Fixture::new().await;
    let process = HostProcess::start_with_descriptors(&fixture, 128).await;
    let ingress = process.ingress().await;
    let _silent = flood(ingress, 300, b"").await;
    let hello = fixture.http_workload(Role::Hello, "hello.test", LocalResources::default());
    let started = within(process.client.start("one", &hello)).await.unwrap();
    assert_eq!(started.state, WorkloadState::Running);
    let response = within(http::get(ingress, "hello.test", "/")).await;
    assert_eq!(response.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn guest_that_hoards_sockets_leaves_descriptors_to_commands_and_pulls() {
    let fixture = Fixture::new().await;
    let process = HostProcess::start_with_descriptors(&fixture, 128).await;
    let component = wat::parse_str(include_str!("hoarder.wat")).unwrap();
    let pushed = fixture
        .registry
        .push("hoarder", "1", Artifact::wasm(component));
    let hoarder = Workload {
        service: Some(Service {
            image: pushed.reference,
            local_resources: Some(LocalResources {
                allowed_hosts: vec!["example.com".into()],
                ..LocalResources::default()
            }),
            ..Service::default()
        }),
        ..Workload::default()
    };
    let started = within(process.client.start("hoarder", &hoarder))
        .await
        .unwrap();
    assert_eq!(started.state, WorkloadState::Running);
    let pid = process.child.id().unwrap();
    let open = || {
        std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .count()
    };
    within(async {
        while open() < 90 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let hello = fixture.http_workload(Role::Hello, "hello.test", LocalResources::default());
    let started = within(process.client.start("one", &hello)).await.unwrap();
    assert_eq!(started.state, WorkloadState::Running);
    let response = within(http::get(process.ingress().await, "hello.test", "/")).await;
    assert_eq!(response.status, 200);
    assert!(open() < 128, "{} descriptors", open());
}
