//! Replay of the golden vectors: a host accepts and refuses exactly the encodings that the vectors
//! list.

use bytes::Bytes;
use serde_json::{Value, json};

use super::sweep::{Request, sweep};
use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::requirements::*;
use crate::spec::{requirements, schema};
use crate::wire::response::{Reply, Response, State};
use crate::wire::vectors::{self, Encoding, Vector};

/// Check of the section `json` that replays all vectors of requests.
pub const CHECKS: &[Check] = &[check! {
    id: "json/vectors", run: replay,
    covers: [
        HOST_JSON_009, HOST_JSON_010, HOST_JSON_011, HOST_JSON_012, HOST_JSON_013, HOST_JSON_014,
        HOST_JSON_015, HOST_JSON_016, HOST_JSON_017, HOST_JSON_018, HOST_JSON_019, HOST_WIRE_004,
        HOST_WIRE_007,
    ],
    host: Shared, roles: [], budget_s: 180, slow: false,
}];

const START: &str = "workload.start";
/// Largest `maxRestarts` that a host accepts (HOST-START-010).
const RESTARTS_MAX: u64 = u32::MAX as u64;
/// Registries in the vectors. Their images must not be pulled from the network.
const REGISTRIES: [&str; 2] = ["registry.example/", "r.example/"];
/// Registry that refuses connections.
const UNREACHABLE_REGISTRY: &str = "127.0.0.1:1/";

