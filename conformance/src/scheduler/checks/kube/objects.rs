//! The objects of a deployment: ids, names, conditions, the scale subresource, and deletion.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::takeover::revision_hash;
use super::{cluster, cluster_error, finalizers, find_by_prefix, host_object, observe, text};
use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::{ScenarioContext, workload_ids};
use crate::scheduler::manifest::{API_VERSION, Key, Manifest};
use crate::spec::requirements::*;

const DEPLOYMENT_LABEL: &str = "runtime.wasmcloud.dev/workload-deployment";
const REVISION_ANNOTATION: &str = "runtime.wasmcloud.dev/workload-replica-set-generation";

/// The first id of a workload is the uid of its object.
pub(super) async fn uid_as_id(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    cx.submit(&cx.workload("bare")).await?;
    let bare = cx.require_running("bare", 1, SCHED_START_001).await?;
    let (_, running) = cx.deploy("app", 2, SCHED_SCALE_001).await?;
    let mut uids = BTreeSet::new();
    for app in ["bare", "app"] {
        let workloads = find_by_prefix(cx, "Workload", &cx.name(app)).await;
        let workloads = workloads.map_err(Blocked::Harness)?;
        let uid = |workload: &Value| text(workload, "/metadata/uid").to_owned();
        uids.extend(workloads.iter().map(uid));
    }
    let ids: BTreeSet<String> = workload_ids(&bare)
        .union(&workload_ids(&running))
        .cloned()
        .collect();
    cx.claim(SCHED_KUBE_002)
        .is("ids of the running workloads", ids, uids);
    Ok(())
}

/// Checks each row of the table of names in the specification.
pub(super) async fn names(cx: &ScenarioContext) -> Flow {
    let [a, _] = cx.start_hosts::<2>().await?;
    let artifact = artifact(cx, "image");
    cx.submit(&artifact).await?;
    let (app, _) = cx.deploy("app", 2, SCHED_SCALE_001).await?;
    let show = cx.timings().show;
    let named_as_specified = cx.eventually(show, "objects are named as specified", || async {
        let mut mismatches = Vec::new();
        check_host(&host_object(cx, &a.id()).await?, &mut mismatches);
        let deployment = observe(cx, &app.key()).await?;
        let sets = find_by_prefix(cx, "WorkloadReplicaSet", &cx.name("app-")).await?;
        let [set] = sets.as_slice() else {
            return Err(format!("{} replica sets instead of 1", sets.len()));
        };
        check_set(set, &deployment, &mut mismatches);
        let prefix = format!("{}-", Key::of(set).name);
        let workloads = find_by_prefix(cx, "Workload", &prefix).await?;
        if workloads.len() != 2 {
            mismatches.push(format!(
                "{} workloads instead of 2 are named {prefix}…",
                workloads.len()
            ));
        }
        let spec = app.json().pointer("/spec/template/spec");
        let revision = revision_hash(spec.unwrap_or(&Value::Null));
        for workload in &workloads {
            check_workload(workload, set, &revision, &mut mismatches);
        }
        let artifact = observe(cx, &artifact.key()).await?;
        check_finalizer(
            &artifact,
            "runtime.wasmcloud.dev/artifact-finalizer",
            &mut mismatches,
        );
        if mismatches.is_empty() {
            Ok(())
        } else {
            Err(mismatches.join("; "))
        }
    });
    cx.claim(SCHED_KUBE_003).met(named_as_specified.await);
    Ok(())
}

/// Checks the name, the labels and the finalizer of a Host object.
fn check_host(host: &Value, mismatches: &mut Vec<String>) {
    check_finalizer(host, "runtime.wasmcloud.dev/host-finalizer", mismatches);
    if text(host, "/metadata/labels/hostgroup").is_empty() {
        mismatches.push("a Host lacks the labels of its heartbeat".to_owned());
    }
    if !text(host, "/metadata/name").starts_with("a-") {
        mismatches.push(format!(
            "a Host is named {}, not a-…",
            text(host, "/metadata/name")
        ));
    }
}

