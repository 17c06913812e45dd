//! The protocol over gRPC, on real sockets: the same commands, responses and errors as over NATS.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use berth_sdk::ConnectOptions;
use berth_sdk::bus::Bus;
use berth_sdk::connect::TlsFileError;
use berth_sdk::grpc::{
    Channel, ChannelOptions, ClientTls, GrpcError, Heartbeats, HostEndpoints, Listener, ServerTls,
};
use berth_sdk::host::{Connection, ServeOptions};
use berth_sdk::proto::{Component, Service, WitWorld, Workload, WorkloadState};
use berth_sdk::scheduler::{
    ClientError, Fleet, FleetEvent, FleetOptions, Health, HostClient, Timeouts,
};

use crate::support::brokers::TestBroker;
use crate::support::certificates::CertificateFiles;
use crate::support::fake_host::RunningHost;
use crate::support::{MAX_IN_FLIGHT, eventually, within_timeout};

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

async fn listener() -> Listener {
    Listener::bind(loopback(), None).await.unwrap()
}

fn endpoints(listener: Listener) -> HostEndpoints {
    HostEndpoints {
        listener: Some(listener),
        ..HostEndpoints::default()
    }
}

/// Starts a host without NATS, and returns it with its URL.
async fn host() -> (RunningHost, String) {
    let listener = listener().await;
    let url = listener.url("127.0.0.1");
    let connection = Connection::over_grpc(endpoints(listener));
    (
        RunningHost::start_with_connection(connection, ServeOptions::default()),
        url,
    )
}

async fn channel(url: &str) -> Channel {
    Channel::open(&ChannelOptions::to(url)).await.unwrap()
}

async fn client(url: &str) -> HostClient {
    HostClient::over_grpc(channel(url).await, None)
}

