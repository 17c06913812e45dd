//! The scheduler's side against hosts that behave and peers that do not.

use std::time::{Duration, Instant};

use berth_sdk::ConnectOptions;
use berth_sdk::bus::Bus;
use berth_sdk::proto::{Workload, WorkloadState};
use berth_sdk::scheduler::{
    ClientError, Fleet, FleetEvent, FleetEvents, FleetOptions, Health, HostClient, LivenessOptions,
    Reason, Timeouts,
};

use crate::support::brokers::{TestBroker, on_both_brokers};
use crate::support::toy::Served;
use crate::support::wire::Wire;
use crate::support::{eventually, soon};

async fn bus(broker: &TestBroker) -> Bus {
    Bus::connect(&ConnectOptions::to(broker.url()))
        .await
        .unwrap()
}

fn named(name: &str) -> Workload {
    Workload {
        name: name.into(),
        ..Workload::default()
    }
}

/// The next event that fits; others are skipped.
async fn event<T>(events: &mut FleetEvents, fit: impl Fn(FleetEvent) -> Option<T>) -> T {
    soon("a fleet event", async {
        loop {
            if let Some(found) = fit(events.next().await.expect("the fleet is watched")) {
                return found;
            }
        }
    })
    .await
}

on_both_brokers! {
    async fn a_host_is_commanded(broker: TestBroker) {
        let bus = bus(&broker).await;
        let host = Served::begin(&broker.url());
        let client = HostClient::new(bus, host.id.as_str()).unwrap();
        eventually("the host is there", async || client.heartbeat().await.ok()).await;
        let started = client.start("a", &named("run")).await.unwrap();
        assert_eq!((started.workload_id.as_str(), started.state), ("a", WorkloadState::Running));
        let again = client.start("a", &named("run")).await.unwrap_err();
        assert!(matches!(again, ClientError::Refused { code: Some(409), .. }), "{again:?}");
        let failed = client.start("b", &named("refuse")).await.unwrap_err();
        assert!(matches!(failed, ClientError::Refused { code: None, state: WorkloadState::Error, .. }));
        assert_eq!(client.status("b").await.unwrap().state, WorkloadState::Error);
        assert_eq!(client.stop("a").await.unwrap().state, WorkloadState::Stopping);
        eventually("it is gone", async || {
            let status = client.status("a").await.unwrap();
            (status.state == WorkloadState::NotFound).then_some(())
        })
        .await;
        assert_eq!(client.stop("a").await.unwrap().state, WorkloadState::NotFound);
    }

    async fn failures_are_told_apart(broker: TestBroker) {
        let bus = bus(&broker).await;
        let short = Duration::from_millis(100);
        let timeouts = Timeouts { status: short, ..Timeouts::default() };
        let client = |id: &str| HostClient::new(bus.clone(), id).unwrap().with_timeouts(timeouts);
        assert_eq!(client("nobody").status("a").await, Err(ClientError::NoResponders));
        assert!(matches!(HostClient::new(bus.clone(), "a.b"), Err(ClientError::HostId(_))));

        let mut peer = Wire::connect(&broker.url()).await;
        peer.subscribe("runtime.host.*.workload.status").await;
        assert_eq!(client("silent").status("a").await, Err(ClientError::Timeout { after: short }));
        peer.receive().await;
        let answers = [
            ("{}", "it has no workloadStatus"),
            ("not JSON", "the payload is not one JSON object"),
            (r#"{"workloadStatus":{"workloadId":"a"}}"#, "it has no workloadState"),
            (
                r#"{"workloadStatus":{"workloadId":"b","workloadState":2}}"#,
                "it is about another workload",
            ),
        ];
        let odd = HostClient::new(bus.clone(), "odd").unwrap();
        for (answer, expected) in answers {
            let asked = tokio::spawn({
                let odd = odd.clone();
                async move { odd.status("a").await }
            });
            let request = peer.receive().await;
            assert_eq!(request.json(), serde_json::json!({"workloadId": "a"}));
            peer.publish(&request.reply.unwrap(), None, answer.as_bytes()).await;
            match asked.await.unwrap() {
                Err(ClientError::Malformed { reason }) => {
                    assert!(reason.starts_with(expected), "{reason}");
                }
                other => panic!("{answer}: {other:?}"),
            }
        }
        let large = named(&"x".repeat(2 * 1024 * 1024));
        assert_eq!(odd.start("a", &large).await, Err(ClientError::TooLarge));

        broker.stop().await;
        eventually("the connection is gone", async || {
            // A request that was under way when it went is one that times out.
            let status = client("odd").status("a").await;
            (status == Err(ClientError::Disconnected)).then_some(())
        })
        .await;
    }

    async fn a_fleet_sees_hosts_come_and_go(broker: TestBroker) {
        let bus = bus(&broker).await;
        // Nothing has to settle here: the broker was never away.
        let liveness = LivenessOptions { settle: Duration::ZERO, ..LivenessOptions::default() };
        let (fleet, mut events) = Fleet::watch(bus, FleetOptions { liveness }).await.unwrap();
        let first = Served::begin(&broker.url());
        let second = Served::begin(&broker.url());
        for _ in 0..2 {
            event(&mut events, |event| matches!(event, FleetEvent::Joined { .. }).then_some(())).await;
        }
        assert_eq!(fleet.hosts().len(), 2);
        let client = fleet.client(&first.id).unwrap();
        client.start("a", &named("run")).await.unwrap();
        let dies = first.id.clone();
        let died = Instant::now();
        first.crash().await;
        let lost = event(&mut events, |event| match event {
            FleetEvent::Lost { host_id, reason } => Some((host_id, reason)),
            _ => None,
        })
        .await;
        assert_eq!(lost, (dies.clone(), Reason::NoResponders));
        let noticed = died.elapsed();
        assert!(noticed > Duration::from_millis(900), "{noticed:?}");
        assert!(noticed < Duration::from_secs(4), "2 s, and patience: {noticed:?}");
        assert_eq!(fleet.host(&dies).unwrap().health, Health::Lost);
        assert_eq!(fleet.host(&second.id).unwrap().health, Health::Alive);
        assert_eq!(fleet.by_load().len(), 1);
    }

    async fn a_host_that_has_answered_its_start_may_be_silent_no_longer(broker: TestBroker) {
        let liveness = LivenessOptions {
            settle: Duration::ZERO,
            suspect_after: Duration::from_millis(300),
            lost_after: Duration::from_millis(600),
            ..LivenessOptions::default()
        };
        let options = FleetOptions { liveness };
        let (fleet, mut events) = Fleet::watch(bus(&broker).await, options).await.unwrap();
        let mut peer = Wire::connect(&broker.url()).await;
        for id in ["busy", "idle"] {
            peer.subscribe(&format!("runtime.host.{id}.>")).await;
        }
        for id in ["busy", "idle"] {
            let beat = serde_json::json!({ "id": id }).to_string();
            let subject = format!("runtime.operator.heartbeat.{id}");
            peer.publish(&subject, None, beat.as_bytes()).await;
        }
        let joined = |event| matches!(event, FleetEvent::Joined { .. }).then_some(());
        event(&mut events, joined).await;
        let busy = fleet.expect_busy("busy", tokio::time::Instant::now() + Duration::from_secs(60));
        let lost = |event| match event {
            FleetEvent::Lost { host_id, reason: Reason::Silent } => Some(host_id),
            _ => None,
        };
        assert_eq!(event(&mut events, lost).await, "idle");
        assert_eq!(fleet.host("busy").unwrap().health, Health::Suspect);
        drop(busy);
        assert_eq!(event(&mut events, lost).await, "busy");
    }

    async fn a_fleet_learns_what_changes(broker: TestBroker) {
        let bus = bus(&broker).await;
        let (fleet, mut events) = Fleet::watch(bus, FleetOptions::default()).await.unwrap();
        let mut peer = Wire::connect(&broker.url()).await;
        let mut beat = async |id: &str, json: &str| {
            let subject = format!("runtime.operator.heartbeat.{id}");
            peer.publish(&subject, None, json.as_bytes()).await;
        };
        // Its subscription is on another connection, and may reach the broker after a first heartbeat.
        eventually("the host is known", async || {
            beat("h", r#"{"id":"h","friendlyName":"f","later":1,"startedAt":"2020-01-01T00:00:00Z"}"#).await;
            fleet.host("h")
        })
        .await;
        beat("h", r#"{"id":"other"}"#).await;
        beat("h", "{").await;
        beat("h", r#"{"id":"h","friendlyName":"f","workloadCount":"7","startedAt":"2020-01-01T01:00:00+01:00"}"#).await;
        beat("h", r#"{"id":"h","friendlyName":"f","labels":{"zone":"a"},"imports":[{"package":"p","interfaces":["x","y"]},{"package":"q"}],"startedAt":"2020-01-01T00:00:00Z"}"#).await;
        beat("h", r#"{"id":"h","friendlyName":"f","labels":{"zone":"a"},"imports":[{"package":"q"},{"package":"p","interfaces":["y","x"]}],"startedAt":"2020-01-01T00:00:00Z"}"#).await;
        beat("h", r#"{"id":"h","friendlyName":"f","labels":{"zone":"b"},"startedAt":"2020-01-01T00:00:09Z"}"#).await;
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(match soon("an event", events.next()).await.unwrap() {
                FleetEvent::Joined { host } => format!("joined {}", host.heartbeat.id),
                FleetEvent::Changed { host } => format!("changed {:?}", host.heartbeat.labels),
                FleetEvent::Lost { host_id, reason } => format!("lost {host_id} {reason:?}"),
                other => format!("{other:?}"),
            });
        }
        assert_eq!(seen, ["joined h", "changed {\"zone\": \"a\"}", "lost h Restarted", "joined h"]);
        assert_eq!(fleet.hosts().len(), 1);
    }
}
