//! Kubernetes: custom resources, the objects of the scheduler, and objects of other clients in the
//! cluster.

mod cluster_hygiene;
mod objects;
mod routes;
mod takeover;

use serde_json::{Value, json};

use crate::check::outcome::Blocked;
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::intake::{Intake, KubeIntake};
use crate::scheduler::manifest::{Key, Manifest};
use crate::scheduler::scenario::{Scenario, scenario};

/// Scenarios of the section `kube`.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "kube/takeover", run: takeover::takeover, covers: [SCHED_KUBE_001], isolation: Own,
        needs: [Process, Kubernetes], budget_s: 120,
    },
    scenario! {
        id: "kube/uid-as-id", run: objects::uid_as_id, covers: [SCHED_KUBE_002], isolation: Shared,
        needs: [Kubernetes], budget_s: 60,
    },
    scenario! {
        id: "kube/names", run: objects::names, covers: [SCHED_KUBE_003], isolation: Shared,
        needs: [Kubernetes], budget_s: 90,
    },
    scenario! {
        id: "kube/pod-finalizer", run: routes::pod_finalizer, covers: [SCHED_KUBE_004],
        isolation: Shared, needs: [Kubernetes], budget_s: 60,
    },
    scenario! {
        id: "kube/pod-deleted", run: routes::pod_deleted, covers: [SCHED_KUBE_005],
        isolation: Shared, needs: [Kubernetes], budget_s: 90,
    },
    scenario! {
        id: "kube/endpoints", run: routes::endpoints, covers: [SCHED_KUBE_006], isolation: Shared,
        needs: [Kubernetes], budget_s: 120,
    },
    scenario! {
        id: "kube/endpoints-repaired", run: routes::endpoints_repaired, covers: [SCHED_KUBE_007],
        isolation: Shared, needs: [Kubernetes], budget_s: 90,
    },
    scenario! {
        id: "kube/endpoint-removed-before-stop", run: routes::endpoint_removed_before_stop,
        covers: [SCHED_KUBE_008], isolation: Shared, needs: [Kubernetes], budget_s: 90,
    },
    scenario! {
        id: "kube/observed-generation", run: objects::observed_generation, covers: [SCHED_KUBE_009],
        isolation: Shared, needs: [Kubernetes], budget_s: 90,
    },
    scenario! {
        id: "kube/scale", run: objects::scale, covers: [SCHED_KUBE_010], isolation: Shared,
        needs: [Kubernetes], budget_s: 90,
    },
    scenario! {
        id: "kube/foreground-deletion", run: objects::foreground_deletion, covers: [SCHED_KUBE_011],
        isolation: Shared, needs: [Kubernetes], budget_s: 120,
    },
    scenario! {
        id: "kube/lease", run: takeover::lease, covers: [SCHED_KUBE_012], isolation: Elected,
        needs: [Process, Kubernetes], budget_s: 120,
    },
    scenario! {
        id: "kube/other-namespace", run: cluster_hygiene::other_namespace, covers: [SCHED_KUBE_013],
        isolation: Shared, needs: [Kubernetes], budget_s: 60,
    },
    scenario! {
        id: "kube/host-status", run: cluster_hygiene::host_status, covers: [SCHED_KUBE_014],
        isolation: Shared, needs: [Kubernetes], budget_s: 120,
    },
    scenario! {
        id: "kube/artifact-in-use", run: cluster_hygiene::artifact_in_use, covers: [SCHED_KUBE_015],
        isolation: Shared, needs: [Kubernetes], budget_s: 90,
    },
    scenario! {
        id: "kube/idle", run: cluster_hygiene::idle, covers: [SCHED_KUBE_016], isolation: Shared,
        needs: [Kubernetes], budget_s: 120,
    },
];

/// Returns the intake of the cluster.
fn cluster(cx: &ScenarioContext) -> Result<&KubeIntake, Blocked> {
    match &cx.scheduler().intake {
        Intake::Kube(kube) => Ok(kube),
        _ => Err(Blocked::Harness("the target has no API server".to_owned())),
    }
}

/// Returns an object of the cluster.
async fn observe(cx: &ScenarioContext, key: &Key) -> Result<Value, String> {
    let cluster = cluster(cx).map_err(|blocked| blocked.to_string())?;
    match cluster.observe(key).await {
        Ok(Some(object)) => Ok(object),
        Ok(None) => Err(format!("{key} does not exist")),
        Err(error) => Err(crate::check::outcome::error_chain(&error)),
    }
}

/// Returns the objects of a kind for which `matches` returns true.
async fn find(
    cx: &ScenarioContext,
    kind: &str,
    matches: impl Fn(&Value) -> bool,
) -> Result<Vec<Value>, String> {
    let cluster = cluster(cx).map_err(|blocked| blocked.to_string())?;
    let list = cluster.list(kind).await;
    let mut objects = list.map_err(|error| crate::check::outcome::error_chain(&error))?;
    objects.retain(|object| matches(object));
    Ok(objects)
}

/// Returns the objects of a kind whose names begin with `prefix`.
async fn find_by_prefix(
    cx: &ScenarioContext,
    kind: &str,
    prefix: &str,
) -> Result<Vec<Value>, String> {
    find(cx, kind, |object| Key::of(object).name.starts_with(prefix)).await
}

/// Returns the Host object of the host with this id.
async fn host_object(cx: &ScenarioContext, id: &str) -> Result<Value, String> {
    let hosts = find(cx, "Host", |host| text(host, "/hostId") == id).await?;
    hosts
        .into_iter()
        .next()
        .ok_or_else(|| format!("no Host has the hostId {id}"))
}

/// Converts an error of the API server to a failure of the suite.
fn cluster_error(error: impl std::error::Error) -> Blocked {
    Blocked::harness_error("cannot prepare objects in the cluster", &error)
}

/// Returns the text at a JSON pointer, or an empty text.
fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Returns the finalizers of an object.
fn finalizers(object: &Value) -> Vec<&str> {
    let list = object
        .pointer("/metadata/finalizers")
        .and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// Returns the manifest of an object without spec or data.
fn plain_object(api_version: &str, kind: &str, name: &str) -> Manifest {
    Manifest::data(kind, name, &[])
        .with("/apiVersion", json!(api_version))
        .without("data")
}

/// Returns a random address that an EndpointSlice accepts.
fn random_address() -> String {
    let [_, b, c, d] = rand::random::<u32>().to_be_bytes();
    format!("10.{b}.{c}.{}", d.clamp(1, 254))
}
