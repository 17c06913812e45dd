//! The commands to one host without NATS, and those that gRPC has no call for.

use crate::support::GrpcStage;

#[test]
fn a_workload_is_started_asked_for_and_stopped() {
    let stage = GrpcStage::set();
    let image = ["start", "--image", "reg/hello:1", "--id", "w"];
    let started = stage.berthctl(&image).with(0);
    assert!(started.out.contains("RUNNING"), "{started:?}");
    let again = stage.berthctl(&image).with(1);
    assert!(again.err.contains("the workload id is in use"), "{again:?}");
    let status = stage.berthctl(&["status", "w", "-o", "json"]).with(0);
    assert_eq!(status.json()["hostId"], stage.url);
    let meant = stage.berthctl(&["status", "w", "--host", &stage.host_id]);
    assert!(meant.with(0).out.contains(&stage.host_id));
    let other = stage.berthctl(&["status", "w", "--host", "other"]).with(3);
    assert!(other.err.contains("no host listens"), "{other:?}");
    let stopped = stage.berthctl(&["stop", "w"]).with(0);
    assert!(stopped.out.contains("NOT_FOUND"), "{stopped:?}");
}

#[test]
fn what_there_is_no_call_for_is_said() {
    let stage = GrpcStage::set();
    for arguments in [&["hosts"][..], &["watch"]] {
        let refused = stage.berthctl(arguments).with(2);
        let text = "gRPC has no call by which hosts are found";
        assert!(refused.err.contains(text), "{refused:?}");
    }
    let refused = stage.berthctl(&["heartbeat", "h1"]).with(2);
    let text = "gRPC has no call for a heartbeat on request";
    assert!(refused.err.contains(text), "{refused:?}");
}
