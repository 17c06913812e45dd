//! Kubernetes: what a scheduler does with custom resources, and what it leaves to others in the cluster.

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

/// The section.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "kube/takeover", run: takeover::takeover, covers: [SCHED_KUBE_001], isolation: Own,
        needs: [Process, Kubernetes], budget_s: 120,
    },
    scenario! {
        id: "kube/first-id", run: objects::first_id, covers: [SCHED_KUBE_002], isolation: Shared,
        needs: [Kubernetes], budget_s: 60,
    },
    scenario! {
        id: "kube/names", run: objects::names, covers: [SCHED_KUBE_003], isolation: Shared,
        needs: [Kubernetes], budget_s: 90,
    },
    scenario! {
        id: "kube/pod-let-go", run: routes::pod_let_go, covers: [SCHED_KUBE_004],
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
        id: "kube/endpoints-mended", run: routes::mended, covers: [SCHED_KUBE_007],
        isolation: Shared, needs: [Kubernetes], budget_s: 90,
    },
    scenario! {
        id: "kube/endpoint-before-stop", run: routes::before_stop, covers: [SCHED_KUBE_008],
        isolation: Shared, needs: [Kubernetes], budget_s: 90,
    },
    scenario! {
        id: "kube/observed-generation", run: objects::observed_generation,
        covers: [SCHED_KUBE_009], isolation: Shared, needs: [Kubernetes], budget_s: 90,
    },
    scenario! {
        id: "kube/scale", run: objects::scale, covers: [SCHED_KUBE_010], isolation: Shared,
        needs: [Kubernetes], budget_s: 90,
    },
    scenario! {
        id: "kube/foreground-deletion", run: objects::foreground_deletion,
        covers: [SCHED_KUBE_011], isolation: Shared, needs: [Kubernetes], budget_s: 120,
    },
    scenario! {
        id: "kube/lease", run: takeover::lease, covers: [SCHED_KUBE_012], isolation: Elected,
        needs: [Process, Kubernetes], budget_s: 120,
    },
    scenario! {
        id: "kube/other-namespace", run: cluster_hygiene::other_namespace,
        covers: [SCHED_KUBE_013], isolation: Shared, needs: [Kubernetes], budget_s: 60,
    },
    scenario! {
        id: "kube/host-figures", run: cluster_hygiene::host_figures, covers: [SCHED_KUBE_014],
        isolation: Shared, needs: [Kubernetes], budget_s: 120,
    },
    scenario! {
        id: "kube/artifact-in-use", run: cluster_hygiene::artifact_in_use,
        covers: [SCHED_KUBE_015], isolation: Shared, needs: [Kubernetes], budget_s: 90,
    },
    scenario! {
        id: "kube/at-rest", run: cluster_hygiene::at_rest, covers: [SCHED_KUBE_016],
        isolation: Shared, needs: [Kubernetes], budget_s: 120,
    },
];

/// The cluster that the intake leads to.
fn cluster(cx: &ScenarioContext) -> Result<&KubeIntake, Blocked> {
    match &cx.live().intake {
        Intake::Kube(kube) => Ok(kube),
        _ => Err(Blocked::Harness("no API server".to_owned())),
    }
}

/// Looks at an object.
async fn look(cx: &ScenarioContext, key: &Key) -> Result<Value, String> {
    let cluster = cluster(cx).map_err(|blocked| blocked.to_string())?;
    match cluster.observe(key).await {
        Ok(Some(object)) => Ok(object),
        Ok(None) => Err(format!("there is no {key}")),
        Err(cause) => Err(crate::check::outcome::chain(&cause)),
    }
}

/// The objects of a kind of which a look says that they are meant.
async fn find(
    cx: &ScenarioContext,
    kind: &str,
    meant: impl Fn(&Value) -> bool,
) -> Result<Vec<Value>, String> {
    let cluster = cluster(cx).map_err(|blocked| blocked.to_string())?;
    let list = cluster.list(kind).await;
    let mut objects = list.map_err(|cause| crate::check::outcome::chain(&cause))?;
    objects.retain(|object| meant(object));
    Ok(objects)
}

/// Those whose names begin so.
async fn named(cx: &ScenarioContext, kind: &str, prefix: &str) -> Result<Vec<Value>, String> {
    find(cx, kind, |object| Key::of(object).name.starts_with(prefix)).await
}

/// The Host object of the host with that id.
async fn host_object(cx: &ScenarioContext, id: &str) -> Result<Value, String> {
    let hosts = find(cx, "Host", |host| text(host, "/hostId") == id).await?;
    hosts
        .into_iter()
        .next()
        .ok_or_else(|| format!("there is no Host with the hostId {id}"))
}

/// A trouble of the suite, not of the scheduler.
fn trouble(cause: impl std::error::Error) -> Blocked {
    Blocked::chain("the API server", &cause)
}

fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The finalizers, or none.
fn finalizers(object: &Value) -> Vec<&str> {
    let list = object
        .pointer("/metadata/finalizers")
        .and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// An object that is of none of the five kinds.
fn plain_object(api_version: &str, kind: &str, name: &str) -> Manifest {
    Manifest::data(kind, name, &[])
        .with("/apiVersion", json!(api_version))
        .without("data")
}

/// An address that no other host has, and that an EndpointSlice takes.
fn address() -> String {
    let [_, b, c, d] = rand::random::<u32>().to_be_bytes();
    format!("10.{b}.{c}.{}", d.clamp(1, 254))
}
