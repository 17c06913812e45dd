//! Pull secrets: which credentials are sent with which image, and what a broken secret reveals.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::references::sent_workload;
use crate::check::outcome::Flow;
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::manifest::Manifest;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::spec::requirements::*;
use crate::wire::base64;

/// Scenarios of the section `references` about pull secrets.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "references/pull-secret", run: pull_secret,
        covers: [SCHED_REF_005, SCHED_REF_006, SCHED_REF_007], isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "references/foreign-pull-secret", run: foreign_pull_secret, covers: [SCHED_REF_008],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "references/malformed-pull-secret", run: malformed_pull_secret,
        covers: [SCHED_REF_009], isolation: Shared, budget_s: 60,
    },
];

const HUB: &str = "https://index.docker.io/v1/";

/// A component: the requirement that it shows, its image, where `{tag}` is unique, the registries
/// in its pull secret, and the registry whose credentials must be sent.
type Case = (
    Requirement,
    &'static str,
    &'static [&'static str],
    Option<&'static str>,
);

const CASES: &[Case] = &[
    (
        SCHED_REF_005,
        "registry.example:5000/{tag}/a:1",
        &["other.example", "registry.example:5000", HUB],
        Some("registry.example:5000"),
    ),
    (
        SCHED_REF_005,
        "other.example/{tag}/a:1",
        &["other.example", "registry.example:5000", HUB],
        Some("other.example"),
    ),
    (
        SCHED_REF_005,
        "auth.example/{tag}/a:1",
        &["auth.example"],
        Some("auth.example"),
    ),
    (
        SCHED_REF_006,
        "stranger.example/{tag}/a:1",
        &["other.example", "registry.example:5000", HUB],
        None,
    ),
    (
        SCHED_REF_006,
        "stranger.example/{tag}/b:1",
        &["other.example"],
        None,
    ),
    (
        SCHED_REF_006,
        "registry.example.org/{tag}/a:1",
        &["registry.example"],
        None,
    ),
    (
        SCHED_REF_006,
        "registry.example/{tag}/a:1",
        &["registry.example.org"],
        None,
    ),
    (
        SCHED_REF_006,
        "eu.registry.example/{tag}/a:1",
        &["registry.example"],
        None,
    ),
    (
        SCHED_REF_006,
        "registry.example:6000/{tag}/a:1",
        &["registry.example:5000"],
        None,
    ),
    (
        SCHED_REF_006,
        "registry.example:5000/{tag}/b:1",
        &["registry.example"],
        None,
    ),
    (SCHED_REF_007, "localhost/{tag}:1", &[HUB], None),
    (SCHED_REF_007, "localhost:5000/{tag}:1", &[HUB], None),
    (SCHED_REF_007, "host.example/{tag}:1", &[HUB], None),
    (
        SCHED_REF_007,
        "{tag}/b:1",
        &["other.example", HUB],
        Some(HUB),
    ),
    (SCHED_REF_007, "{tag}:1.4", &[HUB], Some(HUB)),
    (SCHED_REF_007, "{tag}", &[HUB], Some(HUB)),
    (SCHED_REF_007, "docker.io/{tag}/c:1", &[HUB], Some(HUB)),
];

/// Returns user name and password for a registry. The password contains colons, which also separate
/// both.
fn credentials(registry: &str) -> (String, String) {
    (
        format!("user of {}", registry.replace(':', "-")),
        format!("pass:word:{registry}"),
    )
}

/// Returns a pull secret with entries for these registries, each in another of the two forms.
fn pull_secret_object(name: &str, registries: &[&str]) -> Manifest {
    let entry = |registry: &str| {
        let (username, password) = credentials(registry);
        if registry == "other.example" || registry == "registry.example:5000" {
            json!({ "username": username, "password": password })
        } else {
            json!({ "auth": base64::encode(&format!("{username}:{password}")) })
        }
    };
    let registries = registries.iter();
    let auths: serde_json::Map<String, Value> = registries
        .map(|registry| ((*registry).to_owned(), entry(registry)))
        .collect();
    let text = json!({ "auths": auths }).to_string();
    Manifest::data("Secret", name, &[(".dockerconfigjson", &text)])
        .with("/type", json!("kubernetes.io/dockerconfigjson"))
}

