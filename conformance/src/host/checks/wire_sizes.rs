//! Transport checks of sizes: replies about long values stay valid, and within the maximum payload.

use serde_json::{Value, json};

use super::image_support::{idle_workload, start_and_wait_for_failure};
use super::sweep::{Request, sweep};
use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::registry::RepositoryBehavior;
use crate::testbed::tap::OutageMode;
use crate::wire::json_judge;
use crate::wire::response::{Reply, Response, State};

/// Checks of the section `wire` about sizes.
pub const CHECKS: &[Check] = &[
    check! {
        id: "wire/long-values", run: long_values, covers: [HOST_WIRE_010, HOST_JSON_008],
        host: Own, roles: [], budget_s: 180, slow: false,
    },
    check! {
        id: "wire/small-max-payload", run: small_max_payload,
        covers: [HOST_WIRE_010, HOST_IMG_003], host: Own, roles: [Idle], needs: [Tap, Registry],
        budget_s: 120, slow: false,
    },
];

const START: &str = "workload.start";
/// Size of a value that almost fills a request.
const HUGE_BYTES: usize = 1_040_000;
/// Size of a value that exceeds any sensible length of a message.
const LONG_BYTES: usize = 6_000;
/// Maximum payload that the broker announces in `small_max_payload`.
const SMALL_MAX_PAYLOAD: usize = 64 * 1024;

/// Returns workloads that contain a text in one place each, with a description of the place.
fn workloads_with(text: &str) -> Vec<(&'static str, Value)> {
    let image = "127.0.0.1:1/nothing/here:1";
    let component = |field: &str, value: Value| {
        let component = json!({ "image": image, field: value });
        json!({ "witWorld": { "components": [component] } })
    };
    let resources =
        |field: &str, value: Value| component("localResources", json!({ field: value }));
    let interface = |field: &str, value: Value| {
        let interface = json!({ "namespace": "acme", "package": "p", field: value });
        json!({ "witWorld": { "hostInterfaces": [interface] } })
    };
    let volume = |name: &str, path: &str| {
        let volume = json!({ "name": name, "hostPath": { "localPath": path } });
        json!({ "volumes": [volume] })
    };
    let http_host = json!({ "witWorld": { "hostInterfaces": [{
        "namespace": "wasi", "package": "http", "interfaces": ["incoming-handler"],
        "config": { "host": text },
    }] } });
    let reference = format!("127.0.0.1:1/{text}:1");
    vec![
        ("the name of the workload", json!({ "name": text })),
        ("an image reference", component("image", json!(reference))),
        (
            "the image of a service",
            json!({ "service": { "image": text } }),
        ),
        ("the name of a component", component("name", json!(text))),
        ("a pull policy", component("imagePullPolicy", json!(text))),
        ("a number", component("poolSize", json!(text))),
        ("an unknown field", json!({ text: 1 })),
        (
            "an entry of allowedHosts",
            resources("allowedHosts", json!([text])),
        ),
        (
            "an entry of allowedIpNameLookups",
            resources("allowedIpNameLookups", json!([text])),
        ),
        (
            "an entry of allowedHostLoopbackPorts",
            resources("allowedHostLoopbackPorts", json!([text])),
        ),
        (
            "the name of a mount",
            resources("volumeMounts", json!([{ "name": text, "mountPath": "/a" }])),
        ),
        ("a host path", volume("v", text)),
        ("the name of a volume", volume(text, "/nowhere")),
        ("a namespace", interface("namespace", json!(text))),
        ("a version", interface("version", json!(text))),
        ("a host name", http_host),
    ]
}

/// Returns texts that a host cannot cut after a fixed number of bytes without cutting a character.
fn long_texts() -> Vec<String> {
    let characters = ["ü", "日", "🦀"];
    let texts = characters.iter().flat_map(|character| {
        let width = character.len();
        (0..width).map(move |offset| "x".repeat(offset) + &character.repeat(LONG_BYTES / width))
    });
    texts.collect()
}

