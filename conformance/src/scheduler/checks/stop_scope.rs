//! Workloads that a deletion, a change or a broken file stops: no others than it concerns.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::intake::DirIntake;
use crate::scheduler::manifest::Manifest;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::spec::requirements::*;

/// Scenarios of the section `stop` about wanted workloads.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "stop/similar-objects", run: similar_objects, covers: [SCHED_STOP_001, SCHED_STOP_002],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "stop/other-namespace", run: other_namespace, covers: [SCHED_STOP_001, SCHED_STOP_002],
        isolation: Shared, needs: [Directory], budget_s: 60,
    },
    scenario! {
        id: "stop/files", run: files, covers: [SCHED_START_018, SCHED_STOP_002],
        isolation: Shared, needs: [Directory], budget_s: 60,
    },
    scenario! {
        id: "stop/refused-change", run: refused_change, covers: [SCHED_STOP_002],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "stop/explicit-default", run: explicit_default, covers: [SCHED_STOP_002],
        isolation: Shared, budget_s: 60,
    },
];

/// Time for which wanted workloads are observed.
const WINDOW: Duration = Duration::from_secs(3);

/// Submits objects, each with one workload, and waits until they run.
async fn run_all(cx: &ScenarioContext, objects: &[(&str, &Manifest)]) -> Flow {
    for (_, object) in objects {
        cx.submit(object).await?;
    }
    for (app, _) in objects {
        cx.require_running(app, 1, SCHED_START_001).await?;
    }
    Ok(())
}

/// Deletes the object of the app `deleted`, and checks that its workload is stopped, and that no
/// other is.
async fn check_only_stops(cx: &ScenarioContext, deleted: &Manifest, others: &[&str]) -> Flow {
    let from = Instant::now();
    cx.delete(deleted).await?;
    for id in cx.started_ids("deleted") {
        cx.claim(SCHED_STOP_001)
            .met(cx.wait_for_stop(&id, cx.timings().act).await);
    }
    let deleted_ids = cx.started_ids("deleted");
    let another = cx.never(WINDOW, "a stop or a start of another workload", || {
        let commands = cx.journal().starts_and_stops_since(from).into_iter();
        let mut others = commands.filter(|command| {
            let mut ids = deleted_ids.iter();
            !ids.any(|id| command.contains(&**id))
        });
        others.next()
    });
    cx.claim(SCHED_STOP_002).met(another.await);
    for app in others {
        let running = cx.running(app).len();
        cx.claim(SCHED_STOP_002)
            .is(&format!("running workloads of {app}"), running, 1);
    }
    Ok(())
}

/// Deletes one of several objects whose kinds and names are similar.
async fn similar_objects(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<1>().await?;
    let name = cx.name("shop");
    let named = |manifest: Manifest, name: &str| manifest.with("/metadata/name", json!(name));
    let deleted = named(cx.deployment("deleted", 1), &name);
    let longer = named(cx.deployment("longer", 1), &format!("{name}-b"));
    let shorter = named(cx.deployment("shorter", 1), &cx.name("sho"));
    let kind = named(cx.workload("kind"), &name);
    let objects = [
        ("deleted", &deleted),
        ("longer", &longer),
        ("shorter", &shorter),
        ("kind", &kind),
    ];
    run_all(cx, &objects).await?;
    check_only_stops(cx, &deleted, &["longer", "shorter", "kind"]).await
}

/// Deletes one of two objects with the same name in two namespaces.
async fn other_namespace(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<1>().await?;
    let name = json!(cx.name("shop"));
    let deleted = cx
        .deployment("deleted", 1)
        .with("/metadata/name", name.clone());
    let there = cx.deployment("there", 1).with("/metadata/name", name);
    let there = there.namespace("elsewhere");
    run_all(cx, &[("deleted", &deleted), ("there", &there)]).await?;
    check_only_stops(cx, &deleted, &["there"]).await
}

/// Returns the directory of the manifests.
fn directory(cx: &ScenarioContext) -> Result<&DirIntake, Blocked> {
    let directory = cx.scheduler().intake.directory();
    directory.ok_or_else(|| Blocked::Harness("the intake is no directory".to_owned()))
}

/// Writes the file of a running app in another format, then only its first half, as while it is
/// being written, and then again completely.
async fn files(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (set, _) = cx.deploy("app", 2, SCHED_SCALE_001).await?;
    let write = |text: &str| {
        directory(cx)?
            .write(&set.key(), text)
            .map_err(|error| Blocked::harness_error("cannot write the file", &error))
    };
    let from = Instant::now();
    let compact = in_reverse_order(set.json());
    write(&compact)?;
    cx.assert_no_commands(SCHED_START_018, from, WINDOW).await;
    let from = Instant::now();
    let half: String = compact.chars().take(compact.len() / 2).collect();
    write(&half)?;
    cx.assert_no_commands(SCHED_STOP_002, from, WINDOW).await;
    write(&compact)?;
    cx.assert_no_commands(SCHED_STOP_002, from, WINDOW).await;
    Ok(())
}

/// Returns JSON without white space, with the keys of all objects in reverse order.
fn in_reverse_order(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(one, _), (other, _)| other.cmp(one));
            let members = members
                .into_iter()
                .map(|(key, value)| format!("{}:{}", json!(key), in_reverse_order(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(in_reverse_order).collect();
            format!("[{}]", items.join(","))
        }
        other => other.to_string(),
    }
}

/// A change that is refused changes nothing.
async fn refused_change(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (set, _) = cx.deploy("app", 1, SCHED_SCALE_001).await?;
    let alone = cx.workload("alone");
    run_all(cx, &[("alone", &alone)]).await?;
    let from = Instant::now();
    let service = json!({ "image": cx.image("service", 1), "maxRestarts": -1 });
    for manifest in [set, alone] {
        // The intake may refuse the change.
        let _ = cx
            .try_submit(&manifest.spec("/service", service.clone()))
            .await;
    }
    cx.assert_no_commands(SCHED_STOP_002, from, WINDOW).await;
    Ok(())
}

/// Sets fields of running apps to their defaults, which does not change the requests to hosts.
async fn explicit_default(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (set, _) = cx.deploy("app", 2, SCHED_SCALE_001).await?;
    let from = Instant::now();
    let mut set = set;
    for (field, value) in [
        ("/components/0/poolSize", json!(0)),
        ("/components/0/maxInvocations", json!(0)),
        ("/hostInterfaces", json!([])),
        ("/volumes", json!([])),
    ] {
        set = set.spec(field, value);
        cx.submit(&set).await?;
        cx.wait(Duration::from_millis(300)).await;
    }
    cx.assert_no_commands(SCHED_STOP_002, from, WINDOW).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverses_order_of_keys_at_every_level() {
        let value = json!({ "a": [{ "b": "x y", "c": null }], "d": 1 });
        let text = in_reverse_order(&value);
        assert_eq!(text, r#"{"d":1,"a":[{"c":null,"b":"x y"}]}"#);
    }
}