/// Returns a workload with this name, which selects the behavior of the fake host.
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
async fn commands_a_host() {
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
    let failed = client.start("b", &named("fail-start")).await.unwrap_err();
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
    eventually("the workload is gone", async || {
        let status = client.status("a").await.unwrap();
        (status.state == WorkloadState::NotFound).then_some(())
    })
    .await;
    assert_eq!(
        client.stop("a").await.unwrap().state,
        WorkloadState::NotFound
    );
    host.shut_down();
    host.join().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_transports_reach_the_same_workloads() {
    let broker = TestBroker::embedded(1024 * 1024).await;
    let bus = Bus::connect(&ConnectOptions::to(broker.url()))
        .await
        .unwrap();
    let listener = listener().await;
    let url = listener.url("127.0.0.1");
    let connection =
        Connection::from(ConnectOptions::to(broker.url())).with_grpc(endpoints(listener));
    let host = RunningHost::start_with_connection(connection, ServeOptions::default());
    let over_nats = HostClient::new(bus, host.id.as_str()).unwrap();
    eventually("the host responds", async || {
        over_nats.heartbeat().await.ok()
    })
    .await;
    let over_grpc = client(&url).await;
    let odd = "a b/../\u{e9} \n\u{0}";
    over_nats.start(odd, &named("run")).await.unwrap();
    let again = over_grpc.start(odd, &named("run")).await.unwrap_err();
    let again_over_nats = over_nats.start(odd, &named("run")).await.unwrap_err();
    assert_eq!(again, again_over_nats);
    assert_eq!(over_grpc.status(odd).await, over_nats.status(odd).await);
    let heartbeat = over_nats.heartbeat().await.unwrap();
    assert_eq!(heartbeat.workload_count, 1);
    over_grpc.stop(odd).await.unwrap();
    eventually("the workload is gone", async || {
        let status = over_nats.status(odd).await.unwrap();
        (status.state == WorkloadState::NotFound).then_some(())
    })
    .await;
    host.shut_down();
    host.join().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_invalid_commands_with_codes() {
    let (_host, url) = host().await;
    let client = client(&url).await;
    let long = "x".repeat(257);
    assert_eq!(code(&client.status("").await.unwrap_err()), Some(400));
    assert_eq!(code(&client.stop(&long).await.unwrap_err()), Some(413));
    let restarts_forever = Workload {
        service: Some(Service {
            max_restarts: u64::MAX,
            ..Service::default()
        }),
        ..Workload::default()
    };
    let unknown_policy = Workload {
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
        (restarts_forever, "workload.service.maxRestarts"),
        (
            unknown_policy,
            "workload.witWorld.components[0].imagePullPolicy",
        ),
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
async fn distinguishes_failures() {
    let (host, url) = host().await;
    let client_with_id = HostClient::over_grpc(channel(&url).await, Some(host.id.clone()));
    assert!(client_with_id.status("a").await.is_ok());
    let other = HostClient::over_grpc(channel(&url).await, Some("other".into()));
    let started = other.start("a", &named("run")).await;
    assert_eq!(started, Err(ClientError::NoResponders));
    assert!(
        host.live_ids().is_empty(),
        "the host executes only its own commands"
    );
    assert!(matches!(
        client_with_id.heartbeat().await,
        Err(ClientError::UnsupportedOverGrpc(_))
    ));
    let large = named(&"x".repeat(2 * 1024 * 1024));
    assert_eq!(
        client_with_id.start("a", &large).await,
        Err(ClientError::RequestTooLarge)
    );
    let short = Duration::from_millis(200);
    let timeouts = Timeouts {
        start: short,
        status: short,
        ..Timeouts::default()
    };
    let slow = client_with_id.with_timeouts(timeouts);
    let hanging = slow.start("h", &named("hang")).await;
    assert_eq!(hanging, Err(ClientError::Timeout { after: short }));
    assert_eq!(
        slow.status("h").await.unwrap().state,
        WorkloadState::Starting,
        "the start continues"
    );

    // A peer that accepts connections and never responds.
    let silent = tokio::net::TcpListener::bind(loopback()).await.unwrap();
    let address = silent.local_addr().unwrap();
    let unresponsive = client(&format!("http://{address}"))
        .await
        .with_timeouts(timeouts);
    assert_eq!(
        unresponsive.status("a").await,
        Err(ClientError::Timeout { after: short })
    );
    drop(silent);
    let absent = client(&format!("http://{address}")).await;
    assert_eq!(absent.status("a").await, Err(ClientError::NoResponders));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashed_host_loses_the_connection_then_has_no_responders() {
    let (host, url) = host().await;
    let client = client(&url).await;
    let pending = tokio::spawn({
        let client = client.clone();
        async move { client.start("h", &named("hang")).await }
    });
    eventually("the start is in progress", async || {
        (!host.live_ids().is_empty()).then_some(())
    })
    .await;
    host.crash().await;
    let cut = within_timeout("the call ends", pending).await.unwrap();
    assert!(
        matches!(cut, Err(ClientError::ConnectionLost { .. })),
        "{cut:?}"
    );
    eventually("no responders are left", async || {
        (client.status("h").await == Err(ClientError::NoResponders)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_releases_the_address_answers_pending_starts_and_stops_workloads() {
    let (host, url) = host().await;
    let client = client(&url).await;
    client.start("a", &named("run")).await.unwrap();
    let pending = tokio::spawn({
        let client = client.clone();
        async move { client.start("h", &named("hang")).await }
    });
    eventually("both workloads exist", async || {
        (host.live_ids().len() == 2).then_some(())
    })
    .await;
    host.shut_down();
    let live = host.live.clone();
    let response = within_timeout("the start gets a response", pending)
        .await
        .unwrap();
    assert_eq!(response.unwrap().state, WorkloadState::Stopping);
    host.join().await.unwrap();
    assert!(live.lock().unwrap().is_empty());
    assert_eq!(client.status("a").await, Err(ClientError::NoResponders));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn burst_is_bounded_and_status_never_waits() {
    let (host, url) = host().await;
    let client = client(&url).await;
    let mut starts = tokio::task::JoinSet::new();
    let excess = 88;
    for number in 0..MAX_IN_FLIGHT + excess {
        let client = client.clone();
        starts.spawn(async move { client.start(&number.to_string(), &named("hang")).await });
    }
    eventually("the host has reached its limit", async || {
        (host.live_ids().len() == MAX_IN_FLIGHT).then_some(())
    })
    .await;
    let requested_at = Instant::now();
    client.status("0").await.unwrap();
    assert!(requested_at.elapsed() < Duration::from_secs(5));
    let outcomes = within_timeout("all starts get a response", starts.join_all()).await;
    let starting = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Ok(status) if status.state == WorkloadState::Starting));
    assert_eq!(starting.count(), MAX_IN_FLIGHT);
    let errors = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    let overloaded = errors.filter(|error| code(error) == Some(503));
    assert_eq!(overloaded.count(), excess);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_reach_a_scheduler_that_starts_later() {
    let reserved = listener().await;
    let (address, scheduler) = (reserved.local_addr(), reserved.url("127.0.0.1"));
    drop(reserved);
    let listener = listener().await;
    let endpoints = HostEndpoints {
        schedulers: vec![channel(&scheduler).await],
        ..endpoints(listener)
    };
    let host = RunningHost::start_with_connection(
        Connection::over_grpc(endpoints),
        ServeOptions::default(),
    );
    let listener = Listener::bind(address, None).await.unwrap();
    let mut heartbeats = Heartbeats::listen(listener);
    let received = within_timeout("a heartbeat", heartbeats.next())
        .await
        .unwrap();
    assert_eq!(received.heartbeat.id, host.id);
    assert_eq!(received.heartbeat.hostname, "localhost");
    // The heartbeat names the URL of the host.
    let back = channel(&received.url.unwrap()).await;
    let client = HostClient::over_grpc(back, Some(host.id.clone()));
    client.start("a", &named("run")).await.unwrap();
    host.shut_down();
    host.join().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_and_commands_a_fleet_without_a_bus() {
    let listener_of_scheduler = listener().await;
    let scheduler = listener_of_scheduler.url("127.0.0.1");
    let heartbeats = Heartbeats::listen(listener_of_scheduler);
    let (fleet, mut events) =
        Fleet::watch_grpc(heartbeats, ClientTls::default(), FleetOptions::default());
    let endpoints = HostEndpoints {
        schedulers: vec![channel(&scheduler).await],
        ..endpoints(listener().await)
    };
    let host = RunningHost::start_with_connection(
        Connection::over_grpc(endpoints),
        ServeOptions::default(),
    );
    let joined = within_timeout("the host joins", events.next()).await;
    let Some(FleetEvent::Joined { host: joined }) = joined else {
        panic!("{joined:?}");
    };
    assert_eq!(joined.heartbeat.id, host.id);
    let client = fleet.client(&host.id).unwrap();
    client.start("a", &named("run")).await.unwrap();
    assert!(matches!(
        fleet.client("unknown"),
        Err(ClientError::Unreachable { .. })
    ));
    let id = host.id.clone();
    host.crash().await;
    eventually("the host is lost", async || {
        (fleet.host(&id)?.health == Health::Lost).then_some(())
    })
    .await;
}

const ANY_CLIENT: bool = false;
const ONLY_CLIENTS_WITH_CERTIFICATE: bool = true;

async fn tls_host(files: &CertificateFiles, require_client_cert: bool) -> (RunningHost, String) {
    let tls = ServerTls {
        cert_file: files.server_cert.clone(),
        key_file: files.server_key.clone(),
        client_ca_file: require_client_cert.then(|| files.ca.clone()),
    };
    let listener = Listener::bind(loopback(), Some(&tls)).await.unwrap();
    let url = listener.url("127.0.0.1");
    let connection = Connection::over_grpc(endpoints(listener));
    (
        RunningHost::start_with_connection(connection, ServeOptions::default()),
        url,
    )
}

async fn tls_client(url: &str, tls: ClientTls) -> HostClient {
    let options = ChannelOptions {
        tls,
        ..ChannelOptions::to(url)
    };
    HostClient::over_grpc(Channel::open(&options).await.unwrap(), None)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_requires_a_trusted_certificate_with_the_right_name() {
    let (_dir, files) = CertificateFiles::generate();
    let (_host, url) = tls_host(&files, ANY_CLIENT).await;
    let trusting = |ca: &std::path::Path| ClientTls {
        ca_file: Some(ca.to_owned()),
        ..ClientTls::default()
    };
    let trusted = tls_client(&url, trusting(&files.ca)).await;
    assert!(trusted.status("a").await.is_ok());
    let untrusted = tls_client(&url, trusting(&files.other_ca)).await;
    let refused = untrusted.status("a").await;
    assert!(
        matches!(refused, Err(ClientError::Unreachable { .. })),
        "{refused:?}"
    );
    let misnamed = ClientTls {
        server_name: Some("elsewhere.example".into()),
        ..trusting(&files.ca)
    };
    let misnamed = tls_client(&url, misnamed).await.status("a").await;
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
async fn mutual_tls_requires_a_client_certificate() {
    let (_dir, files) = CertificateFiles::generate();
    let (_host, url) = tls_host(&files, ONLY_CLIENTS_WITH_CERTIFICATE).await;
    let anonymous = ClientTls {
        ca_file: Some(files.ca.clone()),
        ..ClientTls::default()
    };
    let authenticated = ClientTls {
        cert_file: Some(files.client_cert.clone()),
        key_file: Some(files.client_key.clone()),
        ..anonymous.clone()
    };
    assert!(
        tls_client(&url, authenticated.clone())
            .await
            .status("a")
            .await
            .is_ok()
    );
    let refused = tls_client(&url, anonymous).await.status("a").await;
    assert!(
        matches!(
            refused,
            Err(ClientError::Unreachable { .. } | ClientError::ConnectionLost { .. })
        ),
        "{refused:?}"
    );
    let incomplete = ClientTls {
        key_file: None,
        ..authenticated
    };
    let options = ChannelOptions {
        tls: incomplete,
        ..ChannelOptions::to(&url)
    };
    assert!(matches!(
        Channel::open(&options).await,
        Err(GrpcError::TlsFiles(TlsFileError::IncompleteKeyPair))
    ));
}

#[tokio::test]
async fn unusable_tls_files_are_named() {
    let (dir, files) = CertificateFiles::generate();
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let tls = ClientTls {
        ca_file: Some(empty.clone()),
        ..ClientTls::default()
    };
    let options = ChannelOptions {
        tls,
        ..ChannelOptions::to("https://127.0.0.1:1")
    };
    let error = Channel::open(&options).await.unwrap_err().to_string();
    assert!(error.contains("empty.pem"), "{error}");
    for (cert_file, key_file, client_ca_file) in [
        (&empty, &files.server_key, None),
        (&files.server_cert, &empty, None),
        (&files.server_cert, &files.server_key, Some(empty.clone())),
    ] {
        let tls = ServerTls {
            cert_file: cert_file.clone(),
            key_file: key_file.clone(),
            client_ca_file,
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let error = Listener::bind(address, Some(&tls)).await.unwrap_err();
        assert!(error.to_string().contains("empty.pem"), "{error}");
    }
}

#[tokio::test]
async fn rejects_invalid_urls() {
    for invalid in [
        "",
        "127.0.0.1:80",
        "nats://127.0.0.1:4222",
        "http://ann:secret@127.0.0.1:80",
        "http://127.0.0.1:80/path",
    ] {
        let error = Channel::open(&ChannelOptions::to(invalid))
            .await
            .unwrap_err();
        assert!(
            matches!(error, GrpcError::InvalidUrl(_)),
            "{invalid}: {error:?}"
        );
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let plaintext = ChannelOptions {
        tls: ClientTls {
            ca_file: Some("ca.pem".into()),
            ..ClientTls::default()
        },
        ..ChannelOptions::to("http://127.0.0.1:80")
    };
    let error = Channel::open(&plaintext).await.unwrap_err();
    assert!(matches!(error, GrpcError::PlaintextUrl(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_beyond_the_limit_keep_out_nobody() {
    let (_dir, files) = CertificateFiles::generate();
    let (_plain_host, plain_url) = host().await;
    let (_tls_host, tls_url) = tls_host(&files, ANY_CLIENT).await;
    let trust = ClientTls {
        ca_file: Some(files.ca.clone()),
        ..ClientTls::default()
    };
    for (url, client) in [
        (&plain_url, client(&plain_url).await),
        (&tls_url, tls_client(&tls_url, trust).await),
    ] {
        let address = url.split_once("://").unwrap().1;
        let mut silent = Vec::new();
        for _ in 0..300 {
            silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
        }
        let status = within_timeout("status", client.status("a")).await.unwrap();
        assert_eq!(status.state, WorkloadState::NotFound, "{url}");
    }
}
