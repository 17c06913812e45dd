//! What is left alone, what is kept, what is shown: other namespaces, artifacts, figures, a fleet at rest.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::objects::artifact;
use super::{cluster, finalizers, find, host_object, look, text, trouble};
use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::manifest::Key;
use crate::spec::requirements::*;

/// How long nothing may be written: longer than the pauses of ordinary loops.
const REST: Duration = Duration::from_secs(12);

pub(super) async fn other_namespace(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    let foreign = cx.workload("foreign").namespace("elsewhere");
    cx.submit(&foreign).await?;
    // One that it is in charge of goes on, and came later.
    cx.deployed("app", 1, SCHED_SCALE_001).await?;
    cx.no_start(SCHED_KUBE_013, "foreign").await;
    let object = look(cx, &foreign.key()).await.map_err(Blocked::Harness)?;
    let status = object.get("status").cloned().unwrap_or_default();
    cx.claim(SCHED_KUBE_013).holds(
        "it is as it was submitted",
        finalizers(&object).is_empty() && status.is_null(),
        || format!("finalizers {:?}, status {status}", finalizers(&object)),
    );
    Ok(())
}

pub(super) async fn host_figures(cx: &ScenarioContext) -> Flow {
    let host = cx
        .host(cx.plan("a").fact("version", json!("9.8.7")))
        .await?;
    let shown = |what: &'static str, pointer: &'static str, expected: Value| {
        let host = &host;
        cx.eventually(cx.timings().show, what, move || {
            let expected = expected.clone();
            async move {
                let object = host_object(cx, &host.id()).await?;
                let said = object.pointer(pointer).cloned().unwrap_or_default();
                match said == expected {
                    true => Ok(()),
                    false => Err(format!("{said} instead of {expected}")),
                }
            }
        })
    };
    let version = shown("its version is shown", "/status/version", json!("9.8.7")).await;
    if cx.claim(SCHED_KUBE_014).met(version).is_none() {
        return Ok(());
    }
    for (number, percent, free) in [(1, 33.5, 5_000_000_000_i64), (2, 71.0, 4_000_000_000)] {
        host.fact("systemCpuUsage", json!(percent));
        host.fact("systemMemoryFree", json!(free.to_string()));
        host.fact("workloadCount", json!(number.to_string()));
        for (what, pointer, expected) in [
            (
                "free memory is shown",
                "/status/systemMemoryFree",
                json!(free),
            ),
            (
                "the workloads are counted",
                "/status/workloadCount",
                json!(number),
            ),
        ] {
            let seen = shown(what, pointer, expected).await;
            cx.claim(SCHED_KUBE_014).met(seen);
        }
    }
    let kept = cx.consistently(Duration::from_secs(3), "the figures stay", || async {
        let object = host_object(cx, &host.id()).await?;
        let status = object.get("status").cloned().unwrap_or_default();
        let names = ["version", "osArch", "osName", "osKernel", "systemCPUUsage"];
        let placeholder = names.into_iter().find(|name| {
            let said = text(&status, &format!("/{name}")).to_owned();
            matches!(said.as_str(), "" | "unknown")
        });
        match placeholder {
            None => Ok(()),
            Some(name) => Err(format!("{name} in {status}")),
        }
    });
    cx.claim(SCHED_KUBE_014).met(kept.await);
    Ok(())
}

pub(super) async fn artifact_in_use(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    let artifact = artifact(cx, "image");
    cx.submit(&artifact).await?;
    let app = cx.deployment("app", 1).image("artifact://web").with(
        "/spec/artifacts",
        json!([{ "name": "web", "artifactFrom": { "name": artifact.key().name } }]),
    );
    cx.submit(&app).await?;
    cx.placed("app", 1, SCHED_CRD_007).await?;
    let cluster = cluster(cx)?;
    cluster
        .remove(&artifact.key(), false)
        .await
        .map_err(trouble)?;
    let stays = cx.consistently(Duration::from_secs(2), "the artifact stays", || async {
        look(cx, &artifact.key()).await.map(|_| ())
    });
    cx.claim(SCHED_KUBE_015).met(stays.await);
    cluster.set_scale(&app.key(), 2).await.map_err(trouble)?;
    let more = cx.runs("app", 2, cx.timings().act).await;
    cx.claim(SCHED_KUBE_015).met(more);
    cx.withdraw(&app).await?;
    let within = cx.timings().act + cx.timings().show;
    let gone = cx.eventually(within, "it goes with its last user", || async {
        match look(cx, &artifact.key()).await {
            Err(_) => Ok(()),
            Ok(object) => Err(format!("finalizers {:?}", finalizers(&object))),
        }
    });
    cx.claim(SCHED_KUBE_015).met(gone.await);
    Ok(())
}

pub(super) async fn at_rest(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    let (app, _) = cx.deployed("app", 2, SCHED_SCALE_001).await?;
    cx.says_ready(&app, true, cx.timings().show)
        .await
        .or_blocked(cx, SCHED_CRD_011)?;
    // The last counts may still be on their way.
    cx.pass(Duration::from_secs(2)).await;
    let before = versions(cx).await.map_err(Blocked::Harness)?;
    let calm = cx.consistently(REST, "nothing is written", || async {
        let now = versions(cx).await?;
        let written = now
            .iter()
            .find(|(key, version)| before.get(*key) != Some(version));
        match written {
            None => Ok(()),
            Some((key, _)) => Err(format!("{key} was written")),
        }
    });
    cx.claim(SCHED_KUBE_016).met(calm.await);
    Ok(())
}

/// The versions of what was made for the app.
async fn versions(cx: &ScenarioContext) -> Result<BTreeMap<Key, String>, String> {
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