/// Checks the label and the owner of a replica set, and the reference to it in the status of its
/// deployment.
fn check_set(set: &Value, deployment: &Value, mismatches: &mut Vec<String>) {
    let label = set
        .pointer("/metadata/labels")
        .and_then(|labels| labels.get(DEPLOYMENT_LABEL));
    if label != deployment.pointer("/metadata/name") {
        mismatches.push(format!(
            "the label {DEPLOYMENT_LABEL} of the replica set is {label:?}"
        ));
    }
    check_owner(set, deployment, mismatches);
    let current = text(deployment, "/status/currentReplicaSet/name");
    if current != text(set, "/metadata/name") {
        mismatches.push(format!("status.currentReplicaSet is {current:?}"));
    }
}

/// Checks the finalizer, the owner and the annotation of a Workload.
fn check_workload(workload: &Value, set: &Value, revision: &str, mismatches: &mut Vec<String>) {
    check_finalizer(
        workload,
        "runtime.wasmcloud.dev/workload-finalizer",
        mismatches,
    );
    check_owner(workload, set, mismatches);
    let annotations = workload.pointer("/metadata/annotations");
    let actual = annotations.and_then(|annotations| annotations.get(REVISION_ANNOTATION));
    if actual != Some(&json!(revision)) {
        mismatches.push(format!(
            "the hash of the template is {actual:?} instead of {revision}"
        ));
    }
}

/// Checks that an object has a finalizer.
fn check_finalizer(object: &Value, finalizer: &str, mismatches: &mut Vec<String>) {
    let actual = finalizers(object);
    if !actual.contains(&finalizer) {
        mismatches.push(format!("{} has the finalizers {actual:?}", Key::of(object)));
    }
}

/// Checks that an object has exactly one owner reference, to `owner` as its controller.
fn check_owner(object: &Value, owner: &Value, mismatches: &mut Vec<String>) {
    let expected = json!({
        "apiVersion": API_VERSION, "kind": text(owner, "/kind"), "name": text(owner, "/metadata/name"),
        "uid": text(owner, "/metadata/uid"), "controller": true, "blockOwnerDeletion": true,
    });
    let actual = object
        .pointer("/metadata/ownerReferences")
        .cloned()
        .unwrap_or_default();
    if actual != json!([expected]) {
        mismatches.push(format!(
            "{} has the owner references {actual}",
            Key::of(object)
        ));
    }
}

/// Returns the manifest of an Artifact.
pub(super) fn artifact(cx: &ScenarioContext, name: &str) -> Manifest {
    Manifest::workload(&cx.name(name), "", "")
        .with("/kind", json!("Artifact"))
        .with("/spec", json!({ "image": cx.image("app", 1) }))
}

/// Changes a deployment, and checks that every condition of its objects has the generation of its
/// object.
pub(super) async fn observed_generation(cx: &ScenarioContext) -> Flow {
    let [a, _] = cx.start_hosts::<2>().await?;
    let artifact = artifact(cx, "image");
    cx.submit(&artifact).await?;
    let (app, _) = cx.deploy("app", 2, SCHED_SCALE_001).await?;
    // The change creates a second generation.
    cx.submit(&app.clone().image(&cx.image("app", 2))).await?;
    let within = cx.timings().act + cx.timings().show + cx.timings().retry;
    let observed = cx.eventually(
        within,
        "every condition has the observedGeneration of its object",
        || async {
            let mut objects = vec![
                observe(cx, &app.key()).await?,
                observe(cx, &artifact.key()).await?,
                host_object(cx, &a.id()).await?,
            ];
            for kind in ["WorkloadReplicaSet", "Workload"] {
                objects.extend(find_by_prefix(cx, kind, &cx.name("app-")).await?);
            }
            let stale: Vec<String> = objects.iter().filter_map(stale_condition).collect();
            if stale.is_empty() {
                Ok(())
            } else {
                Err(stale.join("; "))
            }
        },
    );
    cx.claim(SCHED_KUBE_009).met(observed.await);
    Ok(())
}

