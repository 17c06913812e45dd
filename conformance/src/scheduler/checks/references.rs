//! References: configurations, secrets and pull secrets, which hosts only see as values.

use std::time::Duration;

use serde_json::{Value, json};

use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::manifest::Manifest;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::spec::requirements::*;
use crate::wire::base64;

/// The section.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "ref/missing", run: missing, covers: [SCHED_REF_001, SCHED_REF_002],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "ref/precedence", run: precedence, covers: [SCHED_REF_003, SCHED_REF_004],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "ref/pull-secret", run: pull_secret,
        covers: [SCHED_REF_005, SCHED_REF_006, SCHED_REF_007], isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "ref/namespace", run: namespace, covers: [SCHED_REF_008], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "ref/secrecy", run: secrecy, covers: [SCHED_REF_009], isolation: Shared, budget_s: 60,
    },
];

/// The workload of the first start of an app.
pub(super) async fn sent(cx: &ScenarioContext, app: &str) -> Result<Value, Blocked> {
    let started = cx.started(app, cx.timings().act).await;
    let (_, came) = started.or_blocked(cx, SCHED_START_001)?;
    let workload = came
        .json
        .as_ref()
        .and_then(|json| json.get("workload"))
        .cloned();
    Ok(workload.unwrap_or_default())
}

/// The map at a place of the workload; empty when there is none.
pub(super) fn map(workload: &Value, pointer: &str) -> Value {
    workload
        .pointer(pointer)
        .cloned()
        .unwrap_or_else(|| json!({}))
}

async fn missing(cx: &ScenarioContext) -> Flow {
    cx.host(cx.plan("a")).await?;
    let (config, secret) = (cx.name("config"), cx.name("secret"));
    let environment =
        json!({ "configFrom": [{ "name": config }], "secretFrom": [{ "name": secret }] });
    let app = cx
        .deployment("app", 1)
        .spec("/components/0/localResources/environment", environment);
    cx.submit(&app).await?;
    cx.no_start(SCHED_REF_001, "app").await;
    cx.claim(SCHED_REF_001)
        .met(cx.tells(&app, &config, cx.timings().show).await);
    cx.submit(&Manifest::data("ConfigMap", &config, &[("A", "1")]))
        .await?;
    cx.claim(SCHED_REF_001)
        .met(cx.tells(&app, &secret, cx.timings().show).await);
    cx.submit(&Manifest::data("Secret", &secret, &[("B", "two-and-two")]))
        .await?;
    let placed = cx.runs("app", 1, cx.timings().act).await;
    cx.claim(SCHED_REF_002).met(placed);
    let more = cx.never(Duration::from_secs(1), "another start", || {
        let ids = cx.ids_of("app");
        (ids.len() > 1).then(|| format!("{ids:?}"))
    });
    cx.claim(SCHED_REF_002).met(more.await);
    Ok(())
}

async fn precedence(cx: &ScenarioContext) -> Flow {
    cx.host(cx.plan("a").fact(
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
    let layer = |mut base: Value| {
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
        layer(json!({ "namespace": "acme", "package": "queue", "interfaces": ["push"] }));
    let app = cx
        .deployment("app", 1)
        .spec("/components/0/localResources/environment", layer(json!({})))
        .spec("/hostInterfaces", json!([interface]));
    cx.submit(&app).await?;
    let workload = sent(cx, "app").await?;
    let expected = json!({ "A": "4", "B": "2", "C": "3", "D": "4" });
    let environment = map(
        &workload,
        "/witWorld/components/0/localResources/environment",
    );
    cx.claim(SCHED_REF_003).is(
        "the environment that the host is sent",
        environment,
        expected.clone(),
    );
    let config = map(&workload, "/witWorld/hostInterfaces/0/config");
    cx.claim(SCHED_REF_004)
        .is("the configuration of the interface", config, expected);
    Ok(())
}

async fn pull_secret(cx: &ScenarioContext) -> Flow {
    cx.host(cx.plan("a")).await?;
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
    let workload = sent(cx, "app").await?;
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
        "the credentials for its own registry",
        secret_of("own"),
        pair("user", "right-password"),
    );
    cx.claim(SCHED_REF_006).is(
        "the credentials for another registry",
        secret_of("stranger"),
        Value::Null,
    );
    cx.claim(SCHED_REF_007).is(
        "the credentials for an image without a registry",
        secret_of("hub"),
        pair("hub", "hub-password"),
    );
    cx.claim(SCHED_REF_007).is(
        "the credentials for docker.io",
        secret_of("hub-by-name"),
        pair("hub", "hub-password"),
    );
    Ok(())
}

async fn namespace(cx: &ScenarioContext) -> Flow {
    cx.host(cx.plan("a")).await?;
    let name = cx.name("config");
    for kind in ["ConfigMap", "Secret"] {
        cx.submit(&Manifest::data(kind, &name, &[("A", "elsewhere")]).namespace("elsewhere"))
            .await?;
    }
    let refer = |list: &str| json!({ list: [{ "name": name }] });
    for (app, list) in [("config", "configFrom"), ("secret", "secretFrom")] {
        let app = cx
            .deployment(app, 1)
            .spec("/components/0/localResources/environment", refer(list));
        cx.submit(&app).await?;
    }
    for app in ["config", "secret"] {
        cx.no_start(SCHED_REF_008, app).await;
    }
    Ok(())
}

async fn secrecy(cx: &ScenarioContext) -> Flow {
    let host = cx.host(cx.plan("a")).await?;
    let (name, value) = (cx.name("secret"), format!("hunter2-{}", cx.group()));
    cx.secret(&value);
    cx.submit(&Manifest::data("Secret", &name, &[("PASSWORD", &value)]))
        .await?;
    let environment = json!({ "secretFrom": [{ "name": name }] });
    let app = cx
        .deployment("app", 1)
        .spec("/components/0/localResources/environment", environment);
    let act = crate::scheduler::simulated_host::Act::Fail {
        message: "cannot be linked".to_owned(),
        known: true,
    };
    host.script(crate::scheduler::simulated_host::Rule::on("workload.start", act).times(1));
    cx.submit(&app).await?;
    let runs = cx
        .runs(
            "app",
            1,
            cx.timings().act + cx.timings().retry.min(Duration::from_secs(20)),
        )
        .await;
    runs.or_blocked(cx, SCHED_START_009)?;
    let quiet = cx.consistently(
        Duration::from_secs(2),
        "the value of the secret is nowhere shown",
        || async {
            if cx.told(&app).await.contains(&value) {
                return Err("it stands in what is shown".to_owned());
            }
            match cx.live().log().is_some_and(|log| log.contains(&value)) {
                true => Err("it stands in the log".to_owned()),
                false => Ok(()),
            }
        },
    );
    cx.claim(SCHED_REF_009).met(quiet.await);
    Ok(())
}
