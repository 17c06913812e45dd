//! Artifacts: names for images that a deployment uses.

use serde_json::{Value, json};

use super::references::{sent_workload, value_at};
use super::rollout::wait_for_rollout;
use crate::check::outcome::Flow;
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::manifest::{API_VERSION, Manifest};
use crate::scheduler::scenario::{Scenario, scenario};
use crate::spec::requirements::*;

/// Scenarios about Artifacts.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "manifests/artifact", run: artifact,
        covers: [SCHED_CRD_007, SCHED_CRD_008, SCHED_CRD_009], isolation: Shared, budget_s: 120,
    },
    scenario! {
        id: "manifests/two-artifacts", run: two_artifacts,
        covers: [SCHED_CRD_007, SCHED_CRD_008], isolation: Shared, budget_s: 90,
    },
];

/// Returns an Artifact.
fn named_image(name: &str, image: &str) -> Manifest {
    Manifest::deployment(name, "", "", 1)
        .with("/apiVersion", json!(API_VERSION))
        .with("/kind", json!("Artifact"))
        .with("/spec", json!({ "image": image }))
}

/// Returns an entry of `artifacts`.
fn entry(name: &str, artifact: &str) -> Value {
    json!({ "name": name, "artifactFrom": { "name": artifact } })
}

/// An app waits for its Artifact, and is updated when the Artifact changes.
async fn artifact(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let name = cx.name("artifact");
    let app = cx
        .deployment("app", 2)
        .image("artifact://web")
        .with("/spec/artifacts", json!([entry("web", &name)]));
    cx.submit(&app).await?;
    let workload_name = cx.name("app");
    let started = cx.never(
        std::time::Duration::from_secs(2),
        "a start before the Artifact exists",
        || {
            let starts = cx.journal().starts();
            let found = starts.iter().find(|(_, start)| {
                crate::scheduler::journal::contains(&start.payload, &workload_name)
            });
            found.map(|(_, start)| String::from_utf8_lossy(&start.payload).into_owned())
        },
    );
    cx.claim(SCHED_CRD_008).met(started.await);
    let within = cx.timings().show_after_act();
    cx.claim(SCHED_CRD_008)
        .met(cx.wait_for_status_text(&app, &name, within).await);
    for revision in [1, 2] {
        cx.submit(&named_image(&name, &cx.image("app", revision)))
            .await?;
        if revision == 1 {
            let running = cx.wait_for_running("app", 2, cx.timings().act).await;
            cx.claim(SCHED_CRD_007).met(running);
        }
    }
    cx.claim(SCHED_CRD_009)
        .met(wait_for_rollout(cx, 2, 2).await);
    Ok(())
}

/// An app uses one Artifact for its component and one for its service, and waits until both exist.
async fn two_artifacts(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let names = [cx.name("first"), cx.name("second")];
    let [first, second] = &names;
    let app = cx
        .deployment("app", 1)
        .image("artifact://web")
        .spec("/service", json!({ "image": "artifact://job" }))
        .with(
            "/spec/artifacts",
            json!([entry("web", first), entry("job", second)]),
        );
    let image = cx.image("app", 1);
    cx.submit(&named_image(first, &image)).await?;
    cx.submit(&app).await?;
    cx.assert_no_start(SCHED_CRD_008, "app").await;
    let within = cx.timings().show_after_act();
    cx.claim(SCHED_CRD_008)
        .met(cx.wait_for_status_text(&app, second, within).await);
    let service = format!("{image}-service");
    cx.submit(&named_image(second, &service)).await?;
    let workload = sent_workload(cx, "app").await?;
    for (pointer, expected) in [("/witWorld/components/0", image), ("/service", service)] {
        let sent = value_at(&workload, pointer);
        let sent = sent.get("image").cloned().unwrap_or_default();
        cx.claim(SCHED_CRD_007)
            .is(&format!("image of {pointer}"), sent, json!(expected));
    }
    Ok(())
}
