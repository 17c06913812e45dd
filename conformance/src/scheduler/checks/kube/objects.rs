//! The objects of a deployment: ids, names, conditions, the scale subresource, deletion.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::takeover::revision;
use super::{cluster, finalizers, host_object, look, named, text, trouble};
use crate::check::outcome::Flow;
use crate::scheduler::context::{ScenarioContext, ids_of};
use crate::scheduler::manifest::{API_VERSION, Key, Manifest};
use crate::spec::requirements::*;

const DEPLOYMENT_LABEL: &str = "runtime.wasmcloud.dev/workload-deployment";
const REVISION: &str = "runtime.wasmcloud.dev/workload-replica-set-generation";

pub(super) async fn first_id(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    cx.submit(&cx.workload("bare")).await?;
    let bare = cx.placed("bare", 1, SCHED_START_001).await?;
    let (_, placed) = cx.deployed("app", 2, SCHED_SCALE_001).await?;
    let mut uids = BTreeSet::new();
    for app in ["bare", "app"] {
        let workloads = named(cx, "Workload", &cx.name(app)).await;
        let workloads = workloads.map_err(crate::check::outcome::Blocked::Harness)?;
        uids.extend(
            workloads
                .iter()
                .map(|one| text(one, "/metadata/uid").to_owned()),
        );
    }
    let ids: BTreeSet<String> = ids_of(&bare).union(&ids_of(&placed)).cloned().collect();
    cx.claim(SCHED_KUBE_002).is("the ids that run", ids, uids);
    Ok(())
}

/// Each row of the table of names.
pub(super) async fn names(cx: &ScenarioContext) -> Flow {
    let [a, _] = cx.hosts::<2>().await?;
    let artifact = artifact(cx, "image");
    cx.submit(&artifact).await?;
    let (app, _) = cx.deployed("app", 2, SCHED_SCALE_001).await?;
    let show = cx.timings().show;
    let wrong = cx.eventually(show, "the names of the page", || async {
        let mut wrong = Vec::new();
        host_is_right(&host_object(cx, &a.id()).await?, &mut wrong);
        let deployment = look(cx, &app.key()).await?;
        let sets = named(cx, "WorkloadReplicaSet", &cx.name("app-")).await?;
        let [set] = sets.as_slice() else {
            return Err(format!("{} sets", sets.len()));
        };
        set_is_right(set, &deployment, &mut wrong);
        let prefix = format!("{}-", Key::of(set).name);
        let workloads = named(cx, "Workload", &prefix).await?;
        if workloads.len() != 2 {
            wrong.push(format!("{} workloads are named {prefix}…", workloads.len()));
        }
        let spec = app.json().pointer("/spec/template/spec");
        let revision = revision(spec.unwrap_or(&Value::Null));
        for workload in &workloads {
            workload_is_right(workload, set, &revision, &mut wrong);
        }
        let held = look(cx, &artifact.key()).await?;
        has(
            &held,
            "runtime.wasmcloud.dev/artifact-finalizer",
            &mut wrong,
        );
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(wrong.join("; ")),
        }
    });
    cx.claim(SCHED_KUBE_003).met(wrong.await);
    Ok(())
}

fn host_is_right(host: &Value, wrong: &mut Vec<String>) {
    has(host, "runtime.wasmcloud.dev/host-finalizer", wrong);
    if text(host, "/metadata/labels/hostgroup").is_empty() {
        wrong.push("a Host has not the labels of its heartbeat".to_owned());
    }
    if !text(host, "/metadata/name").starts_with("a-") {
        wrong.push(format!("a Host is named {}", text(host, "/metadata/name")));
    }
}

fn set_is_right(set: &Value, deployment: &Value, wrong: &mut Vec<String>) {
    let label = set
        .pointer("/metadata/labels")
        .and_then(|labels| labels.get(DEPLOYMENT_LABEL));
    if label != deployment.pointer("/metadata/name") {
        wrong.push(format!("the label of the set is {label:?}"));
    }
    owned(set, deployment, wrong);
    let current = text(deployment, "/status/currentReplicaSet/name");
    if current != text(set, "/metadata/name") {
        wrong.push(format!("status.currentReplicaSet is {current:?}"));
    }
}

fn workload_is_right(workload: &Value, set: &Value, revision: &str, wrong: &mut Vec<String>) {
    has(workload, "runtime.wasmcloud.dev/workload-finalizer", wrong);
    owned(workload, set, wrong);
    let annotations = workload.pointer("/metadata/annotations");
    let said = annotations.and_then(|annotations| annotations.get(REVISION));
    if said != Some(&json!(revision)) {
        wrong.push(format!(
            "the hash of the template is {said:?} instead of {revision}"
        ));
    }
}

fn has(object: &Value, finalizer: &str, wrong: &mut Vec<String>) {
    let there = finalizers(object);
    if !there.contains(&finalizer) {
        wrong.push(format!("{} has the finalizers {there:?}", Key::of(object)));
    }
}

fn owned(object: &Value, owner: &Value, wrong: &mut Vec<String>) {
    let expected = json!({
        "apiVersion": API_VERSION, "kind": text(owner, "/kind"), "name": text(owner, "/metadata/name"),
        "uid": text(owner, "/metadata/uid"), "controller": true, "blockOwnerDeletion": true,
    });
    let said = object
        .pointer("/metadata/ownerReferences")
        .cloned()
        .unwrap_or_default();
    if said != json!([expected]) {
        wrong.push(format!(
            "{} has the owner references {said}",
            Key::of(object)
        ));
    }
}

