//! Takeover of the objects of another scheduler, and leader election with it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{cluster, cluster_error, host_object, observe, plain_object, text};
use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::manifest::{API_VERSION, Key, Manifest};
use crate::scheduler::simulated_host::SimulatedHost;
use crate::spec::requirements::*;
use crate::wire::response::State;

/// Name of the Lease that all schedulers of these custom resources share.
const LEASE: &str = "d34db3ef.wasmcloud.dev";
/// Characters in the hash of a template.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A deployment with two ready replicas exists, with all objects as another scheduler leaves them.
/// The scheduler must take over the deployment without a start or a stop.
pub(super) async fn takeover(cx: &ScenarioContext) -> Flow {
    let [a, b] = cx.start_hosts::<2>().await?;
    for host in [&a, &b] {
        // The Host objects belong to the objects that another scheduler leaves.
        let id = host.id();
        let registered = cx.eventually(cx.timings().register, "a Host object exists", || {
            host_object(cx, &id)
        });
        registered.await.or_blocked(cx, SCHED_KUBE_003)?;
    }
    cx.scheduler().kill().await;
    let set = create_deployment(cx).await?;
    for (host, suffix) in [(&a, "x1"), (&b, "x2")] {
        create_workload(cx, &set, host, suffix).await?;
    }
    let ids: Vec<String> = [&a, &b]
        .iter()
        .flat_map(|host| host.running_ids())
        .collect();
    let from = Instant::now();
    let launched = cx.scheduler().launch();
    launched.map_err(|error| Blocked::harness_error("cannot launch the scheduler", &error))?;
    let polled = cx.eventually(
        cx.timings().reconnect + cx.timings().poll,
        "the status of both workloads is polled",
        || {
            let requests = cx.journal().commands("workload.status");
            let all = ids
                .iter()
                .all(|id| requests.iter().any(|(_, request)| request.id == *id));
            std::future::ready(if all {
                Ok(())
            } else {
                Err(format!("{} status requests", requests.len()))
            })
        },
    );
    cx.claim(SCHED_KUBE_001).met(polled.await);
    cx.assert_no_commands(SCHED_KUBE_001, from, Duration::from_secs(5))
        .await;
    // Proves that the scheduler manages the deployment from now on.
    let app = cx.deployment("app", 3);
    cluster(cx)?
        .set_scale(&app.key(), 3)
        .await
        .map_err(cluster_error)?;
    let within = cx.timings().act + cx.timings().reconnect;
    let scaled = cx.eventually(within, "exactly one workload is started", || {
        let commands = cx.journal().starts_and_stops_since(from);
        std::future::ready(if commands.len() == 1 && cx.running("app").len() == 1 {
            Ok(())
        } else {
            Err(format!("{commands:?}"))
        })
    });
    cx.claim(SCHED_KUBE_001).met(scaled.await);
    Ok(())
}

/// Creates the deployment and its replica set, with their status. Returns the replica set.
async fn create_deployment(cx: &ScenarioContext) -> Result<Value, Blocked> {
    let cluster = cluster(cx)?;
    let app = cx.deployment("app", 2);
    cx.submit(&app).await?;
    let deployment = observe(cx, &app.key()).await.map_err(Blocked::Harness)?;
    let name = cx.name("app-7xk2p");
    let set = Manifest::deployment(&name, "", "", 2)
        .with("/kind", json!("WorkloadReplicaSet"))
        .with("/spec/template/spec", template_spec(&app))
        .with(
            "/metadata/labels",
            json!({ "runtime.wasmcloud.dev/workload-deployment": cx.name("app") }),
        )
        .with("/metadata/ownerReferences", owner_references(&deployment));
    cx.submit(&set).await?;
    let counts = json!({ "expected": 2, "current": 2, "ready": 2 });
    let status = json!({
        "replicas": counts,
        "conditions": true_conditions(&["ScaleUp", "ScaleDown", "Ready"]),
    });
    cluster
        .set_status(&set.key(), status)
        .await
        .map_err(cluster_error)?;
    let status = json!({
        "currentReplicaSet": { "name": name }, "replicas": counts, "currentReplicas": 2,
        "selector": format!("runtime.wasmcloud.dev/workload-deployment={}", cx.name("app")),
        "conditions": true_conditions(&["Artifact", "Sync", "Deploy", "Scale", "Ready"]),
    });
    cluster
        .set_status(&app.key(), status)
        .await
        .map_err(cluster_error)?;
    observe(cx, &set.key()).await.map_err(Blocked::Harness)
}

