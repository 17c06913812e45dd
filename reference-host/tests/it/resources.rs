//! Resources of guests: memory, environment, network, volumes.

use berth_conformance::spec::roles::Role;
use berth_sdk::host::Host;
use berth_sdk::proto::volume::VolumeType;
use berth_sdk::proto::{EmptyDirVolume, HostPathVolume, LocalResources, Volume, VolumeMount};
use tokio::net::TcpListener;

use crate::fixture::{Fixture, resources_with_beacon, within};

#[tokio::test(flavor = "multi_thread")]
async fn enforces_memory_limit() {
    let fixture = Fixture::new().await;
    let limited = LocalResources {
        memory_limit_mb: 32,
        ..Default::default()
    };
    let _small = fixture
        .start(fixture.http_workload(Role::HttpAlloc, "small.test", limited))
        .await
        .unwrap();
    assert_eq!(fixture.get("small.test", "/16").await.body, "ok");
    assert_eq!(fixture.get("small.test", "/64").await.body, "refused");
    let unset = LocalResources::default();
    let _large = fixture
        .start(fixture.http_workload(Role::HttpAlloc, "large.test", unset))
        .await
        .unwrap();
    assert_eq!(fixture.get("large.test", "/250").await.body, "ok");
    assert_eq!(fixture.get("large.test", "/endless").await.status, 500);
    assert_eq!(fixture.get("large.test", "/1").await.body, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_together_stay_within_the_memory_of_the_host() {
    let fixture = Fixture::with_guest_memory_mib(100).await;
    let alloc = fixture.http_workload(Role::HttpAlloc, "alloc.test", LocalResources::default());
    let alloc = fixture.start(alloc).await.unwrap();
    assert_eq!(fixture.get("alloc.test", "/64").await.body, "ok");
    // Memory that is free again can be used again.
    assert_eq!(fixture.get("alloc.test", "/64").await.body, "ok");
    assert_eq!(fixture.get("alloc.test", "/128").await.body, "refused");
    // The guest traps when it gets no more, although it is far below its own limit.
    let response = fixture.get("alloc.test", "/endless").await;
    assert_eq!(
        (response.status, response.header("retry-after")),
        (503, Some("1"))
    );
    within(fixture.host.stop(alloc)).await;
    let tiny = Fixture::with_guest_memory_mib(0).await;
    let hello = tiny.http_workload(Role::Hello, "hello.test", LocalResources::default());
    let _hello = tiny.start(hello).await.unwrap();
    assert_eq!(tiny.get("hello.test", "/").await.status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn environment_contains_declared_variables_only() {
    let fixture = Fixture::new().await;
    let environment = [
        ("A".to_owned(), "1".to_owned()),
        ("B".to_owned(), "2".to_owned()),
    ]
    .into();
    let resources = LocalResources {
        environment,
        ..Default::default()
    };
    let _env = fixture
        .start(fixture.http_workload(Role::HttpEnv, "env.test", resources))
        .await
        .unwrap();
    assert_eq!(
        fixture.get("env.test", "/").await.body.trim_end(),
        "A=1\nB=2"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn outgoing_requests_need_an_allow_list_entry() {
    let fixture = Fixture::new().await;
    // The guest sends its request to the ingress itself, which has no route for it and responds
    // with 404.
    let authority = fixture.address.to_string();
    let mut allowed = resources_with_beacon(&authority);
    allowed.allowed_hosts.push(authority.clone());
    let mut other = resources_with_beacon(&authority);
    other.allowed_hosts.push("127.0.0.1:1".into());
    for (host, resources, expected) in [
        ("allowed.test", allowed, "404"),
        ("other.test", other, "denied"),
        ("none.test", resources_with_beacon(&authority), "denied"),
    ] {
        let _fetch = fixture
            .start(fixture.http_workload(Role::HttpFetch, host, resources))
            .await
            .unwrap();
        assert_eq!(fixture.get(host, "/").await.body, expected, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wildcard_entry_does_not_open_the_loopback() {
    let fixture = Fixture::new().await;
    let port = fixture.address.port();
    for (host, entry, target, expected) in [
        ("a.test", "*", format!("127.0.0.1:{port}"), "denied"),
        ("b.test", "*", format!("localhost:{port}"), "denied"),
        ("c.test", "*", format!("2130706433:{port}"), "denied"),
        ("d.test", "localhost", format!("localhost:{port}"), "404"),
        (
            "e.test",
            "good.test",
            format!("good.test@localhost:{port}"),
            "denied",
        ),
    ] {
        let mut resources = resources_with_beacon(&target);
        resources.allowed_hosts.push(entry.into());
        let spec = fixture.http_workload(Role::HttpFetch, host, resources.clone());
        let _fetch = fixture.start(spec).await.unwrap();
        assert_eq!(
            fixture.get(host, "/").await.body,
            expected,
            "{entry} {target}"
        );
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut resources = resources_with_beacon(&format!("{}/x", listener.local_addr().unwrap()));
    resources.allowed_hosts.push("*".into());
    let spec = fixture.http_workload(Role::HttpSocket, "socket.test", resources);
    let _socket = fixture.start(spec).await.unwrap();
    assert_eq!(fixture.get("socket.test", "/").await.body, "denied");
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_need_an_allow_list_entry() {
    let fixture = Fixture::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let target = format!("{address}/x");
    let mut by_port = resources_with_beacon(&target);
    by_port
        .allowed_host_loopback_ports
        .push(format!("{}/tcp", address.port()));
    let mut by_host = resources_with_beacon(&target);
    by_host.allowed_hosts.push(address.to_string());
    let mut udp_only = resources_with_beacon(&target);
    udp_only
        .allowed_host_loopback_ports
        .push(format!("{}/udp", address.port()));
    for (host, resources, expected) in [
        ("port.test", by_port, "open"),
        ("host.test", by_host, "open"),
        ("udp.test", udp_only, "denied"),
        ("none.test", resources_with_beacon(&target), "denied"),
    ] {
        let _socket = fixture
            .start(fixture.http_workload(Role::HttpSocket, host, resources))
            .await
            .unwrap();
        assert_eq!(fixture.get(host, "/").await.body, expected, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusal_names_each_malformed_allow_list_entry() {
    let fixture = Fixture::new().await;
    let resources = LocalResources {
        allowed_hosts: vec!["*com".into(), "fine.test".into()],
        allowed_host_loopback_ports: vec!["99999".into()],
        ..Default::default()
    };
    let message = fixture
        .start_error(fixture.http_workload(Role::Hello, "a.test", resources))
        .await;
    for part in [
        "`*com`",
        "`99999`",
        "allowedHosts",
        "allowedHostLoopbackPorts",
        "hello",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
}

const READ_WRITE: bool = false;
const READ_ONLY: bool = true;

/// Returns resources with the volume `name` mounted at `/data`.
fn with_mount(name: &str, read_only: bool) -> LocalResources {
    let mount = VolumeMount {
        name: name.into(),
        mount_path: "/data".into(),
        read_only,
    };
    LocalResources {
        volume_mounts: vec![mount],
        ..Default::default()
    }
}

fn empty_dir(name: &str) -> Volume {
    let volume_type = Some(VolumeType::EmptyDir(EmptyDirVolume {}));
    Volume {
        name: name.into(),
        volume_type,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_dir_is_private_to_its_workload() {
    let fixture = Fixture::new().await;
    let mut instances = Vec::new();
    for host in ["one.test", "two.test"] {
        let mut spec =
            fixture.http_workload(Role::HttpFiles, host, with_mount("scratch", READ_WRITE));
        spec.volumes.push(empty_dir("scratch"));
        instances.push(fixture.start(spec).await.unwrap());
    }
    assert_eq!(fixture.get("one.test", "/list").await.body, "1");
    assert_eq!(fixture.get("one.test", "/write/file").await.body, "ok");
    assert_eq!(fixture.get("one.test", "/read/file").await.body, "berth");
    assert_eq!(fixture.get("two.test", "/read/file").await.body, "denied");
    for instance in instances {
        within(fixture.host.stop(instance)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_host_path_read_only() {
    let fixture = Fixture::new().await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), "content").unwrap();
    let path = directory.path().to_str().unwrap().to_owned();
    let volume = |path: &str| {
        let host_path = HostPathVolume {
            local_path: path.into(),
        };
        Volume {
            name: "data".into(),
            volume_type: Some(VolumeType::HostPath(host_path)),
        }
    };
    let mut spec =
        fixture.http_workload(Role::HttpFiles, "files.test", with_mount("data", READ_ONLY));
    spec.volumes.push(volume(&path));
    let _files = fixture.start(spec.clone()).await.unwrap();
    assert_eq!(
        fixture.get("files.test", "/read/file").await.body,
        "content"
    );
    assert_eq!(
        fixture.get("files.test", "/write/other").await.body,
        "denied"
    );
    assert!(!directory.path().join("other").exists());

    spec.volumes = vec![volume("/nonexistent")];
    let message = fixture.start_error(spec.clone()).await;
    assert!(message.contains("/nonexistent"), "{message}");
    spec.volumes.clear();
    let message = fixture.start_error(spec).await;
    assert!(message.contains("`data`"), "{message}");
}
