//! Other schedulers of these kinds: before this one, and beside it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{cluster, host_object, look, plain_object, text, trouble};
use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::manifest::{API_VERSION, Key, Manifest};
use crate::scheduler::simulated_host::SimulatedHost;
use crate::spec::requirements::*;
use crate::wire::response::State;

/// The Lease of all schedulers of these kinds.
const LEASE: &str = "d34db3ef.wasmcloud.dev";
/// The name of a revision is made of these.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A deployment of two as another scheduler leaves it: running, ready, with all that belongs to it.
pub(super) async fn takeover(cx: &ScenarioContext) -> Flow {
    let [a, b] = cx.hosts::<2>().await?;
    for host in [&a, &b] {
        // The other scheduler knew them, too.
        let id = host.id();
        let known = cx.eventually(cx.timings().register, "a Host object", || {
            host_object(cx, &id)
        });
        known.await.or_blocked(cx, SCHED_KUBE_003)?;
    }
    cx.live().kill().await;
    let set = left(cx).await?;
    for (host, name) in [(&a, "x1"), (&b, "x2")] {
        leave_workload(cx, &set, host, name).await?;
    }
    let ids: Vec<String> = [&a, &b].iter().flat_map(|host| host.running()).collect();
    let from = Instant::now();
    let launched = cx.live().launch();
    launched.map_err(|cause| Blocked::chain("the scheduler", &cause))?;
    let asked = cx.eventually(
        cx.timings().reconnect + cx.timings().poll,
        "it asks for what it has found",
        || {
            let asked = cx.journal().commands("workload.status");
            let all = ids
                .iter()
                .all(|id| asked.iter().any(|(_, came)| came.id == *id));
            std::future::ready(if all {
                Ok(())
            } else {
                Err(format!("{} questions", asked.len()))
            })
        },
    );
    cx.claim(SCHED_KUBE_001).met(asked.await);
    cx.assert_no_commands(SCHED_KUBE_001, from, Duration::from_secs(5))
        .await;
    // It is at work, and goes on from there.
    let app = cx.deployment("app", 3);
    cluster(cx)?
        .set_scale(&app.key(), 3)
        .await
        .map_err(trouble)?;
    let within = cx.timings().act + cx.timings().reconnect;
    let more = cx.eventually(within, "one more is one more", || {
        let orders = cx.journal().orders_since(from);
        std::future::ready(if orders.len() == 1 && cx.running("app").len() == 1 {
            Ok(())
        } else {
            Err(format!("{orders:?}"))
        })
    });
    cx.claim(SCHED_KUBE_001).met(more.await);
    Ok(())
}

/// The deployment and its set.
async fn left(cx: &ScenarioContext) -> Result<Value, Blocked> {
    let cluster = cluster(cx)?;
    let app = cx.deployment("app", 2);
    cx.submit(&app).await?;
    let deployment = look(cx, &app.key()).await.map_err(Blocked::Harness)?;
    let name = cx.name("app-7xk2p");
    let set = Manifest::deployment(&name, "", "", 2)
        .with("/kind", json!("WorkloadReplicaSet"))
        .with("/spec/template/spec", spec(&app))
        .with(
            "/metadata/labels",
            json!({ "runtime.wasmcloud.dev/workload-deployment": cx.name("app") }),
        )
        .with("/metadata/ownerReferences", owner(&deployment));
    cx.submit(&set).await?;
    let counts = json!({ "expected": 2, "current": 2, "ready": 2 });
    let status =
        json!({ "replicas": counts, "conditions": conditions(&["ScaleUp", "ScaleDown", "Ready"]) });
    cluster
        .set_status(&set.key(), status)
        .await
        .map_err(trouble)?;
    let status = json!({
        "currentReplicaSet": { "name": name }, "replicas": counts, "currentReplicas": 2,
        "selector": format!("runtime.wasmcloud.dev/workload-deployment={}", cx.name("app")),
        "conditions": conditions(&["Artifact", "Sync", "Deploy", "Scale", "Ready"]),
    });
    cluster
        .set_status(&app.key(), status)
        .await
        .map_err(trouble)?;
    look(cx, &set.key()).await.map_err(Blocked::Harness)
}

