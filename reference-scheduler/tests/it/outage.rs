//! Restarts of brokers and schedulers, and hosts that hang.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::timeout;

use crate::fixture::{Fixture, consistently, deployment, eventually, within};
use crate::scheduler::process;

#[tokio::test(flavor = "multi_thread")]
async fn broker_restart_moves_nothing() {
    let fixture = Fixture::new().await;
    let _hosts = [
        fixture.host("host-1"),
        fixture.host("host-2"),
        fixture.host("host-3"),
    ];
    let scheduler = fixture.scheduler();
    fixture.write_manifest(
        "hello.yaml",
        &deployment("hello", 9, "registry.example/hello:1"),
    );
    fixture.wait_for_running(9).await;
    let (starts, stops) = (fixture.record.starts().len(), fixture.record.stops().len());
    fixture.broker.stop().await;
    fixture.broker.restart().await.unwrap();
    let is_unchanged =
        || fixture.record.starts().len() == starts && fixture.record.stops().len() == stops;
    consistently(Duration::from_secs(8), is_unchanged, || {
        "nothing is started or stopped".to_owned()
    })
    .await;

    // The scheduler is connected again.
    fixture.write_manifest(
        "more.yaml",
        &deployment("more", 3, "registry.example/hello:1"),
    );
    fixture.wait_for_running(12).await;
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scheduler_restart_moves_nothing() {
    let fixture = Fixture::new().await;
    let _hosts = [fixture.host("host-1"), fixture.host("host-2")];
    let scheduler = fixture.scheduler();
    fixture.write_manifest(
        "hello.yaml",
        &deployment("hello", 4, "registry.example/hello:1"),
    );
    fixture.wait_for_running(4).await;
    scheduler.stop().await;
    let before = (fixture.record.starts().len(), fixture.record.ids());
    let scheduler = fixture.scheduler();
    fixture.write_manifest(
        "more.yaml",
        &deployment("more", 1, "registry.example/hello:1"),
    );
    fixture.wait_for_running(5).await;
    assert_eq!(fixture.record.starts().len(), before.0 + 1);
    assert!(fixture.record.ids().is_superset(&before.1));
    scheduler.stop().await;
}

/// Kills the process at 20 points of rollouts: after a random number of commands and a random
/// delay.
#[tokio::test(flavor = "multi_thread")]
async fn scheduler_killed_during_rollout_reaches_desired_state_after_restart() {
    const REPLICAS: usize = 4;
    let fixture = Fixture::new().await;
    let url = fixture.broker.url();
    let _hosts = [fixture.host("host-1"), fixture.host("host-2")];
    let manifests = fixture.manifests().to_owned();
    let mut scheduler = process(&url, &manifests, &[]);
    fixture.write_manifest(
        "hello.yaml",
        &deployment("hello", REPLICAS, "registry.example/hello:0"),
    );
    fixture.wait_for_running(REPLICAS).await;
    let mut rng = StdRng::seed_from_u64(20);
    for round in 1..=20 {
        let old = fixture.record.ids();
        fixture.write_manifest(
            "hello.yaml",
            &deployment(
                "hello",
                REPLICAS,
                &format!("registry.example/hello:{round}"),
            ),
        );
        // A rollout has as many starts and stops as replicas.
        let commands = || fixture.record.starts().len() + fixture.record.stops().len();
        let until = commands() + rng.random_range(0..2 * REPLICAS);
        eventually(
            || commands() >= until,
            || format!("round {round}: the rollout continues"),
        )
        .await;
        let delay = Duration::from_micros(rng.random_range(0..50_000));
        let _ = timeout(delay, scheduler.wait()).await;
        within(scheduler.kill()).await.unwrap();
        scheduler = process(&url, &manifests, &[]);
        let done = || {
            let now = fixture.record.ids();
            now.len() == REPLICAS && now.is_disjoint(&old)
        };
        eventually(done, || {
            format!("round {round}: {:?}", fixture.record.running())
        })
        .await;
    }
    let started: Vec<String> = fixture
        .record
        .starts()
        .into_iter()
        .map(|(_, id)| id)
        .collect();
    let ids: BTreeSet<&String> = started.iter().collect();
    assert_eq!(
        ids.len(),
        started.len(),
        "an id was started twice: {started:?}"
    );
    within(scheduler.kill()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn standby_takes_over_from_killed_leader() {
    let fixture = Fixture::new().await;
    let url = fixture.broker.url();
    let _host = fixture.host("host-1");
    let mut first = process(&url, fixture.manifests(), &[]);
    fixture.write_manifest(
        "hello.yaml",
        &deployment("hello", 2, "registry.example/hello:1"),
    );
    fixture.wait_for_running(2).await;
    let second = fixture.scheduler();
    within(first.kill()).await.unwrap();
    fixture.write_manifest(
        "hello.yaml",
        &deployment("hello", 3, "registry.example/hello:1"),
    );
    fixture.wait_for_running(3).await;
    assert_eq!(fixture.record.starts().len(), 3);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_host_does_not_delay_others() {
    let fixture = Fixture::new().await;
    let url = fixture.broker.url();
    let _hanging = crate::fleet::FakeHost::start_hanging(&url, "host-0", &fixture.record);
    let _hosts = [
        fixture.host("host-1"),
        fixture.host("host-2"),
        fixture.host("host-3"),
    ];
    let scheduler = fixture.scheduler();
    let all_joined = || {
        ["host-0", "host-1", "host-2", "host-3"]
            .iter()
            .all(|host| !fixture.status("hosts", host).is_empty())
    };
    eventually(all_joined, || "all hosts have joined".to_owned()).await;
    for number in 0..20 {
        let name = format!("hello-{number}");
        fixture.write_manifest(
            &format!("{name}.yaml"),
            &deployment(&name, 1, "registry.example/hello:1"),
        );
    }
    // The replicas are spread evenly: a quarter hangs, and the other replicas are not delayed.
    let others = || fixture.record.ids().len() >= 15;
    eventually(others, || format!("{:?}", fixture.record.running())).await;
    scheduler.stop().await;
}
