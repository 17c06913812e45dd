//! Brokers and schedulers that go and come back.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::timeout;

use crate::scheduler::process;
use crate::stage::{Stage, consistently, deployment, eventually, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_restarts_moves_nothing() {
    let stage = Stage::set().await;
    let _hosts = [
        stage.host("host-1"),
        stage.host("host-2"),
        stage.host("host-3"),
    ];
    let scheduler = stage.scheduler();
    stage.put(
        "hello.yaml",
        &deployment("hello", 9, "registry.example/hello:1"),
    );
    stage.runs(9).await;
    let (starts, stops) = (stage.record.starts().len(), stage.record.stops().len());
    stage.broker.stop().await;
    stage.broker.restart().await.unwrap();
    let unmoved = || stage.record.starts().len() == starts && stage.record.stops().len() == stops;
    consistently(Duration::from_secs(8), unmoved, || {
        "nothing is started or stopped".to_owned()
    })
    .await;

    // It works again.
    stage.put(
        "more.yaml",
        &deployment("more", 3, "registry.example/hello:1"),
    );
    stage.runs(12).await;
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_that_ends_and_comes_back_moves_nothing() {
    let stage = Stage::set().await;
    let _hosts = [stage.host("host-1"), stage.host("host-2")];
    let scheduler = stage.scheduler();
    stage.put(
        "hello.yaml",
        &deployment("hello", 4, "registry.example/hello:1"),
    );
    stage.runs(4).await;
    scheduler.stop().await;
    let before = (stage.record.starts().len(), stage.record.ids());
    let scheduler = stage.scheduler();
    stage.put(
        "more.yaml",
        &deployment("more", 1, "registry.example/hello:1"),
    );
    stage.runs(5).await;
    assert_eq!(stage.record.starts().len(), before.0 + 1);
    assert!(stage.record.ids().is_superset(&before.1));
    scheduler.stop().await;
}

/// The process is killed at 20 points of rollouts: after so many commands, and then some part of the time that
/// the next one takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_that_is_killed_during_a_rollout_leaves_what_is_wanted() {
    const REPLICAS: usize = 4;
    let stage = Stage::set().await;
    let url = stage.broker.url();
    let _hosts = [stage.host("host-1"), stage.host("host-2")];
    let manifests = stage.manifests().to_owned();
    let mut scheduler = process(&url, &manifests, &[]);
    stage.put(
        "hello.yaml",
        &deployment("hello", REPLICAS, "registry.example/hello:0"),
    );
    stage.runs(REPLICAS).await;
    let mut chance = StdRng::seed_from_u64(20);
    for round in 1..=20 {
        let old = stage.record.ids();
        stage.put(
            "hello.yaml",
            &deployment(
                "hello",
                REPLICAS,
                &format!("registry.example/hello:{round}"),
            ),
        );
        // A rollout is as many starts and as many stops.
        let commands = || stage.record.starts().len() + stage.record.stops().len();
        let until = commands() + chance.random_range(0..2 * REPLICAS);
        eventually(
            || commands() >= until,
            || format!("round {round}: the rollout goes on"),
        )
        .await;
        let later = Duration::from_micros(chance.random_range(0..50_000));
        let _ = timeout(later, scheduler.wait()).await;
        within(scheduler.kill()).await.unwrap();
        scheduler = process(&url, &manifests, &[]);
        let done = || {
            let now = stage.record.ids();
            now.len() == REPLICAS && now.is_disjoint(&old)
        };
        eventually(done, || {
            format!("round {round}: {:?}", stage.record.running())
        })
        .await;
    }
    let started: Vec<String> = stage
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
async fn a_second_scheduler_takes_over() {
    let stage = Stage::set().await;
    let url = stage.broker.url();
    let _host = stage.host("host-1");
    let mut first = process(&url, stage.manifests(), &[]);
    stage.put(
        "hello.yaml",
        &deployment("hello", 2, "registry.example/hello:1"),
    );
    stage.runs(2).await;
    let second = stage.scheduler();
    within(first.kill()).await.unwrap();
    stage.put(
        "hello.yaml",
        &deployment("hello", 3, "registry.example/hello:1"),
    );
    stage.runs(3).await;
    assert_eq!(stage.record.starts().len(), 3);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_starts_hang_delays_no_other() {
    let stage = Stage::set().await;
    let url = stage.broker.url();
    let _stuck = crate::fleet::FakeHost::start_stuck(&url, "host-0", &stage.record);
    let _hosts = [
        stage.host("host-1"),
        stage.host("host-2"),
        stage.host("host-3"),
    ];
    let scheduler = stage.scheduler();
    let all_seen = || {
        ["host-0", "host-1", "host-2", "host-3"]
            .iter()
            .all(|host| !stage.status("hosts", host).is_empty())
    };
    eventually(all_seen, || "all hosts are there".to_owned()).await;
    for number in 0..20 {
        let name = format!("hello-{number}");
        stage.put(
            &format!("{name}.yaml"),
            &deployment(&name, 1, "registry.example/hello:1"),
        );
    }
    // The fleet is even: a quarter hangs, the others do not wait for it.
    let others = || stage.record.ids().len() >= 15;
    eventually(others, || format!("{:?}", stage.record.running())).await;
    scheduler.stop().await;
}
