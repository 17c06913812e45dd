//! References: ConfigMaps, Secrets and pull secrets, whose values the scheduler sends to hosts.

use std::time::Duration;

use serde_json::{Value, json};

use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::manifest::Manifest;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{CommandRule, Reaction};
use crate::spec::requirements::*;
use crate::wire::response::shortened;

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
        id: "references/namespace", run: namespace, covers: [SCHED_REF_008], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "references/other-namespace", run: other_namespace, covers: [SCHED_REF_008],
        isolation: Shared, needs: [Directory], budget_s: 60,
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

/// Returns `configFrom` and `secretFrom` with these names.
fn references(configs: &[&str], secrets: &[&str]) -> Value {
    let list = |names: &[&str]| -> Vec<Value> {
        let names = names.iter();
        names.map(|name| json!({ "name": name })).collect()
    };
    json!({ "configFrom": list(configs), "secretFrom": list(secrets) })
}

/// Waits until the status of an app names one of the objects that it waits for.
async fn check_named(cx: &ScenarioContext, app: &Manifest, missing: &[&str]) {
    let description = format!("the status of {} names one of {missing:?}", app.key());
    let within = cx.timings().act + cx.timings().show;
    let named = cx.eventually(within, &description, || async {
        let status = cx.status_text(app).await;
        if missing.iter().any(|name| status.contains(name)) {
            Ok(())
        } else {
            Err(shortened(&status, 400))
        }
    });
    cx.claim(SCHED_REF_001).met(named.await);
}

/// Submits apps with references to objects that do not exist, and checks that each waits with a
/// reason, and is started once when the last object exists.
async fn missing(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let [first, second, secret] = ["first", "second", "secret"].map(|name| cx.name(name));
    let of_component = "/components/0/localResources/environment";
    let of_service = "/service/localResources/environment";
    let service = json!({ "image": cx.image("service", 1) });
    let all = references(&[&first, &second], &[&secret]);
    let apps = [
        ("app", cx.deployment("app", 1).spec(of_component, all)),
        (
            "service-config",
            cx.deployment("service-config", 1)
                .spec("/service", service.clone())
                .spec(of_service, references(&[&first], &[])),
        ),
        (
            "service-secret",
            cx.deployment("service-secret", 1)
                .spec("/service", service)
                .spec(of_service, references(&[], &[&secret])),
        ),
    ];
    for (_, app) in &apps {
        cx.submit(app).await?;
    }
    for (app, _) in &apps {
        cx.assert_no_start(SCHED_REF_001, app).await;
    }
    let [(_, app), (_, with_config), (_, with_secret)] = &apps;
    check_named(cx, app, &[&first, &second, &secret]).await;
    check_named(cx, with_config, &[&first]).await;
    check_named(cx, with_secret, &[&secret]).await;
    cx.submit(&Manifest::data("ConfigMap", &first, &[("A", "1")]))
        .await?;
    check_named(cx, app, &[&second, &secret]).await;
    // The last two objects appear together.
    cx.submit(&Manifest::data("ConfigMap", &second, &[("A", "2")]))
        .await?;
    cx.submit(&Manifest::data("Secret", &secret, &[("B", "two-and-two")]))
        .await?;
    for (app, _) in &apps {
        let running = cx.wait_for_running(app, 1, cx.timings().act).await;
        cx.claim(SCHED_REF_002).met(running);
    }
    let another = cx.never(Duration::from_secs(1), "a start under another id", || {
        apps.iter().find_map(|(app, _)| {
            let ids = cx.started_ids(app);
            (ids.len() > 1).then(|| format!("{app} was started as {ids:?}"))
        })
    });
    cx.claim(SCHED_REF_002).met(another.await);
    Ok(())
}

