//! The scheduler side against conforming hosts and faulty peers.

use std::time::{Duration, Instant};

use berth_sdk::ConnectOptions;
use berth_sdk::bus::Bus;
use berth_sdk::proto::{Workload, WorkloadState};
use berth_sdk::scheduler::{
    ClientError, Fleet, FleetEvent, FleetEvents, FleetOptions, Health, HostClient, LivenessOptions,
    Reason, Timeouts,
};

use crate::support::brokers::{TestBroker, on_both_brokers};
use crate::support::fake_host::RunningHost;
use crate::support::wire::Wire;
use crate::support::{eventually, within_timeout};

async fn bus(broker: &TestBroker) -> Bus {
    Bus::connect(&ConnectOptions::to(broker.url()))
        .await
        .unwrap()
}

/// Returns a workload with this name, which selects the behavior of the fake host.
fn named(name: &str) -> Workload {
    Workload {
        name: name.into(),
        ..Workload::default()
    }
}

/// Returns the next event that matches, and skips others.
async fn event<T>(events: &mut FleetEvents, select: impl Fn(FleetEvent) -> Option<T>) -> T {
    within_timeout("a fleet event", async {
        loop {
            if let Some(found) = select(events.next().await.expect("the fleet is watched")) {
                return found;
            }
        }
    })
    .await
}

