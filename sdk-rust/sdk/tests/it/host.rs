//! A host served by the SDK, seen from the wire.

use std::time::{Duration, Instant};

use berth_sdk::host::ServeOptions;

use crate::support::brokers::{TestBroker, on_both_brokers};
use crate::support::toy::Served;
use crate::support::wire::Wire;
use crate::support::{eventually, soon};

/// A client that has seen the host's first heartbeat.
async fn meet(broker: &TestBroker) -> (Wire, Served) {
    let mut wire = Wire::connect(&broker.url()).await;
    wire.subscribe("runtime.operator.heartbeat.>").await;
    let host = Served::begin(&broker.url());
    let beat = wire.receive().await;
    assert_eq!(
        beat.subject,
        format!("runtime.operator.heartbeat.{}", host.id)
    );
    assert_eq!(beat.json()["id"], host.id);
    (wire, host)
}

fn start(id: &str, name: &str) -> String {
    serde_json::json!({"workloadId": id, "workload": {"name": name}}).to_string()
}

fn id(id: &str) -> String {
    serde_json::json!({ "workloadId": id }).to_string()
}

on_both_brokers! {
    async fn a_workload_lives_and_ends(broker: TestBroker) {
        let (mut wire, host) = meet(&broker).await;
        // HOST-WIRE-014: whoever reacts to the first heartbeat is heard.
        let unknown = wire.command(&host.id, "workload.status", &id("a")).await;
        assert_eq!(unknown.state(), ("NOT_FOUND".into(), None));
        let started = wire.command(&host.id, "workload.start", &start("a", "run")).await;
        assert_eq!((started.state(), started.id()), (("RUNNING".into(), None), "a".into()));
        let beat = wire.command(&host.id, "heartbeat", "not even JSON").await.json();
        assert_eq!((&beat["id"], &beat["workloadCount"]), (&host.id.as_str().into(), &"1".into()));
        assert_eq!(host.holds(), ["a"]);
        let again = wire.command(&host.id, "workload.start", &start("a", "run")).await;
        assert_eq!(again.state(), ("ERROR".into(), Some(409)));
        let stopped = wire.command(&host.id, "workload.stop", &id("a")).await;
        assert_eq!(stopped.state(), ("STOPPING".into(), None));
        eventually("the id is free", async || {
            let status = wire.command(&host.id, "workload.status", &id("a")).await;
            (status.state().0 == "NOT_FOUND").then_some(())
        })
        .await;
        assert!(host.holds().is_empty());
        let beat = wire.command(&host.id, "heartbeat", "").await.json();
        assert_eq!(beat.get("workloadCount"), None);
        host.shut_down();
        host.ended().await.unwrap();
    }

    async fn whatever_arrives_is_answered_once_and_survived(broker: TestBroker) {
        let (mut wire, host) = meet(&broker).await;
        let long = "x".repeat(600_000);
        let cases: Vec<(&str, Vec<u8>, &str, u16)> = vec![
            ("workload.start", b"".to_vec(), "the payload is empty", 400),
            ("workload.start", b"{\"workloadId\":\"b\"".to_vec(), "EOF", 400),
            ("workload.start", b"[]".to_vec(), "an array", 400),
            ("workload.start", id("b").into(), "field `workload` is missing", 400),
            ("workload.start", start("", "run").into(), "field `workloadId`", 400),
            ("workload.start", br#"{"workloadId":"b","workload":{"name":7}}"#.to_vec(), "field `workload.name`: expected a string", 400),
            ("workload.start", br#"{"workloadId":"b","workload":{"service":{"maxRestarts":"18446744073709551615"}}}"#.to_vec(), "field `workload.service.maxRestarts`", 400),
            ("workload.stop", b"{}".to_vec(), "field `workloadId`", 400),
            ("workload.status", b"{\"workloadId\":\"\xff\"}".to_vec(), "the payload", 400),
            ("workload.status", vec![b'['; 900_000], "nested deeper", 400),
            ("workload.status", br#"{"workloadId":"a","workloadId":"b"}"#.to_vec(), "stands twice", 400),
            ("workload.status", id(&long).into(), "600000 bytes", 413),
            ("workload.start.extra", start("b", "run").into(), "no command \"workload.start.extra\"", 404),
            ("workload.restart", b"{}".to_vec(), "no command", 404),
        ];
        let mut asked = Vec::new();
        for (command, payload, expected, code) in &cases {
            let subject = format!("runtime.host.{}.{command}", host.id);
            asked.push((wire.ask(&subject, payload).await, expected, *code));
        }
        let mut answered = Vec::new();
        for _ in &asked {
            let answer = wire.receive().await;
            let (_, expected, code) = asked.iter().find(|asked| asked.0 == answer.subject).unwrap();
            assert_eq!(answer.state(), ("ERROR".into(), Some(*code)), "{expected}");
            assert!(answer.message().contains(*expected), "{} / {expected}", answer.message());
            assert!(answer.headers.get("Nats-Service-Error").is_some_and(|text| !text.is_empty()));
            answered.push(answer.subject);
        }
        let status = wire.command(&host.id, "workload.status", &id("b")).await;
        assert_eq!(status.state().0, "NOT_FOUND", "nothing was created");
        answered.sort();
        answered.dedup();
        assert_eq!(answered.len(), cases.len());
        assert!(wire.sync().await.is_empty(), "one reply each");
    }

    async fn ids_are_echoed_byte_for_byte(broker: TestBroker) {
        let (mut wire, host) = meet(&broker).await;
        let long = "\u{7}".repeat(256);
        for odd in ["a b/../\u{e9} \n", "*.>", "\"\\\u{0}", &long] {
            let started = wire.command(&host.id, "workload.start", &start(odd, "run")).await;
            assert_eq!((started.state().0.as_str(), started.id().as_str()), ("RUNNING", odd));
        }
    }

    async fn of_many_starts_one_wins(broker: TestBroker) {
        let (mut wire, host) = meet(&broker).await;
        let subject = format!("runtime.host.{}.workload.start", host.id);
        for _ in 0..20 {
            wire.ask(&subject, start("a", "run").as_bytes()).await;
        }
        let mut states = Vec::new();
        for _ in 0..20 {
            states.push(wire.receive().await.state());
        }
        states.sort();
        assert_eq!(states[18..], [("ERROR".into(), Some(409)), ("RUNNING".into(), None)]);
    }

    async fn a_burst_is_answered_in_time_and_status_never_waits(broker: TestBroker) {
        let (mut wire, host) = meet(&broker).await;
        let subject = format!("runtime.host.{}.workload.start", host.id);
        // More than the host works on at once: the rest is refused, and nothing waits for it.
        for number in 0..600 {
            wire.ask(&subject, start(&number.to_string(), "hang").as_bytes()).await;
        }
        let asked = Instant::now();
        let status = wire.ask(&format!("runtime.host.{}.workload.status", host.id), id("0").as_bytes()).await;
        let mut refused = 0;
        let status = loop {
            let answer = wire.receive().await;
            if answer.subject == status {
                break answer;
            }
            refused += usize::from(answer.state() == ("ERROR".into(), Some(503)));
        };
        assert_eq!(status.state().0, "STARTING");
        assert!(asked.elapsed() < Duration::from_secs(5));
        let started = Instant::now();
        let mut starting = 0;
        while starting + refused < 600 {
            match wire.receive().await.state() {
                (state, None) if state == "STARTING" => starting += 1,
                (state, Some(503)) if state == "ERROR" => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(starting, 512);
        assert!(started.elapsed() < Duration::from_secs(10));
        // What the host says of a start is told once its task has had its turn.
        while wire.command(&host.id, "workload.status", &id("0")).await.message() != "hanging" {
            assert!(started.elapsed() < Duration::from_secs(20));
        }
        host.shut_down();
        let held = host.held.clone();
        host.ended().await.unwrap();
        assert!(held.lock().unwrap().is_empty(), "cancelled starts are released");
    }

    async fn a_stop_cancels_a_start(broker: TestBroker) {
        let (mut wire, host) = meet(&broker).await;
        let start = start("a", "hang");
        let pending = wire.ask(&format!("runtime.host.{}.workload.start", host.id), start.as_bytes()).await;
        let stop = wire.ask(&format!("runtime.host.{}.workload.stop", host.id), id("a").as_bytes()).await;
        let mut answers = [wire.receive().await, wire.receive().await];
        answers.sort_by(|a, b| a.subject.cmp(&b.subject));
        assert_eq!([&answers[0].subject, &answers[1].subject], [&pending, &stop]);
        assert!(answers.iter().all(|answer| answer.state() == ("STOPPING".into(), None)));
        eventually("it is released", async || host.holds().is_empty().then_some(())).await;
        eventually("the id is free", async || {
            let status = wire.command(&host.id, "workload.status", &id("a")).await;
            (status.state().0 == "NOT_FOUND").then_some(())
        })
        .await;
    }

    async fn failures_are_told_and_the_host_lives_on(broker: TestBroker) {
        let (mut wire, host) = meet(&broker).await;
        let refused = wire.command(&host.id, "workload.start", &start("a", "refuse")).await;
        assert_eq!(refused.state(), ("ERROR".into(), None));
        let again = wire.command(&host.id, "workload.start", &start("a", "run")).await;
        assert_eq!(again.state(), ("RUNNING".into(), None), "no guest had run");
        let panicked = wire.command(&host.id, "workload.start", &start("p", "panic")).await;
        assert_eq!(panicked.state(), ("ERROR".into(), None));
        assert!(!panicked.message().contains("as asked"), "what it was is for the log");
        let again = wire.command(&host.id, "workload.start", &start("p", "run")).await;
        assert_eq!(again.state(), ("ERROR".into(), Some(409)), "a guest may have run");
        let completed = wire.command(&host.id, "workload.start", &start("c", "complete")).await;
        assert_eq!((completed.state().0.as_str(), completed.message().as_str()), ("COMPLETED", "done"));
        let failed = wire.command(&host.id, "workload.start", &start("f", "fail")).await;
        assert_eq!((failed.state().0.as_str(), failed.message().as_str()), ("ERROR", "broken"));
        eventually("what has ended is let go", async || (host.holds() == ["a"]).then_some(())).await;
        let status = wire.command(&host.id, "workload.status", &id("c")).await;
        assert_eq!(status.state(), ("COMPLETED".into(), None));
        let stopped = wire.command(&host.id, "workload.stop", &id("c")).await;
        assert_eq!(stopped.state().0, "STOPPING");
        let status = wire.command(&host.id, "workload.status", &id("c")).await;
        assert_eq!(status.state().0, "NOT_FOUND");
    }

    async fn a_command_without_reply_is_carried_out(broker: TestBroker) {
        let (mut wire, host) = meet(&broker).await;
        let subject = format!("runtime.host.{}.workload.start", host.id);
        wire.publish(&subject, None, start("a", "run").as_bytes()).await;
        eventually("it runs", async || (host.holds() == ["a"]).then_some(())).await;
        // A host never commands another in its caller's name.
        let other = format!("runtime.host.{}.workload.stop", host.id);
        wire.publish(&subject, Some(&other), start("a", "run").as_bytes()).await;
        let status = wire.command(&host.id, "workload.status", &id("a")).await;
        assert_eq!(status.state().0, "RUNNING");
    }

    async fn shutdown_unsubscribes_answers_and_stops(broker: TestBroker) {
        let (mut wire, host) = meet(&broker).await;
        wire.command(&host.id, "workload.start", &start("a", "run")).await;
        let subject = format!("runtime.host.{}.workload.start", host.id);
        let pending = wire.ask(&subject, start("b", "hang").as_bytes()).await;
        eventually("both are there", async || (host.holds().len() == 2).then_some(())).await;
        host.shut_down();
        let answer = wire.receive_on(&pending).await;
        assert_eq!(answer.state(), ("STOPPING".into(), None));
        let held = host.held.clone();
        let id = host.id.clone();
        host.ended().await.unwrap();
        assert!(held.lock().unwrap().is_empty());
        let nobody = wire.command(&id, "workload.status", "{}").await;
        assert_eq!(nobody.headers.status, Some(503));
    }

    async fn the_broker_goes_and_comes_back(broker: TestBroker) {
        let (mut wire, host) = meet(&broker).await;
        wire.command(&host.id, "workload.start", &start("a", "run")).await;
        broker.stop().await;
        broker.restart().await;
        let mut wire = Wire::connect(&broker.url()).await;
        wire.subscribe("runtime.operator.heartbeat.>").await;
        // It may have beaten before we subscribed; the next request shows that it is back.
        eventually("the host is back", async || {
            let answer = wire.command(&host.id, "workload.status", &id("a")).await;
            (answer.headers.status.is_none() && answer.state().0 == "RUNNING").then_some(())
        })
        .await;
        assert_eq!(host.holds(), ["a"], "it went on running");
        assert!(wire.sync().await.len() <= 1, "no burst");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_waits_for_a_broker_that_is_not_there_yet() {
    let mut broker = TestBroker::embedded(1024 * 1024).await;
    broker.stop().await;
    let host = Served::begin(&broker.url());
    broker.restart().await;
    let mut wire = Wire::connect(&broker.url()).await;
    eventually("the host answers", async || {
        let answer = wire.command(&host.id, "heartbeat", "").await;
        answer.headers.status.is_none().then_some(())
    })
    .await;
    broker.stop().await;
    host.shut_down();
    host.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_is_made_to_fit_the_broker() {
    let broker = TestBroker::embedded(2048).await;
    let (mut wire, host) = meet(&broker).await;
    let long = "\u{7}".repeat(200);
    let refused = wire
        .command(&host.id, "workload.start", &start(&long, "refuse"))
        .await;
    assert_eq!((refused.state().0, refused.id()), ("ERROR".into(), long));
    assert!(refused.payload.len() <= 2048 && refused.message().ends_with("xx…"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_come_at_their_interval() {
    let broker = TestBroker::embedded(1024 * 1024).await;
    let mut wire = Wire::connect(&broker.url()).await;
    wire.subscribe("runtime.operator.heartbeat.>").await;
    let options = ServeOptions {
        heartbeat_interval: Duration::from_secs(1),
        ..ServeOptions::default()
    };
    let host = Served::begin_with(&broker.url(), options);
    let first = wire.receive().await;
    let at = Instant::now();
    let second = wire.receive().await;
    assert!(
        at.elapsed() >= Duration::from_millis(900),
        "{:?}",
        at.elapsed()
    );
    let (first, second) = (first.json(), second.json());
    assert_eq!(first, second);
    assert_eq!(
        first.get("systemCpuUsage"),
        None,
        "what JSON cannot say is left out"
    );
    assert!(first["startedAt"].as_str().is_some_and(|at| at.len() >= 20));
    host.crash().await;
    assert_eq!(
        soon("nobody is left", wire.command("x", "heartbeat", ""))
            .await
            .headers
            .status,
        Some(503)
    );
}

#[tokio::test]
async fn options_that_peers_would_misread_are_refused() {
    let refused = async |options: ServeOptions| {
        Served::begin_with("nats://127.0.0.1:1", options)
            .ended()
            .await
            .unwrap_err()
            .to_string()
    };
    let host_id = ServeOptions {
        host_id: "a.b".into(),
        ..ServeOptions::default()
    };
    assert!(refused(host_id).await.contains("\"a.b\""));
    let slow = ServeOptions {
        heartbeat_interval: Duration::from_secs(31),
        ..ServeOptions::default()
    };
    assert!(refused(slow).await.contains("31s"));
}
