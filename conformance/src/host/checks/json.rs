//! Encoding checks: JSON spellings that a host must accept, and JSON that it must refuse.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::wire::response::{Headers, State};

/// Checks of the section `json`. The monitors judge the JSON that a host encodes.
pub const CHECKS: &[Check] = &[
    check! {
        id: "json/envelope", run: envelope, covers: [HOST_JSON_007], host: Shared, roles: [],
        budget_s: 60, slow: false,
    },
    check! {
        id: "json/unknown-fields", run: unknown_fields, covers: [HOST_JSON_009], host: Shared,
        roles: [], budget_s: 90, slow: false,
    },
    check! {
        id: "json/proto-names", run: proto_names, covers: [HOST_JSON_010], host: Shared,
        roles: [], budget_s: 90, slow: false,
    },
    check! {
        id: "json/enum-numbers", run: enum_numbers, covers: [HOST_JSON_011], host: Shared,
        roles: [], budget_s: 90, slow: false,
    },
    check! {
        id: "json/integers", run: integers, covers: [HOST_JSON_012], host: Shared, roles: [],
        budget_s: 90, slow: false,
    },
    check! {
        id: "json/nulls", run: nulls, covers: [HOST_JSON_013], host: Shared, roles: [],
        budget_s: 90, slow: false,
    },
    check! {
        id: "json/defaults", run: defaults, covers: [HOST_JSON_014], host: Shared, roles: [],
        budget_s: 90, slow: false,
    },
    check! {
        id: "json/conflicting-oneof", run: conflicting_oneof, covers: [HOST_JSON_015], host: Shared,
        roles: [], budget_s: 60, slow: false,
    },
    check! {
        id: "json/wrong-types", run: wrong_types, covers: [HOST_JSON_016, HOST_JSON_018],
        host: Shared, roles: [], budget_s: 120, slow: false,
    },
    check! {
        id: "json/duplicate-keys", run: duplicate_keys, covers: [HOST_JSON_017], host: Shared,
        roles: [], budget_s: 60, slow: false,
    },
    check! {
        id: "json/whitespace", run: whitespace, covers: [HOST_JSON_019], host: Shared,
        roles: [], budget_s: 90, slow: false,
    },
];

/// Replies to start, status and stop, of known and unknown ids, have
/// `workloadStatus.workloadState`.
async fn envelope(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let start = cx.workload().start_request(&id).to_string();
    let id_request = |id: &str| json!({ "workloadId": id }).to_string();
    let unknown = cx.id("never-started");
    for (command, payload) in [
        ("workload.start", start),
        ("workload.status", id_request(&id)),
        ("workload.stop", id_request(&id)),
        ("workload.status", id_request(&unknown)),
        ("workload.stop", id_request(&unknown)),
    ] {
        let reply = cx.send(command, payload, Headers::none()).await?;
        let Some(response) = reply.response() else {
            return Err(cx.blocked(HOST_WIRE_002, &format!("a reply to {command}"), &reply));
        };
        let has_state = !matches!(
            response.state,
            State::Absent | State::Unspecified | State::Other(_)
        );
        let description = format!("the reply to {command} has workloadStatus.workloadState");
        cx.claim(HOST_JSON_007)
            .holds(&description, has_state, || response.to_string());
    }
    Ok(())
}

/// Sends a start with a valid spelling and records the claim that the workload becomes RUNNING.
async fn claim_running(
    cx: &CheckContext,
    requirement: Requirement,
    spelling: &str,
    id: &str,
    payload: String,
) -> Flow {
    let limit = deadlines::START_REPLY.limit;
    let reply = cx
        .send_within("workload.start", payload, Headers::none(), limit)
        .await?;
    let description = format!("the host replies to a start with {spelling}");
    let Some(response) = cx.claim(requirement).answered(&description, &reply) else {
        return Ok(());
    };
    if response.state == State::Starting {
        cx.claim(requirement)
            .met(cx.wait_running(id, deadlines::DEFAULT_WAIT).await);
        return Ok(());
    }
    let description = format!("a start with {spelling} is accepted (RUNNING)");
    cx.claim(requirement)
        .holds(&description, response.state == State::Running, || {
            response.to_string()
        });
    Ok(())
}

