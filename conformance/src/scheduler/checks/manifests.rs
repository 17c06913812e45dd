//! Manifests: the effect of each field, and unusual values.

use serde_json::{Value, json};

use super::references::{sent_workload, value_at};
use super::rollout::wait_for_rollout;
use crate::check::outcome::Flow;
use crate::scheduler::context::{ScenarioContext, condition};
use crate::scheduler::manifest::{API_VERSION, Manifest};
use crate::scheduler::scenario::{Scenario, scenario};
use crate::spec::requirements::*;

/// Scenarios of the section `manifests`.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "manifests/every-field", run: every_field, covers: [SCHED_CRD_001, SCHED_CRD_002],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "manifests/unusual-values", run: unusual_values, covers: [SCHED_CRD_003],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "manifests/annotations", run: annotations, covers: [SCHED_CRD_004, SCHED_CRD_005],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "manifests/http-aliases", run: http_aliases, covers: [SCHED_CRD_006], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "manifests/artifact", run: artifact,
        covers: [SCHED_CRD_007, SCHED_CRD_008, SCHED_CRD_009], isolation: Shared, budget_s: 120,
    },
    scenario! {
        id: "manifests/environments", run: environments, covers: [SCHED_CRD_010],
        isolation: Isolated, needs: [Process], budget_s: 60,
    },
    scenario! {
        id: "manifests/status", run: status, covers: [SCHED_CRD_011], isolation: Shared,
        budget_s: 60,
    },
];

/// Returns the imports of a host on which the manifest with every field can run.
fn offers() -> Value {
    json!([
        { "namespace": "acme", "package": "queue", "version": "1.0.0", "interfaces": ["push", "pull"] },
        { "namespace": "wasi", "package": "keyvalue", "interfaces": ["store"] },
    ])
}

/// Submits a workload that sets every field, and checks that the start contains each field as the
/// specification maps it.
async fn every_field(cx: &ScenarioContext) -> Flow {
    cx.start_host(
        cx.host_config("a")
            .heartbeat_field("imports", offers())
            .heartbeat_field("environment", json!("prod")),
    )
    .await?;
    let resources = json!({
        "volumeMounts": [{ "name": "scratch", "mountPath": "/scratch" }, { "name": "data", "mountPath": "/data", "readOnly": true }],
        "environment": { "config": { "E": "1" } },
        "config": { "C": "2" },
        "allowedHosts": ["https://api.example", "*.example.com"],
        "allowedIpNameLookups": ["db.example"],
        "allowedHostLoopbackPorts": ["5432/tcp", "53/udp"],
    });
    let mut expected_resources = resources.clone();
    if let Some(expected) = expected_resources.as_object_mut() {
        expected.insert("environment".to_owned(), json!({ "E": "1" }));
    }
    let image = cx.image("app", 1);
    let app = cx.workload("app").with("/spec", json!({
        "hostSelector": { "hostgroup": cx.group() },
        "environment": "prod",
        "components": [
            { "name": "one", "image": image, "imagePullPolicy": "Always", "poolSize": 3, "maxInvocations": 100, "maxConcurrency": 7, "localResources": resources },
            { "name": "two", "image": format!("{image}-two"), "imagePullPolicy": "IfNotPresent" },
            { "name": "three", "image": format!("{image}-three"), "imagePullPolicy": "Never" },
        ],
        "service": { "image": format!("{image}-service"), "imagePullPolicy": "IfNotPresent", "maxRestarts": 5, "localResources": resources },
        "hostInterfaces": [
            { "namespace": "acme", "package": "queue", "version": "1.0.0", "name": "orders", "interfaces": ["push", "pull"], "config": { "topic": "t" } },
            { "namespace": "wasi", "package": "keyvalue", "interfaces": ["store"] },
        ],
        "volumes": [{ "name": "scratch", "ephemeral": {} }, { "name": "data", "hostPath": { "path": "/srv/data" } }],
    }));
    cx.submit(&app).await?;
    let workload = sent_workload(cx, "app").await?;
    let policy = |name: &str| json!(format!("IMAGE_PULL_POLICY_{name}"));
    let components = json!([
        { "name": "one", "image": image, "imagePullPolicy": policy("ALWAYS"), "poolSize": 3, "maxInvocations": 100, "maxConcurrency": 7, "localResources": expected_resources },
        { "name": "two", "image": format!("{image}-two"), "imagePullPolicy": policy("IF_NOT_PRESENT") },
        { "name": "three", "image": format!("{image}-three"), "imagePullPolicy": policy("NEVER") },
    ]);
    let service = json!({ "image": format!("{image}-service"), "imagePullPolicy": policy("IF_NOT_PRESENT"), "maxRestarts": "5", "localResources": expected_resources });
    let interfaces = json!([
        { "namespace": "acme", "package": "queue", "version": "1.0.0", "name": "orders", "interfaces": ["push", "pull"], "config": { "topic": "t" } },
        { "namespace": "wasi", "package": "keyvalue", "interfaces": ["store"] },
    ]);
    let volumes = json!([{ "name": "scratch", "emptyDir": {} }, { "name": "data", "hostPath": { "localPath": "/srv/data" } }]);
    for (pointer, expected) in [
        ("/witWorld/components", components),
        ("/witWorld/hostInterfaces", interfaces),
        ("/service", service),
        ("/volumes", volumes),
    ] {
        let sent = without_empty(workload.pointer(pointer).cloned().unwrap_or_default());
        cx.claim(SCHED_CRD_001)
            .is(pointer, sent, without_empty(expected));
    }
    let identity = [workload.get("namespace"), workload.get("name")]
        .map(|name| name.cloned().unwrap_or_default());
    cx.claim(SCHED_CRD_002).is(
        "namespace and name",
        identity,
        [json!(cx.namespace()), json!(cx.name("app"))],
    );
    Ok(())
}