/// Submits components whose pull secrets have entries for several registries, and checks that each
/// image is sent only with the credentials for its own registry.
async fn pull_secret(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let image = |index: usize, image: &str| {
        let tag = format!("{}-{index}", cx.group());
        image.replace("{tag}", &tag)
    };
    let mut components = vec![json!({ "name": "mark", "image": cx.image("app", 1) })];
    for (index, (_, of_case, registries, _)) in CASES.iter().enumerate() {
        let secret = cx.name(&format!("pull{index}"));
        cx.submit(&pull_secret_object(&secret, registries)).await?;
        components.push(json!({
            "name": format!("case{index}"),
            "image": image(index, of_case),
            "imagePullSecret": { "name": secret },
        }));
    }
    let service = json!({
        "image": "other.example/service:1",
        "imagePullSecret": { "name": cx.name("pull0") },
    });
    let app = cx
        .deployment("app", 1)
        .spec("/components", json!(components));
    cx.submit(&app.spec("/service", service)).await?;
    let workload = sent_workload(cx, "app").await?;
    let sent = sent_credentials(&workload);
    for (index, (requirement, of_case, registries, registry)) in CASES.iter().enumerate() {
        let image = image(index, of_case);
        let expected = registry.map(credentials);
        cx.claim(*requirement).is(
            &format!("credentials for {image}, with entries for {registries:?}"),
            sent.get(&image).cloned().flatten(),
            expected,
        );
    }
    cx.claim(SCHED_REF_005).is(
        "credentials for the image of the service",
        credentials_of(workload.get("service").unwrap_or(&Value::Null)),
        Some(credentials("other.example")),
    );
    Ok(())
}

/// Returns the credentials of each component in a start, by image.
fn sent_credentials(workload: &Value) -> BTreeMap<String, Option<(String, String)>> {
    let components = workload.pointer("/witWorld/components");
    let components = components.and_then(Value::as_array).into_iter().flatten();
    let by_image = components.map(|component| {
        let image = component.get("image").and_then(Value::as_str);
        let image = image.unwrap_or_default().to_owned();
        (image, credentials_of(component))
    });
    by_image.collect()
}

/// Returns the credentials in a component or a service.
fn credentials_of(part: &Value) -> Option<(String, String)> {
    let secret = part.get("imagePullSecret")?;
    let text = |field: &str| {
        let value = secret.get(field).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    Some((text("username"), text("password")))
}

/// A pull secret of this name exists only in another namespace.
async fn foreign_pull_secret(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let name = cx.name("pull");
    let secret = pull_secret_object(&name, &["registry.invalid"]);
    cx.submit(&secret.namespace("elsewhere")).await?;
    let app = cx
        .deployment("app", 1)
        .spec("/components/0/imagePullSecret", json!({ "name": name }));
    cx.submit(&app).await?;
    // The app may be started without credentials.
    let sent = cx.never(
        Duration::from_millis(2_500),
        "a start with credentials",
        || {
            let starts = cx.starts_of("app");
            let (_, start) = starts.first()?;
            let workload = start.json.as_ref()?.get("workload")?;
            let sent = sent_credentials(workload).into_values().flatten().next()?;
            Some(format!("credentials of {}", sent.0))
        },
    );
    cx.claim(SCHED_REF_008).met(sent.await);
    Ok(())
}

/// The content of a pull secret is not what it should be. Neither the status nor the log may quote
/// it.
async fn malformed_pull_secret(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let value = format!("hunter3-{}", cx.group());
    cx.add_secret(&value);
    let contents = [
        format!("{{\"auths\": {{\"registry.invalid\": {{\"password\": \"{value}\""),
        json!({ "auths": value }).to_string(),
        json!({ "auths": { "registry.invalid": value } }).to_string(),
        json!({ "auths": { "registry.invalid": { "auth": value } } }).to_string(),
        json!({ "auths": { "registry.invalid": { "username": [value], "password": value } } })
            .to_string(),
    ];
    let mut apps = Vec::new();
    for (index, content) in contents.iter().enumerate() {
        let name = cx.name(&format!("pull{index}"));
        let secret = Manifest::data("Secret", &name, &[(".dockerconfigjson", content)]);
        // It has no type, because an API server checks the content of typed ones.
        cx.submit(&secret).await?;
        let app = cx.deployment(&format!("app{index}"), 1);
        let app = app.spec("/components/0/imagePullSecret", json!({ "name": name }));
        cx.submit(&app).await?;
        apps.push(app);
    }
    let window = cx.timings().show.min(Duration::from_secs(4));
    let not_shown = cx.consistently(
        window,
        "the content of the pull secret appears neither in the status nor in the log",
        || async {
            for app in &apps {
                if cx.status_text(app).await.contains(&value) {
                    return Err(format!("the status of {} contains it", app.key()));
                }
            }
            let log = cx.scheduler().log().unwrap_or_default();
            if log.contains(&value) {
                return Err("the log contains it".to_owned());
            }
            Ok(())
        },
    );
    cx.claim(SCHED_REF_009).met(not_shown.await);
    Ok(())
}