/// Records the claim that a start is refused with code 400, and returns the message of the refusal.
async fn claim_refused_with_400(
    cx: &CheckContext,
    requirement: Requirement,
    flaw: &str,
    payload: impl Into<Bytes>,
) -> Result<Option<String>, Blocked> {
    let reply = cx.send("workload.start", payload, Headers::none()).await?;
    let description = format!("the host replies to a start with {flaw}");
    let Some(response) = cx.claim(requirement).answered(&description, &reply) else {
        return Ok(None);
    };
    let refused = response.state == State::Error && response.error_code == Some(400);
    let description = format!("a start with {flaw} is refused with ERROR and code 400");
    cx.claim(requirement)
        .holds(&description, refused, || response.to_string());
    Ok(refused.then(|| response.message.clone()))
}

/// Unknown fields at every level of a request are ignored.
async fn unknown_fields(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let unknown = json!({ "nested": [1, null, { "deep": true }] });
    let mut request = cx
        .workload()
        .volume("v", json!({ "emptyDir": { "unknownField": unknown } }))
        .interface("acme", "unused", &["thing"])
        .start_request(&id);
    for path in [
        "",
        "/workload",
        "/workload/witWorld",
        "/workload/volumes/0",
        "/workload/witWorld/hostInterfaces/0",
    ] {
        if let Some(Value::Object(object)) = request.pointer_mut(path) {
            object.insert("unknownField".to_owned(), unknown.clone());
        }
    }
    claim_running(
        cx,
        HOST_JSON_009,
        "unknown fields at every level",
        &id,
        request.to_string(),
    )
    .await?;

    let status = json!({ "workloadId": id, "unknownField": unknown }).to_string();
    let reply = cx.send("workload.status", status, Headers::none()).await?;
    if let Some(response) = cx
        .claim(HOST_JSON_009)
        .answered("the host replies to a status with an unknown field", &reply)
    {
        cx.claim(HOST_JSON_009)
            .is("state of the workload", response.state, State::Running);
    }
    Ok(())
}

/// Proto field names, such as `workload_id`, are accepted in every command.
async fn proto_names(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let request = json!({
        "workload_id": id,
        "workload": {
            "name": cx.unique_name(),
            "wit_world": { "host_interfaces": [
                { "namespace": "acme", "package": "unused", "interfaces": ["thing"] }
            ] },
            "volumes": [{ "name": "v", "empty_dir": {} }],
        },
    });
    claim_running(cx, HOST_JSON_010, "proto names", &id, request.to_string()).await?;
    for command in ["workload.status", "workload.stop"] {
        let payload = json!({ "workload_id": id }).to_string();
        let reply = cx.send(command, payload, Headers::none()).await?;
        let description = format!("the host replies to {command} with `workload_id`");
        let Some(response) = cx.claim(HOST_JSON_010).answered(&description, &reply) else {
            continue;
        };
        let description = format!("{command} with `workload_id` finds the workload");
        let found = matches!(
            response.state,
            State::Running | State::Stopping | State::NotFound
        ) && response.error_code.is_none()
            && !(command == "workload.status" && response.state == State::NotFound);
        cx.claim(HOST_JSON_010)
            .holds(&description, found, || response.to_string());
    }
    Ok(())
}

/// Returns a workload whose image cannot be pulled, for checks that judge only the decoding of the
/// request.
fn with_component(cx: &CheckContext, component: Value) -> Value {
    let mut component = component;
    if let Some(object) = component.as_object_mut() {
        object.insert("name".to_owned(), json!("c0"));
    }
    json!({ "name": cx.unique_name(), "witWorld": { "components": [component] } })
}

/// Records the claim that a start is decoded: it may fail because of its image, but not with code
/// 400.
async fn claim_decoded(
    cx: &CheckContext,
    requirement: Requirement,
    spelling: &str,
    payload: String,
) -> Flow {
    let limit = deadlines::START_REPLY.limit;
    let reply = cx
        .send_within("workload.start", payload, Headers::none(), limit)
        .await?;
    let description = format!("the host replies to a start with {spelling}");
    let Some(response) = cx.claim(requirement).answered(&description, &reply) else {
        return Ok(());
    };
    let description = format!("a start with {spelling} is decoded: no code 400");
    cx.claim(requirement)
        .holds(&description, response.error_code != Some(400), || {
            response.to_string()
        });
    Ok(())
}

