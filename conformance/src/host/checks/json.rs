//! Encoding: what a host must read, whatever the spelling, and what it must refuse.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::wire::response::{Headers, State};

/// The section. What a host writes is judged by the monitors, on every frame.
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
        id: "json/oneof-twice", run: oneof_twice, covers: [HOST_JSON_015], host: Shared,
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
        id: "json/white-space", run: white_space, covers: [HOST_JSON_019], host: Shared,
        roles: [], budget_s: 90, slow: false,
    },
];

/// Start, status and stop, of what is there and of what is not, answer in the envelope with a state.
async fn envelope(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let start = cx.workload().start_request(&id).to_string();
    let named = |id: &str| json!({ "workloadId": id }).to_string();
    let unknown = cx.id("never-started");
    for (command, payload) in [
        ("workload.start", start),
        ("workload.status", named(&id)),
        ("workload.stop", named(&id)),
        ("workload.status", named(&unknown)),
        ("workload.stop", named(&unknown)),
    ] {
        let reply = cx.send(command, payload, Headers::none()).await?;
        let Some(answer) = reply.answer() else {
            return Err(cx.blocked(HOST_WIRE_002, &format!("an answer to {command}"), &reply));
        };
        let stated = !matches!(
            answer.state,
            State::Absent | State::Unspecified | State::Other(_)
        );
        let what = format!("the answer to {command} holds workloadStatus.workloadState");
        cx.claim(HOST_JSON_007)
            .holds(&what, stated, || answer.to_string());
    }
    Ok(())
}

/// Sends a start spelled in some way and claims that it comes to run.
async fn runs(
    cx: &CheckContext,
    requirement: Requirement,
    spelling: &str,
    id: &str,
    payload: String,
) -> Flow {
    let within = deadlines::START_ANSWER.limit;
    let reply = cx
        .send_within("workload.start", payload, Headers::none(), within)
        .await?;
    let what = format!("a start with {spelling} is answered");
    let Some(answer) = cx.claim(requirement).answered(&what, &reply) else {
        return Ok(());
    };
    if answer.state == State::Starting {
        cx.claim(requirement)
            .met(cx.running(id, deadlines::LOOK).await);
        return Ok(());
    }
    let what = format!("a start with {spelling} is obeyed (RUNNING)");
    cx.claim(requirement)
        .holds(&what, answer.state == State::Running, || answer.to_string());
    Ok(())
}

/// Sends a start that must be refused with 400, and returns what the host said.
async fn refused(
    cx: &CheckContext,
    requirement: Requirement,
    flaw: &str,
    payload: impl Into<Bytes>,
) -> Result<Option<String>, Blocked> {
    let reply = cx.send("workload.start", payload, Headers::none()).await?;
    let what = format!("a start with {flaw} is answered");
    let Some(answer) = cx.claim(requirement).answered(&what, &reply) else {
        return Ok(None);
    };
    let right = answer.state == State::Error && answer.error_code == Some(400);
    let what = format!("a start with {flaw} is refused: ERROR with code 400");
    cx.claim(requirement)
        .holds(&what, right, || answer.to_string());
    Ok(right.then(|| answer.message.clone()))
}

/// A field from the future at every level of a request changes nothing.
async fn unknown_fields(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let future = json!({ "nested": [1, null, { "deep": true }] });
    let mut request = cx
        .workload()
        .volume("v", json!({ "emptyDir": { "fromTheFuture": future } }))
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
            object.insert("fromTheFuture".to_owned(), future.clone());
        }
    }
    runs(
        cx,
        HOST_JSON_009,
        "unknown fields at every level",
        &id,
        request.to_string(),
    )
    .await?;

    let status = json!({ "workloadId": id, "fromTheFuture": future }).to_string();
    let reply = cx.send("workload.status", status, Headers::none()).await?;
    if let Some(answer) = cx
        .claim(HOST_JSON_009)
        .answered("a status with an unknown field is answered", &reply)
    {
        cx.claim(HOST_JSON_009)
            .is("its state", answer.state, State::Running);
    }
    Ok(())
}