/// Submits an app with several values for the same keys, and checks that the last value of each key
/// is sent, also if it is empty, and whether a Secret has `data` or `stringData`.
async fn precedence(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a").heartbeat_field(
        "imports",
        json!([{ "namespace": "acme", "package": "queue", "interfaces": ["push"] }]),
    ))
    .await?;
    let [first, second, secret, encoded] = submit_competing_values(cx).await?;
    let with_references = |mut base: Value| {
        let references = references(&[&first, &second], &[&secret, &encoded]);
        if let (Some(base), Value::Object(references)) = (base.as_object_mut(), references) {
            let inline = json!({ "A": "1", "B": "1", "G": "1", "I": "1" });
            base.insert("config".into(), inline);
            base.extend(references);
        }
        base
    };
    let interface =
        with_references(json!({ "namespace": "acme", "package": "queue", "interfaces": ["push"] }));
    let service = json!({
        "image": cx.image("service", 1),
        "localResources": { "environment": with_references(json!({})) },
    });
    let app = cx
        .deployment("app", 1)
        .spec(
            "/components/0/localResources/environment",
            with_references(json!({})),
        )
        .spec("/service", service)
        .spec("/hostInterfaces", json!([interface]));
    cx.submit(&app).await?;
    let workload = sent_workload(cx, "app").await?;
    let expected = json!({
        "A": "4", "B": "2", "C": "3", "D": "4", "E": "4",
        "F": "", "G": "", "H": "5 \u{e9}", "I": "1",
    });
    for (owner, pointer, requirement) in [
        (
            "component",
            "/witWorld/components/0/localResources/environment",
            SCHED_REF_003,
        ),
        (
            "service",
            "/service/localResources/environment",
            SCHED_REF_003,
        ),
        (
            "interface",
            "/witWorld/hostInterfaces/0/config",
            SCHED_REF_004,
        ),
    ] {
        cx.claim(requirement).is(
            &format!("values of the {owner}"),
            value_at(&workload, pointer),
            expected.clone(),
        );
    }
    Ok(())
}

/// Submits two ConfigMaps and two Secrets with values for the same keys. Returns their names, in
/// the order of the references.
async fn submit_competing_values(cx: &ScenarioContext) -> Result<[String; 4], Blocked> {
    // The order of the lists is not that of the names.
    let [first, second] = ["z-first", "a-second"].map(|name| cx.name(name));
    let [secret, encoded] = ["z-secret", "a-encoded"].map(|name| cx.name(name));
    let config = |name: &str, values: &[(&str, &str)]| Manifest::data("ConfigMap", name, values);
    for object in [
        config(&first, &[("B", "2"), ("C", "2"), ("E", "2"), ("F", "2")]),
        config(&second, &[("C", "3"), ("E", "3"), ("G", "")]),
        Manifest::data(
            "Secret",
            &secret,
            &[("D", "4"), ("A", "4"), ("E", "4"), ("H", "4")],
        ),
        Manifest::encoded_secret(&encoded, &[("H", "5 \u{e9}"), ("F", "")]),
    ] {
        cx.submit(&object).await?;
    }
    Ok([first, second, secret, encoded])
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

/// Creates objects in the namespace `default`, and apps that reference them in another namespace.
async fn other_namespace(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let mark = cx.scheduler().bus.tap().mark();
    let name = cx.name("object");
    for kind in ["ConfigMap", "Secret"] {
        cx.submit(&Manifest::data(kind, &name, &[("A", "of-default")]))
            .await?;
    }
    let environment = "/components/0/localResources/environment";
    for (app, references) in [
        ("config", references(&[&name], &[])),
        ("secret", references(&[], &[&name])),
    ] {
        let app = cx.deployment(app, 1).namespace("elsewhere");
        cx.submit(&app.spec(environment, references)).await?;
    }
    let started = cx.never(Duration::from_millis(2_500), "a start", || {
        let mut apps = ["config", "secret"].into_iter();
        apps.find_map(|app| Some(format!("{} of {app}", cx.find_start(app, mark)?)))
    });
    cx.claim(SCHED_REF_008).met(started.await);
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
