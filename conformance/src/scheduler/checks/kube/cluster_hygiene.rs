//! Cluster hygiene: objects of other namespaces, Artifacts in use, the status of Hosts, and no
//! writes when idle.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::objects::artifact;
use super::{cluster, cluster_error, finalizers, find, host_object, observe, text};
use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::manifest::Key;
use crate::spec::requirements::*;

/// Time for which nothing may be written. It is longer than the intervals of common reconcile
/// loops, so that a loop that writes without a change is detected.
const IDLE_WINDOW: Duration = Duration::from_secs(12);

/// Submits a workload in a namespace that the scheduler does not watch, and checks that the
/// scheduler neither starts nor changes it.
pub(super) async fn other_namespace(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let foreign = cx.workload("foreign").namespace("elsewhere");
    cx.submit(&foreign).await?;
    // A workload in the scheduler's own namespace, submitted later, shows that the scheduler works.
    cx.deploy("app", 1, SCHED_SCALE_001).await?;
    cx.assert_no_start(SCHED_KUBE_013, "foreign").await;
    let object = observe(cx, &foreign.key())
        .await
        .map_err(Blocked::Harness)?;
    let status = object.get("status").cloned().unwrap_or_default();
    cx.claim(SCHED_KUBE_013).holds(
        "the object has no finalizer and no status",
        finalizers(&object).is_empty() && status.is_null(),
        || format!("finalizers {:?}, status {status}", finalizers(&object)),
    );
    Ok(())
}

/// Changes the heartbeat of a host, and checks that the status of its Host object shows the new
/// values and no placeholders.
pub(super) async fn host_status(cx: &ScenarioContext) -> Flow {
    let host = cx
        .start_host(
            cx.host_config("a")
                .heartbeat_field("version", json!("9.8.7")),
        )
        .await?;
    let field_is = |description: &'static str, pointer: &'static str, expected: Value| {
        let host = &host;
        cx.eventually(cx.timings().show, description, move || {
            let expected = expected.clone();
            async move {
                let object = host_object(cx, &host.id()).await?;
                let actual = object.pointer(pointer).cloned().unwrap_or_default();
                if actual == expected {
                    Ok(())
                } else {
                    Err(format!("{actual} instead of {expected}"))
                }
            }
        })
    };
    let description = "the Host has the version of the heartbeat";
    let version = field_is(description, "/status/version", json!("9.8.7")).await;
    if cx.claim(SCHED_KUBE_014).met(version).is_none() {
        return Ok(());
    }
    for (number, percent, free) in [(1, 33.5, 5_000_000_000_i64), (2, 71.0, 4_000_000_000)] {
        host.set_heartbeat_field("systemCpuUsage", json!(percent));
        host.set_heartbeat_field("systemMemoryFree", json!(free.to_string()));
        host.set_heartbeat_field("workloadCount", json!(number.to_string()));
        for (description, pointer, expected) in [
            (
                "the Host has the free memory of the heartbeat",
                "/status/systemMemoryFree",
                json!(free),
            ),
            (
                "the Host has the workload count of the heartbeat",
                "/status/workloadCount",
                json!(number),
            ),
        ] {
            let reported = field_is(description, pointer, expected).await;
            cx.claim(SCHED_KUBE_014).met(reported);
        }
    }
    let description = "the Host keeps the fields of the heartbeat";
    let kept = cx.consistently(Duration::from_secs(3), description, || async {
        let object = host_object(cx, &host.id()).await?;
        let status = object.get("status").cloned().unwrap_or_default();
        let names = ["version", "osArch", "osName", "osKernel", "systemCPUUsage"];
        let placeholder = names.into_iter().find(|name| {
            let value = text(&status, &format!("/{name}")).to_owned();
            matches!(value.as_str(), "" | "unknown")
        });
        match placeholder {
            None => Ok(()),
            Some(name) => Err(format!("{name} is empty or unknown in {status}")),
        }
    });
    cx.claim(SCHED_KUBE_014).met(kept.await);
    Ok(())
}

/// Deletes an Artifact that a deployment uses, and checks that it remains usable until the
/// deployment is deleted.
pub(super) async fn artifact_in_use(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let artifact = artifact(cx, "image");
    cx.submit(&artifact).await?;
    let app = cx.deployment("app", 1).image("artifact://web").with(
        "/spec/artifacts",
        json!([{ "name": "web", "artifactFrom": { "name": artifact.key().name } }]),
    );
    cx.submit(&app).await?;
    cx.require_running("app", 1, SCHED_CRD_007).await?;
    let cluster = cluster(cx)?;
    cluster
        .delete(&artifact.key())
        .await
        .map_err(cluster_error)?;
    let description = "the Artifact exists while it is in use";
    let kept = cx.consistently(Duration::from_secs(2), description, || async {
        observe(cx, &artifact.key()).await.map(|_| ())
    });
    cx.claim(SCHED_KUBE_015).met(kept.await);
    cluster
        .set_scale(&app.key(), 2)
        .await
        .map_err(cluster_error)?;
    let running = cx.wait_for_running("app", 2, cx.timings().act).await;
    cx.claim(SCHED_KUBE_015).met(running);
    cx.delete(&app).await?;
    let within = cx.timings().act + cx.timings().show;
    let description = "the Artifact is deleted when no deployment uses it";
    let deleted = cx.eventually(within, description, || async {
        match observe(cx, &artifact.key()).await {
            Err(_) => Ok(()),
            Ok(object) => Err(format!(
                "the Artifact has the finalizers {:?}",
                finalizers(&object)
            )),
        }
    });
    cx.claim(SCHED_KUBE_015).met(deleted.await);
    Ok(())
}

/// Changes nothing for some time, and checks that the scheduler writes none of the app's objects.
pub(super) async fn idle(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (app, _) = cx.deploy("app", 2, SCHED_SCALE_001).await?;
    cx.wait_for_ready(&app, cx.timings().show)
        .await
        .or_blocked(cx, SCHED_CRD_011)?;
    // Wait for the last update of the counts.
    cx.wait(Duration::from_secs(2)).await;
    let before = resource_versions(cx).await.map_err(Blocked::Harness)?;
    let idle = cx.consistently(IDLE_WINDOW, "no object is written", || async {
        let now = resource_versions(cx).await?;
        let written = now
            .iter()
            .find(|(key, version)| before.get(*key) != Some(version));
        match written {
            None => Ok(()),
            Some((key, _)) => Err(format!("{key} was written")),
        }
    });
    cx.claim(SCHED_KUBE_016).met(idle.await);
    Ok(())
}

/// Returns the resource versions of the app's objects.
async fn resource_versions(cx: &ScenarioContext) -> Result<BTreeMap<Key, String>, String> {
    let mut versions = BTreeMap::new();
    let prefix = cx.name("app");
    for kind in ["WorkloadDeployment", "WorkloadReplicaSet", "Workload"] {
        let objects = find(cx, kind, |object| {
            text(object, "/metadata/name").starts_with(&prefix)
        });
        for object in objects.await? {
            let version = text(&object, "/metadata/resourceVersion").to_owned();
            versions.insert(Key::of(&object), version);
        }
    }
    Ok(versions)
}
