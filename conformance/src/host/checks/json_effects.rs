//! Encoding checks by effect: another spelling of a request does the same, and a refusal names the
//! right field.

use serde_json::{Map, Value, json};

use super::image_support::private_registry;
use super::resources::get_body;
use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::beacon::Beacon;
use crate::testbed::registry::{Credentials, RequiredAuth};
use crate::wire::response::{Headers, State};

/// Checks of the section `json` about effects.
pub const CHECKS: &[Check] = &[
    check! {
        id: "json/service-names", run: service_names,
        covers: [HOST_JSON_010, HOST_SVC_016, HOST_IMG_015], host: Shared, roles: [ServiceRun],
        needs: [Registry], budget_s: 150, slow: false,
    },
    check! {
        id: "json/mount-names", run: mount_names,
        covers: [HOST_JSON_010, HOST_RES_013], host: Shared, roles: [HttpFiles],
        needs: [Ingress, Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "json/order", run: order, covers: [HOST_JSON_019, HOST_RES_014], host: Shared,
        roles: [HttpFiles], needs: [Ingress, Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "json/item-named", run: item_named, covers: [HOST_JSON_018], host: Shared,
        roles: [], budget_s: 60, slow: false,
    },
];

/// Starts a workload in any encoding and waits until it runs. Returns the observed state otherwise.
async fn becomes_running(
    cx: &CheckContext,
    id: &str,
    workload: &Value,
) -> Result<Result<(), String>, Blocked> {
    let payload = json!({ "workloadId": id, "workload": workload }).to_string();
    let limit = deadlines::START_REPLY.limit;
    let reply = cx
        .send_within("workload.start", payload, Headers::none(), limit)
        .await?;
    let state = reply.response().map(|response| response.state.clone());
    Ok(match state {
        Some(State::Running) => Ok(()),
        Some(State::Starting) => {
            let running = cx.wait_running(id, deadlines::DEFAULT_WAIT).await;
            running.result.map(drop).map_err(|missed| missed.actual)
        }
        _ => Err(reply.to_string()),
    })
}

/// The fields of a service have the same effect under their proto names.
async fn service_names(cx: &CheckContext) -> Flow {
    let account = Credentials {
        user: "berth".to_owned(),
        password: format!("pw-{}-x7Q", cx.unique_name()),
    };
    cx.add_secret(&account.password);
    let registry = private_registry(RequiredAuth::Basic(account.clone())).await?;
    // A host may have cached an image, and then needs no credentials for it.
    let [one, two] = ["private/one", "private/two"].map(|repository| {
        let artifact = cx.artifact(Role::ServiceRun);
        let artifact = artifact.salted(&format!("{} {repository}", cx.unique_name()));
        registry.push(repository, "v1", artifact).reference
    });
    let [first, second] = [cx.beacon(), cx.beacon()];
    let secret = json!({ "username": account.user, "password": account.password });
    let json_names = json!({ "name": "n", "service": {
        "image": one, "maxRestarts": "1", "imagePullSecret": secret,
        "localResources": {
            "environment": { "BEACON": first.value }, "allowedHosts": [first.authority],
        },
    } });
    let proto_names = json!({ "name": "n", "service": {
        "image": two, "max_restarts": "1", "image_pull_secret": secret,
        "local_resources": {
            "environment": { "BEACON": second.value }, "allowed_hosts": [second.authority],
        },
    } });
    let name = "a service with credentials becomes RUNNING";
    let requirements = [HOST_IMG_015, HOST_SVC_016];
    if claim_service_runs(cx, requirements, name, &json_names, &first).await? {
        let name = "a service with credentials becomes RUNNING, with proto names";
        let requirements = [HOST_JSON_010, HOST_JSON_010];
        claim_service_runs(cx, requirements, name, &proto_names, &second).await?;
    }
    Ok(())
}

/// Records the claims that a service becomes RUNNING and that its request to the beacon is
/// permitted. Returns whether it becomes RUNNING.
async fn claim_service_runs(
    cx: &CheckContext,
    [runs, sends]: [Requirement; 2],
    description: &str,
    workload: &Value,
    beacon: &Beacon,
) -> Result<bool, Blocked> {
    let running = becomes_running(cx, &cx.id(description), workload).await?;
    let held = running.is_ok();
    cx.claim(runs)
        .holds(description, held, || running.err().unwrap_or_default());
    if held {
        let up = beacon.wait("up", 1, deadlines::DEFAULT_WAIT.limit).await;
        let description = format!("{description}, and its request to the beacon is permitted");
        cx.claim(sends)
            .holds(&description, up.is_ok(), || "no beacon".to_owned());
    }
    Ok(held)
}

/// Returns a workload that serves files from a mount, with these fields of the mount.
fn with_mount(cx: &CheckContext, host: &str, mount: Value) -> Value {
    cx.workload()
        .component(Role::HttpFiles)
        .resource_field("volumeMounts", json!([mount]))
        .volume("v", json!({ "emptyDir": {} }))
        .http_host(host)
        .json()
        .clone()
}

/// A mount is read-only under the proto name of its field.
async fn mount_names(cx: &CheckContext) -> Flow {
    for (label, requirement, mount) in [
        (
            "json-name",
            HOST_RES_013,
            json!({ "name": "v", "mountPath": "/data", "readOnly": true }),
        ),
        (
            "proto-name",
            HOST_JSON_010,
            json!({ "name": "v", "mount_path": "/data", "read_only": true }),
        ),
    ] {
        let host = cx.http_host_name(label);
        let workload = with_mount(cx, &host, mount);
        let running = becomes_running(cx, &cx.id(label), &workload).await?;
        if let Err(state) = running {
            return Err(cx.blocked(requirement, "a workload with a read-only mount", &state));
        }
        let written = get_body(cx, &host, "/write/f").await?;
        let description = format!("write through a read-only mount, {label}");
        cx.claim(requirement)
            .is(&description, written, "denied".to_owned());
    }
    Ok(())
}

/// Returns the value with the keys of every object in reverse order.
fn reversed(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.iter().rev();
            let members = members.map(|(name, value)| (name.clone(), reversed(value)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(reversed).collect(),
        other => other.clone(),
    }
}

/// A workload does the same whatever the order of its keys.
async fn order(cx: &CheckContext) -> Flow {
    let mount = json!({ "name": "v", "mountPath": "/data" });
    for (label, requirement) in [("forward", HOST_RES_014), ("reverse", HOST_JSON_019)] {
        let host = cx.http_host_name(label);
        let mut workload = with_mount(cx, &host, mount.clone());
        // The builder writes the volumes after the components.
        if requirement == HOST_RES_014 {
            workload = reversed(&workload);
        }
        let running = becomes_running(cx, &cx.id(label), &workload).await?;
        let description =
            format!("a workload with a volume becomes RUNNING, keys in {label} order");
        if let Err(state) = running {
            return Err(cx.blocked(requirement, &description, &state));
        }
        let written = get_body(cx, &host, "/write/f").await?;
        let description = format!("write to a volume, keys in {label} order");
        cx.claim(requirement)
            .is(&description, written, "ok".to_owned());
    }
    Ok(())
}

/// A refusal because of the second item of a list does not name the first.
async fn item_named(cx: &CheckContext) -> Flow {
    let image = "127.0.0.1:1/nothing/here:1";
    let component =
        |name: &str, pool: Value| json!({ "name": name, "image": image, "poolSize": pool });
    let components = json!([component("good", json!(1)), component("bad", json!("many"))]);
    let volumes = json!([{ "name": "good" }, { "name": 7 }]);
    let interfaces = json!([{ "namespace": "acme", "package": "a" }, { "namespace": 7 }]);
    for (list, workload) in [
        (
            "components",
            json!({ "witWorld": { "components": components } }),
        ),
        ("volumes", json!({ "volumes": volumes })),
        (
            "hostInterfaces",
            json!({ "witWorld": { "hostInterfaces": interfaces } }),
        ),
    ] {
        let request = json!({ "workloadId": cx.id(list), "workload": workload }).to_string();
        let reply = cx.send("workload.start", request, Headers::none()).await?;
        let description = format!("the host replies to a start with an invalid item of `{list}`");
        let Some(response) = cx.claim(HOST_JSON_018).answered(&description, &reply) else {
            continue;
        };
        let first = ["[0]", ".0.", "/0/"].map(|index| format!("{list}{index}"));
        let names_first = first.iter().any(|first| response.message.contains(first));
        let description =
            format!("the refusal of the second item of `{list}` does not name the first");
        cx.claim(HOST_JSON_018)
            .about(&response)
            .holds(&description, !names_first, || response.to_string());
    }
    Ok(())
}