/// Creates one workload of the set, with its status, and runs it on the host.
async fn create_workload(
    cx: &ScenarioContext,
    set: &Value,
    host: &SimulatedHost,
    suffix: &str,
) -> Result<(), Blocked> {
    let spec = template_spec(&cx.deployment("app", 2));
    let name = format!("{}-{suffix}", Key::of(set).name);
    let workload = Manifest::workload(&name, "", "")
        .with("/spec", spec.clone())
        .with(
            "/metadata/annotations",
            json!({ "runtime.wasmcloud.dev/workload-replica-set-generation": revision_hash(&spec) }),
        )
        .with(
            "/metadata/finalizers",
            json!(["runtime.wasmcloud.dev/workload-finalizer"]),
        )
        .with("/metadata/ownerReferences", owner_references(set));
    cx.submit(&workload).await?;
    let object = observe(cx, &workload.key())
        .await
        .map_err(Blocked::Harness)?;
    let id = text(&object, "/metadata/uid");
    let status = json!({
        "hostId": host.id(), "workloadId": id,
        "conditions": true_conditions(&["Config", "HostSelection", "Placement", "Sync", "Ready"]),
    });
    let updated = cluster(cx)?.set_status(&workload.key(), status).await;
    updated.map_err(cluster_error)?;
    host.set_workload_state(id, State::Running, "");
    Ok(())
}

/// The scheduler acts only while it holds the Lease.
pub(super) async fn lease(cx: &ScenarioContext) -> Flow {
    cx.scheduler().kill().await;
    cx.start_hosts::<2>().await?;
    let lease = |holder: &str| {
        plain_object("coordination.k8s.io/v1", "Lease", LEASE).with(
            "/spec",
            json!({
                "holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 1,
                "acquireTime": crate::check::run_options::now_rfc3339().replace('Z', "000Z"),
                "renewTime": crate::check::run_options::now_rfc3339().replace('Z', "000Z"),
            }),
        )
    };
    cx.submit(&lease("operator_1")).await?;
    let launched = cx.scheduler().launch();
    launched.map_err(|error| Blocked::harness_error("cannot launch the scheduler", &error))?;
    cx.submit(&cx.deployment("app", 2)).await?;
    // The other instance renews the Lease before it expires.
    for _ in 0..3 {
        let window = Duration::from_secs(3);
        let no_start = cx.never(window, "a start without the Lease", || {
            let starts = cx.starts_of("app");
            starts
                .first()
                .map(|(entry, start)| format!("a start of {} on {}", start.id, entry.host))
        });
        cx.claim(SCHED_KUBE_012).met(no_start.await);
        cx.submit(&lease("operator_1")).await?;
    }
    // The other instance releases the Lease.
    cx.submit(&lease("")).await?;
    let within = cx.timings().act + cx.timings().reconnect;
    let running = cx.wait_for_running("app", 2, within).await;
    cx.claim(SCHED_KUBE_012).met(running);
    let acquired = observe(cx, &lease("").key())
        .await
        .map_err(Blocked::Harness)?;
    let holder = text(&acquired, "/spec/holderIdentity").to_owned();
    cx.claim(SCHED_KUBE_012).holds(
        "the scheduler holds the Lease",
        !matches!(holder.as_str(), "" | "operator_1"),
        || format!("the holder is {holder:?}"),
    );
    Ok(())
}

/// Returns the workload spec in the template of a deployment.
fn template_spec(deployment: &Manifest) -> Value {
    let spec = deployment.json().pointer("/spec/template/spec");
    spec.cloned().unwrap_or_default()
}

/// Returns owner references with `object` as the controller.
fn owner_references(object: &Value) -> Value {
    json!([{
        "apiVersion": API_VERSION, "kind": text(object, "/kind"), "name": text(object, "/metadata/name"),
        "uid": text(object, "/metadata/uid"), "controller": true, "blockOwnerDeletion": true,
    }])
}

/// Returns conditions with these names and the status True.
fn true_conditions(names: &[&str]) -> Value {
    let entry = |name: &&str| {
        json!({
            "type": name, "status": "True", "reason": "Available", "message": "",
            "lastTransitionTime": "2026-01-02T03:04:05Z",
        })
    };
    names.iter().map(entry).collect()
}

/// Returns the hash of a template's spec in the form that scenarios use. Pure.
pub(super) fn revision_hash(spec: &Value) -> String {
    let group = text(spec, "/hostSelector/hostgroup");
    let (name, image) = (
        text(spec, "/components/0/name"),
        text(spec, "/components/0/image"),
    );
    let json = if spec.as_object().is_none_or(serde_json::Map::is_empty) {
        "{}".to_owned()
    } else {
        // The order is that of the fields in the Go types, which is not alphabetical.
        format!(
            r#"{{"hostSelector":{{"hostgroup":"{group}"}},"components":[{{"name":"{name}","image":"{image}"}}]}}"#
        )
    };
    let hash = json.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let digits = hash.to_string().into_bytes();
    let letter = |digit: u8| ALPHABET.get(usize::from(digit) % ALPHABET.len());
    digits
        .into_iter()
        .filter_map(letter)
        .map(|letter| char::from(*letter))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_specified() {
        assert_eq!(revision_hash(&json!({})), "5859f96865");
    }
}
