//! References: ConfigMaps, Secrets and pull secrets, whose values the scheduler sends to hosts.

use std::time::Duration;

use serde_json::{Value, json};

use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::manifest::Manifest;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{CommandRule, Reaction};
use crate::spec::requirements::*;
use crate::wire::base64;

/// Scenarios of the section `references`.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "references/missing", run: missing, covers: [SCHED_REF_001, SCHED_REF_002],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "references/precedence", run: precedence, covers: [SCHED_REF_003, SCHED_REF_004],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "references/pull-secret", run: pull_secret,
        covers: [SCHED_REF_005, SCHED_REF_006, SCHED_REF_007], isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "references/namespace", run: namespace, covers: [SCHED_REF_008], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "references/secret-not-shown", run: secret_not_shown, covers: [SCHED_REF_009],
        isolation: Shared, budget_s: 60,
    },
];

/// Returns the workload in the first start of an app.
pub(super) async fn sent_workload(cx: &ScenarioContext, app: &str) -> Result<Value, Blocked> {
    let started = cx.wait_for_start(app, cx.timings().act).await;
    let (_, start) = started.or_blocked(cx, SCHED_START_001)?;
    let workload = start
        .json
        .as_ref()
        .and_then(|json| json.get("workload"))
        .cloned();
    Ok(workload.unwrap_or_default())
}

/// Returns the value at a JSON pointer, or an empty object.
pub(super) fn value_at(workload: &Value, pointer: &str) -> Value {
    workload
        .pointer(pointer)
        .cloned()
        .unwrap_or_else(|| json!({}))
}

/// Submits an app whose ConfigMap and Secret do not exist, and checks that it waits with a reason
/// and is started once when both exist.
async fn missing(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let (config, secret) = (cx.name("config"), cx.name("secret"));
    let environment =
        json!({ "configFrom": [{ "name": config }], "secretFrom": [{ "name": secret }] });
    let app = cx
        .deployment("app", 1)
        .spec("/components/0/localResources/environment", environment);
    cx.submit(&app).await?;
    cx.assert_no_start(SCHED_REF_001, "app").await;
    cx.claim(SCHED_REF_001).met(
        cx.wait_for_status_text(&app, &config, cx.timings().show_after_act())
            .await,
    );
    cx.submit(&Manifest::data("ConfigMap", &config, &[("A", "1")]))
        .await?;
    cx.claim(SCHED_REF_001).met(
        cx.wait_for_status_text(&app, &secret, cx.timings().show_after_act())
            .await,
    );
    cx.submit(&Manifest::data("Secret", &secret, &[("B", "two-and-two")]))
        .await?;
    let running = cx.wait_for_running("app", 1, cx.timings().act).await;
    cx.claim(SCHED_REF_002).met(running);
    let another = cx.never(Duration::from_secs(1), "a start under another id", || {
        let ids = cx.started_ids("app");
        (ids.len() > 1).then(|| format!("{ids:?}"))
    });
    cx.claim(SCHED_REF_002).met(another.await);
    Ok(())
}

/// Submits an app with several values for the same keys, and checks that the last value of each key
/// is sent.
async fn precedence(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a").heartbeat_field(
        "imports",
        json!([{ "namespace": "acme", "package": "queue", "interfaces": ["push"] }]),
    ))
    .await?;
    let (first, second, secret) = (cx.name("first"), cx.name("second"), cx.name("secret"));
    cx.submit(&Manifest::data(
        "ConfigMap",
        &first,
        &[("B", "2"), ("C", "2")],
    ))
    .await?;
    cx.submit(&Manifest::data("ConfigMap", &second, &[("C", "3")]))
        .await?;
    cx.submit(&Manifest::data(
        "Secret",
        &secret,
        &[("D", "4"), ("A", "4")],
    ))
    .await?;
    let with_references = |mut base: Value| {
        if let Some(base) = base.as_object_mut() {
            base.insert("config".into(), json!({ "A": "1", "B": "1" }));
            base.insert(
                "configFrom".into(),
                json!([{ "name": first }, { "name": second }]),
            );
            base.insert("secretFrom".into(), json!([{ "name": secret }]));
        }
        base
    };
    let interface =
        with_references(json!({ "namespace": "acme", "package": "queue", "interfaces": ["push"] }));
    let app = cx
        .deployment("app", 1)
        .spec(
            "/components/0/localResources/environment",
            with_references(json!({})),
        )
        .spec("/hostInterfaces", json!([interface]));
    cx.submit(&app).await?;
    let workload = sent_workload(cx, "app").await?;
    let expected = json!({ "A": "4", "B": "2", "C": "3", "D": "4" });
    let environment = value_at(
        &workload,
        "/witWorld/components/0/localResources/environment",
    );
    cx.claim(SCHED_REF_003).is(
        "environment of the component",
        environment,
        expected.clone(),
    );
    let config = value_at(&workload, "/witWorld/hostInterfaces/0/config");
    cx.claim(SCHED_REF_004)
        .is("configuration of the interface", config, expected);
    Ok(())
}

