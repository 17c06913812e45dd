//! The status of objects in terms of the custom resources.

use serde_json::{Value, json};

use super::references::value_at;
use crate::check::outcome::Flow;
use crate::scheduler::context::{RunningWorkload, ScenarioContext, condition};
use crate::scheduler::manifest::Manifest;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::spec::requirements::*;

/// Scenarios about the status of objects.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "manifests/status", run: status, covers: [SCHED_CRD_011], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "manifests/status-of-zero", run: status_of_zero, covers: [SCHED_CRD_011],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "manifests/status-after-move", run: status_after_move, covers: [SCHED_CRD_011],
        isolation: Shared, waits: |timings| timings.notice, budget_s: 90,
    },
];

/// Deploys a workload and a set, and checks their conditions, host, environment, id and replica
/// counts in the status.
async fn status(cx: &ScenarioContext) -> Flow {
    let host = cx
        .start_host(
            cx.host_config("a")
                .heartbeat_field("environment", json!("prod")),
        )
        .await?;
    let bare = cx.workload("bare");
    cx.submit(&bare).await?;
    let (set, _) = cx.deploy("app", 2, SCHED_SCALE_001).await?;
    for manifest in [&bare, &set] {
        cx.claim(SCHED_CRD_011)
            .met(cx.wait_for_ready(manifest, cx.timings().show).await);
    }
    let object = cx.observe(&bare).await.unwrap_or_default();
    let status = value_at(&object, "/status");
    let reported = [status.get("hostId"), status.get("environment")]
        .map(|value| value.cloned().unwrap_or_default());
    cx.claim(SCHED_CRD_011).is(
        "hostId and environment of the workload",
        reported,
        [json!(host.id()), json!("prod")],
    );
    let id = status
        .get("workloadId")
        .and_then(Value::as_str)
        .unwrap_or_default();
    cx.claim(SCHED_CRD_011).holds(
        "the reported workloadId is the id of a start",
        cx.started_ids("bare").contains(id),
        || format!("{id:?}"),
    );
    let object = cx.observe(&set).await.unwrap_or_default();
    let counts = value_at(&object, "/status/replicas");
    let count = |name: &str| counts.get(name).and_then(Value::as_i64).unwrap_or(0);
    let reported = ["expected", "current", "ready", "unavailable"].map(count);
    cx.claim(SCHED_CRD_011).is(
        "expected, current, ready and unavailable replicas",
        reported,
        [2, 2, 2, 0],
    );
    let ready = condition(&object, "Ready").cloned().unwrap_or_default();
    let has_reason = ready
        .get("reason")
        .and_then(Value::as_str)
        .is_some_and(|reason| !reason.is_empty());
    cx.claim(SCHED_CRD_011)
        .holds("the condition Ready has a reason", has_reason, || {
            ready.to_string()
        });
    Ok(())
}

/// Deploys a set of size 0, and checks that its status has counts.
async fn status_of_zero(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let set = cx.deployment("app", 0);
    cx.submit(&set).await?;
    let description = "the status of a set of size 0 has replica counts";
    let shown = cx.eventually(cx.timings().show_after_act(), description, || async {
        let object = cx.observe(&set).await?;
        match object.pointer("/status/replicas") {
            Some(Value::Object(_)) => Ok(()),
            _ => Err(value_at(&object, "/status").to_string()),
        }
    });
    cx.claim(SCHED_CRD_011).met(shown.await);
    Ok(())
}

/// Moves a workload to another host, and checks that its status names the new host and the new id.
async fn status_after_move(cx: &ScenarioContext) -> Flow {
    for name in ["a", "b"] {
        let config = cx.host_config(name);
        cx.start_host(config.heartbeat_field("environment", json!(name)))
            .await?;
    }
    let bare = cx.workload("bare");
    cx.submit(&bare).await?;
    let running = cx.require_running("bare", 1, SCHED_START_001).await?;
    for workload in &running {
        assert_names(cx, &bare, workload).await;
        workload.host.disconnect();
    }
    let within = cx.timings().notice + cx.timings().act;
    let moved = cx.wait_for_running("bare", 1, within).await;
    for workload in &moved.or_blocked(cx, SCHED_FAIL_001)? {
        assert_names(cx, &bare, workload).await;
    }
    Ok(())
}

/// Claims that the status of a workload names its host, its id and the environment of its host.
async fn assert_names(cx: &ScenarioContext, manifest: &Manifest, workload: &RunningWorkload) {
    let expected = json!([workload.host.id(), workload.id, workload.host.name()]);
    let description = format!("the status has the host, the id and the environment {expected}");
    let shown = cx.eventually(cx.timings().show, &description, || async {
        let object = cx.observe(manifest).await?;
        let status = value_at(&object, "/status");
        let fields = ["hostId", "workloadId", "environment"];
        let shown = fields.map(|name| status.get(name).cloned().unwrap_or_default());
        if json!(shown) == expected {
            Ok(())
        } else {
            Err(json!(shown).to_string())
        }
    });
    cx.claim(SCHED_CRD_011).met(shown.await);
}
