//! Commands to one host over gRPC, and commands that are not supported over gRPC.

use crate::support::GrpcFixture;

#[test]
fn starts_shows_and_stops_a_workload() {
    let fixture = GrpcFixture::start();
    let start = ["start", "--image", "reg/hello:1", "--id", "w"];
    let started = fixture.berthctl(&start).exits_with(0);
    assert!(started.stdout.contains("RUNNING"), "{started:?}");
    let again = fixture.berthctl(&start).exits_with(1);
    assert!(
        again.stderr.contains("the workload ID is in use"),
        "{again:?}"
    );
    let status = fixture
        .berthctl(&["status", "w", "-o", "json"])
        .exits_with(0);
    // Without `--host`, only the URL of the host is known.
    assert_eq!(status.json()["hostId"], fixture.url);
    let with_id = fixture.berthctl(&["status", "w", "--host", &fixture.host_id]);
    assert!(with_id.exits_with(0).stdout.contains(&fixture.host_id));
    // The host at this URL has another ID.
    let other = fixture
        .berthctl(&["status", "w", "--host", "other"])
        .exits_with(3);
    assert!(
        other.stderr.contains("no responders for the host"),
        "{other:?}"
    );
    let stopped = fixture.berthctl(&["stop", "w"]).exits_with(0);
    assert!(stopped.stdout.contains("NOT_FOUND"), "{stopped:?}");
}

#[test]
fn rejects_commands_that_are_unsupported_over_grpc() {
    let fixture = GrpcFixture::start();
    for arguments in [&["hosts"][..], &["watch"]] {
        let refused = fixture.berthctl(arguments).exits_with(2);
        let text = "cannot discover hosts over gRPC";
        assert!(refused.stderr.contains(text), "{refused:?}");
    }
    let refused = fixture.berthctl(&["heartbeat", "h1"]).exits_with(2);
    let text = "a heartbeat request is not supported over gRPC";
    assert!(refused.stderr.contains(text), "{refused:?}");
}