/// Submits components with a pull secret for several registries, and checks that each image is sent
/// only with the credentials for its own registry.
async fn pull_secret(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let secret = cx.name("pull");
    let docker = json!({ "auths": {
        "other.example": { "username": "wrong", "password": "wrong-password" },
        "registry.example:5000": { "username": "user", "password": "right-password" },
        "https://index.docker.io/v1/": { "auth": base64::encode("hub:hub-password") },
    } });
    let text = docker.to_string();
    let object = Manifest::data("Secret", &secret, &[(".dockerconfigjson", &text)])
        .with("/type", json!("kubernetes.io/dockerconfigjson"));
    cx.submit(&object).await?;
    let tag = cx.group();
    let component = |name: &str, image: String| json!({ "name": name, "image": image, "imagePullSecret": { "name": secret } });
    let app = cx.deployment("app", 1).spec(
        "/components",
        json!([
            { "name": "mark", "image": cx.image("app", 1) },
            component("own", format!("registry.example:5000/{tag}/a:1")),
            component("hub", format!("{tag}/b:1")),
            component("hub-by-name", format!("docker.io/{tag}/c:1")),
            component("stranger", format!("stranger.example/{tag}/d:1")),
        ]),
    );
    cx.submit(&app).await?;
    let workload = sent_workload(cx, "app").await?;
    let secret_of = |name: &str| {
        let components = workload
            .pointer("/witWorld/components")
            .and_then(Value::as_array);
        let mut components = components.into_iter().flatten();
        let found = components
            .find(|component| component.get("name").and_then(Value::as_str) == Some(name));
        found
            .and_then(|component| component.get("imagePullSecret"))
            .cloned()
            .unwrap_or_default()
    };
    let pair = |user: &str, password: &str| json!({ "username": user, "password": password });
    cx.claim(SCHED_REF_005).is(
        "credentials for the registry in the secret",
        secret_of("own"),
        pair("user", "right-password"),
    );
    cx.claim(SCHED_REF_006).is(
        "credentials for another registry",
        secret_of("stranger"),
        Value::Null,
    );
    cx.claim(SCHED_REF_007).is(
        "credentials for an image without a registry",
        secret_of("hub"),
        pair("hub", "hub-password"),
    );
    cx.claim(SCHED_REF_007).is(
        "credentials for docker.io",
        secret_of("hub-by-name"),
        pair("hub", "hub-password"),
    );
    Ok(())
}

/// Creates the referenced objects in another namespace, but not in the namespace of the apps, and
/// checks that the apps are not started.
async fn namespace(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let name = cx.name("config");
    for kind in ["ConfigMap", "Secret"] {
        cx.submit(&Manifest::data(kind, &name, &[("A", "elsewhere")]).namespace("elsewhere"))
            .await?;
    }
    let reference = |list: &str| json!({ list: [{ "name": name }] });
    for (app, list) in [("config", "configFrom"), ("secret", "secretFrom")] {
        let app = cx
            .deployment(app, 1)
            .spec("/components/0/localResources/environment", reference(list));
        cx.submit(&app).await?;
    }
    for app in ["config", "secret"] {
        cx.assert_no_start(SCHED_REF_008, app).await;
    }
    Ok(())
}

/// Makes the start of an app with a secret fail, and checks that neither the status nor the log
/// contains the value of the secret.
async fn secret_not_shown(cx: &ScenarioContext) -> Flow {
    let host = cx.start_host(cx.host_config("a")).await?;
    let (name, value) = (cx.name("secret"), format!("hunter2-{}", cx.group()));
    cx.add_secret(&value);
    cx.submit(&Manifest::data("Secret", &name, &[("PASSWORD", &value)]))
        .await?;
    let environment = json!({ "secretFrom": [{ "name": name }] });
    let app = cx
        .deployment("app", 1)
        .spec("/components/0/localResources/environment", environment);
    let failure = Reaction::Fail {
        message: "cannot link the component".to_owned(),
        recorded: true,
    };
    host.add_rule(CommandRule::on("workload.start", failure).times(1));
    cx.submit(&app).await?;
    let running = cx
        .wait_for_running(
            "app",
            1,
            cx.timings().act + cx.timings().retry.min(Duration::from_secs(20)),
        )
        .await;
    running.or_blocked(cx, SCHED_START_009)?;
    let not_shown = cx.consistently(
        Duration::from_secs(2),
        "the value of the secret appears neither in the status nor in the log",
        || async {
            if cx.status_text(&app).await.contains(&value) {
                return Err("the status contains the value".to_owned());
            }
            let log = cx.scheduler().log();
            if log.is_some_and(|log| log.contains(&value)) {
                Err("the log contains the value".to_owned())
            } else {
                Ok(())
            }
        },
    );
    cx.claim(SCHED_REF_009).met(not_shown.await);
    Ok(())
}