/// Enum values are accepted as numbers: `imagePullPolicy: 2` is `IMAGE_PULL_POLICY_IF_NOT_PRESENT`.
async fn enum_numbers(cx: &CheckContext) -> Flow {
    for number in 0..=3 {
        let id = cx.id(&format!("policy-{number}"));
        let component = json!({ "image": "127.0.0.1:1/nothing/here:1", "imagePullPolicy": number });
        let request = json!({ "workloadId": id, "workload": with_component(cx, component) });
        claim_decoded(
            cx,
            HOST_JSON_011,
            &format!("imagePullPolicy {number}"),
            request.to_string(),
        )
        .await?;
    }
    Ok(())
}

/// Integers, such as `poolSize` and `maxRestarts`, are accepted as numbers and as strings.
async fn integers(cx: &CheckContext) -> Flow {
    for (name, pool, restarts) in [
        ("numbers", json!(3), json!(4)),
        ("strings", json!("3"), json!("4")),
    ] {
        let id = cx.id(name);
        let component = json!({
            "image": "127.0.0.1:1/nothing/here:1", "poolSize": pool, "maxInvocations": pool,
            "maxConcurrency": pool, "localResources": { "memoryLimitMb": pool, "cpuLimit": pool },
        });
        let mut workload = with_component(cx, component);
        if let Some(workload) = workload.as_object_mut() {
            let service = json!({ "image": "127.0.0.1:1/nothing/here:1", "maxRestarts": restarts });
            workload.insert("service".to_owned(), service);
        }
        let request = json!({ "workloadId": id, "workload": workload });
        let spelling = format!("integers as JSON {name}");
        claim_decoded(cx, HOST_JSON_012, &spelling, request.to_string()).await?;
    }
    Ok(())
}

/// `null` in any kind of field means that the field is absent.
async fn nulls(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let request = json!({
        "workloadId": id,
        "workload": {
            "namespace": null, "name": cx.unique_name(), "annotations": null, "service": null,
            "witWorld": { "components": null, "hostInterfaces": null }, "volumes": null,
        },
    });
    claim_running(
        cx,
        HOST_JSON_013,
        "null for a string, a map, a message and a list",
        &id,
        request.to_string(),
    )
    .await?;
    let other = cx.id("b");
    let component = json!({
        "image": "127.0.0.1:1/nothing/here:1", "poolSize": null, "imagePullSecret": null,
        "imagePullPolicy": null,
        "localResources": { "memoryLimitMb": null, "allowedHosts": null, "environment": null,
                            "volumeMounts": null },
    });
    let request = json!({ "workloadId": other, "workload": with_component(cx, component) });
    let spelling = "null for a number, an enum, a message, a list and a map";
    claim_decoded(cx, HOST_JSON_013, spelling, request.to_string()).await
}

/// A workload without fields, and a workload whose fields have their default values, become
/// RUNNING.
async fn defaults(cx: &CheckContext) -> Flow {
    let id = cx.id("absent");
    let request = json!({ "workloadId": id, "workload": {} });
    claim_running(
        cx,
        HOST_JSON_014,
        "every field of the workload absent",
        &id,
        request.to_string(),
    )
    .await?;
    let id = cx.id("written");
    let request = json!({
        "workloadId": id,
        "workload": { "namespace": "", "name": "", "annotations": {}, "volumes": [],
                      "witWorld": { "components": [], "hostInterfaces": [] } },
    });
    claim_running(
        cx,
        HOST_JSON_014,
        "every field set to its default",
        &id,
        request.to_string(),
    )
    .await
}

/// A volume with both `hostPath` and `emptyDir` is refused.
async fn conflicting_oneof(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let request = json!({
        "workloadId": id,
        "workload": { "volumes": [
            { "name": "v", "hostPath": { "localPath": "/" }, "emptyDir": {} }
        ] },
    });
    claim_refused_with_400(
        cx,
        HOST_JSON_015,
        "`hostPath` and `emptyDir` in one volume",
        request.to_string(),
    )
    .await?;
    Ok(())
}

/// An invalid workload: the description of the flaw, the invalid field, the workload.
type Flaw = (&'static str, &'static str, Value);

