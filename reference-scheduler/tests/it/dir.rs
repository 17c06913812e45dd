//! The directory store with a running scheduler.

use crate::fixture::{Fixture, deployment, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn invalid_manifest_changes_nothing() {
    let fixture = Fixture::new().await;
    let _host = fixture.host("host-1");
    let scheduler = fixture.scheduler();
    fixture.write_manifest("a.yaml", &deployment("a", 1, "registry.example/hello:1"));
    fixture.wait_for_running(1).await;
    let before = fixture.record.ids();
    fixture.write_manifest("a.yaml", "apiVersion: [");
    // Once the later manifest `b.yaml` takes effect, the invalid `a.yaml` has been scanned.
    fixture.write_manifest("b.yaml", &deployment("b", 1, "registry.example/hello:1"));
    fixture.wait_for_running(2).await;
    assert!(fixture.record.ids().is_superset(&before));
    assert_eq!(fixture.record.stops().len(), 0);
    fixture.write_manifest("a.yaml", &deployment("a", 0, "registry.example/hello:1"));
    let repaired = || fixture.record.ids().is_disjoint(&before);
    eventually(repaired, || format!("{:?}", fixture.record.running())).await;
    scheduler.stop().await;
}
