//! The directory as people use it.

use crate::stage::{Stage, deployment, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_changes_nothing() {
    let stage = Stage::set().await;
    let _host = stage.host("host-1");
    let scheduler = stage.scheduler();
    stage.put("a.yaml", &deployment("a", 1, "registry.example/hello:1"));
    stage.runs(1).await;
    let before = stage.record.ids();
    stage.put("a.yaml", "apiVersion: [");
    // What comes after it is followed, so it has been looked at.
    stage.put("b.yaml", &deployment("b", 1, "registry.example/hello:1"));
    stage.runs(2).await;
    assert!(stage.record.ids().is_superset(&before));
    assert_eq!(stage.record.stops().len(), 0);
    stage.put("a.yaml", &deployment("a", 0, "registry.example/hello:1"));
    let mended = || stage.record.ids().is_disjoint(&before);
    eventually(mended, || format!("{:?}", stage.record.running())).await;
    scheduler.stop().await;
}
