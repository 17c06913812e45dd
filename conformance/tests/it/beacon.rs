//! The beacon server, called by a bare client.

use std::time::Duration;

use berth_conformance::testbed::beacon::Beacons;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const SOON: Duration = Duration::from_secs(10);

/// The status line of a GET.
async fn call(authority: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(authority).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn words_are_counted_for_their_token_only() {
    let beacons = Beacons::start().await.unwrap();
    let (mine, other) = (beacons.beacon(), beacons.beacon());
    let (authority, token) = mine.value.split_once('/').unwrap();
    assert_eq!(authority, beacons.authority());
    for word in ["up", "beat", "beat"] {
        assert_eq!(
            call(authority, &format!("/{token}/{word}")).await,
            "HTTP/1.1 200 OK"
        );
    }
    assert_eq!(mine.count("beat"), 2);
    let words: Vec<_> = mine.hits().into_iter().map(|hit| hit.what).collect();
    assert_eq!(words, ["up", "beat", "beat"]);
    assert!(mine.hits().is_sorted_by_key(|hit| hit.at));
    assert_eq!(other.hits(), []);
    let long = "x".repeat(100);
    for path in [
        "/",
        "/nobody/up",
        &format!("/{token}"),
        &format!("/{token}/{long}"),
    ] {
        assert_eq!(
            call(authority, path).await,
            "HTTP/1.1 404 Not Found",
            "{path}"
        );
    }
    assert_eq!(mine.hits().len(), 3);
}

#[tokio::test]
async fn waiting_ends_with_the_word_or_tells_what_was_heard() {
    let beacons = Beacons::start().await.unwrap();
    let beacon = beacons.beacon();
    let path = format!("/{}/up", beacon.value.split_once('/').unwrap().1);
    let (heard, _) = tokio::join!(beacon.wait("up", 2, SOON), async {
        call(beacons.authority(), &path).await;
        call(beacons.authority(), &path).await;
    });
    assert_eq!(heard.unwrap().len(), 2);
    let silence = beacon
        .wait("down", 1, Duration::from_millis(50))
        .await
        .unwrap_err();
    let told = silence.to_string();
    assert!(
        told.contains("`down` 1 times") && told.contains("`up` 2 times"),
        "{told}"
    );
    let authority = beacons.authority().to_owned();
    drop(beacons);
    tokio::time::timeout(SOON, async {
        while TcpStream::connect(&authority).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert_eq!(beacon.hits().len(), 2);
}