/// One workload of the set, on that host.
async fn leave_workload(
    cx: &ScenarioContext,
    set: &Value,
    host: &SimulatedHost,
    suffix: &str,
) -> Result<(), Blocked> {
    let spec = spec(&cx.deployment("app", 2));
    let name = format!("{}-{suffix}", Key::of(set).name);
    let workload = Manifest::workload(&name, "", "")
        .with("/spec", spec.clone())
        .with(
            "/metadata/annotations",
            json!({ "runtime.wasmcloud.dev/workload-replica-set-generation": revision(&spec) }),
        )
        .with(
            "/metadata/finalizers",
            json!(["runtime.wasmcloud.dev/workload-finalizer"]),
        )
        .with("/metadata/ownerReferences", owner(set));
    cx.submit(&workload).await?;
    let object = look(cx, &workload.key()).await.map_err(Blocked::Harness)?;
    let id = text(&object, "/metadata/uid");
    let status = json!({
        "hostId": host.id(), "workloadId": id,
        "conditions": conditions(&["Config", "HostSelection", "Placement", "Sync", "Ready"]),
    });
    let set = cluster(cx)?.set_status(&workload.key(), status).await;
    set.map_err(trouble)?;
    host.put(id, State::Running, "");
    Ok(())
}

/// Of several instances only the holder of the Lease acts, whoever that is.
pub(super) async fn lease(cx: &ScenarioContext) -> Flow {
    cx.live().kill().await;
    cx.hosts::<2>().await?;
    let lease = |holder: &str| {
        plain_object("coordination.k8s.io/v1", "Lease", LEASE).with(
            "/spec",
            json!({
                "holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 1,
                "acquireTime": crate::check::run_options::today().replace('Z', "000Z"),
                "renewTime": crate::check::run_options::today().replace('Z', "000Z"),
            }),
        )
    };
    cx.submit(&lease("operator_1")).await?;
    let launched = cx.live().launch();
    launched.map_err(|cause| Blocked::chain("the scheduler", &cause))?;
    cx.submit(&cx.deployment("app", 2)).await?;
    // As long as the other one renews it, which is more often than it lasts.
    for _ in 0..3 {
        let window = Duration::from_secs(3);
        let calm = cx.never(window, "an order of one that has no Lease", || {
            let starts = cx.starts_of("app");
            starts
                .first()
                .map(|(entry, came)| format!("a start of {} on {}", came.id, entry.host))
        });
        cx.claim(SCHED_KUBE_012).met(calm.await);
        cx.submit(&lease("operator_1")).await?;
    }
    // The other one lets go of it.
    cx.submit(&lease("")).await?;
    let within = cx.timings().act + cx.timings().reconnect;
    let runs = cx.runs("app", 2, within).await;
    cx.claim(SCHED_KUBE_012).met(runs);
    let held = look(cx, &lease("").key()).await.map_err(Blocked::Harness)?;
    let holder = text(&held, "/spec/holderIdentity").to_owned();
    cx.claim(SCHED_KUBE_012).holds(
        "whoever acts holds the Lease",
        !matches!(holder.as_str(), "" | "operator_1"),
        || format!("its holder is {holder:?}"),
    );
    Ok(())
}

fn spec(deployment: &Manifest) -> Value {
    let spec = deployment.json().pointer("/spec/template/spec");
    spec.cloned().unwrap_or_default()
}

fn owner(object: &Value) -> Value {
    json!([{
        "apiVersion": API_VERSION, "kind": text(object, "/kind"), "name": text(object, "/metadata/name"),
        "uid": text(object, "/metadata/uid"), "controller": true, "blockOwnerDeletion": true,
    }])
}

fn conditions(names: &[&str]) -> Value {
    let entry = |name: &&str| {
        json!({
            "type": name, "status": "True", "reason": "Available", "message": "",
            "lastTransitionTime": "2026-01-02T03:04:05Z",
        })
    };
    names.iter().map(entry).collect()
}

/// The hash of a template's spec of the form that scenarios have. Pure.
pub(super) fn revision(spec: &Value) -> String {
    let group = text(spec, "/hostSelector/hostgroup");
    let (name, image) = (
        text(spec, "/components/0/name"),
        text(spec, "/components/0/image"),
    );
    let json = match spec.as_object().is_none_or(serde_json::Map::is_empty) {
        true => "{}".to_owned(),
        // The order of the Go types, which is not that of the alphabet.
        false => format!(
            r#"{{"hostSelector":{{"hostgroup":"{group}"}},"components":[{{"name":"{name}","image":"{image}"}}]}}"#
        ),
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
    fn the_revision_is_that_of_the_specification() {
        assert_eq!(revision(&json!({})), "5859f96865");
    }
}