/// A place of a message in a request: the command, and the JSON before and after the message. A
/// place without JSON is the request itself.
type Place = (&'static str, &'static str, &'static str);

/// Returns the places of a message in requests, or none if no request contains it.
fn places(message: &str) -> &'static [Place] {
    match message {
        "WorkloadStartRequest" => &[(START, "", "")],
        "WorkloadStatusRequest" => &[("workload.status", "", "")],
        "WorkloadStopRequest" => &[("workload.stop", "", "")],
        "Workload" => &[(START, r#""workload":"#, "")],
        "Service" => &[(START, r#""workload":{"service":"#, "}")],
        "WitWorld" => &[(START, r#""workload":{"witWorld":"#, "}")],
        "Volume" => &[(START, r#""workload":{"volumes":["#, "]}")],
        "HostPathVolume" => &[(
            START,
            r#""workload":{"volumes":[{"name":"v","hostPath":"#,
            "}]}",
        )],
        "EmptyDirVolume" => &[(
            START,
            r#""workload":{"volumes":[{"name":"v","emptyDir":"#,
            "}]}",
        )],
        "Component" => &[(START, r#""workload":{"witWorld":{"components":["#, "]}}")],
        "WitInterface" => &[(
            START,
            r#""workload":{"witWorld":{"hostInterfaces":["#,
            "]}}",
        )],
        "LocalResources" => &[
            (
                START,
                r#""workload":{"witWorld":{"components":[{"localResources":"#,
                "}]}}",
            ),
            (START, r#""workload":{"service":{"localResources":"#, "}}"),
        ],
        "ImagePullSecret" => &[
            (
                START,
                r#""workload":{"witWorld":{"components":[{"imagePullSecret":"#,
                "}]}}",
            ),
            (START, r#""workload":{"service":{"imagePullSecret":"#, "}}"),
        ],
        "VolumeMount" => &[
            (
                START,
                r#""workload":{"witWorld":{"components":[{"localResources":{"volumeMounts":["#,
                "]}}]}}",
            ),
            (
                START,
                r#""workload":{"service":{"localResources":{"volumeMounts":["#,
                "]}}}",
            ),
        ],
        _ => &[],
    }
}

/// Expected treatment of a request by a host.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    /// Decodes it, and replies with this id.
    Decoded(String),
    /// Decodes it, and refuses the value of a field with code 400.
    InvalidValue,
    /// Cannot decode it.
    Undecodable,
}

/// One encoding in one place.
#[derive(Debug)]
struct Case {
    description: String,
    rule: Requirement,
    field: Option<String>,
    expected: Expected,
}

/// Sends all encodings of all vectors.
async fn replay(cx: &CheckContext) -> Flow {
    let vectors = vectors::requests()
        .map_err(|cause| Blocked::harness_error("cannot read the vectors", &cause))?;
    let mut requests = Vec::new();
    for vector in &vectors {
        for place in places(&vector.message) {
            let first = requests.len();
            let id = |number: usize| format!("{}-{}", cx.unique_name(), first + number);
            requests.extend(requests_of(vector, *place, id));
        }
    }
    sweep(cx, requests, |case, reply| judge(cx, case, reply)).await
}

/// Returns the requests with all encodings of a vector in a place. `id` returns the id of the
/// workload with this number.
fn requests_of(vector: &Vector, place: Place, id: impl Fn(usize) -> String) -> Vec<Request<Case>> {
    let canonical = Encoding::canonical(&vector.canonical, canonical_rule(vector));
    let accepted = std::iter::once(&canonical).chain(&vector.accepts);
    let accepted = accepted.map(|encoding| (encoding, true));
    let refused = vector.refuses.iter().map(|encoding| (encoding, false));
    accepted
        .chain(refused)
        .enumerate()
        .filter_map(|(number, (encoding, is_accepted))| {
            request(vector, place, encoding, is_accepted, id(number))
        })
        .collect()
}

/// Returns the requirement by which a host accepts the canonical encoding.
fn canonical_rule(vector: &Vector) -> &'static str {
    match vector.message.as_str() {
        "WorkloadStatusRequest" => HOST_WIRE_007.id,
        _ => HOST_JSON_014.id,
    }
}

fn request(
    vector: &Vector,
    (command, before, after): Place,
    encoding: &Encoding,
    is_accepted: bool,
    id: String,
) -> Option<Request<Case>> {
    let (payload, meaning) = if before.is_empty() {
        whole_request(vector, command, encoding, &id)
    } else {
        let within = |message: &[u8]| {
            let start = format!("{{\"workloadId\":{},{before}", json!(id));
            [start.as_bytes(), message, after.as_bytes(), b"}"].concat()
        };
        let meaning = within(vector.canonical.to_string().as_bytes());
        (within(&encoding.payload()), meaning)
    };
    let expected = if is_accepted {
        expectation(command, &serde_json::from_slice(&meaning).ok()?)
    } else {
        Expected::Undecodable
    };
    let case = Case {
        description: format!("{} ({}): {}", vector.message, vector.name, encoding.why),
        rule: *requirements::by_id(&encoding.rule)?,
        field: encoding.field.clone(),
        expected,
    };
    Some(Request {
        case,
        command,
        payload: with_unreachable_images(payload),
        starts: (command == START).then_some(id),
    })
}

/// Returns an encoding of a whole request, and the canonical encoding of its meaning. Workloads
/// are started and stopped under `id` only.
fn whole_request(
    vector: &Vector,
    command: &str,
    encoding: &Encoding,
    id: &str,
) -> (Vec<u8>, Vec<u8>) {
    let payload = encoding.payload();
    let meaning = vector.canonical.to_string().into_bytes();
    let Ok(text) = std::str::from_utf8(&payload) else {
        return (payload.to_vec(), meaning);
    };
    let names_id = ["workloadId", "workload_id", "u0077orkloadId"]
        .iter()
        .any(|name| text.contains(name));
    let text = match (vector.canonical.get("workloadId"), text.split_once('{')) {
        (Some(other), _) if names_id && command != "workload.status" => {
            text.replace(&other.to_string(), &json!(id).to_string())
        }
        (_, Some((before, members))) if !names_id && before.trim().is_empty() => {
            let is_empty = members.trim_start().starts_with('}');
            let comma = if is_empty { "" } else { "," };
            format!("{before}{{\"workloadId\":{}{comma}{members}", json!(id))
        }
        _ => return (payload.to_vec(), meaning),
    };
    let mut members = vector.canonical.as_object().cloned().unwrap_or_default();
    members.insert("workloadId".to_owned(), json!(id));
    (
        text.into_bytes(),
        Value::Object(members).to_string().into_bytes(),
    )
}

/// Replaces the registries in a request by a registry that refuses connections.
fn with_unreachable_images(payload: Vec<u8>) -> Bytes {
    match String::from_utf8(payload) {
        Ok(text) => REGISTRIES
            .iter()
            .fold(text, |text, registry| {
                text.replace(registry, UNREACHABLE_REGISTRY)
            })
            .into(),
        Err(error) => error.into_bytes().into(),
    }
}

/// Returns the expected treatment of a request that a host can decode.
fn expectation(command: &str, request: &Value) -> Expected {
    let id = request.get("workloadId").and_then(Value::as_str);
    let restarts = request.pointer("/workload/service/maxRestarts");
    let restarts = restarts.and_then(Value::as_str).unwrap_or_default();
    let exceeds_restarts = restarts
        .parse::<u64>()
        .is_ok_and(|restarts| restarts > RESTARTS_MAX);
    let lacks_workload = command == START && request.get("workload").is_none();
    match id.unwrap_or_default() {
        id if id.is_empty() || exceeds_restarts || lacks_workload => Expected::InvalidValue,
        id => Expected::Decoded(id.to_owned()),
    }
}

fn judge(cx: &CheckContext, case: &Case, reply: &Reply) {
    let description = &case.description;
    let Some(response) = cx.claim(case.rule).answered(description, reply) else {
        return;
    };
    let is_refused = response.state == State::Error && response.error_code == Some(400);
    let (held, expected) = match &case.expected {
        Expected::Decoded(id) => {
            let is_accepted =
                !matches!(response.error_code, Some(400 | 404 | 413)) && response.id == *id;
            (is_accepted, "is accepted, and the reply has its id")
        }
        Expected::InvalidValue => (
            is_refused,
            "is decoded, and refused with ERROR and code 400",
        ),
        Expected::Undecodable => (is_refused, "is refused with ERROR and code 400"),
    };
    let condition = format!("{description}: {expected}");
    cx.claim(case.rule)
        .about(&response)
        .holds(&condition, held, || {
            format!("{response}, workloadId {:?}", response.id)
        });
    if case.expected == Expected::Undecodable && is_refused {
        judge_refusal(cx, case, &response);
    }
}

/// Judges the reply to a request that cannot be decoded.
fn judge_refusal(cx: &CheckContext, case: &Case, response: &Response) {
    let description = &case.description;
    let has_message = !response.message.trim().is_empty();
    let condition = format!("the refusal of {description} has a message");
    cx.claim(HOST_WIRE_004)
        .about(response)
        .holds(&condition, has_message, || response.to_string());
    if let Some(field) = &case.field {
        let is_named = names(field).any(|name| response.message.contains(name));
        let condition = format!("the refusal of {description} names `{field}`");
        cx.claim(HOST_JSON_018)
            .about(response)
            .holds(&condition, is_named, || {
                format!("message {:?}", response.message)
            });
    }
}

/// Returns the names of a field of the schema.
fn names(json_name: &str) -> impl Iterator<Item = &str> {
    let fields = schema::MESSAGES.iter().flat_map(|message| message.fields);
    let field = fields
        .into_iter()
        .find(move |field| field.json_name == json_name);
    std::iter::once(json_name).chain(field.map(|field| field.proto_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Request<Case>> {
        let vectors = vectors::requests().unwrap();
        let with_places = vectors.iter().flat_map(|vector| {
            let places = places(&vector.message);
            assert!(!places.is_empty(), "{}", vector.message);
            places.iter().map(move |place| (vector, *place))
        });
        with_places
            .flat_map(|(vector, place)| requests_of(vector, place, |n| format!("id-{n}")))
            .collect()
    }

    #[test]
    fn every_encoding_has_a_request_and_its_rule_is_covered() {
        let vectors = vectors::requests().unwrap();
        let encodings = |vector: &Vector| {
            let count = 1 + vector.accepts.len() + vector.refuses.len();
            count * places(&vector.message).len()
        };
        let requests = all();
        assert_eq!(requests.len(), vectors.iter().map(encodings).sum::<usize>());
        for request in &requests {
            let covers = CHECKS.first().unwrap().covers;
            assert!(covers.contains(&&request.case.rule), "{:?}", request.case);
        }
    }

    #[test]
    fn accepted_encodings_start_only_own_ids_and_contact_no_registry() {
        for request in all() {
            let text = String::from_utf8_lossy(&request.payload);
            assert!(!text.contains("registry.example"), "{text}");
            if let (Expected::Decoded(id), START) = (&request.case.expected, request.command) {
                assert_eq!(Some(id), request.starts.as_ref(), "{text}");
            }
        }
    }

    #[test]
    fn values_that_a_host_refuses_are_not_expected_to_be_accepted() {
        let expected = |text: &str| expectation(START, &serde_json::from_str(text).unwrap());
        for refused in [
            r#"{"workload":{}}"#,
            r#"{"workloadId":"a"}"#,
            r#"{"workloadId":"a","workload":{"service":{"maxRestarts":"4294967296"}}}"#,
        ] {
            assert_eq!(expected(refused), Expected::InvalidValue, "{refused}");
        }
        let accepted = r#"{"workloadId":"a","workload":{"service":{"maxRestarts":"4294967295"}}}"#;
        assert_eq!(expected(accepted), Expected::Decoded("a".to_owned()));
    }
}
