//! The protocol over gRPC, on real sockets: the same commands, the same answers, the same failures.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use berth_sdk::ConnectOptions;
use berth_sdk::bus::Bus;
use berth_sdk::grpc::{
    Channel, ChannelOptions, ClientTls, GrpcError, Heartbeats, HostSide, Listener, ServerTls,
};
use berth_sdk::host::{Connection, ServeOptions};
use berth_sdk::proto::{Component, Service, WitWorld, Workload, WorkloadState};
use berth_sdk::scheduler::{
    ClientError, Fleet, FleetEvent, FleetOptions, Health, HostClient, Timeouts,
};

use crate::support::brokers::TestBroker;
use crate::support::certificates::Files;
use crate::support::toy::Served;
use crate::support::{eventually, soon};

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

async fn listener() -> Listener {
    Listener::bind(loopback(), None).await.unwrap()
}

fn side(listener: Listener) -> HostSide {
    HostSide {
        listener: Some(listener),
        ..HostSide::default()
    }
}

/// A host without NATS, and its URL.
async fn host() -> (Served, String) {
    let listener = listener().await;
    let url = listener.url("127.0.0.1");
    let connection = Connection::over_grpc(side(listener));
    (Served::begin_as(connection, ServeOptions::default()), url)
}

async fn channel(url: &str) -> Channel {
    Channel::open(&ChannelOptions::to(url)).await.unwrap()
}

async fn client(url: &str) -> HostClient {
    HostClient::over_grpc(channel(url).await, None)
}

fn named(name: &str) -> Workload {
    Workload {
        name: name.into(),
        ..Workload::default()
    }
}