/// Removes empty values, which have the same meaning as absent values.
fn without_empty(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.into_iter().map(|(name, value)| {
                // The key `emptyDir` is the type of a volume, also with an empty object.
                let value = if name == "emptyDir" {
                    value
                } else {
                    without_empty(value)
                };
                (name, value)
            });
            let empty = |name: &str, value: &Value| match value {
                Value::Object(members) => members.is_empty() && name != "emptyDir",
                Value::Array(items) => items.is_empty(),
                Value::String(text) => text.is_empty(),
                Value::Bool(value) => !value,
                Value::Number(number) => number.as_i64() == Some(0),
                Value::Null => true,
            };
            Value::Object(
                members
                    .filter(|(name, value)| !empty(name, value))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_empty).collect()),
        other => other,
    }
}

/// Submits manifests with unusual but valid values, and checks that they are accepted and
/// interpreted as specified.
async fn unusual_values(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let app = cx
        .deployment("app", 1)
        .spec("/components/0/imagePullPolicy", json!("Sometimes"))
        .spec("/volumes", json!([{ "name": "both", "ephemeral": {}, "hostPath": { "path": "/x" } }, { "name": "neither" }]))
        .spec("/futureField", json!({ "anything": 1 }))
        .with("/spec/replicas", Value::Null);
    cx.submit(&app).await?;
    let started = cx.wait_for_start("app", cx.timings().act).await;
    if cx.claim(SCHED_CRD_003).met(started).is_none() {
        return Ok(());
    }
    let workload = sent_workload(cx, "app").await?;
    let policy = value_at(&workload, "/witWorld/components/0")
        .get("imagePullPolicy")
        .cloned();
    let unset = policy
        .as_ref()
        .is_none_or(|policy| policy == "IMAGE_PULL_POLICY_UNSPECIFIED");
    cx.claim(SCHED_CRD_003)
        .holds("the host receives no unknown pull policy", unset, || {
            format!("{policy:?}")
        });
    let volumes =
        json!([{ "name": "both", "emptyDir": {} }, { "name": "neither", "emptyDir": {} }]);
    cx.claim(SCHED_CRD_003)
        .is("volumes", value_at(&workload, "/volumes"), volumes);
    let running = cx.wait_for_running("app", 1, cx.timings().act).await;
    cx.claim(SCHED_CRD_003).met(running);
    let empty = cx.workload("empty").with(
        "/spec",
        json!({ "hostSelector": { "hostgroup": cx.group() } }),
    );
    cx.submit(&empty).await?;
    let name = cx.name("empty");
    let started = cx.eventually(cx.timings().act, "a start of the empty workload", || {
        let starts = cx.journal().starts();
        let found = starts
            .iter()
            .any(|(_, start)| crate::scheduler::journal::contains(&start.payload, &name));
        std::future::ready(if found {
            Ok(())
        } else {
            Err("no start".to_owned())
        })
    });
    cx.claim(SCHED_CRD_003).met(started.await);
    Ok(())
}