/// The reply to a start with a value of any length arrives, and is valid JSON in UTF-8.
async fn long_values(cx: &CheckContext) -> Flow {
    let max_payload = cx.fixture().bus.max_payload_bytes();
    let huge_bytes = HUGE_BYTES.min(max_payload.saturating_sub(1024));
    let texts = std::iter::once("x".repeat(huge_bytes)).chain(long_texts());
    for (number, text) in texts.enumerate() {
        let workloads = workloads_with(&text).into_iter().enumerate();
        let requests = workloads.map(|(place, (name, workload))| {
            let id = cx.id(&format!("{number}-{place}"));
            let payload = json!({ "workloadId": id, "workload": workload }).to_string();
            Request {
                case: format!("a start with {} bytes in {name}", text.len()),
                command: START,
                payload: payload.into(),
                starts: Some(id),
            }
        });
        sweep(cx, requests.collect(), |case, reply| {
            judge_reply(cx, case, reply);
        })
        .await?;
    }
    Ok(())
}

fn judge_reply(cx: &CheckContext, case: &str, reply: &Reply) {
    let description = format!("the host replies to {case}");
    let Some(response) = cx.claim(HOST_WIRE_010).answered(&description, reply) else {
        return;
    };
    let faults = json_judge::judge(&response.raw, "WorkloadStartResponse");
    let fault = faults
        .iter()
        .find(|fault| *fault.requirement == HOST_JSON_008);
    let description = format!("the reply to {case} is one JSON object in UTF-8");
    cx.claim(HOST_JSON_008)
        .about(&response)
        .holds(&description, fault.is_none(), || {
            fault.map(|fault| fault.actual.clone()).unwrap_or_default()
        });
}

/// If the broker announces a maximum payload of 64 KiB, no reply is longer.
async fn small_max_payload(cx: &CheckContext) -> Flow {
    let tap = cx.tap()?;
    tap.announce_max_payload(SMALL_MAX_PAYLOAD);
    // The host learns the new maximum when it connects again.
    tap.start_outage(OutageMode::Refuse).await.restore().await;
    let description = "the host replies after an outage";
    let returned = cx.eventually(deadlines::RECOVERY, description, || async {
        let status = cx.status(&cx.id("unknown")).await?;
        status.in_state(State::NotFound)
    });
    returned.await.or_blocked(cx, HOST_RESIL_001)?;

    let page = cx.push_as("page", Role::Idle, RepositoryBehavior::LongErrorPage);
    let id = cx.id("page");
    let failed = start_and_wait_for_failure(cx, &id, &idle_workload(cx, &page)).await?;
    cx.claim(HOST_IMG_003).about(&failed).is(
        "state after a failed pull",
        failed.state.clone(),
        State::Error,
    );
    claim_fits(cx, "a failed pull with a long error page", &failed);
    claim_fits(cx, "its status", &cx.status(&id).await?);

    let text = "ü".repeat(SMALL_MAX_PAYLOAD / 2 - 1024);
    let workloads = workloads_with(&text).into_iter().enumerate();
    let requests = workloads.map(|(place, (name, workload))| {
        let id = cx.id(&place.to_string());
        let payload = json!({ "workloadId": id, "workload": workload }).to_string();
        Request {
            case: format!("a start with {} bytes in {name}", text.len()),
            command: START,
            payload: payload.into(),
            starts: Some(id),
        }
    });
    sweep(cx, requests.collect(), |case, reply| {
        let description = format!("the host replies to {case}");
        if let Some(response) = cx.claim(HOST_WIRE_010).answered(&description, reply) {
            claim_fits(cx, case, &response);
        }
    })
    .await
}

/// Records the claim that a reply does not exceed the announced maximum payload.
fn claim_fits(cx: &CheckContext, cause: &str, response: &Response) {
    let lines = response.headers.0.iter();
    // `NATS/1.0`, each header as `name: value`, an empty line, and their line ends.
    let headers: usize = lines
        .map(|(name, value)| name.len() + value.len() + 4)
        .sum();
    let bytes = response.raw.len() + headers;
    let description =
        format!("the reply to {cause} has at most the {SMALL_MAX_PAYLOAD} bytes of the broker");
    cx.claim(HOST_WIRE_010)
        .about(response)
        .holds(&description, bytes <= SMALL_MAX_PAYLOAD, || {
            format!("{bytes} bytes")
        });
}