/// Returns workloads that each have one value of a wrong type, out of range, or unknown.
fn flaws(cx: &CheckContext) -> Vec<Flaw> {
    let image = "127.0.0.1:1/nothing/here:1";
    let component =
        |name: &str, value: Value| with_component(cx, json!({ "image": image, name: value }));
    let components = json!({ "witWorld": { "components": "c" } });
    let negative = json!({ "service": { "image": image, "maxRestarts": -1 } });
    let out_of_range = json!(2_147_483_648_u64);
    vec![
        ("a number for a string", "name", json!({ "name": 7 })),
        (
            "a list for a message",
            "witWorld",
            json!({ "witWorld": [] }),
        ),
        ("a string for a list", "components", components),
        (
            "a string for a map",
            "annotations",
            json!({ "annotations": "a" }),
        ),
        (
            "a number in a map of strings",
            "annotations",
            json!({ "annotations": { "a": 1 } }),
        ),
        ("a string for the workload", "workload", json!("workload")),
        (
            "a word for a number",
            "poolSize",
            component("poolSize", json!("many")),
        ),
        (
            "a fraction for an integer",
            "poolSize",
            component("poolSize", json!(1.5)),
        ),
        (
            "2^31 for a 32-bit integer",
            "maxInvocations",
            component("maxInvocations", out_of_range),
        ),
        (
            "true for a number",
            "maxConcurrency",
            component("maxConcurrency", json!(true)),
        ),
        (
            "an unknown enum name",
            "imagePullPolicy",
            component("imagePullPolicy", json!("SOMETIMES")),
        ),
        ("-1 for an unsigned integer", "maxRestarts", negative),
    ]
}

/// Returns the proto name of a field with this JSON name.
fn proto_name(json_name: &str) -> String {
    let mut name = String::new();
    for c in json_name.chars() {
        if c.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

/// Values of a wrong type, out of range, or unknown are refused, and the refusal names the field.
async fn wrong_types(cx: &CheckContext) -> Flow {
    for (flaw, field, workload) in flaws(cx) {
        let id = cx.id(&flaw.replace([' ', '^'], "-"));
        let request = json!({ "workloadId": id, "workload": workload }).to_string();
        if let Some(message) = claim_refused_with_400(cx, HOST_JSON_016, flaw, request).await? {
            let named = message.contains(field) || message.contains(&proto_name(field));
            let description = format!("the refusal of {flaw} names `{field}`");
            cx.claim(HOST_JSON_018)
                .holds(&description, named, || format!("message {message:?}"));
        }
    }
    // If the host refused no flaw, the claims above do not hold, and there is no refusal to judge.
    cx.claim(HOST_JSON_018)
        .holds("refusals name the field", true, String::new);
    Ok(())
}

/// Duplicate keys in an object are refused, since it is ambiguous which one applies.
async fn duplicate_keys(cx: &CheckContext) -> Flow {
    let (a, b) = (cx.id("a"), cx.id("b"));
    let duplicate = format!(r#"{{"workloadId":"{a}","workloadId":"{b}","workload":{{}}}}"#);
    claim_refused_with_400(cx, HOST_JSON_017, "a duplicate `workloadId`", duplicate).await?;
    let both = format!(r#"{{"workloadId":"{a}","workload_id":"{b}","workload":{{}}}}"#);
    claim_refused_with_400(
        cx,
        HOST_JSON_017,
        "both `workloadId` and `workload_id`",
        both,
    )
    .await?;
    let inner = format!(r#"{{"workloadId":"{a}","workload":{{"name":"x","name":"y"}}}}"#);
    claim_refused_with_400(
        cx,
        HOST_JSON_017,
        "a duplicate `name` in the workload",
        inner,
    )
    .await?;
    Ok(())
}

/// Keys in any order, and whitespace wherever JSON allows it, are accepted.
async fn whitespace(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let name = cx.unique_name();
    let payload = format!(
        "\r\n\t {{ \"workload\" :\n\n {{\t\"volumes\" : [ ] , \"name\" :\r \"{name}\" }}\n,  \"workloadId\"\t: \"{id}\"  }} \n\n"
    );
    claim_running(
        cx,
        HOST_JSON_019,
        "whitespace and keys in another order",
        &id,
        payload,
    )
    .await
}