/// Submits objects with annotations, and checks that a start contains the annotations of the
/// template and no annotations of kubectl.
async fn annotations(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let last_applied = "kubectl.kubernetes.io/last-applied-configuration";
    let annotations = json!({ "example.com/team": "shop", last_applied: "{}" });
    cx.submit(
        &cx.workload("bare")
            .with("/metadata/annotations", annotations.clone()),
    )
    .await?;
    cx.submit(
        &cx.deployment("app", 1)
            .with("/spec/template/annotations", annotations),
    )
    .await?;
    for app in ["bare", "app"] {
        let sent = value_at(&sent_workload(cx, app).await?, "/annotations");
        let has_kubectl_annotation = sent
            .as_object()
            .into_iter()
            .flatten()
            .any(|(key, _)| key.starts_with("kubectl.kubernetes.io/"));
        cx.claim(SCHED_CRD_004).holds(
            "annotations of kubectl are not sent",
            !has_kubectl_annotation,
            || sent.to_string(),
        );
        if app == "app" {
            let team = sent.get("example.com/team").cloned().unwrap_or_default();
            cx.claim(SCHED_CRD_005)
                .is("annotation of the template", team, json!("shop"));
        }
    }
    Ok(())
}

/// Submits apps with `kubernetes.service` and an HTTP interface, and checks that the in-cluster
/// names of the service are added to the host aliases.
async fn http_aliases(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let entry = |interface: &str, config: Value| json!({ "namespace": "wasi", "package": "http", "name": interface, "interfaces": [interface], "config": config });
    for (app, interface) in [("older", "incoming-handler"), ("newer", "handler")] {
        let config = json!({ "host": "shop.example", "host-aliases": "www.shop.example" });
        let manifest = cx
            .deployment(app, 1)
            .spec("/hostInterfaces", json!([entry(interface, config)]))
            .with("/spec/kubernetes/service/name", json!("shop"));
        cx.submit(&manifest).await?;
        let workload = sent_workload(cx, app).await?;
        let config = value_at(&workload, "/witWorld/hostInterfaces/0/config");
        let aliases = config
            .get("host-aliases")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let mut aliases: Vec<String> = aliases
            .split(',')
            .map(|alias| alias.trim().to_owned())
            .collect();
        aliases.sort();
        let namespace = cx.namespace();
        let expected = [
            format!("shop.{namespace}"),
            format!("shop.{namespace}.svc"),
            "www.shop.example".to_owned(),
        ]
        .to_vec();
        cx.claim(SCHED_CRD_006)
            .is(&format!("host aliases of {interface}"), aliases, expected);
    }
    Ok(())
}

/// An app waits for its Artifact, and is updated when the Artifact changes.
async fn artifact(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let name = cx.name("artifact");
    let app = cx.deployment("app", 2).image("artifact://web").with(
        "/spec/artifacts",
        json!([{ "name": "web", "artifactFrom": { "name": name } }]),
    );
    cx.submit(&app).await?;
    let workload_name = cx.name("app");
    let started = cx.never(
        std::time::Duration::from_secs(2),
        "a start before the Artifact exists",
        || {
            let starts = cx.journal().starts();
            let found = starts.iter().find(|(_, start)| {
                crate::scheduler::journal::contains(&start.payload, &workload_name)
            });
            found.map(|(_, start)| String::from_utf8_lossy(&start.payload).into_owned())
        },
    );
    cx.claim(SCHED_CRD_008).met(started.await);
    cx.claim(SCHED_CRD_008).met(
        cx.wait_for_status_text(&app, &name, cx.timings().show)
            .await,
    );
    let artifact = |revision: u32| {
        Manifest::deployment(&name, "", "", 1)
            .with("/apiVersion", json!(API_VERSION))
            .with("/kind", json!("Artifact"))
            .with("/spec", json!({ "image": cx.image("app", revision) }))
    };
    cx.submit(&artifact(1)).await?;
    let running = cx.wait_for_running("app", 2, cx.timings().act).await;
    cx.claim(SCHED_CRD_007).met(running);
    cx.submit(&artifact(2)).await?;
    cx.claim(SCHED_CRD_009)
        .met(wait_for_rollout(cx, 2, 2).await);
    Ok(())
}