fn code(error: &ClientError) -> Option<u16> {
    match error {
        ClientError::Refused { code, .. } => *code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_commanded() {
    let (host, url) = host().await;
    let client = client(&url).await;
    assert_eq!(client.host_id(), url);
    let started = client.start("a", &named("run")).await.unwrap();
    assert_eq!(
        (started.workload_id.as_str(), started.state),
        ("a", WorkloadState::Running)
    );
    let again = client.start("a", &named("run")).await.unwrap_err();
    assert_eq!(code(&again), Some(409));
    let failed = client.start("b", &named("refuse")).await.unwrap_err();
    assert_eq!(code(&failed), None);
    assert_eq!(
        client.status("b").await.unwrap().state,
        WorkloadState::Error
    );
    let completed = client.start("c", &named("complete")).await.unwrap();
    assert_eq!(completed.state, WorkloadState::Completed);
    assert_eq!(
        client.stop("a").await.unwrap().state,
        WorkloadState::Stopping
    );
    eventually("it is gone", async || {
        let status = client.status("a").await.unwrap();
        (status.state == WorkloadState::NotFound).then_some(())
    })
    .await;
    assert_eq!(
        client.stop("a").await.unwrap().state,
        WorkloadState::NotFound
    );
    host.shut_down();
    host.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ways_lead_to_the_same_workloads() {
    let broker = TestBroker::embedded(1024 * 1024).await;
    let bus = Bus::connect(&ConnectOptions::to(broker.url()))
        .await
        .unwrap();
    let listener = listener().await;
    let url = listener.url("127.0.0.1");
    let connection = Connection::from(ConnectOptions::to(broker.url())).and_grpc(side(listener));
    let host = Served::begin_as(connection, ServeOptions::default());
    let over_nats = HostClient::new(bus, host.id.as_str()).unwrap();
    eventually("the host is there", async || {
        over_nats.heartbeat().await.ok()
    })
    .await;
    let over_grpc = client(&url).await;
    let odd = "a b/../\u{e9} \n\u{0}";
    over_nats.start(odd, &named("run")).await.unwrap();
    let again = over_grpc.start(odd, &named("run")).await.unwrap_err();
    let on_the_bus = over_nats.start(odd, &named("run")).await.unwrap_err();
    assert_eq!(again, on_the_bus);
    assert_eq!(over_grpc.status(odd).await, over_nats.status(odd).await);
    let beat = over_nats.heartbeat().await.unwrap();
    assert_eq!(beat.workload_count, 1);
    over_grpc.stop(odd).await.unwrap();
    eventually("it is gone", async || {
        let status = over_nats.status(odd).await.unwrap();
        (status.state == WorkloadState::NotFound).then_some(())
    })
    .await;
    host.shut_down();
    host.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_host_could_obey_is_refused_as_on_the_bus() {
    let (_host, url) = host().await;
    let client = client(&url).await;
    let long = "x".repeat(257);
    assert_eq!(code(&client.status("").await.unwrap_err()), Some(400));
    assert_eq!(code(&client.stop(&long).await.unwrap_err()), Some(413));
    let endless = Workload {
        service: Some(Service {
            max_restarts: u64::MAX,
            ..Service::default()
        }),
        ..Workload::default()
    };
    let unknown = Workload {
        wit_world: Some(WitWorld {
            components: vec![Component {
                image_pull_policy: 99,
                ..Component::default()
            }],
            ..WitWorld::default()
        }),
        ..Workload::default()
    };
    for (workload, field) in [
        (endless, "workload.service.maxRestarts"),
        (unknown, "workload.witWorld.components[0].imagePullPolicy"),
    ] {
        let error = client.start("a", &workload).await.unwrap_err();
        assert_eq!(code(&error), Some(400));
        assert!(error.to_string().contains(field), "{error}");
    }
    assert_eq!(
        client.status("a").await.unwrap().state,
        WorkloadState::NotFound
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_told_apart() {
    let (host, url) = host().await;
    let meant = HostClient::over_grpc(channel(&url).await, Some(host.id.clone()));
    assert!(meant.status("a").await.is_ok());
    let other = HostClient::over_grpc(channel(&url).await, Some("other".into()));
    let started = other.start("a", &named("run")).await;
    assert_eq!(started, Err(ClientError::NoResponders));
    assert!(host.holds().is_empty(), "a host acts on its own commands");
    assert!(matches!(
        meant.heartbeat().await,
        Err(ClientError::NotOverGrpc(_))
    ));
    let large = named(&"x".repeat(2 * 1024 * 1024));
    assert_eq!(meant.start("a", &large).await, Err(ClientError::TooLarge));
    let short = Duration::from_millis(200);
    let timeouts = Timeouts {
        start: short,
        status: short,
        ..Timeouts::default()
    };
    let slow = meant.with_timeouts(timeouts);
    let hanging = slow.start("h", &named("hang")).await;
    assert_eq!(hanging, Err(ClientError::Timeout { after: short }));
    assert_eq!(
        slow.status("h").await.unwrap().state,
        WorkloadState::Starting,
        "it goes on"
    );

    // Somebody who takes connections and says nothing.
    let silent = tokio::net::TcpListener::bind(loopback()).await.unwrap();
    let address = silent.local_addr().unwrap();
    let mute = client(&format!("http://{address}"))
        .await
        .with_timeouts(timeouts);
    assert_eq!(
        mute.status("a").await,
        Err(ClientError::Timeout { after: short })
    );
    drop(silent);
    let nobody = client(&format!("http://{address}")).await;
    assert_eq!(nobody.status("a").await, Err(ClientError::NoResponders));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_dies_is_lost_and_then_nobody() {
    let (host, url) = host().await;
    let client = client(&url).await;
    let pending = tokio::spawn({
        let client = client.clone();
        async move { client.start("h", &named("hang")).await }
    });
    eventually("it has begun", async || {
        (!host.holds().is_empty()).then_some(())
    })
    .await;
    host.crash().await;
    let cut = soon("the call ends", pending).await.unwrap();
    assert!(matches!(cut, Err(ClientError::Lost { .. })), "{cut:?}");
    eventually("nobody is there", async || {
        (client.status("h").await == Err(ClientError::NoResponders)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_leaves_the_address_answers_and_stops() {
    let (host, url) = host().await;
    let client = client(&url).await;
    client.start("a", &named("run")).await.unwrap();
    let pending = tokio::spawn({
        let client = client.clone();
        async move { client.start("h", &named("hang")).await }
    });
    eventually("both are there", async || {
        (host.holds().len() == 2).then_some(())
    })
    .await;
    host.shut_down();
    let held = host.held.clone();
    let answer = soon("the start is answered", pending).await.unwrap();
    assert_eq!(answer.unwrap().state, WorkloadState::Stopping);
    host.ended().await.unwrap();
    assert!(held.lock().unwrap().is_empty());
    assert_eq!(client.status("a").await, Err(ClientError::NoResponders));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_is_bounded_and_status_never_waits() {
    let (host, url) = host().await;
    let client = client(&url).await;
    let mut starts = tokio::task::JoinSet::new();
    for number in 0..600 {
        let client = client.clone();
        starts.spawn(async move { client.start(&number.to_string(), &named("hang")).await });
    }
    eventually("the host is full", async || {
        (host.holds().len() == 512).then_some(())
    })
    .await;
    let asked = Instant::now();
    client.status("0").await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(5));
    let outcomes = soon("all are answered", starts.join_all()).await;
    let starting = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Ok(status) if status.state == WorkloadState::Starting));
    assert_eq!(starting.count(), 512);
    let full = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    assert_eq!(full.filter(|error| code(error) == Some(503)).count(), 88);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_reach_a_scheduler_that_comes_late() {
    let taken = listener().await;
    let (address, scheduler) = (taken.local_addr(), taken.url("127.0.0.1"));
    drop(taken);
    let listener = listener().await;
    let side = HostSide {
        schedulers: vec![channel(&scheduler).await],
        ..side(listener)
    };
    let host = Served::begin_as(Connection::over_grpc(side), ServeOptions::default());
    let late = Listener::bind(address, None).await.unwrap();
    let mut heartbeats = Heartbeats::listen(late);
    let beat = soon("a heartbeat", heartbeats.next()).await.unwrap();
    assert_eq!(beat.heartbeat.id, host.id);
    assert_eq!(beat.heartbeat.hostname, "localhost");
    // The way back that it names.
    let back = channel(&beat.url.unwrap()).await;
    let client = HostClient::over_grpc(back, Some(host.id.clone()));
    client.start("a", &named("run")).await.unwrap();
    host.shut_down();
    host.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_without_a_bus_is_watched_and_commanded() {
    let taken = listener().await;
    let scheduler = taken.url("127.0.0.1");
    let heartbeats = Heartbeats::listen(taken);
    let (fleet, mut events) =
        Fleet::watch_grpc(heartbeats, ClientTls::default(), FleetOptions::default());
    let side = HostSide {
        schedulers: vec![channel(&scheduler).await],
        ..side(listener().await)
    };
    let host = Served::begin_as(Connection::over_grpc(side), ServeOptions::default());
    let joined = soon("it joins", events.next()).await;
    assert!(
        matches!(&joined, Some(FleetEvent::Joined { host: joined }) if joined.heartbeat.id == host.id),
        "{joined:?}"
    );
    let client = fleet.client(&host.id).unwrap();
    client.start("a", &named("run")).await.unwrap();
    assert!(matches!(
        fleet.client("stranger"),
        Err(ClientError::Unreachable { .. })
    ));
    let id = host.id.clone();
    host.crash().await;
    eventually("it is lost", async || {
        (fleet.host(&id)?.health == Health::Lost).then_some(())
    })
    .await;
}

async fn over_tls(files: &Files, client_ca: bool) -> (Served, String) {
    let tls = ServerTls {
        cert_file: files.server_cert.clone(),
        key_file: files.server_key.clone(),
        client_ca_file: client_ca.then(|| files.ca.clone()),
    };
    let listener = Listener::bind(loopback(), Some(&tls)).await.unwrap();
    let url = listener.url("127.0.0.1");
    let connection = Connection::over_grpc(side(listener));
    (Served::begin_as(connection, ServeOptions::default()), url)
}

async fn with_tls(url: &str, tls: ClientTls) -> HostClient {
    let options = ChannelOptions {
        tls,
        ..ChannelOptions::to(url)
    };
    HostClient::over_grpc(Channel::open(&options).await.unwrap(), None)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls() {
    let (_dir, files) = Files::make();
    let (_host, url) = over_tls(&files, false).await;
    let trusting = |ca: &std::path::Path| ClientTls {
        ca_file: Some(ca.to_owned()),
        ..ClientTls::default()
    };
    let known = with_tls(&url, trusting(&files.ca)).await;
    assert!(known.status("a").await.is_ok());
    let unknown = with_tls(&url, trusting(&files.other_ca)).await;
    let refused = unknown.status("a").await;
    assert!(
        matches!(refused, Err(ClientError::Unreachable { .. })),
        "{refused:?}"
    );
    let misnamed = ClientTls {
        server_name: Some("elsewhere.example".into()),
        ..trusting(&files.ca)
    };
    let misnamed = with_tls(&url, misnamed).await.status("a").await;
    assert!(
        matches!(misnamed, Err(ClientError::Unreachable { .. })),
        "{misnamed:?}"
    );
    let plain = client(&url.replace("https", "http"))
        .await
        .status("a")
        .await;
    assert!(plain.is_err(), "{plain:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutual_tls() {
    let (_dir, files) = Files::make();
    let (_host, url) = over_tls(&files, true).await;
    let anonymous = ClientTls {
        ca_file: Some(files.ca.clone()),
        ..ClientTls::default()
    };
    let known = ClientTls {
        cert_file: Some(files.client_cert.clone()),
        key_file: Some(files.client_key.clone()),
        ..anonymous.clone()
    };
    assert!(
        with_tls(&url, known.clone())
            .await
            .status("a")
            .await
            .is_ok()
    );
    let refused = with_tls(&url, anonymous).await.status("a").await;
    assert!(
        matches!(
            refused,
            Err(ClientError::Unreachable { .. } | ClientError::Lost { .. })
        ),
        "{refused:?}"
    );
    let half = ClientTls {
        key_file: None,
        ..known
    };
    let half = ChannelOptions {
        tls: half,
        ..ChannelOptions::to(&url)
    };
    assert!(matches!(
        Channel::open(&half).await,
        Err(GrpcError::HalfAPair)
    ));
}

#[tokio::test]
async fn urls_that_make_no_sense_are_refused() {
    for bad in [
        "",
        "127.0.0.1:80",
        "nats://127.0.0.1:4222",
        "http://ann:secret@127.0.0.1:80",
        "http://127.0.0.1:80/path",
    ] {
        let error = Channel::open(&ChannelOptions::to(bad)).await.unwrap_err();
        assert!(matches!(error, GrpcError::Url(_)), "{bad}: {error:?}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let certificates = ChannelOptions {
        tls: ClientTls {
            ca_file: Some("ca.pem".into()),
            ..ClientTls::default()
        },
        ..ChannelOptions::to("http://127.0.0.1:80")
    };
    let error = Channel::open(&certificates).await.unwrap_err();
    assert!(matches!(error, GrpcError::PlainUrl(_)), "{error:?}");
}
