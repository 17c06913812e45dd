//! A host served by the SDK, observed with a bare NATS client.

use std::time::{Duration, Instant};

use berth_sdk::host::ServeOptions;

use crate::support::brokers::{TestBroker, on_both_brokers};
use crate::support::fake_host::RunningHost;
use crate::support::wire::Wire;
use crate::support::{MAX_IN_FLIGHT, eventually, within_timeout};

/// Starts a host, and a client that has received its first heartbeat.
async fn start_host(broker: &TestBroker) -> (Wire, RunningHost) {
    let mut wire = Wire::connect(&broker.url()).await;
    wire.subscribe("runtime.operator.heartbeat.>").await;
    let host = RunningHost::start(&broker.url());
    let heartbeat = wire.receive().await;
    assert_eq!(
        heartbeat.subject,
        format!("runtime.operator.heartbeat.{}", host.id)
    );
    assert_eq!(heartbeat.json()["id"], host.id);
    (wire, host)
}

fn start(id: &str, name: &str) -> String {
    serde_json::json!({"workloadId": id, "workload": {"name": name}}).to_string()
}

fn id(id: &str) -> String {
    serde_json::json!({ "workloadId": id }).to_string()
}

on_both_brokers! {
    async fn workload_runs_until_it_is_stopped(broker: TestBroker) {
        let (mut wire, host) = start_host(&broker).await;
        // HOST-WIRE-014: the host receives requests as soon as its first heartbeat arrives.
        let unknown = wire.command(&host.id, "workload.status", &id("a")).await;
        assert_eq!(unknown.state(), ("NOT_FOUND".into(), None));
        let started = wire.command(&host.id, "workload.start", &start("a", "run")).await;
        assert_eq!((started.state(), started.id()), (("RUNNING".into(), None), "a".into()));
        let heartbeat = wire.command(&host.id, "heartbeat", "not JSON").await.json();
        assert_eq!(heartbeat["id"], host.id);
        assert_eq!(heartbeat["workloadCount"], "1");
        assert_eq!(host.live_ids(), ["a"]);
        let again = wire.command(&host.id, "workload.start", &start("a", "run")).await;
        assert_eq!(again.state(), ("ERROR".into(), Some(409)));
        let stopped = wire.command(&host.id, "workload.stop", &id("a")).await;
        assert_eq!(stopped.state(), ("STOPPING".into(), None));
        eventually("the ID is free", async || {
            let status = wire.command(&host.id, "workload.status", &id("a")).await;
            (status.state().0 == "NOT_FOUND").then_some(())
        })
        .await;
        assert!(host.live_ids().is_empty());
        let heartbeat = wire.command(&host.id, "heartbeat", "").await.json();
        assert_eq!(heartbeat.get("workloadCount"), None);
        host.shut_down();
        host.join().await.unwrap();
    }

    async fn invalid_requests_get_one_reply_each(broker: TestBroker) {
        let (mut wire, host) = start_host(&broker).await;
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
            ("workload.status", br#"{"workloadId":"a","workloadId":"b"}"#.to_vec(), "appears twice", 400),
            ("workload.status", id(&long).into(), "600000 bytes", 413),
            ("workload.start.extra", start("b", "run").into(), "unknown command \"workload.start.extra\"", 404),
            ("workload.restart", b"{}".to_vec(), "unknown command", 404),
        ];
        let mut requests = Vec::new();
        for (command, payload, expected, code) in &cases {
            let subject = format!("runtime.host.{}.{command}", host.id);
            requests.push((wire.send_request(&subject, payload).await, expected, *code));
        }
        let mut replied = Vec::new();
        for _ in &requests {
            let reply = wire.receive().await;
            let (_, expected, code) =
                requests.iter().find(|request| request.0 == reply.subject).unwrap();
            assert_eq!(reply.state(), ("ERROR".into(), Some(*code)), "{expected}");
            assert!(reply.message().contains(*expected), "{} / {expected}", reply.message());
            let error = reply.headers.get("Nats-Service-Error");
            assert!(error.is_some_and(|text| !text.is_empty()));
            replied.push(reply.subject);
        }
        let status = wire.command(&host.id, "workload.status", &id("b")).await;
        assert_eq!(status.state().0, "NOT_FOUND", "no workload was created");
        replied.sort();
        replied.dedup();
        assert_eq!(replied.len(), cases.len());
        assert!(wire.sync().await.is_empty(), "one reply each");
    }

    async fn ids_are_echoed_byte_for_byte(broker: TestBroker) {
        let (mut wire, host) = start_host(&broker).await;
        let long = "\u{7}".repeat(256);
        for odd in ["a b/../\u{e9} \n", "*.>", "\"\\\u{0}", &long] {
            let started = wire.command(&host.id, "workload.start", &start(odd, "run")).await;
            assert_eq!((started.state().0.as_str(), started.id().as_str()), ("RUNNING", odd));
        }
    }

    async fn one_of_many_starts_wins(broker: TestBroker) {
        let (mut wire, host) = start_host(&broker).await;
        let subject = format!("runtime.host.{}.workload.start", host.id);
        for _ in 0..20 {
            wire.send_request(&subject, start("a", "run").as_bytes()).await;
        }
        let mut states = Vec::new();
        for _ in 0..20 {
            states.push(wire.receive().await.state());
        }
        states.sort();
        assert_eq!(states[18..], [("ERROR".into(), Some(409)), ("RUNNING".into(), None)]);
    }

    async fn burst_of_starts_gets_replies_in_time_and_delays_no_other_command(broker: TestBroker) {
        let (mut wire, host) = start_host(&broker).await;
        let subject = format!("runtime.host.{}.workload.start", host.id);
        // The host refuses the requests in excess of its limit immediately.
        let requests = MAX_IN_FLIGHT + 88;
        for number in 0..requests {
            wire.send_request(&subject, start(&number.to_string(), "hang").as_bytes()).await;
        }
        let requested_at = Instant::now();
        let status_subject = format!("runtime.host.{}.workload.status", host.id);
        let status = wire.send_request(&status_subject, id("0").as_bytes()).await;
        let mut refused = 0;
        let stop_subject = format!("runtime.host.{}.workload.stop", host.id);
        let stop = wire.send_request(&stop_subject, id("absent").as_bytes()).await;
        let mut others = Vec::new();
        while others.len() < 2 {
            let reply = wire.receive().await;
            if [&status, &stop].contains(&&reply.subject) {
                others.push(reply.state());
            } else {
                refused += usize::from(reply.state() == ("ERROR".into(), Some(503)));
            }
        }
        others.sort();
        assert_eq!(others, [("NOT_FOUND".into(), None), ("STARTING".into(), None)]);
        assert!(requested_at.elapsed() < Duration::from_secs(5));
        let started = Instant::now();
        let mut starting = 0;
        while starting + refused < requests {
            match wire.receive().await.state() {
                (state, None) if state == "STARTING" => starting += 1,
                (state, Some(503)) if state == "ERROR" => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(starting, MAX_IN_FLIGHT);
        assert!(started.elapsed() < Duration::from_secs(10));
        // The message of a start appears as soon as its task has been scheduled.
        while wire.command(&host.id, "workload.status", &id("0")).await.message() != "hanging" {
            assert!(started.elapsed() < Duration::from_secs(20));
        }
        host.shut_down();
        let live = host.live.clone();
        host.join().await.unwrap();
        assert!(live.lock().unwrap().is_empty(), "cancelled starts are released");
    }

    async fn stop_cancels_a_start(broker: TestBroker) {
        let (mut wire, host) = start_host(&broker).await;
        let start = start("a", "hang");
        let subject = |command: &str| format!("runtime.host.{}.workload.{command}", host.id);
        let pending = wire.send_request(&subject("start"), start.as_bytes()).await;
        let stop = wire.send_request(&subject("stop"), id("a").as_bytes()).await;
        let mut replies = [wire.receive().await, wire.receive().await];
        replies.sort_by(|a, b| a.subject.cmp(&b.subject));
        assert_eq!([&replies[0].subject, &replies[1].subject], [&pending, &stop]);
        assert!(replies.iter().all(|reply| reply.state() == ("STOPPING".into(), None)));
        eventually("the workload is released", async || {
            host.live_ids().is_empty().then_some(())
        })
        .await;
        eventually("the ID is free", async || {
            let status = wire.command(&host.id, "workload.status", &id("a")).await;
            (status.state().0 == "NOT_FOUND").then_some(())
        })
        .await;
    }

    async fn failures_are_reported_and_the_host_continues(broker: TestBroker) {
        let (mut wire, host) = start_host(&broker).await;
        let refused = wire.command(&host.id, "workload.start", &start("a", "fail-start")).await;
        assert_eq!(refused.state(), ("ERROR".into(), None));
        let again = wire.command(&host.id, "workload.start", &start("a", "run")).await;
        assert_eq!(again.state(), ("RUNNING".into(), None), "no guest has run");
        let panicked = wire.command(&host.id, "workload.start", &start("p", "panic")).await;
        assert_eq!(panicked.state(), ("ERROR".into(), None));
        assert!(!panicked.message().contains("as requested"), "the panic is only logged");
        let again = wire.command(&host.id, "workload.start", &start("p", "run")).await;
        assert_eq!(again.state(), ("ERROR".into(), Some(409)), "a guest may have run");
        let completed = wire.command(&host.id, "workload.start", &start("c", "complete")).await;
        assert_eq!(completed.state().0, "COMPLETED");
        assert_eq!(completed.message(), "done");
        let failed = wire.command(&host.id, "workload.start", &start("f", "fail")).await;
        assert_eq!(failed.state().0, "ERROR");
        assert_eq!(failed.message(), "broken");
        eventually("ended workloads are released", async || {
            (host.live_ids() == ["a"]).then_some(())
        })
        .await;
        let status = wire.command(&host.id, "workload.status", &id("c")).await;
        assert_eq!(status.state(), ("COMPLETED".into(), None));
        let stopped = wire.command(&host.id, "workload.stop", &id("c")).await;
        assert_eq!(stopped.state().0, "STOPPING");
        let status = wire.command(&host.id, "workload.status", &id("c")).await;
        assert_eq!(status.state().0, "NOT_FOUND");
    }

    async fn command_without_reply_subject_is_executed(broker: TestBroker) {
        let (mut wire, host) = start_host(&broker).await;
        let subject = format!("runtime.host.{}.workload.start", host.id);
        wire.publish(&subject, None, start("a", "run").as_bytes()).await;
        eventually("the workload runs", async || (host.live_ids() == ["a"]).then_some(())).await;
        // A reply must not become a command to another host.
        let other = format!("runtime.host.{}.workload.stop", host.id);
        wire.publish(&subject, Some(&other), start("a", "run").as_bytes()).await;
        let status = wire.command(&host.id, "workload.status", &id("a")).await;
        assert_eq!(status.state().0, "RUNNING");
    }

    async fn shutdown_unsubscribes_answers_pending_starts_and_stops_workloads(broker: TestBroker) {
        let (mut wire, host) = start_host(&broker).await;
        wire.command(&host.id, "workload.start", &start("a", "run")).await;
        let subject = format!("runtime.host.{}.workload.start", host.id);
        let pending = wire.send_request(&subject, start("b", "hang").as_bytes()).await;
        eventually("both workloads exist", async || {
            (host.live_ids().len() == 2).then_some(())
        })
        .await;
        host.shut_down();
        let reply = wire.receive_on(&pending).await;
        assert_eq!(reply.state(), ("STOPPING".into(), None));
        let live = host.live.clone();
        let id = host.id.clone();
        host.join().await.unwrap();
        assert!(live.lock().unwrap().is_empty());
        let no_responders = wire.command(&id, "workload.status", "{}").await;
        assert_eq!(no_responders.headers.status, Some(503));
    }

    async fn host_reconnects_after_a_broker_restart(broker: TestBroker) {
        let (mut wire, host) = start_host(&broker).await;
        wire.command(&host.id, "workload.start", &start("a", "run")).await;
        broker.stop().await;
        broker.restart().await;
        let mut wire = Wire::connect(&broker.url()).await;
        wire.subscribe("runtime.operator.heartbeat.>").await;
        // The heartbeat of the host may precede the subscription, so a request shows that the host
        // is back.
        eventually("the host is back", async || {
            let reply = wire.command(&host.id, "workload.status", &id("a")).await;
            (reply.headers.status.is_none() && reply.state().0 == "RUNNING").then_some(())
        })
        .await;
        assert_eq!(host.live_ids(), ["a"], "the workload kept running");
        assert!(wire.sync().await.len() <= 1, "no burst");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_waits_for_a_broker_that_starts_later() {
    let mut broker = TestBroker::embedded(1024 * 1024).await;
    broker.stop().await;
    let host = RunningHost::start(&broker.url());
    broker.restart().await;
    let mut wire = Wire::connect(&broker.url()).await;
    eventually("the host replies", async || {
        let reply = wire.command(&host.id, "heartbeat", "").await;
        reply.headers.status.is_none().then_some(())
    })
    .await;
    broker.stop().await;
    host.shut_down();
    host.join().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reply_is_shortened_to_the_payload_limit() {
    let broker = TestBroker::embedded(2048).await;
    let (mut wire, host) = start_host(&broker).await;
    let long = "\u{7}".repeat(200);
    let refused = wire
        .command(&host.id, "workload.start", &start(&long, "fail-start"))
        .await;
    assert_eq!((refused.state().0, refused.id()), ("ERROR".into(), long));
    assert!(refused.payload.len() <= 2048 && refused.message().ends_with("xx…"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_follow_their_interval() {
    let broker = TestBroker::embedded(1024 * 1024).await;
    let mut wire = Wire::connect(&broker.url()).await;
    wire.subscribe("runtime.operator.heartbeat.>").await;
    let options = ServeOptions {
        heartbeat_interval: Duration::from_secs(1),
        ..ServeOptions::default()
    };
    let host = RunningHost::start_with_options(&broker.url(), options);
    let first = wire.receive().await;
    let received_at = Instant::now();
    let second = wire.receive().await;
    assert!(
        received_at.elapsed() >= Duration::from_millis(900),
        "{:?}",
        received_at.elapsed()
    );
    let (first, second) = (first.json(), second.json());
    assert_eq!(first, second);
    assert_eq!(first.get("systemCpuUsage"), None, "NaN is omitted");
    assert!(first["startedAt"].as_str().is_some_and(|at| at.len() >= 20));
    host.crash().await;
    assert_eq!(
        within_timeout("no responders are left", wire.command("x", "heartbeat", ""))
            .await
            .headers
            .status,
        Some(503)
    );
}

#[tokio::test]
async fn rejects_invalid_options() {
    let error = async |options: ServeOptions| {
        RunningHost::start_with_options("nats://127.0.0.1:1", options)
            .join()
            .await
            .unwrap_err()
            .to_string()
    };
    let invalid_id = ServeOptions {
        host_id: "a.b".into(),
        ..ServeOptions::default()
    };
    assert!(error(invalid_id).await.contains("\"a.b\""));
    let slow = ServeOptions {
        heartbeat_interval: Duration::from_secs(31),
        ..ServeOptions::default()
    };
    assert!(error(slow).await.contains("31s"));
}