/// An Artifact, not submitted yet.
pub(super) fn artifact(cx: &ScenarioContext, name: &str) -> Manifest {
    Manifest::workload(&cx.name(name), "", "")
        .with("/kind", json!("Artifact"))
        .with("/spec", json!({ "image": cx.image("app", 1) }))
}

pub(super) async fn observed_generation(cx: &ScenarioContext) -> Flow {
    let [a, _] = cx.hosts::<2>().await?;
    let artifact = artifact(cx, "image");
    cx.submit(&artifact).await?;
    let (app, _) = cx.deployed("app", 2, SCHED_SCALE_001).await?;
    // A second generation.
    cx.submit(&app.clone().image(&cx.image("app", 2))).await?;
    let within = cx.timings().act + cx.timings().show + cx.timings().retry;
    let carried = cx.eventually(
        within,
        "every condition says of which generation it is",
        || async {
            let mut objects = vec![
                look(cx, &app.key()).await?,
                look(cx, &artifact.key()).await?,
                host_object(cx, &a.id()).await?,
            ];
            for kind in ["WorkloadReplicaSet", "Workload"] {
                objects.extend(named(cx, kind, &cx.name("app-")).await?);
            }
            let wrong: Vec<String> = objects.iter().filter_map(without_generation).collect();
            match wrong.is_empty() {
                true => Ok(()),
                false => Err(wrong.join("; ")),
            }
        },
    );
    cx.claim(SCHED_KUBE_009).met(carried.await);
    Ok(())
}

/// What is wrong with the conditions of an object, if anything.
fn without_generation(object: &Value) -> Option<String> {
    let key = Key::of(object);
    let generation = object.pointer("/metadata/generation");
    let conditions = object
        .pointer("/status/conditions")
        .and_then(Value::as_array);
    let Some(conditions) = conditions.filter(|conditions| !conditions.is_empty()) else {
        return Some(format!("{key} has no conditions"));
    };
    let wrong = conditions
        .iter()
        .find(|condition| condition.get("observedGeneration") != generation)?;
    Some(format!("{key}, generation {generation:?}: {wrong}"))
}

pub(super) async fn scale(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    let (app, _) = cx.deployed("app", 2, SCHED_SCALE_001).await?;
    let cluster = cluster(cx)?;
    for replicas in [2, 3, 1] {
        let scaled = cluster.set_scale(&app.key(), replicas).await;
        let taken = scaled
            .as_ref()
            .err()
            .map(|cause| crate::check::outcome::chain(cause));
        cx.claim(SCHED_KUBE_010)
            .is("what the scale subresource refuses", taken, None::<String>);
        let count = usize::try_from(replicas).unwrap_or_default();
        let runs = cx.runs("app", count, cx.timings().act).await;
        cx.claim(SCHED_KUBE_010).met(runs);
        let told = cx.eventually(
            cx.timings().show,
            "scale tells how many there are",
            || async {
                let scale = cluster.scale(&app.key()).await;
                let scale = scale.map_err(|cause| crate::check::outcome::chain(&cause))?;
                let exist = scale
                    .pointer("/status/replicas")
                    .and_then(Value::as_i64)
                    .unwrap_or(0);
                let selects = !text(&scale, "/status/selector").is_empty();
                match exist == replicas && selects {
                    true => Ok(()),
                    false => Err(scale.get("status").cloned().unwrap_or_default().to_string()),
                }
            },
        );
        cx.claim(SCHED_KUBE_010).met(told.await);
    }
    Ok(())
}

/// The garbage collector takes the children first, while their parents are still there.
pub(super) async fn foreground_deletion(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    let (app, _) = cx.deployed("app", 3, SCHED_SCALE_001).await?;
    let known = children(cx)
        .await
        .map_err(crate::check::outcome::Blocked::Harness)?;
    let starts = cx.starts_of("app").len();
    cluster(cx)?
        .remove(&app.key(), true)
        .await
        .map_err(trouble)?;
    let within = cx.timings().act + cx.timings().cleanup;
    let gone = cx.eventually(within, "nothing is made, and all of it goes", || async {
        let now = children(cx).await?;
        let more: Vec<&String> = now.difference(&known).collect();
        let started = cx.starts_of("app").len() - starts;
        if !more.is_empty() || started > 0 {
            return Err(format!("{more:?} were made, {started} starts"));
        }
        let deployment = look(cx, &app.key()).await.is_ok();
        match (deployment, now.len()) {
            (false, 0) => Ok(()),
            (_, left) => Err(format!("{left} objects are left below it")),
        }
    });
    cx.claim(SCHED_KUBE_011).met(gone.await);
    let quiet = cx.never(Duration::from_secs(2), "a start", || {
        (cx.starts_of("app").len() > starts).then(|| "a start came".to_owned())
    });
    cx.claim(SCHED_KUBE_011).met(quiet.await);
    Ok(())
}

/// The uids of what was made for the app.
async fn children(cx: &ScenarioContext) -> Result<BTreeSet<String>, String> {
    let mut uids = BTreeSet::new();
    for kind in ["WorkloadReplicaSet", "Workload"] {
        let objects = named(cx, kind, &cx.name("app-")).await?;
        uids.extend(
            objects
                .iter()
                .map(|one| text(one, "/metadata/uid").to_owned()),
        );
    }
    Ok(uids)
}
