//! Refusals of the intake: how they are reported, and that they change nothing.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::references::value_at;
use crate::check::outcome::Flow;
use crate::scheduler::context::{ScenarioContext, condition};
use crate::scheduler::manifest::Manifest;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::spec::requirements::*;

/// Scenarios of the section `intake`.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "intake/refused", run: refused, covers: [SCHED_INTAKE_001], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "intake/refused-change", run: refused_change,
        covers: [SCHED_INTAKE_001, SCHED_INTAKE_002], isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "intake/restarted-after-refusal", run: restarted_after_refusal,
        covers: [SCHED_CONT_016], isolation: Own, needs: [Process], budget_s: 90,
    },
];

/// Makes a manifest invalid (SCHED-START-017).
fn invalid(manifest: Manifest) -> Manifest {
    let service = json!({ "image": "registry.invalid/service:1", "maxRestarts": -1 });
    manifest.spec("/service", service)
}

/// Submits an invalid workload, and checks that its refusal is reported.
async fn refused(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let workload = invalid(cx.workload("app"));
    if cx.try_submit(&workload).await.is_err() {
        claim_immediate_refusal(cx);
        return Ok(());
    }
    let description = "the workload is reported as not ready, with a message";
    let shown = cx.eventually(cx.timings().show_after_act(), description, || async {
        let object = cx.observe(&workload).await?;
        let ready = condition(&object, "Ready").cloned().unwrap_or_default();
        let text = |name: &str| ready.get(name).and_then(Value::as_str).unwrap_or_default();
        if text("status") == "True" || text("message").trim().is_empty() {
            return Err(format!("the condition Ready is {ready}"));
        }
        Ok(())
    });
    cx.claim(SCHED_INTAKE_001).met(shown.await);
    Ok(())
}

fn claim_immediate_refusal(cx: &ScenarioContext) {
    cx.claim(SCHED_INTAKE_001)
        .holds("the intake refuses the object", true, String::new);
}

/// Submits invalid changes of running deployments, and checks that each refusal is reported, and
/// that nothing is started or stopped.
async fn refused_change(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    for app in ["template", "number"] {
        refuse_change(cx, app).await?;
    }
    Ok(())
}

async fn refuse_change(cx: &ScenarioContext, app: &str) -> Flow {
    let (set, _) = cx.deploy(app, 1, SCHED_SCALE_001).await?;
    cx.wait_for_ready(&set, cx.timings().show)
        .await
        .or_blocked(cx, SCHED_STATUS_002)?;
    let before = observed_status(cx, &set).await;
    let from = Instant::now();
    let change = set.clone().image(&cx.image(app, 2));
    let change = if app == "template" {
        invalid(change)
    } else {
        change.replicas(-1)
    };
    if cx.try_submit(&change).await.is_ok() {
        let description = format!("the status of {app} shows the refusal");
        let shown = cx.eventually(cx.timings().show_after_act(), &description, || async {
            let now = observed_status(cx, &set).await;
            if now == before {
                Err(format!("the status is still {now:?}"))
            } else {
                Ok(())
            }
        });
        cx.claim(SCHED_INTAKE_001).met(shown.await);
    } else {
        claim_immediate_refusal(cx);
    }
    let window = Duration::from_secs(3);
    cx.assert_no_commands(SCHED_INTAKE_002, from, window).await;
    let exists = cx.observe(&set).await;
    cx.claim(SCHED_INTAKE_002)
        .holds("the object is still reported", exists.is_ok(), || {
            exists.err().unwrap_or_default()
        });
    Ok(())
}

/// Returns status, reason and message of each condition of an object.
async fn observed_status(cx: &ScenarioContext, manifest: &Manifest) -> Vec<[Value; 4]> {
    let object = cx.observe(manifest).await.unwrap_or_default();
    let conditions = value_at(&object, "/status/conditions");
    let fields = ["type", "status", "reason", "message"];
    let conditions = conditions.as_array().into_iter().flatten();
    conditions
        .map(|condition| fields.map(|name| condition.get(name).cloned().unwrap_or_default()))
        .collect()
}

/// Kills and relaunches the scheduler after it has refused a change of a deployment, and checks
/// that the workload keeps running.
async fn restarted_after_refusal(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let set = cx.deployment("app", 1);
    cx.submit(&set).await?;
    let within = cx.timings().act + cx.timings().reconnect;
    cx.wait_for_running("app", 1, within)
        .await
        .or_blocked(cx, SCHED_START_001)?;
    let from = Instant::now();
    let change = set.image(&cx.image("app", 2)).replicas(-1);
    // The intake may refuse the change immediately.
    let _ = cx.try_submit(&change).await;
    cx.assert_no_commands(SCHED_CONT_016, from, Duration::from_secs(2))
        .await;
    cx.kill_scheduler().await;
    cx.launch_scheduler()?;
    // Long enough for the first reconciliation of a scheduler that has read the refused change.
    let window = (cx.timings().reconnect + cx.timings().act).min(Duration::from_secs(8));
    cx.assert_no_commands(SCHED_CONT_016, from, window).await;
    Ok(())
}
