//! A guest gets what its workload gives it, and nothing else.

use crate::role::Role;
use berth_sdk::host::Host;
use berth_sdk::proto::volume::VolumeType;
use berth_sdk::proto::{EmptyDirVolume, HostPathVolume, LocalResources, Volume, VolumeMount};
use tokio::net::TcpListener;

use crate::stage::{Stage, environment, within};

#[tokio::test(flavor = "multi_thread")]
async fn memory_ends_at_its_limit() {
    let stage = Stage::set().await;
    let limited = LocalResources {
        memory_limit_mb: 32,
        ..Default::default()
    };
    let _small = stage
        .start(stage.http(Role::HttpAlloc, "small.test", limited))
        .await
        .unwrap();
    assert_eq!(stage.get("small.test", "/16").await.body, "ok");
    assert_eq!(stage.get("small.test", "/64").await.body, "refused");
    let unset = LocalResources::default();
    let _large = stage
        .start(stage.http(Role::HttpAlloc, "large.test", unset))
        .await
        .unwrap();
    assert_eq!(stage.get("large.test", "/250").await.body, "ok");
    assert_eq!(stage.get("large.test", "/endless").await.status, 500);
    assert_eq!(stage.get("large.test", "/1").await.body, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_what_was_given() {
    let stage = Stage::set().await;
    let environment = [
        ("A".to_owned(), "1".to_owned()),
        ("B".to_owned(), "2".to_owned()),
    ]
    .into();
    let resources = LocalResources {
        environment,
        ..Default::default()
    };
    let _env = stage
        .start(stage.http(Role::HttpEnv, "env.test", resources))
        .await
        .unwrap();
    assert_eq!(stage.get("env.test", "/").await.body.trim_end(), "A=1\nB=2");
}

#[tokio::test(flavor = "multi_thread")]
async fn outgoing_requests_need_an_entry() {
    let stage = Stage::set().await;
    // The ingress itself is the peer: without a route it answers 404.
    let authority = stage.address.to_string();
    let mut allowed = environment(&authority);
    allowed.allowed_hosts.push(authority.clone());
    let mut other = environment(&authority);
    other.allowed_hosts.push("127.0.0.1:1".into());
    for (host, resources, expected) in [
        ("allowed.test", allowed, "404"),
        ("other.test", other, "denied"),
        ("none.test", environment(&authority), "denied"),
    ] {
        let _fetch = stage
            .start(stage.http(Role::HttpFetch, host, resources))
            .await
            .unwrap();
        assert_eq!(stage.get(host, "/").await.body, expected, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_need_an_entry() {
    let stage = Stage::set().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let target = format!("{address}/x");
    let mut by_port = environment(&target);
    by_port
        .allowed_host_loopback_ports
        .push(format!("{}/tcp", address.port()));
    let mut by_host = environment(&target);
    by_host.allowed_hosts.push(address.to_string());
    let mut udp_only = environment(&target);
    udp_only
        .allowed_host_loopback_ports
        .push(format!("{}/udp", address.port()));
    for (host, resources, expected) in [
        ("port.test", by_port, "open"),
        ("host.test", by_host, "open"),
        ("udp.test", udp_only, "denied"),
        ("none.test", environment(&target), "denied"),
    ] {
        let _socket = stage
            .start(stage.http(Role::HttpSocket, host, resources))
            .await
            .unwrap();
        assert_eq!(stage.get(host, "/").await.body, expected, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_allow_lists_are_refused_by_entry() {
    let stage = Stage::set().await;
    let resources = LocalResources {
        allowed_hosts: vec!["*com".into(), "fine.test".into()],
        allowed_host_loopback_ports: vec!["99999".into()],
        ..Default::default()
    };
    let message = stage
        .refusal(stage.http(Role::Hello, "a.test", resources))
        .await;
    for part in [
        "'*com'",
        "'99999'",
        "allowedHosts",
        "allowedHostLoopbackPorts",
        "hello",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
}

fn mounted(name: &str, read_only: bool) -> LocalResources {
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
async fn an_empty_dir_is_private_and_goes_with_its_workload() {
    let stage = Stage::set().await;
    let mut files = Vec::new();
    for host in ["one.test", "two.test"] {
        let mut spec = stage.http(Role::HttpFiles, host, mounted("scratch", false));
        spec.volumes.push(empty_dir("scratch"));
        files.push(stage.start(spec).await.unwrap());
    }
    assert_eq!(stage.get("one.test", "/list").await.body, "1");
    assert_eq!(stage.get("one.test", "/write/file").await.body, "ok");
    assert_eq!(stage.get("one.test", "/read/file").await.body, "berth");
    assert_eq!(stage.get("two.test", "/read/file").await.body, "denied");
    for workload in files {
        within(stage.host.stop(workload)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_path_is_mounted_as_it_says() {
    let stage = Stage::set().await;
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
    let mut spec = stage.http(Role::HttpFiles, "files.test", mounted("data", true));
    spec.volumes.push(volume(&path));
    let _files = stage.start(spec.clone()).await.unwrap();
    assert_eq!(stage.get("files.test", "/read/file").await.body, "content");
    assert_eq!(stage.get("files.test", "/write/other").await.body, "denied");
    assert!(!directory.path().join("other").exists());

    spec.volumes = vec![volume("/nonexistent")];
    let message = stage.refusal(spec.clone()).await;
    assert!(message.contains("/nonexistent"), "{message}");
    spec.volumes.clear();
    let message = stage.refusal(spec).await;
    assert!(message.contains("'data'"), "{message}");
}
