//! Manifests: the effect of each field, and unusual values.

use serde_json::{Value, json};

use super::references::{sent_workload, value_at};
use crate::check::outcome::Flow;
use crate::scheduler::context::ScenarioContext;
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
        id: "manifests/removed-replicas", run: removed_replicas, covers: [SCHED_CRD_003],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "manifests/long-name", run: long_name, covers: [SCHED_CRD_002], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "manifests/environments", run: environments, covers: [SCHED_CRD_010],
        isolation: Isolated, needs: [Process], budget_s: 60,
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
        "environment": { "config": { "E": "1", "EMPTY": "" } },
        "config": { "C": "2", "EMPTY": "" },
        "allowedHosts": ["https://api.example", "*.example.com"],
        "allowedIpNameLookups": ["db.example"],
        "allowedHostLoopbackPorts": ["5432/tcp", "53/udp"],
    });
    let mut expected_resources = resources.clone();
    if let Some(expected) = expected_resources.as_object_mut() {
        let environment = json!({ "E": "1", "EMPTY": "" });
        expected.insert("environment".to_owned(), environment);
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

/// Fields whose value is kept as it is: the type of a volume, and maps, whose empty values count.
const KEPT: [&str; 3] = ["emptyDir", "environment", "config"];

/// Removes empty values of fields, which have the same meaning as absent fields.
fn without_empty(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.into_iter().map(|(name, value)| {
                let value = if KEPT.contains(&&*name) {
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

/// Removes the number of replicas from a manifest, and checks that the default applies again.
async fn removed_replicas(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (set, _) = cx.deploy("app", 3, SCHED_SCALE_001).await?;
    cx.submit(&set.with("/spec/replicas", Value::Null)).await?;
    let running = cx.wait_for_running("app", 1, cx.timings().act).await;
    cx.claim(SCHED_CRD_003).met(running);
    Ok(())
}

/// Length of the name of a set. The name of a replica adds two random parts; with them, it still
/// has at most 63 characters.
const LONG_NAME: usize = 44;

/// Submits a set with a long name, and checks that the name of a replica begins with it.
async fn long_name(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let mut name = cx.name("app-");
    name.push_str(&"n".repeat(LONG_NAME.saturating_sub(name.len())));
    let app = cx.deployment("app", 1).with("/metadata/name", json!(name));
    cx.submit(&app).await?;
    let workload = sent_workload(cx, "app").await?;
    let sent = workload.get("name").and_then(Value::as_str);
    cx.claim(SCHED_CRD_002).holds(
        "the name of a replica begins with the name of the set",
        sent.is_some_and(|sent| sent.starts_with(&name)),
        || format!("{sent:?} of the set {name:?}"),
    );
    Ok(())
}

/// Prefix of the keys of annotations that belong to kubectl.
const KUBECTL: &str = "kubectl.kubernetes.io/";

/// Submits objects with annotations, and checks that a start contains the annotations of the
/// template, none of the deployment, and no annotations of kubectl.
async fn annotations(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let annotations = json!({
        "example.com/team": "shop",
        format!("{KUBECTL}last-applied-configuration"): "{}",
        format!("{KUBECTL}restartedAt"): "2026-01-01T00:00:00Z",
        format!("{KUBECTL}other"): "1",
    });
    cx.submit(
        &cx.workload("bare")
            .with("/metadata/annotations", annotations.clone()),
    )
    .await?;
    let of_deployment = json!({ "example.com/team": "other" });
    cx.submit(
        &cx.deployment("app", 1)
            .with("/metadata/annotations", of_deployment)
            .with("/spec/template/annotations", annotations),
    )
    .await?;
    for app in ["bare", "app"] {
        let sent = value_at(&sent_workload(cx, app).await?, "/annotations");
        let has_kubectl_annotation = sent
            .as_object()
            .into_iter()
            .flatten()
            .any(|(key, _)| key.starts_with(KUBECTL));
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

/// Submits apps with `kubernetes.service` and HTTP interfaces, and checks that the in-cluster names
/// of the service are added to the host aliases of each.
async fn http_aliases(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let entry = |name: &str, handler: &str| {
        let config = json!({ "host": format!("{name}.example"), "host-aliases": format!("www.{name}.example") });
        json!({ "namespace": "wasi", "package": "http", "name": name, "interfaces": [handler], "config": config })
    };
    let older = json!([
        entry("one", "incoming-handler"),
        entry("two", "incoming-handler")
    ]);
    let newer = json!([entry("one", "handler")]);
    for (app, interfaces) in [("older", older), ("newer", newer)] {
        // The service of the deployment replaces that of the template.
        let manifest = cx
            .deployment(app, 1)
            .spec("/hostInterfaces", interfaces.clone())
            .spec("/kubernetes/service/name", json!("template"))
            .with("/spec/kubernetes/service/name", json!("shop"));
        cx.submit(&manifest).await?;
        let workload = sent_workload(cx, app).await?;
        for (index, entry) in interfaces.as_array().into_iter().flatten().enumerate() {
            let name = entry.get("name").and_then(Value::as_str).unwrap_or("");
            assert_aliases(cx, &workload, app, index, name);
        }
    }
    let of_template = cx
        .deployment("template", 1)
        .spec("/hostInterfaces", json!([entry("one", "handler")]))
        .spec("/kubernetes/service/name", json!("shop"));
    cx.submit(&of_template).await?;
    let workload = sent_workload(cx, "template").await?;
    assert_aliases(cx, &workload, "template", 0, "one");
    Ok(())
}

/// Claims that an HTTP entry has its own alias and the names of the service `shop`.
fn assert_aliases(cx: &ScenarioContext, workload: &Value, app: &str, index: usize, name: &str) {
    let config = value_at(
        workload,
        &format!("/witWorld/hostInterfaces/{index}/config"),
    );
    let aliases = config.get("host-aliases").and_then(Value::as_str);
    let aliases = aliases.unwrap_or_default().split(',');
    let mut aliases: Vec<String> = aliases.map(|alias| alias.trim().to_owned()).collect();
    aliases.sort();
    let namespace = cx.namespace();
    let expected = [
        format!("shop.{namespace}"),
        format!("shop.{namespace}.svc"),
        format!("www.{name}.example"),
    ];
    cx.claim(SCHED_CRD_006).is(
        &format!("host aliases of entry {name} of {app}"),
        aliases,
        expected.to_vec(),
    );
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
