//! Encoding of the commands that a scheduler publishes, for manifests that use most fields of the
//! schema.

use serde_json::{Value, json};

use crate::check::outcome::Flow;
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::manifest::Manifest;
use crate::scheduler::monitors;
use crate::spec::requirements::*;

/// Submits apps whose manifests use most fields of the schema, deletes them, and judges all
/// commands. A scheduler without the profile `manifests` may refuse the manifests of some apps.
pub(super) async fn every_field(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let plain = cx.deployment("plain", 1);
    cx.submit(&plain).await?;
    let mut submitted = Vec::new();
    let data = Manifest::data("ConfigMap", &cx.name("data"), &[("KEY", "other")]);
    // A scheduler without the profile `references` may refuse the ConfigMap.
    let _ = cx.try_submit(&data).await;
    for (app, manifest) in manifests(cx) {
        if cx.try_submit(&manifest).await.is_ok() {
            submitted.push((app, manifest));
        }
    }
    let plain_runs = cx.require_running("plain", 1, SCHED_SCALE_001).await;
    plain_runs?;
    for (app, _) in &submitted {
        // Without a start, there is nothing to judge.
        let _ = cx.wait_for_start(app, cx.timings().act).await;
    }
    for (_, manifest) in &submitted {
        cx.delete(manifest).await?;
    }
    cx.delete(&plain).await?;
    let stopped = cx.wait_for_running("plain", 0, cx.timings().act).await;
    stopped.or_blocked(cx, SCHED_STOP_001)?;
    judge_commands(cx);
    Ok(())
}

fn manifests(cx: &ScenarioContext) -> Vec<(&'static str, Manifest)> {
    let component = |resources: Value| {
        json!([{
            "name": "main", "image": "", "imagePullPolicy": "IfNotPresent", "poolSize": 2,
            "maxInvocations": 3, "maxConcurrency": 4, "localResources": resources,
        }])
    };
    let resources = json!({
        // All characters are in Latin-1, too.
        "environment": { "config": { "GREETING": "déjà vu" } },
        "config": { "mode": "à la carte" },
        "volumeMounts": [{ "name": "scratch", "mountPath": "/data", "readOnly": true }],
        "allowedHosts": ["https://api.example.com"],
    });
    let interfaces = json!([
        { "namespace": "wasi", "package": "http", "interfaces": ["incoming-handler"] },
        { "namespace": "wasi", "package": "keyvalue", "interfaces": ["store"], "name": "cache" },
    ]);
    let service = json!({
        "image": cx.image("full", 1), "imagePullPolicy": "Always", "maxRestarts": 3,
    });
    let with_image =
        |app: &'static str, manifest: Manifest| (app, manifest.image(&cx.image(app, 1)));
    let full = cx
        .deployment("full", 1)
        .spec("/components", component(resources))
        .spec("/volumes", json!([{ "name": "scratch", "ephemeral": {} }]))
        .spec("/hostInterfaces", interfaces)
        .spec("/service", service);
    let unknown = cx
        .deployment("unknown", 1)
        .spec(
            "/components",
            component(json!({ "futureField": 1, "futureList": ["x"] })),
        )
        .spec("/components/0/futureField", json!({ "a": [1] }))
        .spec("/futureField", json!(true));
    let environment = json!({ "environment": {
        "config": { "KEY": "inline" }, "configFrom": [{ "name": cx.name("data") }],
    } });
    let overridden = cx
        .deployment("overridden", 1)
        .spec("/components", component(environment));
    vec![
        with_image("full", full),
        with_image("unknown", unknown),
        with_image("overridden", overridden),
    ]
}

/// Judges all commands that the hosts have received.
fn judge_commands(cx: &ScenarioContext) {
    for (command, message) in [
        ("workload.start", "WorkloadStartRequest"),
        ("workload.stop", "WorkloadStopRequest"),
        ("workload.status", "WorkloadStatusRequest"),
    ] {
        for (_, received) in cx.journal().commands(command) {
            for judgment in monitors::judge_encoding(&received.payload, message) {
                cx.claim(*judgment.requirement).holds(
                    &judgment.expected,
                    judgment.actual.is_none(),
                    || judgment.actual.clone().unwrap_or_default(),
                );
            }
        }
    }
}