/// Describes a condition that lacks the generation of its object, or the absence of conditions.
/// Pure.
fn stale_condition(object: &Value) -> Option<String> {
    let key = Key::of(object);
    let generation = object.pointer("/metadata/generation");
    let conditions = object
        .pointer("/status/conditions")
        .and_then(Value::as_array);
    let Some(conditions) = conditions.filter(|conditions| !conditions.is_empty()) else {
        return Some(format!("{key} has no conditions"));
    };
    let stale = conditions
        .iter()
        .find(|condition| condition.get("observedGeneration") != generation)?;
    Some(format!("{key} has the generation {generation:?}: {stale}"))
}

/// Scales a deployment through the scale subresource, and checks that the subresource reports the
/// replicas and a selector.
pub(super) async fn scale(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (app, _) = cx.deploy("app", 2, SCHED_SCALE_001).await?;
    let cluster = cluster(cx)?;
    for replicas in [2, 3, 1] {
        let scaled = cluster.set_scale(&app.key(), replicas).await;
        let error = scaled
            .as_ref()
            .err()
            .map(|error| crate::check::outcome::error_chain(error));
        cx.claim(SCHED_KUBE_010)
            .is("error of the scale subresource", error, None::<String>);
        let count = usize::try_from(replicas).unwrap_or_default();
        let running = cx.wait_for_running("app", count, cx.timings().act).await;
        cx.claim(SCHED_KUBE_010).met(running);
        let reported = cx.eventually(
            cx.timings().show,
            "the scale subresource reports the replicas and a selector",
            || async {
                let scale = cluster.scale(&app.key()).await;
                let scale = scale.map_err(|error| crate::check::outcome::error_chain(&error))?;
                let actual = scale
                    .pointer("/status/replicas")
                    .and_then(Value::as_i64)
                    .unwrap_or(0);
                let has_selector = !text(&scale, "/status/selector").is_empty();
                if actual == replicas && has_selector {
                    Ok(())
                } else {
                    Err(scale.get("status").cloned().unwrap_or_default().to_string())
                }
            },
        );
        cx.claim(SCHED_KUBE_010).met(reported.await);
    }
    Ok(())
}

/// The garbage collector deletes the children while their owners still exist. Nothing must be
/// created or started.
pub(super) async fn foreground_deletion(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (app, _) = cx.deploy("app", 3, SCHED_SCALE_001).await?;
    let before = children(cx).await.map_err(Blocked::Harness)?;
    let starts = cx.starts_of("app").len();
    cluster(cx)?
        .delete_in_foreground(&app.key())
        .await
        .map_err(cluster_error)?;
    let within = cx.timings().act + cx.timings().cleanup;
    let description = "the deployment and its children are deleted, and nothing is created";
    let deleted = cx.eventually(within, description, || async {
        let now = children(cx).await?;
        let created: Vec<&String> = now.difference(&before).collect();
        let started = cx.starts_of("app").len() - starts;
        if !created.is_empty() || started > 0 {
            return Err(format!(
                "{created:?} were created, and {started} starts were sent"
            ));
        }
        let deployment = observe(cx, &app.key()).await.is_ok();
        match (deployment, now.len()) {
            (false, 0) => Ok(()),
            (_, remaining) => Err(format!("{remaining} children remain")),
        }
    });
    cx.claim(SCHED_KUBE_011).met(deleted.await);
    let no_start = cx.never(Duration::from_secs(2), "a start", || {
        (cx.starts_of("app").len() > starts).then(|| "a start".to_owned())
    });
    cx.claim(SCHED_KUBE_011).met(no_start.await);
    Ok(())
}

/// Returns the uids of the objects that were created for the app.
async fn children(cx: &ScenarioContext) -> Result<BTreeSet<String>, String> {
    let mut uids = BTreeSet::new();
    for kind in ["WorkloadReplicaSet", "Workload"] {
        let objects = find_by_prefix(cx, kind, &cx.name("app-")).await?;
        let uid = |object: &Value| text(object, "/metadata/uid").to_owned();
        uids.extend(objects.iter().map(uid));
    }
    Ok(uids)
}