/// `workload_id` means what `workloadId` means, in every command.
async fn proto_names(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let request = json!({
        "workload_id": id,
        "workload": {
            "name": cx.tag(),
            "wit_world": { "host_interfaces": [
                { "namespace": "acme", "package": "unused", "interfaces": ["thing"] }
            ] },
            "volumes": [{ "name": "v", "empty_dir": {} }],
        },
    });
    runs(cx, HOST_JSON_010, "proto names", &id, request.to_string()).await?;
    for command in ["workload.status", "workload.stop"] {
        let payload = json!({ "workload_id": id }).to_string();
        let reply = cx.send(command, payload, Headers::none()).await?;
        let what = format!("{command} with `workload_id` is answered");
        let Some(answer) = cx.claim(HOST_JSON_010).answered(&what, &reply) else {
            continue;
        };
        let what = format!("{command} with `workload_id` finds the workload");
        let found = matches!(
            answer.state,
            State::Running | State::Stopping | State::NotFound
        ) && answer.error_code.is_none()
            && !(command == "workload.status" && answer.state == State::NotFound);
        cx.claim(HOST_JSON_010)
            .holds(&what, found, || answer.to_string());
    }
    Ok(())
}

/// A workload whose component would need a pull: only the reading of the request is judged.
fn with_component(cx: &CheckContext, component: Value) -> Value {
    let mut component = component;
    if let Some(object) = component.as_object_mut() {
        object.insert("name".to_owned(), json!("c0"));
    }
    json!({ "name": cx.tag(), "witWorld": { "components": [component] } })
}

/// A start that is read well may still fail for its image: never with 400 for its spelling.
async fn is_read(
    cx: &CheckContext,
    requirement: Requirement,
    spelling: &str,
    payload: String,
) -> Flow {
    let within = deadlines::START_ANSWER.limit;
    let reply = cx
        .send_within("workload.start", payload, Headers::none(), within)
        .await?;
    let what = format!("a start with {spelling} is answered");
    let Some(answer) = cx.claim(requirement).answered(&what, &reply) else {
        return Ok(());
    };
    let what = format!("a start with {spelling} is read: no code 400");
    cx.claim(requirement)
        .holds(&what, answer.error_code != Some(400), || answer.to_string());
    Ok(())
}

/// `imagePullPolicy: 2` is `IMAGE_PULL_POLICY_IF_NOT_PRESENT`.
async fn enum_numbers(cx: &CheckContext) -> Flow {
    for number in 0..=3 {
        let id = cx.id(&format!("policy-{number}"));
        let component = json!({ "image": "127.0.0.1:1/nothing/here:1", "imagePullPolicy": number });
        let request = json!({ "workloadId": id, "workload": with_component(cx, component) });
        is_read(
            cx,
            HOST_JSON_011,
            &format!("imagePullPolicy {number}"),
            request.to_string(),
        )
        .await?;
    }
    Ok(())
}

/// `poolSize` and `maxRestarts` as numbers and as strings.
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
        is_read(cx, HOST_JSON_012, &spelling, request.to_string()).await?;
    }
    Ok(())
}

