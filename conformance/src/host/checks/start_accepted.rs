//! Start checks: unusual workloads that a host can run.

use serde_json::json;

use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::{CheckContext, Workload};
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::wire::response::State;

/// Checks of the section `start` about workloads that a host has to accept.
pub const CHECKS: &[Check] = &[
    check! {
        id: "start/unusual-workloads", run: unusual_workloads, covers: [HOST_START_001],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "start/highest-max-restarts", run: highest_max_restarts,
        covers: [HOST_START_001, HOST_SVC_016], host: Shared, roles: [ServiceRun],
        needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "start/unset-pool-values-served", run: unset_pool_values_served,
        covers: [HOST_START_007, HOST_HTTP_001], host: Shared, roles: [Hello],
        needs: [Ingress, Registry], budget_s: 120, slow: false,
    },
];

/// Size of values in a workload that is much larger than usual, but far below the smallest maximum
/// payload of a broker that is in use.
const LARGE_BYTES: usize = 300 * 1024;

/// Returns unusual workloads, each with the words that describe it.
fn unusual<'c>(cx: &'c CheckContext) -> Vec<(&'static str, Workload<'c>)> {
    let pushed = cx.push(Role::Idle);
    let idle = || cx.workload().component(&pushed);
    let large = "x".repeat(LARGE_BYTES);
    let without = |names: &'static [&'static str]| {
        idle().edit(move |json| {
            for name in names {
                json.as_object_mut().map(|workload| workload.remove(*name));
            }
        })
    };
    vec![
        ("two components with one image", idle().component(&pushed)),
        (
            "many components with one image",
            (0..8).fold(idle(), |workload, _| workload.component(&pushed)),
        ),
        (
            "two components without a name",
            idle()
                .field("name", json!(""))
                .component(&pushed)
                .field("name", json!("")),
        ),
        (
            "the namespace and name of a running workload",
            idle().edit(|json| json["annotations"] = json!({ "copy": "1" })),
        ),
        ("no name", without(&["name"])),
        ("no namespace", without(&["namespace"])),
        (
            "neither namespace nor name",
            without(&["name", "namespace"]),
        ),
        (
            "a name and annotations that are not ASCII",
            idle().edit(|json| {
                json["name"] = json!("größe 🦀 \u{202e}x");
                json["annotations"] = json!({ "ключ/é": "值\n\t\"" });
            }),
        ),
        (
            "100 KiB of config",
            idle().config("large", &large[..100 * 1024]),
        ),
        ("300 KiB of config", idle().config("large", &large)),
        ("300 KiB of environment", {
            let values = (0..300).map(|number| (format!("V{number}"), &large[..1024]));
            values.fold(idle(), |workload, (name, value)| workload.env(&name, value))
        }),
        (
            "300 KiB of annotations",
            idle().edit(move |json| json["annotations"] = json!({ "large": large })),
        ),
    ]
}

/// Workloads with unusual content become RUNNING, all of them at the same time.
async fn unusual_workloads(cx: &CheckContext) -> Flow {
    let workloads = unusual(cx);
    for (number, (feature, workload)) in workloads.iter().enumerate() {
        let id = cx.id(&number.to_string());
        let start = cx.start(&id, workload).await?;
        let accepted = matches!(start.state, State::Running | State::Starting);
        let description = format!("a workload with {feature} is accepted");
        if cx
            .claim(HOST_START_001)
            .about(&start)
            .holds(&description, accepted, || start.to_string())
        {
            cx.claim(HOST_START_001)
                .met(cx.wait_running(&id, deadlines::DEFAULT_WAIT).await);
        }
    }
    for (number, (feature, _)) in workloads.iter().enumerate() {
        let status = cx.status(&cx.id(&number.to_string())).await?;
        let description = format!("state of the workload with {feature} beside the others");
        cx.claim(HOST_START_001).about(&status).is(
            &description,
            status.state.clone(),
            State::Running,
        );
    }
    Ok(())
}

/// The highest `maxRestarts` that is permitted is accepted, as a number and as a string.
async fn highest_max_restarts(cx: &CheckContext) -> Flow {
    let pushed = cx.push(Role::ServiceRun);
    for (name, restarts) in [
        ("1000", json!("1000")),
        ("1001", json!(1001)),
        ("highest", json!(u32::MAX)),
        ("highest-text", json!(u32::MAX.to_string())),
    ] {
        let (id, beacon) = (cx.id(name), cx.beacon());
        let workload = cx
            .workload()
            .service(&pushed)
            .beacon(&beacon)
            .field("maxRestarts", restarts.clone());
        let start = cx.start(&id, &workload).await?;
        let accepted = matches!(start.state, State::Running | State::Starting);
        let description = format!("a start with maxRestarts {restarts} is accepted");
        if cx
            .claim(HOST_START_001)
            .about(&start)
            .holds(&description, accepted, || start.to_string())
        {
            let running = cx.wait_running(&id, deadlines::DEFAULT_WAIT).await;
            cx.claim(HOST_START_001).met(running);
            let up = beacon.wait("up", 1, deadlines::DEFAULT_WAIT.limit).await;
            cx.claim(HOST_SVC_016)
                .holds("the service runs", up.is_ok(), || "no beacon");
        }
    }
    Ok(())
}

/// A component with one pool value that means "unset" serves requests.
async fn unset_pool_values_served(cx: &CheckContext) -> Flow {
    let pushed = cx.push(Role::Hello);
    for field in ["poolSize", "maxInvocations", "maxConcurrency"] {
        for value in [0, -1, i32::MIN] {
            let label = format!("{}{}", field.to_lowercase(), value.unsigned_abs());
            let (id, host) = (cx.id(&label), cx.http_host_name(&label));
            let workload = cx
                .workload()
                .component(&pushed)
                .field(field, json!(value))
                .http_host(&host);
            let start = cx.start(&id, &workload).await?;
            let accepted = matches!(start.state, State::Running | State::Starting);
            let description = format!("a start with {field} {value} is accepted");
            if !cx
                .claim(HOST_START_007)
                .about(&start)
                .holds(&description, accepted, || start.to_string())
            {
                continue;
            }
            let running = cx.wait_running(&id, deadlines::DEFAULT_WAIT).await;
            running.or_blocked(cx, HOST_START_001)?;
            for request in 1..=3 {
                let response = cx.http_get(&host, "/").await?;
                let description = format!("status of response {request} with {field} {value}");
                cx.claim(HOST_START_007)
                    .is(&description, response.status, 200);
            }
        }
    }
    let response = cx.http_get(&cx.http_host_name("poolsize0"), "/").await?;
    let description = "status of a response of the first workload";
    cx.claim(HOST_HTTP_001)
        .is(description, response.status, 200);
    Ok(())
}