/// Deploys a workload and a set, and checks their conditions, host, environment, id and replica
/// counts in the status.
async fn status(cx: &ScenarioContext) -> Flow {
    let host = cx
        .start_host(
            cx.host_config("a")
                .heartbeat_field("environment", json!("prod")),
        )
        .await?;
    let bare = cx.workload("bare");
    cx.submit(&bare).await?;
    let (set, _) = cx.deploy("app", 2, SCHED_SCALE_001).await?;
    for manifest in [&bare, &set] {
        cx.claim(SCHED_CRD_011)
            .met(cx.wait_for_ready(manifest, cx.timings().show).await);
    }
    let object = cx.observe(&bare).await.unwrap_or_default();
    let status = value_at(&object, "/status");
    let reported = [status.get("hostId"), status.get("environment")]
        .map(|value| value.cloned().unwrap_or_default());
    cx.claim(SCHED_CRD_011).is(
        "hostId and environment of the workload",
        reported,
        [json!(host.id()), json!("prod")],
    );
    let id = status
        .get("workloadId")
        .and_then(Value::as_str)
        .unwrap_or_default();
    cx.claim(SCHED_CRD_011).holds(
        "the reported workloadId is the id of a start",
        cx.started_ids("bare").contains(id),
        || format!("{id:?}"),
    );
    let object = cx.observe(&set).await.unwrap_or_default();
    let counts = value_at(&object, "/status/replicas");
    let count = |name: &str| counts.get(name).and_then(Value::as_i64).unwrap_or(0);
    let reported = ["expected", "current", "ready", "unavailable"].map(count);
    cx.claim(SCHED_CRD_011).is(
        "expected, current, ready and unavailable replicas",
        reported,
        [2, 2, 2, 0],
    );
    let ready = condition(&object, "Ready").cloned().unwrap_or_default();
    let has_reason = ready
        .get("reason")
        .and_then(Value::as_str)
        .is_some_and(|reason| !reason.is_empty());
    cx.claim(SCHED_CRD_011)
        .holds("the condition Ready has a reason", has_reason, || {
            ready.to_string()
        });
    Ok(())
}

/// Workloads of a namespace run only on hosts of the environment with its name, despite `hostId`
/// and `environment`.
async fn environments(cx: &ScenarioContext) -> Flow {
    cx.start_host(
        cx.host_config("own")
            .heartbeat_field("environment", json!(cx.namespace())),
    )
    .await?;
    let other = cx
        .start_host(
            cx.host_config("other")
                .heartbeat_field("environment", json!("other")),
        )
        .await?;
    cx.start_host(cx.host_config("no-environment")).await?;
    cx.submit(&cx.deployment("app", 3)).await?;
    let within = cx.timings().act + cx.timings().reconnect;
    let running = cx.wait_for_running("app", 3, within).await;
    if let Some(running) = cx.claim(SCHED_CRD_010).met(running) {
        let names = crate::scheduler::context::host_names(&running);
        let expected = vec!["own".to_owned(); 3];
        cx.claim(SCHED_CRD_010)
            .is("hosts of the app", names, expected);
    }
    cx.submit(
        &cx.deployment("pinned", 1)
            .spec("/hostId", json!(other.id())),
    )
    .await?;
    cx.submit(
        &cx.deployment("named", 1)
            .spec("/environment", json!("other")),
    )
    .await?;
    for app in ["pinned", "named"] {
        cx.assert_no_start(SCHED_CRD_010, app).await;
    }
    Ok(())
}