/// `null` at each kind of field is the field not being there.
async fn nulls(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let request = json!({
        "workloadId": id,
        "workload": {
            "namespace": null, "name": cx.tag(), "annotations": null, "service": null,
            "witWorld": { "components": null, "hostInterfaces": null }, "volumes": null,
        },
    });
    runs(
        cx,
        HOST_JSON_013,
        "null for text, map, message and list",
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
    let spelling = "null for number, enum, message, list and map";
    is_read(cx, HOST_JSON_013, spelling, request.to_string()).await
}

/// A workload of which everything is left out, and one of which everything is written as its default.
async fn defaults(cx: &CheckContext) -> Flow {
    let id = cx.id("absent");
    let request = json!({ "workloadId": id, "workload": {} });
    runs(
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
    runs(
        cx,
        HOST_JSON_014,
        "every default written out",
        &id,
        request.to_string(),
    )
    .await
}

/// A volume cannot be both a directory of the host and an empty one.
async fn oneof_twice(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let request = json!({
        "workloadId": id,
        "workload": { "volumes": [
            { "name": "v", "hostPath": { "localPath": "/" }, "emptyDir": {} }
        ] },
    });
    refused(
        cx,
        HOST_JSON_015,
        "hostPath and emptyDir in one volume",
        request.to_string(),
    )
    .await?;
    Ok(())
}

/// A start that is wrong in one place: in words, the field, the workload.
type Flaw = (&'static str, &'static str, Value);

/// Wrong types, numbers out of range and unknown enum names, one at a time.
fn flaws(cx: &CheckContext) -> Vec<Flaw> {
    let image = "127.0.0.1:1/nothing/here:1";
    let component =
        |name: &str, value: Value| with_component(cx, json!({ "image": image, name: value }));
    let many = json!({ "witWorld": { "components": "c" } });
    let negative = json!({ "service": { "image": image, "maxRestarts": -1 } });
    let wide = json!(2_147_483_648_u64);
    vec![
        ("a number for text", "name", json!({ "name": 7 })),
        (
            "a list for a message",
            "witWorld",
            json!({ "witWorld": [] }),
        ),
        ("text for a list", "components", many),
        (
            "text for a map",
            "annotations",
            json!({ "annotations": "a" }),
        ),
        (
            "a number in a map of text",
            "annotations",
            json!({ "annotations": { "a": 1 } }),
        ),
        ("a workload that is text", "workload", json!("workload")),
        (
            "words for a number",
            "poolSize",
            component("poolSize", json!("many")),
        ),
        (
            "a fraction for a whole number",
            "poolSize",
            component("poolSize", json!(1.5)),
        ),
        (
            "2^31 for 32 bits",
            "maxInvocations",
            component("maxInvocations", wide),
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
        ("-1 for an unsigned number", "maxRestarts", negative),
    ]
}

/// The proto name of a field with this JSON name.
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

async fn wrong_types(cx: &CheckContext) -> Flow {
    for (flaw, field, workload) in flaws(cx) {
        let id = cx.id(&flaw.replace([' ', '^'], "-"));
        let request = json!({ "workloadId": id, "workload": workload }).to_string();
        if let Some(message) = refused(cx, HOST_JSON_016, flaw, request).await? {
            let named = message.contains(field) || message.contains(&proto_name(field));
            let what = format!("the refusal of {flaw} names `{field}`");
            cx.claim(HOST_JSON_018)
                .holds(&what, named, || format!("message {message:?}"));
        }
    }
    // A host that refuses nothing has no refusal to judge, and has failed above.
    cx.claim(HOST_JSON_018)
        .holds("refusals name the field", true, String::new);
    Ok(())
}

/// The same key twice in one object: no telling which one counts.
async fn duplicate_keys(cx: &CheckContext) -> Flow {
    let (a, b) = (cx.id("a"), cx.id("b"));
    let twice = format!(r#"{{"workloadId":"{a}","workloadId":"{b}","workload":{{}}}}"#);
    refused(cx, HOST_JSON_017, "`workloadId` twice", twice).await?;
    let both = format!(r#"{{"workloadId":"{a}","workload_id":"{b}","workload":{{}}}}"#);
    refused(cx, HOST_JSON_017, "`workloadId` and `workload_id`", both).await?;
    let inner = format!(r#"{{"workloadId":"{a}","workload":{{"name":"x","name":"y"}}}}"#);
    refused(cx, HOST_JSON_017, "`name` twice in the workload", inner).await?;
    Ok(())
}

/// Keys backwards, line breaks, tabs and blanks wherever JSON allows them.
async fn white_space(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let name = cx.tag();
    let payload = format!(
        "\r\n\t {{ \"workload\" :\n\n {{\t\"volumes\" : [ ] , \"name\" :\r \"{name}\" }}\n,  \"workloadId\"\t: \"{id}\"  }} \n\n"
    );
    runs(
        cx,
        HOST_JSON_019,
        "white space and keys in another order",
        &id,
        payload,
    )
    .await
}