on_both_brokers! {
    async fn commands_a_host(broker: TestBroker) {
        let bus = bus(&broker).await;
        let host = RunningHost::start(&broker.url());
        let client = HostClient::new(bus, host.id.as_str()).unwrap();
        eventually("the host responds", async || client.heartbeat().await.ok()).await;
        let started = client.start("a", &named("run")).await.unwrap();
        assert_eq!((started.workload_id.as_str(), started.state), ("a", WorkloadState::Running));
        let again = client.start("a", &named("run")).await.unwrap_err();
        assert!(matches!(again, ClientError::Refused { code: Some(409), .. }), "{again:?}");
        let failed = client.start("b", &named("fail-start")).await.unwrap_err();
        let ClientError::Refused { code: None, state: WorkloadState::Error, .. } = failed else {
            panic!("{failed:?}");
        };
        assert_eq!(client.status("b").await.unwrap().state, WorkloadState::Error);
        assert_eq!(client.stop("a").await.unwrap().state, WorkloadState::Stopping);
        eventually("the workload is gone", async || {
            let status = client.status("a").await.unwrap();
            (status.state == WorkloadState::NotFound).then_some(())
        })
        .await;
        assert_eq!(client.stop("a").await.unwrap().state, WorkloadState::NotFound);
    }

    async fn distinguishes_failures(broker: TestBroker) {
        let bus = bus(&broker).await;
        let short = Duration::from_millis(100);
        let timeouts = Timeouts { status: short, ..Timeouts::default() };
        let client = |id: &str| HostClient::new(bus.clone(), id).unwrap().with_timeouts(timeouts);
        assert_eq!(client("absent").status("a").await, Err(ClientError::NoResponders));
        assert!(matches!(HostClient::new(bus.clone(), "a.b"), Err(ClientError::InvalidHostId(_))));

        let mut peer = Wire::connect(&broker.url()).await;
        peer.subscribe("runtime.host.*.workload.status").await;
        assert_eq!(client("silent").status("a").await, Err(ClientError::Timeout { after: short }));
        peer.receive().await;
        let replies = [
            ("{}", "field `workloadStatus` is missing"),
            ("not JSON", "the payload is not one JSON object"),
            (r#"{"workloadStatus":{"workloadId":"a"}}"#, "field `workloadState` is missing"),
            (
                r#"{"workloadStatus":{"workloadId":"b","workloadState":2}}"#,
                "status of another workload",
            ),
        ];
        let faulty = HostClient::new(bus.clone(), "faulty").unwrap();
        for (reply, expected) in replies {
            let pending = tokio::spawn({
                let faulty = faulty.clone();
                async move { faulty.status("a").await }
            });
            let request = peer.receive().await;
            assert_eq!(request.json(), serde_json::json!({"workloadId": "a"}));
            peer.publish(&request.reply_to.unwrap(), None, reply.as_bytes()).await;
            match pending.await.unwrap() {
                Err(ClientError::InvalidResponse { reason }) => {
                    assert!(reason.starts_with(expected), "{reason}");
                }
                other => panic!("{reply}: {other:?}"),
            }
        }
        let large = named(&"x".repeat(2 * 1024 * 1024));
        assert_eq!(faulty.start("a", &large).await, Err(ClientError::RequestTooLarge));

        broker.stop().await;
        eventually("the connection is lost", async || {
            // A request that is in flight when the connection breaks times out.
            let status = client("faulty").status("a").await;
            (status == Err(ClientError::Disconnected)).then_some(())
        })
        .await;
    }

    async fn fleet_discovers_hosts_between_their_heartbeats(broker: TestBroker) {
        let host = RunningHost::start(&broker.url());
        // This host sent its heartbeat before the fleet begins; the next one follows after 15 s.
        let client = HostClient::new(bus(&broker).await, host.id.as_str()).unwrap();
        eventually("the host responds", async || client.heartbeat().await.ok()).await;
        let mut peer = Wire::connect(&broker.url()).await;
        peer.subscribe("berth.ext.v1.discover").await;
        let asked_at = Instant::now();
        let (fleet, mut events) =
            Fleet::watch(bus(&broker).await, FleetOptions::default()).await.unwrap();
        // A reply that names a host without a subscription to its commands proves nothing.
        let inbox = peer.receive().await.reply_to.unwrap();
        for forged in [r#"{"id":"forged"}"#, r#"{"id":"a.b"}"#, "{"] {
            peer.publish(&inbox, None, forged.as_bytes()).await;
        }
        let joined = |event| match event {
            FleetEvent::Joined { host } => Some(host.heartbeat),
            _ => None,
        };
        let heartbeat = event(&mut events, joined).await;
        assert_eq!(heartbeat.id, host.id);
        assert_eq!(heartbeat.labels["berth.dev/discover"], "true");
        assert!(asked_at.elapsed() < Duration::from_secs(10), "{:?}", asked_at.elapsed());
        assert_eq!(fleet.hosts().len(), 1);
    }

    async fn fleet_detects_joined_and_lost_hosts(broker: TestBroker) {
        let bus = bus(&broker).await;
        // The broker is not restarted here, so no settling period is needed.
        let liveness =
            LivenessOptions { settling_period: Duration::ZERO, ..LivenessOptions::default() };
        let (fleet, mut events) = Fleet::watch(bus, FleetOptions { liveness }).await.unwrap();
        let first = RunningHost::start(&broker.url());
        let second = RunningHost::start(&broker.url());
        for _ in 0..2 {
            let joined = |event| matches!(event, FleetEvent::Joined { .. }).then_some(());
            event(&mut events, joined).await;
        }
        assert_eq!(fleet.hosts().len(), 2);
        let client = fleet.client(&first.id).unwrap();
        client.start("a", &named("run")).await.unwrap();
        let lost_id = first.id.clone();
        let crashed_at = Instant::now();
        first.crash().await;
        let lost = event(&mut events, |event| match event {
            FleetEvent::Lost { host_id, reason } => Some((host_id, reason)),
            _ => None,
        })
        .await;
        assert_eq!(lost, (lost_id.clone(), Reason::NoResponders));
        let detected_after = crashed_at.elapsed();
        assert!(detected_after > Duration::from_millis(900), "{detected_after:?}");
        assert!(detected_after < Duration::from_secs(4), "2 s and a margin: {detected_after:?}");
        assert_eq!(fleet.host(&lost_id).unwrap().health, Health::Lost);
        assert_eq!(fleet.host(&second.id).unwrap().health, Health::Alive);
        // Unlike `hosts`, `by_load` excludes lost hosts.
        assert_eq!(fleet.by_load().len(), 1);
    }

    async fn busy_guard_delays_loss_until_it_is_dropped(broker: TestBroker) {
        let liveness = LivenessOptions {
            settling_period: Duration::ZERO,
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
            let heartbeat = serde_json::json!({ "id": id }).to_string();
            let subject = format!("runtime.operator.heartbeat.{id}");
            peer.publish(&subject, None, heartbeat.as_bytes()).await;
        }
        let joined = |event| matches!(event, FleetEvent::Joined { .. }).then_some(());
        event(&mut events, joined).await;
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        let guard = fleet.expect_busy("busy", until);
        let lost = |event| match event {
            FleetEvent::Lost { host_id, reason: Reason::Silent } => Some(host_id),
            _ => None,
        };
        assert_eq!(event(&mut events, lost).await, "idle");
        assert_eq!(fleet.host("busy").unwrap().health, Health::Suspect);
        drop(guard);
        assert_eq!(event(&mut events, lost).await, "busy");
    }

    async fn fleet_reports_changed_heartbeats(broker: TestBroker) {
        let bus = bus(&broker).await;
        let (fleet, mut events) = Fleet::watch(bus, FleetOptions::default()).await.unwrap();
        let mut peer = Wire::connect(&broker.url()).await;
        let mut heartbeat = async |id: &str, json: &str| {
            let subject = format!("runtime.operator.heartbeat.{id}");
            peer.publish(&subject, None, json.as_bytes()).await;
        };
        // The fleet subscribes on another connection, perhaps only after the first heartbeat.
        eventually("the host is known", async || {
            // The field `later` is unknown, and ignored.
            heartbeat("h", r#"{"id":"h","friendlyName":"f","later":1,"startedAt":"2020-01-01T00:00:00Z"}"#).await;
            fleet.host("h")
        })
        .await;
        // Ignored: the ID does not match the subject.
        heartbeat("h", r#"{"id":"other"}"#).await;
        // Ignored: the JSON is invalid.
        heartbeat("h", "{").await;
        // No change: only a count, and the time zone of the same start time.
        heartbeat("h", r#"{"id":"h","friendlyName":"f","workloadCount":"7","startedAt":"2020-01-01T01:00:00+01:00"}"#).await;
        // Changed: labels and imports are new.
        heartbeat("h", r#"{"id":"h","friendlyName":"f","labels":{"zone":"a"},"imports":[{"package":"p","interfaces":["x","y"]},{"package":"q"}],"startedAt":"2020-01-01T00:00:00Z"}"#).await;
        // No change: only the order of the imports.
        heartbeat("h", r#"{"id":"h","friendlyName":"f","labels":{"zone":"a"},"imports":[{"package":"q"},{"package":"p","interfaces":["y","x"]}],"startedAt":"2020-01-01T00:00:00Z"}"#).await;
        // Lost and joined: a later start time means another process.
        heartbeat("h", r#"{"id":"h","friendlyName":"f","labels":{"zone":"b"},"startedAt":"2020-01-01T00:00:09Z"}"#).await;
        let mut received = Vec::new();
        for _ in 0..4 {
            received.push(match within_timeout("an event", events.next()).await.unwrap() {
                FleetEvent::Joined { host } => format!("joined {}", host.heartbeat.id),
                FleetEvent::Changed { host } => format!("changed {:?}", host.heartbeat.labels),
                FleetEvent::Lost { host_id, reason } => format!("lost {host_id} {reason:?}"),
                other => format!("{other:?}"),
            });
        }
        let changed = "changed {\"zone\": \"a\"}";
        assert_eq!(received, ["joined h", changed, "lost h Restarted", "joined h"]);
        assert_eq!(fleet.hosts().len(), 1);
    }
}
