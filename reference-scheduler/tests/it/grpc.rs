//! Hosts and schedulers without NATS.

use std::time::Duration;

use tokio::time::Instant;

use crate::fixture::{Fixture, deployment};
use crate::fleet::{FakeHost, Record};
use crate::scheduler::Scheduler;

/// Returns an unused address, and the URL of a server there.
fn unused_address() -> (String, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let url = format!("http://{address}");
    (address, url)
}

async fn hosts(scheduler: &str, record: &Record) -> (FakeHost, FakeHost) {
    let first = FakeHost::start_over_grpc(scheduler, "host-1", record).await;
    (
        first,
        FakeHost::start_over_grpc(scheduler, "host-2", record).await,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn workloads_start_move_and_stop_without_nats() {
    let fixture = Fixture::new().await;
    let (address, url) = unused_address();
    let flags = ["--no-nats", "--grpc-addr", &address];
    let scheduler = Scheduler::start("nats://127.0.0.1:1", fixture.manifests(), &flags);
    let (first, second) = hosts(&url, &fixture.record).await;
    fixture.write_manifest(
        "hello.yaml",
        &deployment("hello", 4, "registry.example/hello:1"),
    );
    fixture.wait_for_running(4).await;
    let (killed, other) = match fixture.record.count("host-1") {
        0 => (second, first),
        _ => (first, second),
    };
    let killed_at = Instant::now();
    killed.kill().await;
    fixture.wait_for_running(4).await;
    assert_eq!(fixture.record.count(&other.id), 4);
    assert!(
        killed_at.elapsed() < Duration::from_secs(10),
        "{killed_at:?}"
    );
    fixture.remove_manifest("hello.yaml");
    fixture.wait_for_running(0).await;
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_with_and_without_nats_form_one_fleet() {
    let fixture = Fixture::new().await;
    let (address, url) = unused_address();
    let flags = ["--grpc-addr", &address];
    let scheduler = Scheduler::start(&fixture.broker.url(), fixture.manifests(), &flags);
    let nats_host = fixture.host("host-0");
    let (first, second) = hosts(&url, &fixture.record).await;
    // The replicas are spread over the hosts that have joined in time. Replicas of the killed host
    // move to the remaining hosts.
    fixture.write_manifest(
        "hello.yaml",
        &deployment("hello", 6, "registry.example/hello:1"),
    );
    fixture.wait_for_running(6).await;
    nats_host.kill().await;
    fixture.wait_for_running(6).await;
    let count = fixture.record.count(&first.id) + fixture.record.count(&second.id);
    assert_eq!(count, 6);
    scheduler.stop().await;
}
