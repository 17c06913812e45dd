//! Hosts without NATS, and a scheduler without it.

use std::time::Duration;

use tokio::time::Instant;

use crate::fleet::{FakeHost, Record};
use crate::scheduler::Scheduler;
use crate::stage::{Stage, deployment};

/// An address that was free just now, and the URL of who is going to be there.
fn free() -> (String, String) {
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
async fn without_nats_workloads_start_move_and_stop() {
    let stage = Stage::set().await;
    let (address, url) = free();
    let flags = ["--no-nats", "--grpc-addr", &address];
    let scheduler = Scheduler::start("nats://127.0.0.1:1", stage.manifests(), &flags);
    let (first, second) = hosts(&url, &stage.record).await;
    stage.put(
        "hello.yaml",
        &deployment("hello", 4, "registry.example/hello:1"),
    );
    stage.runs(4).await;
    let (dying, other) = match stage.record.count("host-1") {
        0 => (second, first),
        _ => (first, second),
    };
    let died = Instant::now();
    dying.kill().await;
    stage.runs(4).await;
    assert_eq!(stage.record.count(&other.id), 4);
    assert!(died.elapsed() < Duration::from_secs(10), "{died:?}");
    stage.remove("hello.yaml");
    stage.runs(0).await;
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_on_the_bus_and_hosts_without_it_are_one_fleet() {
    let stage = Stage::set().await;
    let (address, url) = free();
    let flags = ["--grpc-addr", &address];
    let scheduler = Scheduler::start(&stage.broker.url(), stage.manifests(), &flags);
    let on_the_bus = stage.host("host-0");
    let (first, second) = hosts(&url, &stage.record).await;
    // Spread over the three, as far as they were there in time; then over those that are left.
    stage.put(
        "hello.yaml",
        &deployment("hello", 6, "registry.example/hello:1"),
    );
    stage.runs(6).await;
    on_the_bus.kill().await;
    stage.runs(6).await;
    let kept = stage.record.count(&first.id) + stage.record.count(&second.id);
    assert_eq!(kept, 6);
    scheduler.stop().await;
}
