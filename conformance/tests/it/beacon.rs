//! The beacon server with a plain HTTP client.

use std::time::Duration;

use berth_conformance::testbed::beacon::BeaconServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(10);

/// Sends a GET request and returns the status line.
async fn get(authority: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(authority).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn counts_beacons_per_token() {
    let beacons = BeaconServer::start().await.unwrap();
    let (beacon, other) = (beacons.new_beacon(), beacons.new_beacon());
    let (authority, token) = beacon.value.split_once('/').unwrap();
    assert_eq!(authority, beacons.authority());
    for name in ["up", "ping", "ping"] {
        assert_eq!(
            get(authority, &format!("/{token}/{name}")).await,
            "HTTP/1.1 200 OK"
        );
    }
    assert_eq!(beacon.count("ping"), 2);
    let names: Vec<_> = beacon.hits().into_iter().map(|hit| hit.name).collect();
    assert_eq!(names, ["up", "ping", "ping"]);
    assert!(beacon.hits().is_sorted_by_key(|hit| hit.at));
    assert_eq!(other.hits(), []);
    let too_long = "x".repeat(100);
    for path in [
        "/",
        "/unknown/up",
        &format!("/{token}"),
        &format!("/{token}/{too_long}"),
    ] {
        assert_eq!(
            get(authority, path).await,
            "HTTP/1.1 404 Not Found",
            "{path}"
        );
    }
    assert_eq!(beacon.hits().len(), 3);
}

#[tokio::test]
async fn wait_returns_expected_beacons_or_reports_received_ones() {
    let beacons = BeaconServer::start().await.unwrap();
    let beacon = beacons.new_beacon();
    let path = format!("/{}/up", beacon.value.split_once('/').unwrap().1);
    let (hits, _) = tokio::join!(beacon.wait("up", 2, LIMIT), async {
        get(beacons.authority(), &path).await;
        get(beacons.authority(), &path).await;
    });
    assert_eq!(hits.unwrap().len(), 2);
    let error = beacon
        .wait("down", 1, Duration::from_millis(50))
        .await
        .unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("`down` 1 times") && message.contains("`up` 2 times"),
        "{message}"
    );
    let authority = beacons.authority().to_owned();
    drop(beacons);
    tokio::time::timeout(LIMIT, async {
        while TcpStream::connect(&authority).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert_eq!(beacon.hits().len(), 2);
}

#[tokio::test]
async fn hold_withholds_responses_until_it_is_dropped() {
    let beacons = BeaconServer::start().await.unwrap();
    let (beacon, other) = (beacons.new_beacon(), beacons.new_beacon());
    let path = |value: &str| format!("/{}/up", value.split_once('/').unwrap().1);
    let (held_path, other_path) = (path(&beacon.value), path(&other.value));
    let hold = beacon.hold();
    let mut held = std::pin::pin!(get(beacons.authority(), &held_path));
    tokio::select! {
        response = &mut held => panic!("{response} during the hold"),
        hits = beacon.wait("up", 1, LIMIT) => assert_eq!(hits.unwrap().len(), 1),
    }
    assert_eq!(
        get(beacons.authority(), &other_path).await,
        "HTTP/1.1 200 OK"
    );
    drop(hold);
    assert_eq!(held.await, "HTTP/1.1 200 OK");
    assert_eq!(
        get(beacons.authority(), &held_path).await,
        "HTTP/1.1 200 OK"
    );
}
